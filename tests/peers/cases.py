"""Requests that both servers are asked: CASES, a list of (name, method, path, body, headers)."""
import gzip, json, struct, zlib

CASES = []


def add(name, method, path, body=None, headers=None):
    body = json.dumps(body).encode() if isinstance(body, (dict, list)) else body.encode() if isinstance(body,
        str) else body
    CASES.append((name, method, path, body, headers or {}))


def infer(name, model, body, headers=None):
    add(name, "POST", f"/v2/models/{model}/infer", body, headers)


def inputs(*tensors, **rest):
    return {"inputs": list(tensors), **rest}


def binary(head, *tails, length=None):
    """Body and header of a request with binary tensors."""
    head = json.dumps(head).encode() if isinstance(head, dict) else head
    return head + b"".join(tails), {"Inference-Header-Content-Length": str(
        len(head) if length is None else length)}


def one(dtype, data, shape=None, name="INPUT0", **rest):
    return {"name": name, "datatype": dtype, "shape": [len(data)] if shape is None else shape, "data": data,
            **rest}


def of_size(dtype, shape, size, name="INPUT0"):
    return {"name": name, "datatype": dtype, "shape": shape, "parameters": {"binary_data_size": size}}


X = one("FP32", [1.5, -2, 1e-7], [1, 3])
Y = one("INT32", [7, -8], [1, 2], "INPUT1")
F = one("FP32", [1, 2])
FIXED = one("FP32", [1, 2, 3, 4, 5, 6], [2, 3])

# --- routes and methods

MODEL_PATHS = ("", "/ready", "/config", "/stats", "/infer", "/versions/1", "/versions/1/ready",
               "/versions/1/config", "/versions/1/stats", "/versions/1/infer")
for method in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"):
    for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/stats", "/v2/repository/index",
                 "/v2/logging", *(f"/v2/models/id_FP32{p}" for p in MODEL_PATHS)):
        add(f"{method} {path}", method, path, b"" if method in ("POST", "PUT", "PATCH") else None)
for path in ("/", "/v1", "/v2/", "//v2", "/v2/health", "/v2/health/", "/v2/health/live/", "/v2/health/nope",
             "/v2/models", "/v2/models/", "/v2/models/id_FP32/", "/v2/models/id_FP32/ready/",
             "/v2/models/id_FP32/nope", "/v2/models/id_FP32/versions", "/v2/models/id_FP32/versions/",
             "/v2/models/id_FP32/versions/x", "/v2/models/id_FP32/versions/-1",
             "/v2/models/id_FP32/versions/1.0", "/v2/models/id_FP32/versions/1/",
             "/v2/models/id_FP32/versions/1/nope", "/v2/models/id_FP32/versions/9",
             "/v2/models/id_FP32/versions/9/ready", "/v2/models/id_FP32/versions/9/config",
             "/v2/models/id_FP32/versions/9/stats", "/v2/models/id_FP32/versions/01",
             "/v2/models/id_FP32/versions/0", "/v2/models/id_FP32/versions/99999999999999999999",
             "/v2/models/nope", "/v2/models/nope/ready", "/v2/models/nope/config", "/v2/models/nope/stats",
             "/v2/models/nope/versions/1", "/v2/repository", "/v2/repository/", "/v2/repository/index/",
             "/v2/repository/models", "/v2/logging/", "/v2?x=1", "/v2/health/live?verbose",
             "/v2/models/id_FP32?x=1", "/v2/models/id_FP32/ready?x=/infer", "/v2/models/stats?x",
             "/v2/models/dotted.name-1", "/v2/models/dotted.name-1/stats",
             "/v2/models/dotted.name-1/versions/1", "/v2/models/dotted.name-1/versions/3/ready",
             "/v2/models/dotted.name-1/versions/2", "/v2/models/pair", "/v2/models/choice",
             "/v2/models/labelled", "/v2/models/fixed", "/v2/models/wild", "/V2", "/v2/Models/id_FP32",
             "/v2/models/id_fp32", "/nope"):
    add(f"GET {path}", "GET", path)
for model in ("broken", "unversioned"):
    for path in ("", "/ready", "/config", "/stats", "/versions/1", "/versions/1/ready", "/versions/1/config",
                 "/versions/1/stats", "/versions/2"):
        add(f"GET of {model}{path}", "GET", f"/v2/models/{model}{path}")
    for path in ("/infer", "/versions/1/infer"):
        add(f"POST of {model}{path}", "POST", f"/v2/models/{model}{path}", inputs(F))
add("infer of another version", "POST", "/v2/models/dotted.name-1/versions/1/infer", inputs(F))
add("infer of the latest version", "POST", "/v2/models/dotted.name-1/infer", inputs(F))
add("infer of no version", "POST", "/v2/models/dotted.name-1/versions/2/infer", inputs(F))
add("infer with a query", "POST", "/v2/models/id_FP32/infer?a=b", inputs(F))
add("infer with a slash", "POST", "/v2/models/id_FP32/infer/", inputs(F))
for name, body in (("ready", {"ready": True}), ("not ready", {"ready": False}), ("empty object", {}),
                   ("nothing", b""), ("array", "[]"), ("no JSON", "{"), ("string", {"ready": "yes"}),
                   ("number", {"ready": 1}), ("unknown key", {"x": 1})):
    add(f"index, {name}", "POST", "/v2/repository/index", body)
