"""Traces read back from MLflow, which receives OTLP over HTTP."""
import json, os, pathlib, subprocess, time, urllib.request

import pytest
from field import Server, free_port, write_model

VENV = pathlib.Path(os.environ.get("MODELD_MLFLOW", "/nonexistent"))
pytestmark = pytest.mark.skipif(not (VENV / "bin/mlflow").exists(), reason="MLflow was not fetched")
MODEL = 'backend: "identity" input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] } output { name: "x" data_type: TYPE_FP32 dims: [ -1 ] }'


def call(url, body=None):
    headers = {"Content-Type": "application/json"} if body else {}
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


def wait_for(what, seconds=120):
    deadline = time.time() + seconds
    while True:
        try:
            if result := what():
                return result
        except OSError:
            pass
        assert time.time() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    process = subprocess.Popen(
        [VENV / "bin/mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
         "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts",
         "--serve-artifacts"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "PATH": f"{VENV}/bin:{os.environ['PATH']}", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})
    try:
        wait_for(lambda: call(f"http://127.0.0.1:{port}/health"))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def test_trace_is_read_back(mlflow, tmp_path):
    write_model(tmp_path, "one", MODEL)
    server = Server(tmp_path, "--trace-config=level=TIMESTAMPS", "--trace-config=rate=1",
                    "--trace-config=opentelemetry,bsp_schedule_delay=50",
                    env={"OTEL_EXPORTER_OTLP_ENDPOINT": mlflow, "OTEL_SERVICE_NAME": "modeld-test",
                         "OTEL_EXPORTER_OTLP_HEADERS": "x-mlflow-experiment-id=0"})
    try:
        r = server.infer("one", [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}])
        trace = r.headers["traceparent"].split("-")[1]
        search = {"locations": [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}], "max_results": 5}
        found = wait_for(lambda: json.loads(call(f"{mlflow}/api/3.0/mlflow/traces/search", search)).get("traces"))
        assert [t["trace_id"] for t in found] == [f"tr-{trace}"]
        assert found[0]["state"] == "OK" and found[0]["tags"]["service.name"] == "modeld-test"
        assert server.metrics()["modeld_trace_spans_exported_total"] == 5
    finally:
        assert server.stop() == 0
