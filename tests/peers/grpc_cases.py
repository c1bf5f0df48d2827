"""gRPC calls that both servers are asked: CALLS, a list of (name, method, messages, metadata).

Messages are the bytes on the wire; all methods but ModelStreamInfer take one.
"""
import struct

from tritonclient.grpc import service_pb2 as pb

CALLS = []


def add(name, method, *messages, **metadata):
    messages = [m if isinstance(m, bytes) else m.SerializeToString() for m in messages]
    CALLS.append((f"{method}: {name}", method, messages, tuple(metadata.items())))


def call(title, method, /, **fields):
    add(title, method, getattr(pb, f"{method}Request")(**fields))


def param(value):
    """A parameter's message; a pair names the field of the value."""
    if isinstance(value, tuple):
        return pb.InferParameter(**{value[0]: value[1]})
    kind = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}[type(value)]
    return pb.InferParameter(**{kind: value})


def tensor(dtype, shape, name="INPUT0", parameters=None, **contents):
    t = pb.ModelInferRequest.InferInputTensor(name=name, datatype=dtype, shape=shape)
    if contents:
        t.contents.CopyFrom(pb.InferTensorContents(**contents))
    for key, value in (parameters or {}).items():
        t.parameters[key].CopyFrom(param(value))
    return t


def wanted(name="OUTPUT0", **parameters):
    o = pb.ModelInferRequest.InferRequestedOutputTensor(name=name)
    for key, value in parameters.items():
        o.parameters[key].CopyFrom(param(value))
    return o


def message(model, *inputs, raw=(), outputs=(), version="", id="", parameters=None):
    m = pb.ModelInferRequest(model_name=model, model_version=version, id=id, inputs=inputs, outputs=outputs,
                             raw_input_contents=raw)
    for key, value in (parameters or {}).items():
        m.parameters[key].CopyFrom(param(value))
    return m


def infer(name, *arguments, **rest):
    add(name, "ModelInfer", message(*arguments, **rest))


def floats(*values):
    return struct.pack(f"<{len(values)}f", *values)


def ints(*values):
    return struct.pack(f"<{len(values)}i", *values)


def strings(*items):
    return b"".join(struct.pack("<I", len(i)) + i for i in items)


F, F_RAW = tensor("FP32", [2]), floats(1.5, -2)
A, B = tensor("FP32", [1, 3]), tensor("INT32", [1, 2], "INPUT1")
A_RAW, B_RAW = floats(1, 2, 3), ints(4, 5)
PAIR = {"raw": [A_RAW, B_RAW]}

# --- what every server has

for method in ("ServerLive", "ServerReady", "ServerMetadata"):
    call("plain", method)
    add("unknown fields", method, b"\x0a\x03abc\x10\x05")
    add("no protobuf", method, b"\xff\xff\xff")
    add("cut", method, b"\x0a\x05ab")
MODELS = (("plain", "id_FP32", ""), ("version", "id_FP32", "1"), ("no such version", "id_FP32", "9"),
          ("no such model", "nope", ""), ("no such model, version", "nope", "1"), ("empty name", "", ""),
          ("version a word", "id_FP32", "x"), ("version negative", "id_FP32", "-1"),
          ("version zero", "id_FP32", "0"), ("version 01", "id_FP32", "01"),
          ("version a fraction", "id_FP32", "1.5"), ("version beyond 64 bits", "id_FP32", "9" * 20),
          ("version with a blank", "id_FP32", " 1"), ("several versions", "dotted.name-1", ""),
          ("several versions, one", "dotted.name-1", "1"),
          ("several versions, none", "dotted.name-1", "2"), ("broken", "broken", ""),
          ("broken, version", "broken", "1"), ("unversioned", "unversioned", ""), ("pair", "pair", ""),
          ("choice", "choice", ""), ("labelled", "labelled", ""), ("wild", "wild", ""),
          ("name with a slash", "a/b", ""), ("name of umlauts", "häuser", ""))
for name, model, version in MODELS:
    for method in ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"):
        call(name, method, name=model, version=version)
for method in ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "RepositoryIndex"):
    add("no protobuf", method, b"\xff\xff\xff")
    add("name of the wrong wire type", method, b"\x08\x05")
    add("name not UTF-8", method, b"\x0a\x02\xff\xfe")
call("all", "RepositoryIndex")
call("ready ones", "RepositoryIndex", ready=True)
call("of a repository", "RepositoryIndex", repository_name="r")

# --- inference: values of every type

