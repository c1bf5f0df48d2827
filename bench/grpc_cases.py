"""The cases of bench/run.py that are about gRPC."""
import ctypes
import http.client
import json
import mmap
import os
import pathlib
import statistics
import time

import grpc_servers
import servers
from cases import CACHE, median, summary
from grpc_servers import Message, field, grpc_load, h2load, infer_request, input_tensor, output_tensor

SIZES = {"602 KB": 150528, "8 MiB": 2 << 20}
CONNECTIONS, LOOPS = 4, 4
MIB = 1 << 20


class Calls:
    """The servers and messages of one case."""

    def __init__(self, bench, *names):
        if not grpc_servers.have_echo(bench.build):
            raise SystemExit("gRPC's C core is missing: tools/install_packages.sh bench")
        self.bench, self.seconds = bench, bench.options.seconds
        self.one = self.message(1)
        self.servers = {}
        try:
            for name in names:
                self.servers[name] = self.start(name)
        except BaseException:
            self.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        for server in self.servers.values():
            server.stop()

    def start(self, name):
        bench = self.bench
        if name == "modeld":
            return grpc_servers.modeld(bench.build, bench.identity)
        if name == "C core":
            return grpc_servers.echo(bench.build)
        if name == "nginx":
            return grpc_servers.nginx(bench.folder / f"nginx_h2_{time.monotonic_ns()}")
        return grpc_servers.field_server(CACHE / "peers", bench.folder / f"field_{time.monotonic_ns()}")

    def message(self, values):
        return Message(self.bench.folder, f"identity_{values}", infer_request(values), 4 * values)

    def small(self, name, connections, streams):
        """A run of one FP32 each; nginx sends a page."""
        message = None if name == "nginx" else self.one
        return lambda: h2load(self.servers[name], message, connections, streams, self.seconds)

    def tensors(self, name, message, connections=CONNECTIONS):
        return lambda: grpc_load(self.bench.build, self.servers[name], message, connections, 1, self.seconds)


def times(a, b, key):
    """Median of the rounds' ratios."""
    return statistics.median(x[key] / y[key] for x, y in zip(a, b))


def listed(names, rounds):
    return "; ".join(f"{name}: {summary(r)}" for name, r in zip(names, rounds))


# Cases

def grpc_small(bench):
    """One of the two goals is enough."""
    names = ("modeld", "nginx", "C core")
    with Calls(bench, *names) as calls:
        for connections in (16, 64):
            rounds = bench.rounds(*(calls.small(name, connections, 1) for name in names))
            ours, nginx, core = rounds
            to_nginx, to_core = times(ours, nginx, "cpu_us"), times(core, ours, "cpu_us")
            case = f"gRPC, 1 FP32, {connections} connections"
            either = to_nginx <= 0.8 or to_core >= 1.8
            bench.row(case, to_nginx, "x CPU", None if either and to_nginx > 0.8 else 0.8, listed(names, rounds))
            bench.row(f"{case}, beside C core", to_core, "x less CPU", None if either and to_core < 1.8 else 1.8,
                      f"C core takes {times(core, nginx, 'cpu_us'):.2f} x nginx", at_least=True)


def grpc_streams(bench):
    names = ("modeld", "C core", "nginx")
    with Calls(bench, *names) as calls:
        rounds = bench.rounds(*(calls.small(name, 1, 64) for name in names))
        bench.row("gRPC, 1 FP32, 1 connection x 64 streams", times(rounds[1], rounds[0], "cpu_us"), "x less CPU", 5,
                  listed(names, rounds), at_least=True)


def grpc_one(bench):
    names = ("modeld", "nginx", "C core")
    with Calls(bench, *names) as calls:
        rounds = bench.rounds(*(calls.small(name, 1, 1) for name in names))
        bench.row("gRPC, 1 FP32, 1 connection", times(rounds[0], rounds[1], "p50_us"), "x p50", 1.0,
                  listed(names, rounds))


