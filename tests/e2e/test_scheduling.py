"""Scheduling of the real server: what waits, in which order and in which batches it runs, and what is given up."""
import concurrent.futures, datetime, json, random, signal, struct, threading, time

import pytest
from tritonclient.grpc import service_pb2 as pb

import frames
from conftest import SANITIZED, Server, identity_config, read_response, until, write_model
from rows import (ANSWER_FAIL, BACKENDS, FAIL, FAIL_BATCH, FORGET, HANG, POISON, YIELD, Call, batches, config, gather,
                  one_by_one, order, outcomes, policy, write_rows)

SLOWNESS = 4 if SANITIZED else 1
BUSY = {"value": 99, "ms": 400 * SLOWNESS}  # what everything else waits for
FULL = "[request id: <id_unknown>] Exceeds maximum queue size"
LEVELS = "priority_levels: 3 default_priority_level: 2"

MODELS = {
    "plain": config(""),
    "eight": config("", batch=8),
    "two_instances": config("", batch=8, instances=2),
    "one": config("", batch=1),
    "alone": config(None, modeld_batching="off"),
    "full": config("default_queue_policy " + policy(size=2), batch=1),
    "few_bytes": config("", batch=1, modeld_max_queue_bytes=1000),
    "reject": config("default_queue_policy " + policy(timeout_us=150000, override=True), batch=1),
    "delay": config("default_queue_policy " + policy("DELAY", 400000 * SLOWNESS), batch=1),
    "levels": config(LEVELS, batch=1),
    "ordered": config("preserve_ordering: true", batch=1, instances=2),
    "waiting": config("max_queue_delay_microseconds: 700000"),
    "preferred": config("preferred_batch_size: [4, 8] max_queue_delay_microseconds: 4000000 "
                        "default_queue_policy " + policy(override=True), batch=8),
    "preferred_delay": config("preferred_batch_size: [4, 8] max_queue_delay_microseconds: 4000000 "
                              "default_queue_policy " + policy("DELAY", override=True), batch=8),
    "padded": config("", batch=8, modeld_allowed_batch_sizes="1,4,8"),
    "late": config("", batch=1, modeld_deadline_ms=300),
}


def run(root, models, *flags, backends=("rows",)):
    for backend in backends:
        suffix = "" if backend == "rows" else "_retried"
        write_rows(root, {name + suffix: text for name, text in models.items()}, backend)
    s = Server(root, BACKENDS, "--executor-threads=8", *flags)
    yield s
    assert s.process.poll() is None, f"the server died: {s.log()[-4000:]}"
    assert s.stop() == 0, s.log()[-4000:]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    yield from run(tmp_path_factory.mktemp("rows"), MODELS, backends=("rows", "rows_retried"))


def behind(server, model, *rows, **common):
    """Calls whose value is their index, behind one that keeps the model busy."""
    busy = Call(server, model, **{**common, **BUSY})
    time.sleep(0.06 * SLOWNESS)
    calls = one_by_one(server, model, *[{"value": i, **row} for i, row in enumerate(rows, 1)], **common)
    return gather([busy, *calls])


def model_stats(server, model):
    return server.get(f"/v2/models/{model}/stats").json()["model_stats"][0]


def sizes(server, model):
    return {batch["batch_size"]: batch["compute_infer"]["count"] for batch in model_stats(server, model)["batch_stats"]}


def metric(server, name, model, **labels):
    """Sum of the samples of a model that have these labels."""
    return sum(value for key, value in server.metrics().items()
               if key.startswith(name + "{") and f'model="{model}"' in key
               and all(f'{label}="{text}"' in key for label, text in labels.items()))


# --- batches

def test_batches_form_while_the_model_is_busy(server):
    before = sizes(server, "plain")
    calls = behind(server, "plain", *[{}] * 7)
    assert outcomes(calls) == [(200, None)] * 8
    assert batches(calls) == [([0], 1), ([1, 2, 3, 4], 4), ([5, 6, 7], 3)]
    after = sizes(server, "plain")
    assert {size: after[size] - before.get(size, 0) for size in (1, 3, 4)} == {1: 1, 3: 1, 4: 1}


def test_an_idle_instance_starts_at_once(server):
    """One client after the other never waits for company."""
    for _ in range(10):
        (call,) = gather([Call(server, "plain")])
        assert call.turn[1:] == (0, 1) and call.seconds < 0.2 * SLOWNESS


def test_rows_are_counted_not_requests(server):
    calls = behind(server, "plain", *[{"rows": rows} for rows in (1, 2, 3, 1, 4, 1, 1)])
    assert outcomes(calls) == [(200, None)] * 8
    assert all(rows <= 4 for _, rows in batches(calls))
    assert all(set(call.values) == {i} for i, call in enumerate(calls[1:], 1))
    assert sum(len(members) for members, _ in batches(calls)) == 8 and len(batches(calls)) == 5


def test_a_request_of_too_many_rows_is_refused(server):
    (call,) = gather([Call(server, "plain", rows=5)])
    assert call.status == 400 and "batch-size must be <= 4" in call.error