add("index of a named repository", "POST", "/v2/repository/r/index", b"")

# --- logging (each change is taken back)

for name, body in (("empty object", {}), ("nothing", b""), ("no JSON", "{"), ("array", "[]"),
                   ("info off", {"log_info": False}), ("info on", {"log_info": True}),
                   ("warning off", {"log_warning": False}), ("warning on", {"log_warning": True}),
                   ("error off", {"log_error": False}), ("error on", {"log_error": True}),
                   ("verbose 3", {"log_verbose_level": 3}), ("verbose 0", {"log_verbose_level": 0}),
                   ("verbose negative", {"log_verbose_level": -1}),
                   ("verbose string", {"log_verbose_level": "1"}), ("info string", {"log_info": "true"}),
                   ("info number", {"log_info": 1}), ("info null", {"log_info": None}),
                   ("format", {"log_format": "ISO8601"}), ("format back", {"log_format": "default"}),
                   ("format unknown", {"log_format": "x"}), ("format number", {"log_format": 1}),
                   ("file", {"log_file": "x"}), ("unknown", {"log_nope": 1})):
    add(f"logging, {name}", "POST", "/v2/logging", body)
add("logging at the end", "GET", "/v2/logging")

# --- data of every type

VALUES = {
    "BOOL": [[True, False], [0, 1], [2], ["true"], [None], [1.5], [-1]],
    "UINT8": [[0, 255], [256], [-1], [1.0], [1.5], [True], ["1"], [None], [1e2]],
    "UINT16": [[0, 65535], [65536], [-1], [1.5]],
    "UINT32": [[0, 4294967295], [4294967296], [-1], [1.5]],
    "UINT64": [[0, 18446744073709551615], [18446744073709551616], [-1], [1.5], [9007199254740993]],
    "INT8": [[-128, 127], [128], [-129], [1.5]],
    "INT16": [[-32768, 32767], [32768], [-32769]],
    "INT32": [[-2147483648, 2147483647], [2147483648], [-2147483649], [1.0], [True], ["1"], [None], [{}]],
    "INT64": [[-9223372036854775808, 9223372036854775807], [9223372036854775808], [-9223372036854775809],
              [9007199254740993], [1.0]],
    "FP32": [[0, -0.0, 1], [3.4028234663852886e38, 1.401298464324817e-45], [1e39], [-1e39], [16777217],
             [0.1, 1e-7, 123456.789], [True], ["1"], [None], [18446744073709551615], [1e-50]],
    "FP64": [[0, -0.0, 1], [1.7976931348623157e308, 5e-324, 2.2250738585072014e-308], [9007199254740993, 0.1],
             [18446744073709551615, -9223372036854775808], [1e-400], ["1"], [None],
             [1e15, 1e16, 1e17, 1e20, 1e21, 1e22, 1e-5, 1e-6, 1e-7]],
    "FP16": [[1, 2]],
    "BYTES": [["a", "bc"], [""], ["häuser", "日本", "😀"], ["a\u0000b"], ["\"\\/\b\f\n\r\t\u001f\u0001"],
              ["aGVsbG8="], [1], [True], [None], [["a"], ["b"]], ["\u007f\u0080\u2028"], ["</script>"]],
}
for dtype, rows in VALUES.items():
    for i, row in enumerate(rows):
        infer(f"{dtype} {row}", f"id_{dtype}", inputs(one(dtype, row)))
for dtype, size in (("BOOL", 1), ("UINT8", 1), ("UINT16", 2), ("UINT32", 4), ("UINT64", 8), ("INT8", 1),
                    ("INT16", 2), ("INT32", 4), ("INT64", 8), ("FP16", 2), ("FP32", 4), ("FP64", 8)):
    infer(f"{dtype} empty", f"id_{dtype}", inputs(one(dtype, [])))
    raw = bytes(range(1, 1 + 3 * size)) if dtype != "BOOL" else b"\1\0\1"
    for binary_out in (True, False):
        if dtype != "FP16" or binary_out:
            infer(f"{dtype} binary, out {binary_out}", f"id_{dtype}",
                  *binary(inputs(of_size(dtype, [3], 3 * size),
                                 parameters={"binary_data_output": binary_out}), raw))
    infer(f"{dtype} raw", f"id_{dtype}", raw, {"Inference-Header-Content-Length": "0"})
    infer(f"{dtype} binary too short", f"id_{dtype}", *binary(inputs(of_size(dtype, [3], 3 * size - 1)),
        raw[:-1]))
    infer(f"{dtype} binary too long", f"id_{dtype}", *binary(inputs(of_size(dtype, [3], 3 * size + 1)),
        raw + b"\0"))