def grpc_tensors(bench):
    names = ("modeld", "C core")
    with Calls(bench, *names) as calls:
        for size, values in SIZES.items():
            message = calls.message(values)
            rounds = bench.rounds(*(calls.tensors(name, message) for name in names))
            per_mib = [median(r, "cpu_us") / (2 * 4 * values / MIB) for r in rounds]
            bench.row(f"gRPC, {size}, {CONNECTIONS} connections", times(*rounds, "cpu_us"), "x CPU", 0.75,
                      "; ".join(f"{name}: {figure:.0f} us/MiB in and out, {median(r, 'requests_per_s'):.0f}/s"
                                for name, figure, r in zip(names, per_mib, rounds)))


def grpc_field(bench):
    """Beside the field's own server, if ./check --peers has fetched it."""
    if not (CACHE / "peers/.complete").is_file():
        return
    names = ("modeld", "field")
    with Calls(bench, *names) as calls:
        for connections, goal in ((16, 7), (64, 7), (1, 4)):
            rounds = bench.rounds(*(calls.small(name, connections, 1) for name in names))
            case = f"gRPC, 1 FP32, {connections} connection{'s' * (connections > 1)}, beside the field's server"
            bench.row(case, times(rounds[1], rounds[0], "cpu_us"), "x less CPU", goal, listed(names, rounds),
                      at_least=True)
            if connections == 16:
                bench.row(f"{case}: rate", times(*rounds, "requests_per_s"), "x", 3, "", at_least=True)
                better = [x["p99_us"] < y["p99_us"] for x, y in zip(*rounds)]
                bench.row(f"{case}: rounds with the lower p99", 100 * sum(better) / len(better), "%", 80,
                          at_least=True)
        message = calls.message(SIZES["602 KB"])
        rounds = bench.rounds(*(calls.tensors(name, message) for name in names))
        bench.row("gRPC, 602 KB, beside the field's server", times(rounds[1], rounds[0], "cpu_us"), "x less CPU", 2,
                  listed(names, rounds), at_least=True)


def loop_times(server):
    """CPU time of each loop."""
    return {task.name: int((task / "schedstat").read_text().split()[0]) for task in server.tasks()
            if (task / "comm").read_text().startswith("loop")}


def grpc_balance(bench):
    """How far the busiest loop is above its share, with few long connections."""
    server = grpc_servers.modeld(bench.build, bench.identity, loops=LOOPS)
    message = Message(bench.folder, "identity_1", infer_request(1), 4)
    try:
        for connections in (1, 4, 64):
            def share():
                before = loop_times(server)
                figures = h2load(server, message, connections, 4, bench.options.seconds)
                spent = sorted(after - before[loop] for loop, after in loop_times(server).items())
                fair = sum(spent) / min(connections, LOOPS)
                return {**figures, "above": spent[-1] / fair, "busy": sum(t > fair / 10 for t in spent)}

            (rounds,) = bench.rounds(share)
            bench.row(f"gRPC, {connections} connections on {LOOPS} loops: the busiest", median(rounds, "above"),
                      "x its share", 1.25, f"{median(rounds, 'busy'):.0f} loops busy; {summary(rounds)}")
    finally:
        server.stop()


# Shared memory

class Region:
    """A region of system shared memory that the server knows."""

    def __init__(self, server, name, size):
        self.server, self.name, self.path = server, name, pathlib.Path("/dev/shm", f"{name}_{os.getpid()}")
        with open(self.path, "wb+") as file:
            file.truncate(size)
            self.memory = mmap.mmap(file.fileno(), size)
        self.memory.write(b"\1" * size)
        self.post("register", {"key": f"/{self.path.name}", "offset": 0, "byte_size": size})

    def post(self, action, document):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.http_port)
        connection.request("POST", f"/v2/systemsharedmemory/region/{self.name}/{action}", json.dumps(document))
        answer = connection.getresponse()
        if answer.status != 200:
            raise SystemExit(f"shared memory: {action}: {answer.status} {answer.read()}")

    def close(self):
        self.post("unregister", {})
        self.memory.close()
        self.path.unlink()


