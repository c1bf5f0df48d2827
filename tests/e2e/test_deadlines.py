"""Limits of a request's time over real sockets, with the field's clients and curl: who is late is told at once, also while the
engine goes on with the request, and nothing is left behind."""
import json, random, struct, subprocess, threading, time

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from conftest import BUILD, SANITIZED, Server, identity_config, read_response, until, write_model

Code = grpc.StatusCode
DEAF_SECONDS = 0.7  # what a deaf model takes, whoever asks it to stop
SLOWNESS = 4 if SANITIZED else 1
HEADER = "modeld-timeout-ms"


def is_late(text):
    return "deadline" in text.lower()


def parameter(key, value):
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }} '


def deaf(extra="", count=2):
    return f'backend: "faulty" {parameter("fault", "deaf")} instance_group {{ count: {count} }} {extra}'


FRESH = [f"deaf{i}" for i in range(24)]  # each for one request: then its time is known, and no such deadline taken any more
MODELS = {
    "slow": identity_config(extra=parameter("execute_delay_ms", 300)),
    "fast": identity_config(),
    "fast_x": 'backend: "faulty"',
    "deaf": deaf(),
    **{name: deaf(parameter("modeld_deadline_ms", 150)) for name in FRESH},
    "deaf_timeout": deaf(parameter("modeld_execution_timeout_ms", 150), count=1),
}
FLAGS = [f"--backend-directory={BUILD}/tests/backends", "--executor-threads=8"]


def write_models(root):
    for name, config in MODELS.items():
        write_model(root, name, config)
    return root


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    s = Server(write_models(tmp_path_factory.mktemp("deadlines")), *FLAGS)
    yield s
    assert s.process.poll() is None, f"the server died: {s.log()[-4000:]}"
    assert s.stop() == 0, s.log()[-4000:]


@pytest.fixture(scope="module")
def fresh():
    """The name of a deaf model that has not run yet; it has a deadline of its own."""
    names = iter(FRESH)
    return lambda: next(names)