def test_shapes_do_not_mix(server):
    calls = behind(server, "eight", *[{"columns": n} for n in (3, 4, 3, 5, 4, 3)])
    assert outcomes(calls) == [(200, None)] * 7
    assert [members for members, _ in batches(calls)] == [[0], [1, 3, 6], [2, 5], [4]]


@pytest.mark.parametrize("grpc", [False, True])
def test_wanted_outputs_may_differ(server, grpc):
    """And each has its own."""
    wants = [(), ("y",), ("turn", "y"), ("y", "turn"), ("turn",)]
    calls = behind(server, "eight", *[{"outputs": names} for names in wants], grpc=grpc)
    assert outcomes(calls) == [("OK" if grpc else 200, None)] * 6
    assert [sorted(call.names) for call in calls[1:]] == [sorted(names or ("turn", "y")) for names in wants]
    assert {call.turn[2] for call in calls[1:] if call.turn} == {5}
    assert [call.values for call in calls[1:]] == [[1.0], [2.0], [3.0], [4.0], None]


def test_without_dynamic_batching_each_runs_alone(server):
    assert batches(behind(server, "alone", {}, {})) == [([0], 1), ([1], 1), ([2], 1)]


def test_padding_is_seen_by_nobody_but_the_model(server):
    calls = behind(server, "padded", {}, {}, {"rows": 3})
    assert batches(calls) == [([0], 1), ([1, 2, 3], 8)]
    assert [call.values for call in calls[1:]] == [[1.0], [2.0], [3.0] * 3]


def binary(dice, columns, wants):
    """A request with distinct numbers, and what y is to be."""
    rows = dice.randint(1, 3)
    values = [float(dice.randrange(1 << 24)) if at % columns not in (1, 2) else 0.0 for at in range(rows * columns)]
    data = struct.pack(f"<{len(values)}f", *values)
    head = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [rows, columns],
                                   "parameters": {"binary_data_size": len(data)}}],
                       "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in wants]}).encode()
    return head, data


@pytest.mark.parametrize("model", ["eight", "two_instances", "padded", "eight_retried"])
def test_each_row_has_its_own_answer(server, model):
    """From many connections at the same time: rows, shapes and wanted outputs are mixed."""
    before = sizes(server, model)

    def client(seed):
        dice = random.Random(seed)
        with server.connect() as s:
            stream = s.makefile("rb")
            for _ in range(60):
                wants = dice.choice([["y"], ["y", "turn"], ["turn", "y"]])
                head, data = binary(dice, dice.choice([3, 3, 3, 8, 200]), wants)
                s.sendall(f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: "
                          f"{len(head)}\r\nContent-Length: {len(head) + len(data)}\r\n\r\n".encode() + head + data)
                r = read_response(stream)
                assert r.status == 200, r
                at = int(r.headers["inference-header-content-length"])
                outputs = json.loads(r.body[:at])["outputs"]
                names = [o["name"] for o in outputs]
                assert sorted(names) == sorted(wants)
                at += sum(o["parameters"]["binary_data_size"] for o in outputs[:names.index("y")])
                assert r.body[at:at + len(data)] == data

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(client, range(16)))
    after = sizes(server, model)
    assert any(after[size] > before.get(size, 0) for size in after if size > 3)  # more than a request has


def test_a_delay_is_waited_for_unless_the_batch_is_full(server):
    full = one_by_one(server, "waiting", *[{}] * 4, gap=0.01)
    assert batches(full) == [([0, 1, 2, 3], 4)] and full[0].seconds < 0.5
    two = one_by_one(server, "waiting", {}, {})
    assert batches(two) == [([0, 1], 2)] and 0.65 < two[0].seconds < 2 * SLOWNESS


def test_a_delay_ends_where_one_that_goes_leaves_a_preferred_size(server):
    """The field's test of timeouts that override: what is left when the first is rejected, or put behind, runs."""
    calls = one_by_one(server, "preferred", {"timeout": 500000}, {"rows": 2}, {"rows": 2})
    assert outcomes(calls) == [(503, "Request timeout expired"), (200, None), (200, None)]
    assert batches(calls) == [([1, 2], 4)] and all(0.4 < call.seconds < 3 for call in calls)
    calls = one_by_one(server, "preferred_delay", {"rows": 3, "timeout": 500000}, {"rows": 2}, {"rows": 2})
    assert outcomes(calls) == [(200, None)] * 3 and batches(calls) == [([1, 2], 4), ([0], 3)]
    assert all(0.4 < call.seconds < 3 for call in calls[1:]) and calls[0].seconds > 3


def test_a_delay_holds_for_cheap_models_too(tmp_path, start):
    """Such as would run on the loop otherwise."""
    write_model(tmp_path, "cheap", identity_config(
        batch=4, dims="4", extra="dynamic_batching { max_queue_delay_microseconds: 100000 } "
                                 'parameters { key: "modeld_inline" value { string_value: "on" } }'))
    s = start(tmp_path)
    for _ in range(8):
        begin = time.monotonic()
        r = s.infer("cheap", [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 4], "data": [1] * 4}])
        assert r.status == 200, r
        assert time.monotonic() - begin >= 0.09


