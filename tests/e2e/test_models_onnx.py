"""ONNX models through the server: types, shapes, configurations, answers equal to those of the engine itself."""
import json, math, pathlib, re, shutil, struct, subprocess, threading, time

import pytest
from conftest import CACHE, MODELS, ROOT, SANITIZED, write_model

np = pytest.importorskip("numpy")
ort = pytest.importorskip("onnxruntime")

LOADED_BADLY = {"sequence_out": "a sequence", "sequence_in": "a sequence", "float8": "FLOAT8", "int4": "INT4",
                "external_escape": "outside.bin", "external_absolute": "Absolute path"}


@pytest.fixture(scope="session")
def onnx_server():
    from conftest import Server
    s = Server(MODELS, "--engine-threads=1")
    yield s
    assert s.process.poll() is None, f"the server died: {s.log()[-4000:]}"
    assert s.stop() == 0, s.log()[-4000:]


def engine(path, **inputs):
    """The outputs of the engine called directly, with one thread, by name."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs)))


def serve(root, name, model, config=None, files=None):
    """A repository's folder for a model of MODELS under another name and configuration."""
    (root / name).mkdir(parents=True)
    (root / name / "1").symlink_to(MODELS / model / "1")
    write_model(root, name, config, versions=(), files=files)


def fp32(*values):
    return struct.pack(f"<{len(values)}f", *values)


# Types and shapes

@pytest.mark.parametrize("shape", [(0, 4), (3, 4)])
def test_padding_of_what_has_no_rows(start, tmp_path, shape):
    """A first dimension of 0, where batches are padded to a size."""
    serve(tmp_path, "m", "rows_scaled",
          'dynamic_batching { } parameters { key: "modeld_allowed_batch_sizes" value { string_value: "4,8" } }')
    s = start(tmp_path)
    data = np.arange(math.prod(shape), dtype=np.float32).tobytes()
    (_, shape_out, out), = s.infer_binary("m", {"x": ("FP32", list(shape), data)}).values()
    assert list(shape_out) == list(shape) and len(out) == len(data)


NUMBERS = {"BOOL": ("?", [True, False]), "UINT8": ("B", [0, 255]), "UINT16": ("H", [0, 65535]),
           "UINT32": ("I", [0, 2**32 - 1]), "UINT64": ("Q", [0, 2**64 - 1]), "INT8": ("b", [-128, 127]),
           "INT16": ("h", [-2**15, 2**15 - 1]), "INT32": ("i", [-2**31, 2**31 - 1]),
           "INT64": ("q", [-2**63, 2**63 - 1]), "FP16": ("e", [-65504.0, 2**-24]), "FP32": ("f", [1.5, -2**-149]),
           "FP64": ("d", [1.7976931348623157e308, 5e-324]), "BF16": ("H", [1.0, -2.5])}


@pytest.mark.parametrize("dtype", NUMBERS)
def test_every_type_binary_and_json(onnx_server, dtype):
    model, (letter, values) = f"identity_{dtype.lower()}", NUMBERS[dtype]
    bits = [0x3f80, 0xc020] if dtype == "BF16" else values
    data = struct.pack(f"<2{letter}", *bits)
    assert onnx_server.infer_binary(model, {"x": (dtype, [2], data)}) == {"y": (dtype, [2], data)}
    r = onnx_server.infer(model, [{"name": "x", "datatype": dtype, "shape": [2], "data": values}])
    output = r.json()["outputs"][0]
    assert (output["datatype"], output["shape"]) == (dtype, [2])
    if dtype not in ("FP16", "FP32"):  # shortest forms of these are other doubles
        assert output["data"] == values
    else:
        assert struct.pack(f"<2{letter}", *output["data"]) == data


def test_strings_keep_zero_bytes_and_need_not_be_text(onnx_server):
    texts = [b"", b"a\0b\0", b"\0", "häuser".encode(), b"\xff\xfe", b"z" * 70000]
    data = b"".join(struct.pack("<I", len(t)) + t for t in texts)
    assert onnx_server.infer_binary("identity_bytes", {"x": ("BYTES", [6], data)}) == {"y": ("BYTES", [6], data)}
    r = onnx_server.infer("identity_bytes", [{"name": "x", "datatype": "BYTES", "shape": [2], "data": ["a\0b", "ü"]}])
    assert r.json()["outputs"][0]["data"] == ["a\0b", "ü"]
    r = onnx_server.infer("strings", [{"name": "x", "datatype": "BYTES", "shape": [2, 1], "data": ["p", "q\0"]}])
    assert r.json()["outputs"][0] == {"name": "y", "datatype": "BYTES", "shape": [2, 3],
                                      "data": ["p", "p", "p", "q\0", "q\0", "q\0"]}


