"""HTTP/1.1 as clients and attackers speak it."""
import json, socket, time

import pytest
from conftest import read_response

BODY = b'{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[2],"data":[1.5,-2]}]}'
PATH = b"/v2/models/identity_fp32/infer"


def post(body=BODY, extra=b"", path=PATH):
    return b"POST " + path + b" HTTP/1.1\r\nHost: x\r\n" + extra + b"Content-Length: %d\r\n\r\n" % len(body) + body


def test_keep_alive_and_pipelining(server):
    with server.connect() as s:
        s.sendall(post() * 20)
        f = s.makefile("rb")
        for _ in range(20):
            assert read_response(f).json()["outputs"][0]["data"] == [1.5, -2.0]


CHUNKED = b"POST " + PATH + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(
    b"%x;ext=1\r\n%s\r\n" % (len(BODY[i:i + 7]), BODY[i:i + 7]) for i in range(0, len(BODY), 7)) + (
    b"0\r\nTrailer: x\r\n\r\n")
LONG = post(extra=b"X-Long: " + b"v" * 40 + b"\r\n", path=PATH + b"?query=of+some+length")


@pytest.mark.parametrize("data", [LONG, CHUNKED], ids=["sized", "chunked"])
def test_request_split_at_every_byte(server, data):
    for i in range(1, len(data), 2):
        with server.connect() as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            s.sendall(data[:i])
            time.sleep(0.0005)
            s.sendall(data[i:])
            assert read_response(s.makefile("rb")).status == 200


def test_expect_continue(server):
    with server.connect() as s:
        s.sendall(post(extra=b"Expect: 100-continue\r\n")[:-len(BODY)])
        f = s.makefile("rb")
        assert read_response(f).status == 100
        s.sendall(BODY)
        assert read_response(f).status == 200


def test_other_expectation(server):
    assert server.raw(post(extra=b"Expect: tea\r\n")).status == 417


def test_http10_closes(server):
    with server.connect() as s:
        s.sendall(b"GET /v2/health/live HTTP/1.0\r\n\r\n")
        assert s.makefile("rb").read().startswith(b"HTTP/1.1 200")


def test_cors(server):
    """A page of another origin may ask, and read errors and binary answers, too."""
    infer, origin, other = PATH.decode(), {"Origin": "http://example.org"}, {"Origin": "http://example.com"}
    for method, path, body in (("GET", "/v2", None), ("GET", "/v2/nope", None), ("POST", infer, b"{"),
                               ("POST", infer, BODY)):
        headers = server.request(method, path, body, origin).headers
        assert headers["access-control-allow-origin"] == "http://example.org" and headers["vary"] == "Origin"
        assert headers["access-control-expose-headers"] == "Inference-Header-Content-Length"
        assert "access-control-allow-origin" not in server.request(method, path, body, other).headers
    r = server.request("OPTIONS", infer, headers={**other, "Access-Control-Request-Method": "POST"})
    assert r.status == 204 and "access-control-allow-origin" not in r.headers


def test_head_and_options(server):
    r = server.request("HEAD", "/v2")
    assert r.status == 200 and int(r.headers["content-length"]) > 0
    r = server.request("OPTIONS", "/v2/models/identity_fp32/infer",
                       headers={"Origin": "http://example.org", "Access-Control-Request-Method": "POST"})
    assert r.status in (200, 204) and r.headers["access-control-allow-origin"] == "http://example.org"
    r = server.request("GET", "/v2", headers={"Origin": "http://evil.example"})
    assert "access-control-allow-origin" not in r.headers


@pytest.mark.parametrize("path,method,status", [
    ("/", "GET", 404), ("/v2/", "GET", 404), ("/v2/health/live/", "GET", 404), ("/v2/nope", "GET", 404),
    ("/v2", "POST", 405), ("/v2/models/identity_fp32/infer", "GET", 405), ("/v2/repository/index", "GET", 405),
    ("/v2/models/identity_fp32/versions/v1/infer", "POST", 404), ("/v2/models/%69dentity_fp32", "GET", 200)])
def test_routes(server, path, method, status):
    r = server.request(method, path, b"" if method == "POST" else None)
    assert r.status == status, r
    if status >= 400:
        assert r.json()["error"] in ("Not Found", "Method Not Allowed")
    allow = {"GET": "POST", "POST": "GET, HEAD"}[method] if status == 405 else None
    assert r.headers.get("allow") == allow