@pytest.fixture
def stub(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def tensor_name(model):
    return "x" if model.startswith("deaf") else "INPUT0"


def inputs_of(model, count=2):
    return [{"name": tensor_name(model), "datatype": "FP32", "shape": [count], "data": [1.5] * count}]


def message_of(model, id=""):
    request = service_pb2.ModelInferRequest(model_name=model, id=id)
    request.inputs.add(name=tensor_name(model), datatype="FP32", shape=[2])
    request.raw_input_contents.append(struct.pack("<2f", 1.5, -2))
    return request


def is_prompt(begin):
    """Long before a deaf model is done."""
    return time.monotonic() - begin < (DEAF_SECONDS - 0.15) * (1 if not SANITIZED else 3)


def failures(server, model):
    return {reason: server.metrics()[f'nv_inference_request_failure{{model="{model}",version="1",reason="{reason}"}}']
            for reason in ("REJECTED", "CANCELED", "BACKEND", "OTHER")}


# --- what is asked

@pytest.mark.parametrize("model", ["fast", "slow", "deaf"])
def test_zero_is_too_late(server, stub, model):
    begin = time.monotonic()
    r = server.infer(model, inputs_of(model), headers={HEADER: "0"})
    assert r.status == 504 and is_late(r.json()["error"]) and "retry-after" not in r.headers
    with pytest.raises(grpc.RpcError) as e:
        stub.ModelInfer(message_of(model), metadata=[(HEADER, "0")])
    assert e.value.code() == Code.DEADLINE_EXCEEDED
    with pytest.raises(grpc.RpcError) as e:
        list(stub.ModelStreamInfer(iter([message_of(model)]), metadata=[(HEADER, "0")]))
    assert e.value.code() == Code.DEADLINE_EXCEEDED
    assert is_prompt(begin)


@pytest.mark.parametrize("value", ["", "-1", "1.5", "1s", "0x10", "ten", "99999999999999999999"])
def test_what_is_no_number_is_refused(server, stub, value):
    r = server.infer("fast", inputs_of("fast"), headers={HEADER: value})
    assert r.status == 400 and r.json()["error"] == (
        f"Unable to parse {HEADER} '{value}': a natural number of milliseconds was expected")
    with pytest.raises(grpc.RpcError) as e:
        stub.ModelInfer(message_of("fast"), metadata=[(HEADER, value)])
    assert e.value.code() == Code.INVALID_ARGUMENT and HEADER in e.value.details()


def test_a_long_time_is_no_limit(server, stub):
    for value in ("60000", "18446744073709551615"):
        assert server.infer("slow", inputs_of("slow"), headers={HEADER: value}).status == 200
        assert stub.ModelInfer(message_of("slow"), metadata=[(HEADER, value)], timeout=60).raw_output_contents


def test_the_fields_clients_say_it(server, fresh):
    x = np.array([1.5, -2], np.float32)
    for module, port in ((triton_http, server.port), (triton_grpc, server.grpc_port)):
        with module.InferenceServerClient(f"127.0.0.1:{port}") as client:
            def infer(model, **options):
                i = module.InferInput(tensor_name(model), [2], "FP32")
                i.set_data_from_numpy(x)
                return client.infer(model, [i], **options)

            # no model with levels or queue policies: both are read, and change nothing
            assert (infer("slow", priority=1, timeout=60_000_000).as_numpy("OUTPUT0") == x).all()
            assert (infer("slow", headers={HEADER: "20000"}).as_numpy("OUTPUT0") == x).all()
            begin = time.monotonic()
            with pytest.raises(InferenceServerException) as e:
                infer(fresh(), headers={HEADER: "100"})
            assert is_late(e.value.message()) and is_prompt(begin)
            assert (infer("fast").as_numpy("OUTPUT0") == x).all()


# --- who is late

def late_post(model, timeout_ms, count=2, head=""):
    body = json.dumps({"inputs": inputs_of(model, count)}).encode()
    return (f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: x\r\n{HEADER}: {timeout_ms}\r\n{head}"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


def test_http1_is_answered_while_the_engine_goes_on(server, fresh):
    model = fresh()
    begin = time.monotonic()
    with server.connect() as s:
        s.sendall(late_post(model, 100) + b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        stream = s.makefile("rb")
        r = read_response(stream)
        assert r.status == 504 and is_late(r.json()["error"]) and r.headers["connection"] == "close"
        assert is_prompt(begin)
        assert stream.read() == b""  # and the end
    assert is_prompt(begin)
    r = server.infer(model, inputs_of(model), headers={HEADER: "20000"})
    assert r.json()["outputs"][0]["data"] == [1.5, 1.5]


def test_http2_is_answered_while_the_engine_goes_on(server, fresh):
    model = fresh()
    command = ["curl", "-s", "-w", "\n%{http_code} %{http_version}", "--http2-prior-knowledge", "-H", f"{HEADER}: 100",
               "-d", json.dumps({"inputs": inputs_of(model)}), f"http://127.0.0.1:{server.port}/v2/models/{model}/infer"]
    begin = time.monotonic()
    body, _, rest = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.rpartition("\n")
    assert is_prompt(begin)
    assert rest == "504 2" and is_late(json.loads(body)["error"])


def test_grpc_is_answered_while_the_engine_goes_on(stub, fresh):
    for options in ({"metadata": [(HEADER, "100")]}, {"metadata": [(HEADER, "100")], "timeout": 20},
                    {"metadata": [(HEADER, "20000")], "timeout": 0.1}):
        model = fresh()
        begin = time.monotonic()
        with pytest.raises(grpc.RpcError) as e:
            stub.ModelInfer(message_of(model), **options)
        assert e.value.code() == Code.DEADLINE_EXCEEDED and is_prompt(begin)
        assert stub.ModelInfer(message_of(model), timeout=60).raw_output_contents


def test_a_models_own_deadline(server, stub, fresh):
    model, other = fresh(), fresh()
    begin = time.monotonic()
    assert server.infer(model, inputs_of(model)).status == 504
    with pytest.raises(grpc.RpcError) as e:
        stub.ModelInfer(message_of(other))
    assert e.value.code() == Code.DEADLINE_EXCEEDED and is_prompt(begin)
    # a request's own counts instead, also a longer one
    assert server.infer(model, inputs_of(model), headers={HEADER: "20000"}).status == 200
    assert stub.ModelInfer(message_of(other), timeout=60).raw_output_contents


def test_what_cannot_be_in_time_is_refused_at_once(server, stub, fresh):
    model = fresh()
    for _ in range(2):  # what the first took is known at the latest when the second was taken
        assert server.infer(model, inputs_of(model), headers={HEADER: "20000"}).status == 200
    begin = time.monotonic()
    for headers in ({}, {HEADER: "300"}):
        r = server.infer(model, inputs_of(model), headers=headers)
        assert r.status == 503 and r.headers["retry-after"] == "1" and is_late(r.json()["error"])
    with pytest.raises(grpc.RpcError) as e:
        stub.ModelInfer(message_of(model), timeout=0.3)
    assert e.value.code() == Code.UNAVAILABLE
    assert time.monotonic() - begin < 0.15 * SLOWNESS


def test_a_stream_has_one_late_answer_among_the_others(stub, fresh):
    """In their order, and the stream goes on."""
    messages = [message_of("fast", "a"), message_of(fresh(), "b"), message_of("fast", "c"), message_of(fresh(), "d")]
    begin = time.monotonic()
    answers = []
    for answer in stub.ModelStreamInfer(iter(messages)):
        answers.append((answer.infer_response.id, is_late(answer.error_message)))
    assert answers == [("a", False), ("b", True), ("c", False), ("d", True)]
    assert is_prompt(begin)  # also its end


def test_a_stream_ends_at_its_own_deadline(stub, fresh):
    begin = time.monotonic()
    with pytest.raises(grpc.RpcError) as e:
        list(stub.ModelStreamInfer(iter([message_of("fast"), message_of(fresh())]), metadata=[(HEADER, "100")]))
    assert e.value.code() == Code.DEADLINE_EXCEEDED and is_prompt(begin)


def test_a_body_that_comes_too_late_is_not_waited_for(server):
    request = late_post("fast", 200)
    begin = time.monotonic()
    with server.connect() as s:
        s.sendall(request[:-5])
        r = read_response(s.makefile("rb"))
    assert r.status == 504 and 0.15 < time.monotonic() - begin < 5 * SLOWNESS


@pytest.mark.parametrize("is_grpc", [False, True])
def test_late_ones_are_counted_as_rejected(server, stub, fresh, is_grpc):
    model = fresh()
    if is_grpc:  # who says it with grpc-timeout gives up himself, maybe a little sooner: that is CANCELED
        with pytest.raises(grpc.RpcError):
            stub.ModelInfer(message_of(model), metadata=[(HEADER, "100")])
    else:
        assert server.infer(model, inputs_of(model), headers={HEADER: "100"}).status == 504
    until(lambda: sum(failures(server, model).values()) == 1)
    assert failures(server, model)["REJECTED"] == 1
    time.sleep(DEAF_SECONDS)
    assert sum(failures(server, model).values()) == 1


# --- what is left behind

def test_nothing_is_left_of_those_who_were_late(tmp_path, start):
    """Large bodies, clients that read their answer and those that have gone by then."""
    s = start(write_models(tmp_path), *FLAGS, "--inflight-bytes=64M")
    for at in range(0, 24, 6):
        sockets = [s.connect() for _ in range(6)]
        for i, k in enumerate(sockets):
            k.sendall(late_post(FRESH[at + i], 50, 200000))
        for i, k in enumerate(sockets):
            if i % 2:
                assert read_response(k.makefile("rb")).status == 504
            k.close()
    until(lambda: s.metrics()["modeld_inflight_bytes"] < 1 << 20, 30)
    until(lambda: not any(value for name, value in s.metrics().items() if name.startswith("modeld_requests_in_flight")), 30)
    assert s.infer("deaf", inputs_of("deaf")).status == 200
    assert s.stop() == 0, s.log()


def test_clients_of_all_sorts_with_deadlines_of_all_sorts(tmp_path, start):
    """At random: answers in time, late and refused, over all protocols, to clients that stay, read nothing or go."""
    s = start(write_models(tmp_path), *FLAGS, "--inflight-bytes=64M")
    end, wrong = time.monotonic() + 3, []

    def http(dice, model, ms, timeout):
        body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [ms, 1]}]}).encode()
        with s.connect() as k:
            k.sendall(f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: x\r\n{HEADER}: {timeout}\r\n"
                      f"Content-Length: {len(body)}\r\n\r\n".encode())
            time.sleep(dice.choice([0, 0, 0.02]))
            k.sendall(body)
            if dice.randrange(3):
                r = read_response(k.makefile("rb"))
                if r.status not in (200, 503, 504) or r.status == 200 and r.json()["outputs"][0]["data"] != [ms, 1]:
                    wrong.append(r)

    def message(model, ms, id=""):
        request = message_of(model, id)
        request.raw_input_contents[0] = struct.pack("<2f", ms, 1)
        return request

    def unary(dice, stub, model, ms, timeout):
        call = stub.ModelInfer.future(message(model, ms), metadata=[(HEADER, str(timeout))], timeout=dice.choice([None, 0.1]))
        if dice.randrange(3):
            code = call.code()
            if code not in (Code.OK, Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE):
                wrong.append(call)
        else:
            time.sleep(dice.random() * 0.1)
            call.cancel()

    def stream(dice, stub, model, ms, timeout):
        ids = [str(i) for i in range(dice.randrange(1, 6))]
        call = stub.ModelStreamInfer(iter([message(dice.choice(["fast_x", model]), ms, id) for id in ids]),
                                     metadata=[(HEADER, str(timeout))] if dice.randrange(2) else None)
        try:
            if dice.randrange(3):
                seen = [a.infer_response.id for a in call]
                if seen != ids:
                    wrong.append((seen, ids))
            else:
                time.sleep(dice.random() * 0.1)
                call.cancel()
        except grpc.RpcError as e:
            if e.code() not in (Code.DEADLINE_EXCEEDED, Code.CANCELLED):
                wrong.append(e)

    def client(seed):
        dice = random.Random(seed)
        with grpc.insecure_channel(f"127.0.0.1:{s.grpc_port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            while time.monotonic() < end:
                model, ms = dice.choice(["deaf", FRESH[0], "deaf_timeout"]), float(dice.choice([10, 10, 10, 200]))
                timeout = dice.choice([0, 1, 12, 15, 50, 150, 300, 5000])
                what = dice.randrange(3)
                if what == 0:
                    http(dice, model, ms, timeout)
                elif what == 1:
                    unary(dice, stub, model, ms, timeout)
                else:
                    stream(dice, stub, model, ms, timeout)

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:3]
    is_idle = lambda: not any(value for name, value in s.metrics().items() if name.startswith("modeld_requests_in_flight"))
    until(lambda: is_idle() and s.metrics()["modeld_inflight_bytes"] < 1 << 20, 30)
    for model in ("deaf", "deaf_timeout", "fast_x"):
        r = s.infer(model, [{"name": "x", "datatype": "FP32", "shape": [1], "data": [10]}], headers={HEADER: "20000"})
        assert r.status == 200, r
    assert s.stop() == 0, s.log()


