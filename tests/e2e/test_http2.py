"""HTTP/2 over real sockets: clients of other makes, and those that stop, vanish, flood or break the rules, beside
others that are served all the time.

MODELD_CANCELS sets how many requests are given up (100,000; 2,000 under a sanitizer), MODELD_STREAMS how many one
connection asks (the same).
"""
import json, os, random, signal, socket, struct, threading, time

import h2.config, h2.connection, h2.events
import pytest
from tritonclient.grpc import service_pb2

from conftest import SANITIZED, Server
from frames import *

CANCELS = int(os.environ.get("MODELD_CANCELS", 2000 if SANITIZED else 100000))
STREAMS = int(os.environ.get("MODELD_STREAMS", 2000 if SANITIZED else 100000))
SERVICE = "/inference.GRPCInferenceService/"
LIVE = grpc_head(SERVICE + "ServerLive")
INFER = grpc_head(SERVICE + "ModelInfer")
STREAM_INFER = grpc_head(SERVICE + "ModelStreamInfer")
MIB = 1024  # of /proc's KiB


def infer_request(model, count=3):
    request = service_pb2.ModelInferRequest(model_name=model)
    tensor = request.inputs.add(name="INPUT0", datatype="FP32", shape=[count])
    assert tensor.name
    request.raw_input_contents.append(struct.pack("<f", 1.5) * count)
    return request.SerializeToString()


GOOD, SLOW = infer_request("identity_fp32"), infer_request("slow")


@pytest.fixture(scope="module")
def server(repository):
    s = Server(repository, "--http-header-timeout-secs=2", "--http-body-timeout-secs=3", "--grpc-http2-max-ping-strikes=0")
    yield s
    assert s.process.poll() is None, f"the server died: {s.log()[-4000:]}"
    assert s.stop() == 0, s.log()[-4000:]


def check_good(client):
    answer = client.answer(client.ask(INFER, message(GOOD)))
    assert (answer.status, answer.grpc_status) == (200, 0)
    response = service_pb2.ModelInferResponse.FromString(answer.body[5:])
    assert response.raw_output_contents[0] == struct.pack("<f", 1.5) * 3


class Others:
    """One client that asks all the time on one connection."""

    def __init__(self, server):
        self.server, self.stop, self.count, self.longest, self.wrong = server, threading.Event(), 0, 0, None
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            with Client(self.server) as client:
                while not self.stop.wait(0.005) or not self.count:
                    begin = time.monotonic()
                    check_good(client)
                    self.longest = max(self.longest, time.monotonic() - begin)
                    self.count += 1
        except BaseException as error:
            self.wrong = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        assert self.wrong is None, self.wrong
        assert self.longest < 10, (self.count, self.longest)


# Clients of other makes


def test_http2_answers_as_http1_does(server):
    """Through the h2 package, which checks what it is told."""
    body = json.dumps({"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [3], "data": [1, 2, 3]}]}).encode()
    asked = [("GET", "/v2", b""), ("GET", "/v2/models/identity_fp32", b""), ("GET", "/v2/nowhere", b""),
             ("POST", "/v2/models/identity_fp32/infer", body), ("HEAD", "/v2/health/live", b""),
             ("POST", "/v2/models/identity_fp32/infer", b"{")]
    c = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    c.initiate_connection()
    for i, (method, path, data) in enumerate(asked):
        c.send_headers(2 * i + 1, [(":method", method), (":scheme", "http"), (":path", path), (":authority", "x")],
                       end_stream=not data)
        if data:
            c.send_data(2 * i + 1, data, end_stream=True)
    answers, ended = {}, set()
    with server.connect() as s:
        s.sendall(c.data_to_send())
        while len(ended) < len(asked):
            for event in c.receive_data(s.recv(65536)):
                if isinstance(event, h2.events.ResponseReceived):
                    answers[event.stream_id] = [int(dict(event.headers)[":status"]), b""]
                elif isinstance(event, h2.events.DataReceived):
                    answers[event.stream_id][1] += event.data
                elif isinstance(event, h2.events.StreamEnded):
                    ended.add(event.stream_id)
                assert not isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)), event
            s.sendall(c.data_to_send())
    for i, (method, path, data) in enumerate(asked):
        theirs = server.request(method, path, data or None)
        assert answers[2 * i + 1] == [theirs.status, theirs.body], (method, path)


