"""What benchmarks run and send: servers, loads on them, requests."""
import json
import os
import pathlib
import random
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time


def free_port():
    """Below those that the system gives to clients, so that no connection takes it in between."""
    while True:
        port = random.SystemRandom().randrange(16000, 32000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


CONNECT = "a connection"  # what makes a server ready that answers no HTTP/1.1


def is_ready(port, path, tls=False):
    try:
        with socket.create_connection(("127.0.0.1", port), 0.5) as s:
            if path is CONNECT:
                return True
            s.settimeout(10)
            if tls:
                s = ssl._create_unverified_context().wrap_socket(s)
            s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            return b" 200 " in s.recv(64)
    except OSError:
        return False


def wait_until_ready(port, path, seconds=20.0, process=None, tls=False):
    """False when nothing answers for so long, or the process has ended. Asks more and more rarely: a server that takes
    long loads and measures its models, which is not to be disturbed."""
    begin = time.monotonic()
    while not is_ready(port, path, tls):
        spent = time.monotonic() - begin
        if spent > seconds or (process and process.poll() is not None):
            return False
        time.sleep(max(0.001, spent / 20))
    return True


class Server:
    """A server process, on CPU 0 alone unless told otherwise."""

    def __init__(self, command, port, ready="/", cpus="0", tls=False, with_children=True):
        self.port, self.with_children = port, with_children
        self.folder = tempfile.TemporaryDirectory(prefix="modeld-bench-")  # for who puts load on it
        self.log = tempfile.TemporaryFile()
        pinned = ["taskset", "-c", cpus] if cpus else []
        self.process = subprocess.Popen([*pinned, *map(str, command)], stdout=self.log, stderr=self.log)
        if ready and not wait_until_ready(port, ready, process=self.process, tls=tls):
            self.stop()
            self.log.seek(0)
            sys.exit(f"{command[0]} does not answer:\n{self.log.read().decode(errors='replace')[-3000:]}")

    def tasks(self):
        """Of its children too: nginx works in one."""
        children = []
        if self.with_children:
            found = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True)
            children = found.stdout.split()
        for pid in [self.process.pid, *children]:
            yield from pathlib.Path(f"/proc/{pid}/task").iterdir()

    def times_ns(self):
        """CPU time, and time that its threads could have run but the CPU did something else."""
        spent = [(task / "schedstat").read_text().split() for task in self.tasks()]
        return sum(int(cpu) for cpu, *_ in spent), sum(int(waited) for _, waited, _ in spent)

    def rss_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def modeld(build, repository, *flags, loops=1, cpus="0", ready="/v2/health/ready", pair=None):
    """pair: certificate and key, for TLS."""
    port, grpc, metrics = free_port(), free_port(), free_port()
    threads = ["--http-thread-count", str(loops)] if loops else []
    if pair:
        flags += ("--http-use-ssl=true", "--http-server-cert", pair[0], "--http-server-key", pair[1])
    server = Server([build / "modeld", "--model-repository", repository, "--http-port", port,
                     "--grpc-port", grpc, "--metrics-port", metrics, *threads, *flags], port, ready, cpus, tls=bool(pair))
    server.grpc_port = grpc
    server.metrics_port = metrics
    return server


NGINX = """
{user}
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600; tcp_nodelay on;
  default_type application/json; open_file_cache max=16;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{
    listen 127.0.0.1:{port} {protocol} backlog=4096; {certificate} root {folder}/html; location / {{ try_files /body =404; }}
  }}
}}
"""


NGINX_TLS = "ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3;"


def nginx(folder, body, pair=None, http2=False):
    """nginx with one worker that answers every path with `body`; pair: certificate and key, for TLS,
    where the client chooses; http2: that alone, without TLS."""
    port = free_port()
    (folder / "html").mkdir(parents=True)
    (folder / "html/body").write_bytes(body)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(NGINX.format(
        folder=folder, port=port, user=user, protocol="ssl http2" if pair else "http2" if http2 else "",
        certificate=NGINX_TLS.format(*pair) if pair else ""))
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    return Server([binary, "-c", folder / "nginx.conf", "-p", folder], port, CONNECT if http2 else "/",
                  tls=bool(pair))


