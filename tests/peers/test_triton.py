"""modeld beside the field's own server: the same requests, the same answers."""
import json, pathlib, random, re, struct, zlib

import pytest
from field import ours, request, triton  # noqa: F401 (fixtures)
from cases import CASES, SHARED, SHARED_KEY
from differences import DIFFERENCES, STRICTER

X = {"name": "INPUT0", "datatype": "FP32", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]}
Y = {"name": "INPUT1", "datatype": "INT32", "shape": [2, 2], "data": [1, 2, 3, 4]}


def reason_of(name):
    """(status, reason) of the documented difference, or None."""
    return next(((status, reason) for pattern, status, reason in DIFFERENCES if re.fullmatch(pattern, name)),
                None)


def without_numbers(document):
    """Durations and counters differ from run to run; FP32 has the digits of a double in the field."""
    for stats in document.get("model_stats", []):
        stats["inference_stats"] = {key: sorted(value) for key, value in stats["inference_stats"].items()}
        stats.update(last_inference=0, inference_count=0, execution_count=0, batch_stats=0, memory_usage=0,
                     response_stats=0)
    for output in document.get("outputs", []):
        if output.get("datatype") == "FP32" and "data" in output:
            output["data"] = [struct.pack("<f", value).hex() for value in output["data"]]
    if "platform" in document:
        document.update(platform="", backend="", instance_group=[], default_model_filename="",
                        optimization={})
    return document


def without_reasons(index):
    """Each has its own sentence on what failed; the field says nothing of a model without a version."""
    return [{**entry, "reason": bool(entry["reason"])} if "reason" in entry else entry
            for entry in index if entry["name"] != "unversioned"]


def view(response):
    """What a client sees of an answer: headers, JSON with its order of keys, binary tail."""
    headers = {key: response.headers.get(key) for key in ("content-type", "content-encoding",
        "inference-header-content-length")}
    body, tail = response.body, b""
    if headers["content-encoding"]:
        body = zlib.decompress(body, 47)
    if headers["inference-header-content-length"]:
        length = int(headers["inference-header-content-length"])
        body, tail = body[:length], body[length:]
    if response.status >= 400:
        headers["content-type"] = None
    try:
        document = json.loads(body)
    except ValueError:
        return headers, body, tail
    return headers, json.dumps((without_numbers if isinstance(document,
        dict) else without_reasons)(document)), tail


def check_error(response, head_only):
    assert response.headers["content-type"] == "application/json"
    assert head_only or response.json()["error"]


@pytest.mark.parametrize("name,method,path,body,headers", CASES, ids=[case[0] for case in CASES])
def test_answer(triton, ours, name, method, path, body, headers):
    theirs, mine = (request(server.port, method, path, body, headers) for server in (triton, ours))
    if mine.status >= 400 and path not in ("/v2/health/live", "/v2/health/ready"):
        check_error(mine, method == "HEAD")
    if documented := reason_of(name):
        assert mine.status == documented[0], mine
        assert (theirs.status, view(theirs)) != (mine.status, view(mine)), "no difference any more"
    elif theirs.status == 500:
        assert mine.status == 400, (theirs, mine)
    elif method == "HEAD":
        assert mine.status == request(ours.port, "GET", path).status and not mine.body
    else:
        assert (mine.status, view(mine)) == (theirs.status, view(theirs))
        if path.endswith("/infer") and b'"FP' not in theirs.body and not theirs.headers.get(
            "content-encoding"):
            assert mine.body == theirs.body  # to the byte, but for the digits of floats


def test_every_difference_has_a_case():
    names = [case[0] for case in CASES]
    for pattern, _, reason in DIFFERENCES:
        assert any(re.fullmatch(pattern, name) for name in names), reason


# --- damage at random

LETTERS = b'{}[]",:0123456789.eE+-\\ \n\ttruefalsn/u\x00\xc3\xa4\xff'


def damaged(body, dice):
    """Some bytes of it changed, put in or left out."""
    body = bytearray(body)
    for _ in range(dice.choice([1, 1, 2])):
        at = dice.randrange(len(body))
        body[at:at + dice.randrange(2)] = bytes([dice.choice(LETTERS)]) if dice.randrange(3) else b""
    return bytes(body)


