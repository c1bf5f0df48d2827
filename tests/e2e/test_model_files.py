"""Model files that are broken, hostile or out of reach: an error of that model, the others go on."""
import os, pathlib, random, shutil, socket, struct, subprocess, sys, time

import pytest
from conftest import BUILD, MODELS, SANITIZED, Server, identity_config, write_model

onnx = pytest.importorskip("onnx")

LINEAR = {"x": ("FP32", [1, 4], struct.pack("<4f", 1, 2, 3, 4))}


def good(s):
    assert s.infer_binary("good", LINEAR)["y"][2] == struct.pack("<2f", 11, 12)


def add_good(root):
    (root / "good").mkdir(parents=True)
    (root / "good/1").symlink_to(MODELS / "linear/1")


def add_file(root, name, data):
    write_model(root, name, None, files={"1/model.onnx": data})


def check_bad(s, names, words=None):
    """Each of them is unavailable with a reason that names its file; it stands in the log, and nothing else fell."""
    index, log = s.index(), s.log()
    for name in names:
        state, reason = index[(name, "1")]
        assert state == "UNAVAILABLE" and f"/{name}/1" in reason, (name, state, reason)
        assert f"failed to load '{name}' version 1: {reason[:60]}" in log
        assert words is None or words in reason
    good(s)


