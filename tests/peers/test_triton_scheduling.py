"""modeld beside the field's own server: what waits, in which order, in which batches, and what is given up."""
import functools, json, socket, time

import pytest
from field import TOLERANT, Server, Triton, request, shared, stop_ours
from conftest import BUILD
from grpc_calls import ask, channel, pb, response
from rows import Call, batches, gather, one_by_one, order, outcomes
from scheduling import MODELS, warm_up, write_repository

BUSY = {"value": 99, "ms": 450}  # what everything else waits for


@pytest.fixture(scope="module")
def triton(tmp_path_factory):
    def start():
        server = Triton(tmp_path_factory.mktemp("triton"), write_repository)
        try:
            server.wait_ready()
            warm_up(server)
        except BaseException:
            server.stop()
            raise
        return server
    yield from shared("triton scheduling", start, Triton.stop)


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modeld")
    write_repository(folder, "rows")
    server = Server(folder, "--compat=triton", *TOLERANT, "--http-address=127.0.0.1", "--metrics-address=127.0.0.1",
                    f"--backend-directory={BUILD}/tests/backends")
    warm_up(server)
    yield server
    stop_ours(server)


def values(server, model, grpc, *rows):
    """Calls with their index as value, behind one that keeps the model busy."""
    return one_by_one(server, model, BUSY, *[{"value": i, **row} for i, row in enumerate(rows, 1)], grpc=grpc)


def counters(server, model):
    """Of the statistics, over both protocols: they say the same. The field counts after it has answered."""
    time.sleep(0.1)
    rest = request(server.port, "GET", f"/v2/models/{model}/stats").json()["model_stats"][0]
    with channel(server) as c:
        answer = ask(c, "ModelStatistics", [pb.ModelStatisticsRequest(name=model).SerializeToString()])
    (grpc,) = pb.ModelStatisticsResponse.FromString(answer.messages[0]).model_stats
    found = {"rows": rest["inference_count"], "executions": rest["execution_count"],
             **{key: value["count"] for key, value in rest["inference_stats"].items()},
             **{batch["batch_size"]: batch["compute_infer"]["count"] for batch in rest["batch_stats"]}}
    assert (grpc.inference_count, grpc.execution_count) == (found["rows"], found["executions"])
    assert {b.batch_size: b.compute_infer.count for b in grpc.batch_stats} == {
        key: value for key, value in found.items() if isinstance(key, int)}
    assert (grpc.inference_stats.success.count, grpc.inference_stats.fail.count) == (found["success"], found["fail"])
    return found


def grown(server, model, act):
    before = counters(server, model)
    act()
    return {key: value - before.get(key, 0) for key, value in counters(server, model).items()
            if value != before.get(key, 0)}


# --- scenarios: of each, what a client sees

SCENARIOS = {}


def scenario(name, *arguments):
    """Of a function (server, *arguments) that returns what was seen."""
    def add(function):
        SCENARIOS[name] = functools.partial(lambda server: function(server, *arguments))
        return function
    return add


def both(name):
    """A scenario for each protocol."""
    def add(function):
        for grpc in (False, True):
            SCENARIOS[f"{name}, {'gRPC' if grpc else 'REST'}"] = functools.partial(function, grpc=grpc)
        return function
    return add


@both("queue full")
def queue_full(server, grpc):
    return outcomes(values(server, "full", grpc, {}, {}, {}, {}))


@scenario("queue full, with an id")
def queue_full_with_id(server):
    calls = [Call(server, "full", **BUSY)]
    time.sleep(0.05)
    calls += [Call(server, "full"), Call(server, "full")]
    time.sleep(0.05)
    body = {"id": "an id", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [0, 0, 0]}]}
    r = request(server.port, "POST", "/v2/models/full/infer", body)
    gather(calls)
    return r.status, r.json()


@both("timeout, REJECT")
def timeout_reject(server, grpc):
    return outcomes(values(server, "reject", grpc, {}, {}))


@scenario("timeout, told when it is over")
def timeout_told(server):
    _, call = values(server, "reject", False, {})
    return call.status, call.seconds < 0.35


@both("timeout of the request, may shorten")
def timeout_override(server, grpc):
    return outcomes(values(server, "override", grpc, {"timeout": 100000}, {"timeout": 9000000}, {"timeout": 0}, {}))


@both("timeout of the request, may not lengthen")
def timeout_not_longer(server, grpc):
    return outcomes(one_by_one(server, "override", {"ms": 1800}, {"timeout": 9000000}, grpc=grpc))


@both("timeout of the request where the policy has none")
def timeout_open(server, grpc):
    return outcomes(values(server, "open", grpc, {"timeout": 100000}))


@both("timeout of the request, not allowed")
def timeout_closed(server, grpc):
    return outcomes(values(server, "closed", grpc, {"timeout": 100000}))


@both("timeout of the request, no dynamic batching")
def timeout_alone(server, grpc):
    return outcomes(values(server, "alone", grpc, {"timeout": 100000}))