for token in ("NaN", "Infinity", "-Infinity", "Inf", "-Inf", "-NaN", "nan", "inf", "1e5", "1E+5", "-1.5e-3",
              "01", "+1", ".5", "1.", "1e", "0x1", "-", "1e999", "-0", "0.1e1", "1_0"):
    for dtype in ("FP32", "FP64", "INT32"):
        infer(f"{dtype} token {token}", f"id_{dtype}",
              f'{{"inputs":[{{"name":"INPUT0","datatype":"{dtype}","shape":[1],"data":[{token}]}}]}}')

# --- strings in binary form

def strings(*items):
    return b"".join(struct.pack("<I", len(i)) + i for i in items)


for name, shape, raw in (("one", [1], strings(b"abc")), ("three", [3], strings(b"a", b"", b"\0\xff")),
                         ("too few", [2], strings(b"abc")), ("too many", [1], strings(b"a", b"b")),
                         ("cut", [1], strings(b"abc")[:-1]), ("length beyond", [1], b"\xff\xff\xff\xff"),
                         ("half a length", [1], b"\1\0"), ("none", [0], b""), ("none for one", [1], b"")):
    for binary_out in (True, False):
        infer(f"BYTES binary {name}, out {binary_out}", "id_BYTES",
              *binary(inputs(of_size("BYTES", shape, len(raw)),
                             parameters={"binary_data_output": binary_out}), raw))
infer("BYTES raw", "id_BYTES", b"abc", {"Inference-Header-Content-Length": "0"})
infer("BYTES raw, empty", "id_BYTES", b"", {"Inference-Header-Content-Length": "0"})
infer("BYTES as JSON, too few", "id_BYTES", inputs(one("BYTES", ["a"], [2])))
infer("BYTES as JSON, too many", "id_BYTES", inputs(one("BYTES", ["a", "b"], [1])))
infer("BYTES empty", "id_BYTES", inputs(one("BYTES", [])))

# --- shapes and nesting

for name, shape, data in (
        ("flat", [2, 3], [1, 2, 3, 4, 5, 6]), ("nested", [2, 3], [[1, 2, 3], [4, 5, 6]]),
                          ("nested otherwise", [2, 3], [[1, 2], [3, 4], [5, 6]]),
                          ("mixed", [2, 3], [1, [2, 3], [4, [5, 6]]]),
                          ("deep", [2, 3], [[[[1, 2, 3, 4, 5, 6]]]]),
                          ("empty lists between", [2, 3], [[], [1, 2, 3, 4, 5, 6], []]),
                          ("too few", [2, 3], [1, 2, 3, 4, 5]), ("too many", [2, 3], [1, 2, 3, 4, 5, 6, 7]),
                          ("none", [2, 3], []), ("scalar", [2, 3], 1), ("string", [2, 3], "abc"),
                          ("object", [2, 3], {"a": 1}), ("null", [2, 3], None),
                          ("object within", [2, 3], [1, 2, {}, 4, 5, 6]), ("true", [2, 3], True),
                          ("rank 1", [6], [1] * 6), ("rank 3", [1, 2, 3], [1] * 6), ("rank 0", [], [1]),
                          ("rank 0 empty", [], []), ("swapped", [3, 2], [1] * 6),
                          ("negative", [-2, -3], [1] * 6), ("wildcard", [-1, 3], [1] * 6),
                          ("zero", [0, 3], []), ("float", [2.0, 3], [1] * 6),
                          ("string dimension", ["2", 3], [1] * 6), ("null dimension", [None, 3], [1] * 6),
                          ("shape is a number", 6, [1] * 6), ("shape is a string", "6", [1] * 6),
                          ("shape is null", None, [1] * 6), ("huge", [2**40, 2**40], [1]),
                          ("beyond 64 bits", [2**64, 1], [1]), ("nested shape", [[2], 3], [1] * 6)):
    infer(f"shape, {name}", "fixed", inputs({"name": "INPUT0", "datatype": "FP32", "shape": shape,
                                             "data": data}))
    if name != "huge":  # it ends the field's model
        infer(f"wild shape, {name}", "wild", inputs({"name": "INPUT0", "datatype": "FP32", "shape": shape,
            "data": data}))
infer("elements beyond an empty shape", "id_FP32", inputs(one("FP32", [1], [0])))
infer("depth 90", "id_FP32",
      '{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1],"data":' + "[" * 90 + "1" + "]" * 90 + "}]}")
infer("depth 200", "id_FP32",
      '{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1],"data":'
      + "[" * 200 + "1" + "]" * 200 + "}]}")

# --- batches

for rows in (0, 1, 2, 8, 9):
    infer(f"batch of {rows}", "pair", inputs(one("FP32", [1.0] * rows, [rows, 1]),
                                             one("INT32", [1] * 2 * rows, [rows, 2], "INPUT1")))