RAW = {"BOOL": b"\0\1\1", "UINT8": bytes([0, 7, 255]), "INT8": struct.pack("<3b", -128, 0, 127),
       "UINT16": struct.pack("<3H", 0, 7, 65535), "INT16": struct.pack("<3h", -32768, 0, 32767),
       "UINT32": struct.pack("<3I", 0, 7, 2**32 - 1), "INT32": ints(-2**31, 0, 2**31 - 1),
       "UINT64": struct.pack("<3Q", 0, 7, 2**64 - 1), "INT64": struct.pack("<3q", -2**63, 0, 2**63 - 1),
       "FP16": struct.pack("<3e", 0, 1.5, -2), "FP32": floats(0, 1.5, float("inf")),
       "FP64": struct.pack("<3d", 0, 1.5, 1e300), "BYTES": strings(b"a", b"", b"\0\xff")}
TYPED = {"BOOL": {"bool_contents": [False, True, True]}, "UINT8": {"uint_contents": [0, 7, 255]},
         "INT8": {"int_contents": [-128, 0, 127]}, "UINT16": {"uint_contents": [0, 7, 65535]},
         "INT16": {"int_contents": [-32768, 0, 32767]}, "UINT32": {"uint_contents": [0, 7, 2**32 - 1]},
         "INT32": {"int_contents": [-2**31, 0, 2**31 - 1]}, "UINT64": {"uint64_contents": [0, 7, 2**64 - 1]},
         "INT64": {"int64_contents": [-2**63, 0, 2**63 - 1]}, "FP16": {"fp32_contents": [0, 1.5, -2]},
         "FP32": {"fp32_contents": [0, 1.5, -2]}, "FP64": {"fp64_contents": [0, 1.5, 1e300]},
         "BYTES": {"bytes_contents": [b"a", b"", b"\0\xff"]}}
for dtype, raw in RAW.items():
    model, contents = f"id_{dtype}", TYPED[dtype]
    (field, values), other = next(iter(contents.items())), "fp32" if dtype != "FP32" else "int"
    infer(f"{dtype} raw", model, tensor(dtype, [3]), raw=[raw])
    infer(f"{dtype} raw, a byte short", model, tensor(dtype, [3]), raw=[raw[:-1]])
    infer(f"{dtype} raw, a byte long", model, tensor(dtype, [3]), raw=[raw + b"\0"])
    infer(f"{dtype} empty raw", model, tensor(dtype, [0]), raw=[b""])
    infer(f"{dtype} typed", model, tensor(dtype, [3], **contents))
    infer(f"{dtype} typed, too few", model, tensor(dtype, [3], **{field: values[:2]}))
    infer(f"{dtype} typed, too many", model, tensor(dtype, [3], **{field: [*values, values[0]]}))
    infer(f"{dtype} in {other}_contents", model, tensor(dtype, [1], **{f"{other}_contents": [1]}))
    infer(f"{dtype} typed and raw", model, tensor(dtype, [3], **contents), raw=[raw])
    infer(f"{dtype} nothing", model, tensor(dtype, [3]))
for dtype, field, values in (("INT8", "int_contents", [128, -129, 5]), ("UINT8", "uint_contents", [256, 1, 2]),
                             ("INT16", "int_contents", [32768, 0, 0]),
                             ("UINT16", "uint_contents", [65536, 0, 0])):
    infer(f"{dtype} typed, out of range", f"id_{dtype}", tensor(dtype, [3], **{field: values}))
for name, shape, raw in (("too few", [2], strings(b"abc")), ("too many", [1], strings(b"a", b"b")),
                         ("length beyond", [1], b"\xff\xff\xff\xff"), ("half a length", [1], b"\1\0"),
                         ("none for one", [1], b""), ("long", [1], strings(b"x" * 70000))):
    infer(f"BYTES raw, {name}", "id_BYTES", tensor("BYTES", shape), raw=[raw])
# packed and one by one are the same
infer("packed", "id_INT32", tensor("INT32", [3], int_contents=[1, 2, 3]))
HEAD = b"\x0a\x08id_INT32"
IN = b"\x0a\x06INPUT0\x12\x05INT32\x1a\x01\x03"
add("not packed", "ModelInfer", HEAD + b"\x2a" + bytes([len(IN) + 8]) + IN + b"\x2a\x06\x10\x01\x10\x02\x10\x03")
add("contents in two pieces", "ModelInfer",
    HEAD + b"\x2a" + bytes([len(IN) + 11]) + IN + b"\x2a\x04\x12\x02\x01\x02\x2a\x03\x12\x01\x03")