class Request:
    """One request, as a file for the load generator."""

    def __init__(self, folder, name, path, body=None, headers=None):
        self.path, self.body, self.headers = path, body, headers or {}
        self.file = folder / f"{name}.body"
        if body is not None:
            self.file.write_bytes(body)

    def load_command(self, build, port, connections, seconds, rate=None, cpu="1"):
        command = ["taskset", "-c", cpu, build / "bench/bench_load", "--connections", connections,
                   "--seconds", seconds, "--path", self.path]
        command += ["--body", self.file] if self.body is not None else []
        command += ["--rate", rate] if rate else []
        for key, value in self.headers.items():
            command += ["--header", f"{key}: {value}"]
        return [str(word) for word in [*command, f"127.0.0.1:{port}"]]


def load(build, server, request, connections=1, seconds=2.0, rate=None):
    """Runs the load generator. Returns its figures, and of the server cpu_us for each request and
    waited_ms, how long it wanted the CPU in vain."""
    cpu_before, waited_before = server.times_ns()
    done = subprocess.run(request.load_command(build, server.port, connections, seconds, rate),
                          capture_output=True, text=True)
    cpu, waited = server.times_ns()
    return {**load_figures(done.stdout, done.stderr, request), "waited_ms": (waited - waited_before) / 1e6,
            "cpu_us": (cpu - cpu_before) / 1000 / max(1, json.loads(done.stdout)["requests"])}


def load_figures(text, errors, request):
    if not text:
        sys.exit(f"the load generator failed: {errors}")
    figures = json.loads(text)
    if figures["errors"] or not figures["requests"]:
        sys.exit(f"{figures['errors']} errors and {figures['requests']} answers from {request.path}")
    return figures


def certificate(folder):
    """A certificate on a P-256 key, and the key."""
    pair = folder / "cert.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "30", "-subj", "/CN=localhost", "-out", pair[0], "-keyout", pair[1]],
                   check=True, capture_output=True)
    return pair


def load_tls(server, request, connections, count, http2=False):
    """`count` requests, one at a time on each connection, with TLS 1.3 and AES-128-GCM; figures as of load()."""
    command = ["taskset", "-c", "1", "h2load", "-n", count, "-c", connections,
               "--tls13-ciphers=TLS_AES_128_GCM_SHA256", f"https://127.0.0.1:{server.port}{request.path}"]
    command += [] if http2 else ["--h1"]
    command += ["-d", request.file] if request.body is not None else []
    command += [word for key, value in request.headers.items() for word in ("-H", f"{key}: {value}")]
    cpu_before, _ = server.times_ns()
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    cpu, _ = server.times_ns()
    rate = re.search(r"finished in .*?, ([0-9.]+) req/s", done.stdout)
    data = re.search(r"\((\d+)\) data", done.stdout)
    if (not rate or f" {count} 2xx" not in done.stdout or "TLS_AES_128_GCM_SHA256" not in done.stdout
            or (http2 and int(data[1]) < 40 * count)):  # a call that fails has a 2xx too, and no message
        sys.exit(f"h2load failed: {done.stdout}{done.stderr}")
    return {"requests_per_s": float(rate[1]), "cpu_us": (cpu - cpu_before) / 1000 / count}


def compact(document):
    return json.dumps(document, separators=(",", ":")).encode()


def json_request(values):
    return compact({"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, len(values)],
                                "data": values}]}), {}


def binary_request(values):
    return tensors_request([("INPUT0", "FP32", [1, len(values)], struct.pack(f"<{len(values)}f", *values))])


def tensors_request(tensors):
    head = compact({"inputs": [{"name": name, "datatype": datatype, "shape": shape,
                                "parameters": {"binary_data_size": len(data)}}
                               for name, datatype, shape, data in tensors],
                    "parameters": {"binary_data_output": True}})
    return (head + b"".join(data for *_, data in tensors),
            {"Inference-Header-Content-Length": str(len(head))})


def image():
    """The values of an image (224 x 224, three channels, normalised) as clients print them that have
    doubles only: 16 or 17 digits each."""
    random.seed(7)
    values = [random.gauss(0, 1) for _ in range(3 * 224 * 224)]
    return list(struct.unpack(f"{len(values)}f", struct.pack(f"{len(values)}f", *values)))


IDENTITY = """backend: "identity"
max_batch_size: 64
input { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] }
"""


def identity_repository(folder, names=("identity",)):
    for name in names:
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(IDENTITY)
    return folder
