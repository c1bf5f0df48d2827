"""The field's own Python client, unmodified, sync and asyncio."""
import asyncio

import numpy as np
import pytest
from conftest import identity_config, write_model
import tritonclient.http as http
import tritonclient.http.aio as http_aio
from tritonclient.http.auth import BasicAuth
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

X = np.array([1.5, -2], np.float32)


@pytest.fixture
def client(server):
    c = http.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=4)
    yield c
    c.close()


def make(values, binary=True, name="INPUT0"):
    i = http.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
    i.set_data_from_numpy(values, binary_data=binary)
    return i


def test_control_plane(client):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("batched")
    assert client.get_server_metadata()["extensions"]
    assert client.get_model_metadata("batched")["inputs"][0]["shape"] == [-1, 4]
    assert client.get_model_config("batched")["max_batch_size"] == 8
    assert any(e["name"] == "batched" for e in client.get_model_repository_index())
    assert client.get_inference_statistics("batched")["model_stats"][0]["name"] == "batched"
    assert client.get_log_settings()["log_info"] is True


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.int32, np.int64, np.uint64, np.float16,
                                   np.float32, np.float64])
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_infer(client, dtype, binary_in, binary_out):
    if dtype == np.float16 and not (binary_in and binary_out):
        pytest.skip("the client itself refuses FP16 as JSON")
    values = (np.arange(12) % 2).astype(dtype) if dtype == np.bool_ else np.arange(12).astype(dtype)
    name = {"bool": "bool", "float16": "fp16", "float32": "fp32", "float64": "fp64"}.get(np.dtype(dtype).name,
        np.dtype(dtype).name)
    r = client.infer(f"identity_{name}", [make(values, binary_in)],
                     outputs=[http.InferRequestedOutput("OUTPUT0", binary_data=binary_out)], request_id="7")
    assert np.array_equal(r.as_numpy("OUTPUT0"), values) and r.get_response()["id"] == "7"


def test_strings(client):
    values = np.array([b"a", "h\u00e4user".encode(), b""], dtype=np.object_)
    r = client.infer("identity_bytes", [make(values)])
    assert list(r.as_numpy("OUTPUT0")) == list(values)


def test_classification(client):
    r = client.infer("labelled", [make(np.array([1, 5, 3, 2], np.float32))],
                     outputs=[http.InferRequestedOutput("OUTPUT0", class_count=2)])
    assert [x.decode() for x in r.as_numpy("OUTPUT0")] == ["5.000000:1:dog", "3.000000:2:bird"]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(client, algorithm):
    values = np.zeros(10000, np.float32)
    r = client.infer("identity_fp32", [make(values)], request_compression_algorithm=algorithm,
                     response_compression_algorithm=algorithm)
    assert np.array_equal(r.as_numpy("OUTPUT0"), values)


def test_async_infer(client):
    pending = [client.async_infer("identity_fp32", [make(np.full(3, i, np.float32))]) for i in range(40)]
    for i, p in enumerate(pending):
        assert (p.get_result().as_numpy("OUTPUT0") == i).all()


def test_errors(client):
    with pytest.raises(InferenceServerException, match="unknown model: 'nope'"):
        client.infer("nope", [make(np.zeros(1, np.float32))])
    with pytest.raises(InferenceServerException, match="data-type is 'INT32'"):
        client.infer("identity_fp32", [make(np.zeros(1, np.int32))])


def test_asyncio(server):
    async def run():
        async with http_aio.InferenceServerClient(f"127.0.0.1:{server.port}") as c:
            assert await c.is_server_ready()
            results = await asyncio.gather(*(c.infer("identity_fp32", [make(np.full(2, i, np.float32))])
                                             for i in range(20)))
            for i, r in enumerate(results):
                assert (r.as_numpy("OUTPUT0") == i).all()

    asyncio.run(run())


