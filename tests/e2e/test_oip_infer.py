"""The Open Inference Protocol over REST: inference in all its forms."""
import gzip, json, math, struct, zlib

import pytest

VALUES = {
    "BOOL": [True, False, True],
    "UINT8": [0, 255, 7], "UINT16": [0, 65535, 7], "UINT32": [0, 4294967295, 7], "UINT64": [0, 18446744073709551615, 7],
    "INT8": [-128, 127, 0], "INT16": [-32768, 32767, 0], "INT32": [-2147483648, 2147483647, 0],
    "INT64": [-9223372036854775808, 9223372036854775807, 9007199254740993],
    "FP16": [0.5, -65504.0, 0.0999755859375], "FP32": [0.1, -3.4028235e38, 1e-45], "FP64": [0.1, 1.7976931348623157e308, 5e-324],
    "BF16": [1.0, -2.5, 3.140625], "BYTES": ["", "häuser\n\"q\" \\ \u0001", "z" * 300],
}
PACK = {"BOOL": "?", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b", "INT16": "h", "INT32": "i",
        "INT64": "q", "FP16": "e", "FP32": "f", "FP64": "d"}


def as_binary(dtype, values):
    if dtype == "BYTES":
        return b"".join(struct.pack("<I", len(v.encode())) + v.encode() for v in values)
    if dtype == "BF16":
        return b"".join(struct.pack("<f", v)[2:] for v in values)
    return struct.pack(f"<{len(values)}{PACK[dtype]}", *values)


def bf16(value):
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    return bits + 0x7fff + (bits >> 16 & 1) >> 16


def same(dtype, a, b):
    if dtype == "FP32":
        return struct.pack("<3f", *a) == struct.pack("<3f", *b)
    if dtype == "FP16":
        return struct.pack("<3e", *a) == struct.pack("<3e", *b)
    if dtype == "BF16":
        return [bf16(v) for v in a] == [bf16(v) for v in b]
    return a == b


def binary_body(head, *tensors):
    head = json.dumps(head).encode()
    return head + b"".join(tensors), {"Inference-Header-Content-Length": str(len(head))}


@pytest.mark.parametrize("dtype", VALUES)
def test_json_round_trip(server, dtype):
    values = VALUES[dtype]
    r = server.infer(f"identity_{dtype.lower()}", [{"name": "INPUT0", "datatype": dtype, "shape": [3], "data": values}])
    assert r.status == 200, r
    out = r.json()
    assert out["model_name"] == f"identity_{dtype.lower()}" and out["model_version"] == "1"
    assert out["outputs"][0]["name"] == "OUTPUT0" and out["outputs"][0]["datatype"] == dtype
    assert out["outputs"][0]["shape"] == [3]
    assert same(dtype, out["outputs"][0]["data"], values), (out["outputs"][0]["data"], values)
    assert r.headers["content-type"] == "application/json"
    assert "inference-header-content-length" not in r.headers


@pytest.mark.parametrize("dtype", VALUES)
def test_binary_round_trip(server, dtype):
    data = as_binary(dtype, VALUES[dtype])
    body, headers = binary_body({"inputs": [{"name": "INPUT0", "datatype": dtype, "shape": [3],
                                             "parameters": {"binary_data_size": len(data)}}],
                                 "outputs": [{"name": "OUTPUT0", "parameters": {"binary_data": True}}]}, data)
    r = server.request("POST", f"/v2/models/identity_{dtype.lower()}/infer", body, headers)
    assert r.status == 200, r
    n = int(r.headers["inference-header-content-length"])
    assert r.headers["content-type"] == "application/octet-stream"
    head = json.loads(r.body[:n])
    assert head["outputs"][0]["parameters"]["binary_data_size"] == len(data)
    assert r.body[n:] == data


def test_binary_output_by_default_parameter(server):
    r = server.infer("two", [{"name": "INPUT0", "datatype": "FP32", "shape": [1], "data": [1]},
                             {"name": "INPUT1", "datatype": "FP32", "shape": [2], "data": [2, 3]}],
                     parameters={"binary_data_output": True})
    n = int(r.headers["inference-header-content-length"])
    assert struct.unpack("<3f", r.body[n:]) == (1, 2, 3)