# Slow and silent clients


def test_messages_a_byte_at_a_time(server):
    with Client(server) as client:
        stream = client.ask(INFER, b"", ends=False)
        data = message(GOOD)
        for i, byte in enumerate(data):
            f = frame(DATA, END_STREAM if i + 1 == len(data) else 0, stream, bytes((byte,)))
            for at in range(len(f)):
                client.say(f[at:at + 1])
        assert client.answer(stream).grpc_status == 0


def test_large_bodies_in_frames_of_any_size(server):
    """Received in place where they can be: frames are what was expected, larger, smaller, empty or of something else."""
    random.seed(5)
    count = 1 << 20
    values = random.randbytes(4 * count)
    request = service_pb2.ModelInferRequest(model_name="identity_fp32", raw_input_contents=[values])
    request.inputs.add(name="INPUT0", datatype="FP32", shape=[count])
    whole = message(request.SerializeToString())
    with Client(server) as client:
        for largest in (16384, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 20):  # the server offers more once it knows that it is worth it
            stream = client.ask(INFER, ends=False)
            said, sizes, others = 0, {9, 5000, largest - 1, largest}, []
            while said < len(whole):
                size = random.choice([largest, *sizes, random.randrange(largest)])
                data = frame(DATA, 0, stream, whole[said:said + size])
                said += size
                if random.random() < 0.1:
                    data += frame(DATA, 0, stream) + frame(PING, 0, 0, b"12345678")
                cut = random.randrange(len(data))
                client.say(data[:cut])
                time.sleep(random.choice([0, 0, 0.001]))
                client.say(data[cut:])
                if random.random() < 0.1:
                    others.append(client.ask(INFER, message(GOOD)))
                if random.random() < 0.3:
                    client.wait(lambda: not others or client.answers[others[-1]].done)
            client.say(frame(DATA, END_STREAM, stream))
            answer = client.answer(stream)
            assert answer.grpc_status == 0, answer.fields
            assert service_pb2.ModelInferResponse.FromString(answer.body[5:]).raw_output_contents[0] == values
            assert all(client.answer(other).grpc_status == 0 for other in others)


def test_what_is_said_in_the_middle_of_a_large_body_is_heard(server):
    """While one comes the server waits for much of it at once, but not for long."""
    whole = message(infer_request("identity_fp32", 1 << 20))
    with Client(server) as client:
        for given in (20000, 300000, 1000000):
            stream = client.ask(INFER, ends=False)
            client.say(b"".join(frame(DATA, 0, stream, whole[at:at + 16384]) for at in range(0, given, 16384)))
            time.sleep(0.1)
            begin, acknowledged = time.monotonic(), False
            client.say(frame(PING, 0, 0, b"12345678"))
            while not acknowledged:
                for f in client.frames():
                    client.take(f)
                    acknowledged |= f.kind == PING and f.flags & ACK != 0
                assert not client.closed
            check_good(client)
            assert time.monotonic() - begin < 0.5
            client.reset(stream)
            check_good(client)


def test_requests_that_do_not_come_whole_are_ended(server):
    with Client(server) as client, Client(server) as half_frame, Client(server) as half_head:
        stream = client.ask(INFER, message(GOOD)[:-1], ends=False)
        half_frame.say(frame(PING, 0, 0, b"12345678")[:-1])
        half_head.say(frame(HEADERS, END_STREAM, 1, LIVE))
        assert client.answer(stream).grpc_status == 4
        check_good(client)  # the connection is as good as before
        half_frame.wait(lambda: False, 20)
        assert half_frame.closed
        assert half_head.answer(1).status == 408


def test_clients_that_never_read(server):
    """Their answers wait in bounded memory, and then they are left."""
    size = 250000
    with Others(server):
        clients = [Client(server, receive_buffer=4096) for _ in range(20)]
        for client in clients:
            for _ in range(10):
                client.ask(INFER, message(infer_request("identity_fp32", size)))
        deadline = time.monotonic() + 40
        for client in clients:
            # what is in the socket is read at last: then comes its end
            while not client.closed:
                assert time.monotonic() < deadline
                time.sleep(0.1)
                try:
                    client.say(frame(PING, 0, 0, b"12345678"))
                except ConnectionError:
                    client.closed = True
            client.socket.close()