@both("timeout, DELAY")
def timeout_delay(server, grpc):
    """The one that comes late is in time, those that came early are not any more."""
    calls = [Call(server, "delay", ms=800, grpc=grpc)]
    for pause in (0.02, 0.02, 0.02, 0.65):
        time.sleep(pause)
        calls.append(Call(server, "delay", grpc=grpc))
    return outcomes(gather(calls)), order(calls)


@both("priorities")
def priorities(server, grpc):
    calls = values(server, "levels", grpc, {"priority": 2}, *[{"priority": p} for p in (3, 0, 1, 2, 4, 9, 1)], {})
    return outcomes(calls), order(calls)


@both("priorities, a policy for a level")
def priorities_policies(server, grpc):
    calls = values(server, "level_policies", grpc, *[{"priority": p} for p in (2, 1, 1, 2, 3, 2)])
    return outcomes(calls), order(calls)


@scenario("priorities, none")
def priorities_none(server):
    calls = values(server, "closed", False, *[{"priority": p} for p in (3, 0, 1, 2)])
    return outcomes(calls), order(calls)


@scenario("order kept", "ordered")
@scenario("order not kept", "unordered")
def ordering(server, model):
    """The first of two instances takes longest: who is answered well before it?"""
    calls = one_by_one(server, model, {"ms": 500}, {}, {}, {"ms": 50})
    return outcomes(calls), [call.ended < calls[0].ended - 0.2 for call in calls]


@scenario("batch, of those that wait", "plain", [{}] * 7)
@scenario("batch, none without dynamic batching", "alone", [{}] * 3)
@scenario("batch, of one row at most", "closed", [{}] * 3)
@scenario("batch, rows count", "plain", [{"rows": rows} for rows in (1, 2, 3, 1, 4, 1, 1)])
@scenario("batch, shapes apart", "plain", [{"columns": n} for n in (3, 3, 4, 4, 3)])
@scenario("batch, preferred sizes", "preferred", [{}] * 7)
def batching(server, model, rows):
    calls = []
    counts = grown(server, model, lambda: calls.extend(values(server, model, False, *rows)))
    assert all(set(call.values) == {99.0 if i == 0 else float(i)} for i, call in enumerate(calls))
    return outcomes(calls), batches(calls), counts


@scenario("batch, one of its requests fails", 1)
@scenario("batch, fails as a whole", 2)
def failing(server, what):
    calls = []
    counts = grown(server, "plain", lambda: calls.extend(values(server, "plain", False, {}, {"what": what}, {}, {})))
    return [(call.status, call.error and "failed" in call.error) for call in calls], batches(calls), counts


@scenario("too many rows")
def too_many_rows(server):
    return outcomes(one_by_one(server, "plain", {"rows": 5}))


@scenario("delay, alone", "waiting", 1)
@scenario("delay, two", "waiting", 2)
@scenario("delay, full at once", "waiting", 4)
@scenario("delay, more than full", "waiting", 5)
@scenario("delay, preferred size at once", "waiting_preferred", 2)
@scenario("delay, behind a preferred size", "waiting_preferred", 3)
@scenario("delay, preferred size twice", "waiting_preferred", 5)
def delayed(server, model, count):
    """Who has waited for the delay, and who has not."""
    calls = one_by_one(server, model, *[{"value": i} for i in range(count)], gap=0.01)
    return batches(calls), [call.seconds > 0.4 for call in calls]


@scenario("client vanishes")
def vanishing(server):
    """While it waits: those before and behind it are answered."""
    body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [0, 0, 0]}]})

    def act():
        calls = [Call(server, "plain", **BUSY)]
        time.sleep(0.05)
        with socket.create_connection(("127.0.0.1", server.port), 30) as s:
            head = f"POST /v2/models/plain/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            s.sendall((head + body).encode())
            time.sleep(0.05)
            calls.append(Call(server, "plain"))
            time.sleep(0.05)
        assert [c.status for c in gather(calls)] == [200, 200]
        time.sleep(0.1)
    return grown(server, "plain", act)


VALUES = (1, 0, -1, "1", "", 1.0, 1.5, True, None, [1], {"a": 1}, 2**31, 2**63, 2**64 - 1, 2**64)
GRPC_VALUES = (("int64_param", 1), ("int64_param", -1), ("uint64_param", 1), ("uint64_param", 2**63),
               ("string_param", "1"), ("bool_param", True), ("double_param", 1.0))
for parameter in ("priority", "timeout"):
    for value in VALUES:
        SCENARIOS[f"{parameter} {value!r}"] = lambda server, p=parameter, v=value: outcomes(
            one_by_one(server, "levels", {p: v}))
    for value in GRPC_VALUES:
        SCENARIOS[f"{parameter} {value[0]} {value[1]}, gRPC"] = lambda server, p=parameter, v=value: outcomes(
            one_by_one(server, "levels", {p: v}, grpc=True))