@pytest.mark.parametrize("grpc", [False, True])
def test_a_delay_is_no_longer_than_a_member_can_wait(server, grpc):
    gather([Call(server, "waiting")])  # how long it takes is known
    (call,) = gather([Call(server, "waiting", deadline=0.35, grpc=grpc)])
    assert call.status in (200, "OK"), call.error


def test_why_batches_were_started(server):
    before = {reason: metric(server, "modeld_batch_starts_total", "waiting", reason=reason)
              for reason in ("idle", "full", "delay", "deadline")}
    one_by_one(server, "waiting", *[{}] * 4, gap=0.01)
    gather([Call(server, "waiting")])
    gather([Call(server, "waiting", deadline=0.35)])
    until(lambda: metric(server, "modeld_batch_starts_total", "waiting", reason="deadline") > before["deadline"])
    grown = {reason: metric(server, "modeld_batch_starts_total", "waiting", reason=reason) - count
             for reason, count in before.items()}
    assert grown == {"idle": 0, "full": 1, "delay": 1, "deadline": 1}
    recent = server.get("/v2/models/waiting/batches").json()["batches"]
    assert json.dumps(recent[0]).count("deadline") == 1 and json.dumps(recent[2]).count("full") == 1


def test_an_explicit_delay_is_hinted_at_once(server):
    hints = [line for line in server.log().splitlines() if "max_queue_delay_microseconds" in line]
    assert len(hints) == 6 and sum("waiting" in line for line in hints) == 2  # of each backend's


# --- order

def test_levels_go_before_each_other(server):
    calls = behind(server, "levels", *[{"priority": p} for p in (3, 0, 1, 2, 9, 1)], {})
    assert order(calls) == [0, 3, 6, 2, 4, 5, 7, 1]


def test_order_of_answers_is_kept_where_asked(server):
    calls = one_by_one(server, "ordered", {"ms": 500}, {}, {})
    assert all(call.seconds > 0.3 for call in calls)
    calls = one_by_one(server, "two_instances", {"ms": 500}, {}, {})
    assert [call.seconds > 0.3 for call in calls] == [True, False, False]


def test_order_of_a_decoupled_model_is_warned_of(tmp_path, start):
    write_model(tmp_path, "stream", 'backend: "repeat" model_transaction_policy { decoupled: true } '
                                    'dynamic_batching { preserve_ordering: true }')
    s = start(tmp_path)
    s.wait_for("model 'stream': it is decoupled, so preserve_ordering holds for the ends of its streams alone")


def test_order_is_kept_when_some_fail_or_vanish(server):
    first = Call(server, "ordered", ms=600)
    time.sleep(0.05)
    with server.connect() as s:  # hangs up while its answer is held
        head, data = binary(random.Random(1), 3, ["y"])
        s.sendall(b"POST /v2/models/ordered/infer HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: %d\r\n"
                  b"Content-Length: %d\r\n\r\n" % (len(head), len(head) + len(data)) + head + data)
        time.sleep(0.05)
    calls = gather([first, Call(server, "ordered", what=FAIL), Call(server, "ordered", value=5)])
    assert [call.status for call in calls] == [200, 500, 200] and calls[2].values == [5.0]
    assert all(call.ended > first.ended - 0.2 for call in calls)


@pytest.mark.parametrize("how", ["hangs", "is late", "vanishes"])
def test_order_does_not_wait_for_whom_nobody_waits(tmp_path, start, how):
    """Those behind an execution that hangs, that takes longer than its client waits, or whose client has gone."""
    timeout = {"modeld_execution_timeout_ms": 400} if how == "hangs" else {}
    models = {"m": config("preserve_ordering: true", batch=1, instances=2, until=tmp_path / "until", **timeout)}
    s = start(write_rows(tmp_path / "models", models), BACKENDS, "--executor-threads=4")
    if how == "vanishes":
        with s.connect() as c:
            c.sendall(post("m", 0, 3000))
            time.sleep(0.1)
            calls = [Call(s, "m", value=1)]
            time.sleep(0.1)
    else:
        first = {"what": HANG} if how == "hangs" else {"ms": 3000, "deadline": 0.3}
        first, *calls = one_by_one(s, "m", first, {"value": 1}, {"value": 2})
        assert first.status == 504
    assert [call.values for call in gather(calls)] == [[float(i)] for i in range(1, len(calls) + 1)]
    assert all(call.seconds < 1.5 * SLOWNESS for call in calls)
    (tmp_path / "until").touch()
    assert [call.status for call in one_by_one(s, "m", {}, {}, {})] == [200] * 3
    assert s.stop() == 0, s.log()[-4000:]


# --- bounds of the queue, and of the time in it