def test_a_listed_output_is_json_even_with_binary_data_output(server):
    r = server.infer("two", [{"name": "INPUT0", "datatype": "FP32", "shape": [1], "data": [1]},
                             {"name": "INPUT1", "datatype": "FP32", "shape": [1], "data": [2]}],
                     parameters={"binary_data_output": True}, outputs=[{"name": "OUTPUT1"}])
    assert [o["name"] for o in r.json()["outputs"]] == ["OUTPUT1"]
    assert r.json()["outputs"][0]["data"] == [2.0]


def test_raw_binary_request(server):
    data = struct.pack("<5f", *range(5))
    r = server.request("POST", "/v2/models/identity_fp32/infer", data, {"Inference-Header-Content-Length": "0"})
    assert r.status == 200, r
    n = int(r.headers["inference-header-content-length"])
    assert r.body[n:] == data and json.loads(r.body[:n])["outputs"][0]["shape"] == [5]


def test_id_is_echoed_and_nested_data_is_flattened(server):
    r = server.infer("fixed", [{"name": "INPUT0", "datatype": "FP32", "shape": [2, 3], "data": [[1, 2, 3], [4, 5, 6]]}], id="a-1")
    assert r.json()["id"] == "a-1"
    assert r.json()["outputs"][0]["data"] == [1, 2, 3, 4, 5, 6]


def test_data_before_shape_and_datatype(server):
    body = b'{"inputs":[{"data":[1,2,3],"shape":[3],"datatype":"FP32","name":"INPUT0"}]}'
    assert server.request("POST", "/v2/models/identity_fp32/infer", body).json()["outputs"][0]["data"] == [1, 2, 3]


def test_nan_and_infinity(server):
    body = b'{"inputs":[{"name":"INPUT0","shape":[3],"datatype":"FP32","data":[NaN,Infinity,-Infinity]}]}'
    r = server.request("POST", "/v2/models/identity_fp32/infer", body)
    values = json.loads(r.body)["outputs"][0]["data"]
    assert math.isnan(values[0]) and values[1:] == [math.inf, -math.inf]


def test_zero_elements_and_scalar_shapes(server):
    r = server.infer("identity_fp32", [{"name": "INPUT0", "datatype": "FP32", "shape": [0], "data": []}])
    assert r.status == 200 and r.json()["outputs"][0]["data"] == []


def test_large_json_keeps_every_bit(server):
    values = [struct.unpack("<f", struct.pack("<I", (i * 2654435761) & 0x7f7fffff))[0] for i in range(150528)]
    r = server.infer("identity_fp32", [{"name": "INPUT0", "datatype": "FP32", "shape": [150528], "data": values}])
    assert r.status == 200
    back = r.json()["outputs"][0]["data"]
    assert struct.pack("<150528f", *back) == struct.pack("<150528f", *values)


def test_large_binary(server):
    data = bytes(range(256)) * 32768  # 8 MiB
    body, headers = binary_body({"inputs": [{"name": "INPUT0", "datatype": "UINT8", "shape": [len(data)],
                                             "parameters": {"binary_data_size": len(data)}}],
                                 "parameters": {"binary_data_output": True}}, data)
    r = server.request("POST", "/v2/models/identity_uint8/infer", body, headers)
    assert r.status == 200
    assert r.body[int(r.headers["inference-header-content-length"]):] == data


def test_versions(server):
    one = [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]
    assert server.infer("batched", one).json()["model_version"] == "3"
    assert server.infer("batched", one, version=3).json()["model_version"] == "3"
    r = server.infer("batched", one, version=1)  # latest 1 by default: version 1 is not served
    assert r.status == 404 and "Request for unknown model: 'batched' version 1 is not found" in r.json()["error"], r


