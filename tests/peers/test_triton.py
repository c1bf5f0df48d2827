"""modeld beside the field's own server: the same requests, the same answers."""
import json, re, struct, zlib

import pytest
from field import ours, request, triton  # noqa: F401 (fixtures)
from cases import CASES
from differences import DIFFERENCES


def reason_of(name):
    """(status, reason) of the documented difference, or None."""
    return next(((status, reason) for pattern, status, reason in DIFFERENCES if re.fullmatch(pattern, name)), None)


def without_numbers(document):
    """Durations and counters differ from run to run; FP32 has the digits of a double in the field."""
    for stats in document.get("model_stats", []):
        stats["inference_stats"] = {key: sorted(value) for key, value in stats["inference_stats"].items()}
        stats.update(last_inference=0, inference_count=0, execution_count=0, batch_stats=0, memory_usage=0, response_stats=0)
    for output in document.get("outputs", []):
        if output.get("datatype") == "FP32" and "data" in output:
            output["data"] = [struct.pack("<f", value).hex() for value in output["data"]]
    if "platform" in document:
        document.update(platform="", backend="", instance_group=[], default_model_filename="", optimization={})
    return document


def view(response):
    """What a client sees of an answer: headers, JSON with its order of keys, binary tail."""
    headers = {key: response.headers.get(key) for key in ("content-type", "content-encoding", "inference-header-content-length")}
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
    return headers, json.dumps(without_numbers(document) if isinstance(document, dict) else document), tail


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
        if path.endswith("/infer") and b'"FP' not in theirs.body and not theirs.headers.get("content-encoding"):
            assert mine.body == theirs.body  # to the byte, but for the digits of floats


def test_every_difference_has_a_case():
    names = [case[0] for case in CASES]
    for pattern, _, reason in DIFFERENCES:
        assert any(re.fullmatch(pattern, name) for name in names), reason
