#!/usr/bin/env python3
"""The scorecard: modeld beside nginx and a bare C echo, in the same run.

Servers are pinned to CPU 0, the load generator to CPU 1. Each case runs in interleaved rounds; the table shows the
medians. CPU per request is the server process's own (all its threads, from /proc/PID/task/*/schedstat): the steady figure
on a noisy machine. Ratios are taken within a round, then their median.

usage: bench/run.py [--build build/release] [--rounds 5] [--seconds 2] [--case NAME]... [--json FILE]
"""
import argparse, json, os, pathlib, random, shutil, signal, socket, statistics, struct, subprocess, sys, tempfile, time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_ns(pid):
    """CPU time of all threads of a process; of its children too (nginx's worker)."""
    pids = [pid] + [int(p) for p in subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()]
    total = 0
    for p in pids:
        for task in pathlib.Path(f"/proc/{p}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total


class Server:
    def __init__(self, command, port, ready="/", env=None):
        self.port = port
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(["taskset", "-c", "0", *command], stdout=self.log, stderr=self.log, env=env)
        deadline = time.time() + 20
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), 0.2) as s:
                    s.sendall(f"GET {ready} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                    s.settimeout(0.5)
                    if ready == "/" or b" 200 " in s.recv(64):
                        return
            except OSError:
                pass
            if time.time() > deadline or self.process.poll() is not None:
                self.log.seek(0)
                sys.exit(f"{command[0]} does not answer:\n{self.log.read().decode()[-3000:]}")
            time.sleep(0.02)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def nginx(folder, body):
    """nginx with one worker that answers every path with `body`, read from a file with sendfile off and caches on."""
    port = free_port()
    (folder / "html").mkdir(exist_ok=True)
    (folder / "html" / "body").write_bytes(body)
    conf = folder / "nginx.conf"
    conf.write_text(f"""
{"user root;" if os.geteuid() == 0 else ""}
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600; tcp_nodelay on; default_type application/json;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4;
  scgi_temp_path {folder}/t5; open_file_cache max=16;
  server {{ listen 127.0.0.1:{port} backlog=4096; root {folder}/html; location / {{ try_files /body =404; }} }} }}
""")
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    return Server([binary, "-c", str(conf), "-p", str(folder)], port)


def load(build, server, path, body=None, headers=(), connections=1, seconds=2.0, rate=None):
    command = ["taskset", "-c", "1", str(build / "bench/bench_load"), "--connections", str(connections),
               "--seconds", str(seconds), "--path", path]
    if body:
        command += ["--body", str(body)]
    if rate:
        command += ["--rate", str(rate)]
    for header in headers:
        command += ["--header", header]
    before = cpu_ns(server.process.pid)
    done = subprocess.run([*command, f"127.0.0.1:{server.port}"], capture_output=True, text=True)
    used = cpu_ns(server.process.pid) - before
    if not done.stdout:
        sys.exit(f"load failed: {done.stderr}")
    result = json.loads(done.stdout)
    if result["errors"]:
        sys.exit(f"{result['errors']} errors from {path}")
    result["cpu_us"] = used / 1000 / max(1, result["requests"])
    return result


def json_request(values):
    return json.dumps({"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, len(values)],
                                   "data": values}]}, separators=(",", ":")).encode()


def binary_request(values):
    head = json.dumps({"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, len(values)],
                                   "parameters": {"binary_data_size": 4 * len(values)}}],
                       "parameters": {"binary_data_output": True}}, separators=(",", ":")).encode()
    return head, head + struct.pack(f"<{len(values)}f", *values)