infer("batches differ", "pair", inputs(one("FP32", [1, 2], [2, 1]), Y))
infer("batch dimension lacks", "pair", inputs(one("FP32", [1, 2, 3]), one("INT32", [1, 2], name="INPUT1")))
infer("one lacks the batch dimension", "pair", inputs(X, one("INT32", [1, 2], name="INPUT1")))
infer("inputs the other way round", "pair", inputs(Y, X))
infer("no element in a row", "pair", inputs(one("FP32", [], [1, 0]), Y))
infer("wrong fixed dimension", "pair", inputs(X, one("INT32", [1, 2, 3], [1, 3], "INPUT1")))

# --- inputs

for name, body in (
        ("no inputs", {}), ("empty inputs", inputs()), ("inputs an object", {"inputs": {}}),
                   ("inputs null", {"inputs": None}), ("inputs of numbers", {"inputs": [1]}),
                   ("one lacks", inputs(X)), ("both lack", inputs()),
                   ("unknown one more", inputs(X, Y, {**X, "name": "Z"})),
                   ("unknown instead", inputs(X, {**Y, "name": "Z"})), ("twice", inputs(X, X)),
                   ("twice and the other", inputs(X, X, Y)), ("wrong type",
                       inputs({**X, "datatype": "INT32", "data": [1, 2, 3]}, Y)),
                   ("unknown type", inputs({**X, "datatype": "FP99"}, Y)),
                   ("lower case type", inputs({**X, "datatype": "fp32"}, Y)),
                   ("config type", inputs({**X, "datatype": "TYPE_FP32"}, Y)),
                   ("type a number", inputs({**X, "datatype": 1}, Y)),
                   ("empty type", inputs({**X, "datatype": ""}, Y)),
                   ("name a number", inputs({**X, "name": 1}, Y)),
                   ("empty name", inputs({**X, "name": ""}, Y)),
                   *((f"no {key}", inputs({k: v for k, v in X.items() if k != key}, Y)) for key in X),
                   *((f"{key} null", inputs({**X, key: None}, Y)) for key in X),
                   ("unknown keys", {**inputs({**X, "zzz": {"a": [1, {}]}}, Y), "yyy": [1], "_": None}),
                   ("data and size", inputs({**X, "parameters": {"binary_data_size": 12}}, Y)),
                   ("size without header", inputs(of_size("FP32", [1, 3], 12), Y)),
                   ("data and region", inputs({**X, "parameters": {"shared_memory_region": "r",
                       "shared_memory_byte_size": 12}}, Y)), ("size negative",
                           inputs(of_size("FP32", [1, 3], -1), Y)),
                   ("size a string", inputs(of_size("FP32", [1, 3], "12"), Y)),
                   ("size a float", inputs(of_size("FP32", [1, 3], 12.0), Y)),
                   ("parameters an array", inputs({**X, "parameters": []}, Y)),
                   ("parameters null", inputs({**X, "parameters": None}, Y)),
                   ("unknown parameters", inputs({**X, "parameters": {"a": 1, "b": [1], "c": {}}}, Y)),
                   ("not an object", "[]"), ("a number", "1"), ("a string", '"a"'), ("null", "null"),
                   ("empty", ""), ("blank", "  \n"), ("cut", '{"inputs":['),
                   ("comma at the end", '{"inputs":[],}'), ("more behind", '{"inputs":[]} x'),
                   ("single quotes", "{'inputs':[]}"), ("comment", '{"inputs":[]/* x */}'),
                   ("bad escape", '{"inputs":[],"id":"\\x"}'),
                   ("control character", '{"inputs":[],"id":"\n"}'),
                   ("high surrogate alone", '{"inputs":[],"id":"\\ud800"}'),
                   ("bad UTF-8", b'{"inputs":[],"id":"\xff"}'), ("byte order mark", b"\xef\xbb\xbf{}"),
                   ("zero byte", b'{"inputs":[]\0}')):
    infer(f"inputs, {name}", "pair", body)
infer("key twice", "id_FP32",
      '{"id":"a","id":"b","inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1],"data":[1],"data":[2]}]}')
infer("inputs twice", "id_FP32",
      '{"inputs":[],"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1],"data":[1]}]}')
infer("data first", "id_FP32", '{"inputs":[{"data":[1],"shape":[1],"datatype":"FP32","name":"INPUT0"}]}')
infer("outputs first", "id_FP32",
      '{"outputs":[{"name":"OUTPUT0"}],'
      '"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1],"data":[1]}]}')
infer("optional given", "choice", inputs(F, one("INT32", [3], name="INPUT1")))
infer("optional left out", "choice", inputs(F))
infer("only the optional", "choice", inputs(one("INT32", [3], name="INPUT1")))
infer("optional of the wrong type", "choice", inputs(F, one("FP32", [3], name="INPUT1")))
infer("optional before required", "choice", inputs(one("INT32", [3], name="INPUT1"), F))

# --- ids, outputs and parameters

for value in ("a", "", "日本", "a\"b\\c\n", "x" * 300, 1, 0, -1, 1.5, True, None, [], {}, "\u0000", "1"):
    infer(f"id {value!r:.20}", "id_FP32", inputs(F, id=value))