@pytest.mark.parametrize("how", ["http1", "http2", "stream"])
def test_the_server_ends_after_those_who_were_late(tmp_path, start, how):
    """A request whose client has its answer is waited for: its engine still uses its memory."""
    s = start(write_models(tmp_path), *FLAGS)
    if how == "http1":
        assert s.raw(late_post("deaf", 100)).status == 504
    elif how == "http2":
        with pytest.raises(grpc.RpcError), grpc.insecure_channel(f"127.0.0.1:{s.grpc_port}") as channel:
            service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message_of("deaf"), metadata=[(HEADER, "100")])
    else:
        with grpc.insecure_channel(f"127.0.0.1:{s.grpc_port}") as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            assert [is_late(a.error_message) for a in stub.ModelStreamInfer(iter([message_of(FRESH[0])]))] == [True]
    assert s.stop() == 0, s.log()
    assert "every request was answered" in s.log()


# --- executions that take too long

def test_an_execution_that_ends_when_it_is_told_to_shows_in_health_for_a_second(tmp_path, start):
    write_model(tmp_path, "long", identity_config(extra=parameter("execute_delay_ms", 20000) +
                                                  parameter("modeld_execution_timeout_ms", 200)))
    s = start(tmp_path, "--auto-batching=off")
    begin = time.monotonic()
    r = s.infer("long", inputs_of("long"))
    assert r.status == 504 and is_prompt(begin)
    assert s.get("/v2/models/long/ready").status == 503 and s.index()[("long", "1")][0] == "UNAVAILABLE"
    until(lambda: s.get("/v2/models/long/ready").status == 200)
    assert 1 < time.monotonic() - begin < 10 and s.index()[("long", "1")] == ("READY", None)