def test_streams_whose_window_stays_shut(server):
    with Client(server, window=0) as client:
        stream = client.ask(INFER, message(GOOD))
        assert client.answer(stream).reset == CANCEL


# Clients that go


def test_clients_that_vanish_mid_stream(server):
    """At every stage, by a reset of the connection or an orderly end."""
    whole = frame(HEADERS, END_HEADERS, 1, INFER) + frame(DATA, END_STREAM, 1, message(SLOW))
    bidi = frame(HEADERS, END_HEADERS, 3, STREAM_INFER) + frame(DATA, 0, 3, message(SLOW) + message(SLOW) + b"\0\0")
    with Others(server):
        for i in range(200):
            client = Client(server)
            data = whole + bidi
            client.say(data[:random.Random(i).randrange(len(data) + 1)])
            if i % 2:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.socket.close()


def test_clients_that_reset_streams_must_calm_down(server):
    with Others(server), Client(server) as client:
        try:
            for _ in range(5000):
                client.reset(client.ask(INFER, message(SLOW)))
        except ConnectionError:
            pass
        client.wait(lambda: False)
        assert [error for _, error in client.goaways] == [ENHANCE_YOUR_CALM]


def test_memory_after_cancelled_requests(start, repository):
    each = 500
    server = start(repository, "--http2-max-concurrent-streams=2000")

    def cancel(count):
        for _ in range(count // each):
            with Client(server) as client:
                data = b""
                for i in range(each):
                    stream = 2 * i + 1
                    data += frame(HEADERS, END_HEADERS, stream, INFER) + frame(DATA, END_STREAM, stream, message(SLOW))
                    data += frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))
                client.say(data + frame(PING, 0, 0, b"12345678"))
                while not any(f.kind == PING and f.flags & ACK for f in client.frames()):
                    assert not client.closed

    cancel(CANCELS // 10)
    before = server.status("VmRSS")
    cancel(CANCELS)
    deadline = time.monotonic() + 60
    while server.status("VmRSS") > before + 8 * MIB and time.monotonic() < deadline:
        time.sleep(0.1)
    assert server.status("VmRSS") <= before + 8 * MIB * (20 if SANITIZED else 1)
    assert server.metrics()["modeld_http_requests_total"] >= CANCELS
    with Client(server) as client:
        check_good(client)
    assert server.stop() == 0


# Very many streams


def test_many_streams_on_one_connection(server):
    at_once = 500
    with Client(server) as client:
        check_good(client)
        before, counted, ended = server.status("VmRSS"), 0, 0
        for first in range(0, STREAMS, at_once):
            data = b""
            for i in range(at_once):
                stream = client.next_id
                client.next_id += 2
                data += frame(HEADERS, END_HEADERS, stream, LIVE) + frame(DATA, END_STREAM, stream, message(b""))
            client.say(data)
            counted += at_once
            while ended < counted:
                for f in client.frames():
                    ended += f.kind == HEADERS and f.flags & END_STREAM
                    assert f.kind not in (RST_STREAM, GOAWAY), f
                assert not client.closed
        assert server.status("VmRSS") <= before + 8 * MIB * (20 if SANITIZED else 1)
        check_good(client)


def test_ten_thousand_streams_at_once_are_refused(server):
    count, most = 10000, 1024
    with Others(server), Client(server) as client:
        data = b""
        for i in range(count):
            data += frame(HEADERS, END_HEADERS, 2 * i + 1, STREAM_INFER)
        thread = threading.Thread(target=client.say, args=(data,))
        thread.start()
        refused = 0
        while refused < count - most:
            for f in client.frames():
                if f.kind == RST_STREAM:
                    assert int.from_bytes(f.payload, "big") == REFUSED_STREAM
                    refused += 1
                assert f.kind != GOAWAY
            assert not client.closed
        thread.join()
        # the others are still there
        client.next_id = 2 * count + 1
        client.say(frame(DATA, END_STREAM, 1))
        assert client.answer(1).grpc_status == 0


# Breaches of the rules


MALFORMED = {
    "no preface": b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    "not SETTINGS first": PREFACE + frame(PING, 0, 0, b"12345678"),
    "too large": PREFACE + frame(SETTINGS, 0, 0) + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
    "DATA of no stream": PREFACE + frame(SETTINGS, 0, 0) + frame(DATA, 0, 5, b"x"),
    "even stream": PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 5, 2, LIVE),
    "lower stream": PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 5, 101, LIVE) + frame(HEADERS, 5, 1, LIVE),
    "bad block": PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 5, 1, b"\xff\xff\xff\xff\xff\xff"),
    "interrupted block": PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 1, 1, LIVE) + frame(PING, 0, 0, b"12345678"),
    "padding": PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 5 | PADDED, 1, b"\xff" + LIVE),
    "push": PREFACE + frame(SETTINGS, 0, 0) + frame(PUSH_PROMISE, 4, 1, b"\0\0\0\2" + LIVE),
    "window": PREFACE + frame(SETTINGS, 0, 0) + frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"),
    "initial window": PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 31)),
    "CONTINUATION flood": PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 1, 1, LIVE) + frame(CONTINUATION, 0, 1) * 1000,
    "SETTINGS flood": PREFACE + frame(SETTINGS, 0, 0) * 20000,
    "PING flood": PREFACE + frame(SETTINGS, 0, 0) + frame(PING, 0, 0, b"12345678") * 20000,
    "empty DATA flood": PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 4, 1, INFER) + frame(DATA, 0, 1) * 20000,
    "PRIORITY flood": PREFACE + frame(SETTINGS, 0, 0) + frame(PRIORITY, 0, 3, b"\0\0\0\0\x10") * 20000,
    "unknown flood": PREFACE + frame(SETTINGS, 0, 0) + frame(0xbb, 0, 0) * 20000,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_breaches_end_one_connection_alone(server, name):
    with Others(server), socket.create_connection(("127.0.0.1", server.grpc_port), 30) as s:
        answer = b""
        try:
            s.sendall(MALFORMED[name])
            while data := s.recv(65536):
                answer += data
        except ConnectionError:
            pass
        assert name == "no preface" or bytes((GOAWAY, 0, 0, 0, 0, 0)) in answer