infer("id in an error", "id_FP32", inputs({**F, "name": "Z"}, id="a-1"))
infer("unicode id in an error", "id_FP32", inputs({**F, "name": "Z"}, id="日本"))
for name, outputs in (
        ("one", [{"name": "OUTPUT1"}]), ("both", [{"name": "OUTPUT0"}, {"name": "OUTPUT1"}]),
                      ("other way round", [{"name": "OUTPUT1"}, {"name": "OUTPUT0"}]),
                      ("twice", [{"name": "OUTPUT0"}, {"name": "OUTPUT0"}]), ("unknown", [{"name": "Z"}]),
                      ("known and unknown", [{"name": "OUTPUT0"}, {"name": "Z"}]), ("no name", [{}]),
                      ("name a number", [{"name": 1}]), ("name null", [{"name": None}]),
                      ("empty name", [{"name": ""}]), ("empty", []), ("null", None), ("object", {}),
                      ("number", [1]), ("unknown keys", [{"name": "OUTPUT0", "zzz": 1}]),
                      ("string", "OUTPUT0"), ("parameters null", [{"name": "OUTPUT0", "parameters": None}]),
                      ("parameters array", [{"name": "OUTPUT0", "parameters": []}])):
    infer(f"outputs, {name}", "pair", inputs(X, Y, outputs=outputs))
for name, parameters in (
        ("binary", {"binary_data": True}), ("not binary", {"binary_data": False}),
                         ("binary 1", {"binary_data": 1}), ("binary string", {"binary_data": "true"}),
                         ("binary null", {"binary_data": None}), ("class", {"classification": 2}),
                         ("class 100", {"classification": 100}), ("class 0", {"classification": 0}),
                         ("class -1", {"classification": -1}), ("class string", {"classification": "2"}),
                         ("class float", {"classification": 2.0}), ("class null", {"classification": None}),
                         ("class true", {"classification": True}),
                         ("class and binary", {"classification": 2, "binary_data": True}),
                         ("region", {"shared_memory_region": "r", "shared_memory_byte_size": 4}),
                         ("unknown", {"a": 1, "b": "x", "c": [1], "d": None}), ("none", {})):
    for out in ("OUTPUT0", "OUTPUT1"):
        infer(f"output {name} of {out}", "pair", inputs(X, Y,
            outputs=[{"name": out, "parameters": parameters}]))
for name, rows, k in (("best", [[1, 5, 3, 2]], 1), ("all", [[1, 5, 3, 2]], 4), ("equal", [[1, 1, 2, 2]], 4),
                      ("negative", [[-1, -5, -3, -2]], 2), ("rows", [[1, 5, 3, 2], [9, 8, 7, 6]], 3),
                      ("large", [[1e10, 1e-10, 0, 123456.789]], 4), ("more", [[1, 2, 3, 4]], 9)):
    infer(f"labels {name}", "labelled", inputs(one("FP32", rows, [len(rows), 4]),
                                               outputs=[{"name": "OUTPUT0",
                                                   "parameters": {"classification": k}}]))
    infer(f"labels {name}, binary", "labelled", inputs(one("FP32", rows, [len(rows), 4]), outputs=[
        {"name": "OUTPUT0", "parameters": {"classification": k, "binary_data": True}}]))
# (classes of BYTES end the field's server)
for dtype, data in (("BOOL", [True, False]), ("UINT8", [1, 200]), ("INT64", [-5, 9223372036854775807]),
                    ("UINT64", [1, 18446744073709551615]), ("FP64", [0.1, 1e300]), ("INT8", [-3, 3]),
                    ("UINT32", [4294967295, 0]), ("INT16", [3, 2, 1])):
    infer(f"classes of {dtype}", f"id_{dtype}", inputs(one(dtype, data),
        outputs=[{"name": "OUTPUT0", "parameters": {"classification": 2}}]))
for name, parameters in (
        ("none", {}), ("null", None), ("array", []), ("number", 1), ("string", "x"), ("bool", {"a": True}),
                         ("int", {"a": 1}), ("negative", {"a": -1}), ("large", {"a": 2**63}),
                         ("float", {"a": 1.5}), ("text", {"a": "x"}), ("null value", {"a": None}),
                         ("list value", {"a": [1]}), ("object value", {"a": {}}), ("empty key", {"": 1}),
                         ("sequence", {"sequence_id": 5, "sequence_start": True, "sequence_end": False}),
                         ("sequence text", {"sequence_id": "s", "sequence_start": True}),
                         ("sequence bool", {"sequence_id": True}), ("sequence float", {"sequence_id": 1.5}),
                         ("sequence negative", {"sequence_id": -1}), ("sequence null", {"sequence_id": None}),
                         ("start number", {"sequence_start": 1}), ("end string", {"sequence_end": "x"}),
                         ("priority", {"priority": 1}), ("priority 0", {"priority": 0}),
                         ("priority text", {"priority": "1"}), ("priority negative", {"priority": -1}),
                         ("priority float", {"priority": 1.0}), ("timeout", {"timeout": 10000000}),
                         ("timeout text", {"timeout": "1"}), ("timeout negative", {"timeout": -1}),
                         ("timeout 1", {"timeout": 1}), ("reserved", {"triton_x": 1}),
                         ("final", {"triton_enable_empty_final_response": True}),
                         ("binary", {"binary_data_output": True}),
                         ("binary off", {"binary_data_output": False}),
                         ("binary number", {"binary_data_output": 1}),
                         ("binary text", {"binary_data_output": "true"}),
                         ("headers", {"binary_data_size": 1}), ("region", {"shared_memory_region": "r"})):
    infer(f"parameters {name}", "pair", inputs(X, Y, parameters=parameters))
    infer(f"parameters {name} and an id", "pair", inputs(X, Y, parameters=parameters, id="7"))
