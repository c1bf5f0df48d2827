"""Calls of KServe's Python client, run with its own interpreter: kserve_calls.py GRPC_PORT HTTP_PORT

Prints one JSON object: what each call came to. A call that fails comes to the name of its error.
"""
import asyncio, json, sys

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

VALUES = {
    "FP32": np.array([1.5, -2], np.float32), "FP64": np.array([1.5, 1e300]), "FP16": np.array([1.5, -2], np.float16),
    "INT8": np.array([-128, 127], np.int8), "INT16": np.array([-32768, 5], np.int16),
    "INT32": np.array([-2**31, 5], np.int32), "INT64": np.array([-2**63, 5], np.int64),
    "UINT8": np.array([0, 255], np.uint8), "UINT16": np.array([0, 65535], np.uint16),
    "UINT32": np.array([0, 2**32 - 1], np.uint32), "UINT64": np.array([0, 2**64 - 1], np.uint64),
    "BOOL": np.array([True, False]), "BYTES": np.array([b"abc", b""], dtype=np.object_),
}


def request(model, *inputs, binary=True, **rest):
    tensors = []
    for name, dtype, data in inputs:
        tensor = InferInput(name=name, shape=list(data.shape), datatype=dtype)
        tensor.set_data_from_numpy(data, binary_data=binary)
        tensors.append(tensor)
    return InferRequest(model_name=model, infer_inputs=tensors, **rest)


def plain(response):
    def values(output):
        return [v.decode() if isinstance(v, bytes) else v for v in output.as_numpy().ravel().tolist()]

    return {"model": response.model_name, "id": response.id,
            "outputs": {o.name: [o.datatype, list(o.shape), values(o)] for o in response.outputs}}


def same(response, dtype):
    values = response.outputs[0].as_numpy().tolist()  # strings that came as JSON are text
    values = [value.encode() if isinstance(value, str) else value for value in values]
    return values == VALUES[dtype].tolist() and response.outputs[0].datatype == dtype


async def grpc_calls(client):
    yield "live", lambda: client.is_server_live()
    yield "ready", lambda: client.is_server_ready()
    yield "model ready", lambda: client.is_model_ready("pair")
    yield "unknown model ready", lambda: client.is_model_ready("nope")

    def infer(*arguments, **rest):
        return client.infer(request(*arguments, **rest))

    for dtype, data in VALUES.items():
        yield f"{dtype} raw", lambda: infer(f"id_{dtype}", ("INPUT0", dtype, data)), lambda r: same(r, dtype)
        if dtype != "FP16":  # which has no typed form
            yield (f"{dtype} typed", lambda: infer(f"id_{dtype}", ("INPUT0", dtype, data), binary=False),
                   lambda r: same(r, dtype))
    pair = (("INPUT0", "FP32", np.ones((1, 3), np.float32)), ("INPUT1", "INT32", np.ones((1, 2), np.int32)))
    yield "pair", lambda: infer("pair", *pair, request_id="a-1", parameters={"x": 1, "y": "z", "b": True}), plain
    yield "wrong shape", lambda: infer("fixed", ("INPUT0", "FP32", np.ones(2, np.float32)))
    yield "unknown model", lambda: infer("nope", *pair)


async def rest_calls(client, url):
    yield "live", lambda: client.is_server_live(url)
    yield "ready", lambda: client.is_server_ready(url)
    yield "model ready", lambda: client.is_model_ready(url, "pair")

    def infer(model, *arguments, **rest):
        return client.infer(url, request(model, *arguments, **rest), model_name=model)

    for dtype, data in VALUES.items():
        yield f"{dtype} binary", lambda: infer(f"id_{dtype}", ("INPUT0", dtype, data)), lambda r: same(r, dtype)
        if dtype != "FP16":
            yield (f"{dtype} JSON", lambda: infer(f"id_{dtype}", ("INPUT0", dtype, data), binary=False),
                   lambda r: same(r, dtype))
    yield "unknown model", lambda: infer("nope", ("INPUT0", "FP32", VALUES["FP32"]))


async def collect(kind, calls, results):
    async for name, call, *look in calls:
        try:
            result = await call()
            results[f"{kind} {name}"] = look[0](result) if look else result
        except grpc.RpcError as error:
            results[f"{kind} {name}"] = error.code().name
        except httpx.HTTPStatusError as error:
            results[f"{kind} {name}"] = error.response.status_code
        except Exception as error:
            results[f"{kind} {name}"] = f"{type(error).__name__}: {error}"


async def main():
    results = {}
    async with InferenceGRPCClient(f"127.0.0.1:{sys.argv[1]}") as client:
        await collect("grpc", grpc_calls(client), results)
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=1)) as client:
        await collect("rest", rest_calls(client, f"http://127.0.0.1:{sys.argv[2]}"), results)
    print(json.dumps(results))

asyncio.run(main())
