"""Inference over gRPC with the field's own client, unmodified: sync, asyncio, streams; beside REST."""
import asyncio, queue, threading, time

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, serialize_byte_tensor

X = np.array([1.5, -2], np.float32)


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as c:
        yield c


@pytest.fixture
def stub(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}",
                               [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def make(values, name="INPUT0"):
    i = triton.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
    i.set_data_from_numpy(values)
    return i


def raw_request(model, dtype, shape, raw, **kw):
    r = service_pb2.ModelInferRequest(model_name=model, **kw)
    r.inputs.add(name="INPUT0", datatype=dtype, shape=shape)
    r.raw_input_contents.append(raw)
    return r


# Unary

DTYPES = {"bool": np.bool_, "uint8": np.uint8, "uint16": np.uint16, "uint32": np.uint32, "uint64": np.uint64,
          "int8": np.int8, "int16": np.int16, "int32": np.int32, "int64": np.int64, "fp16": np.float16,
          "fp32": np.float32, "fp64": np.float64}
FIELDS = {"bool": "bool", "int8": "int", "int16": "int", "int32": "int", "int64": "int64", "uint8": "uint",
          "uint16": "uint", "uint32": "uint", "uint64": "uint64", "fp32": "fp32", "fp64": "fp64"}


def some(name):
    if name == "bool":
        return np.arange(100) % 3 == 0
    dtype = DTYPES[name]
    low = np.iinfo(dtype).min if np.issubdtype(dtype, np.integer) else -1000
    return np.concatenate([np.array([low], dtype), np.linspace(0, 100, 99).astype(dtype)])


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype(client, name):
    values = some(name)
    r = client.infer(f"identity_{name}", [make(values)], request_id="7",
                     outputs=[triton.InferRequestedOutput("OUTPUT0")])
    got = r.as_numpy("OUTPUT0")
    assert got.dtype == values.dtype and got.tobytes() == values.tobytes()
    response = r.get_response()
    assert (response.id, response.model_name, response.model_version) == ("7", f"identity_{name}", "1")


def test_bf16(stub):
    r = stub.ModelInfer(raw_request("identity_bf16", "BF16", [2], b"\x80\x3f\0\xc0"))
    assert r.outputs[0].datatype == "BF16" and r.raw_output_contents == [b"\x80\x3f\0\xc0"]


def test_strings(client):
    values = np.array([b"a", "h\u00e4user".encode(), b"", b"\0\xff"], dtype=np.object_)
    assert list(client.infer("identity_bytes", [make(values)]).as_numpy("OUTPUT0")) == list(values)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("count", [0, 1, 100, 200000])
def test_typed_contents(stub, name, count):
    values = np.resize(some(name), count)
    r = service_pb2.ModelInferRequest(model_name=f"identity_{name}")
    contents = r.inputs.add(name="INPUT0", datatype=name.upper(), shape=[count]).contents
    getattr(contents, FIELDS[name] + "_contents").extend(values.tolist())
    contents.SetInParent()
    answer = stub.ModelInfer(r)
    assert answer.outputs[0].shape == [count] and answer.raw_output_contents == [values.tobytes()]


@pytest.mark.parametrize("count", [1, 50000])
def test_typed_strings(stub, count):
    values = [b"x" * (i % 7) for i in range(count)]
    r = service_pb2.ModelInferRequest(model_name="identity_bytes")
    r.inputs.add(name="INPUT0", datatype="BYTES", shape=[count]).contents.bytes_contents.extend(values)
    expected = serialize_byte_tensor(np.array(values, dtype=np.object_)).item()
    assert stub.ModelInfer(r).raw_output_contents == [expected]


@pytest.mark.parametrize("name", ["fp32", "int64", "uint8", "bytes"])
def test_the_same_bits_as_over_rest(server, stub, name):
    values = {"bytes": b"\x02\0\0\0hi\0\0\0\0", "uint8": bytes(range(256))}.get(name, bytes(range(8)) * 32)
    count = {"bytes": 2, "fp32": len(values) // 4, "int64": len(values) // 8}.get(name, len(values))
    rest = server.infer_binary(f"identity_{name}", {"INPUT0": (name.upper(), [count], values)})
    answer = stub.ModelInfer(raw_request(f"identity_{name}", name.upper(), [count], values))
    assert rest["OUTPUT0"] == (name.upper(), [count], answer.raw_output_contents[0])


@pytest.mark.parametrize("size", [1, 15, 16, 1000, 150528, 4 << 20])
def test_sizes(stub, size):
    values = np.random.default_rng(size).random(size, np.float32).tobytes()
    assert stub.ModelInfer(raw_request("identity_fp32", "FP32", [size], values)).raw_output_contents == [values]


def test_batch_version_and_two_tensors(client):
    r = client.infer("batched", [make(np.ones((3, 4), np.float32))], model_version="3")
    assert r.as_numpy("OUTPUT0").shape == (3, 4) and r.get_response().model_version == "3"
    two = [make(X, "INPUT1"), make(2 * X, "INPUT0")]
    r = client.infer("two", two, outputs=[triton.InferRequestedOutput("OUTPUT1")])
    assert np.array_equal(r.as_numpy("OUTPUT1"), X) and r.as_numpy("OUTPUT0") is None


def test_classification(client):
    r = client.infer("labelled", [make(np.array([1, 5, 3, 2], np.float32))],
                     outputs=[triton.InferRequestedOutput("OUTPUT0", class_count=2)])
    assert [x.decode() for x in r.as_numpy("OUTPUT0")] == ["5.000000:1:dog", "3.000000:2:bird"]


def test_parameters(client):
    r = client.infer("identity_fp32", [make(X)], sequence_id=42, sequence_start=True, sequence_end=True, priority=3,
                     timeout=1000000, parameters={"mine": "text", "number": 7, "flag": True})
    assert np.array_equal(r.as_numpy("OUTPUT0"), X)
    assert np.array_equal(client.infer("identity_fp32", [make(X)], sequence_id="s").as_numpy("OUTPUT0"), X)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(client, algorithm):
    values = np.zeros(100000, np.float32)
    r = client.infer("identity_fp32", [make(values)], compression_algorithm=algorithm)
    assert np.array_equal(r.as_numpy("OUTPUT0"), values)


def test_async_infer(client):
    done = queue.Queue()
    for i in range(200):
        client.async_infer("identity_fp32", [make(np.full(3, i, np.float32))], request_id=str(i),
                           callback=lambda result, error: done.put((result, error)))
    for _ in range(200):
        result, error = done.get(timeout=30)
        assert error is None and (result.as_numpy("OUTPUT0") == int(result.get_response().id)).all()


def test_asyncio(server):
    async def run():
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as c:
            results = await asyncio.gather(*(c.infer("identity_fp32", [make(np.full(2, i, np.float32))])
                                             for i in range(100)))
            for i, r in enumerate(results):
                assert (r.as_numpy("OUTPUT0") == i).all()

    asyncio.run(run())


# Errors

@pytest.mark.parametrize("model, version, values, status, words", [
    ("nope", "", X, "NOT_FOUND", "Request for unknown model: 'nope' is not found"),
    ("identity_fp32", "9", X, "NOT_FOUND", "version 9 is not found"),
    ("identity_fp32", "one", X, "INVALID_ARGUMENT", "should be an integral value > 0"),
    ("identity_fp32", "", X.astype(np.int32), "INVALID_ARGUMENT",
     "data-type is 'INT32', but model 'identity_fp32' expects 'FP32'"),
    ("fixed", "", X, "INVALID_ARGUMENT", "unexpected shape for input 'INPUT0'"),
    ("decoupled", "", X, "UNIMPLEMENTED", "ModelInfer RPC doesn't support models with decoupled transaction policy"),
])
def test_errors(client, model, version, values, status, words):
    with pytest.raises(InferenceServerException) as e:
        client.infer(model, [make(values)], model_version=version)
    assert e.value.status() == f"StatusCode.{status}" and words in e.value.message()


def test_a_message_that_is_none(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as e:
            call(b"\x0a\x05abc")
        assert e.value.code() == grpc.StatusCode.INTERNAL


def test_deadline(server, client):
    begin = time.monotonic()
    with pytest.raises(InferenceServerException) as e:
        client.infer("slow", [make(X)], client_timeout=0.05)
    # the latter once the server knows how long it takes
    assert e.value.status() in ("StatusCode.DEADLINE_EXCEEDED", "StatusCode.UNAVAILABLE")
    assert time.monotonic() - begin < 0.29
    assert np.array_equal(client.infer("slow", [make(X)], client_timeout=30).as_numpy("OUTPUT0"), X)


def test_cancel(server, client):
    answered = threading.Event()
    calls = [client.async_infer("slow", [make(X)], callback=lambda result, error: answered.set())
             for _ in range(2)]
    time.sleep(0.02)
    for call in calls:
        call.cancel()
    assert answered.wait(5)
    begin = time.monotonic()
    client.infer("slow", [make(X)])
    assert time.monotonic() - begin < 0.75  # at most what ran is waited for


# Streams

class Stream:
    """A stream of the client, whose answers come in a queue."""

    def __init__(self, client, **kw):
        self.client, self.answers = client, queue.Queue()
        client.start_stream(callback=lambda result, error: self.answers.put((result, error)), **kw)

    def send(self, model, inputs, **kw):
        self.client.async_stream_infer(model, inputs, **kw)

    def next(self):
        return self.answers.get(timeout=30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.stop_stream()


def repeat_inputs(values, delay_ms=0):
    return [make(np.array(values, np.int32), "IN"), make(np.array([delay_ms], np.uint32), "DELAY")]


def is_final(result):
    return result.get_response().parameters["triton_final_response"].bool_param


def test_stream_in_order(client):
    with Stream(client) as s:
        s.send("slow", [make(X)], request_id="0")
        for i in range(1, 300):
            s.send("identity_fp32", [make(np.full(2, i, np.float32))], request_id=str(i))
        for i in range(300):
            result, error = s.next()
            assert error is None and result.get_response().id == str(i) and is_final(result)
            assert i == 0 or (result.as_numpy("OUTPUT0") == i).all()


def test_stream_of_large_tensors(client):
    values = np.random.default_rng(1).random(1 << 20, np.float32)
    with Stream(client) as s:
        for _ in range(8):
            s.send("identity_fp32", [make(values)])
        for _ in range(8):
            result, error = s.next()
            assert error is None and np.array_equal(result.as_numpy("OUTPUT0"), values)


def test_stream_decoupled(client):
    with Stream(client) as s:
        s.send("decoupled", repeat_inputs(range(200)), request_id="r", enable_empty_final_response=True)
        for i in range(200):
            result, error = s.next()
            assert error is None and result.as_numpy("OUT")[0] == i and not is_final(result)
        result, error = s.next()
        assert error is None and is_final(result) and not result.get_response().outputs
        assert result.get_response().id == "r"
        s.send("decoupled", repeat_inputs([]), request_id="none", enable_empty_final_response=True)
        assert is_final(s.next()[0])


def test_stream_errors_are_answers(client):
    with Stream(client) as s:
        s.send("nope", [make(X)], request_id="a")
        s.send("identity_fp32", [make(X)], request_id="b")
        result, error = s.next()
        assert result is None and "unknown model: 'nope'" in str(error)
        assert np.array_equal(s.next()[0].as_numpy("OUTPUT0"), X)


def test_stream_error_as_status(server, stub):
    requests = [raw_request("identity_fp32", "FP32", [2], X.tobytes(), id="a"),
                raw_request("nope", "FP32", [2], X.tobytes(), id="b")]
    held = threading.Event()

    def send():
        yield from requests
        held.wait(30)  # does not half-close by itself

    call = stub.ModelStreamInfer(send(), metadata=[("triton_grpc_error", "true")])
    try:
        assert next(call).infer_response.id == "a"
        with pytest.raises(grpc.RpcError) as e:
            next(call)
        assert e.value.code() == grpc.StatusCode.NOT_FOUND and "nope" in e.value.details()
    finally:
        held.set()


def test_stream_half_close_waits_for_answers(stub):
    requests = [raw_request(m, "FP32", [2], X.tobytes(), id=str(i))
                for i, m in enumerate(["slow", "identity_fp32", "nope"])]
    call = stub.ModelStreamInfer(iter(requests))
    answers = list(call)
    assert [a.infer_response.id for a in answers] == ["0", "1", "2"] and "nope" in answers[2].error_message
    assert call.code() == grpc.StatusCode.OK


def test_stream_compression(client):
    values = np.zeros(100000, np.float32)
    with Stream(client, compression_algorithm="gzip") as s:
        s.send("identity_fp32", [make(values)])
        assert np.array_equal(s.next()[0].as_numpy("OUTPUT0"), values)


def test_answers_are_compressed_when_the_server_is_told_to(start, repository):
    s = start(repository, "--grpc-infer-response-compression-level=low")

    def received(ask):
        before = s.metrics()["modeld_http_sent_bytes_total"]
        ask()
        return s.metrics()["modeld_http_sent_bytes_total"] - before

    values = np.arange(10000, dtype=np.float32) % 7
    with triton.InferenceServerClient(f"127.0.0.1:{s.grpc_port}") as c:
        def unary():
            assert np.array_equal(c.infer("identity_fp32", [make(values)]).as_numpy("OUTPUT0"), values)

        def stream():
            with Stream(c) as t:
                for n in (10000, 3, 5000, 1):  # small ones go as they are
                    t.send("identity_fp32", [make(values[:n])])
                    assert np.array_equal(t.next()[0].as_numpy("OUTPUT0"), values[:n])

        assert received(unary) < values.nbytes / 5
        assert received(stream) < values.nbytes / 5


def test_stream_cancel_reaches_the_backend(server, client):
    s = Stream(client)
    s.send("decoupled", repeat_inputs([1, 2, 3], delay_ms=60000))
    time.sleep(0.1)
    client.stop_stream(cancel_requests=True)
    with Stream(client) as t:  # the one instance is free again
        t.send("decoupled", repeat_inputs([7]))
        assert t.next()[0].as_numpy("OUT")[0] == 7


def test_stream_timeout(client):
    with Stream(client, stream_timeout=0.1) as s:
        s.send("decoupled", repeat_inputs([1], delay_ms=2000))
        result, error = s.next()
        assert result is None and error.status() == "StatusCode.DEADLINE_EXCEEDED"


def test_stream_of_a_reader_who_takes_his_time(server, stub):
    """The server does not fill its memory with answers that nobody reads."""
    values = np.zeros(1 << 18, np.float32).tobytes()
    before = server.status("VmRSS")
    call = stub.ModelStreamInfer(raw_request("identity_fp32", "FP32", [1 << 18], values) for _ in range(200))
    first = next(call)
    time.sleep(0.5)
    assert first.infer_response.outputs and server.status("VmRSS") - before < 160 * 1024  # of 200 MiB
    assert sum(1 for _ in call) == 199


def test_stream_asyncio(server):
    async def run():
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as c:
            async def requests():
                for i in range(50):
                    yield {"model_name": "identity_fp32", "inputs": [make(np.full(2, i, np.float32))],
                           "request_id": str(i)}
            seen = 0
            async for result, error in c.stream_infer(requests()):
                assert error is None and (result.as_numpy("OUTPUT0") == seen).all()
                seen += 1
            assert seen == 50

    asyncio.run(run())