add("raw before the input", "ModelInfer", HEAD + b"\x3a\x0c" + ints(1, 2, 3) + b"\x2a" + bytes([len(IN)]) + IN)
add("name twice", "ModelInfer", b"\x0a\x04nope" + HEAD + b"\x2a" + bytes([len(IN)]) + IN + b"\x3a\x0c"
    + ints(1, 2, 3))
add("unknown fields", "ModelInfer", HEAD + b"\x2a" + bytes([len(IN)]) + IN + b"\x3a\x0c" + ints(1, 2, 3)
    + b"\xa2\x06\x03abc\xa8\x06\x01\xad\x06abcd\xa1\x06abcdefgh")
add("a group", "ModelInfer", HEAD + b"\x2a" + bytes([len(IN)]) + IN + b"\x3a\x0c" + ints(1, 2, 3)
    + b"\xa3\x06\x08\x01\xa4\x06")
for name, broken in (("no protobuf", b"\xff" * 20), ("cut", HEAD[:-2]), ("field 0", HEAD + b"\x00\x01"),
                     ("wire type 7", HEAD + b"\x0f\x01"), ("length beyond", HEAD + b"\x2a\x7f\x0a"),
                     ("varint of 11 bytes", HEAD + b"\x40" + b"\xff" * 10 + b"\x01"),
                     ("group without an end", HEAD + b"\xa3\x06\x08\x01"),
                     ("name not UTF-8", b"\x0a\x02\xff\xfe"), ("empty", b"")):
    add(f"message, {name}", "ModelInfer", broken)
for name, part in (("version", b"\x12\x01\xff"), ("id", b"\x1a\x01\xff"), ("input", b"\x2a\x03\x0a\x01\xff"),
                   ("datatype", b"\x2a\x03\x12\x01\xff"), ("parameter", b"\x22\x03\x0a\x01\xff"),
                   ("output", b"\x32\x03\x0a\x01\xff"),
                   ("value", b"\x22\x08\x0a\x01a\x12\x03\x1a\x01\xff")):
    add(f"message, {name} not UTF-8", "ModelInfer", HEAD + part)

# --- inference: shapes and inputs

for name, shape, raw in (("fits", [2, 3], floats(*range(6))), ("rank 1", [6], floats(*range(6))),
                         ("rank 3", [1, 2, 3], floats(*range(6))), ("rank 0", [], floats(1)),
                         ("swapped", [3, 2], floats(*range(6))), ("negative", [-2, -3], floats(*range(6))),
                         ("wildcard", [-1, 3], floats(*range(6))), ("zero", [0, 3], b"")):
    infer(f"shape, {name}", "fixed", tensor("FP32", shape), raw=[raw])
    if name != "negative":  # it ends the field's model
        infer(f"wild shape, {name}", "wild", tensor("FP32", shape), raw=[raw])
infer("shape beyond 64 bits of bytes", "fixed", tensor("FP32", [2**62, 2**62]), raw=[b""])
for rows in (0, 1, 8, 9):
    infer(f"batch of {rows}", "pair", tensor("FP32", [rows, 1]), tensor("INT32", [rows, 2], "INPUT1"),
          raw=[floats(*[1.0] * rows), ints(*[1] * 2 * rows)])
infer("batches differ", "pair", tensor("FP32", [2, 1]), B, raw=[floats(1, 2), B_RAW])
infer("inputs", "pair", A, B, **PAIR)
infer("inputs the other way round", "pair", B, A, raw=[B_RAW, A_RAW])
infer("no inputs", "pair")
infer("one lacks", "pair", A, raw=[A_RAW])
infer("one more", "pair", A, B, tensor("FP32", [1, 1], "Z"), raw=[A_RAW, B_RAW, floats(1)])
infer("unknown instead", "pair", A, tensor("INT32", [1, 2], "Z"), **PAIR)
infer("twice", "pair", A, A, raw=[A_RAW, A_RAW])
infer("wrong type", "pair", tensor("INT32", [1, 3]), B, **PAIR)
infer("unknown type", "pair", tensor("FP99", [1, 3]), B, **PAIR)
infer("lower case type", "pair", tensor("fp32", [1, 3]), B, **PAIR)
infer("empty type", "pair", tensor("", [1, 3]), B, **PAIR)
infer("empty name", "pair", tensor("FP32", [1, 3], ""), B, **PAIR)
infer("raw for one of two", "pair", A, B, raw=[A_RAW])
infer("raw of one too many", "pair", A, B, raw=[A_RAW, B_RAW, B_RAW])
infer("raw without inputs", "pair", raw=[A_RAW])
infer("raw and typed mixed", "pair", A, tensor("INT32", [1, 2], "INPUT1", int_contents=[4, 5]), raw=[A_RAW])
infer("both typed", "pair", tensor("FP32", [1, 3], fp32_contents=[1, 2, 3]),
      tensor("INT32", [1, 2], "INPUT1", int_contents=[4, 5]))
