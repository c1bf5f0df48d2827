#!/usr/bin/env python3
"""Instruction counts of the hot paths, by callgrind, against the limits in instruction_limits.json.

usage: bench/instructions.py [--build build/release] [--update]

Counts do not mind what else the machine does: a change that costs 5 % shows. What differs from run to
run is when threads meet; if a limit is exceeded all is measured again and the least counts. Calls of
bench_http and bench_codec count what one call executes; "request" is a whole request in the real
server, in all its threads (the difference of two runs, so that start and first use do not count),
in all and by room of src/. --update writes limits 5 % above what was measured.
Exit status 1 when a limit is exceeded.
"""
import argparse
import collections
import http.client
import json
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile

import grpc_servers
import servers
from http2_client import GrpcConnection

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIMITS = ROOT / "bench/instruction_limits.json"
TRIALS = 3
ROOMS = {"1 FP32": ("http", "api", "codec", "infer", "backend"),
         "150,528 FP32": ("api", "codec", "infer")}  # the others depend on the pieces that bodies come in
METRICS = ("infer/statistics.c", "http/session_internal.h")
# Percent of the instructions of a small request outside the kernel. Callgrind's slowness makes
# histograms search further than in earnest, which costs up to 0.25.
METRICS_LIMIT = 1.25
# What scheduling costs a request of the null model: flags, the case that it is compared with, limit of the ratio.
# A hop to an executor and back is most of the second; without batches none of it is the batcher's.
SCHEDULED = {
    "dynamic batching": (("--inline", "on"), "request, 1 FP32, binary", 1.02),
    "queued": (("--inline", "off", "--auto-batching", "off"), "request, 1 FP32, binary", 1.14),
    "queued, dynamic batching": (("--inline", "off"), "request, 1 FP32, binary, queued", 1.10),
}
BATCHED = servers.IDENTITY + "dynamic_batching { }\n"


class Profile:
    """What callgrind counted: by source file (inlined code counts where it stands), and by
    function with all that it called."""

    def __init__(self, path):
        self.files, self.functions = collections.Counter(), collections.Counter()
        names, file, function, is_call = {}, "", "", False
        for line in path.read_text().splitlines():
            if match := re.match(r"c?(f[lien])=\((\d+)\)(?: (.*))?", line):
                kind = "fn" if match[1] == "fn" else "file"
                name = names.setdefault((kind, match[2]), match[3])
                if line.startswith("fn="):
                    function = name
                elif line[0] == "f":
                    file = name
            elif line.startswith("calls="):
                is_call = True
            elif match := re.match(r"[-+*\d]\S* (\d+)$", line):
                self.functions[function] += int(match[1])
                if not is_call:
                    self.files[file] += int(match[1])
                is_call = False


def callgrind(folder, command, act=None):
    """Runs a command under callgrind; `act` is done while it runs and ends it."""
    out = folder / "callgrind.out"
    process = subprocess.Popen(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *command],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        if act:
            act()
            process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    if process.returncode:
        sys.exit(f"{command[0]} ended with {process.returncode}\n{errors[-2000:]}")
    return Profile(out)


def calls(build, folder):
    """One call of each function that bench_http and bench_codec measure."""
    profile = callgrind(folder, [build / "bench/bench_http", "1", "1000"])
    counts = {f"http: {name}": profile.functions[f"run_{name}"] / 1000
              for name in ("scan", "parse", "route", "print")}
    for values in (8, 150528):
        for text, kind in (("widened", "reader"), ("floats", "writer")):
            profile = callgrind(folder, [build / "bench/bench_codec", str(values), "1", text])
            counts[f"codec: {kind}, {values} FP32, {text}"] = profile.functions[f"run_{kind}"]
    return counts


def rest_calls(body, headers):
    fields = {"Host": "127.0.0.1", "Content-Length": len(body), **headers}
    head = "POST /v2/models/identity/infer HTTP/1.1\r\n"
    request = (head + "".join(f"{k}: {v}\r\n" for k, v in fields.items()) + "\r\n").encode() + body

    def act(port, count):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            for _ in range(count):
                connection.sendall(request)
                answer = http.client.HTTPResponse(connection)
                answer.begin()
                if answer.status != 200 or not answer.read():
                    sys.exit(f"the server answered {answer.status}")

    return act