BAD_HEADS = [
    (b"GET /v2 HTTP/1.1\r\n\r\n", 400),  # no Host
    (b"GET /v2 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"GET /v2 HTTP/3.0\r\nHost: x\r\n\r\n", 505),
    (b"GET  /v2 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET /v2 HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", 400),
    (b"GET /v2 HTTP/1.1\r\nHost: x\r\nA: b\r\n folded\r\n\r\n", 400),
    (b"GET /v2 HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n", 400),
    (b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    (b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    (b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 0x10\r\n\r\n", 400),
    (b"POST /v2/models/identity_fp32/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    # requests that another server might read otherwise
    (b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 4, 4\r\n\r\nabcd", 400),
    (b"POST /v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", 400),
    (b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: +4\r\n\r\nabcd", 400),
    (b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 4 4\r\n\r\nabcd", 400),
    (b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\n", 400),
    (b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
    (b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length : 4\r\n\r\nabcd", 400),
    (b"POST /v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    (b"POST /v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    (b"POST /v2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST /v2 HTTP/1.1\r\nHost: x\r\n" + 2 * b"Transfer-Encoding: chunked\r\n" + b"\r\n0\r\n\r\n", 400),
    (b"POST /v2 HTTP/1.1\r\nHost: x\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST /v2 HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST /v2 HTTP/1.1\nHost: x\nContent-Length: 0\n\n", 400),
    (b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\r\n\r\n", 400),
    (b"GET /v2 HTTP/1.1\rHost: x\r\n\r\n", 400),
    (b"GET /v2\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET /v2 HTTP/1.1\r\nHost: x\r\n\x00: a\r\n\r\n", 400),
    (b"GET v2 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET /v2\r\n\r\n", 400),
    (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    *((b"POST " + PATH + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks, 400) for chunks in (
        b"0x5\r\nhello\r\n0\r\n\r\n", b" 5\r\nhello\r\n", b"+5\r\nhello\r\n", b"5\nhello\n0\n\n",
        b"5\r\nhelloX0\r\n\r\n", b"-1\r\n", b"\r\n", b"ffffffffffffffffff\r\n", b"5;\x00\r\nhello\r\n",
        b"0\r\nTransfer-Encoding\r\n\r\n")),
    (b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    (b"GET /v2 HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 2000 + b"\r\n", 431),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # a TLS client hello
]


@pytest.mark.parametrize("data,status", BAD_HEADS, ids=range(len(BAD_HEADS)))
def test_bad_heads_are_refused_and_closed(server, data, status):
    with server.connect() as s:
        try:
            s.sendall(data)
        except OSError:
            pass
        f = s.makefile("rb")
        r = read_response(f)
        assert r.status == status, r
        assert r.headers.get("connection") == "close" and "error" in r.json()
        assert f.read() == b""


def test_body_too_large(start, repository):
    s = start(repository, "--http-max-input-size=100000")
    big = b'{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1],"data":[' + b" " * 200000 + b"1]}]}"
    assert s.raw(post(big)).status in (400, 413)
    assert s.raw(post()).status == 200


def test_deep_json(server):
    deep = b'{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1],"data":' + b"[" * 300 + b"1" + b"]" * 300 + b"}]}"
    assert server.raw(post(deep)).status == 400


def test_unix_socket(start, repository, tmp_path):
    path = tmp_path / "http.sock"
    start(repository, f"--http-unix-socket={path}")
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(path))
        s.sendall(post())
        assert read_response(s.makefile("rb")).status == 200


def test_timeouts(start, repository):
    s = start(repository, "--http-header-timeout-secs=1", "--http-body-timeout-secs=1", "--http-idle-timeout-secs=1")
    with s.connect(10) as c:  # a head that never ends
        c.sendall(b"GET /v2 HTTP/1.1\r\nHo")
        assert read_response(c.makefile("rb")).status == 408
    with s.connect(10) as c:  # a body that never ends
        c.sendall(post()[:-5])
        assert read_response(c.makefile("rb")).status == 408
    with s.connect(10) as c:  # an idle connection
        assert c.recv(1) == b""


def test_disconnect_while_waiting_cancels(server):
    for _ in range(5):
        with server.connect() as s:
            s.sendall(post(path=b"/v2/models/slow/infer"))
            time.sleep(0.02)
    assert server.raw(post(path=b"/v2/models/slow/infer")).status == 200
    failures = [v for k, v in server.metrics().items()
                if k.startswith("nv_inference_request_failure") and 'model="slow"' in k and "CANCELED" in k]
    assert sum(failures) >= 1
