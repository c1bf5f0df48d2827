"""Thousands of malformed requests, each with its documented answer, while good ones get the right numbers."""
import gzip, json, random, struct, threading, zlib

import pytest
from conftest import SANITIZED, read_response

INFER = b"/v2/models/identity_fp32/infer"
GOOD = b'{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[3],"data":[1,2,3]}]}'
SMUGGLED = b"GET /v2/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
ROUNDS = 2 if SANITIZED else 8


def post(body=GOOD, *headers, path=INFER, length=None):
    lines = b"".join(h + b"\r\n" for h in headers)
    return (b"POST " + path + b" HTTP/1.1\r\nHost: x\r\n" + lines +
            b"Content-Length: %d\r\n\r\n" % (len(body) if length is None else length) + body)


def head(*lines, method=b"GET", target=b"/v2", version=b"HTTP/1.1", host=b"Host: x"):
    return b"\r\n".join([b" ".join([method, target, version]), *([host] if host else []), *lines, b"", b""])


def chunked(text, *headers):
    return head(b"Transfer-Encoding: chunked", *headers, method=b"POST", target=INFER) + text


# Families: each yields (request, status).

def heads(rng):
    noise = bytes(rng.choice(b"\x00\x01\x07\x0b\x7f") for _ in range(3))
    yield head(host=None), 400
    yield head(b"Host: y"), 400
    yield head(host=b"Host: a b"), 400
    for host in (b"a/b", b"a@b", b"a?b", b"a#b", b'"a"', b"<a>", b"a\\b", b"\xc3\xa4"):
        yield head(host=b"Host: " + host), 400
    for version in (b"HTTP/1.2x", b"HTTP/1", b"http/1.1", b"HTTP/11", b"HTTP /1.1", b"HTTP/1.1 x", b""):
        yield head(version=version), 400
    for version in (b"HTTP/2.0", b"HTTP/3.0", b"HTTP/0.9"):
        yield head(version=version), 505
    for method in (b"", b"GE T", b"G\x00T", b"(GET)", b"G\xc3\xa4T"):
        yield head(method=method), 400
    for target in (b"", b" /v2", b"/v2 x", b"/v\x00", b"/v\x7f", b"v2", b"/" + noise):
        yield head(target=target), 400
    for line in (b"A", b": b", b" : b", b"A : b", b"A\t: b", b"\tA: b", b"A: b\r\n c", b"A: " + noise, b"A\x00: b", b"A: b\nC: d",
                 b"A: b\rC: d", b"A(): b", b"\xc3\xa4: b", b"A: b\x00", b"A: \x1b[31m"):
        yield head(line), 400
    yield b"\n".join([b"GET /v2 HTTP/1.1", b"Host: x", b"A : b", b"", b""]), 400
    yield head(target=b"/" + b"a" * rng.randint(66000, 90000)), 414
    yield head(b"A: " + b"b" * rng.randint(66000, 90000)), 431
    yield head(*[b"A%d: b" % i for i in range(rng.randint(101, 900))]), 431
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(200), 400
    yield b"\x00" + rng.randbytes(100), 400
    yield head(b"Expect: tea"), 417


def lengths(rng):
    for value in (b"-1", b"+5", b"0x5", b"5 5", b"5,5", b"5,6", b"", b"5.0", b"5e0", b"9" * rng.randint(20, 300), b"5\x005",
                  b"18446744073709551616", b"18446744073709551620", b"\xd9\xa3", b"5;"):
        yield head(b"Content-Length: " + value, method=b"POST", target=INFER) + b"hello", 400
    yield head(b"Content-Length: 5", b"Content-Length: 6", method=b"POST", target=INFER) + b"hello", 400
    for length in (2**63 - 1, 2**32, 2**31, (64 << 20) + 1):
        yield head(b"Content-Length: %d" % length, method=b"POST", target=INFER) + b"{", 413


