"""A client of HTTP/2 that says frames, right or wrong ones, as a test wants them."""
import collections, socket, struct, time

import hpack

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 0, 1, 7, 8, 11
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

Frame = collections.namedtuple("Frame", "kind flags id payload")


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def block(fields):
    """Fields as literals that no table keeps."""
    out = b""
    for name, value in fields:
        name, value = name.encode(), value.encode()
        assert len(name) < 127 and len(value) < 127
        out += bytes((0, len(name))) + name + bytes((len(value),)) + value
    return out


def head(method, path, *fields):
    return block([(":method", method), (":scheme", "http"), (":path", path), (":authority", "x"), *fields])


def grpc_head(path, *fields):
    return head("POST", path, ("content-type", "application/grpc"), ("te", "trailers"), *fields)


def message(data, flag=0):
    return bytes((flag,)) + struct.pack(">I", len(data)) + data


class Answer:
    def __init__(self):
        self.fields, self.body, self.ended, self.reset = {}, b"", False, None

    @property
    def done(self):
        return self.ended or self.reset is not None

    @property
    def status(self):
        return int(self.fields[":status"])

    @property
    def grpc_status(self):
        return int(self.fields["grpc-status"])


class Client:
    """One connection. `window`: of each stream, for what is received; all of the connection's is granted."""

    def __init__(self, server, window=1 << 30, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(30)
        self.socket.connect(("127.0.0.1", server.grpc_port))
        self.decoder, self.rest, self.next_id = hpack.Decoder(), b"", 1
        self.answers, self.goaways, self.pings, self.closed = collections.defaultdict(Answer), [], 0, False
        self.say(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, window)) +
                 frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", (1 << 31) - 1 - 65535)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def say(self, data):
        self.socket.sendall(data)

    def ask(self, block, body=None, ends=True):
        """A request; its stream's number."""
        stream = self.next_id
        self.next_id += 2
        data = frame(HEADERS, END_HEADERS | (END_STREAM if ends and body is None else 0), stream, block)
        if body is not None:
            data += frame(DATA, END_STREAM if ends else 0, stream, body)
        self.say(data)
        return stream

    def reset(self, stream):
        self.say(frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL)))

    def frames(self):
        """Those that the next bytes complete; none: the connection has ended."""
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionError:
            data = b""
        self.closed = not data
        data, at = self.rest + data, 0
        while len(data) - at >= 9:
            size = int.from_bytes(data[at:at + 3], "big")
            if len(data) - at < 9 + size:
                break
            yield Frame(data[at + 3], data[at + 4], int.from_bytes(data[at + 5:at + 9], "big"), data[at + 9:at + 9 + size])
            at += 9 + size
        self.rest = data[at:]

    def take(self, f):
        answer = self.answers[f.id]
        if f.kind == HEADERS:
            assert f.flags & END_HEADERS
            answer.fields.update(self.decoder.decode(f.payload))
        elif f.kind == DATA:
            answer.body += f.payload
        elif f.kind == RST_STREAM and not answer.ended:
            answer.reset = int.from_bytes(f.payload, "big")
        elif f.kind == GOAWAY:
            self.goaways.append((int.from_bytes(f.payload[:4], "big"), int.from_bytes(f.payload[4:8], "big")))
        elif f.kind == PING and not f.flags & ACK:
            self.pings += 1
            self.say(frame(PING, ACK, 0, f.payload))
        elif f.kind == SETTINGS and not f.flags & ACK:
            self.say(frame(SETTINGS, ACK, 0))
        if f.kind in (HEADERS, DATA) and f.flags & END_STREAM:
            answer.ended = True

    def wait(self, until, seconds=60):
        """Takes what comes until it is so, or the connection has ended; whether it is."""
        deadline = time.monotonic() + seconds
        while not until() and not self.closed:
            assert time.monotonic() < deadline, "no answer in time"
            for f in self.frames():
                self.take(f)
        return until()

    def answer(self, stream):
        assert self.wait(lambda: self.answers[stream].done), self.goaways
        return self.answers[stream]
