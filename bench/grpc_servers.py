"""What the benchmarks of gRPC run and send: servers over plain HTTP/2, two load generators, messages.

h2load sends small calls: it costs less than any gRPC client, so that the server is what is measured.
bench_grpc_load sends tensors: it is built on gRPC's C core, as Python's and C++'s clients are, and
sends frames of up to 1 MiB to servers that take them, where h2load's have 16 KiB.
"""
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import sysconfig

import servers
from servers import Server, free_port

PATH = "/inference.GRPCInferenceService/ModelInfer"


# Messages

def field(number, data):
    """A length-delimited field of protobuf; numbers are varints."""
    if isinstance(data, int):
        return varint(number << 3) + varint(data)
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value):
    out = b""
    while value > 127:
        out += bytes((value & 127 | 128,))
        value >>= 7
    return out + bytes((value,))


def parameter(key, value):
    """An entry of a map of parameters."""
    return field(1, key.encode()) + field(2, field(2, value) if isinstance(value, int) else field(3, value.encode()))


def input_tensor(name, values, parameters=None):
    """InferInputTensor of FP32 [1, values]."""
    tensor = field(1, name.encode()) + field(2, b"FP32") + field(3, varint(1) + varint(values))
    return field(5, tensor + b"".join(field(4, parameter(key, value)) for key, value in (parameters or {}).items()))


def output_tensor(name, parameters=None):
    """InferRequestedOutputTensor."""
    return field(6, field(1, name.encode()) +
                 b"".join(field(2, parameter(key, value)) for key, value in (parameters or {}).items()))


def infer_request(values):
    """ModelInferRequest of the identity model."""
    return field(1, b"identity") + input_tensor("INPUT0", values) + field(7, struct.pack("<f", 1.5) * values)


def framed(message):
    return struct.pack(">BI", 0, len(message)) + message


class Message:
    """A request as both generators want it; `answer_bytes` is the least that an answer must have."""

    def __init__(self, folder, name, message, answer_bytes):
        self.bare, self.framed = folder / f"{name}.message", folder / f"{name}.framed"
        self.bare.write_bytes(message)
        self.framed.write_bytes(framed(message))
        self.answer_bytes = answer_bytes


# Load

def measured(server, command):
    """(output of the command, CPU of the server in us meanwhile)."""
    before, _ = server.times_ns()
    done = subprocess.run([str(word) for word in ["taskset", "-c", "1", *command]], capture_output=True, text=True)
    after, _ = server.times_ns()
    return done, (after - before) / 1000


def h2load(server, message, connections, streams, seconds, port=None, path=PATH):
    """message None: GET. Latencies are those of every call."""
    log = pathlib.Path(server.folder.name) / "h2load"
    log.unlink(missing_ok=True)
    command = ["h2load", "-t1", "-c", connections, "-m", streams, "-D", f"{int(seconds * 1000)}ms", "--warm-up-time", 0, "-w", 20, "-W",
               24, "--log-file", log]
    if message:
        command += ["-d", message.framed, "-H", "content-type: application/grpc", "-H", "te: trailers"]
    done, cpu = measured(server, [*command, f"http://127.0.0.1:{port or server.port}{path}"])
    found = re.search(r"requests: .* (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", done.stdout)
    data = re.search(r"\((\d+)\) data", done.stdout)
    count, good, failed, errors = map(int, found.groups()) if found else (0, 0, 0, 0)
    if not good or good != count or failed or errors:
        sys.exit(f"h2load failed: {done.stdout}{done.stderr}")
    if message and int(data[1]) < 0.98 * message.answer_bytes * count:  # the last may be cut off
        sys.exit(f"answers of {path} have {int(data[1]) / count:.0f} bytes, at least {message.answer_bytes} are wanted")
    times = sorted(int(line.rsplit("\t", 1)[1]) for line in log.read_text().splitlines())
    rate = float(re.search(r"finished in .*?, ([0-9.]+) req/s", done.stdout)[1])
    return {"requests_per_s": rate, "cpu_us": cpu / count, "p50_us": times[len(times) // 2],
            "p99_us": times[len(times) * 99 // 100]}


def grpc_load(build, server, message, connections, streams, seconds, port=None):
    done, cpu = measured(server, [build / "bench/bench_grpc_load", "--connections", connections, "--streams", streams,
                                  "--seconds", seconds, "--body", message.bare,
                                  f"127.0.0.1:{port or server.port}"])
    figures = json.loads(done.stdout) if done.stdout else {"errors": 1}
    if figures["errors"] or figures["bytes"] < message.answer_bytes * figures["requests"]:
        sys.exit(f"bench_grpc_load failed: {done.stdout}{done.stderr}")
    return {**figures, "cpu_us": cpu / figures["requests"]}


# Servers

def echo(build):
    port = free_port()
    return Server([build / "bench/bench_grpc_echo", port], port, ready=servers.CONNECT)


def modeld(build, repository, *flags, **keywords):
    """Its .port is that of gRPC, .http_port the other."""
    port = free_port()
    server = servers.modeld(build, repository, "--grpc-port", port, *flags, **keywords)
    server.http_port, server.port = server.port, port
    return server


def nginx(folder):
    """Answers each path with 101 bytes over plain HTTP/2."""
    return servers.nginx(folder, b"x" * 101, http2=True)


MODEL_PY = """import triton_python_backend_utils as pb
class TritonPythonModel:
    def execute(self, requests):
        return [pb.InferenceResponse([pb.Tensor("OUTPUT0", pb.get_input_tensor_by_name(r, "INPUT0").as_numpy())])
                for r in requests]
"""


def field_server(peers, folder):
    """The field's server as ./check --peers leaves it, the identity model in Python. What that costs
    in its own process does not count: the server's own share stands for one with a model in C++."""
    repository = servers.identity_repository(folder)
    config = (repository / "identity/config.pbtxt").read_text()
    (repository / "identity/config.pbtxt").write_text(config.replace('"identity"', '"python"'))
    (repository / "identity/1/model.py").write_text(MODEL_PY)
    site = next((peers / "venv/lib").glob("python3*/site-packages"))
    os.environ["PATH"] = f"{peers / 'venv/bin'}:{os.environ['PATH']}"  # its stub takes the first python3
    libraries = f"{sysconfig.get_config_var('LIBDIR')}:{site / 'nvidia_pytriton.libs'}"
    port, http, metrics = free_port(), free_port(), free_port()
    server = Server(["env", f"LD_LIBRARY_PATH={libraries}", site / "pytriton/tritonserver/bin/tritonserver",
                     f"--model-repository={repository}", f"--backend-directory={peers / 'backends'}",
                     f"--http-port={http}", f"--grpc-port={port}", f"--metrics-port={metrics}"],
                    http, "/v2/health/ready", with_children=False)
    server.port = port
    return server


def have_echo(build):
    return (build / "bench/bench_grpc_echo").exists() and shutil.which("h2load") is not None