def codings(rng):
    for value in (b"gzip", b"chunked, gzip", b"gzip, gzip", b"xchunked", b"chunkedx", b"chunked;a=b", b"identity", b"",
                  b"\x0bchunked", b"chunked\x0b", b'"chunked"', b"chunked, chunked"):
        yield head(b"Transfer-Encoding: " + value, method=b"POST", target=INFER) + b"0\r\n\r\n", (400, 501)
    yield head(b"Transfer-Encoding: chunked", method=b"POST", target=INFER, version=b"HTTP/1.0") + b"0\r\n\r\n", 400
    for size in (b"zz", b"-1", b"+5", b"0x5", b" 5", b"5 5", b"f" * rng.randint(16, 40), b"", b"5\n", b"\x005", b"5\r"):
        yield chunked(size + b"\r\nhello\r\n0\r\n\r\n"), 400
    for text in (b"5\r\nhelloX\r\n0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n", b"5\r\nhell\r\n0\r\n\r\n", b"5\r\nhello\rX0\r\n\r\n",
                 b"5;" + b"x" * 100000 + b"\r\nhello\r\n0\r\n\r\n", b"5;a=\x00\r\nhello\r\n0\r\n\r\n",
                 b"0\r\nno colon\r\n\r\n", b"0\r\nA : b\r\n\r\n", b"0\r\nA: \x00\r\n\r\n",
                 b"0\r\n" + b"A: b\r\n" * 20000 + b"\r\n"):
        yield chunked(text), 400
    yield chunked(b"%x\r\n" % (2**63 - 1) + b"x"), (400, 413)


def smuggling(rng):
    """One answer, then the end: what hides behind is never read as a request."""
    hidden = b"0\r\n\r\n" + SMUGGLED
    both = [b"Content-Length: %d" % len(hidden), b"Transfer-Encoding: chunked"]
    rng.shuffle(both)
    yield head(*both, method=b"POST", target=INFER) + hidden, 400
    for line in (b"Transfer-Encoding : chunked", b"Transfer-Encoding\x0b: chunked", b"Transfer-Encoding: chunked\r\n ,gzip",
                 b"X: y\rTransfer-Encoding: chunked", b"Transfer-Encoding:\x00chunked", b" Transfer-Encoding: chunked"):
        yield head(b"Content-Length: %d" % len(hidden), line, method=b"POST", target=INFER) + hidden, 400
    yield head(b"Content-Length: 0, %d" % len(SMUGGLED), method=b"POST", target=INFER) + SMUGGLED, 400
    yield head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", method=b"POST", target=INFER) + hidden, (400, 501)
    yield chunked(b"0;\n" + b"\r\n\r\n" + SMUGGLED), 400
    yield chunked(b"5\r\nhelloGET /v2/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"), 400


def documents(rng):
    n = rng.randint(101, 5000)
    for text in (b"", b" ", b"{", b"}", b"[]", b"null", b"1", b'"x"', b"{}", b"{]", GOOD[:-1], GOOD[:rng.randint(1, len(GOOD) - 2)],
                 GOOD + b"x", GOOD + GOOD, b"\xef\xbb\xbf" + GOOD, b"\x00" + GOOD, GOOD + b"\x00", GOOD.replace(b'"', b"'"),
                 b"/* */" + GOOD, GOOD.replace(b"[1,2,3]", b"[1,2,3,]"), GOOD.replace(b"[1,2,3]", b"[1 2 3]"),
                 GOOD.replace(b"[1,2,3]", b"[" * n + b"1,2,3" + b"]" * n), b"[" * n, b'{"a":' * n, b'{"a":[' * n,
                 GOOD.replace(b"INPUT0", b"INPUT0\xff"), GOOD.replace(b"INPUT0", b"INP\x00UT0"), GOOD.replace(b"INPUT0", b"a\nb"),
                 GOOD.replace(b"INPUT0", b"\\ud800"), GOOD.replace(b"INPUT0", b"\\u12"), GOOD.replace(b"INPUT0", b"\\x"),
                 GOOD.replace(b'"name"', b'"na\xffme"'), GOOD[:-1] + b',"id":"\xc0\x80"}'):
        yield post(text), 400
    for number in (b"01", b"1.", b".5", b"+1", b"1e", b"0x1", b"--1", b"1e999", b"-1e39", b"9" * 400, b"nan", b"inf", b"true", b'"1"',
                   b"null", b"{}", b"1e" + b"9" * rng.randint(1, 3000), b"Infinit", b"NaN0"):
        yield post(GOOD.replace(b"[1,2,3]", b"[1,2," + number + b"]")), 400