def grpc_calls(values):
    message = grpc_servers.infer_request(values)

    def act(port, count):
        with GrpcConnection(port, grpc_servers.PATH) as connection:
            for _ in range(count):
                if len(connection.call(struct.pack(">BI", 0, len(message)) + message)) < 4 * values:
                    sys.exit("the server answered without a tensor")

    return act


def requests(build, repository, send, few, many, flags=("--inline", "on")):
    """Instructions of one request by source file: of `many` less those of `few`."""
    def files(count):
        port, metrics = servers.free_port(), servers.free_port()

        def act():
            if not servers.wait_until_ready(port, "/v2/health/ready", seconds=60):
                sys.exit("the server does not answer")
            send(port, count)

        return callgrind(repository.parent, [build / "modeld", "--model-repository", repository,
                                  "--http-port", str(port), "--allow-grpc", "false",
                                  "--metrics-port", str(metrics),
                                  "--http-thread-count", "1", "--spin-us", "0", *flags], act).files

    with_few, with_many = files(few), files(many)
    return {name: (count - with_few[name]) / (many - few) for name, count in with_many.items()}


def measure(build, folder):
    counts = calls(build, folder)
    repository = servers.identity_repository(folder / "repository")
    for name, values, few, many in (("1 FP32", [1.5], 20, 120), ("150,528 FP32", servers.image(), 1, 4)):
        for kind, send in (("JSON", rest_calls(*servers.json_request(values))),
                             ("binary", rest_calls(*servers.binary_request(values))),
                             ("gRPC", grpc_calls(len(values)))):
            files = requests(build, repository, send, few, many)
            case, total = f"request, {name}, {kind}", sum(files.values())
            if name == "1 FP32" or kind == "JSON":
                counts[case] = total
            for room in ROOMS[name]:
                counts[f"{case}: {room}"] = sum(n for file, n in files.items() if f"/src/{room}/" in file)
            if name == "1 FP32" and kind != "gRPC":  # there the same count is a part of less
                share = sum(n for file, n in files.items() if file.endswith(METRICS)) / total
                counts[f"{case}: statistics, percent"] = 100 * share
    return {**counts, **scheduled(build, folder, counts)}


def scheduled(build, folder, counts):
    """What waiting for an executor costs, and what forming batches does."""
    found, send = {}, rest_calls(*servers.binary_request([1.5]))
    for name, (flags, other, _) in SCHEDULED.items():
        repository = servers.identity_repository(folder / name / "repository")
        if "dynamic" in name:
            (repository / "identity/config.pbtxt").write_text(BATCHED)
        files = requests(build, repository, send, 20, 120, (*flags, "--executor-threads", "1"))
        case = f"request, 1 FP32, binary, {name}"
        found[case] = sum(files.values())
        found[f"{case}: infer and policy"] = sum(n for file, n in files.items() if "/src/infer/" in file or
                                                 "/src/policy/" in file)
        found[f"{case}: ratio"] = found[case] / {**counts, **found}[other]
    return found


def fixed_limit(name):
    """Of what is no count; None: 5 % above what was measured."""
    if name.endswith("percent"):
        return METRICS_LIMIT
    if name.endswith("ratio"):
        return SCHEDULED[name.removeprefix("request, 1 FP32, binary, ").removesuffix(": ratio")][2]
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    limits = json.loads(LIMITS.read_text()) if LIMITS.is_file() else {}
    counts = {}
    for _ in range(TRIALS):
        with tempfile.TemporaryDirectory(prefix="modeld-instructions-") as folder:
            again = measure(ROOT / options.build, pathlib.Path(folder))
        counts = {name: min(count, counts.get(name, count)) for name, count in again.items()}
        if options.update:
            limits = {name: fixed_limit(name) or round(count * 1.05) + 5 for name, count in counts.items()}
        over = [name for name, count in counts.items() if count > limits.get(name, 0)]
        if not over:
            break
    for name, count in counts.items():
        digits = {"percent": 2, "ratio": 3}.get(name.split()[-1], 0)
        print(f"{name:66} {count:14,.{digits}f}  limit {limits.get(name, 0):14,}")
    for name in over:
        print(f"EXCEEDED: {name}: {counts[name]:,.3f}, limit {limits.get(name, 0):,}")
    if options.update:
        LIMITS.write_text(json.dumps(limits, indent=1) + "\n")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