@pytest.mark.parametrize("seed", range(5))
def test_damaged_requests(triton, ours, seed):
    """A request that both can read has the same answer; what one cannot read, the other does not either."""
    dice = random.Random(seed)
    body = json.dumps({"id": "x", "inputs": [X, Y], "outputs": [{"name": "OUTPUT1"}],
                       "parameters": {"a": 1.5}}).encode()
    for _ in range(200):
        wrong = damaged(body, dice)
        theirs, mine = (request(server.port, "POST", "/v2/models/pair/infer", wrong) for server in (triton,
            ours))
        assert mine.status in (200, 400), (wrong, mine)
        if theirs.status == 200 and mine.status == 200:
            assert view(mine) == view(theirs), wrong
        elif theirs.status == 200:
            assert STRICTER.search(mine.json()["error"]), (wrong, mine)
        else:
            assert mine.status == 400, (wrong, theirs, mine)


# --- what is counted

DURATIONS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit",
             "cache_miss")


def statistics(server):
    (stats,) = request(server.port, "GET", "/v2/models/pair/stats").json()["model_stats"]
    return stats


def test_statistics_count_alike(triton, ours):
    """Counters grow by the same; durations add up in both."""
    grown = []
    for server in (triton, ours):
        before = statistics(server)
        for _ in range(3):
            assert request(server.port, "POST", "/v2/models/pair/infer", {"inputs": [X, Y]}).status == 200
        after = statistics(server)
        took = {key: after["inference_stats"][key]["ns"] - before["inference_stats"][key]["ns"]
                for key in DURATIONS}
        assert took["success"] >= took["queue"] + took["compute_input"] + took["compute_infer"] + took[
            "compute_output"] > 0
        assert after["last_inference"] >= before["last_inference"]
        batches = {batch["batch_size"]: batch["compute_infer"]["count"] for batch in after["batch_stats"]}
        batches_before = {batch["batch_size"]: batch["compute_infer"]["count"]
                          for batch in before["batch_stats"]}
        grown.append((
            [after[key] - before[key] for key in ("inference_count", "execution_count")],
            {key: after["inference_stats"][key]["count"] - before["inference_stats"][key]["count"]
             for key in DURATIONS},
            batches[2] - batches_before.get(2, 0), list(after), list(after["batch_stats"][0])))
    assert grown[0] == grown[1]


def families(server):
    page = request(server.metrics_port, "GET", "/metrics").body.decode()
    return page, {line.split()[2]: line.split()[3] for line in page.splitlines() if line.startswith(
        "# TYPE nv_")}


def counted(page, name):
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if re.match(
        rf'{name}{{.*model="pair"', line))


def test_metrics_count_alike(triton, ours):
    names = ("nv_inference_request_success", "nv_inference_count", "nv_inference_exec_count",
             "nv_inference_pending_request_count")
    grown = []
    for server in (triton, ours):
        before, _ = families(server)
        for _ in range(3):
            assert request(server.port, "POST", "/v2/models/pair/infer", {"inputs": [X, Y]}).status == 200
        after, _ = families(server)
        grown.append([counted(after, name) - counted(before, name) for name in names])
    assert grown[0] == grown[1] == [3, 6, 3, 0]


def test_metrics_have_the_same_names(triton, ours):
    (page, theirs), (our_page, mine) = families(triton), families(ours)
    pinned = {"nv_pinned_memory_pool_total_bytes",
              "nv_pinned_memory_pool_used_bytes"}  # there is no such pool
    assert {name: kind for name, kind in theirs.items() if name not in pinned} == {name: mine.get(name)
        for name in theirs if name not in pinned}
    for name in theirs.keys() - pinned:
        series = [re.findall(r'(\w+)="', line) for p in (page, our_page)
                  for line in p.splitlines() if re.match(rf'{name}[ {{].*', line)]
        assert len({tuple(sorted(labels)) for labels in series}) == 1, name


def test_shared_memory(triton, ours):
    """Each server has objects of its own; the sequence of calls is the same, to the byte."""
    paths = [pathlib.Path("/dev/shm" + SHARED_KEY + suffix) for suffix in ("", "-2")]
    answers = {}
    for server in (triton, ours):
        for path in paths:
            path.write_bytes(struct.pack("<2048f", *range(2048)))
        try:
            answers[server] = [(name, r.status, view(r)) for name, method, url, body in SHARED
                               for r in [request(server.port, method, url, body if body or method == "GET" else b"")]]
        finally:
            for path in paths:
                path.unlink()
    differ = [pair for pair in zip(answers[triton], answers[ours]) if pair[0] != pair[1]]
    assert not differ, "\n".join(f"{a}\n   {b}" for a, b in differ)