def values(rng):
    for bits in (8, 16, 32, 64):
        for dtype, numbers in ((f"UINT{bits}", (-1, 2**bits, 10**30, 0.5)),
                               (f"INT{bits}", (-2**(bits - 1) - 1, 2**(bits - 1), 10**30, 1.5))):
            for number in numbers:
                yield one(dtype, [1], [number]), 400
    yield one("BOOL", [1], [2]), 400
    yield one("BOOL", [1], ["true"]), 400
    yield one("BYTES", [1], [1]), 400
    yield one("BYTES", [1], [None]), 400
    yield one("FP16", [1], [70000]), 400
    yield one("BF16", [1], [1e39]), 400
    yield one("FP64", [1], [10**400]), 400
    yield one("FP32", [1], ["1"]), 400


def one(dtype, shape, data, name="INPUT0"):
    text = json.dumps({"inputs": [{"name": name, "datatype": dtype, "shape": shape, "data": data}]}).encode()
    return post(text, path=b"/v2/models/identity_%s/infer" % (dtype.lower() if dtype in PATHS else "fp32").encode())


PATHS = {"BOOL", "BYTES", "FP16", "FP32", "FP64", "BF16", *(f"{s}INT{b}" for s in ("", "U") for b in (8, 16, 32, 64))}


def tensors(rng):
    for shape in ([2], [4], [-1], [3, 2], [2**62, 4], [2**63 - 1], [2**63], [2**64], [1.5], ["3"], "3", None, {}, [None], [[3]],
                  [2**32, 2**32], [1] * rng.randint(100, 3000) + [9]):
        yield one("FP32", shape, [1, 2, 3]), 400
    yield one("FP31", [3], [1, 2, 3]), 400
    yield one("INT64", [3], [1, 2, 3]).replace(b"identity_int64", b"identity_fp32"), 400
    yield one("FP32", [3], [1, 2, 3], name="nobody"), 400
    yield one("FP32", [3], [1, 2, 3], name=""), 400
    tensor = {"name": "INPUT0", "datatype": "FP32", "shape": [1], "data": [1]}
    for key in tensor:
        yield post(json.dumps({"inputs": [{k: v for k, v in tensor.items() if k != key}]}).encode()), 400
        for value in (None, 1, [], {}, True):
            if not (key == "data" and value in (1, [])):
                yield post(json.dumps({"inputs": [{**tensor, key: value}]}).encode()), 400
    for document in ({"inputs": []}, {"inputs": {}}, {"inputs": None}, {"inputs": [tensor, tensor]}, {"inputs": [1]},
                     {"inputs": [tensor], "outputs": {}}, {"inputs": [tensor], "outputs": [1]}, {"inputs": [tensor], "id": 1},
                     {"inputs": [tensor], "outputs": [{}]}, {"inputs": [tensor], "outputs": [{"name": "nobody"}]},
                     {"inputs": [tensor], "parameters": 1}, {"inputs": [tensor], "parameters": {"a": []}},
                     {"inputs": [{**tensor, "name": f"n{i}"} for i in range(rng.randint(2, 500))]}):
        yield post(json.dumps(document).encode()), 400


def binary(rng):
    data = struct.pack("<3f", 1, 2, 3)

    def message(size, body=data, shape=(3,), json_length=None, dtype="FP32"):
        text = json.dumps({"inputs": [{"name": "INPUT0", "datatype": dtype, "shape": shape,
                                       "parameters": {"binary_data_size": size}}]}).encode()
        length = len(text) if json_length is None else json_length(len(text))
        return post(text + body, b"Inference-Header-Content-Length: " + str(length).encode(),
                    path=b"/v2/models/identity_%s/infer" % dtype.lower().encode())

    for size in (-1, 0, 11, 13, 2**31, 2**63, 2**64, 1.5, "12", None, [], True):
        yield message(size), 400
    yield message(12, data + b"x"), 400
    yield message(12, data[:-1]), 400
    yield message(12, shape=(4,)), 400
    for change in (lambda n: n + 13, lambda n: n - 1, lambda n: -1, lambda n: 2**64, lambda n: "x", lambda n: 1, lambda n: "",
                   lambda n: f"{n},{n}", lambda n: 2**63 - 1):
        yield message(12, json_length=change), 400
    for texts in (b"\x05\x00\x00\x00hell", b"\xff\xff\xff\xff", b"\x01\x00\x00", b"\x00\x00\x00\x00" * 2, b"", b"\x00\x00\x00\x00x"):
        yield message(len(texts), texts, (1,), dtype="BYTES"), 400
    yield post(data + b"x", b"Inference-Header-Content-Length: 0"), 400


