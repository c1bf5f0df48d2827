"""modeld beside the field's own server: the same requests, the same answers. And the field's load generator against modeld.

MODELD_PEERS is the folder that ./check --peers fills: the server with its Python backend, and perf_analyzer.
"""
import json, os, pathlib, re, socket, struct, subprocess, sys, time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from conftest import Server, free_port, read_response, write_model  # noqa: E402

PEERS = pathlib.Path(os.environ["MODELD_PEERS"])

CONFIG = """max_batch_size: 8
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] }, { name: "INPUT1" data_type: TYPE_INT32 dims: [ 2 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] }, { name: "OUTPUT1" data_type: TYPE_INT32 dims: [ 2 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
"""
MODEL_PY = """import triton_python_backend_utils as pb
class TritonPythonModel:
    def execute(self, requests):
        out = []
        for r in requests:
            names = r.requested_output_names()
            out.append(pb.InferenceResponse([pb.Tensor("OUTPUT%d" % i, pb.get_input_tensor_by_name(r, "INPUT%d" % i).as_numpy())
                                             for i in range(2) if "OUTPUT%d" % i in names]))
        return out
"""


def call(port, method, path, body=None, headers=None):
    body = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    for name, value in (headers or {}).items():
        head += f"{name}: {value}\r\n"
    if body is not None:
        head += f"Content-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", port), 30) as s:
        s.sendall(head.encode() + b"\r\n" + (body or b""))
        return read_response(s.makefile("rb"))


@pytest.fixture(scope="session")
def triton(tmp_path_factory):
    repository = tmp_path_factory.mktemp("triton")
    write_model(repository, "pair", 'backend: "python"\n' + CONFIG, files={"1/model.py": MODEL_PY})
    site = next((PEERS / "venv/lib").glob("python3*/site-packages"))
    import sysconfig
    env = {**os.environ, "PATH": f"{PEERS / 'venv/bin'}:{os.environ['PATH']}",
           "LD_LIBRARY_PATH": f"{sysconfig.get_config_var('LIBDIR')}:{site / 'nvidia_pytriton.libs'}"}
    port, grpc, metrics = free_port(), free_port(), free_port()
    log = open(repository / "log", "wb")
    process = subprocess.Popen(
        [str(site / "pytriton/tritonserver/bin/tritonserver"), f"--model-repository={repository}",
         f"--backend-directory={PEERS / 'backends'}", "--http-address=127.0.0.1", "--grpc-address=127.0.0.1",
         "--metrics-address=127.0.0.1", f"--http-port={port}", f"--grpc-port={grpc}", f"--metrics-port={metrics}"],
        env=env, stdout=log, stderr=log)
    deadline = time.time() + 90
    while True:
        try:
            if call(port, "GET", "/v2/health/ready").status == 200:
                break
        except OSError:
            pass
        assert process.poll() is None and time.time() < deadline, (repository / "log").read_text()[-3000:]
        time.sleep(0.1)
    yield port
    process.terminate()
    process.wait(40)


@pytest.fixture(scope="session")
def ours(tmp_path_factory):
    repository = tmp_path_factory.mktemp("modeld")
    write_model(repository, "pair", 'backend: "identity"\n' + CONFIG)
    s = Server(repository, "--compat=triton", "--http-address=127.0.0.1", "--metrics-address=127.0.0.1")
    yield s
    assert s.stop() == 0, s.log()