infer("optional given", "choice", F, tensor("INT32", [1], "INPUT1"), raw=[F_RAW, ints(3)])
infer("optional left out", "choice", F, raw=[F_RAW])
infer("only the optional", "choice", tensor("INT32", [1], "INPUT1"), raw=[ints(3)])

# --- inference: models and versions

for name, model, version in MODELS:
    infer(f"of {name}", model, F, raw=[F_RAW], version=version)

# --- inference: ids, outputs, parameters

for value in ("a", "日本", "x" * 300, "a\0b", "\n\""):
    infer(f"id {value!r:.20}", "id_FP32", F, raw=[F_RAW], id=value)
infer("id in an error", "id_FP32", tensor("FP32", [2], "Z"), raw=[F_RAW], id="a-1")
for name, outputs in (("one", ["OUTPUT1"]), ("both", ["OUTPUT0", "OUTPUT1"]),
                      ("other way round", ["OUTPUT1", "OUTPUT0"]), ("twice", ["OUTPUT0", "OUTPUT0"]),
                      ("unknown", ["Z"]), ("known and unknown", ["OUTPUT0", "Z"]), ("empty name", [""])):
    infer(f"outputs, {name}", "pair", A, B, outputs=[wanted(o) for o in outputs], **PAIR)
for name, parameters in (("class", {"classification": 2}), ("class 100", {"classification": 100}),
                         ("class 0", {"classification": 0}), ("class -1", {"classification": -1}),
                         ("class a word", {"classification": "2"}),
                         ("class a bool", {"classification": True}),
                         ("class a double", {"classification": 2.0}),
                         ("class unsigned", {"classification": ("uint64_param", 2)}),
                         ("class nothing", {"classification": ("bool_param", False)}),
                         ("binary", {"binary_data": True}), ("unknown", {"a": 1, "b": "x"}),
                         ("region", {"shared_memory_region": "r", "shared_memory_byte_size": 12}),
                         ("region without a size", {"shared_memory_region": "r"}),
                         ("region a number", {"shared_memory_region": 1}),
                         ("size without a region", {"shared_memory_byte_size": 12})):
    infer(f"output, {name}", "pair", A, B, outputs=[wanted(**parameters)], **PAIR)
for name, rows in (("best", [[1, 5, 3, 2]]), ("rows", [[1, 5, 3, 2], [9, 8, 7, 6]]),
                   ("equal", [[1, 1, 2, 2]]), ("large", [[1e10, 1e-10, 0, 123456.789]])):
    for k in (1, 4):
        infer(f"labels, {name} {k}", "labelled", tensor("FP32", [len(rows), 4]),
              raw=[b"".join(floats(*row) for row in rows)], outputs=[wanted(classification=k)])
for name, parameters in (("region", {"shared_memory_region": "r", "shared_memory_byte_size": 8}),
                         ("region without a size", {"shared_memory_region": "r"}),
                         ("region with a negative size",
                          {"shared_memory_region": "r", "shared_memory_byte_size": -1}),
                         ("region a number", {"shared_memory_region": 1}),
                         ("size without a region", {"shared_memory_byte_size": 8}),
                         ("unknown", {"x": 1})):
    infer(f"input, {name}", "id_FP32", tensor("FP32", [2], parameters=parameters), raw=[F_RAW])
    infer(f"input, {name}, no raw", "id_FP32", tensor("FP32", [2], parameters=parameters))
VALUES = (("bool", True), ("int", 1), ("negative", -1), ("text", "x"), ("double", 1.5), ("text 1", "1"),
          ("unsigned", ("uint64_param", 1)), ("huge", ("uint64_param", 2**64 - 1)))
for key in ("a", "sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "binary_data_output",
            "triton_x", "triton_enable_empty_final_response", "headers"):
    for name, value in VALUES:
        infer(f"parameter {key} {name}", "pair", A, B, parameters={key: value}, **PAIR)
