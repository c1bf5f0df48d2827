"""Thousands of clients that send or read slowly: little memory for each, others are served all the time.

MODELD_SLOW_CLIENTS sets their number (2,000; 200 under a sanitizer).
"""
import gzip, json, os, resource, select, socket, struct, threading, time

import pytest
from conftest import SANITIZED, Server, identity_config, read_response, write_model

COUNT = int(os.environ.get("MODELD_SLOW_CLIENTS", 200 if SANITIZED else 2000))
INFER = b"POST /v2/models/identity_fp32/infer HTTP/1.1\r\nHost: x\r\n"
GOOD = b'{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[3],"data":[1,2,3]}]}'
MIB = 1 << 20


@pytest.fixture(autouse=True)
def descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < COUNT + 500:
        pytest.skip(f"{hard} descriptors are allowed, {COUNT + 500} are needed")
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connect(port, number, receive_buffer=None):
    """From one of many source addresses: one has 28,000 ports at most."""
    s = socket.socket()
    if receive_buffer:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    s.bind((f"127.0.{1 + number // 2000}.1", 0))
    s.settimeout(20)
    s.connect(("127.0.0.1", port))
    s.setblocking(False)
    return s


class Others:
    """One client that asks all the time, each time on a new connection; the longest that it waited."""

    def __init__(self, server):
        self.server, self.stop, self.longest, self.count, self.wrong = server, threading.Event(), 0, 0, []
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.stop.is_set():
            begin = time.monotonic()
            try:
                r = self.server.raw(INFER + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(GOOD) + GOOD, timeout=30)
                if r is None or r.status != 200 or r.json()["outputs"][0]["data"] != [1, 2, 3]:
                    self.wrong.append(r)
            except OSError as error:
                self.wrong.append(error)
            self.longest = max(self.longest, time.monotonic() - begin)
            self.count += 1
            self.stop.wait(0.005)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        assert not self.wrong, (len(self.wrong), self.count, self.wrong[:3])
        # Starved ones would wait for the body's timeout. A busy machine, or a sanitizer, has its own pace.
        assert self.count > 0 and self.longest < 10, (self.count, self.longest)


class Memory:
    """What the server holds more than at the start."""

    def __init__(self, server):
        self.server, self.before = server, server.status("VmRSS")

    def grown(self):
        return (self.server.status("VmRSS") - self.before) * 1024

    def falls_below(self, limit, seconds=20):
        deadline = time.time() + seconds
        while self.grown() > limit:
            assert SANITIZED or time.time() < deadline, f"{self.grown()} bytes are held, at most {limit} should be"
            if SANITIZED:
                return
            time.sleep(0.1)


def serve(start, repository, inflight, *flags):
    s = start(repository, f"--inflight-bytes={inflight}", f"--max-connections={COUNT + 100}", *flags)
    for _ in range(20):
        s.raw(INFER + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(GOOD) + GOOD)
    return s, Memory(s)


def close(clients):
    for c in clients:
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        c.close()


def report(record_property, what, memory):
    record_property(what, f"{COUNT} clients: {memory.grown() / COUNT / 1024:.2f} KiB each")
    print(f"{what}: {COUNT} clients, {memory.grown() / COUNT / 1024:.2f} KiB each")


STARTS = {  # what each connection sends, and how many KiB it may cost
    "idle": (b"", 2),
    "answered": (INFER + b"Content-Length: %d\r\n\r\n" % len(GOOD) + GOOD, 2.5),
    "head": (b"POST /v2/models/identity_fp32/infer HTTP/1.1\r\nHost: x\r\nX-Slow: ", 7),
    "announced": (INFER + b"Content-Length: 67108864\r\n\r\n", 15),
    "begun": (INFER + b"Content-Length: 67108864\r\n\r\n" + GOOD[:40], 15),
    "chunked": (INFER + b"Transfer-Encoding: chunked\r\n\r\n20\r\n" + GOOD[:32] + b"\r\n10", 15),
}


