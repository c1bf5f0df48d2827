"""The metrics page."""
import concurrent.futures, json, shutil, subprocess, time, zlib

import pytest
from conftest import identity_config, until, write_model

ONE = [{"name": "INPUT0", "datatype": "FP32", "shape": [1], "data": [1]}]
SLOW = json.dumps({"inputs": ONE}).encode()


def test_counters_follow_requests(server):
    key = 'nv_inference_request_success{model="identity_fp32",version="1"}'
    before = server.metrics().get(key, 0)
    for _ in range(5):
        server.infer("identity_fp32", ONE)
    server.infer("identity_fp32", [])
    after = server.metrics()
    assert after[key] - before == 5
    assert after['nv_inference_count{model="identity_fp32",version="1"}'] >= 5
    failures = [v for k, v in after.items() if k.startswith("nv_inference_request_failure")
                and "identity_fp32" in k]
    assert sum(failures) >= 1
    for name in ("nv_inference_request_duration_us", "nv_inference_queue_duration_us",
                 "nv_inference_compute_infer_duration_us", "nv_inference_pending_request_count",
                 "nv_inference_exec_count"):
        assert f'{name}{{model="identity_fp32",version="1"}}' in after, name
    assert any(k.startswith("modeld_request_duration_seconds_bucket") and "identity_fp32" in k for k in after)
    assert any(k.startswith("modeld_build_info") for k in after)
    assert after["process_resident_memory_bytes"] > 0


def test_histograms_are_cumulative(server):
    server.infer("identity_fp32", ONE)
    buckets = [(k, v) for k, v in server.metrics().items()
               if k.startswith("modeld_request_duration_seconds_bucket") and 'model="identity_fp32"' in k
               and 'phase="total"' in k]
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


@pytest.mark.skipif(not shutil.which("promtool"),
                    reason="promtool is not installed (Debian package prometheus)")
def test_promtool_finds_nothing_in_our_names(server):
    server.infer("identity_fp32", ONE)
    page = server.request("GET", "/metrics", port=server.metrics_port).body
    r = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True)
    assert r.returncode != 1, r.stderr
    complaints = [l for l in (r.stdout + r.stderr).decode().splitlines() if l.startswith(("modeld_",
        "process_"))]
    assert complaints == []


def get_page(server, method="GET", path="/metrics", headers=None):
    return server.request(method, path, headers=headers, port=server.metrics_port)


def test_other_paths_and_methods(server):
    assert get_page(server, path="/").status == 404 and get_page(server, "POST").status == 405
    assert server.get("/metrics").status == 404, "the inference port has no metrics"
    r = get_page(server, "HEAD")
    assert r.status == 200 and r.headers["content-type"].startswith("text/plain") and not r.body


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_page_is_compressed_for_who_asks(start, tmp_path, coding):
    for i in range(300):
        write_model(tmp_path, f"model{i}", identity_config())
    s = start(tmp_path)
    plain, packed = get_page(s), get_page(s, headers={"Accept-Encoding": coding})
    assert "content-encoding" not in plain.headers and packed.headers["content-encoding"] == coding
    text = zlib.decompress(packed.body, 47).decode()

    def names(page):
        return [line.split()[0] for line in page.splitlines()]

    assert names(text) == names(plain.body.decode()) and len(packed.body) < len(plain.body) / 5


def value(server, name, **labels):
    """Of the one series with that name and at least those labels."""
    found = [v for k, v in server.metrics().items()
             if k.partition("{")[0] == name and all(f'{label}="{text}"' in k for label,
                 text in labels.items())]
    assert len(found) == 1, (name, labels, found)
    return found[0]


def test_failures_by_reason(server):
    def failures():
        return {reason: value(server, "nv_inference_request_failure", model="slow", reason=reason)
                for reason in ("REJECTED", "CANCELED", "BACKEND", "OTHER")}

    before = failures()
    server.infer("slow", [])
    with server.connect() as s:
        s.sendall(b"POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (
            len(SLOW), SLOW))
        until(lambda: value(server, "modeld_requests_in_flight", model="slow") == 1)
    until(lambda: failures()["CANCELED"] > before["CANCELED"])
    assert failures() == {**before, "OTHER": before["OTHER"] + 1, "CANCELED": before["CANCELED"] + 1}
    assert value(server, "modeld_requests_in_flight", model="slow") == 0