def test_truncated_and_flipped_files(start, tmp_path):
    """A flipped bit may leave a model that is valid: then it is served. Nothing else may happen."""
    add_good(tmp_path)
    data, rng, cut, flipped = (MODELS / "deep/1/model.onnx").read_bytes(), random.Random(20263), [], []
    linear = (MODELS / "linear/1/model.onnx").read_bytes()
    for i in range(20 if SANITIZED else 60):
        cut.append(f"cut{i}")
        add_file(tmp_path, cut[-1], data[:len(data) * i // 60] if i else b"")
    for i in range(50 if SANITIZED else 200):
        spoiled = bytearray(linear)
        for _ in range(rng.randint(1, 8)):
            spoiled[rng.randrange(len(spoiled))] ^= 1 << rng.randrange(8)
        flipped.append(f"flip{i}")
        add_file(tmp_path, flipped[-1], bytes(spoiled))
    s = start(tmp_path, "--model-load-thread-count=4")
    check_bad(s, cut)
    index = s.index()
    for name in flipped:
        if index[(name, "1")][0] != "READY":
            check_bad(s, [name])
            continue
        for i in s.get(f"/v2/models/{name}").json()["inputs"]:
            shape = [4 if d == -1 else d for d in i["shape"]]
            r = s.infer(name, [{"name": i["name"], "datatype": i["datatype"], "shape": shape, "data": [1] * 4}])
            assert r.status in (200, 400, 500), r
    good(s)


def external_model(location, length=32, offset=0):
    tensor = onnx.TensorProto(name="W", data_type=1, dims=[4, 2], data_location=onnx.TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    info, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    graph = onnx.helper.make_graph([node("MatMul", ["x", "W"], ["y"])], "g", [info("x", 1, ["n", 4])],
                                   [info("y", 1, ["n", 2])], [tensor])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def test_external_data(start, tmp_path):
    add_good(tmp_path)
    bad = {"outside": "../../../etc/passwd", "absolute": "/etc/passwd", "absent": "none.bin", "device": "null.bin",
           "huge": "weights.bin", "beyond": "weights.bin", "link": "link.bin", "folder": "folder.bin", "fifo": "fifo.bin"}
    for name, location in bad.items():
        length, offset = (1 << 62, 0) if name == "huge" else (32, 1 << 40) if name == "beyond" else (32, 0)
        add_file(tmp_path, name, external_model(location, length, offset))
        (tmp_path / name / "1/weights.bin").write_bytes(bytes(32))
    (tmp_path / "device/1/null.bin").symlink_to("/dev/zero")
    (tmp_path / "link/1/link.bin").symlink_to("/etc/passwd")
    (tmp_path / "folder/1/folder.bin").mkdir()
    os.mkfifo(tmp_path / "fifo/1/fifo.bin")
    add_file(tmp_path, "fits", external_model("weights.bin"))
    (tmp_path / "fits/1/weights.bin").write_bytes(struct.pack("<8f", *range(8)))
    s = start(tmp_path)
    check_bad(s, bad)
    assert s.infer_binary("fits", LINEAR)["y"][0] == "FP32"


def test_things_that_are_no_files(start, tmp_path):
    add_good(tmp_path)
    for name in ("folder", "dangling", "fifo", "socket", "device", "circle", "config_folder", "config_fifo", "link"):
        (tmp_path / name / "1").mkdir(parents=True)
    path = lambda name: tmp_path / name / "1/model.onnx"
    path("folder").mkdir()
    path("dangling").symlink_to("/nonexistent/model.onnx")
    path("circle").symlink_to("model.onnx")
    path("device").symlink_to("/dev/zero")
    os.mkfifo(path("fifo"))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"/proc/self/fd/{os.open(path('socket').parent, os.O_PATH)}/model.onnx")
    shutil.copy(MODELS / "linear/1/model.onnx", tmp_path / "whole.onnx")
    path("link").symlink_to(tmp_path / "whole.onnx")
    for name in ("config_folder", "config_fifo"):
        shutil.copy(MODELS / "linear/1/model.onnx", path(name))
    (tmp_path / "config_folder/config.pbtxt").mkdir()
    os.mkfifo(tmp_path / "config_fifo/config.pbtxt")
    (tmp_path / "dangling_folder").symlink_to("/nonexistent")
    (tmp_path / "empty").mkdir()
    s = start(tmp_path)
    check_bad(s, ["folder", "dangling", "fifo", "socket", "device", "circle"])
    assert s.infer_binary("link", LINEAR)["y"][0] == "FP32"
    index = s.index()
    for name in ("config_folder", "config_fifo"):
        state, reason = index[(name, "1")]
        assert state == "UNAVAILABLE" and f"{name}/config.pbtxt" in reason and reason in s.log()
    assert [key[0] for key in index if key[0] == "empty"] and "empty: error: there is no version folder" in s.log()


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root reads every file")
def test_what_may_not_be_read(start, tmp_path):
    add_good(tmp_path)
    for name in ("file", "config", "version", "model"):
        shutil.copytree(MODELS / "linear", tmp_path / name)
        (tmp_path / name / "config.pbtxt").write_text('backend: "onnxruntime"')
    paths = {"file": "file/1/model.onnx", "config": "config/config.pbtxt", "version": "version/1", "model": "model"}
    for path in paths.values():
        (tmp_path / path).chmod(0)
    prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    s = start(tmp_path, prefix=prefix)
    for path in paths.values():
        (tmp_path / path).chmod(0o700)
    index = {key[0]: value for key, value in s.index().items()}
    for name, path in paths.items():
        state, reason = index[name]
        assert f"{tmp_path}/{path}" in reason and "ermission denied" in reason, (name, state, reason)
        assert reason in s.log()
    good(s)


def test_files_that_vanish_before_they_are_loaded(start, tmp_path):
    """The scan saw them; a slow first load leaves the time to take them away."""
    add_good(tmp_path)
    write_model(tmp_path, "a_pipe", 'backend: "onnxruntime"', versions=(1,))
    names = [f"m{i}" for i in range(200)]
    for name in names:
        shutil.copytree(MODELS / "linear", tmp_path / name)
    s = start(tmp_path, "--model-load-thread-count=1", wait=False)
    s.wait_for("metrics on ", seconds=10)
    for name in reversed(names):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
    s.wait_ready()
    index = s.index()
    gone = [name for name in names if index[(name, "1")][0] != "READY"]
    assert gone, "nothing was taken away in time"
    for name in gone:
        assert f"{tmp_path}/{name}/1" in index[(name, "1")][1]
    good(s)


def test_failed_loads_give_their_memory_back(start, tmp_path):
    """Models of 16 MiB that end just before their last byte, or that contradict their configuration."""
    add_good(tmp_path)
    data = (MODELS / "heavy/1/model.onnx").read_bytes()
    (tmp_path / "whole.onnx").write_bytes(data)
    for i in range(6):
        add_file(tmp_path, f"cut{i}", data[:-1])
        write_model(tmp_path, f"wrong{i}", 'input { name: "x" data_type: TYPE_INT8 dims: [ -1, 2048 ] }')
        (tmp_path / f"wrong{i}/1/model.onnx").symlink_to(tmp_path / "whole.onnx")
    s = start(tmp_path, "--engine-threads=1")
    bare = start(MODELS, "--engine-threads=1", "--model-control-mode=explicit", "--load-model=linear")
    assert sum(state != "READY" for state, _ in s.index().values()) == 12
    if not SANITIZED:
        assert s.status("VmRSS") - bare.status("VmRSS") < 16384