# Every call of the clients: what is offered, and what is answered with a sentence.
OFFERED = [
    ("is_server_live", (), lambda r: r is True),
    ("is_server_ready", (), lambda r: r is True),
    ("is_model_ready", ("batched",), lambda r: r is True),
    ("is_model_ready", ("batched", "3"), lambda r: r is True),
    ("is_model_ready", ("batched", "1"), lambda r: r is False),
    ("is_model_ready", ("nope",), lambda r: r is False),
    ("get_server_metadata", (), lambda r: set(r) == {"name", "version", "extensions"}),
    ("get_model_metadata", ("batched", "3"), lambda r: r["versions"] == ["3"]),
    ("get_model_config", ("batched", "3"), lambda r: r["name"] == "batched"),
    ("get_model_repository_index", (), lambda r: {"name": "batched", "version": "3", "state": "READY"} in r),
    ("get_inference_statistics", (), lambda r: len(r["model_stats"]) > 10),
    ("get_inference_statistics", ("batched", "3"), lambda r: len(r["model_stats"]) == 1),
    ("get_log_settings", (), lambda r: r["log_info"] is True),
    ("get_trace_settings", (), lambda r: r["trace_level"] == ["OFF"]),
    ("get_trace_settings", ("batched",), lambda r: r["trace_rate"] == "1000"),
    ("update_trace_settings", ("batched", {"trace_rate": None}), lambda r: r["trace_rate"] == "1000"),
    ("get_system_shared_memory_status", (), lambda r: r == []),
    ("get_cuda_shared_memory_status", (), lambda r: r == []),
    ("update_log_settings", ({"log_verbose_level": 0, "log_info": True},),
     lambda r: r["log_verbose_level"] == 0),
]
LATER = [
    ("load_model", ("batched",)), ("unload_model", ("batched",)),
         ("register_system_shared_memory", ("r", "/k", 8)), ("register_cuda_shared_memory",
             ("r", b"x" * 64, 0, 8)), ("unregister_system_shared_memory", ("r",)),
         ("unregister_system_shared_memory", ()), ("unregister_cuda_shared_memory", ("r",)), ]


@pytest.mark.parametrize("name,arguments,is_right", OFFERED, ids=[f"{o[0]}{o[1]}" for o in OFFERED])
def test_offered_calls(server, client, name, arguments, is_right):
    async def run():
        async with http_aio.InferenceServerClient(f"127.0.0.1:{server.port}") as c:
            return await getattr(c, name)(*arguments)

    for answer in (getattr(client, name)(*arguments), asyncio.run(run())):
        assert is_right(answer), answer


@pytest.mark.parametrize("name,arguments", LATER, ids=[f"{o[0]}{o[1][:1]}" for o in LATER])
def test_calls_that_come_later(server, client, name, arguments):
    async def run():
        async with http_aio.InferenceServerClient(f"127.0.0.1:{server.port}") as c:
            return await getattr(c, name)(*arguments)

    for call in (lambda: getattr(client, name)(*arguments), lambda: asyncio.run(run())):
        with pytest.raises(InferenceServerException,
                           match="(?i)not implemented yet|at start for now|memory is disabled") as raised:
            call()
        assert raised.value.status() == "501"


def test_all_arguments_of_infer(client):
    r = client.infer("batched", [make(np.ones((2, 4), np.float32))], model_version="3",
                     outputs=[http.InferRequestedOutput("OUTPUT0", True)], request_id="r", sequence_id=5,
                     sequence_start=True, sequence_end=True, priority=1, timeout=10_000_000,
                     headers={"X-Mine": "1"}, query_params={"a": "b c"},
                     parameters={"mine": 1, "text": "x", "flag": True, "real": 0.5},
                     request_compression_algorithm="gzip", response_compression_algorithm="deflate")
    assert (r.as_numpy("OUTPUT0") == 1).all() and r.get_response()["model_version"] == "3"
    assert r.get_output("OUTPUT0")["shape"] == [2, 4] and r.get_output("nope") is None


def test_without_outputs_named(client):
    assert np.array_equal(client.infer("identity_fp32", [make(X)]).as_numpy("OUTPUT0"), X)


def test_bodies_made_and_parsed_apart(server):
    body, length = http.InferenceServerClient.generate_request_body([make(X)])
    r = server.request("POST", "/v2/models/identity_fp32/infer", body,
                       {"Inference-Header-Content-Length": str(length)})
    result = http.InferenceServerClient.parse_response_body(r.body,
        header_length=int(r.headers["inference-header-content-length"]))
    assert np.array_equal(result.as_numpy("OUTPUT0"), X)


def test_plugin_and_names_with_spaces(start, tmp_path):
    write_model(tmp_path, "a b%+\u00e4", identity_config())
    s = start(tmp_path)
    with http.InferenceServerClient(f"127.0.0.1:{s.port}") as c:
        c.register_plugin(BasicAuth("user", "word"))
        assert c.is_model_ready("a b%+\u00e4")
        assert np.array_equal(c.infer("a b%+\u00e4", [make(X)]).as_numpy("OUTPUT0"), X)


def test_asyncio_errors_and_compression(server):
    async def run():
        async with http_aio.InferenceServerClient(f"127.0.0.1:{server.port}") as c:
            with pytest.raises(InferenceServerException, match="unknown model: 'nope'"):
                await c.infer("nope", [make(X)])
            for algorithm in ("gzip", "deflate"):
                r = await c.infer("identity_fp32", [make(np.zeros(5000, np.float32), False)],
                                  request_compression_algorithm=algorithm,
                                  response_compression_algorithm=algorithm)
                assert r.as_numpy("OUTPUT0").shape == (5000,)

    asyncio.run(run())
