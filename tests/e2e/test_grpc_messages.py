"""The reader of ModelInferRequest beside protobuf's own: messages whose fields come in any order, in pieces, with
unknown ones between them, and damaged ones. Whatever is answered, protobuf reads, too, and means the same."""
import random

import grpc
import numpy as np
import pytest
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

# Of each model: numpy's dtype, and the field of typed contents.
MODELS = {"bool": (np.bool_, "bool"), "int8": (np.int8, "int"), "int16": (np.int16, "int"), "int32": (np.int32, "int"),
          "int64": (np.int64, "int64"), "uint8": (np.uint8, "uint"), "uint16": (np.uint16, "uint"),
          "uint32": (np.uint32, "uint"), "uint64": (np.uint64, "uint64"), "fp32": (np.float32, "fp32"),
          "fp64": (np.float64, "fp64"), "bytes": (None, "bytes")}


@pytest.fixture(scope="module")
def infer(server):
    """Sends bytes as a message; the answer, or None and its status."""
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

        def infer(message):
            try:
                return service_pb2.ModelInferResponse.FromString(call(message)), None
            except grpc.RpcError as e:
                return None, e.code()

        yield infer


def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out + bytes([n]))


def read_varint(data, at):
    n = shift = 0
    while True:
        n |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return n, at


def split(data):
    """[(number, wire type, value)] of a message; values as sent, without their lengths."""
    fields, at = [], 0
    while at < len(data):
        tag, at = read_varint(data, at)
        end = at
        if tag & 7 == 0:
            _, end = read_varint(data, at)
        elif tag & 7 == 2:
            length, at = read_varint(data, at)
            end = at + length
        else:
            end = at + (8 if tag & 7 == 1 else 4)
        fields.append((tag >> 3, tag & 7, data[at:end]))
        at = end
    return fields


def join(fields):
    return b"".join(varint(number << 3 | wire) + (varint(len(value)) if wire == 2 else b"") + value
                    for number, wire, value in fields)


def unpack(rng, number, value):
    """A packed field in pieces, some of them single elements."""
    size, wire = {6: (4, 5), 7: (8, 1)}.get(number, (None, 0))
    elements, at = [], 0
    while at < len(value):
        end = at + size if size else read_varint(value, at)[1]
        elements.append(value[at:end])
        at = end
    while elements:
        n = rng.choice((1, 1, 3, 100))
        if n == 1:
            yield number, wire, elements[0]
        else:
            yield number, 2, b"".join(elements[:n])
        del elements[:n]


def shuffle(rng, data, path=()):
    """The same message as another encoder could write it."""
    fields = []
    for number, wire, value in split(data):
        inner = path + (number,)
        if inner == (5,) or inner == (5, 5):
            value = shuffle(rng, value, inner)
        if (inner == (5, 3) or (path == (5, 5) and number != 8)) and wire == 2:
            fields += unpack(rng, number, value)
        elif inner == (5, 5) and rng.random() < .3:
            cut = split(value)
            at = rng.randrange(len(cut) + 1)
            fields += [(number, 2, join(cut[:at])), (number, 2, join(cut[at:]))]
        else:
            fields.append((number, wire, value))
    order = {number: rng.random() for number, _, _ in fields}
    if rng.random() < .5:
        fields.sort(key=lambda f: order[f[0]])
    for _ in range(rng.choice((0, 0, 1, 3))):
        unknown = rng.choice(((20, 0, b"\x05"), (9999, 2, b"?" * rng.randrange(200)), (21, 5, b"abcd"), (22, 1, b"8" * 8)))
        fields.insert(rng.randrange(len(fields) + 1), unknown)
    return join(fields)


def make(rng):
    name = rng.choice(list(MODELS))
    dtype, kind = MODELS[name]
    count = rng.choice((0, 1, 2, 7, 300))
    message = service_pb2.ModelInferRequest(model_name=f"identity_{name}", id=rng.choice(("", "id", "\u00e4\u20ac")))
    tensor = message.inputs.add(name="INPUT0", datatype=name.upper(), shape=[count])
    if dtype is None:
        values = [rng.randbytes(rng.randrange(20)) for _ in range(count)]
    else:
        raw = rng.randbytes(count * np.dtype(dtype).itemsize)
        values = (np.frombuffer(raw, np.uint8) % 2).astype(bool) if dtype is np.bool_ else np.frombuffer(raw, dtype)
    if rng.random() < .5:
        message.raw_input_contents.append(to_raw(values))
    else:
        getattr(tensor.contents, kind + "_contents").extend(values if dtype is None else values.tolist())
        tensor.contents.SetInParent()
    message.parameters["mine"].int64_param = rng.randrange(1 << 40)
    return message


def to_raw(values):
    if isinstance(values, np.ndarray):
        return values.tobytes()
    return b"".join(len(v).to_bytes(4, "little") + v for v in values)


def meant(message):
    """The bytes of its input, as protobuf understands the message."""
    if message.raw_input_contents:
        return message.raw_input_contents[0]
    dtype, kind = MODELS[message.model_name.removeprefix("identity_")]
    values = list(getattr(message.inputs[0].contents, kind + "_contents"))
    return to_raw(values if dtype is None else np.array(values, dtype))


def same(message, answer):
    """Bit by bit; of NaNs, which protobuf's own reader may quieten, that they are."""
    a, b = answer.raw_output_contents[0], meant(message)
    dtype = np.dtype(MODELS[message.model_name.removeprefix("identity_")][0] or np.uint8)
    return a == b or (dtype.kind == "f" and
                      np.array_equal(np.frombuffer(a, dtype), np.frombuffer(b, dtype), equal_nan=True))


def test_messages_as_any_encoder_writes_them(infer):
    rng = random.Random(1)
    for _ in range(500):
        message = make(rng)
        data = shuffle(rng, message.SerializeToString())
        assert service_pb2.ModelInferRequest.FromString(data).inputs[0].shape == message.inputs[0].shape
        answer, code = infer(data)
        assert code is None, data
        assert same(message, answer) and answer.id == message.id, data


def damage(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(data))
        match rng.randrange(4):
            case 0: data[at] = rng.randrange(256)
            case 1: del data[at:at + rng.randrange(1, 5)]
            case 2: data[at:at] = rng.randbytes(rng.randrange(1, 5))
            case 3: data[at] ^= 1 << rng.randrange(8)
        if not data:
            break
    return bytes(data)


def test_damaged_messages(infer):
    rng, answered = random.Random(2), 0
    for _ in range(3000):
        data = damage(rng, shuffle(rng, make(rng).SerializeToString()))
        answer, code = infer(data)
        if code is not None:
            assert code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND,
                            grpc.StatusCode.UNIMPLEMENTED), data
            continue
        answered += 1
        try:
            message = service_pb2.ModelInferRequest.FromString(data)
        except DecodeError:
            pytest.fail(f"answered, but protobuf cannot read it: {data!r}")
        assert same(message, answer), data
    assert answered > 100