def test_shapes(onnx_server):
    one = fp32(1)
    for model, shape, data, result in [
            ("scalar", [], one, fp32(2)), ("identity_fp32", [0], b"", b""), ("identity_one", [1], one, one),
            ("any_rank", [], one, one), ("any_rank", [1, 1, 1, 1, 1], one, one), ("any_rank", [2, 0, 3], b"", b""),
            ("linear", [3, 4], fp32(*range(12)), fp32(7, 8, 23, 24, 39, 40))]:
        out_shape = [3, 2] if model == "linear" else shape
        assert onnx_server.infer_binary(model, {"x": ("FP32", shape, data)}) == {"y": ("FP32", out_shape, result)}
    for model, shape, dtype in [("scalar", [1], "FP32"), ("identity_one", [2], "FP32"), ("linear", [1, 5], "FP32"),
                                ("linear", [4], "FP32"), ("linear", [1, 4], "FP64"), ("linear", [-1, 4], "FP32")]:
        r = onnx_server.infer(model, [{"name": "x", "datatype": dtype, "shape": shape,
                                       "data": [1] * abs(math.prod(shape))}])
        assert r.status == 400 and ("'x'" in r.json()["error"] or "negative" in r.json()["error"]), (model, shape, r)


def test_zero_strings(onnx_server):
    assert onnx_server.infer_binary("identity_bytes", {"x": ("BYTES", [0], b"")}) == {"y": ("BYTES", [0], b"")}


def test_optional_input(onnx_server):
    inputs = onnx_server.get("/v2/models/optional/config").json()["input"]
    assert {i["name"]: i.get("optional", False) for i in inputs} == {"x": False, "scale": True}
    x = {"x": ("FP32", [1, 2], fp32(1, 2))}
    assert onnx_server.infer_binary("optional", x)["y"][2] == fp32(3, 6)
    assert onnx_server.infer_binary("optional", {**x, "scale": ("FP32", [1], fp32(10))})["y"][2] == fp32(10, 20)
    r = onnx_server.infer("optional", [{"name": "scale", "datatype": "FP32", "shape": [1], "data": [1]}])
    assert r.status == 400 and "x" in r.json()["error"]


def test_several_outputs_and_a_selection(onnx_server):
    x = {"x": ("FP32", [2, 3], fp32(1, 2, 3, 4, 5, 6))}
    whole = {"negative": ("FP32", [2, 3], fp32(-1, -2, -3, -4, -5, -6)),
             "double": ("FP32", [2, 3], fp32(2, 4, 6, 8, 10, 12)), "sum": ("FP32", [2, 1], fp32(6, 15))}
    assert onnx_server.infer_binary("multi", x) == whole
    for names in (["sum"], ["double", "negative"], ["sum", "negative", "double"]):
        result = onnx_server.infer_binary("multi", x, names)
        assert result == {name: whole[name] for name in names} and list(result) == names
    r = onnx_server.infer("multi", [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}],
                          outputs=[{"name": "nothing"}])
    assert r.status == 400 and "nothing" in r.json()["error"]


def test_failing_runs_are_errors_of_their_requests(onnx_server):
    for model, shape in [("throws", [3]), ("lies", [1, 3])]:
        for _ in range(3):
            r = onnx_server.infer(model, [{"name": "x", "datatype": "FP32", "shape": shape, "data": [1] * 3}])
            assert r.status in (400, 500) if model == "throws" else r.status == 200, r
            if r.status >= 400:
                assert "Reshape" in r.json()["error"]
    assert onnx_server.infer_binary("throws", {"x": ("FP32", [4], fp32(1, 2, 3, 4))})["y"][1] == [2, 2]


def test_models_that_cannot_be_served_say_why(onnx_server):
    index = onnx_server.index()
    for model, words in LOADED_BADLY.items():
        state, reason = index[(model, "1")]
        assert state == "UNAVAILABLE" and words in reason, (model, reason)
        assert f"'{model}' version 1" in onnx_server.log()
        assert onnx_server.get(f"/v2/models/{model}/ready").status == 503
    bad = [key for key, (state, _) in index.items() if state != "READY"]
    assert sorted(name for name, _ in bad) == sorted(LOADED_BADLY)