def test_classification(server):
    r = server.infer("labelled", [{"name": "INPUT0", "datatype": "FP32", "shape": [4], "data": [0.1, 0.7, 0.15, 0.05]}],
                     outputs=[{"name": "OUTPUT0", "parameters": {"classification": 2}}])
    out = r.json()["outputs"][0]
    assert out["datatype"] == "BYTES" and out["shape"] == [2]
    assert out["data"] == ["0.700000:1:dog", "0.150000:2:bird"]


def test_classification_of_a_batch(server):
    r = server.infer("batched", [{"name": "INPUT0", "datatype": "FP32", "shape": [2, 4], "data": [1, 2, 3, 4, 8, 7, 6, 5]}],
                     outputs=[{"name": "OUTPUT0", "parameters": {"classification": 1}}])
    out = r.json()["outputs"][0]
    assert out["shape"] == [2, 1] and out["data"] == ["4.000000:3", "8.000000:0"]


@pytest.mark.parametrize("coding,compress", [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_request_and_response(server, coding, compress):
    values = [float(i % 10) for i in range(20000)]
    body = json.dumps({"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [20000], "data": values}]}).encode()
    r = server.request("POST", "/v2/models/identity_fp32/infer", compress(body),
                       {"Content-Encoding": coding, "Accept-Encoding": coding})
    assert r.status == 200 and r.headers["content-encoding"] == coding, r
    assert json.loads(zlib.decompress(r.body, 47))["outputs"][0]["data"] == values


def test_unknown_content_coding(server):
    r = server.request("POST", "/v2/models/identity_fp32/infer", b"x", {"Content-Encoding": "br"})
    assert r.status == 501 and r.headers["accept-encoding"] == "gzip, deflate"


ONE = {"name": "INPUT0", "datatype": "FP32", "shape": [1], "data": [1]}
BAD = [
    ("not json", b"{", 400, ""),
    ("no inputs", {}, 400, "inputs"),
    ("unknown input", {"inputs": [{**ONE, "name": "X"}]}, 400, "unexpected inference input 'X' for model 'identity_fp32'"),
    ("wrong dtype", {"inputs": [{**ONE, "datatype": "INT32"}]}, 400,
     "inference input 'INPUT0' data-type is 'INT32', but model 'identity_fp32' expects 'FP32'"),
    ("unknown dtype", {"inputs": [{**ONE, "datatype": "FP99"}]}, 400, "invalid datatype for input INPUT0"),
    ("missing input", {"inputs": []}, 400, "expected 1 inputs but got 0 inputs for model 'identity_fp32'"),
    ("wrong rank", {"inputs": [{**ONE, "shape": [1, 1]}]}, 400,
     "unexpected shape for input 'INPUT0' for model 'identity_fp32'. Expected [-1], got [1,1]"),
    ("negative dimension", {"inputs": [{**ONE, "shape": [-1]}]}, 400, ""),
    ("too many elements", {"inputs": [{**ONE, "data": [1, 2]}]}, 400, ""),
    ("too few elements", {"inputs": [{**ONE, "shape": [3]}]}, 400, ""),
    ("string in a float tensor", {"inputs": [{**ONE, "data": ["a"]}]}, 400, ""),
    ("unknown output", {"inputs": [ONE], "outputs": [{"name": "Y"}]}, 400, "unexpected inference output 'Y'"),
    ("no data at all", {"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1]}]}, 400, ""),
    ("data and binary size", {"inputs": [{**ONE, "parameters": {"binary_data_size": 4}}]}, 400, ""),
    ("reserved parameter", {"inputs": [ONE], "parameters": {"triton_x": 1}}, 400, "triton_"),
    ("shape overflow", {"inputs": [{**ONE, "shape": [2**40, 2**40]}]}, 400, ""),
]


@pytest.mark.parametrize("name,body,status,text", BAD, ids=[b[0] for b in BAD])
def test_bad_requests(server, name, body, status, text):
    r = server.request("POST", "/v2/models/identity_fp32/infer", body)
    assert r.status == status, r
    assert text in r.json()["error"], r
    ok = server.infer("identity_fp32", [ONE])
    assert ok.json()["outputs"][0]["data"] == [1.0]


@pytest.mark.parametrize("dtype,value", [("UINT8", 256), ("UINT8", -1), ("INT8", 128), ("INT16", 40000), ("INT32", 2**31),
                                         ("INT64", 2**63), ("UINT64", 2**64), ("INT32", 1.5)])
def test_integers_out_of_range(server, dtype, value):
    r = server.infer(f"identity_{dtype.lower()}", [{"name": "INPUT0", "datatype": dtype, "shape": [1], "data": [value]}])
    assert r.status == 400 and dtype in r.json()["error"], r


def test_batch_too_large(server):
    r = server.infer("batched", [{"name": "INPUT0", "datatype": "FP32", "shape": [9, 4], "data": [0] * 36}])
    assert r.status == 400 and "inference request batch-size must be <= 8 for 'batched'" in r.json()["error"]
    assert r.json()["error"].startswith("[request id: <id_unknown>] "), r


def test_binary_sizes_are_checked(server):
    head = {"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}]}
    for tail, text in ((b"1234", "expecting"), (b"123456789", "unexpected additional input data")):
        body, headers = binary_body(head, tail)
        r = server.request("POST", "/v2/models/identity_fp32/infer", body, headers)
        assert r.status == 400 and text in r.json()["error"], r


STRINGS = struct.pack("<I", 1) + b"a"


@pytest.mark.parametrize("shape,data,sentence", [
    ([2], STRINGS,
     "expected 2 string elements for inference input 'INPUT0' for model 'identity_bytes', got 1"),
    ([1], STRINGS * 2, "unexpected number of string elements 2 for inference input 'INPUT0' for model "
     "'identity_bytes', expecting 1"),
    ([1], STRINGS[:-1], "incomplete string data for inference input 'INPUT0', expecting string of length 1 "
     "but only 0 bytes available"),
    ([1], STRINGS[:2], "incomplete string length indicator for inference input 'INPUT0' for model "
     "'identity_bytes', expecting 4 bytes but only 2 bytes available.")])
def test_binary_strings_are_checked(server, shape, data, sentence):
    body, headers = binary_body({"inputs": [{"name": "INPUT0", "datatype": "BYTES", "shape": shape,
                                             "parameters": {"binary_data_size": len(data)}}]}, data)
    r = server.request("POST", "/v2/models/identity_bytes/infer", body, headers)
    assert r.status == 400 and sentence in r.json()["error"], r


@pytest.mark.parametrize("value,sentence", [
    ("-1", "inference header size should be in range (0, 2), got: -1"),
    ("99999", "inference header size should be in range (0, 2), got: 99999"),
    (2**70, f"inference header size should be in range (0, 2), got: {2**70}"),
    ("abc", "Unable to parse Inference-Header-Content-Length 'abc'"), ("", "Unable to parse"),
    ("+2", "Unable to parse"), ("2 ,3", "Unable to parse"), ("-", "Unable to parse")])
def test_bad_inference_header_length(server, value, sentence):
    r = server.request("POST", "/v2/models/identity_fp32/infer", b"{}", {"Inference-Header-Content-Length": value})
    assert r.status == 400 and sentence in r.json()["error"], r


def test_classes_of_strings_are_refused(server):
    r = server.infer("identity_bytes", [{"name": "INPUT0", "datatype": "BYTES", "shape": [1], "data": ["a"]}],
                     outputs=[{"name": "OUTPUT0", "parameters": {"classification": 1}}])
    assert r.status == 400
    assert r.json()["error"] == "class result not available for output due to unsupported type 'BYTES'"


def test_unknown_model(server):
    r = server.infer("nope", [ONE])
    assert r.status == 404 and "Request for unknown model: 'nope' is not found" in r.json()["error"]


def test_decoupled_model_is_refused(server):
    r = server.infer("decoupled", [{"name": "IN", "datatype": "INT32", "shape": [2], "data": [1, 2]}])
    assert r.status == 501, r
