"""Garbage, starvation and abuse while good requests go on."""
import json, os, pathlib, random, shutil, socket, threading, time

import pytest
from conftest import BUILD, identity_config, read_response, write_model

SANITIZED = any(s in str(BUILD) for s in ("asan", "tsan"))
GOOD = json.dumps({"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [3], "data": [1, 2, 3]}]}).encode()


def post(body, path=b"/v2/models/identity_fp32/infer", extra=b""):
    return b"POST " + path + b" HTTP/1.1\r\nHost: x\r\n" + extra + b"Content-Length: %d\r\n\r\n" % len(body) + body


def mutate(rng, data):
    data = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        kind, at = rng.randint(0, 3), rng.randrange(len(data))
        if kind == 0:
            data[at] = rng.randrange(256)
        elif kind == 1:
            del data[at:at + rng.randint(1, 9)]
        elif kind == 2:
            data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 9)))
        else:
            data[at:at] = data[max(0, at - 20):at]
        if not data:
            data = bytearray(b"x")
    return bytes(data)


def test_garbage_while_serving(server):
    """Thousands of mutated requests; good ones beside them always get the right numbers."""
    stop, wrong = threading.Event(), []

    def good():
        with server.connect() as s:
            f = s.makefile("rb")
            while not stop.is_set():
                s.sendall(post(GOOD))
                r = read_response(f)
                if r is None or r.status != 200 or r.json()["outputs"][0]["data"] != [1, 2, 3]:
                    wrong.append(r)
                    return

    threads = [threading.Thread(target=good) for _ in range(2)]
    for t in threads:
        t.start()
    rng = random.Random(20261)
    for _ in range(300 if SANITIZED else 3000):
        with server.connect(5) as s:
            try:
                body = mutate(rng, GOOD) if rng.random() < 0.7 else GOOD
                data = post(body) if rng.random() < 0.7 else mutate(rng, post(body))
                s.sendall(data)
                s.shutdown(socket.SHUT_WR)
                while (r := read_response(s.makefile("rb"))) and r.status == 100:
                    pass
                assert r is None or r.status in (200, 400, 404, 405, 408, 413, 414, 417, 431, 501, 505), r
                if r and r.status >= 400:
                    assert r.json()["error"]
            except (ConnectionError, ValueError, IndexError):
                pass
    stop.set()
    for t in threads:
        t.join()
    assert not wrong, wrong
    assert server.process.poll() is None


def test_out_of_descriptors(start, repository):
    s = start(repository, files=64)
    held = []
    try:
        for _ in range(100):
            c = socket.socket()
            c.settimeout(2)
            c.connect(("127.0.0.1", s.port))
            held.append(c)
    except OSError:
        pass
    time.sleep(0.3)
    for c in held:
        c.close()
    deadline = time.time() + 10
    while time.time() < deadline:
        try:
            if s.raw(post(GOOD), timeout=2).status == 200:
                break
        except (OSError, AttributeError):
            time.sleep(0.1)
    else:
        raise AssertionError(s.log())


def test_slow_uploaders_and_non_readers_hold_little_memory(start, repository):
    limit = 64 << 20
    s = start(repository, f"--inflight-bytes={limit}", "--http-body-timeout-secs=30", "--max-connections=4000")
    s.raw(post(GOOD))
    before = s.status("VmRSS")
    count = 200 if SANITIZED else 1500
    held = []
    for _ in range(count):  # each announces 64 MiB and sends a little
        c = s.connect()
        c.sendall(post(b"", extra=b"X-Dummy: 1\r\n")[:-len(b"Content-Length: 0\r\n\r\n")] + b"Content-Length: 67108864\r\n\r\n{")
        held.append(c)
    time.sleep(0.5)
    grown = s.status("VmRSS") - before
    assert grown * 1024 <= limit + count * 16384, f"{grown} KiB for {count} connections"
    for c in held:
        c.close()
    deadline = time.time() + 20
    while True:
        r = s.raw(post(GOOD), timeout=10)
        if r.status == 200:
            break
        assert time.time() < deadline, r
        time.sleep(0.1)


def test_non_readers(start, repository):
    s = start(repository, "--inflight-bytes=67108864", "--http-body-timeout-secs=2")
    body = json.dumps({"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [200000], "data": [1.25] * 200000}]}).encode()
    held = []
    for _ in range(20):
        c = socket.socket()
        c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.connect(("127.0.0.1", s.port))
        c.settimeout(20)
        try:
            c.sendall(post(body))
        except OSError:
            pass
        held.append(c)
    deadline = time.time() + 30
    while s.raw(post(GOOD), timeout=20).status != 200:
        assert time.time() < deadline
        time.sleep(0.2)
    for c in held:
        c.close()


def test_files_that_vanish(start, tmp_path):
    write_model(tmp_path, "a", identity_config(), versions=(1, 2))
    s = start(tmp_path)
    shutil.rmtree(tmp_path / "a")
    r = s.infer("a", json.loads(GOOD)["inputs"])
    assert r.status == 200


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_unreadable_config(start, tmp_path):
    folder = write_model(tmp_path, "a", identity_config())
    (folder / "config.pbtxt").chmod(0)
    write_model(tmp_path, "b", identity_config())
    s = start(tmp_path)
    index = {e["name"]: e for e in s.request("POST", "/v2/repository/index", b"").json()}
    assert index["a"]["state"] == "UNAVAILABLE" and "config.pbtxt" in index["a"]["reason"]


def test_a_two_gigabyte_body_is_refused(server):
    head = post(b"")[:-len(b"Content-Length: 0\r\n\r\n")] + b"Content-Length: 3000000000\r\n\r\n"
    with server.connect() as s:
        s.sendall(head)
        assert read_response(s.makefile("rb")).status in (400, 413)