infer("listed output despite binary_data_output", "pair", inputs(X, Y, outputs=[{"name": "OUTPUT0"}],
    parameters={"binary_data_output": True}))
infer("one binary, one not", "pair", inputs(X, Y, outputs=[{"name": "OUTPUT0",
    "parameters": {"binary_data": True}}, {"name": "OUTPUT1"}]))
infer("empty binary output", "id_FP32", inputs(one("FP32", []), parameters={"binary_data_output": True}))

# --- binary tensors

A, B = of_size("FP32", [1, 3], 12), of_size("INT32", [1, 2], 8, "INPUT1")
RAW_A, RAW_B = struct.pack("<3f", 1, 2, 3), struct.pack("<2i", 4, 5)
for name, arguments, length in (
        ("both", (inputs(A, B), RAW_A, RAW_B), None), ("first", (inputs(A, Y), RAW_A), None),
                                ("second", (inputs(X, B), RAW_B), None),
                                ("other way round", (inputs(B, A), RAW_B, RAW_A), None),
                                ("one byte short", (inputs(A, B), RAW_A, RAW_B[:-1]), None),
                                ("nothing there", (inputs(A, B),), None),
                                ("one byte more", (inputs(A, B), RAW_A, RAW_B, b"x"), None),
                                ("much more", (inputs(A, B), RAW_A, RAW_B, b"x" * 100), None),
                                ("length short by one", (inputs(A, B), RAW_A, RAW_B),
                                 len(json.dumps(inputs(A, B))) - 1),
                                ("length long by one", (inputs(A, B), RAW_A, RAW_B),
                                 len(json.dumps(inputs(A, B))) + 1),
                                ("length beyond the body", (inputs(A, B), RAW_A, RAW_B), 100000),
                                ("length negative", (inputs(A, B), RAW_A, RAW_B), -1),
                                ("length a word", (inputs(A, B), RAW_A, RAW_B), "abc"),
                                ("length empty", (inputs(A, B), RAW_A, RAW_B), ""),
                                ("length with a sign", (inputs(X, Y),), f"+{len(json.dumps(inputs(X, Y)))}"),
                                ("length with words behind", (inputs(X, Y),),
                                 f"{len(json.dumps(inputs(X, Y)))}x"),
                                ("length beyond 64 bits", (inputs(X, Y),), 2**70),
                                ("length beyond 32 bits", (inputs(X, Y),), 2**33),
                                ("length of all", (inputs(X, Y),), None),
                                ("size too small for the shape",
                                 (inputs(of_size("FP32", [1, 3], 8), B), RAW_A[:8], RAW_B), None),
                                ("size too large for the shape",
                                 (inputs(of_size("FP32", [1, 2], 12), B), RAW_A, RAW_B), None),
                                ("size 0", (inputs(of_size("FP32", [1, 0], 0), B), RAW_B), None)):
    infer(f"binary, {name}", "pair", *binary(*arguments, length=length))
infer("raw for two inputs", "pair", RAW_A, {"Inference-Header-Content-Length": "0"})
infer("raw, not a whole number", "id_FP32", RAW_A[:-1], {"Inference-Header-Content-Length": "0"})
infer("raw, empty", "id_FP32", b"", {"Inference-Header-Content-Length": "0"})
infer("raw, fixed", "fixed", RAW_A + RAW_A, {"Inference-Header-Content-Length": "0"})
infer("raw, fixed too short", "fixed", RAW_A, {"Inference-Header-Content-Length": "0"})
infer("raw, two variable dimensions", "wild", RAW_A, {"Inference-Header-Content-Length": "0"})
infer("raw, batched", "labelled", struct.pack("<4f", 1, 2, 3, 4), {"Inference-Header-Content-Length": "0"})
infer("raw, two rows", "labelled", struct.pack("<8f", *range(8)), {"Inference-Header-Content-Length": "0"})
infer("raw, optional", "choice", RAW_A, {"Inference-Header-Content-Length": "0"})

# --- content codings and headers