def shown_config(server, model):
    """What of a configuration concerns scheduling, over both protocols; states of those that do not load."""
    r = request(server.port, "GET", f"/v2/models/{model}/config")
    if r.status != 200:
        return "no model"
    document = r.json()
    with channel(server) as c:
        answer = ask(c, "ModelConfig", [pb.ModelConfigRequest(name=model).SerializeToString()])
    grpc = response("ModelConfig", answer.messages[0])["config"]
    keys = ("max_batch_size", "dynamic_batching", "model_warmup")
    order_of_keys = [key for key in document if key in keys]
    return ({key: document.get(key) for key in keys}, order_of_keys, list(document.get("dynamic_batching", {})),
            {key: grpc.get(key) for key in keys})


for model in MODELS:
    SCENARIOS[f"config of {model}"] = functools.partial(shown_config, model=model)

for model in ("warm_zero", "warm_random", "warm_file", "warm_no_rows", "warm_no_batch"):
    SCENARIOS[f"statistics after {model}"] = functools.partial(counters, model=model)


# --- differences: what modeld shows, and why

ALL_WELL = [(200, None)] * 8
NO_RANGE = "a number out of its range is no other number"
NO_TRAFFIC = "a warm-up is no traffic"
NOTHING = dict.fromkeys(("rows", "executions", "success", "fail", "queue", "compute_input", "compute_infer",
                         "compute_output", "cache_hit", "cache_miss"), 0)


def answered(count, **others):
    """Counters of so many requests that were answered."""
    return {**dict.fromkeys(("rows", "success", "queue", "compute_input", "compute_infer", "compute_output"), count),
            **others}


DIFFERENCES = {
    "timeout, told when it is over": ((503, True), "the field notices it when an instance becomes free"),
    "timeout of the request where the policy has none, REST": (
        [(200, None), (503, "Request timeout expired")], "a limit is shorter than none"),
    "timeout of the request where the policy has none, gRPC": (
        [("OK", None), ("UNAVAILABLE", "Request timeout expired")], "a limit is shorter than none"),
    "batch, preferred sizes": (
        (ALL_WELL, [([0], 1), ([1, 2, 3, 4], 4), ([5, 6], 2), ([7], 1)],
         answered(8, executions=4) | {1: 2, 2: 1, 4: 1}),
        "the largest that can be filled when an instance is free, not the first while none is"),
    "batch, shapes apart": (
        (ALL_WELL[:6], [([0], 1), ([1, 2, 5], 3), ([3, 4], 2)], answered(6, executions=3) | {1: 1, 2: 1, 3: 1}),
        "another shape is passed over"),
    "batch, fails as a whole": (
        ([(200, None)] + [(500, True)] * 4, [([0], 1)], answered(1, executions=1, fail=4) | {1: 1}),
        "executions count where somebody is answered"),
    "batch, one of its requests fails": (
        ([(200, None), (200, None), (500, True), (200, None), (200, None)], [([0], 1), ([1, 3, 4], 4)],
         answered(4, executions=2, fail=1) | {1: 1, 4: 1}), "who gets an error was not successful"),
    "client vanishes": (answered(2, executions=2, fail=1) | {1: 2}, "who has gone takes no place in a batch"),
    "priority 9223372036854775808": ([(400, "Unable to parse 'priority': it must be a natural number")], NO_RANGE),
    "priority 18446744073709551615": ([(400, "Unable to parse 'priority': it must be a natural number")], NO_RANGE),
    "priority uint64_param 9223372036854775808, gRPC": (
        [("INVALID_ARGUMENT", "invalid value for 'priority', expected value <= 9223372036854775807.")], NO_RANGE),
    "timeout 9223372036854775808": ([(400, "Unable to parse 'timeout': it must be a natural number")], NO_RANGE),
    "timeout 18446744073709551615": ([(400, "Unable to parse 'timeout': it must be a natural number")], NO_RANGE),
    "timeout int64_param -1, gRPC": (
        [("INVALID_ARGUMENT", "invalid value for 'timeout', expected value >= 0.")], NO_RANGE),
    "statistics after warm_zero": (NOTHING, NO_TRAFFIC),
    "statistics after warm_random": (NOTHING, NO_TRAFFIC),
    "statistics after warm_file": (NOTHING, NO_TRAFFIC),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(triton, ours, name):
    theirs, mine = (SCENARIOS[name](server) for server in (triton, ours))
    if name in DIFFERENCES:
        expected, _ = DIFFERENCES[name]
        assert mine == expected, (theirs, mine)
        assert theirs != mine, "no difference any more"
    elif isinstance(theirs, list) and "Unable to parse" in str(theirs[0][1]):
        assert theirs[0][0] == 500 and mine[0][0] == 400 and "Unable to parse" in mine[0][1], (theirs, mine)
    else:
        assert mine == theirs


def test_every_difference_has_a_scenario():
    assert not DIFFERENCES.keys() - SCENARIOS.keys()