empty = message("pair", A, B, **PAIR)
empty.parameters["a"].SetInParent()
add("parameter without a value", "ModelInfer", empty)
infer("parameter without a name", "pair", A, B, parameters={"": 1}, **PAIR)
infer("sequence", "pair", A, B, parameters={"sequence_id": 5, "sequence_start": True, "sequence_end": False},
      **PAIR)
infer("timeout of long", "pair", A, B, parameters={"timeout": 10000000}, **PAIR)

# --- streams

GOOD = message("id_FP32", F, raw=[F_RAW], id="1")
WRONG = message("id_FP32", tensor("FP32", [2], "Z"), raw=[F_RAW], id="2")
FINAL = message("id_FP32", F, raw=[F_RAW], id="3", parameters={"triton_enable_empty_final_response": True})
ABSENT = message("nope", F, raw=[F_RAW], id="4")
SLOW = message("slow", F, raw=[F_RAW], id="5")
MIXED = message("id_FP32", tensor("FP32", [2], fp32_contents=[1, 2]), raw=[F_RAW], id="6")
for name, messages in (("nothing", []), ("one", [GOOD]), ("two", [GOOD, GOOD]),
                       ("slow before fast", [SLOW, GOOD, SLOW, GOOD]), ("wrong", [WRONG]),
                       ("wrong between good", [GOOD, WRONG, GOOD]), ("no such model", [ABSENT]),
                       ("no such model between good", [GOOD, ABSENT, GOOD]), ("slow and wrong", [SLOW, WRONG]),
                       ("final response", [FINAL, GOOD]), ("mixed contents", [MIXED]),
                       ("version a word", [message("id_FP32", F, raw=[F_RAW], version="x")]),
                       ("no protobuf", [b"\xff\xff"]), ("good, then no protobuf", [GOOD, b"\xff\xff"]),
                       ("outputs", [message("pair", A, B, outputs=[wanted("OUTPUT1")], **PAIR)]),
                       ("empty message", [b""])):
    for mode, metadata in (("", {}), (", status", {"triton_grpc_error": "true"}),
                           (", no status", {"triton_grpc_error": "false"})):
        add(f"{name}{mode}", "ModelStreamInfer", *messages, **metadata)

# --- settings of the log (each change is taken back)

def logging(name, /, **settings):
    request = pb.LogSettingsRequest()
    for key, value in settings.items():
        kind = {bool: "bool_param", int: "uint32_param", str: "string_param"}[type(value)]
        setattr(request.settings[key], kind, value)
    add(name, "LogSettings", request)


logging("get")
for name, settings in (("info off", {"log_info": False}), ("info on", {"log_info": True}),
                       ("warning off", {"log_warning": False}), ("warning on", {"log_warning": True}),
                       ("error off", {"log_error": False}), ("error on", {"log_error": True}),
                       ("verbose 3", {"log_verbose_level": 3}), ("verbose 0", {"log_verbose_level": 0}),
                       ("verbose a word", {"log_verbose_level": "1"}), ("info a word", {"log_info": "true"}),
                       ("info a number", {"log_info": 1}), ("format", {"log_format": "ISO8601"}),
                       ("format back", {"log_format": "default"}), ("format unknown", {"log_format": "x"}),
                       ("format a number", {"log_format": 1}), ("file", {"log_file": "x"}),
                       ("unknown", {"log_nope": 1})):
    logging(name, **settings)
add("no protobuf", "LogSettings", b"\xff\xff")

# --- the repository, shared memory and traces, where both refuse or have none

for method in ("RepositoryModelLoad", "RepositoryModelUnload"):
    for name, model in (("a model", "id_FP32"), ("no such model", "nope"), ("nothing", "")):
        call(name, method, model_name=model)
for kind in ("System", "Cuda"):
    call("all", f"{kind}SharedMemoryStatus")
    call("one", f"{kind}SharedMemoryStatus", name="r")
    call("all", f"{kind}SharedMemoryUnregister")
    call("one", f"{kind}SharedMemoryUnregister", name="r")
call("no such key", "SystemSharedMemoryRegister", name="r", key="/modeld_no_such_key", byte_size=64)
call("no name", "SystemSharedMemoryRegister", key="/modeld_no_such_key", byte_size=64)
call("no handle", "CudaSharedMemoryRegister", name="r", byte_size=64)
call("get", "TraceSetting")
call("get of a model", "TraceSetting", model_name="id_FP32")
call("get of no such model", "TraceSetting", model_name="nope")