PLAIN = json.dumps(inputs(F)).encode()
for coding, packed in (("gzip", gzip.compress(PLAIN)), ("deflate", zlib.compress(PLAIN)), ("identity", PLAIN),
                       ("br", PLAIN), ("", PLAIN), ("gzip, deflate", PLAIN)):
    infer(f"coding {coding!r}", "id_FP32", packed, {"Content-Encoding": coding})
infer("gzip of nothing", "id_FP32", b"", {"Content-Encoding": "gzip"})
infer("gzip that is none", "id_FP32", PLAIN, {"Content-Encoding": "gzip"})
infer("gzip cut", "id_FP32", gzip.compress(PLAIN)[:-9], {"Content-Encoding": "gzip"})
infer("gzip in capitals", "id_FP32", gzip.compress(PLAIN), {"Content-Encoding": "GZIP"})
BINARY, LENGTH = binary(inputs(of_size("FP32", [3], 12)), RAW_A)
for coding, packed in (("gzip", gzip.compress(BINARY)), ("deflate", zlib.compress(BINARY))):
    infer(f"binary as {coding}", "id_FP32", packed, {"Content-Encoding": coding, **LENGTH})
MANY = inputs(one("INT32", list(range(1000))))
for accept in ("gzip", "deflate", "gzip, deflate", "deflate;q=0.5, gzip;q=0.1", "gzip;q=0", "br", "*",
               "identity", "", "identity;q=0.5, gzip;q=0.2", "gzip;q=2"):
    infer(f"accepts {accept!r}", "id_INT32", MANY, {"Accept-Encoding": accept})
    infer(f"small, accepts {accept!r}", "id_FP32", inputs(F), {"Accept-Encoding": accept})
add("statistics, accepts gzip", "GET", "/v2/models/stats", None, {"Accept-Encoding": "gzip, deflate"})
infer("error, accepts gzip", "id_FP32", inputs({**F, "name": "Z" * 800}),
      {"Accept-Encoding": "gzip, deflate"})
for content_type in ("application/json", "application/octet-stream", "text/plain",
                     "application/x-www-form-urlencoded", "multipart/form-data", "x"):
    infer(f"type {content_type}", "id_FP32", inputs(F), {"Content-Type": content_type})
infer("chunked", "id_FP32", b"%x\r\n%s\r\n0\r\n\r\n" % (len(PLAIN), PLAIN), {"Transfer-Encoding": "chunked"})
infer("request id header", "id_FP32", inputs(F), {"triton-request-id": "h", "X-Request-Id": "h"})

# --- settings of traces, in this order

for path in ("/v2/trace/setting", "/v2/models/id_FP32/trace/setting"):
    add(f"GET {path}", "GET", path)
