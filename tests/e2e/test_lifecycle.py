"""Start, options, drain, shutdown, idleness."""
import json, math, os, pathlib, re, signal, socket, subprocess, threading, time

import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException
from conftest import BUILD, MODELS, ROOT, Server, free_port, identity_config, read_response, write_model

SLOW = {"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1], "data": [1]}]}


def run(*flags, env=None):
    return subprocess.run([str(BUILD / "modeld"), *flags], capture_output=True, text=True, timeout=30, env={**os.environ, **(env or {})})


def test_help_and_version():
    r = run("--help")
    assert r.returncode == 0
    for flag in ("--model-repository", "--http-port", "--exit-timeout-secs", "--compat", "--inflight-bytes"):
        assert flag in r.stdout
    assert run("--version").returncode == 0


def test_schema_of_the_config_file():
    schema = json.loads(run("--help-schema").stdout)
    options, definitions = schema["properties"], schema["$defs"]
    listed = set(re.findall(r"^  --(\S+)", run("--help").stdout, re.MULTILINE))
    assert set(options) - {"models"} < listed and {"http-port", "model-repository", "inflight-bytes"} < set(options)
    assert not {"help", "config", "repoagent-directory"} & set(options)
    assert options["http-port"] == {"type": "integer", "minimum": 0, "maximum": 65535, "default": 8000,
                                    "description": options["http-port"]["description"]}
    assert options["compat"]["enum"] == ["none", "triton"]
    references = re.findall(r'"\$ref":"#/\$defs/(\d+)"', run("--help-schema").stdout)
    assert set(references) == set(definitions) and len(definitions) > 35
    model = definitions["0"]["properties"]
    assert model["input"]["type"] == "array" and model["metric_tags"]["additionalProperties"] == {"type": "string"}
    tensor = definitions[model["input"]["items"]["$ref"].rsplit("/", 1)[1]]["properties"]
    assert "TYPE_FP32" in tensor["data_type"]["enum"] and 11 in tensor["data_type"]["enum"]


def test_unknown_flag_names_the_nearest():
    r = run("--model-repositry=/x")
    assert r.returncode != 0 and "--model-repository" in r.stderr + r.stdout


def test_all_errors_at_once():
    r = run("--http-port=99999", "--exit-timeout-secs=x", "--nonsense")
    text = r.stderr + r.stdout
    assert r.returncode != 0
    for part in ("http-port", "exit-timeout-secs", "nonsense"):
        assert part in text


def test_missing_repository():
    r = run("--model-repository=/nonexistent/models", f"--http-port={free_port()}", f"--grpc-port={free_port()}",
            f"--metrics-port={free_port()}")
    assert r.returncode != 0 and "/nonexistent/models" in r.stderr + r.stdout


def test_port_in_use(server, repository):
    r = run(f"--model-repository={repository}", f"--http-port={server.port}", f"--grpc-port={free_port()}",
            f"--metrics-port={free_port()}")
    assert r.returncode != 0 and str(server.port) in r.stderr + r.stdout


def test_check_config(tmp_path):
    write_model(tmp_path, "good", identity_config(extra="dynamic_batching { }"))
    write_model(tmp_path, "bad", 'backend: "identity"\nmax_batchsize: 4\ninput { name: 3 }\n')
    r = run("--check-config", f"--model-repository={tmp_path}")
    text = r.stderr + r.stdout
    assert r.returncode != 0
    assert "config.pbtxt:2" in text and "max_batch_size" in text and "config.pbtxt:3" in text
    assert "dynamic_batching" in text
    (tmp_path / "bad" / "config.pbtxt").write_text('backend: "identity"\n')
    assert run("--check-config", f"--model-repository={tmp_path}").returncode == 0


def test_environment_and_precedence(start, repository):
    s = start(repository, "--log-verbose=0", env={"MODELD_ID": "from-environment"})
    assert s.get("/v2").json()["name"] == "from-environment"
    s = start(repository, "--id=from-flag", env={"MODELD_ID": "from-environment"})
    assert s.get("/v2").json()["name"] == "from-flag"


def test_compat_triton_defaults(start, repository):
    s = start(repository, "--compat=triton", "--http-address=127.0.0.1", "--metrics-address=127.0.0.1")
    assert s.get("/v2").json()["name"] == "triton"


def test_start_is_quick_and_small(start, tmp_path):
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        s = start(tmp_path)
        times.append(time.perf_counter() - begin)
        rss = s.status("VmRSS")
        assert s.stop() == 0
    assert min(times) < 0.5  # the benchmark holds the real bound; this catches seconds
    if "asan" not in str(BUILD) and "tsan" not in str(BUILD):
        assert rss < 15 * 1024, f"{rss} KiB"


RELEASE = ROOT / "build/release/modeld"


@pytest.mark.skipif(not RELEASE.is_file(), reason="the release build is not there")
def test_release_build_starts_within_50_ms_and_15_mb(start, tmp_path):
    times = []
    for _ in range(9):
        begin = time.perf_counter()
        s = start(tmp_path, program=RELEASE)
        times.append(time.perf_counter() - begin)
        rss = s.status("VmRSS")
        assert s.stop() == 0
    assert min(times) < 0.05, times
    assert rss < 15 * 1000, f"{rss} KiB"


def wake_ups(pid):
    """{thread: how often it slept} of a process."""
    counts = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                counts[(task / "comm").read_text().strip(), task.name] = int(line.split()[1])
    return counts


@pytest.mark.skipif("tsan" in str(BUILD), reason="the thread sanitizer's own thread wakes up periodically")
@pytest.mark.parametrize("before", ["nothing", "spinning", "executors", "engine", "many connections"])
def test_no_thread_wakes_up_when_idle(start, repository, before):
    s = start(MODELS if before == "engine" else repository, "--spin-us=50", "--engine-threads=2", "--executor-threads=2")
    if before == "engine":
        for _ in range(5):
            s.infer("heavy", [{"name": "x", "datatype": "FP32", "shape": [8, 2048], "data": [1] * 8 * 2048}])
    elif before == "executors":
        s.infer("slow", SLOW["inputs"])
    elif before != "nothing":
        body = json.dumps(SLOW).encode()
        text = b"POST /v2/models/identity_fp32/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        connections = [s.connect() for _ in range(1 if before == "spinning" else 50)]
        streams = [c.makefile("rb") for c in connections]
        for _ in range(300 if before == "spinning" else 10):
            for c in connections:
                c.sendall(text)
            assert all(read_response(f).status == 200 for f in streams)
    time.sleep(0.5)
    first = wake_ups(s.process.pid)
    time.sleep(1.5)
    second = wake_ups(s.process.pid)
    assert second.keys() == first.keys()
    assert {name: second[name] - first[name] for name in first if second[name] != first[name]} == {}


def test_sigterm_finishes_requests_in_flight(start, repository):
    s = start(repository)
    with s.connect() as c:
        body = json.dumps(SLOW).encode()
        c.sendall(b"POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        time.sleep(0.1)
        s.process.send_signal(signal.SIGTERM)
        r = read_response(c.makefile("rb"))
        assert r.status == 200 and r.headers["connection"] == "close"
    assert s.process.wait(10) == 0


def test_drain_delay_goes_on_accepting(start, repository):
    s = start(repository, "--drain-delay-secs=1")
    s.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert s.get("/v2/health/ready").status == 503
    assert s.get("/v2/health/live").status == 200
    assert s.infer("identity_fp32", SLOW["inputs"]).status == 200
    assert s.process.wait(10) == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_drain_endpoint_ends_as_sigterm_does(start, repository, method):
    s = start(repository, "--drain-delay-secs=1")
    with s.connect() as kept:
        stream = kept.makefile("rb")
        begin = time.time()
        assert s.manage(method, "/v2/drain", b"" if method == "POST" else None).status == 200
        r = s.get("/v2/health/ready")
        assert r.status == 503 and r.json() == {"error": "Server exiting"}
        kept.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        r = read_response(stream)
        assert r.status == 200 and r.headers.get("connection") != "close"  # the delay is for new decisions elsewhere
        assert s.infer("identity_fp32", SLOW["inputs"]).status == 200
        assert stream.read() == b""  # an idle connection ends with the delay
        assert 0.9 < time.time() - begin < 5
    assert s.process.wait(10) == 0
    assert "/v2/drain asks to end" in s.log() and "ended: every request was answered" in s.log()


def test_connections_are_told_after_the_delay(start, repository):
    s = start(repository, "--drain-delay-secs=1")
    body = json.dumps(SLOW).encode()
    head = b"POST /v2/models/identity_fp32/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    with s.connect() as c:
        c.sendall(head + body[:10])
        s.process.send_signal(signal.SIGTERM)
        time.sleep(1.3)
        with pytest.raises(ConnectionRefusedError):
            s.connect()
        c.sendall(body[10:])
        r = read_response(c.makefile("rb"))
        assert r.status == 200 and r.headers["connection"] == "close"
    assert s.process.wait(10) == 0


def test_sigterm_after_the_drain_endpoint_is_the_first_signal(start, repository):
    """As after a preStop hook."""
    s = start(repository, "--drain-delay-secs=1")
    assert s.manage("POST", "/v2/drain", b"").status == 200
    s.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert s.infer("identity_fp32", SLOW["inputs"]).status == 200
    assert s.process.wait(10) == 0


@pytest.mark.parametrize("drain", [True, False])
def test_second_signal_ends_now(start, repository, drain):
    s = start(repository, "--drain-delay-secs=30")
    if drain:
        assert s.manage("POST", "/v2/drain", b"").status == 200
    for _ in range(2):
        s.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    assert s.process.wait(3) == 1 and "second signal: ending now" in s.log()


def test_exit_timeout(start, tmp_path):
    write_model(tmp_path, "stuck", identity_config(extra='parameters { key: "execute_delay_ms" value { string_value: "60000" } }'))
    s = start(tmp_path, "--exit-timeout-secs=1")
    with s.connect() as c:
        body = json.dumps(SLOW).encode()
        c.sendall(b"POST /v2/models/stuck/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        time.sleep(0.1)
        begin = time.time()
        s.process.send_signal(signal.SIGTERM)
        s.process.wait(8)
        assert time.time() - begin < 6


def loads_for(root, seconds):
    return write_model(root, "late", identity_config(
        extra=f'parameters {{ key: "creation_delay_sec" value {{ string_value: "{seconds}" }} }}'))


def test_answers_while_models_load(start, repository, tmp_path):
    loads_for(tmp_path, 4)
    s = start([repository, tmp_path], "--model-load-thread-count=2", wait=False)
    s.wait_ready("/v2/health/live")
    assert s.get("/v2/health/ready").status == 503
    assert s.get("/v2/models/late/ready").status != 200
    s.wait_ready("/v2/models/identity_fp32/ready")
    assert s.infer("identity_fp32", SLOW["inputs"]).status == 200
    s.wait_ready()
    assert "'late' version 1 for 3 s" in s.log()
    assert s.infer("late", SLOW["inputs"]).status == 200


def test_sigterm_while_a_model_loads(start, tmp_path):
    loads_for(tmp_path, 60)
    s = start(tmp_path, wait=False)
    s.wait_ready("/v2/health/live")
    assert s.stop(timeout=20) == 0 and "ended before the models were loaded" in s.log()


def test_kill_and_restart(start, repository):
    s = start(repository)
    s.process.kill()
    s.process.wait()
    assert start(repository).infer("identity_fp32", SLOW["inputs"]).status == 200


def test_json_log_and_access_log(start, repository):
    s = start(repository, "--log-format=json", "--access-log=true")
    s.infer("identity_fp32", SLOW["inputs"], id="req-77")
    s.infer("nope", SLOW["inputs"])
    s.get("/v2/models/batched/versions/3/config")
    assert s.stop() == 0
    lines = [json.loads(line) for line in s.log().splitlines()]
    assert all({"time", "level", "message"} <= set(line) for line in lines)
    access = [line for line in lines if line["message"].startswith("access ")]
    known = [[line.get(key) for key in ("model", "version", "request_id")] for line in access[-3:]]
    assert known == [["identity_fp32", 1, "req-77"], [None, None, None], ["batched", 3, None]]
    assert re.fullmatch(r"access 127\.0\.0\.1:\d+ POST /v2/models/identity_fp32/infer 200 \d+ bytes \d+ us", access[-3]["message"])
    assert re.search(r"/v2/models/nope/infer 404 ", access[-2]["message"])


def test_access_log_and_metrics_of_grpc(start, repository):
    s = start(repository, "--access-log")
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{s.grpc_port}") as client:
        assert client.is_server_live()
        with pytest.raises(InferenceServerException):
            client.get_model_metadata("nope")
    s.wait_for("POST /inference.GRPCInferenceService/ServerLive 200 grpc 0 ")
    s.wait_for("POST /inference.GRPCInferenceService/ModelMetadata 200 grpc 5 ")
    metrics = s.metrics()
    assert [metrics[f'modeld_grpc_calls_total{{code="{code}"}}'] for code in ("OK", "NOT_FOUND")] == [1, 1]


def test_text_log_and_access_log(start, repository):
    s = start(repository, "--access-log")
    for i in range(3):
        s.infer("identity_fp32", SLOW["inputs"], id=f"req-{i}\nforged")
    assert s.stop() == 0
    lines = [line for line in s.log().splitlines() if "/infer" in line]
    assert len(lines) == 3
    assert all(f"[model identity_fp32 version 1 request req-{i}\\u000aforged] access " in line for i, line in enumerate(lines))


def test_errors_of_requests_are_logged(start, repository):
    """Those of a sender verbosely, as often as they come; those of the server always."""
    s = start(repository, "--log-verbose=1")
    bad = [{**SLOW["inputs"][0], "datatype": "INT8"}]
    assert s.infer("identity_fp32", bad, id="wrong").status == 400
    assert s.infer("nope", bad).status == 404
    log = s.log()
    assert "[model identity_fp32 version 1 request wrong] POST /v2/models/identity_fp32/infer: " in log
    assert "POST /v2/models/nope/infer: Request for unknown model: 'nope' is not found" in log
    s = start(repository)
    assert s.infer("identity_fp32", bad).status == 400
    assert "/infer" not in s.log()


@pytest.mark.skipif("MODELD_TEST_MODELS" not in os.environ, reason="MODELD_TEST_MODELS names no folder of models")
def test_errors_of_the_engine_are_logged(start):
    s = start(pathlib.Path(os.environ["MODELD_TEST_MODELS"]) / "throws")
    tensors = [{"name": t["name"], "datatype": t["datatype"], "shape": [max(n, 1) for n in t["shape"]]}
               for t in s.get("/v2/models/throws").json()["inputs"]]
    inputs = [{**t, "data": [1] * math.prod(t["shape"])} for t in tensors]
    r = s.infer("throws", inputs, id="boom")
    assert r.status == 500
    assert "[model throws version 1 request boom] POST /v2/models/throws/infer: " + r.json()["error"][:40] in s.log()


def test_log_file_and_levels(start, repository, tmp_path):
    log = tmp_path / "server.log"
    s = start(repository, f"--log-file={log}", "--log-info=false")
    assert log.read_text() == "" and s.log() == ""
    assert s.manage("POST", "/v2/logging", {"log_info": True}).json()["log_info"] is True
    s.process.send_signal(signal.SIGTERM)
    assert s.process.wait(10) == 0
    assert "asks to end" in log.read_text() and s.log() == ""


def test_log_file_is_opened_again(start, repository, tmp_path):
    log = tmp_path / "server.log"
    s = start(repository, f"--log-file={log}")
    log.rename(tmp_path / "old.log")
    s.process.send_signal(signal.SIGHUP)
    deadline = time.time() + 5
    while not log.exists():
        assert time.time() < deadline
        time.sleep(0.01)
    assert s.stop() == 0
    assert "asks to end" in log.read_text() and "ready:" in (tmp_path / "old.log").read_text()


def test_cpu_plan_is_logged(start, tmp_path):
    pattern = r"modeld [\d.]+: (\d+) CPUs, (\d+) loops, (\d+) executors, (\d+) engine threads"
    cpus = len(os.sched_getaffinity(0))
    assert int(re.search(pattern, start(tmp_path).log()).group(1)) <= cpus
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})  # as a cpuset does
    try:
        s = start(tmp_path)
    finally:
        os.sched_setaffinity(0, allowed)
    assert re.search(pattern, s.log()).groups() == ("1", "1", "1", "1")
    s = start(tmp_path, "--cpu-count=6", "--http-thread-count=3", "--executor-threads=5", "--engine-threads=4")
    assert re.search(pattern, s.log()).groups() == ("6", "3", "5", "4")
    threads = len(list(pathlib.Path(f"/proc/{s.process.pid}/task").iterdir()))
    assert threads == 1 + 3 + 5 or "tsan" in str(BUILD)


@pytest.mark.skipif("MODELD_TEST_MODELS" not in os.environ, reason="MODELD_TEST_MODELS names no folder of models")
def test_engine_reports_to_nobody(start, tmp_path):
    """ONNX Runtime would keep a database in the home folder and send what it has gathered."""
    home = tmp_path / "home"
    home.mkdir()
    s = start(pathlib.Path(os.environ["MODELD_TEST_MODELS"]) / "identity_fp32", env={"HOME": str(home)})
    assert s.get("/v2/models/identity_fp32/ready").status == 200
    assert list(home.rglob("*")) == []
