#!/usr/bin/env python3
"""The scorecard: modeld beside nginx, bare C programs and the engine itself, in the same run.

usage: bench/run.py [--build build/release] [--rounds 5] [--seconds 1] [--case WORD]...
                    [--json FILE] [--markdown FILE] [--list]

Installs what it needs (tools/install_packages.sh bench), builds release, and prints one line for
each case, then those whose goal was missed. Servers have CPU 0, the load generator CPU 1. Rounds of
modeld and of what it is compared with alternate; figures are medians, ratios are taken within a
round. CPU for each request is the server process's own, all its threads: the steady figure on a
machine that does other things too. --case runs the cases whose name contains the word; --markdown
renews the section of results in a page such as docs/benchmarks.md.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

import servers
from servers import Request, Server, load

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "modeld"
INFER = "/v2/models/identity/infer"
STARTS, MANY_MODELS = 9, 10000
RESULTS = "## Results\n\n"


def median(rounds, key):
    return statistics.median(figures[key] for figures in rounds)


def summary(rounds):
    return (f"{median(rounds, 'requests_per_s'):.0f}/s, p50 {median(rounds, 'p50_us'):.0f}, "
            f"p99 {median(rounds, 'p99_us'):.0f}, CPU {median(rounds, 'cpu_us'):.1f} us")


class Bench:
    """Servers, made when a case first asks for one, and the rows of the table."""

    def __init__(self, options, folder):
        self.options, self.folder, self.build = options, folder, ROOT / options.build
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
        print(line(self.rows[-1]), flush=True)

    def rounds(self, *runs):
        """Alternates the runs; a list of results for each."""
        results = [[run() for run in runs] for _ in range(self.options.rounds)]
        return list(zip(*results))

    def load(self, server, request, connections, rate=None):
        return load(self.build, self.server(server), request, connections, self.options.seconds, rate)


def line(row):
    unit, sign = row["unit"], ">=" if row["at_least"] else "<="
    goal = "" if row["goal"] is None else f"{sign} {row['goal']:g}"
    verdict = {True: "ok", False: "MISSED", None: ""}[row["met"]]
    return f"{row['case']:50} {row['figure']:9.3f} {unit:12} {goal:8} {verdict:6}  {row['details']}"


def ratio(bench, case, goal, key, ours, theirs, request, their_request, connections, note=""):
    a, b = bench.rounds(lambda: bench.load(ours, request, connections),
                        lambda: bench.load(theirs, their_request, connections))
    figure = statistics.median(x[key] / y[key] for x, y in zip(a, b))
    unit = {"cpu_us": "x CPU", "p50_us": "x p50"}[key]
    bench.row(case, figure, unit, goal, f"{summary(a)}; {theirs.split()[0]}: {summary(b)}{note}")


# Cases

def small(bench, kind, goal):
    request, reference, page = bench.requests[f"one_{kind}"], f"nginx one_{kind}", Request(bench.folder, "get", "/")
    for connections in (16, 64):
        ratio(bench, f"1 FP32, {kind}, {connections} connections", goal, "cpu_us", "modeld", reference, request, page,
              connections)
        if kind == "json":
            ratio(bench, f"1 FP32, {kind}, {connections} connections, inline off", None, "cpu_us",
                  "modeld, inline off", reference, request, page, connections)
    ratio(bench, f"1 FP32, {kind}, 1 connection", 1.0, "p50_us", "modeld", reference, request, page, 1)


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
              f"{median(x, 'late_p99_us'):.0f} us, waited {median(x, 'waited_ms') / bench.options.seconds / 10:.1f} %"
              for x in (a, b)]
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
        command = ["nice", "-n", "19", *command]  # both generators share a CPU: the small one's turn comes first
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


def real_model(bench, case, repository, model, tensors):
    """tensors: (name, datatype, shape, bytes). The same on both sides: CPU 0, one engine thread."""
    inputs = []
    for name, datatype, shape, data in tensors:
        (bench.folder / name).write_bytes(data)
        inputs += [name, {"FP32": "f32", "INT64": "i64"}[datatype], ",".join(map(str, shape)), bench.folder / name]
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
    bench.row(case, statistics.median(x["requests_per_s"] / y["runs_per_s"] for x, y in zip(a, b)), "x engine",
              0.97, f"{summary(a)}; engine: {median(b, 'runs_per_s'):.1f}/s, CPU {median(b, 'cpu_us'):.1f} us; "
              f"by CPU time {cpu:.3f}", at_least=True)


def classifier(bench):
    picture = (CACHE / "samples/chelsea.f32").read_bytes()
    real_model(bench, "image classifier, binary, 16 connections", CACHE / "repository", "efficientnet_lite0",
               [("image", "FP32", [1, 3, 224, 224], picture)])


def sentence_encoder(bench):
    ids = [101, *range(2000, 2030), 102]  # 32 tokens
    data = [struct.pack(f"<{len(ids)}q", *values) for values in (ids, [1] * len(ids))]
    real_model(bench, "sentence encoder, binary, 16 connections", CACHE / "repository-minilm", "all_minilm_l6_v2",
               [(name, "INT64", [1, len(ids)], bytes_) for name, bytes_ in zip(("input_ids", "attention_mask"), data)])


def start_ms(build, repository):
    begin = time.perf_counter()
    server = servers.modeld(build, repository, cpus=None, loops=None)
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
    """Both load all models at the same time, with as many engine threads as there are CPUs."""
    repository, ours, engine, sizes = CACHE / "repository", [], [], []
    models = sorted(repository.glob("*/1/model.onnx"))
    for _ in range(STARTS):
        engine.append(start_engine_ms(bench.build, models))
        spent, server = start_ms(bench.build, repository)
        ours.append(spent)
        time.sleep(0.1)  # it trims its heap when it is ready
        sizes.append(server.rss_mib())
        server.stop()
    figure = statistics.median(a - b for a, b in zip(ours, engine))
    bench.row("start to ready, the quickstart's models", figure, "ms more", 20,
              f"{statistics.median(ours):.0f} ms; engine alone {statistics.median(engine):.0f} ms; "
              f"resident {statistics.median(sizes):.0f} MiB")


def many_models(bench):
    names = [f"model_{i:05}" for i in range(MANY_MODELS)]
    spent, server = start_ms(bench.build, servers.identity_repository(bench.folder / "many", names))
    bench.row(f"start to ready, {MANY_MODELS:,} models", spent / 1000, "s", None, f"{server.rss_mib():.0f} MiB")
    url = f"http://127.0.0.1:{server.metrics_port}/metrics"

    def scrapes():
        times = []
        for _ in range(bench.options.rounds):
            begin = time.perf_counter()
            size = len(urllib.request.urlopen(url).read())
            times.append((time.perf_counter() - begin) * 1000)
        return statistics.median(times), f"{size / 1e6:.0f} MB"

    bench.row(f"metrics page, {MANY_MODELS:,} models", scrapes()[0], "ms", 200, scrapes()[1])
    for name in names:
        request = bench.requests["one_json"]
        url_infer = f"http://127.0.0.1:{server.port}/v2/models/{name}/infer"
        urllib.request.urlopen(urllib.request.Request(url_infer, request.body)).read()
    bench.row(f"metrics page, {MANY_MODELS:,} models, all used", scrapes()[0], "ms", 200, scrapes()[1])
    server.stop()


CASES = (small_json, small_binary, open_loop, image_json, image_binary, mixed, classifier, sentence_encoder,
         start_empty, start_models, many_models)


# Results

def prepare(build):
    for command in (["tools/install_packages.sh", "build", "bench"], ["tools/fetch_onnxruntime.sh"],
                    ["tools/fetch_models.sh", "--with-minilm"], ["tools/fetch_yyjson.sh"],
                    ["cmake", "--preset", build],
                    ["cmake", "--build", "--preset", build, "--target", "all", "bench_json_reference"]):
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}")


def machine():
    cpu = next(l for l in open("/proc/cpuinfo") if l.startswith("model name")).split(":")[1].strip()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return (f"{os.cpu_count()} x {cpu}, Linux {platform.release()}; {datetime.date.today()}; commit "
            f"{commit.stdout.strip() or 'unknown'}; load average before {os.getloadavg()[0]:.1f}")


def markdown(rows, about, before):
    """The page with its section of results renewed."""
    text = before.split(RESULTS)[0] + RESULTS + f"`bench/run.py {' '.join(sys.argv[1:])}` on {about}.\n\n"
    text += "| case | measured | goal | | figures |\n|---|---|---|---|---|\n"
    for row in rows:
        goal = "" if row["goal"] is None else f"{'≥' if row['at_least'] else '≤'} {row['goal']:g}"
        verdict = {True: "ok", False: "**missed**", None: ""}[row["met"]]
        text += f"| {row['case']} | {row['figure']:.3g} {row['unit']} | {goal} | {verdict} | {row['details']} |\n"
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--case", action="append", default=[])
    parser.add_argument("--json")
    parser.add_argument("--markdown")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    cases = [case for case in CASES if not options.case or any(word in case.__name__ for word in options.case)]
    if options.list:
        return print("\n".join(case.__name__ for case in cases))
    prepare(pathlib.Path(options.build).name)
    about, folder = machine(), pathlib.Path(tempfile.mkdtemp(prefix="modeld-bench-"))
    bench = Bench(options, folder)
    try:
        for case in cases:
            case(bench)
    finally:
        bench.stop()
        shutil.rmtree(folder)
    missed = [row["case"] for row in bench.rows if row["met"] is False]
    print(f"{len(bench.rows)} rows, {len(missed)} missed{': ' if missed else ''}{'; '.join(missed)}")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"about": about, "rows": bench.rows}, indent=1))
    if options.markdown:
        page = pathlib.Path(options.markdown)
        page.write_text(markdown(bench.rows, about, page.read_text() if page.is_file() else ""))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