for name, model, settings in (
        ("of a model", "id_FP32", {"trace_rate": "12", "log_frequency": "34"}),
        ("of the server", None, {"trace_rate": "56", "trace_count": "78", "trace_level": ["OFF"]}),
        ("of a model that has its own", "id_FP32", {"trace_count": "9"}),
        ("cleared of the server", None, {"trace_rate": None, "trace_count": None}),
        ("cleared of a model", "id_FP32", {"trace_rate": None, "trace_level": None, "trace_count": None}),
        ("cleared whole", "id_FP32", {"log_frequency": None}),
        ("nothing", None, {}),
        ("without a file", None, {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"}),
        ("level OFF and more", None, {"trace_level": ["OFF", "TIMESTAMPS"]}),
        ("level unknown", None, {"trace_level": ["ALL"]}),
        ("level a string", None, {"trace_level": "OFF"}),
        ("rate a word", None, {"trace_rate": "many"}),
        ("rate a number", None, {"trace_rate": 7}),
        ("rate negative", None, {"trace_rate": "-1"}),
        ("count too negative", None, {"trace_count": "-2"}),
        ("count too large", None, {"trace_count": "99999999999"}),
        ("file", None, {"trace_file": "x"}),
        ("unknown", None, {"trace_rates": "1"}),
        ("of no such model", "nope", {"trace_rate": "1"}),
        ("all cleared", None, {"trace_rate": None, "trace_count": None, "trace_level": None})):
    path = f"/v2/models/{model}/trace/setting" if model else "/v2/trace/setting"
    add(f"trace, {name}", "POST", path, json.dumps(settings).encode())
add("trace, no JSON", "POST", "/v2/trace/setting", b"{")
add("trace, array", "POST", "/v2/trace/setting", b"[]")
for path in ("/v2/trace/setting", "/v2/models/id_FP32/trace/setting", "/v2/models/nope/trace/setting"):
    add(f"GET {path} afterwards", "GET", path)

# --- not offered (here: 501) or absent

for path in ("load", "unload"):
    add(f"{path}", "POST", f"/v2/repository/models/id_FP32/{path}", b"{}")
    add(f"GET {path}", "GET", f"/v2/repository/models/id_FP32/{path}")
for kind in ("systemsharedmemory", "cudasharedmemory"):
    for method, path in (("GET", "/status"), ("POST", "/unregister"), ("POST", "/region/r/register"),
                         ("GET", "/region/r/status"), ("POST", "/region/r/unregister"), ("POST", "/status"),
                         ("GET", "/region/r/register"), ("GET", "/nope")):
        add(f"{method} {kind}{path}", method, f"/v2/{kind}{path}", b"{}" if method == "POST" else None)
add("load in a named repository", "POST", "/v2/repository/r/models/id_FP32/load", b"{}")
add("trace setting of a version", "GET", "/v2/models/id_FP32/versions/1/trace/setting")
for method, path in (("POST", "/v2/models/id_FP32/generate"),
                     ("GET", "/v2/models/id_FP32/generate"), ("POST", "/v2/models/id_FP32/generate_stream"),
                     ("PUT", "/v2/trace/setting")):
    add(f"{method} {path}", method, path, b"{}" if method != "GET" else None)

# --- shared memory, in this order: (name, method, path, body); there are two objects of 8192 bytes (this
# release of the field takes a key once, and reads elsewhere for an offset of a region)

SHARED_KEY = "/modeld-peers"


def placed(name, offset=0, size=16, shape=(4,), region="r", **rest):
    parameters = {"shared_memory_region": region, "shared_memory_offset": offset, "shared_memory_byte_size": size}
    return {"name": name, "datatype": "FP32", "shape": list(shape), "parameters": {**parameters, **rest}}


def wants(offset=64, size=16, **rest):
    output = placed("OUTPUT0", offset, size, **rest)
    return {"name": output["name"], "parameters": output["parameters"]}


def register(name, key=SHARED_KEY, size=4096, **rest):
    body = {"key": key, "byte_size": size, **rest}
    return ("POST", f"/v2/systemsharedmemory/region/{name}/register", {k: v for k, v in body.items() if v is not None})


def place(*tensors, outputs=None):
    return ("POST", "/v2/models/id_FP32/infer", inputs(*tensors, **({"outputs": outputs} if outputs else {})))


STATUS = ("GET", "/v2/systemsharedmemory/status", None)
SHARED = [
    ("nothing is registered", *STATUS),
    ("register", *register("r")),
    ("register twice", *register("r")),
    ("register another", *register("part", SHARED_KEY + "-2", size=100, offset=0)),
    ("register without a key", *register("x", key=None)),
    ("register without a size", *register("x", size=None)),
    ("register what is none", *register("x", key="/modeld-peers-none")),
    ("status", *STATUS),
    ("status of one", "GET", "/v2/systemsharedmemory/region/part/status", None),
    ("status of none", "GET", "/v2/systemsharedmemory/region/x/status", None),
    ("CUDA status", "GET", "/v2/cudasharedmemory/status", None),
    ("CUDA status of none", "GET", "/v2/cudasharedmemory/region/x/status", None),
    ("CUDA status of another", "GET", "/v2/cudasharedmemory/region/r/status", None),
    ("CUDA unregister", "POST", "/v2/cudasharedmemory/unregister", None),
    ("input", *place(placed("INPUT0"))),
    ("input at an offset", *place(placed("INPUT0", 4))),
    ("input of another region", *place(placed("INPUT0", region="part"))),
    ("input and output", *place(placed("INPUT0"), outputs=[wants()])),
    ("output read back", *place(placed("INPUT0", 64))),
    ("output of inline data", *place(one("FP32", [9, 8, 7, 6]), outputs=[wants()])),
    ("output of inline data read back", *place(placed("INPUT0", 64))),
    ("output with room", *place(placed("INPUT0"), outputs=[wants(128, 1000)])),
    ("output with room read back", *place(placed("INPUT0", 128, 20, (5,)))),
    ("output at its input", *place(placed("INPUT0"), outputs=[wants(0)])),
    ("output too small", *place(placed("INPUT0"), outputs=[wants(size=12)])),
    ("output and classes", *place(placed("INPUT0"), outputs=[wants(classification=1)])),
    ("output and binary", *place(placed("INPUT0"), outputs=[wants(binary_data=True)])),
    ("output and not binary", *place(placed("INPUT0"), outputs=[wants(binary_data=False)])),
    ("input unknown", *place(placed("INPUT0", region="x"))),
    ("output unknown", *place(placed("INPUT0"), outputs=[wants(region="x")])),
    ("input behind the end", *place(placed("INPUT0", 4096))),
    ("input beyond the end", *place(placed("INPUT0", 4084))),
    ("output beyond the end", *place(placed("INPUT0"), outputs=[wants(4084)])),
    ("input of another size", *place(placed("INPUT0", size=12))),
    ("input with data too", *place({**placed("INPUT0"), "data": [1, 2, 3, 4]})),
    ("unregister", "POST", "/v2/systemsharedmemory/region/r/unregister", None),
    ("unregister none", "POST", "/v2/systemsharedmemory/region/x/unregister", None),
    ("status of the rest", *STATUS),
    ("unregister all", "POST", "/v2/systemsharedmemory/unregister", None),
    ("nothing is left", *STATUS),
]