@pytest.mark.parametrize("grpc", [False, True])
def test_a_full_queue_refuses(server, grpc):
    calls = behind(server, "full", {}, {}, {}, grpc=grpc)
    assert [call.error for call in calls[:3]] == [None] * 3
    assert calls[3].status == ("UNAVAILABLE" if grpc else 503) and calls[3].error == FULL
    assert calls[3].seconds < 0.2 * SLOWNESS
    if grpc:
        assert calls[3].details["ErrorInfo"].reason == "queue_full"
        assert calls[3].details["RetryInfo"].retry_delay.ToTimedelta() == datetime.timedelta(seconds=1)
    else:
        assert calls[3].response.headers["retry-after"] == "1"


def test_the_queue_is_bounded_in_bytes(server):
    calls = behind(server, "few_bytes", *[{"columns": 100}] * 3)
    assert [call.status for call in calls] == [200, 200, 200, 503] and calls[3].seconds < 0.2 * SLOWNESS
    assert int(calls[3].response.headers["retry-after"]) >= 1
    assert "bytes" in calls[3].error
    assert metric(server, "modeld_queue_bytes", "few_bytes") == 0


def test_what_need_not_wait_needs_no_room_in_the_queue(server):
    (call,) = gather([Call(server, "few_bytes", columns=10000)])
    assert call.status == 200


def test_a_timeout_is_told_when_it_is_over(server):
    calls = behind(server, "reject", {}, {"timeout": 50000}, {"timeout": 9000000})
    assert outcomes(calls[1:]) == [(503, "Request timeout expired")] * 3
    assert [call.response.headers["retry-after"] for call in calls[1:]] == ["1"] * 3
    assert calls[0].status == 200 and all(0.04 < call.seconds < 0.35 * SLOWNESS for call in calls[1:])
    assert calls[2].seconds < calls[1].seconds


def test_the_delayed_go_behind_those_in_time(server):
    calls = [Call(server, "delay", ms=800 * SLOWNESS)]
    for pause in (0.02, 0.02, 0.65 * SLOWNESS, 0.02):
        time.sleep(pause)
        calls.append(Call(server, "delay"))
    assert outcomes(gather(calls)) == [(200, None)] * 5 and order(calls) == [0, 3, 4, 1, 2]


# --- failures within a batch

def test_one_that_fails_does_not_fail_its_neighbours(server):
    for model in ("plain", "plain_retried"):
        calls = behind(server, model, {}, {"what": FAIL}, {}, {})
        assert [call.status for call in calls] == [200, 200, 500, 200, 200]
        assert [call.values for call in calls[3:]] == [[3.0], [4.0]]


def test_a_batch_that_fails_is_tried_one_by_one_where_that_is_safe(server):
    calls = behind(server, "plain_retried", {}, {"what": FAIL_BATCH}, {}, {})
    assert [call.status for call in calls] == [200, 200, 500, 200, 200]
    assert [call.values for call in calls if call.values] == [[99.0], [1.0], [3.0], [4.0]]
    assert all(call.turn[2] == 1 for call in calls if call.turn)
    calls = behind(server, "plain_retried", {}, {"what": POISON}, {})
    assert [call.status for call in calls] == [200] * 4


def test_a_batch_that_fails_fails_where_retries_are_not_safe(server):
    calls = behind(server, "plain", {}, {"what": FAIL_BATCH}, {}, {})
    assert [call.status for call in calls] == [200, 500, 500, 500, 500]
    calls = behind(server, "plain", {}, {"what": POISON}, {})
    assert [call.status for call in calls] == [200, 500, 500, 500]


def test_what_was_answered_is_not_tried_again(server):
    calls = behind(server, "plain_retried", {}, {"what": ANSWER_FAIL}, {})
    assert [call.status for call in calls] == [200, 500, 500, 500]
    newest = lambda: server.get("/v2/models/plain_retried/batches").json()["batches"][0]
    until(lambda: newest()["requests"] == 3)  # it is written down after the answers
    assert (newest()["failed"], newest()["retried"]) == (3, 0), newest()


def test_a_forgotten_request_is_the_only_one_that_fails(server):
    for model in ("plain", "plain_retried"):
        calls = behind(server, model, {}, {"what": FORGET}, {})
        assert [call.status for call in calls] == [200, 200, 500, 200], outcomes(calls)
        assert "without finishing" in calls[2].error


# --- those who go

def post(model, value=0.0, ms=0.0, what=0.0):
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [value, ms, what]}]})
    return (f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}").encode()


def test_who_vanishes_while_a_batch_forms_takes_no_place(server):
    busy = Call(server, "plain", **BUSY)
    time.sleep(0.05)
    sockets = [server.connect() for _ in range(6)]
    for s in sockets:
        s.sendall(post("plain"))
    until(lambda: metric(server, "nv_inference_pending_request_count", "plain") == 6)
    calls = [Call(server, "plain", value=1)]
    for s in sockets:
        s.close()
    until(lambda: metric(server, "nv_inference_pending_request_count", "plain") <= 1)
    gather([busy, *calls])
    assert calls[0].status == 200 and calls[0].turn[2] == 1