def test_a_few_deadlines_that_were_too_short_refuse_nobody(tmp_path, start):
    """As long as nothing has run to its end, nobody knows what it takes."""
    write_model(tmp_path, "slow", identity_config(extra=parameter("execute_delay_ms", 300)))
    s = start(tmp_path, "--auto-batching=off")
    for _ in range(3):
        assert s.infer("slow", inputs_of("slow"), headers={"modeld-timeout-ms": "50"}).status == 504
    assert s.infer("slow", inputs_of("slow"), headers={"modeld-timeout-ms": "3000"}).status == 200
    r = s.infer("slow", inputs_of("slow"), headers={"modeld-timeout-ms": "50"})
    assert r.status == 503 and "expected in" in r.json()["error"]


def test_an_instance_that_does_not_come_back_shows_in_health(tmp_path, start):
    s = start(write_models(tmp_path), *FLAGS, "--strict-readiness=true")
    with grpc.insecure_channel(f"127.0.0.1:{s.grpc_port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        is_ready = lambda: stub.ModelReady(service_pb2.ModelReadyRequest(name="deaf_timeout")).ready
        assert is_ready()
        begin = time.monotonic()
        r = s.infer("deaf_timeout", inputs_of("deaf_timeout"))
        assert r.status in (500, 503, 504) and is_prompt(begin)
        assert s.get("/v2/models/deaf_timeout/ready").status == 503 and not is_ready()
        assert s.get("/v2/health/ready").status == 503
        state, reason = s.index()[("deaf_timeout", "1")]
        assert state == "UNAVAILABLE" and "out of service" in reason
        instances = lambda state: s.metrics()[f'modeld_instances{{model="deaf_timeout",version="1",state="{state}"}}']
        assert (instances("in_service"), instances("out_of_service")) == (0, 1)
        assert s.infer("fast", inputs_of("fast")).status == 200
        until(lambda: s.get("/v2/health/ready").status == 200)  # it has come back
        assert is_ready() and s.index()[("deaf_timeout", "1")] == ("READY", None)
        assert instances("out_of_service") == 0
    assert s.stop() == 0, s.log()


# --- batches

def test_the_last_batches_can_be_read(start, tmp_path):
    server = start(write_model(tmp_path, "slow", identity_config(extra=parameter("execute_delay_ms", 300))))

    def batches(path, count):
        """A batch has ended a moment after its requests are answered."""
        until(lambda: len(server.get(path).json()["batches"]) >= count)
        return server.get(path).json()["batches"]

    for count in (1, 2):
        assert server.infer("slow", inputs_of("slow")).status == 200
        newest, *older = batches("/v2/models/slow/batches", count)
        assert len(older) == count - 1
    assert batches("/v2/models/slow/versions/1/batches", 2) == [newest, *older]
    assert newest["reason"] == "idle" and newest["requests"] == newest["rows"] == 1
    assert newest["padding_rows"] == newest["failed"] == newest["retried"] == 0
    assert newest["executed_ns"] >= 300e6 and 0 <= newest["waited_ns"] < 10e9
    assert abs(newest["begun_ms"] - time.time() * 1000) < 60000
    assert server.get("/v2/models/absent/batches").status == 404
    assert server.request("POST", "/v2/models/slow/batches", b"").status == 405