X = {"name": "INPUT0", "datatype": "FP32", "shape": [1, 3], "data": [1.5, -2, 1e-7]}
Y = {"name": "INPUT1", "datatype": "INT32", "shape": [1, 2], "data": [7, -8]}
INFER = "/v2/models/pair/infer"
SAME = [
    ("POST", INFER, {"inputs": [X, Y]}, None),
    ("POST", INFER, {"id": "abc", "inputs": [X, Y], "outputs": [{"name": "OUTPUT1"}]}, None),
    ("POST", INFER, {"inputs": [{**X, "shape": [2, 2], "data": [[1, 2], [3, 4]]}, {**Y, "shape": [2, 2], "data": [1, 2, 3, 4]}]}, None),
    ("POST", INFER, {"inputs": [X, Y], "outputs": [{"name": "OUTPUT0", "parameters": {"classification": 2}}]}, None),
    ("GET", "/v2/models/pair/ready", None, None),
    ("GET", "/v2/health/live", None, None),
    ("GET", "/v2/health/ready", None, None),
]
SAME_ERROR = [
    ("POST", "/v2/models/nope/infer", {"inputs": [X]}, None),
    ("POST", "/v2/models/pair/versions/9/infer", {"inputs": [X]}, None),
    ("POST", INFER, {"inputs": [X]}, None),
    ("POST", INFER, {"inputs": [X, Y, {**X, "name": "Z"}]}, None),
    ("POST", INFER, {"inputs": [{**X, "datatype": "INT32", "data": [1, 2, 3]}, Y]}, None),
    ("POST", INFER, {"inputs": [X, {**Y, "shape": [1, 3], "data": [1, 2, 3]}]}, None),
    ("POST", INFER, {"inputs": [{**X, "shape": [9, 1], "data": [0] * 9}, {**Y, "shape": [9, 2], "data": [0] * 18}]}, None),
    ("POST", INFER, {"inputs": [X, Y], "outputs": [{"name": "NOPE"}]}, None),
    ("GET", "/v2/models/pair/infer", None, None),
    ("GET", "/v2/nope", None, None),
    ("GET", "/v2/models/nope", None, None),
    ("GET", "/v2/models/pair/versions/x", None, None),
]


@pytest.mark.parametrize("method,path,body,headers", SAME, ids=range(len(SAME)))
def test_same_answer(triton, ours, method, path, body, headers):
    theirs, mine = call(triton, method, path, body, headers), call(ours.port, method, path, body, headers)
    assert mine.status == theirs.status
    if theirs.body:
        def plain(answer):
            answer = json.loads(answer)
            if "outputs" in answer:
                answer["outputs"].sort(key=lambda o: o["name"])
                for output in answer["outputs"]:  # the field prints an FP32 with the digits of a double
                    if output["datatype"] == "FP32":
                        output["data"] = struct.pack(f"<{len(output['data'])}f", *output["data"])
            return answer
        assert plain(mine.body) == plain(theirs.body)


@pytest.mark.parametrize("method,path,body,headers", SAME_ERROR, ids=range(len(SAME_ERROR)))
def test_same_error(triton, ours, method, path, body, headers):
    theirs, mine = call(triton, method, path, body, headers), call(ours.port, method, path, body, headers)
    assert mine.status == theirs.status, (mine, theirs)
    # The input count sentence lists names in an order of its own; all others are compared to the letter.
    a, b = mine.json()["error"], theirs.json()["error"]
    assert a == b or re.sub(r"[\[\]',A-Z0-9]", "", a) == re.sub(r"[\[\]',A-Z0-9]", "", b), (a, b)


def test_metadata_has_the_same_form(triton, ours):
    a, b = call(ours.port, "GET", "/v2/models/pair").json(), call(triton, "GET", "/v2/models/pair").json()
    assert {**a, "platform": 0} == {**b, "platform": 0}
    a, b = call(ours.port, "GET", "/v2/models/pair/config").json(), call(triton, "GET", "/v2/models/pair/config").json()
    for key in ("max_batch_size", "input", "output", "version_policy"):
        assert a[key] == b[key], key


def test_statistics_have_the_same_form(triton, ours):
    for port in (triton, ours.port):
        call(port, "POST", INFER, {"inputs": [X, Y]})
    a, b = (call(p, "GET", "/v2/models/pair/stats").json()["model_stats"][0] for p in (ours.port, triton))
    assert set(b) <= set(a)
    assert set(b["inference_stats"]) == set(a["inference_stats"])
    assert set(b["batch_stats"][0]) == set(a["batch_stats"][0])


def test_perf_analyzer(ours):
    r = subprocess.run([str(PEERS / "bin/perf_analyzer"), "-m", "pair", "-u", f"127.0.0.1:{ours.port}", "--shape", "INPUT0:4",
                        "-p", "1000", "-s", "90", "-r", "3", "--concurrency-range", "4"],
                       env={**os.environ, "LD_LIBRARY_PATH": str(PEERS / "lib")}, capture_output=True, text=True, timeout=120)
    assert r.returncode == 0, r.stdout + r.stderr
    throughput = float(re.search(r"throughput: ([\d.]+) infer/sec", r.stdout).group(1))
    assert throughput > 100, r.stdout