@pytest.mark.parametrize("what", STARTS)
def test_slow_connections_cost_little(start, repository, record_property, what):
    """Each holds a few KiB, and no more than 128 MiB may be in flight for all of them."""
    s, memory = serve(start, repository, 128 * MIB)
    text, cost = STARTS[what]
    with Others(s):
        clients = []
        for i in range(COUNT):
            clients.append(connect(s.port, i))
            clients[-1].send(text)
        for _ in range(2):  # and a byte now and then
            time.sleep(0.1)
            for c in clients if what not in ("idle", "answered") else []:
                c.send(b"1")
        s.get("/v2/health/live")
        report(record_property, what, memory)
        assert SANITIZED or memory.grown() <= COUNT * cost * 1024 + 2 * MIB
        close(clients)
    if what == "begun":
        memory.falls_below(3 * MIB, 25)


def test_uploads_that_fill_the_bound(start, repository, record_property):
    """Each sends as much of its 64 MiB as is taken: far more than the bound."""
    bound = 128 * MIB
    s, memory = serve(start, repository, bound, "--http-body-timeout-secs=60")
    head, piece = INFER + b"Content-Length: 67108864\r\n\r\n", b" " * (128 * 1024)
    with Others(s):
        clients = [connect(s.port, i) for i in range(COUNT)]
        for c in clients:
            c.send(head + b"{")
        deadline = time.time() + 3
        while time.time() < deadline:
            writable = []
            for at in range(0, COUNT, 500):
                writable += select_writable(clients[at:at + 500])
            for c in writable:
                try:
                    c.send(piece)
                except OSError:
                    pass
        report(record_property, "filling", memory)
        assert SANITIZED or memory.grown() <= bound + COUNT * 12 * 1024 + 8 * MIB
        assert SANITIZED or memory.grown() > bound / 3
        close(clients)
    memory.falls_below(40 * MIB + COUNT * 12 * 1024, 15)


def select_writable(sockets):
    poll, by_number = select.poll(), {}
    for s in sockets:
        poll.register(s, select.POLLOUT)
        by_number[s.fileno()] = s
    return [by_number[number] for number, events in poll.poll(0) if events & select.POLLOUT]


@pytest.mark.parametrize("form", ["json", "binary", "gzip", "64 MiB"])
def test_answers_that_nobody_reads(start, repository, record_property, form):
    bound, elements = (256 * MIB, 16 * MIB) if form == "64 MiB" else (64 * MIB, 250000)
    s, memory = serve(start, repository, bound, "--http-body-timeout-secs=60")
    if form in ("binary", "64 MiB"):
        data = struct.pack("<f", 0.0) * elements
        text = json.dumps({"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [elements], "parameters":
                                       {"binary_data_size": len(data)}}], "parameters": {"binary_data_output": True}}).encode()
        body, extra = text + data, b"Inference-Header-Content-Length: %d\r\n" % len(text)
        if form == "64 MiB":  # a small question with a large answer
            body, extra = gzip.compress(body), extra + b"Content-Encoding: gzip\r\n"
    else:
        rows = b",".join(b"%d.%d" % (i * 7919 % 9973, i % 997) for i in range(elements))
        body = b'{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[%d],"data":[%s]}]}' % (elements, rows)
        extra = b"Accept-Encoding: gzip\r\n" if form == "gzip" else b""
    request = INFER + extra + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with Others(s):
        clients, left = [], []
        for i in range(COUNT):
            clients.append(connect(s.port, i, receive_buffer=4096))
            left.append(memoryview(request))
        deadline, most = time.time() + 4, 0
        while time.time() < deadline:
            for i, c in enumerate(clients):
                try:
                    if left[i]:
                        left[i] = left[i][c.send(left[i][:65536]):]
                except OSError:
                    pass
            most = max(most, memory.grown())
        print(f"{form}: {most / MIB:.0f} MiB at most")
        assert SANITIZED or most <= bound * 1.25 + COUNT * 12 * 1024 + 8 * MIB
        close(clients)
    memory.falls_below(40 * MIB + COUNT * 12 * 1024, 15)
