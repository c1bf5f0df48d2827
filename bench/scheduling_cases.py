"""Cases of bench/run.py: what batching, deadlines and fairness come to, beside the engine alone."""
import hashlib
import json
import pathlib
import random
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

import servers
from cases import CACHE, ROOT, median, summary
from servers import Request, load, load_figures

WIDTHS = {"mlp": "1024-4096-4096-1024", "medium": "1024-1024-1024"}
ROWS, CLIENTS = 8, 16
ONE_OF_EACH = ("--engine-threads", "1", "--executor-threads", "1")
FIELD_GAIN = 4.95  # the field's server with its best delay, 16 clients: rows a second, of the engine's at batch 1
WEIGHTS = (1, 2, 4)


def perceptrons():
    """The folder of generated models, made when they are first needed; it appears whole."""
    script = ROOT / "bench/make_mlp.py"
    words = [f"{name}={widths}" for name, widths in WIDTHS.items()]
    folder = CACHE / f"repository-mlp-{hashlib.sha256(script.read_bytes() + repr(words).encode()).hexdigest()[:12]}"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=CACHE) as made:
            done = subprocess.run([CACHE / "venv-models/bin/python", script, f"{made}/models", *words],
                                  capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{script} failed:\n{done.stderr[-2000:]}")
            (pathlib.Path(made) / "models").rename(folder)
    return folder


def tensor(width, rows=1):
    dice = random.Random(3)
    values = [dice.gauss(0, 1) for _ in range(rows * width)]
    return [("x", "FP32", [rows, width], struct.pack(f"<{len(values)}f", *values))]


def engine(bench, model, tensors, seconds):
    """Runs a second of the engine alone, on the server's CPU."""
    words = []
    for name, _, shape, data in tensors:
        file = bench.folder / f"engine_{name}_{shape[0]}"
        file.write_bytes(data)
        words += [name, "f32", ",".join(map(str, shape)), str(file)]
    command = ["taskset", "-c", "0", bench.build / "bench/bench_engine", "run", str(seconds), model, *words]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def serve(bench, repository, *names, flags=()):
    words = [word for name in names for word in ("--load-model", name)]
    return servers.modeld(bench.build, repository, *ONE_OF_EACH, "--model-control-mode", "explicit", *words, *flags)


def infer(bench, model, tensors, name=None):
    return Request(bench.folder, name or model, f"/v2/models/{model}/infer", *servers.tensors_request(tensors))


def memory_bound(bench):
    """One configuration, without a delay, for many clients and for one."""
    folder, seconds = perceptrons(), max(4.0, bench.options.seconds)
    model, request = folder / "mlp/1/model.onnx", infer(bench, "mlp", tensor(1024))
    server = serve(bench, folder, "mlp")
    try:
        many, one, alone, eight = bench.rounds(
            lambda: load(bench.build, server, request, CLIENTS, seconds),
            lambda: load(bench.build, server, request, 1, seconds),
            lambda: engine(bench, model, tensor(1024), seconds / 2),
            lambda: engine(bench, model, tensor(1024, ROWS), seconds / 2))
    finally:
        server.stop()

    def ratio(ours, theirs, rows):
        return statistics.median(x["requests_per_s"] / (rows * y["runs_per_s"]) for x, y in zip(ours, theirs))

    bare = (f"engine: {median(alone, 'runs_per_s'):.1f} rows/s at batch 1, {ROWS * median(eight, 'runs_per_s'):.1f} at "
            f"batch {ROWS}")
    bench.row(f"memory-bound MLP, {CLIENTS} clients", ratio(many, eight, ROWS), f"x engine at {ROWS}", 0.97,
              f"{summary(many)}; {bare}", at_least=True)
    bench.row(f"memory-bound MLP, {CLIENTS} clients", ratio(many, alone, 1), "x engine at 1", FIELD_GAIN, bare,
              at_least=True)
    bench.row("memory-bound MLP, 1 client", ratio(one, alone, 1), "x engine at 1", 0.95, f"{summary(one)}; {bare}",
              at_least=True)


def classifier_batched(bench):
    """Large batches gain it nothing, and are not to cost anything. Long rounds: what the end finds half done, up to a whole
    batch, is lost."""
    repository, seconds = bench.folder / "batched", max(8.0, bench.options.seconds)
    shutil.copytree(CACHE / "repository/efficientnet_lite0", repository / "efficientnet_lite0")
    config = repository / "efficientnet_lite0/config.pbtxt"
    config.write_text(config.read_text() + "dynamic_batching { }\n")
    picture = [("image", "FP32", [1, 3, 224, 224], (CACHE / "samples/chelsea.f32").read_bytes())]
    request = infer(bench, "efficientnet_lite0", picture, "picture")
    server = serve(bench, repository, "efficientnet_lite0")
    try:
        a, b = bench.rounds(lambda: load(bench.build, server, request, CLIENTS, seconds),
                            lambda: engine(bench, repository / "efficientnet_lite0/1/model.onnx", picture, seconds / 2))
    finally:
        server.stop()
    bench.row(f"image classifier, batching on, {CLIENTS} clients",
              statistics.median(x["requests_per_s"] / y["runs_per_s"] for x, y in zip(a, b)), "x engine", 0.97,
              f"{summary(a)}; engine: {median(b, 'runs_per_s'):.1f}/s", at_least=True)


def load_with(bench, server, request, connections, seconds, *words):
    """A load generator that runs beside others; its figures come from `load_figures(*it.communicate(), request)`."""
    command = request.load_command(bench.build, server.port, connections, seconds)
    return subprocess.Popen([*command[:-1], *map(str, words), command[-1]], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def overload(bench):
    """Five times what the loud model can do, with deadlines, beside a quiet one: both on CPU 0. So is what has to be
    refused, which of small rows in large batches is so much that the row has no goal."""
    loud_and_quiet(bench, "one by one", 1, 2, 0.95)
    loud_and_quiet(bench, f"batches of {ROWS}", ROWS, 2, None)


def loud_and_quiet(bench, how, batch, quiet_goal, loud_goal):
    folder, seconds, deadline_ms = bench.folder / f"overload_{batch}", max(4.0, bench.options.seconds), 250
    shutil.copytree(CACHE / "repository/efficientnet_lite0", folder / "quiet")
    shutil.copytree(perceptrons() / "mlp", folder / "loud")
    config = folder / "loud/config.pbtxt"
    config.write_text(config.read_text().replace(f"max_batch_size: {ROWS}", f"max_batch_size: {batch}"))
    picture = [("image", "FP32", [1, 3, 224, 224], (CACHE / "samples/chelsea.f32").read_bytes())]
    quiet, loud = infer(bench, "quiet", picture), infer(bench, "loud", tensor(1024))
    server = serve(bench, folder, "quiet", "loud")

    def flood(rate):
        return load_with(bench, server, loud, 1024, seconds + 1, "--rate", rate, "--deadline-ms", deadline_ms)

    def beside():
        other = flood(5 * peak)
        time.sleep(0.5)
        figures = load(bench.build, server, quiet, 1, seconds, rate)
        load_figures(*other.communicate(), loud)
        return figures

    try:
        peak = load(bench.build, server, loud, CLIENTS, seconds)["requests_per_s"]
        rate = 0.1 * load(bench.build, server, quiet, 1, seconds)["requests_per_s"]
        solo, mixed, flooded, peaks = bench.rounds(
            lambda: load(bench.build, server, quiet, 1, seconds, rate), beside,
            lambda: load_figures(*flood(5 * peak).communicate(), loud),
            lambda: load(bench.build, server, loud, CLIENTS, seconds))
    finally:
        server.stop()
    times = [f"p50 {median(of, 'p50_us') / 1000:.1f}, p99 {median(of, 'p99_us') / 1000:.1f} ms" for of in (solo, mixed)]
    bench.row(f"quiet model beside one overloaded 5 x, {how}", statistics.median(
        y["p99_us"] / x["p99_us"] for x, y in zip(solo, mixed)), "x p99", quiet_goal,
        f"solo {times[0]}; beside it {times[1]}")
    bench.row(f"overloaded 5 x, {how}, within {deadline_ms} ms", statistics.median(
        x["good_per_s"] / y["requests_per_s"] for x, y in zip(flooded, peaks)), "x peak", loud_goal,
        f"{median(flooded, 'good_per_s'):.1f}/s of {median(peaks, 'requests_per_s'):.1f}/s; "
        f"{median(flooded, 'refused'):.0f} refused, p99 {median(flooded, 'p99_us') / 1000:.0f} ms", at_least=True)


def device_time(server, name):
    page = urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics").read().decode()
    return sum(float(line.split()[-1]) for line in page.splitlines()
               if line.startswith("modeld_device_seconds_total{") and f'model="{name}"' in line)


def weights(bench):
    """All saturated; two instances each, so that any share can be reached."""
    folder, seconds = bench.folder / "weights", max(4.0, bench.options.seconds)
    names = [f"weight_{weight}" for weight in WEIGHTS]
    for name, weight in zip(names, WEIGHTS):
        shutil.copytree(perceptrons() / "medium", folder / name)
        config = folder / name / "config.pbtxt"
        config.write_text(config.read_text() + "instance_group { count: 2 kind: KIND_CPU }\n"
                          f'parameters {{ key: "modeld_weight" value {{ string_value: "{weight}" }} }}\n')
    requests = [infer(bench, name, tensor(1024)) for name in names]
    server = serve(bench, folder, *names)
    try:
        shares = []
        for _ in range(bench.options.rounds):
            others = [load_with(bench, server, request, 96, seconds + 1) for request in requests]
            time.sleep(0.5)
            before = [device_time(server, name) for name in names]
            time.sleep(seconds)
            spent = [device_time(server, name) - so_far for name, so_far in zip(names, before)]
            for other, request in zip(others, requests):
                load_figures(*other.communicate(), request)
            shares.append([part / sum(spent) for part in spent])
    finally:
        server.stop()
    wanted = [weight / sum(WEIGHTS) for weight in WEIGHTS]
    off = statistics.median(max(abs(share / want - 1) for share, want in zip(round_, wanted)) for round_ in shares)
    seen = ", ".join(f"{statistics.median(column):.3f}" for column in zip(*shares))
    bench.row("three saturated models of weights 1:2:4", 100 * off, "% off", 5,
              f"shares of device time {seen}; wanted {', '.join(f'{want:.3f}' for want in wanted)}")


SCHEDULING_CASES = (memory_bound, classifier_batched, overload, weights)
