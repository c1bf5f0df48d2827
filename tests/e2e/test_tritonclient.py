"""The field's own Python client, unmodified, sync and asyncio."""
import asyncio

import numpy as np
import pytest
import tritonclient.http as http
import tritonclient.http.aio as http_aio
from tritonclient.utils import InferenceServerException


@pytest.fixture
def client(server):
    c = http.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=4)
    yield c
    c.close()


def make(values, binary=True, name="INPUT0"):
    i = http.InferInput(name, list(values.shape), http.np_to_triton_dtype(values.dtype) if hasattr(http, "np_to_triton_dtype") else
                        __import__("tritonclient.utils").utils.np_to_triton_dtype(values.dtype))
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


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.int32, np.int64, np.uint64, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_infer(client, dtype, binary_in, binary_out):
    if dtype == np.float16 and not (binary_in and binary_out):
        pytest.skip("the client itself refuses FP16 as JSON")
    values = (np.arange(12) % 2).astype(dtype) if dtype == np.bool_ else np.arange(12).astype(dtype)
    name = {"bool": "bool", "float16": "fp16", "float32": "fp32", "float64": "fp64"}.get(np.dtype(dtype).name, np.dtype(dtype).name)
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
            results = await asyncio.gather(*(c.infer("identity_fp32", [make(np.full(2, i, np.float32))]) for i in range(20)))
            for i, r in enumerate(results):
                assert (r.as_numpy("OUTPUT0") == i).all()

    asyncio.run(run())