def test_who_vanishes_while_it_runs_does_not_fail_its_neighbours(server):
    busy = Call(server, "plain", ms=200)
    time.sleep(0.05)
    with server.connect() as s:
        s.sendall(post("plain", 0, 300))
        time.sleep(0.02)
        call = Call(server, "plain", value=7)
        time.sleep(0.25)  # now both run
    gather([busy, call])
    assert call.status == 200 and call.values == [7.0] and call.turn[2] == 2


def test_clients_that_come_and_go(server):
    """At random, under load; afterwards nothing is left."""
    models = ["eight", "two_instances", "levels", "waiting", "reject"]
    end = time.monotonic() + 2
    wrong = []

    def client(seed):
        dice = random.Random(seed)
        while time.monotonic() < end:
            value = float(dice.randrange(1000))
            with server.connect() as s:
                s.sendall(post(dice.choice(models), value, dice.choice([0, 1, 20])))
                if dice.randrange(3):
                    s.settimeout(dice.choice([0.0005, 0.005, 0.05]))
                    try:
                        s.recv(1)
                    except OSError:
                        pass
                else:
                    r = read_response(s.makefile("rb"))
                    if r.status == 200 and r.json()["outputs"][0]["data"][0] != value or r.status not in (200, 503):
                        wrong.append(r)

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for model in models:
        until(lambda: metric(server, "nv_inference_pending_request_count", model) == 0)
        assert metric(server, "modeld_queue_bytes", model) == 0
        assert gather([Call(server, model, value=3)])[0].values == [3.0]


# --- deadlines

def infer_message(model):
    m = pb.ModelInferRequest(model_name=model, raw_input_contents=[struct.pack("<3f", 1, 0, 0)])
    m.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    return frames.message(m.SerializeToString())


@pytest.mark.parametrize("model", ["plain", "alone", "waiting"])
def test_a_deadline_of_zero_is_over(server, model):
    (call,) = gather([Call(server, model, deadline=0)])
    assert call.status == 504, call.error
    with frames.Client(server) as c:
        answer = c.answer(c.ask(frames.grpc_head("/inference.GRPCInferenceService/ModelInfer", ("grpc-timeout", "0m")),
                                infer_message(model)))
        assert answer.grpc_status == 4


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "", "99999999999999999999999"])
def test_a_deadline_that_is_no_number_is_refused(server, value):
    (call,) = gather([Call(server, "plain", headers={"modeld-timeout-ms": value})])
    assert call.status == 400 and "modeld-timeout-ms" in call.error


@pytest.fixture
def fresh(tmp_path):
    """What runs fast first is not expected to take long, so that deadlines are no reason to refuse it."""
    servers = run(tmp_path, {"one": config("", batch=1), "plain": config("")})
    s = next(servers)
    gather([Call(s, model) for model in ("one", "plain") for _ in range(3)])
    yield s
    next(servers, None)


@pytest.mark.parametrize("grpc", [False, True])
def test_a_deadline_ends_who_waits(fresh, grpc):
    calls = behind(fresh, "one", {"deadline": 0.15}, {}, grpc=grpc)
    assert calls[1].status == ("DEADLINE_EXCEEDED" if grpc else 504) and calls[1].seconds < 0.3 * SLOWNESS
    assert calls[2].values == [2.0]


@pytest.mark.parametrize("grpc", [False, True])
@pytest.mark.parametrize("what", [0, YIELD])
def test_a_deadline_ends_who_runs(fresh, grpc, what):
    """The client is answered at once, whether the engine stops or not; what comes next is right."""
    (call,) = gather([Call(fresh, "one", ms=700, what=what, deadline=0.15, grpc=grpc)])
    assert call.status == ("DEADLINE_EXCEEDED" if grpc else 504) and call.seconds < 0.5 * SLOWNESS
    (call,) = gather([Call(fresh, "one", value=8, grpc=grpc)])
    assert call.values == [8.0]
    assert call.seconds < 0.4 * SLOWNESS if what == YIELD else call.seconds > 0.4


def test_a_deadline_of_one_member_leaves_its_neighbours(fresh):
    calls = one_by_one(fresh, "plain", {"ms": 200}, {"value": 1, "ms": 500, "deadline": 0.45}, {"value": 2})
    assert [call.status for call in calls] == [200, 504, 200] and calls[2].values == [2.0]


def test_the_default_deadline_is_for_those_who_bring_none(server):
    calls = one_by_one(server, "late", {"ms": 800}, {"deadline": 20})
    assert [call.status for call in calls] == [504, 200] and calls[0].seconds < 0.6 * SLOWNESS


@pytest.fixture
def learned(tmp_path):
    yield from run(tmp_path, {"steady": config("", batch=1, row_ms=100), "other": config("", batch=1)})


