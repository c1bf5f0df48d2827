"""The cases of bench/run.py: each runs something of ours beside what it is compared with, and adds rows."""
import json
import os
import pathlib
import statistics
import struct
import subprocess
import time
import urllib.request

import grpc_servers
import servers
from servers import Request, Server, load

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "modeld"
INFER = "/v2/models/identity/infer"
STARTS, MANY_MODELS = 9, 10000


def median(rounds, key):
    return statistics.median(figures[key] for figures in rounds)


def summary(rounds):
    return (f"{median(rounds, 'requests_per_s'):.0f}/s, p50 {median(rounds, 'p50_us'):.0f}, "
            f"p99 {median(rounds, 'p99_us'):.0f}, CPU {median(rounds, 'cpu_us'):.1f} us")


class Bench:
    """Servers, made when a case first asks for one, and the rows of the table."""

    def __init__(self, options, folder, on_row):
        self.options, self.folder, self.build = options, folder, ROOT / options.build
        self.on_row = on_row
        self.rows, self.running = [], {}
        self.identity = servers.identity_repository(folder / "identity")
        self.requests = {}
        for name, values in (("one", [1.5]), ("image", servers.image())):
            for kind, make in (("json", servers.json_request), ("binary", servers.binary_request)):
                key = f"{name}_{kind}"
                self.requests[key] = Request(folder, key, INFER, *make(values))

    def stop(self):
        for server in self.running.values():
            server.stop()

    def server(self, name):
        if name not in self.running:
            self.running[name] = self.start(name)
        return self.running[name]

    def start(self, name):
        if name == "modeld":
            return servers.modeld(self.build, self.identity)
        if name == "modeld, inline off":
            return servers.modeld(self.build, self.identity, "--inline=off")
        if name == "echo":
            port = servers.free_port()
            return Server([self.build / "bench/bench_echo", port], port)
        request = self.requests[name.removeprefix("nginx ")]  # answers what modeld answers to it
        url = f"http://127.0.0.1:{self.server('modeld').port}{request.path}"
        answer = urllib.request.urlopen(urllib.request.Request(url, request.body, request.headers))
        return servers.nginx(self.folder / name.replace(" ", "_"), answer.read())

    def row(self, case, figure, unit, goal=None, details="", at_least=False):
        """`goal`: the figure is to be at most (at_least: at least) that."""
        met = None if goal is None else figure >= goal if at_least else figure <= goal
        self.rows.append({"case": case, "figure": figure, "unit": unit, "goal": goal, "met": met,
                          "at_least": at_least, "details": details})
        self.on_row(self.rows[-1])

    def rounds(self, *runs):
        """Alternates the runs; a list of results for each."""
        results = [[run() for run in runs] for _ in range(self.options.rounds)]
        return list(zip(*results))

    def load(self, server, request, connections, rate=None):
        return load(self.build, self.server(server), request, connections, self.options.seconds, rate)


def ratio(bench, case, goal, key, ours, theirs, request, their_request, connections, note=""):
    a, b = bench.rounds(lambda: bench.load(ours, request, connections),
                        lambda: bench.load(theirs, their_request, connections))
    figure = statistics.median(x[key] / y[key] for x, y in zip(a, b))
    unit = {"cpu_us": "x CPU", "p50_us": "x p50"}[key]
    bench.row(case, figure, unit, goal, f"{summary(a)}; {theirs.split()[0]}: {summary(b)}{note}")


# Cases

def small(bench, kind, goal):
    requests = bench.requests[f"one_{kind}"], Request(bench.folder, "get", "/")
    reference = f"nginx one_{kind}"
    for connections in (16, 64):
        case = f"1 FP32, {kind}, {connections} connections"
        ratio(bench, case, goal, "cpu_us", "modeld", reference, *requests, connections)
        if kind == "json":
            ratio(bench, f"{case}, inline off", None, "cpu_us", "modeld, inline off", reference, *requests,
                  connections)
    ratio(bench, f"1 FP32, {kind}, 1 connection", 1.0, "p50_us", "modeld", reference, *requests, 1)


def small_json(bench):
    small(bench, "json", 1.4)


def small_binary(bench):
    small(bench, "binary", 1.3)


def open_loop(bench):
    """`late`: what the load generator itself was late with, not counted; `waited`: how much of the
    time a thread of the server could have run, but the CPU did something else."""
    request, page = bench.requests["one_json"], Request(bench.folder, "get", "/")
    capacity = median([bench.load("modeld", request, 64) for _ in range(3)], "requests_per_s")
    for share in (0.5, 0.8):
        rate = capacity * share
        a, b = bench.rounds(lambda: bench.load("modeld", request, 64, rate),
                            lambda: bench.load("nginx one_json", page, 64, rate))
        of = [f"p50 {median(x, 'p50_us'):.0f}, p99 {median(x, 'p99_us'):.0f}, late p99 "
              f"{median(x, 'late_p99_us'):.0f} us, waited "
              f"{median(x, 'waited_ms') / bench.options.seconds / 10:.1f} %" for x in (a, b)]
        bench.row(f"open loop, {share:.0%} of capacity ({rate:.0f}/s)",
                  statistics.median(x["p99_us"] / y["p99_us"] for x, y in zip(a, b)), "x p99", None,
                  f"{of[0]}; nginx: {of[1]}")


