"""Health, metadata, configuration, statistics, index, logging."""
import json, re

import pytest
from conftest import Server, identity_config, write_model

ONE = [{"name": "INPUT0", "datatype": "FP32", "shape": [1], "data": [1]}]


def test_health(server):
    for path in ("live", "ready"):
        r = server.get(f"/v2/health/{path}")
        assert (r.status, r.json(), r.headers["content-type"]) == (200, {path: True}, "application/json")


def test_server_metadata(server):
    out = server.get("/v2").json()
    assert set(out) == {"name", "version", "extensions"}
    assert {"classification", "binary_tensor_data", "parameters", "statistics", "logging", "model_configuration",
            "trace"} <= set(out["extensions"])
    for later in ("system_shared_memory", "cuda_shared_memory"):
        assert later not in out["extensions"]


def test_model_metadata(server):
    assert server.get("/v2/models/batched").json() == {
        "name": "batched", "versions": ["3"], "platform": "identity",
        "inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "OUTPUT0", "datatype": "FP32", "shape": [-1, 4]}]}
    assert server.get("/v2/models/nope").status == 404
    assert server.get("/v2/models/batched/versions/7").status == 404


def test_model_ready(server):
    assert server.get("/v2/models/batched/ready").status == 200
    assert server.get("/v2/models/batched/versions/3/ready").status == 200
    assert server.get("/v2/models/nope/ready").status == 404


def test_config(server):
    out = server.get("/v2/models/batched/config").json()
    assert out["name"] == "batched" and out["backend"] == "identity" and out["max_batch_size"] == 8
    assert out["input"][0]["name"] == "INPUT0" and out["input"][0]["data_type"] == "TYPE_FP32" and out["input"][0]["dims"] == [4]
    assert out["version_policy"] == {"latest": {"num_versions": 1}}
    assert out["instance_group"][0]["count"] >= 1 and out["instance_group"][0]["kind"] == "KIND_CPU"
    assert server.get("/v2/models/decoupled/config").json()["model_transaction_policy"] == {"decoupled": True}


def test_statistics(server):
    path = "/v2/models/identity_int8/stats"
    before = server.get(path).json()["model_stats"][0]
    for _ in range(3):
        server.infer("identity_int8", [{"name": "INPUT0", "datatype": "INT8", "shape": [1], "data": [1]}])
    server.infer("identity_int8", [])
    after = server.get(path).json()["model_stats"][0]
    assert after["name"] == "identity_int8" and after["version"] == "1"
    assert after["inference_count"] - before["inference_count"] == 3
    assert after["execution_count"] - before["execution_count"] == 3
    stats = after["inference_stats"]
    assert stats["success"]["count"] - before["inference_stats"]["success"]["count"] == 3
    assert stats["success"]["ns"] > 0 and stats["queue"]["count"] == stats["success"]["count"]
    assert stats["fail"]["count"] - before["inference_stats"]["fail"]["count"] == 1
    assert after["last_inference"] > 1.7e12
    assert after["batch_stats"][0]["batch_size"] == 1
    names = [m["name"] for m in server.get("/v2/models/stats").json()["model_stats"]]
    assert "batched" in names and "identity_fp32" in names


def test_repository_index(server):
    out = server.request("POST", "/v2/repository/index", b"").json()
    entry = next(e for e in out if e["name"] == "batched")
    assert entry["version"] == "3" and entry["state"] == "READY"
    ready = server.request("POST", "/v2/repository/index", {"ready": True}).json()
    assert all(e["state"] == "READY" for e in ready)


@pytest.mark.parametrize("method,path", [
    ("POST", "/v2/repository/models/batched/load"), ("POST", "/v2/repository/models/batched/unload"),
    ("POST", "/v2/systemsharedmemory/unregister"), ("POST", "/v2/cudasharedmemory/unregister"),
    ("POST", "/v2/models/batched/generate"), ("POST", "/v2/models/batched/generate_stream")])
def test_what_comes_later_says_so(server, method, path):
    r = server.request(method, path, b"{}" if method == "POST" else None)
    assert r.status == 501 and len(r.json()["error"]) > 20, r


def test_logging(server):
    out = server.get("/v2/logging").json()
    assert out["log_info"] is True and out["log_verbose_level"] == 0
    assert server.request("POST", "/v2/logging", {"log_verbose_level": 3}).json()["log_verbose_level"] == 3
    server.request("POST", "/v2/logging", {"log_verbose_level": 0})
    assert server.request("POST", "/v2/logging", {"log_nonsense": 1}).status == 400
    assert server.request("POST", "/v2/logging", {"log_info": "yes"}).status == 400
    assert server.request("POST", "/v2/logging", {"log_error": False, "log_info": 1}).status == 400
    assert server.get("/v2/logging").json()["log_error"] is True, "a refused request changes nothing"
    assert server.request("POST", "/v2/logging", {"log_error": None}).json()["log_error"] is True
    assert server.request("POST", "/v2/logging", {"log_file": "/tmp/x"}).status == 501
    r = server.request("POST", "/v2/logging", {"log_format": "x"})
    assert r.status == 400 and r.json()["error"] == "invalid argument for --log_format, got: x"


def test_log_format_changes_while_running(start, repository):
    s = start(repository)
    assert s.manage("POST", "/v2/logging", {"log_format": "ISO8601"}).json()["log_format"] == "ISO8601"
    assert s.stop() == 0
    lines = s.log().splitlines()
    assert re.match(r"I\d{4} \d\d:", lines[0]) and re.match(r"\d{4}-\d\d-\d\dT", lines[-1]), lines


@pytest.mark.parametrize("path,status,sentence", [
    ("/v2/models/nope/stats", 400, "requested model 'nope' is not available"),
    ("/v2/models/batched/versions/9/stats", 400,
     "requested model version is not available for model 'batched'"),
    ("/v2/models/nope/ready", 404, "Request for unknown model: 'nope' is not found"),
    ("/v2/models/batched/versions/1/ready", 404,
     "Request for unknown model: 'batched' version 1 is not found"),
    ("/v2/models/batched/versions/99999999999999999999", 400,
     "failed to get model version from specified version string '99999999999999999999' (details: stol), "
     "version should be an integral value > 0")])
def test_sentences_on_unknown_models(server, path, status, sentence):
    r = server.get(path)
    assert (r.status, r.json()["error"]) == (status, sentence)


def test_failed_model(start, tmp_path):
    write_model(tmp_path, "good", identity_config())
    write_model(tmp_path, "bad", 'backend: "identity"\nmax_batchsize: 4\n')
    write_model(tmp_path, "missing_backend", 'backend: "warp_drive"\n')
    s = start(tmp_path)
    index = {e["name"]: e for e in s.request("POST", "/v2/repository/index", b"").json()}
    assert index["good"]["state"] == "READY"
    assert index["bad"]["state"] == "UNAVAILABLE"
    assert "max_batchsize" in index["bad"]["reason"] and "did you mean 'max_batch_size'" in index["bad"]["reason"], index["bad"]
    assert "warp_drive" in index["missing_backend"]["reason"]
    assert s.infer("good", ONE).status == 200
    r = s.get("/v2/models/bad/ready")
    assert (r.status, r.json()["error"]) == (503, "Model version not ready")
    assert "config.pbtxt:2" in s.log()


def test_strict_readiness(start, tmp_path):
    write_model(tmp_path, "good", identity_config())
    write_model(tmp_path, "bad", "nonsense {")
    s = start(tmp_path, "--strict-readiness=true", "--not-ready-status=400", ready="/v2/models/good/ready")
    assert s.get("/v2/health/ready").status == 400
    assert s.infer("good", ONE).status == 200


def test_exit_on_error(tmp_path):
    write_model(tmp_path, "bad", "nonsense {")
    s = Server(tmp_path, "--exit-on-error=true", wait=False)
    assert s.process.wait(20) == 1 and "nonsense" in s.log()


def test_explicit_mode(start, tmp_path):
    for name in ("a", "b", "c"):
        write_model(tmp_path, name, identity_config())
    s = start(tmp_path, "--model-control-mode=explicit", "--load-model=a", "--load-model=c")
    assert s.infer("a", ONE).status == 200 and s.infer("c", ONE).status == 200
    assert s.infer("b", ONE).status in (404, 503)


def test_version_policies(start, tmp_path):
    write_model(tmp_path, "all", identity_config(extra="version_policy { all { } }"), versions=(1, 2, 5))
    write_model(tmp_path, "two", identity_config(extra="version_policy { latest { num_versions: 2 } }"), versions=(1, 2, 5))
    write_model(tmp_path, "some", identity_config(extra="version_policy { specific { versions: [1, 5] } }"), versions=(1, 2, 5))
    s = start(tmp_path)
    versions = lambda name: s.get(f"/v2/models/{name}").json()["versions"]
    assert versions("all") == ["1", "2", "5"] and versions("two") == ["2", "5"] and versions("some") == ["1", "5"]
    assert s.infer("all", ONE, version=2).json()["model_version"] == "2"


def test_a_folder_that_is_a_model(start, tmp_path):
    folder = write_model(tmp_path, "solo", identity_config())
    assert start(folder).infer("solo", ONE).status == 200
    assert start(folder, "--model-name=renamed").infer("renamed", ONE).status == 200


def test_config_file_overlay(start, tmp_path):
    repo = tmp_path / "repo"
    write_model(repo, "resnet_a", identity_config(batch=4, dims="1"))
    (tmp_path / "modeld.yaml").write_text(
        "log-verbose: 0\nmodels:\n  - pattern: \"resnet*\"\n    config:\n      max_batch_size: 16\n")
    s = start(repo, f"--config={tmp_path / 'modeld.yaml'}")
    assert s.get("/v2/models/resnet_a/config").json()["max_batch_size"] == 16
