"""The least of an HTTP/2 client: one gRPC call after the other on one connection, as libraries send
them: the first with its header fields in full, the others with references to them."""
import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, ACK, END_HEADERS = 1, 1, 4
FIRST_DYNAMIC = 62  # index of the newest field of the dynamic table


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def literal(name, value):
    """With incremental indexing, both as they are; a number is the name's index in the static table."""
    head = bytes((0x40 | name,)) if isinstance(name, int) else b"\x40" + bytes((len(name),)) + name
    return head + bytes((len(value),)) + value


class GrpcConnection:
    def __init__(self, port, path):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream, self.max_frame = -1, 16384
        # large windows, so that answers need no updates of them
        settings = struct.pack(">HI", 4, 2**31 - 1)
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, settings)
                            + frame(8, 0, 0, struct.pack(">I", 2**31 - 65536)))
        added = [(4, path.encode()), (1, b"127.0.0.1"), (b"content-type", b"application/grpc"),
                 (b"te", b"trailers"), (b"user-agent", b"bench")]
        fixed = b"\x83\x86"  # :method: POST, :scheme: http
        self.first = fixed + b"".join(literal(*field) for field in added)
        self.later = fixed + bytes(0x80 | FIRST_DYNAMIC + len(added) - 1 - i for i in range(len(added)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def receive(self, size):
        data = b""
        while len(data) < size:
            if not (piece := self.socket.recv(min(size - len(data), 1 << 20))):
                raise OSError("the server closed the connection")
            data += piece
        return data

    def call(self, message):
        """Sends a framed message; returns the bytes of the answer's frames of DATA."""
        block = self.first if self.stream < 0 else self.later
        self.stream += 2
        out = frame(HEADERS, END_HEADERS, self.stream, block)
        for at in range(0, len(message), self.max_frame):
            piece = message[at:at + self.max_frame]
            out += frame(DATA, END_STREAM if at + len(piece) == len(message) else 0, self.stream, piece)
        self.socket.sendall(out)
        answer = b""
        while True:
            head, flags, stream = struct.unpack(">IBI", self.receive(9))
            kind, payload = head & 255, self.receive(head >> 8)
            if kind in (RST_STREAM, GOAWAY):
                raise OSError(f"the server refused: frame {kind} {payload!r}")
            if kind == SETTINGS and not flags & ACK:
                self.socket.sendall(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                self.socket.sendall(frame(PING, ACK, 0, payload))
            elif kind == DATA:
                answer += payload
            if stream == self.stream and kind in (DATA, HEADERS) and flags & END_STREAM:
                return answer