def test_external_data_beside_the_model(onnx_server):
    assert onnx_server.infer_binary("external", {"x": ("FP32", [1, 4], fp32(1, 1, 1, 1))})["y"][2] == fp32(12, 16)


# Configurations

def test_metadata_without_configuration(onnx_server):
    assert onnx_server.get("/v2/models/linear").json() == {
        "name": "linear", "versions": ["1"], "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}]}
    assert onnx_server.get("/v2/models/linear/config").json()["max_batch_size"] == 0


def test_batch_size_of_the_other_column(start):
    s = start(MODELS, "--compat=triton", "--exit-on-error=false", "--strict-readiness=false",
              "--http-address=127.0.0.1", "--metrics-address=127.0.0.1", "--model-control-mode=explicit",
              *(f"--load-model={name}" for name in ("linear", "identity_one", "scalar", "multi")))
    size = {m: s.get(f"/v2/models/{m}/config").json()["max_batch_size"]
            for m in ("linear", "identity_one", "scalar", "multi")}
    assert size == {"linear": 4, "identity_one": 0, "scalar": 0, "multi": 4}
    assert s.get("/v2/models/linear/config").json()["input"][0]["dims"] == [4]
    assert s.get("/v2/models/linear").json()["inputs"][0]["shape"] == [-1, 4]
    x = {"name": "x", "datatype": "FP32", "shape": [5, 4], "data": [1] * 20}
    r = s.infer("linear", [x])
    assert r.status == 400 and "batch" in r.json()["error"]
    assert s.infer_binary("linear", {"x": ("FP32", [4, 4], fp32(*[1] * 16))})["y"][1] == [4, 2]


CONFIGS = {  # (model, configuration, words of the error; none: it is served)
    "whole": ("linear", 'backend: "onnxruntime" max_batch_size: 8 input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } '
              'output { name: "y" data_type: TYPE_FP32 dims: [ 2 ] }', []),
    "platform": ("linear", 'platform: "onnxruntime_onnx"', []),
    "some_outputs": ("multi", 'output { name: "sum" data_type: TYPE_FP32 dims: [ -1, 1 ] }', []),
    "narrower": ("linear", 'input { name: "x" data_type: TYPE_FP32 dims: [ 2, 4 ] }', []),
    "options": ("linear", 'parameters { key: "intra_op_thread_count" value { string_value: "2" } } '
                'parameters { key: "enable_mem_arena" value { string_value: "0" } } '
                'parameters { key: "session.use_env_allocators" value { string_value: "0" } } '
                'optimization { graph { level: -1 } }', []),
    "cpu_accelerator": ("linear", 'optimization { execution_accelerators { cpu_execution_accelerator { name: "cpu" } } }',
                        []),
    "wrong_type": ("linear", 'input { name: "x" data_type: TYPE_INT32 dims: [ -1, 4 ] }',
                   ["x", "INT32", "FP32", "config.pbtxt"]),
    "wrong_shape": ("linear", 'input { name: "x" data_type: TYPE_FP32 dims: [ -1, 5 ] }', ["x", "[-1,5]", "[-1,4]"]),
    "wrong_rank": ("linear", 'max_batch_size: 2 input { name: "x" data_type: TYPE_FP32 dims: [ -1, 4 ] }',
                   ["x", "[-1,-1,4]", "[-1,4]", "max_batch_size"]),
    "wrong_output": ("linear", 'output { name: "y" data_type: TYPE_FP32 dims: [ -1, 9 ] }', ["y", "[-1,9]", "[-1,2]"]),
    "wrong_name": ("linear", 'input { name: "z" data_type: TYPE_FP32 dims: [ -1, 4 ] }', ["'z'"]),
    "no_batch": ("identity_one", "max_batch_size: 4", ["[1]", "max_batch_size"]),
    "option_value": ("linear", 'parameters { key: "execution_mode" value { string_value: "2" } }',
                     ["execution_mode", "'2'", "0 to 1"]),
    "level": ("linear", "optimization { graph { level: 7 } }", ["level is 7"]),
    "accelerator": ("linear", 'optimization { execution_accelerators { cpu_execution_accelerator { name: "abacus" } } }',
                    ["'abacus'", "CPU"]),
    "gpu_accelerator": ("linear", 'optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }',
                        ["tensorrt", "CPU"]),
    "op_library": ("linear", 'model_operations { op_library_filename: "ops.so" }', ["--allow-op-library"]),
    "file_name": ("linear", 'backend: "onnxruntime" default_model_filename: "other.onnx"', ["other.onnx"]),
    "file_outside": ("linear", 'backend: "onnxruntime" default_model_filename: "../../../x.onnx"', ["inside"]),
    "no_backend": ("linear", 'backend: "nobody"', ["nobody"]),
    "no_labels": ("linear", 'output { name: "y" label_filename: "none.txt" data_type: TYPE_FP32 dims: [ -1, 2 ] }',
                  ["none.txt", "'y'"]),
}


@pytest.fixture(scope="module")
def configured(tmp_path_factory):
    from conftest import Server
    root = tmp_path_factory.mktemp("configured")
    for name, (model, config, _) in CONFIGS.items():
        serve(root, name, model, config)
    s = Server(root, "--engine-threads=1")
    yield s
    assert s.stop() == 0, s.log()[-4000:]


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations(configured, name):
    state, reason = configured.index()[(name, "1")]
    words = CONFIGS[name][2]
    if not words:
        assert state == "READY", reason
        width = 3 if CONFIGS[name][0] == "multi" else 4
        r = configured.infer(name, [{"name": "x", "datatype": "FP32", "shape": [2, width], "data": [1] * 2 * width}])
        assert r.status == 200, r
        return
    assert state == "UNAVAILABLE"
    for word in words:
        assert word in reason, (word, reason)
    assert reason in configured.log()


def test_operation_library_is_loaded_when_allowed(start, tmp_path):
    serve(tmp_path, "m", "linear", 'model_operations { op_library_filename: "ops.so" }', files={"ops.so": b"no library"})
    s = start(tmp_path, "--allow-op-library")
    state, reason = s.index()[("m", "1")]
    assert state == "UNAVAILABLE" and f"{tmp_path}/m/ops.so" in reason and "--allow-op-library" not in reason


@pytest.mark.parametrize("fallback", ["cpu", "error"])
def test_gpu_fallback(start, tmp_path, fallback):
    serve(tmp_path, "m", "linear", "instance_group { kind: KIND_GPU }")
    s = start(tmp_path, f"--gpu-fallback={fallback}")
    state, reason = s.index()[("m", "1")]
    if fallback == "cpu":
        assert state == "READY" and "asks for a GPU" in s.log()
        assert s.get("/v2/models/m/config").json()["instance_group"][0]["kind"] == "KIND_CPU"
    else:
        assert state == "UNAVAILABLE" and "--gpu-fallback" in reason


def test_labels_and_classification(start, tmp_path):
    serve(tmp_path, "m", "linear", 'output { name: "y" data_type: TYPE_FP32 dims: [ -1, 2 ] label_filename: "l.txt" }',
          files={"l.txt": "low\nhigh\n"})
    s = start(tmp_path)
    r = s.infer("m", [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}],
                outputs=[{"name": "y", "parameters": {"classification": 1}}])
    assert [text.split(":")[1:] for text in r.json()["outputs"][0]["data"]] == [["1", "high"]]