class Bench:
    def __init__(self, args):
        self.args, self.build = args, ROOT / args.build
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="modeld-bench-"))
        self.rows = []
        repository = self.folder / "repository"
        (repository / "identity" / "1").mkdir(parents=True)
        (repository / "identity" / "config.pbtxt").write_text(
            'backend: "identity"\nmax_batch_size: 64\n'
            'input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]\n'
            'output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]\n')
        random.seed(7)
        image = [struct.unpack("<f", struct.pack("<f", random.gauss(0, 1)))[0] for _ in range(150528)]
        one = [1.5]
        self.bodies = {}
        for name, values in (("one", one), ("image", image)):
            (self.folder / f"{name}.json").write_bytes(json_request(values))
            head, whole = binary_request(values)
            (self.folder / f"{name}.bin").write_bytes(whole)
            self.bodies[name] = len(head)

    def modeld(self, *extra):
        port, metrics = free_port(), free_port()
        return Server([str(self.build / "modeld"), "--model-repository", str(self.folder / "repository"), "--http-port",
                       str(port), "--metrics-port", str(metrics), "--http-thread-count", "1", *extra], port,
                      "/v2/health/ready")

    def answer_of(self, server, body, headers):
        request = urllib.request.Request(f"http://127.0.0.1:{server.port}/v2/models/identity/infer", body.read_bytes(),
                                         dict(h.split(": ") for h in headers))
        return urllib.request.urlopen(request).read()

    def compare(self, name, ours, theirs, path_theirs, body, headers, connections, goal, metric="cpu_us", post_theirs=False):
        """Interleaved rounds of both; the row holds the medians and the median ratio of `metric`."""
        if self.args.case and not any(c in name for c in self.args.case):
            return
        rounds = []
        for _ in range(self.args.rounds):
            a = load(self.build, ours, "/v2/models/identity/infer", body, headers, connections, self.args.seconds)
            b = load(self.build, theirs, path_theirs, body if post_theirs else None, (), connections, self.args.seconds)
            rounds.append((a, b))
        med = lambda side, key: statistics.median(r[side][key] for r in rounds)
        ratio = statistics.median(r[0][metric] / r[1][metric] for r in rounds)
        row = {"case": name, "metric": metric, "ratio": round(ratio, 3), "goal": goal}
        for side, label in ((0, "modeld"), (1, "reference")):
            row[label] = {k: round(med(side, k), 2) for k in ("requests_per_s", "p50_us", "p99_us", "cpu_us")}
        self.rows.append(row)
        m, r = row["modeld"], row["reference"]
        print(f"{name:44} {metric:7} {ratio:6.2f} (goal {goal:>5})  modeld {m['requests_per_s']:>8.0f}/s p50 {m['p50_us']:>7.1f} "
              f"p99 {m['p99_us']:>8.1f} cpu {m['cpu_us']:>8.2f} us | reference {r['requests_per_s']:>8.0f}/s p50 "
              f"{r['p50_us']:>7.1f} p99 {r['p99_us']:>8.1f} cpu {r['cpu_us']:>8.2f} us", flush=True)

    def open_loop(self, server, capacity, body, headers, label):
        for share in (0.5, 0.8):
            results = [load(self.build, server, "/v2/models/identity/infer", body, headers, 64, self.args.seconds,
                            rate=capacity * share) for _ in range(self.args.rounds)]
            row = {"case": f"{label}, open loop at {share:.0%}", "rate": round(capacity * share),
                   "p50_us": statistics.median(r["p50_us"] for r in results),
                   "p99_us": statistics.median(r["p99_us"] for r in results)}
            self.rows.append(row)
            print(f"{row['case']:44} {row['rate']:>8}/s p50 {row['p50_us']:>7.1f} p99 {row['p99_us']:>8.1f} us", flush=True)

    def run(self):
        one_json, one_bin = self.folder / "one.json", self.folder / "one.bin"
        head = (f"Inference-Header-Content-Length: {self.bodies['one']}",)
        image_head = (f"Inference-Header-Content-Length: {self.bodies['image']}",)
        ours = self.modeld()
        off = self.modeld("--inline=off")
        (self.folder / "n1").mkdir()
        (self.folder / "n2").mkdir()
        small = nginx(self.folder / "n1", self.answer_of(ours, one_json, ()))
        small_bin = nginx(self.folder / "n2", self.answer_of(ours, one_bin, head))
        port = free_port()
        echo = Server([str(self.build / "bench/bench_echo"), str(port)], port)
        for n in (16, 64):
            self.compare(f"1 FP32, JSON, {n} connections", ours, small, "/", one_json, (), n, 1.4)
            self.compare(f"1 FP32, JSON, {n} connections, inline off", off, small, "/", one_json, (), n, "-")
            self.compare(f"1 FP32, binary, {n} connections", ours, small_bin, "/", one_bin, head, n, 1.3)
        self.compare("1 FP32, JSON, 1 connection", ours, small, "/", one_json, (), 1, 1.0, "p50_us")
        self.compare("1 FP32, binary, 1 connection", ours, small_bin, "/", one_bin, head, 1, 1.0, "p50_us")
        image_json, image_bin = self.folder / "image.json", self.folder / "image.bin"
        self.compare("150,528 FP32, binary, 4 connections", ours, echo, "/", image_bin, image_head, 4, 1.25,
                     post_theirs=True)
        self.compare("150,528 FP32, JSON, 2 connections", ours, echo, "/", image_json, (), 2, "-", post_theirs=True)
        capacity = load(self.build, ours, "/v2/models/identity/infer", one_json, (), 64, self.args.seconds)
        self.open_loop(ours, capacity["requests_per_s"], one_json, (), "1 FP32, JSON, 64 connections")
        self.start_time()
        for server in (ours, off, small, small_bin, echo):
            server.stop()
        if self.args.json:
            pathlib.Path(self.args.json).write_text(json.dumps(self.rows, indent=1))
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_time(self):
        """Process start to the first 200 of /v2/health/ready, without models."""
        empty = self.folder / "empty"
        empty.mkdir()
        times = []
        for _ in range(9):
            port, metrics = free_port(), free_port()
            begin = time.perf_counter()
            process = subprocess.Popen([str(self.build / "modeld"), "--model-repository", str(empty), "--http-port", str(port),
                                        "--metrics-port", str(metrics)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while True:
                try:
                    with socket.create_connection(("127.0.0.1", port), 0.2) as s:
                        s.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
                        if b" 200 " in s.recv(64):
                            break
                except OSError:
                    time.sleep(0.0005)
            times.append((time.perf_counter() - begin) * 1000)
            rss = int(next(l for l in open(f"/proc/{process.pid}/status") if l.startswith("VmRSS")).split()[1]) / 1024
            process.send_signal(signal.SIGTERM)
            process.wait(10)
        row = {"case": "start to ready without models", "ms": round(statistics.median(times), 1), "rss_mib": round(rss, 1)}
        self.rows.append(row)
        print(f"{row['case']:44} {row['ms']} ms (goal 50), RSS {row['rss_mib']} MiB (goal 15)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--case", action="append", default=[])
    parser.add_argument("--json")
    Bench(parser.parse_args()).run()