def test_durations_follow_the_work(server):
    names = ("request", "queue", "compute_infer")
    before = [value(server, f"nv_inference_{name}_duration_us", model="slow") for name in names]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:  # the second waits for the one instance
        assert [r.status for r in pool.map(lambda _: server.infer("slow", ONE), range(2))] == [200, 200]
    total, queue, compute = (value(server, f"nv_inference_{name}_duration_us", model="slow") - b for name,
                             b in zip(names, before))
    assert 600_000 <= compute < 6_000_000 and 50_000 <= queue < 3_000_000 and queue + compute <= total


def test_machine_is_measured(server):
    first = server.metrics()
    assert 0 < first["nv_cpu_memory_used_bytes"] < first["nv_cpu_memory_total_bytes"]
    assert 0 <= first["nv_cpu_utilization"] <= 1


def test_settings(start, tmp_path):
    for name in ("a", "b", "c", "d"):
        write_model(tmp_path, name, identity_config())
    s = start(tmp_path, "--metrics-config=max_models=2", "--metrics-config=detail=b",
              "--metrics-config=detail=x*", "--metrics-config=counter_latencies=false",
              "--metrics-config=summary_latencies=true", "--allow-cpu-metrics=false")
    for name in ("a", "b", "c", "d", "d"):
        assert s.infer(name, ONE).status == 200
    assert "--metrics-config summary_latencies=true has no effect" in s.log()
    assert [value(s, "nv_inference_request_success", model=m) for m in ("a", "b", "other")] == [1, 1, 3]
    page = get_page(s).body.decode()
    assert 'model="c"' not in page and "duration_us" not in page and "nv_cpu" not in page
    detailed = {line.split('"')[1] for line in page.splitlines() if line.startswith(
        "modeld_request_duration_seconds_bucket")}
    assert detailed == {"b", "other"}


@pytest.mark.parametrize("setting", ["max_models=x", "nope=1", "counter_latencies=maybe"])
def test_wrong_settings_are_refused(start, tmp_path, setting):
    s = start(tmp_path, f"--metrics-config={setting}", wait=False)
    assert s.process.wait(20) != 0 and "error: --metrics-config" in s.log() and setting.split("=")[0] in s.log()


def test_labels_are_escaped(start, tmp_path):
    text = "".join(f'metric_tags {{ key: "{k}" value: "{v}" }}\n' for k, v in
                   (("a key", 'say \\"a\\\\b\\"\\tnow\\n'), ("a_key", "the same label"),
                    ("plain", "h\u00e4user")))
    write_model(tmp_path, 'odd "name"', identity_config(extra=text))
    s = start(tmp_path)
    assert s.infer("odd%20%22name%22", ONE).status == 200
    page = get_page(s).body.decode()
    assert ('nv_inference_request_success{model="odd \\"name\\"",_a_key="say \\"a\\\\b\\"\tnow\\n",'
            '_plain="h\u00e4user",version="1"} 1'
            in page.splitlines()), page[:3000]
    if shutil.which("promtool"):
        r = subprocess.run(["promtool", "check", "metrics"], input=page.encode(), capture_output=True)
        assert r.returncode != 1, r.stderr


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


def test_what_is_learned_while_warming_up_is_on_the_page(tmp_path, start):
    """Of a model that only waits there is nothing of batches, device time and instances."""
    warmup = ('model_warmup { name: "w" batch_size: 2 inputs { key: "INPUT0" value { data_type: TYPE_FP32 dims: [ 4 ] '
              'zero_data: true } } }')
    write_model(tmp_path, "warm", identity_config(batch=8, dims="4", extra=warmup))
    write_model(tmp_path, "idle", identity_config(batch=8, dims="4"))
    s = start(tmp_path)
    families = ("modeld_execution_seconds", "modeld_device_seconds_total", "modeld_queue_bytes", "modeld_instances",
                "modeld_batch_starts_total")
    page = {name: value for name, value in s.metrics().items() if name.startswith(families)}
    assert page['modeld_execution_seconds{model="warm",version="1",instance="0",batch_size="2",estimate="mean"}'] > 0
    assert all(name.startswith("modeld_execution_seconds{") for name in page)
    assert s.infer("idle", [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]).status == 200
    page = s.metrics()
    assert page['modeld_device_seconds_total{model="idle",version="1"}'] >= 0
    assert page['modeld_instances{model="idle",version="1",state="in_service"}'] >= 1