def test_two_instances_run_at_the_same_time(start, tmp_path):
    """A request for the second instance ends before a long one on the first."""
    serve(tmp_path, "one", "slow", "instance_group { count: 1 }")
    serve(tmp_path, "two", "slow", "instance_group { count: 2 }")
    s = start(tmp_path, "--engine-threads=1", "--cpu-count=2", "--executor-threads=2")
    assert s.get("/v2/models/two/config").json()["instance_group"][0]["count"] == 2
    body = fp32(*[1] * 65536)
    x = {"x0": ("FP32", [256, 256], body)}
    expected = s.infer_binary("one", x)
    most = {}
    for model in ("one", "two"):
        results, done = [], threading.Event()
        threads = [threading.Thread(target=lambda: results.append(s.infer_binary(model, x))) for _ in range(3)]
        before = s.get(f"/v2/models/{model}/stats").json()["model_stats"][0]["inference_stats"]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        after = s.get(f"/v2/models/{model}/stats").json()["model_stats"][0]["inference_stats"]
        assert results == [expected] * 3
        spans = {key: int(after[key]["ns"]) - int(before[key]["ns"]) for key in ("queue", "compute_infer")}
        most[model] = spans["queue"] / spans["compute_infer"]
    assert most["one"] > 0.6 and most["two"] < most["one"], most