def test_random_bytes_end_one_connection_alone(server):
    rng = random.Random(7)
    with Others(server):
        for _ in range(100):
            data = bytearray(PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 1, INFER) +
                             frame(DATA, END_STREAM, 1, message(GOOD)) + frame(HEADERS, 5, 3, LIVE))
            for _ in range(rng.randrange(1, 8)):
                data[rng.randrange(len(PREFACE), len(data))] = rng.randrange(256)
            with socket.create_connection(("127.0.0.1", server.grpc_port), 30) as s:
                try:
                    s.sendall(data)
                    s.shutdown(socket.SHUT_WR)
                    while s.recv(65536):
                        pass
                except ConnectionError:
                    pass


# Going away


def test_sigterm_loses_no_stream(start, repository):
    """Unary calls under load, and a stream of messages that is open meanwhile."""
    server = start(repository)
    with Client(server) as client, Client(server) as bidi:
        stream = bidi.ask(STREAM_INFER, message(SLOW), ends=False)
        bidi.wait(lambda: bidi.answers[stream].body)
        for i in range(300):
            client.ask(INFER, message(SLOW if i % 50 == 0 else GOOD))
            if i == 100:
                server.process.send_signal(signal.SIGTERM)
        # still asking until the server says from where on it does not answer
        while len(client.goaways) < 2 and not client.closed:
            client.ask(INFER, message(GOOD))
            for f in client.frames():
                client.take(f)
        last, error = client.goaways[-1]
        assert client.goaways[0] == (2**31 - 1, NO_ERROR) and error == NO_ERROR
        client.wait(lambda: client.closed)
        lost = [i for i, answer in client.answers.items() if 0 < i <= last and not answer.ended]
        assert not lost, (lost, last)
        assert all(answer.grpc_status == 0 for i, answer in client.answers.items() if 0 < i <= last)
        bidi.say(frame(DATA, END_STREAM, stream, message(SLOW)))
        answer = bidi.answer(stream)
        assert answer.grpc_status == 0
        responses = answer.body
        while responses:
            size = int.from_bytes(responses[1:5], "big")
            response = service_pb2.ModelStreamInferResponse.FromString(responses[5:5 + size])
            assert not response.error_message
            responses = responses[5 + size:]
        bidi.wait(lambda: bidi.closed)
    assert server.process.wait(40) == 0
