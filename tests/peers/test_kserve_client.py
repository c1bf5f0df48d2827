"""KServe's Python client, gRPC and REST, in an interpreter of its own (kserve_calls.py)."""
import json, os, pathlib, subprocess

import pytest
from field import DTYPES, Server, TOLERANT, write_repository

PYTHON = pathlib.Path(os.environ.get("MODELD_KSERVE", "/nonexistent")) / "bin/python"
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="KServe's client was not fetched")
ONES = {"OUTPUT0": ["FP32", [1, 3], [1.0] * 3], "OUTPUT1": ["INT32", [1, 2], [1, 1]]}
EXPECTED = {
    "grpc live": True, "grpc ready": True, "grpc model ready": True, "grpc unknown model ready": "NOT_FOUND",
    "grpc pair": {"model": "pair", "id": "a-1", "outputs": ONES}, "grpc wrong shape": "INVALID_ARGUMENT",
    "grpc unknown model": "NOT_FOUND",
    "rest live": True, "rest ready": True, "rest model ready": True, "rest unknown model": 404,
    **{f"{kind} {dtype} {form}": True for dtype in DTYPES for kind, form in
       (("grpc", "raw"), ("grpc", "typed"), ("rest", "binary"), ("rest", "JSON"))
       if dtype != "FP16" or form in ("raw", "binary")},
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Of a server with its own defaults: the field's answers health without the body that this client reads."""
    folder = tmp_path_factory.mktemp("kserve")
    write_repository(folder, "identity")
    server = Server(folder, *TOLERANT)
    try:
        done = subprocess.run([PYTHON, pathlib.Path(__file__).with_name("kserve_calls.py"), str(server.grpc_port),
                               str(server.port)], capture_output=True, text=True, timeout=120)
    finally:
        assert server.stop() == 0, server.log()
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("call", EXPECTED)
def test_call(results, call):
    assert results[call] == EXPECTED[call]