def copy_us(source, target, size, count=200):
    """CPU of one memcpy from one region to the other."""
    a, b = (ctypes.addressof(ctypes.c_char.from_buffer(region.memory)) for region in (source, target))
    affinity = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {0})
    ctypes.memmove(b, a, size)
    begin = time.process_time_ns()
    for _ in range(count):
        ctypes.memmove(b, a, size)
    spent = (time.process_time_ns() - begin) / 1000 / count
    os.sched_setaffinity(0, affinity)
    return spent


PAIR = """backend: "identity"
max_batch_size: 64
input { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] }
input { name: "INPUT1" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "OUTPUT1" data_type: TYPE_FP32 dims: [ -1 ] }
"""


def placed(region, values):
    return {"shared_memory_region": region.name, "shared_memory_byte_size": 4 * values}


def copied_message(bench, regions, values):
    """The answer is a copy of the tensor."""
    return Message(bench.folder, f"copied_{values}", field(1, b"identity") +
                   input_tensor("INPUT0", values, placed(regions[0], values)) +
                   output_tensor("OUTPUT0", placed(regions[1], values)), 20)


def seen_message(bench, regions, values):
    """The answer is another input of 4 bytes: nothing large is copied."""
    return Message(bench.folder, f"seen_{values}", field(1, b"pair") +
                   input_tensor("INPUT0", values, placed(regions[0], values)) +
                   input_tensor("INPUT1", 1, placed(regions[0], 1)) + output_tensor("OUTPUT1", placed(regions[1], 1)), 20)


def grpc_shared_memory(bench):
    """The identity model copies the tensor once, which is not the server's. Of 8 MiB the copy takes so
    much that what is left of the difference is chance: that row has no goal."""
    repository = servers.identity_repository(bench.folder / "shared", ("identity", "pair"))
    (repository / "pair/config.pbtxt").write_text(PAIR)
    server = grpc_servers.modeld(bench.build, repository, "--allow-client-shm=true")
    seconds, costs, copies, rates, seen = bench.options.seconds, {}, {}, {}, {}
    try:
        for name, values in {"4 B": 1, **SIZES}.items():
            regions = [Region(server, region, 4 * values) for region in ("bench_in", "bench_out")]
            messages = [make(bench, regions, values) for make in (copied_message, seen_message)]
            loads, others, copied = bench.rounds(*(lambda m=m: h2load(server, m, 16, 1, seconds) for m in messages),
                                                 lambda: copy_us(*regions, 4 * values))
            costs[name] = statistics.median(x["cpu_us"] - y for x, y in zip(loads, copied))
            copies[name], rates[name] = statistics.median(copied), median(loads, "requests_per_s")
            seen[name] = median(others, "cpu_us")
            for region in regions:
                region.close()
        listing = "; ".join(f"{name}: {costs[name]:.1f} us and a copy of {copies[name]:.1f}, {rates[name]:.0f}/s"
                            for name in costs)
        bench.row("gRPC through shared memory, less a copy, 602 KB to 4 B", costs["602 KB"] / costs["4 B"], "x CPU",
                  1.1, listing)
        bench.row("gRPC through shared memory, nothing copied, 8 MiB to 4 B", seen["8 MiB"] / seen["4 B"], "x CPU",
                  1.1, "; ".join(f"{name}: {spent:.1f} us" for name, spent in seen.items()))
        bench.row("gRPC through shared memory, 8 MiB", costs["8 MiB"] / copies["8 MiB"] + 1, "x a copy")
        tensor = Message(bench.folder, "identity_602", infer_request(SIZES["602 KB"]), 4 * SIZES["602 KB"])
        (socket,) = bench.rounds(lambda: grpc_load(bench.build, server, tensor, 16, 1, seconds))
        bench.row("gRPC, 602 KB through shared memory, beside the socket",
                  rates["602 KB"] / median(socket, "requests_per_s"), "x rate", 3, summary(socket), at_least=True)
    finally:
        server.stop()


GRPC_CASES = (grpc_small, grpc_streams, grpc_one, grpc_tensors, grpc_shared_memory, grpc_balance, grpc_field)