@pytest.mark.parametrize("grpc", [False, True])
def test_what_cannot_be_in_time_is_refused_at_once(learned, grpc):
    for _ in range(3):
        gather([Call(learned, "steady")])
    calls = [Call(learned, "steady") for _ in range(6)]
    time.sleep(0.1)
    (late,) = gather([Call(learned, "steady", deadline=0.35, grpc=grpc)])
    assert late.status == ("UNAVAILABLE" if grpc else 503) and late.seconds < 0.2 * SLOWNESS, (late.status, late.error)
    if not grpc:
        assert int(late.response.headers["retry-after"]) >= 1
    assert [call.status for call in gather(calls)] == [200] * 6
    (call,) = gather([Call(learned, "steady", deadline=0.5 * SLOWNESS, grpc=grpc)])
    assert call.status in (200, "OK")


def test_a_cold_start_is_forgotten(learned):
    """What took long once is tried again, and is not refused any more when it does not."""
    gather([Call(learned, "other", ms=2000)])
    statuses = [gather([Call(learned, "other", deadline=0.5)])[0].status for _ in range(50)]
    assert statuses[-5:] == [200] * 5 and set(statuses) <= {200, 503}, statuses


def test_learned_times_are_published(learned):
    for _ in range(3):
        gather([Call(learned, "steady")])
    mean = metric(learned, "modeld_execution_seconds", "steady", batch_size=1, estimate="mean")
    assert 0.1 <= mean < 0.16 * SLOWNESS


def offer(server, model, rate, seconds, deadline):
    """So many requests a second, whatever comes back; their calls."""
    begin, calls = time.monotonic(), []
    while (now := time.monotonic() - begin) < seconds:
        while len(calls) < now * rate:
            calls.append(Call(server, model, deadline=deadline))
        time.sleep(0.002)
    return gather(calls)