def image_json(bench):
    request = bench.requests["image_json"]
    command = [bench.build / "bench/bench_json_reference", request.file]

    def reference():
        done = subprocess.run(["taskset", "-c", "0", *command], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    a, b = bench.rounds(lambda: bench.load("modeld", request, 2), reference)
    fastest = ", ".join(f"{name} {median(b, name):.1f}" for name in b[0] if name != "ms")
    figure = statistics.median(x["cpu_us"] / 1000 / y["ms"] for x, y in zip(a, b))
    bench.row("150,528 FP32, JSON both ways", figure, "x bare loop", 1.5,
              f"{summary(a)}; bare loop {median(b, 'ms'):.2f} ms ({fastest})")
    bench.row("150,528 FP32, JSON both ways, CPU", median(a, "cpu_us") / 1000, "ms", 10)


def image_binary(bench):
    request = bench.requests["image_binary"]
    ratio(bench, "150,528 FP32, binary both ways", 1.25, "cpu_us", "modeld", "echo", request, request, 4)


def mixed(bench):
    """Small requests, open loop, beside image-JSON traffic on the same (only) loop."""
    request, images = bench.requests["one_json"], bench.requests["image_json"]

    def beside():
        server = bench.server("modeld")
        command = images.load_command(bench.build, server.port, 2, bench.options.seconds + 0.4)
        # both generators share a CPU: the small one's turn comes first
        command = ["nice", "-n", "19", *command]
        other = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(0.2)
        figures = bench.load("modeld", request, 8, 500)
        figures["images"] = servers.load_figures(*other.communicate(), images)["requests_per_s"]
        return figures

    solo, mix = bench.rounds(lambda: bench.load("modeld", request, 8, 500), beside)
    figure = statistics.median(y["p99_us"] - x["p99_us"] for x, y in zip(solo, mix)) / 1000
    bench.row("500 small/s beside image JSON, one loop: p99", figure, "ms more", 1,
              f"p99 {median(mix, 'p99_us'):.0f} (late {median(mix, 'late_p99_us'):.0f}), solo "
              f"{median(solo, 'p99_us'):.0f} us; {median(mix, 'images'):.0f} images/s")


def tls(bench):
    """Beside nginx with TLS: the same certificate, TLS 1.3, AES-128-GCM, connections that stay. What
    a handshake costs is the other figure."""
    pair = servers.certificate(bench.folder)
    ours = servers.modeld(bench.build, bench.identity, pair=pair)
    plain = urllib.request.Request(f"http://127.0.0.1:{bench.server('modeld').port}{INFER}",
                                   bench.requests["one_json"].body)
    nginx = servers.nginx(bench.folder / "nginx_tls", urllib.request.urlopen(plain).read(), pair)
    page = Request(bench.folder, "get_tls", "/")
    count = int(30000 * bench.options.seconds)
    calls = Request(bench.folder, "call_tls", grpc_servers.PATH, grpc_servers.framed(grpc_servers.infer_request(1)),
                    {"content-type": "application/grpc", "te": "trailers"})
    requests = {"binary": bench.requests["one_binary"], "json": bench.requests["one_json"], "gRPC": calls}
    try:
        for connections in (16, 64):
            for kind, request in requests.items():
                a, b = bench.rounds(
                    lambda: servers.load_tls(ours, request, connections, count, kind == "gRPC"),
                    lambda: servers.load_tls(nginx, page, connections, count, kind == "gRPC"))
                bench.row(f"TLS: 1 FP32, {kind}, {connections} connections",
                          statistics.median(x["cpu_us"] / y["cpu_us"] for x, y in zip(a, b)), "x CPU",
                          1.2, "; nginx: ".join(f"{median(x, 'requests_per_s'):.0f}/s, CPU "
                                                f"{median(x, 'cpu_us'):.1f} us" for x in (a, b)))
        live = Request(bench.folder, "live", "/v2/health/live")
        a, b = bench.rounds(lambda: servers.load_tls(ours, live, 500, 500),
                            lambda: servers.load_tls(nginx, page, 500, 500))
        bench.row("TLS: a handshake and one answer",
                  statistics.median(x["cpu_us"] / y["cpu_us"] for x, y in zip(a, b)), "x CPU", 1.2,
                  f"CPU {median(a, 'cpu_us'):.0f} us; nginx: {median(b, 'cpu_us'):.0f} us")
    finally:
        ours.stop()
        nginx.stop()


def real_model(bench, case, repository, model, tensors):
    """tensors: (name, datatype, shape, bytes). The same on both sides: CPU 0, one engine thread."""
    inputs = []
    for name, datatype, shape, data in tensors:
        (bench.folder / name).write_bytes(data)
        inputs += [name, {"FP32": "f32", "INT64": "i64"}[datatype], ",".join(map(str, shape)),
                   bench.folder / name]
    seconds = max(2.0, bench.options.seconds)
    engine = ["taskset", "-c", "0", bench.build / "bench/bench_engine", "run", str(seconds),
              repository / model / "1/model.onnx", *inputs]
    request = Request(bench.folder, model, f"/v2/models/{model}/infer", *servers.tensors_request(tensors))
    server = servers.modeld(bench.build, repository, "--engine-threads", "1", "--executor-threads", "1",
                            "--model-control-mode", "explicit", "--load-model", model)
    try:
        a, b = bench.rounds(
            lambda: load(bench.build, server, request, 16, seconds),
            lambda: json.loads(subprocess.run(engine, capture_output=True, text=True, check=True).stdout))
    finally:
        server.stop()
    cpu = statistics.median(y["cpu_us"] / x["cpu_us"] for x, y in zip(a, b))
    rate = statistics.median(x["requests_per_s"] / y["runs_per_s"] for x, y in zip(a, b))
    bench.row(case, rate, "x engine", 0.97,
              f"{summary(a)}; engine: {median(b, 'runs_per_s'):.1f}/s, CPU {median(b, 'cpu_us'):.1f} us; "
              f"by CPU time {cpu:.3f}", at_least=True)


def classifier(bench):
    picture = (CACHE / "samples/chelsea.f32").read_bytes()
    real_model(bench, "image classifier, binary, 16 connections", CACHE / "repository", "efficientnet_lite0",
               [("image", "FP32", [1, 3, 224, 224], picture)])


def sentence_encoder(bench):
    ids = [101, *range(2000, 2030), 102]  # 32 tokens
    data = [struct.pack(f"<{len(ids)}q", *values) for values in (ids, [1] * len(ids))]
    tensors = [(name, "INT64", [1, len(ids)], values)
               for name, values in zip(("input_ids", "attention_mask"), data)]
    real_model(bench, "sentence encoder, binary, 16 connections", CACHE / "repository-minilm",
               "all_minilm_l6_v2", tensors)


def start_ms(build, repository, *flags):
    begin = time.perf_counter()
    server = servers.modeld(build, repository, *flags, cpus=None, loops=None)
    return (time.perf_counter() - begin) * 1000, server


def start_empty(bench):
    empty, times, sizes = bench.folder / "empty", [], []
    empty.mkdir()
    for _ in range(STARTS):
        spent, server = start_ms(bench.build, empty)
        times.append(spent)
        sizes.append(server.rss_mib())
        server.stop()
    bench.row("start to ready, no models", statistics.median(times), "ms", 50)
    bench.row("resident memory, no models", statistics.median(sizes), "MiB", 15)


def start_engine_ms(build, models):
    begin = time.perf_counter()
    process = subprocess.Popen([build / "bench/bench_engine", "load", *models], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
    process.stdout.readline()
    spent = (time.perf_counter() - begin) * 1000
    process.communicate()
    return spent


def start_models(bench):
    """All load their models at the same time, with as many engine threads as there are CPUs."""
    repository, engine, loading, ours, sizes = CACHE / "repository", [], [], [], []
    models = sorted(repository.glob("*/1/model.onnx"))
    for _ in range(STARTS):
        engine.append(start_engine_ms(bench.build, models))
        for times, flags in ((loading, ["--auto-batching=off"]), (ours, [])):
            spent, server = start_ms(bench.build, repository, *flags)
            times.append(spent)
            time.sleep(0.1)  # it trims its heap when it is ready
            sizes.append(server.rss_mib())
            server.stop()
    alone = f"engine alone {statistics.median(engine):.0f} ms; resident {statistics.median(sizes):.0f} MiB"
    for case, times, goal in (("nothing tried", loading, 20), ("tried and learned from", ours, None)):
        bench.row(f"start to ready, the quickstart's models, {case}",
                  statistics.median(a - b for a, b in zip(times, engine)), "ms more", goal,
                  f"{statistics.median(times):.0f} ms; {alone}")


def many_models(bench):
    names = [f"model_{i:05}" for i in range(MANY_MODELS)]
    spent, server = start_ms(bench.build, servers.identity_repository(bench.folder / "many", names))
    bench.row(f"start to ready, {MANY_MODELS:,} models", spent / 1000, "s", None,
              f"{server.rss_mib():.0f} MiB")
    url = f"http://127.0.0.1:{server.metrics_port}/metrics"

    def scrapes():
        times = []
        for _ in range(bench.options.rounds):
            begin = time.perf_counter()
            size = len(urllib.request.urlopen(url).read())
            times.append((time.perf_counter() - begin) * 1000)
        return statistics.median(times), "ms", 200, f"{size / 1e6:.0f} MB"

    bench.row(f"metrics page, {MANY_MODELS:,} models", *scrapes())
    for name in names:
        request = bench.requests["one_json"]
        url_infer = f"http://127.0.0.1:{server.port}/v2/models/{name}/infer"
        urllib.request.urlopen(urllib.request.Request(url_infer, request.body)).read()
    bench.row(f"metrics page, {MANY_MODELS:,} models, all used", *scrapes())
    server.stop()


CASES = (small_json, small_binary, open_loop, image_json, image_binary, mixed, tls, classifier,
         sentence_encoder, start_empty, start_models, many_models)
