"""End to end: the real server as a process, spoken to over sockets.

MODELD_BUILD names the build folder (default build/debug). Every server listens on free loopback ports.
"""
import itertools, json, os, pathlib, random, signal, socket, subprocess, tempfile, time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MODELD_BUILD", ROOT / "build/debug")).resolve()
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "modeld"
MODELS = pathlib.Path(os.environ.get("MODELD_TEST_MODELS", ROOT / "build/test-models"))
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
PORTS = itertools.count(random.randrange(22000 // WORKERS))
SANITIZED = any(name in BUILD.name for name in ("asan", "tsan"))


def free_port():
    """Below the range that clients' own ports are taken from, so that none of them gets it meanwhile; of tests that
    run beside each other each process has a part of it, and takes one after the other.
    """
    for number in PORTS:
        port = 10000 + WORKERS * (number % (22000 // WORKERS)) + WORKER
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("0.0.0.0", port))
                return port
            except OSError:
                pass


class Response:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"{self.status} {self.headers} {self.body[:500]!r}"


def read_response(stream, head_only=False):
    """Reads one HTTP/1.1 response from a file-like socket; None at the end of the stream."""
    line = stream.readline()
    if not line:
        return None
    status = int(line.split()[1])
    headers = {}
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode("latin1").partition(":")
        headers[name.strip().lower()] = value.strip()
    body = b""
    if head_only or status in (204, 304) or 100 <= status < 200:
        pass
    elif headers.get("transfer-encoding") == "chunked":
        while size := int(stream.readline().split(b";")[0], 16):
            body += stream.read(size)
            stream.readline()
        stream.readline()
    else:
        body = stream.read(int(headers.get("content-length", 0)))
    return Response(status, headers, body)


def connect(address):
    """A port of this machine, or the path of a unix socket."""
    if isinstance(address, int):
        return socket.create_connection(("127.0.0.1", address), 60)
    s = socket.socket(socket.AF_UNIX)
    s.connect(address)
    return s


def request(address, method, path, body=None, headers=None):
    """One request on a connection of its own; a body that is a dict or list is sent as JSON."""
    if isinstance(body, (dict, list)):
        body = json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    for name, value in (headers or {}).items():
        head += f"{name}: {value}\r\n"
    if body is not None and "Transfer-Encoding" not in (headers or {}):
        head += f"Content-Length: {len(body)}\r\n"
    with connect(address) as s:
        s.sendall(head.encode() + b"\r\n" + (body or b""))
        return read_response(s.makefile("rb"), method == "HEAD")


def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Server:
    def __init__(self, repository, *flags, env=None, wait=True, ready="/v2/health/ready", files=None,
                 prefix=(), port=None, program=BUILD / "modeld"):
        self.port, self.grpc_port, self.metrics_port = port or free_port(), free_port(), free_port()
        self.log_path = tempfile.mktemp(prefix="modeld-log-")
        self.unix_path = tempfile.mktemp(prefix="modeld-socket-")
        self.log_file = open(self.log_path, "wb")
        command = [str(program), f"--http-port={self.port}", f"--grpc-port={self.grpc_port}",
                   f"--metrics-port={self.metrics_port}",
                   f"--http-unix-socket={self.unix_path}"]
        for folder in repository if isinstance(repository, (list, tuple)) else [repository]:
            command.append(f"--model-repository={folder}")
        if files:
            command = ["prlimit", f"--nofile={files}:{files}", *command]
        self.process = subprocess.Popen([*prefix, *command, *flags], stdout=self.log_file, stderr=self.log_file,
                                        env={**os.environ, **(env or {})})
        if wait:
            self.wait_ready(ready)

    def wait_ready(self, path="/v2/health/ready", seconds=60):
        deadline = time.time() + seconds
        while True:
            try:
                if self.request("GET", path).status == 200:
                    return
            except OSError:
                pass
            assert self.process.poll() is None, f"the server ended: {self.log()}"
            assert time.time() < deadline, f"not ready in time: {self.log()}"
            time.sleep(0.01)

    def wait_for(self, words, seconds=10):
        """Until they stand in the log."""
        deadline = time.time() + seconds
        while words not in self.log():
            assert time.time() < deadline, f"'{words}' is not in the log: {self.log()[-4000:]}"
            time.sleep(0.005)

    def log(self):
        return pathlib.Path(self.log_path).read_text(errors="replace")

    def connect(self, timeout=30):
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def raw(self, data, head_only=False, timeout=30):
        """Sends bytes on a new connection and reads one response."""
        with self.connect(timeout) as s:
            s.sendall(data)
            return read_response(s.makefile("rb"), head_only)

    def request(self, method, path, body=None, headers=None, port=None):
        return request(port or self.port, method, path, body, headers)

    def manage(self, method, path, body=None):
        """Over the unix socket, where the server may be changed."""
        return request(self.unix_path, method, path, body)

    def get(self, path, **kw):
        return self.request("GET", path, **kw)

    def infer(self, model, inputs, version=None, headers=None, **rest):
        path = f"/v2/models/{model}" + (f"/versions/{version}" if version else "") + "/infer"
        return self.request("POST", path, {"inputs": inputs, **rest}, headers)

    def infer_binary(self, model, inputs, outputs=(), **kw):
        """inputs: {name: (dtype, shape, bytes)}; returns the same of the outputs (all, or those named)."""
        head = json.dumps({
            "inputs": [{"name": name, "datatype": dtype, "shape": shape,
                        "parameters": {"binary_data_size": len(data)}} for name, (dtype, shape, data) in inputs.items()],
            "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in outputs],
            "parameters": {"binary_data_output": True}}).encode()
        r = self.request("POST", f"/v2/models/{model}/infer", head + b"".join(t[2] for t in inputs.values()),
                         {"Inference-Header-Content-Length": str(len(head))}, **kw)
        assert r.status == 200, r
        at, result = int(r.headers.get("inference-header-content-length", len(r.body))), {}  # none: no bytes at all
        for output in json.loads(r.body[:at])["outputs"]:
            size = output["parameters"]["binary_data_size"]
            result[output["name"]] = (output["datatype"], output["shape"], r.body[at:at + size])
            at += size
        return result

    def index(self):
        """{(name, version): (state, reason)} as the repository index has it."""
        entries = self.request("POST", "/v2/repository/index", b"").json()
        return {(e["name"], e.get("version")): (e.get("state"), e.get("reason")) for e in entries}

    def metrics(self):
        text = self.request("GET", "/metrics", port=self.metrics_port).body.decode()
        values = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                values[name] = float(value)
        return values

    def status(self, key):
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith(key + ":"):
                return int(line.split()[1])
        raise KeyError(key)

    def stop(self, sig=signal.SIGTERM, timeout=40):
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"did not end: {self.log()}")
        self.log_file.close()
        return code


def write_model(root, name, config, versions=(1,), files=None):
    folder = pathlib.Path(root) / name
    for version in versions:
        (folder / str(version)).mkdir(parents=True, exist_ok=True)
    if config is not None:
        (folder / "config.pbtxt").write_text(config)
    for path, content in (files or {}).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def identity_config(dtype="TYPE_FP32", batch=0, dims="-1", extra="", count=1):
    ios = lambda kind, letter: " ".join(
        f'{kind} {{ name: "{letter}{i}" data_type: {dtype} dims: [ {dims} ] }}' for i in range(count))
    return (f'backend: "identity"\nmax_batch_size: {batch}\n{ios("input", "INPUT")}\n{ios("output", "OUTPUT")}\n{extra}\n')


DTYPES = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BF16",
          "BYTES"]


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """Identity models: one a dtype, a batched one, two tensors, a slow one."""
    root = tmp_path_factory.mktemp("repository")
    for dtype in DTYPES:
        config_name = "TYPE_STRING" if dtype == "BYTES" else f"TYPE_{dtype}"
        write_model(root, f"identity_{dtype.lower()}", identity_config(config_name))
    write_model(root, "batched", identity_config(batch=8, dims="4"), versions=(1, 3))
    write_model(root, "two", identity_config(count=2))
    write_model(root, "slow", identity_config(extra='parameters { key: "execute_delay_ms" value { string_value: "300" } }'))
    write_model(root, "fixed", identity_config(dims="2, 3"))
    write_model(root, "labelled", 'backend: "identity"\ninput { name: "INPUT0" data_type: TYPE_FP32 dims: [ 4 ] }\n'
                'output { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ] label_filename: "labels.txt" }\n',
                files={"labels.txt": "cat\ndog\nbird\nfish\n"})
    write_model(root, "decoupled", 'backend: "repeat"\nmodel_transaction_policy { decoupled: true }\n')
    return root


@pytest.fixture(scope="session")
def server(repository):
    s = Server(repository, "--http-cors-allow-origin=http://example.org", "--management=open")
    yield s
    assert s.process.poll() is None, f"the server died: {s.log()[-4000:]}"
    assert s.stop() == 0, s.log()[-4000:]


@pytest.fixture(scope="session")
def proto_pool(tmp_path_factory):
    """What the files of proto/ declare, as protoc reads them."""
    from google.protobuf import descriptor_pb2, descriptor_pool
    folder, path = ROOT / "proto", tmp_path_factory.mktemp("proto") / "all.pb"
    names = [str(file.relative_to(folder)) for file in sorted(folder.rglob("*.proto"))]
    subprocess.run(["protoc", f"-I{folder}", "--include_imports", f"--descriptor_set_out={path}", *names], check=True)
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file:
        pool.Add(file)
    return pool


@pytest.fixture
def start():
    """Starts servers that are stopped at the end of the test."""
    servers = []

    def starter(*args, **kw):
        servers.append(Server(*args, **kw))
        return servers[-1]

    yield starter
    for s in servers:
        if s.process.poll() is None:
            s.process.kill()
            s.process.wait()
