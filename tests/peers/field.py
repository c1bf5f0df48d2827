"""The field's own server with its Python backend, and a repository that both servers load.

MODELD_PEERS is the folder that ./check --peers fills.
"""
import os, pathlib, socket, ssl, subprocess, sys, sysconfig, time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from conftest import Server, free_port, request, write_model  # noqa: E402

PEERS = pathlib.Path(os.environ["MODELD_PEERS"])
DTYPES = ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32",
          "FP64", "BYTES")

# The same model for the field: output k is input k, where both are there.
MODEL_PY = """import json, time
import triton_python_backend_utils as pb
class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.pairs = [(i["name"], o["name"]) for i, o in zip(config["input"], config["output"])]
        delay = config["parameters"].get("execute_delay_ms")
        # what is no number fails the load, as with modeld
        self.delay = int(delay["string_value"]) / 1000 if delay else 0
    def execute(self, requests):
        time.sleep(self.delay)
        answers = []
        for r in requests:
            wanted = r.requested_output_names()
            given = [(pb.get_input_tensor_by_name(r, i), o) for i, o in self.pairs if o in wanted]
            answers.append(pb.InferenceResponse(
                [pb.Tensor(o, t.as_numpy()) for t, o in given if t is not None]))
        return answers
"""


def tensor(kind, name, dtype, dims, extra=""):
    dtype = "STRING" if dtype == "BYTES" else dtype
    return f'{kind} {{ name: "{name}" data_type: TYPE_{dtype} dims: [ {dims} ] {extra} }}\n'


def config(*tensors, batch=0, extra=""):
    """tensors: (dtype, dims[, extra of the input[, extra of the output]])."""
    text = f"max_batch_size: {batch}\ninstance_group [ {{ count: 1 kind: KIND_CPU }} ]\n{extra}\n"
    for i, (dtype, dims, *extras) in enumerate(tensors):
        of_input, of_output = (extras + ["", ""])[:2]
        text += tensor("input", f"INPUT{i}", dtype, dims, of_input) + tensor("output", f"OUTPUT{i}", dtype,
            dims, of_output)
    return text


MODELS = {
    **{f"id_{dtype}": config((dtype, "-1")) for dtype in DTYPES},
    "pair": config(("FP32", "-1"), ("INT32", "2"), batch=8),
    "fixed": config(("FP32", "2, 3")),
    "wild": config(("FP32", "-1, -1")),
    "choice": config(("FP32", "-1"), ("INT32", "-1", "optional: true")),
    "labelled": config(("FP32", "4", "", 'label_filename: "labels.txt"'), batch=4),
    "slow": config(("FP32", "-1"),
                   extra='parameters { key: "execute_delay_ms" value { string_value: "20" } }'),
    "broken": config(("FP32", "-1"),
                     extra='parameters { key: "execute_delay_ms" value { string_value: "x" } }'),
    "unversioned": config(("FP32", "-1")),
    "dotted.name-1": config(("FP32", "-1"), extra="version_policy { all {} }"),
}


# Models that fail to load do not end the server.
TOLERANT = ("--exit-on-error=false", "--strict-readiness=false")


def write_repository(root, backend):
    for name, text in MODELS.items():
        versions = {"dotted.name-1": (1, 3), "unversioned": ()}.get(name, (1,))
        files = {f"{v}/model.py": MODEL_PY for v in versions} if backend == "python" else {}
        files["labels.txt"] = "cat\ndog\nbird\n"
        (root / name).mkdir(parents=True)
        write_model(root, name, f'backend: "{backend}"\n{text}', versions, files)


class Triton:
    """Starts at once, is ready after wait_ready."""

    def __init__(self, folder, write=write_repository):
        """write: (folder of the repository, backend)."""
        write(folder / "models", "python")
        site = next((PEERS / "venv/lib").glob("python3*/site-packages"))
        env = {**os.environ, "PATH": f"{PEERS / 'venv/bin'}:{os.environ['PATH']}",
               "LD_LIBRARY_PATH": f"{sysconfig.get_config_var('LIBDIR')}:{site / 'nvidia_pytriton.libs'}"}
        self.port, self.grpc_port, self.metrics_port = free_port(), free_port(), free_port()
        self.log_path = folder / "log"
        self.log = open(self.log_path, "wb")
        self.process = subprocess.Popen(
            [str(site / "pytriton/tritonserver/bin/tritonserver"), f"--model-repository={folder / 'models'}",
             f"--backend-directory={PEERS / 'backends'}", *TOLERANT, "--http-address=127.0.0.1",
             "--grpc-address=127.0.0.1", "--metrics-address=127.0.0.1", f"--http-port={self.port}",
             f"--grpc-port={self.grpc_port}", f"--metrics-port={self.metrics_port}"], env=env,
            stdout=self.log, stderr=self.log)

    def wait_ready(self):
        deadline = time.time() + 120
        while not self.is_ready():
            assert self.process.poll() is None and time.time() < deadline, self.log_path.read_text()[-3000:]
            time.sleep(0.1)

    def is_ready(self):
        try:
            return request(self.port, "GET", "/v2/health/ready").status == 200
        except OSError:
            return False

    def stop(self):
        self.process.terminate()
        self.process.wait(60)
        self.log.close()


# A test module imports the fixtures that it uses; each server is started once for all of them.

RUNNING = {}


def shared(name, start, stop):
    """A server that the first module to ask starts, and the first to end stops: all end together."""
    if name not in RUNNING:
        RUNNING[name] = start()
    yield RUNNING[name]
    if server := RUNNING.pop(name, None):
        stop(server)


def start_triton(folder):
    server = Triton(folder)
    try:
        server.wait_ready()
    except BaseException:
        server.stop()
        raise
    return server


def start_ours(folder):
    write_repository(folder, "identity")
    return Server(folder, "--compat=triton", "--allow-client-shm=true", *TOLERANT,
                  "--http-address=127.0.0.1", "--metrics-address=127.0.0.1")


def stop_ours(server):
    assert server.stop() == 0, server.log()


@pytest.fixture(scope="session")
def triton(tmp_path_factory):
    yield from shared("triton", lambda: start_triton(tmp_path_factory.mktemp("triton")), Triton.stop)


@pytest.fixture(scope="session")
def ours(tmp_path_factory):
    yield from shared("ours", lambda: start_ours(tmp_path_factory.mktemp("modeld")), stop_ours)


def write_certificate(folder):
    """For 127.0.0.1, signed by itself."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "300", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
                    "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """Ours with TLS on the ports of HTTP and gRPC; .certificate is the file."""
    folder = tmp_path_factory.mktemp("secure")
    certificate, key = write_certificate(folder)
    write_repository(folder / "models", "identity")
    flags = [f"--{listener}-{option}" for listener in ("http", "grpc")
             for option in ("use-ssl=true", f"server-cert={certificate}", f"server-key={key}")]
    server = Server(folder / "models", "--compat=triton", *TOLERANT, *flags, wait=False)
    server.certificate, server.https_port = certificate, server.port
    context = ssl.create_default_context(cafile=certificate)
    deadline = time.time() + 30
    while True:
        try:
            with socket.create_connection(("127.0.0.1", server.port), 5) as s:
                context.wrap_socket(s, server_hostname="127.0.0.1").close()
                break
        except OSError:
            assert server.process.poll() is None and time.time() < deadline, server.log()
            time.sleep(0.05)
    yield server
    stop_ours(server)