@pytest.mark.skipif(SANITIZED, reason="figures of a slow server mean nothing")
def test_overload_is_answered_early_and_what_is_accepted_in_time(tmp_path, start):
    """20 ms each, one at a time: 50 a second at best; 200 come."""
    s = start(write_rows(tmp_path, {"m": config("", batch=1, row_ms=20)}), BACKENDS)
    offer(s, "m", 30, 0.5, None)
    calls = offer(s, "m", 200, 3, 0.3)
    good = [call for call in calls if call.status == 200]
    assert all(call.status in (200, 503, 504) for call in calls)
    in_time = [call for call in good if call.seconds < 0.4]
    assert len(in_time) > 0.75 * 50 * 3, (len(good), len(in_time))
    late = [call for call in calls if call.status == 504]
    assert len(late) < 0.1 * len(calls), (len(late), len(calls))
    refused = sorted(call.seconds for call in calls if call.status == 503)
    assert refused[len(refused) // 2] < 0.1


# --- fairness

def saturate(server, names, seconds, clients=4):
    """Closed loops on each model, rows of 10 ms; device time that each got in the middle of it."""
    end = time.monotonic() + seconds

    def client(model):
        with server.connect() as s:
            stream = s.makefile("rb")
            while time.monotonic() < end:
                s.sendall(post(model, 1, 10))
                assert read_response(stream).status == 200

    threads = [threading.Thread(target=client, args=(name,)) for name in names for _ in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    before = {name: metric(server, "modeld_device_seconds_total", name) for name in names}
    time.sleep(seconds - 0.5)
    after = {name: metric(server, "modeld_device_seconds_total", name) for name in names}
    for thread in threads:
        thread.join()
    return {name: after[name] - before[name] for name in names}


def test_models_share_an_executor_by_weight(tmp_path, start):
    models = {f"w{weight}": config("", batch=1, modeld_weight=weight) for weight in (1, 2, 4)}
    s = start(write_rows(tmp_path, models), BACKENDS, "--executor-threads=1")
    spent = saturate(s, models, 4)
    total = sum(spent.values())
    for weight in (1, 2, 4):
        assert abs(spent[f"w{weight}"] / total - weight / 7) < 0.05, spent


def test_what_is_important_goes_before_everything(tmp_path, start):
    models = {"max": config("", batch=1, extra="optimization { priority: PRIORITY_MAX }"),
              "normal": config("", batch=1)}
    s = start(write_rows(tmp_path, models), BACKENDS, "--executor-threads=1")
    spent = saturate(s, models, 2)
    assert spent["max"] > 10 * spent["normal"], spent


def test_an_overloaded_model_does_not_slow_a_quiet_one(tmp_path, start):
    s = start(write_rows(tmp_path, {"loud": config("", batch=1), "quiet": config("", batch=1)}), BACKENDS,
              "--executor-threads=1")
    loud = [Call(s, "loud", ms=10) for _ in range(300)]
    time.sleep(0.2)
    times = sorted(gather([Call(s, "quiet")])[0].seconds for _ in range(20))
    assert times[10] < 0.06 * SLOWNESS, times
    assert {call.status for call in gather(loud)} == {200}


# --- executions that hang

@pytest.fixture
def hanging(tmp_path):
    until = tmp_path / "until"
    models = {"hung": config("", modeld_execution_timeout_ms=400, until=until),
              "hung_2": config("", instances=2, modeld_execution_timeout_ms=400, until=until), "plain": config("")}
    servers = run(tmp_path / "models", models)
    s = next(servers)
    s.until = until
    yield s
    until.touch()
    time.sleep(0.1)
    next(servers, None)


@pytest.mark.parametrize("grpc", [False, True])
def test_an_execution_that_hangs_fails_its_requests(hanging, grpc):
    """All of its batch, in time; the model is not ready until the engine returns; others go on."""
    calls = one_by_one(hanging, "hung", {"ms": 200}, {"what": HANG}, {"value": 2}, {"value": 3}, grpc=grpc)
    assert calls[0].status in (200, "OK")
    for call in calls[1:]:
        assert call.status in (500, 503, 504, "INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED")
        assert 0.4 < call.seconds < 1.2 * SLOWNESS, call.error
    assert hanging.get("/v2/models/hung/ready").status != 200
    assert hanging.index()[("hung", "1")][0] != "READY"
    assert metric(hanging, "modeld_instances", "hung", state="out_of_service") == 1
    assert gather([Call(hanging, "plain", value=4)])[0].values == [4.0]
    (call,) = gather([Call(hanging, "hung", deadline=0.5)])
    assert call.status in (503, 504) and call.seconds < 1 * SLOWNESS
    hanging.until.touch()
    until(lambda: hanging.get("/v2/models/hung/ready").status == 200)
    assert metric(hanging, "modeld_instances", "hung", state="out_of_service") == 0
    assert gather([Call(hanging, "hung", value=5)])[0].values == [5.0]


def test_the_other_instance_goes_on(hanging):
    calls = one_by_one(hanging, "hung_2", {"what": HANG}, *[{"value": i} for i in range(10)], gap=0.06)
    assert calls[0].status != 200 and [call.values for call in calls[1:]] == [[float(i)] for i in range(10)]
    assert hanging.get("/v2/models/hung_2/ready").status == 200
    assert metric(hanging, "modeld_instances", "hung_2", state="in_service") == 1


def test_the_log_names_what_hangs(hanging):
    gather([Call(hanging, "hung", what=HANG)])
    hanging.wait_for("model 'hung' version 1: an execution takes longer than 400 ms")


@pytest.mark.parametrize("cause", ["execution timeout", "deadline", "client gone"])
def test_a_server_whose_clients_are_answered_does_not_wait_for_a_hung_engine(tmp_path, start, cause):
    limits = {"modeld_execution_timeout_ms": 300} if cause == "execution timeout" else {}
    s = start(write_rows(tmp_path, {"hung": config("", **limits), "plain": config("")}), BACKENDS, "--exit-timeout-secs=30")
    if cause == "client gone":
        with s.connect() as c:
            c.sendall(post("hung", 0, 0, HANG))
            until(lambda: metric(s, "modeld_batch_starts_total", "hung") == 1)
    else:
        for grpc in (False, True):
            (call,) = gather([Call(s, "hung", what=HANG, deadline=0.3 if cause == "deadline" else None, grpc=grpc)])
            assert call.status in (504, 503, "DEADLINE_EXCEEDED", "UNAVAILABLE")
    gather([Call(s, "plain")])
    begin = time.monotonic()
    assert s.stop() == 0, s.log()
    assert time.monotonic() - begin < 5 * SLOWNESS
    log = s.log()
    assert "model 'hung' version 1: an execution has not ended, the server ends without it" in log
    assert "every request was answered" in log and "cut off" not in log and "'plain' version 1: an ex" not in log


def test_a_late_execution_that_ends_ends_well(tmp_path, start):
    s = start(write_rows(tmp_path, {"m": config("")}), BACKENDS)
    assert gather([Call(s, "m", ms=600, deadline=0.2)])[0].status == 504
    assert s.stop() == 0 and "has not ended" not in s.log()


# --- the end

def test_thousands_that_wait_at_the_end_are_answered(tmp_path):
    """Many connections of HTTP/1.1 and many streams of HTTP/2; some let a batch grow, for a minute if nobody ends."""
    count = 2000
    folder = write_rows(tmp_path, {"eight": config("", batch=8),
                                   "never": config("max_queue_delay_microseconds: 60000000")})
    s = Server(folder, BACKENDS, "--exit-timeout-secs=30", files=20000)
    sockets = [s.connect() for _ in range(count)]
    with frames.Client(s) as c:
        for i, one in enumerate(sockets):
            one.sendall(post("never" if i % 100 == 0 else "eight", i, 5 * SLOWNESS))
        infer = frames.grpc_head("/inference.GRPCInferenceService/ModelInfer")
        streams = [c.ask(infer, infer_message("never" if i % 7 == 0 else "eight")) for i in range(100)]
        until(lambda: metric(s, "nv_inference_pending_request_count", "eight") > count / 3)
        s.process.send_signal(signal.SIGTERM)
        assert [c.answer(stream).grpc_status for stream in streams] == [0] * 100
    for i, one in enumerate(sockets):
        r = read_response(one.makefile("rb"))
        assert r and r.status == 200, f"request {i}: {r}"
        assert r.json()["outputs"][0]["data"][0] == i
        one.close()
    assert s.process.wait(30) == 0, s.log()[-3000:]


def test_those_that_still_wait_when_the_time_is_over_are_refused(tmp_path):
    """The one that runs is cut off."""
    count = 1000
    s = Server(write_rows(tmp_path, {"one": config("", batch=1)}), BACKENDS, "--exit-timeout-secs=1", files=20000)
    running = s.connect()
    running.sendall(post("one", 0, 0, HANG))
    until(lambda: metric(s, "modeld_batch_starts_total", "one") == 1)
    sockets = [s.connect() for _ in range(count)]
    for i, one in enumerate(sockets):
        one.sendall(post("one", i, 0))
    calls = [Call(s, "one", grpc=True) for _ in range(50)]
    until(lambda: metric(s, "nv_inference_pending_request_count", "one") == count + 50)
    begin = time.monotonic()
    s.process.send_signal(signal.SIGTERM)
    for i, one in enumerate(sockets):
        r = read_response(one.makefile("rb"))
        assert r and (r.status, r.headers.get("retry-after")) == (503, "1"), f"request {i}: {r}"
        assert r.json() == {"error": "'one' version 1 takes no more requests: the server is ending"}
        one.close()
    for call in gather(calls):
        assert call.status == "UNAVAILABLE" and call.details["ErrorInfo"].reason == "exiting"
        assert call.details["RetryInfo"].retry_delay.seconds == 1
    assert running.makefile("rb").read() == b""
    assert s.process.wait(20) == 1 and time.monotonic() - begin < 6 * SLOWNESS
    assert f"{count + 50} requests that waited are refused" in s.log()


# --- batching by itself, and warm-up

def test_batching_is_switched_on_where_joint_answers_are_right(tmp_path, start):
    models = {"same": config(None, batch=8, same=1), "mixed": config(None, batch=8, same=1, mixes=1),
              "told_not_to": config(None, batch=8, same=1, modeld_batching="off"),
              "chosen": config("", batch=8, same=1, mixes=1)}
    s = start(write_rows(tmp_path, models), BACKENDS)
    configs = {name: s.get(f"/v2/models/{name}/config").json()["parameters"] for name in models}
    says = {name: of.get("modeld_batching", {}).get("string_value", "") for name, of in configs.items()}
    assert says["same"].startswith("on: ") and says["mixed"].startswith("off: ") and len(says["mixed"]) > 10, says
    assert says["told_not_to"].startswith("off"), says
    for name, largest, more in (("same", 3, 0), ("mixed", 1, 1), ("told_not_to", 1, 0), ("chosen", 3, 3)):
        calls = behind(s, name, {}, {}, {})
        assert max(sizes(s, name)) == largest, name
        assert [call.values for call in calls[1:]] == [[1.0 + more], [2.0 + more], [3.0 + more]]


def test_nothing_is_switched_on_for_those_who_come_from_elsewhere(tmp_path, start):
    s = start(write_rows(tmp_path, {"same": config(None, batch=8, same=1)}), BACKENDS, "--compat=triton")
    behind(s, "same", {}, {}, {})
    assert max(sizes(s, "same")) == 1


SAMPLE = 'inputs {{ key: "x" value {{ data_type: TYPE_FP32 dims: [ 3 ] {} }} }}'


def warm(data, rows=1, count=0):
    return config("", extra=f'model_warmup [ {{ name: "w" batch_size: {rows} count: {count} {SAMPLE.format(data)} }} ]')


def test_a_warm_up_comes_before_the_model_is_ready(tmp_path, start):
    models = {"zero": warm("zero_data: true"), "random": warm("random_data: true", 2, 3),
              "file": warm('input_data_file: "raw"', 1, 2),  # the first is not learned
              "fails": warm('input_data_file: "fail"'), "none": warm('input_data_file: "none"'),
              "short": warm('input_data_file: "short"')}
    write_rows(tmp_path, models)
    for name in models:
        (tmp_path / name / "warmup").mkdir()
        for file, data in (("raw", (7, 150, 0)), ("fail", (7, 0, FAIL)), ("short", (7,))):
            (tmp_path / name / "warmup" / file).write_bytes(struct.pack(f"<{len(data)}f", *data))
    s = start(tmp_path, BACKENDS, "--exit-on-error=false", "--strict-readiness=false")
    states = {name: s.index()[(name, "1")] for name in models}
    assert [states[name][0] for name in models] == ["READY"] * 3 + ["UNAVAILABLE"] * 3
    assert "the row failed" in states["fails"][1] and "none" in states["none"][1] and "12" in states["short"][1]
    assert metric(s, "modeld_execution_seconds", "file", batch_size=1, estimate="mean") >= 0.15
    assert metric(s, "modeld_execution_seconds", "random", batch_size=2, estimate="mean") > 0
    assert gather([Call(s, "random", value=2)])[0].values == [2.0]
