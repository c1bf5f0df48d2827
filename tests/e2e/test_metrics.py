"""The metrics page."""
import shutil, subprocess

import pytest

from conftest import identity_config, write_model

ONE = [{"name": "INPUT0", "datatype": "FP32", "shape": [1], "data": [1]}]


def test_counters_follow_requests(server):
    key = 'nv_inference_request_success{model="identity_fp32",version="1"}'
    before = server.metrics().get(key, 0)
    for _ in range(5):
        server.infer("identity_fp32", ONE)
    server.infer("identity_fp32", [])
    after = server.metrics()
    assert after[key] - before == 5
    assert after['nv_inference_count{model="identity_fp32",version="1"}'] >= 5
    failures = [v for k, v in after.items() if k.startswith("nv_inference_request_failure") and "identity_fp32" in k]
    assert sum(failures) >= 1
    for name in ("nv_inference_request_duration_us", "nv_inference_queue_duration_us", "nv_inference_compute_infer_duration_us",
                 "nv_inference_pending_request_count", "nv_inference_exec_count"):
        assert f'{name}{{model="identity_fp32",version="1"}}' in after, name
    assert any(k.startswith("modeld_request_duration_seconds_bucket") and "identity_fp32" in k for k in after)
    assert any(k.startswith("modeld_build_info") for k in after)
    assert after["process_resident_memory_bytes"] > 0


def test_histograms_are_cumulative(server):
    server.infer("identity_fp32", ONE)
    buckets = [(k, v) for k, v in server.metrics().items()
               if k.startswith("modeld_request_duration_seconds_bucket") and 'model="identity_fp32"' in k and 'phase="total"' in k]
    assert len(buckets) > 5
    values = [v for _, v in buckets]
    assert values == sorted(values) and 'le="+Inf"' in buckets[-1][0]


def test_histograms_agree_with_the_counters(server):
    for _ in range(3):
        server.infer("identity_fp32", ONE)
    page, labels = server.metrics(), 'model="identity_fp32",version="1"'
    successes = page[f"nv_inference_request_success{{{labels}}}"]
    for phase, us in (("queue", ("queue",)), ("compute", ("compute_input", "compute_infer"))):
        prefix = "modeld_request_duration_seconds"
        assert page[f'{prefix}_count{{{labels},phase="{phase}"}}'] == successes
        expected = sum(page[f"nv_inference_{name}_duration_us{{{labels}}}"] for name in us) / 1e6
        assert abs(page[f'{prefix}_sum{{{labels},phase="{phase}"}}'] - expected) < 3e-6


def test_content_type(server):
    r = server.request("GET", "/metrics", port=server.metrics_port)
    assert r.status == 200 and r.headers["content-type"].startswith("text/plain")


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed (Debian package prometheus)")
def test_promtool_finds_nothing_in_our_names(server):
    server.infer("identity_fp32", ONE)
    page = server.request("GET", "/metrics", port=server.metrics_port).body
    r = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True)
    assert r.returncode != 1, r.stderr
    complaints = [l for l in (r.stdout + r.stderr).decode().splitlines() if l.startswith(("modeld_", "process_"))]
    assert complaints == []


def test_a_thousand_models_are_on_the_page(tmp_path, start):
    for i in range(1000):
        write_model(tmp_path, f"model_{i}", identity_config())
    server = start(tmp_path)
    for i in range(0, 1000, 100):
        assert server.infer(f"model_{i}", ONE).status == 200
    page = server.request("GET", "/metrics", port=server.metrics_port).body.decode()
    successes = [line for line in page.splitlines() if line.startswith("nv_inference_request_success{")]
    assert len(successes) == 1000 and sum(line.endswith("} 1") for line in successes) == 10
    names = [line.split("{")[0].split(" ")[0] for line in page.splitlines() if not line.startswith("#")]
    begun = [name for i, name in enumerate(names) if i == 0 or names[i - 1] != name]
    whole = [name for name in begun if not name.endswith(("_bucket", "_sum", "_count"))]
    assert len(whole) == len(set(whole))  # the samples of a family stand together
    assert names.count("modeld_request_duration_seconds_bucket") == 10 * 3 * 17