def compressed(rng):
    packed = gzip.compress(GOOD)
    spoiled = bytearray(packed)
    spoiled[-rng.randint(1, 8)] ^= 1 << rng.randrange(8)
    coding = b"Content-Encoding: gzip"
    for body in (b"x", GOOD, packed[:-1], packed[:rng.randint(1, len(packed) - 1)], bytes(spoiled), packed + b"x", packed + packed,
                 b"\x1f\x8b\x08\xff" + packed[4:], zlib.compress(GOOD), gzip.compress(b""), gzip.compress(GOOD[:-1])):
        yield post(body, coding), 400
    for body in (b"\x78\x9c\xff", zlib.compress(GOOD)[:-3], zlib.compress(GOOD) + b"x", packed):
        yield post(body, b"Content-Encoding: deflate"), 400
    yield post(BOMB, coding), 413
    yield post(packed, b"Content-Encoding: br"), 501
    yield post(packed, b"Content-Encoding: gzip, gzip"), (400, 501)


BOMB = gzip.compress(bytes(70 << 20), 9)
FAMILIES = (heads, lengths, codings, smuggling, documents, values, tensors, binary, compressed)


def answer(server, data):
    """The one answer to these bytes; after it the connection may stay or end, but says nothing more."""
    with server.connect(20) as s:
        try:
            s.sendall(data)
        except OSError:
            pass
        stream = s.makefile("rb")
        response = read_response(stream)
        closes = response and response.headers.get("connection") == "close"
        return response, stream.read(1) if closes else b""


class Goods:
    """Connections that ask for the right numbers all the time."""

    def __init__(self, server, count):
        self.server, self.stop, self.wrong, self.served = server, threading.Event(), [], 0
        self.threads = [threading.Thread(target=self.run) for _ in range(count)]

    def run(self):
        with self.server.connect() as s:
            f = s.makefile("rb")
            while not self.stop.is_set():
                s.sendall(post())
                r = read_response(f)
                if r is None or r.status != 200 or r.json()["outputs"][0]["data"] != [1, 2, 3]:
                    self.wrong.append(r)
                    return
                self.served += 1

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for t in self.threads:
            t.join()
        assert not self.wrong, self.wrong
        assert self.served > len(self.threads)


@pytest.fixture(scope="module")
def own_server(repository):
    from conftest import Server
    s = Server(repository)
    yield s
    assert s.process.poll() is None, f"the server died: {s.log()[-4000:]}"
    assert s.stop() == 0, s.log()[-4000:]


def test_every_malformed_request_has_its_answer(own_server):
    rng, bad, sent = random.Random(20264), [], 0
    rss = []
    with Goods(own_server, 2):
        for _ in range(ROUNDS):
            for family in FAMILIES:
                for number, (data, status) in enumerate(family(rng)):
                    sent += 1
                    response, rest = answer(own_server, data)
                    expected = status if isinstance(status, tuple) else (status,)
                    try:
                        ok = response.status in expected and response.json()["error"] and not rest
                    except (AttributeError, ValueError, KeyError):
                        ok = False
                    if not ok:
                        bad.append((family.__name__, number, data[:300], expected, response, rest))
            rss.append(own_server.status("VmRSS"))
    assert not bad, "\n".join(str(entry) for entry in bad[:40])
    assert sent > 300 * ROUNDS
    if not SANITIZED:
        assert rss[-1] - rss[0] < 2048, rss
