"""Garbage, starvation, faults and abuse while good requests go on."""
import json, random, shutil, signal, socket, struct, threading, time

import pytest
from conftest import SANITIZED, identity_config, read_response, write_model

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


def test_files_that_vanish(start, tmp_path):
    write_model(tmp_path, "a", identity_config(), versions=(1, 2))
    s = start(tmp_path)
    shutil.rmtree(tmp_path / "a")
    r = s.infer("a", json.loads(GOOD)["inputs"])
    assert r.status == 200


def test_a_two_gigabyte_body_is_refused(server):
    head = post(b"")[:-len(b"Content-Length: 0\r\n\r\n")] + b"Content-Length: 3000000000\r\n\r\n"
    with server.connect() as s:
        s.sendall(head)
        assert read_response(s.makefile("rb")).status in (400, 413)


def test_an_endless_chunked_body_is_cut_off(start, repository):
    """Gigabytes are offered; what the limit allows is held, the rest is dropped until the connection ends."""
    s = start(repository, "--http-max-input-size=8M")
    piece, rss = b"100000\r\n" + b" " * (1 << 20) + b"\r\n", s.status("VmRSS")
    with s.connect() as c:
        c.sendall(b"POST /v2/models/identity_fp32/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        began = time.time()
        with pytest.raises(OSError):
            while time.time() < began + 10:
                c.sendall(piece)
        assert SANITIZED or s.status("VmHWM") - rss < 48 << 10
    with s.connect() as c:  # who stops in time reads why
        c.sendall(b"POST /v2/models/identity_fp32/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + piece * 9)
        assert read_response(c.makefile("rb")).status == 413
    assert s.raw(post(GOOD)).status == 200


def test_a_body_larger_than_all_bodies_may_be_is_refused_at_once(start, repository):
    s = start(repository, "--http-max-input-size=4G", "--inflight-bytes=64M")
    for extra in (b"", b"Inference-Header-Content-Length: 100\r\n"):
        with s.connect(5) as c:
            c.sendall(post(b"", extra=extra)[:-len(b"Content-Length: 0\r\n\r\n")] + b"Content-Length: 2147483648\r\n\r\n{")
            assert read_response(c.makefile("rb")).status == 413


# The system

@pytest.mark.parametrize("how", ["limit", "device"])
def test_a_full_disk_under_the_log(start, repository, tmp_path, how):
    log = tmp_path / "log" if how == "limit" else "/dev/full"
    s = start(repository, f"--log-file={log}", "--access-log=true", prefix=["prlimit", "--fsize=8192"])
    for _ in range(200):
        assert s.raw(post(GOOD)).status == 200
    if how == "limit":
        assert 8000 < log.stat().st_size <= 8192
        log.write_bytes(b"")  # there is room again
        assert s.raw(post(GOOD)).status == 200
        deadline = time.time() + 5
        while b"access" not in log.read_bytes():  # it is written once the answer has gone out
            assert time.time() < deadline
            time.sleep(0.01)
        for _ in range(200):
            s.raw(post(GOOD))
    assert s.stop() == 0  # which has lines of its own


def test_out_of_descriptors_and_back(start, repository):
    """Those that are connected are served, those that come wait, and get their answer when there is room."""
    s = start(repository, files=64)
    first = s.connect()
    stream = first.makefile("rb")
    first.sendall(post(GOOD))
    assert read_response(stream).status == 200
    held = [s.connect(10) for _ in range(100)]  # the kernel takes more than the server can
    s.wait_for("out of file descriptors")
    for _ in range(50):
        first.sendall(post(GOOD))
        assert read_response(stream).status == 200
    for c in held:
        c.sendall(post(GOOD, extra=b"Connection: close\r\n"))
    for c in held:
        assert read_response(c.makefile("rb")).status == 200
        c.close()
    assert s.log().count("out of file descriptors") < 10


def test_kill_and_restart_on_the_same_port(start, repository):
    s = start(repository)
    for _ in range(3):
        held = [s.connect() for _ in range(20)]
        for c in held[:10]:
            c.sendall(post(GOOD)[:-5])
        s.process.kill()
        s.process.wait()
        s = start(repository, port=s.port)
        assert s.raw(post(GOOD)).status == 200
        for c in held:
            c.close()


# Clients

def reset(c):
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.close()


def big(elements):
    values = b",".join([b"0.25"] * elements)
    return b'{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[%d],"data":[%s]}]}' % (elements, values)


def test_resets_in_every_phase(start, repository):
    s = start(repository)
    whole, large = post(GOOD), post(big(200000))
    slow = post(GOOD, b"/v2/models/slow/infer")
    phases = [b"", whole[:10], whole[:whole.index(b"\r\n\r\n") + 4], whole[:-5], whole, slow, whole * 50, large[:500000], large,
              large + whole, b"\x00" * 100]
    for round in range(2 if SANITIZED else 15):
        for data in phases:
            c = s.connect()
            c.setblocking(False)
            try:
                c.send(data)
            except OSError:
                pass
            if round % 3:
                time.sleep(0.001 * round)
            reset(c)
            assert s.raw(post(GOOD)).json()["outputs"][0]["data"] == [1, 2, 3]
    deadline = time.time() + 10
    while (left := descriptors(s)) > 0:
        assert time.time() < deadline, f"{left} connections are left"
        time.sleep(0.05)
    assert s.stop() == 0


def descriptors(s):
    """Connections that the server holds."""
    state = {"01", "08"}  # established, close-wait
    inodes = set()
    for line in open("/proc/net/tcp").readlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{s.port:04X}") and fields[3] in state:
            inodes.add(fields[9])
    return len(inodes)


def test_half_closed_clients(server):
    """Who ends its side gets the answer that is ready by then, and never waits for ever."""
    for _ in range(20):
        with server.connect(5) as c:
            c.sendall(post(GOOD))
            c.shutdown(socket.SHUT_WR)
            data = c.makefile("rb").read()
            assert data == b"" or data.startswith(b"HTTP/1.1 200")
        with server.connect(5) as c:  # in the middle of a body, of a head, before anything
            c.sendall(post(GOOD)[:-5])
            c.shutdown(socket.SHUT_WR)
            assert c.recv(1) == b""
        with server.connect(5) as c:
            c.sendall(b"GET /v2 HT")
            c.shutdown(socket.SHUT_WR)
            assert c.recv(1) == b""


def test_bytes_one_by_one(server):
    clients = [server.connect() for _ in range(20)]
    for c in clients:
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data = post(GOOD, extra=b"Expect: 100-continue\r\n")
    for at in range(len(data)):
        for c in clients:
            c.send(data[at:at + 1])
    for c in clients:
        stream = c.makefile("rb")
        if (r := read_response(stream)).status == 100:  # not where the body came before the server looked
            r = read_response(stream)
        assert r.json()["outputs"][0]["data"] == [1, 2, 3]
        c.close()


def test_a_flood_of_pipelined_requests(server):
    """Answers come in order; others wait no longer for it than a moment."""
    count = 500 if SANITIZED else 10000
    with server.connect() as c:
        sender = threading.Thread(target=c.sendall, args=(b"".join(
            post(b'{"id":"%d","inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1],"data":[%d]}]}' % (i, i))
            for i in range(count)),))
        sender.start()
        stream, longest = c.makefile("rb"), 0
        for i in range(count):
            r = read_response(stream).json()
            assert r["id"] == str(i) and r["outputs"][0]["data"] == [i]
            if i % 500 == 0:
                begin = time.monotonic()
                assert server.raw(post(GOOD)).status == 200
                longest = max(longest, time.monotonic() - begin)
        sender.join()
        assert longest < 1


def test_slow_readers(start, repository):
    """Who reads a little in time gets all of it, who does not is cut off."""
    s = start(repository, "--http-body-timeout-secs=1")
    request = post(big(1600000))
    clients = []
    for _ in range(2):
        c = socket.socket()
        c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        c.connect(("127.0.0.1", s.port))
        c.settimeout(10)
        c.sendall(request)
        clients.append(c)
    slow, dead = clients
    received = slow.recv(1)
    assert dead.recv(1) == received  # both answers have begun
    began = time.time()
    while time.time() - began < 2.5:  # longer than the limit, with progress
        received += slow.recv(100000)
        time.sleep(0.1)
    while not received.endswith(b"]}]}"):
        piece = slow.recv(1 << 20)
        assert piece, "cut off"
        received += piece
    assert received.startswith(b"HTTP/1.1 200")
    data = b""
    try:
        while piece := dead.recv(1 << 20):
            data += piece
    except ConnectionError:
        pass
    assert not data.endswith(b"]}]}"), "not cut off"


# Stop signals

@pytest.fixture
def queue(start, tmp_path):
    """A server with hundreds of requests that wait for one instance, 5 ms each."""
    write_model(tmp_path, "busy", identity_config(extra='parameters { key: "execute_delay_ms" value { string_value: "5" } }'))
    count = 50 if SANITIZED else 400
    s = start(tmp_path)
    clients = [s.connect() for _ in range(count)]
    for c in clients:
        c.sendall(post(GOOD, b"/v2/models/busy/infer"))
    idle = [s.connect() for _ in range(50)]
    while sum(v for k, v in s.metrics().items() if k.startswith("nv_inference_pending_request_count")) < count / 2:
        time.sleep(0.005)
    yield s, clients, idle
    for c in clients + idle:
        c.close()


def test_sigterm_answers_all_that_wait(queue):
    s, clients, idle = queue
    s.process.send_signal(signal.SIGTERM)
    for c in clients:
        r = read_response(c.makefile("rb"))
        assert r.status == 200 and r.json()["outputs"][0]["data"] == [1, 2, 3]
    for c in idle:
        assert c.recv(1) == b""
    assert s.process.wait(10) == 0


def test_a_second_signal_ends_at_once(queue):
    s, clients, _ = queue
    s.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    begin = time.time()
    s.process.send_signal(signal.SIGINT)
    assert s.process.wait(10) == 1
    assert time.time() - begin < (3 if SANITIZED else 1)  # the thread sanitizer sleeps for a second at the end


def test_sigterm_answers_those_that_were_not_accepted_yet(start, repository):
    s = start(repository)
    for _ in range(3):
        s.process.send_signal(signal.SIGSTOP)
        clients = [s.connect() for _ in range(30)]
        for c in clients:
            c.sendall(post(GOOD))
        s.process.send_signal(signal.SIGTERM)
        s.process.send_signal(signal.SIGCONT)
        for c in clients:
            assert read_response(c.makefile("rb")).status == 200
            c.close()
        assert s.process.wait(10) == 0
        s = start(repository, port=s.port)