def test_a_parameter_changes_the_session(start, tmp_path):
    """A pool of its own shows as threads of the process."""
    threads = {}
    for count in ("1", "4"):
        serve(tmp_path / count, "m", "linear",
              f'parameters {{ key: "intra_op_thread_count" value {{ string_value: "{count}" }} }}')
        s = start(tmp_path / count, "--engine-threads=1")
        time.sleep(0.2)  # loaders end
        threads[count] = s.status("Threads")
        assert s.stop() == 0
    assert threads["4"] - threads["1"] == 3


@pytest.mark.skipif(SANITIZED, reason="a sanitizer has a heap of its own")
def test_weights_lie_on_huge_pages(onnx_server):
    """16 MiB of them, where a page of 2 MiB and of 4 KiB can be told apart: the mappings that were advised."""
    if not pathlib.Path("/sys/kernel/mm/transparent_hugepage").is_dir():
        pytest.skip("this kernel has no transparent huge pages")
    onnx_server.infer_binary("heavy", {"x": ("FP32", [1, 2048], bytes(4 * 2048))})
    maps = pathlib.Path(f"/proc/{onnx_server.process.pid}/smaps").read_text().split("VmFlags:")
    sizes = [int(re.search(r"^Size: +(\d+) kB", fields, re.M)[1])
             for fields, flags in zip(maps, maps[1:]) if " hg" in flags.split("\n")[0]]
    assert sum(sizes) >= 16 * 1024, sizes


# Answers of the engine

def test_answers_equal_the_engine(onnx_server):
    x = np.random.default_rng(3).standard_normal((17, 64), np.float32)
    expected = engine(MODELS / "deep/1/model.onnx", x0=x)["x4"]
    assert onnx_server.infer_binary("deep", {"x0": ("FP32", [17, 64], x.tobytes())})["x4"][2] == expected.tobytes()
    r = onnx_server.infer("deep", [{"name": "x0", "datatype": "FP32", "shape": [17, 64], "data": x.tolist()}])
    assert np.array(r.json()["outputs"][0]["data"], np.float32).tobytes() == expected.tobytes()


DTYPES = {"float32": "FP32", "int32": "INT32", "int64": "INT64"}


def real_inputs(model):
    samples = {name: np.fromfile(CACHE / "samples" / f"{name}.f32", np.float32) for name in ("chelsea", "speech")}
    if model == "efficientnet_lite0":
        yield {"image": samples["chelsea"].reshape(1, 3, 224, 224)}
        yield {"image": np.concatenate([samples["chelsea"]] * 3).reshape(3, 3, 224, 224) * np.float32(0.5)}
    elif model == "magika":
        text = np.frombuffer((ROOT / "CMakeLists.txt").read_bytes()[:1024], np.uint8).astype(np.int32)
        yield {"bytes": np.concatenate([text, text]).reshape(1, 2048)}
    else:
        state, rate = np.zeros((2, 1, 128), np.float32), np.array(16000, np.int64)
        for at in range(20000, 20000 + 5 * 512, 512):
            yield {"input": samples["speech"][at - 64:at + 512].reshape(1, 576), "state": state, "sr": rate}


@pytest.fixture(scope="module")
def real_server():
    from conftest import Server
    done = subprocess.run([ROOT / "tools/fetch_models.sh"], capture_output=True, text=True, timeout=600)
    if done.returncode and not (CACHE / "repository/.stamp").is_file():
        pytest.skip(f"the models cannot be fetched: {done.stderr.strip()[-200:]}")
    s = Server(CACHE / "repository", "--engine-threads=1", "--cpu-count=2")
    yield s
    assert s.stop() == 0, s.log()[-4000:]


@pytest.mark.parametrize("model", ["efficientnet_lite0", "magika", "silero_vad"])
def test_answers_of_real_models_equal_the_engine(real_server, model):
    for inputs in real_inputs(model):
        expected = engine(CACHE / "repository" / model / "1/model.onnx", **inputs)
        tensors = {name: (DTYPES[value.dtype.name], list(value.shape), value.tobytes()) for name, value in inputs.items()}
        result = real_server.infer_binary(model, tensors)
        assert {name: t[2] for name, t in result.items()} == {name: v.tobytes() for name, v in expected.items()}
        r = real_server.infer(model, [{"name": name, "datatype": t[0], "shape": t[1], "data": inputs[name].ravel().tolist()}
                                      for name, t in tensors.items()])
        assert r.status == 200, r
        for output in r.json()["outputs"]:
            value = expected[output["name"]]
            assert output["shape"] == list(value.shape)
            assert np.array(output["data"], value.dtype).tobytes() == value.tobytes()
