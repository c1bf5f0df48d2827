"""The defaults that differ with --compat triton, by what the server does."""
import os, pathlib

import pytest
from conftest import identity_config, write_model

COLUMNS = {"ours": (), "triton": ("--compat=triton",)}
LOOPBACK = ("--http-address=127.0.0.1", "--metrics-address=127.0.0.1")
X = [{"name": "INPUT0", "datatype": "FP32", "shape": [1], "data": [1]}]


@pytest.fixture(params=COLUMNS)
def column(request):
    return request.param


@pytest.fixture
def repository(tmp_path):
    """One model that is in order, one that is not."""
    write_model(tmp_path, "good", identity_config())
    write_model(tmp_path, "bad", "nonsense: 1")
    return tmp_path


def listening_on(server, port):
    """Local addresses of the sockets that listen on a port, as the kernel prints them."""
    lines = pathlib.Path(f"/proc/{server.process.pid}/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    return {local.split(":")[0] for _, local, _, state, *_ in fields
            if state == "0A" and int(local.split(":")[1], 16) == port}


def test_exit_on_error(start, repository, column):
    s = start(repository, *COLUMNS[column], *LOOPBACK, wait=column == "ours")
    if column == "ours":
        assert s.infer("good", X).status == 200
    else:
        assert s.process.wait(20) == 1 and "1 of 2 models are unavailable: ending" in s.log()


def test_strict_readiness(start, repository, column):
    s = start(repository, *COLUMNS[column], *LOOPBACK, "--exit-on-error=false", ready="/v2/models/good/ready")
    r = s.get("/v2/health/ready")
    assert (r.status, r.body) == ((200, b'{"ready":true}') if column == "ours" else (400, b""))
    assert s.infer("good", X).status == 200
    r = s.get("/v2/health/live")
    assert (r.status, r.body) == (200, b'{"live":true}' if column == "ours" else b"")


def test_not_ready_status(start, repository, column):
    s = start(repository, *COLUMNS[column], *LOOPBACK, "--exit-on-error=false", "--strict-readiness",
              ready="/v2/models/good/ready")
    status = 503 if column == "ours" else 400
    r = s.get("/v2/health/ready")
    assert (r.status, r.body) == (status, b"")
    r = s.get("/v2/models/bad/ready")
    assert r.status in (status, 404) and r.json()["error"]


def test_addresses(start, tmp_path, column):
    everywhere, loopback = {"00000000"}, {"0100007F"}
    marked = any(os.path.exists(mark) for mark in ("/.dockerenv", "/run/.containerenv"))
    in_container = marked or {"KUBERNETES_SERVICE_HOST", "container"} & set(os.environ)
    s = start(tmp_path, *COLUMNS[column])
    expected = everywhere if column == "triton" or in_container else loopback
    assert listening_on(s, s.port) == listening_on(s, s.metrics_port) == expected
    s = start(tmp_path, *COLUMNS[column], env={"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert listening_on(s, s.port) == everywhere
    s = start(tmp_path, *COLUMNS[column], "--http-address=127.0.0.1")
    assert listening_on(s, s.port) == listening_on(s, s.metrics_port) == loopback


def test_gpu_fallback(start, tmp_path, column):
    write_model(tmp_path, "m", identity_config(extra="instance_group { kind: KIND_GPU }"))
    s = start(tmp_path, *COLUMNS[column], *LOOPBACK, "--exit-on-error=false", ready="/v2/health/live")
    if column == "ours":
        s.wait_ready()
        assert s.infer("m", X).status == 200
    else:
        assert s.infer("m", X).status != 200 and "this server has none; use KIND_CPU" in s.log()


@pytest.mark.skipif("MODELD_TEST_MODELS" not in os.environ, reason="MODELD_TEST_MODELS names no folder of models")
@pytest.mark.parametrize("model", ["linear", "identity_fp32", "scalar"])
def test_max_batch_size_without_configuration(start, tmp_path, column, model):
    source = pathlib.Path(os.environ["MODELD_TEST_MODELS"]) / model
    s = start(source, *COLUMNS[column], *LOOPBACK)
    config = s.get(f"/v2/models/{model}/config").json()
    tensors = s.get(f"/v2/models/{model}").json()["inputs"]
    is_open = all(tensor["shape"] and tensor["shape"][0] == -1 for tensor in tensors)
    assert config["max_batch_size"] == (4 if column == "triton" and is_open else 0)
    dims = [tensor["dims"] for tensor in config["input"]]
    assert dims == [t["shape"][1 if config["max_batch_size"] else 0:] for t in tensors]


def test_names(start, tmp_path, column):
    s = start(tmp_path, *COLUMNS[column], *LOOPBACK)
    assert s.get("/v2").json()["name"] == ("modeld" if column == "ours" else "triton")
