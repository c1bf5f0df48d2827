"""Backends that misbehave: a clear error, nothing lost; and those that die: a last line that says why."""
import json, os, resource, signal, threading, time

import pytest
from conftest import BUILD, SANITIZED, Server, read_response, write_model

X = [{"name": "x", "datatype": "FP32", "shape": [4], "data": [1, 2, 3, 4]}]
BACKENDS = f"--backend-directory={BUILD}/tests/backends"

RUNS = {  # fault of one execution: words of the answer; none: the right answer all the same
    "none": None, "no_release": None, "finish_twice": None, "respond_afterwards": None,
    "silent": "without finishing", "no_response": "without a response", "no_outputs": "",
    "respond_twice": "second response", "wrong_type": "has type INT32, expected FP32",
    "own_wrong_type": "has type INT32, expected FP32", "unknown_type": "type", "wrong_bytes": "15 bytes",
    "negative_shape": "impossible shape", "huge_shape": "'y'", "huge_rank": "'y'", "no_shape": "'y'",
    "no_data": "'y'", "no_name": "without a name", "unknown_name": "'z'", "unknown_memory": "memory kind 99",
    "outside_input": "inside an input", "outside_buffer": "inside its buffer", "no_buffer": "inside its buffer",
    "endless_copy": "bytes are in flight", "no_list": "without the list", "huge_count": "4294967295 outputs",
    "small_stride": "without the list", "no_size": "without size", "unknown_code": "code 999",
    "negative_code": "without saying why", "long_text": "aaaaaaaa", "garbage_text": "%s%n", "reschedule": "rescheduled",
}
LOADS = {
    "load_error": "without saying why", "load_error_text": "eeee", "load_error_code": "code 4711",
    "info_none": "does not describe", "info_no_list": "list", "info_huge_count": "outputs", "info_stride": "list",
    "info_no_name": "no name", "info_type": "unknown type 77", "info_rank": "rank 1000", "info_no_shape": "no shape",
    "info_dimension": "-7", "instance_error": "instance 0",
}


def faulty(root, *faults):
    for fault in faults:
        write_model(root, fault, f'backend: "faulty" parameters {{ key: "fault" value {{ string_value: "{fault}" }} }}')
    return root


@pytest.fixture(scope="module")
def faulty_server(tmp_path_factory):
    s = Server(faulty(tmp_path_factory.mktemp("faulty"), *RUNS, *LOADS), BACKENDS)
    yield s
    assert s.process.poll() is None, f"the server died: {s.log()[-4000:]}"
    assert s.stop() == 0, s.log()[-4000:]


@pytest.mark.parametrize("fault", RUNS)
def test_a_fault_of_an_execution_is_an_error_of_its_request(faulty_server, fault):
    for _ in range(3):
        r = faulty_server.infer(fault, X, id=f"id-{fault}")
        if RUNS[fault] is None:
            assert r.status == 200 and r.json()["outputs"][0]["data"] == [1, 2, 3, 4], r
        elif fault == "no_outputs":
            assert r.status == 200 and r.json()["outputs"] == [], r
        else:
            assert r.status in (400, 500, 501, 503), r
            assert RUNS[fault] in r.json()["error"], r
        assert faulty_server.infer("none", X).json()["outputs"][0]["data"] == [1, 2, 3, 4]


def test_a_dead_handle_is_logged_with_its_model(faulty_server):
    for fault, call in (("finish_twice", "finish"), ("respond_afterwards", "respond")):
        faulty_server.infer(fault, X, id="r1")
        faulty_server.wait_for(f"[model {fault} version 1 request r1] the backend calls {call} for a request that is "
                               "finished")


@pytest.mark.parametrize("fault", LOADS)
def test_a_fault_of_a_load_is_an_error_of_its_model(faulty_server, fault):
    state, reason = faulty_server.index()[(fault, "1")]
    assert state == "UNAVAILABLE" and LOADS[fault] in reason
    assert reason in faulty_server.log()


def no_core():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


DEATHS = {"run_segv": signal.SIGSEGV, "run_abort": signal.SIGABRT, "run_overflow": signal.SIGSEGV,
          "run_throw": signal.SIGABRT, "run_thread": signal.SIGSEGV}


@pytest.mark.skipif(SANITIZED, reason="a sanitizer takes the signals")
@pytest.mark.parametrize("form", ["default", "json"])
@pytest.mark.parametrize("fault", DEATHS)
def test_a_crash_names_model_version_and_request(start, tmp_path, fault, form):
    log = tmp_path / "log"
    s = start(faulty(tmp_path / "models", fault), BACKENDS, f"--log-format={form}", f"--log-file={log}")
    body = json.dumps({"id": "request-42", "inputs": X}).encode()
    with s.connect() as c:
        c.sendall(b"POST /v2/models/%s/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (fault.encode(), len(body))
                  + body)
        assert c.recv(1) == b""
    assert s.process.wait(10) == -DEATHS[fault]
    last = log.read_text().splitlines()[-2 if fault == "run_thread" else -1:]
    assert all(line in s.log() for line in last)  # on standard error too
    if form == "json":
        last = [json.loads(line) for line in last]
        assert (last[-1]["model"], last[-1]["version"], last[-1]["request_id"]) == (fault, 1, "request-42")
        assert last[0]["level"] == "error" and f"({DEATHS[fault].name})" in last[0]["message"]
    else:
        assert f"[model {fault} version 1 request request-42]" in last[-1] and f"({DEATHS[fault].name})" in last[0]


@pytest.mark.skipif(SANITIZED, reason="a sanitizer takes the signals")
@pytest.mark.parametrize("fault", ["load_segv", "load_throw"])
def test_a_crash_while_loading_names_the_model(start, tmp_path, fault):
    s = start(faulty(tmp_path, fault), BACKENDS, wait=False)
    assert s.process.wait(10) in (-signal.SIGSEGV, -signal.SIGABRT)
    assert f"[model {fault} version 1] fatal signal" in s.log()


def test_an_execution_that_never_ends(start, tmp_path):
    """Others are served; the end comes when its time is over, and says so."""
    s = start(faulty(tmp_path, "hang", "none"), BACKENDS, "--exit-timeout-secs=1", "--executor-threads=2")
    with s.connect() as c:
        body = json.dumps({"inputs": X}).encode()
        c.sendall(b"POST /v2/models/hang/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        time.sleep(0.1)
        for _ in range(20):
            assert s.infer("none", X).status == 200
        begin = time.time()
        assert s.stop() == 1
    assert time.time() - begin < 5 and "--exit-timeout-secs is over" in s.log()
    assert "model 'hang' version 1: an execution has not ended" in s.log()
