"""An installed prefix, as its user and a backend's author meet it.

MODELD_BUILD is the prefix's bin folder, MODELD_TEST_MODELS the folder of small ONNX models.
"""
import math, os, pathlib, shutil, subprocess, sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
from conftest import BUILD, ROOT, Server, identity_config, start, write_model  # noqa: E402, F401

PREFIX = BUILD.parent
MODELS = pathlib.Path(os.environ["MODELD_TEST_MODELS"])


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The documented example, copied away from the tree and built against the prefix alone."""
    folder = tmp_path_factory.mktemp("stranger") / "example"
    shutil.copytree(PREFIX / "share/doc/modeld/docs/examples/backend", folder)
    for command in (["cmake", "-S", folder, "-B", folder / "build", f"-DCMAKE_PREFIX_PATH={PREFIX}"],
                    ["cmake", "--build", folder / "build"]):
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    return folder


def test_what_is_there():
    files = {str(path.relative_to(PREFIX)) for path in PREFIX.rglob("*") if path.is_file()}
    for file in ("bin/modeld", "bin/modeld_backend_check", "include/modeld/backend.h", "share/doc/modeld/LICENSE",
                 "share/doc/modeld/README.md", "share/doc/modeld/docs/options.md",
                 "lib/modeld/backends/onnxruntime/libmodeld_onnxruntime.so",
                 "lib/modeld/backends/onnxruntime/libonnxruntime.so.1.32.0",
                 "share/doc/modeld/onnxruntime/LICENSE", "share/doc/modeld/onnxruntime/ThirdPartyNotices.txt"):
        assert file in files, sorted(files)
    places = ("bin/", "include/modeld/", "lib/modeld/backends/", "share/doc/modeld/")
    assert [file for file in files if not file.startswith(places)] == []


def test_example_passes_the_conformance_program(example):
    library, model = example / "build/backends/scale/libmodeld_scale.so", example / "models/scale/1"
    done = subprocess.run([BUILD / "modeld_backend_check", "--no-files", "--parameter", "a=2", "--parameter", "b=0.5",
                           library, model], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_example_is_served(start, example):  # noqa: F811
    s = start(example / "models", f"--backend-directory={example}/build/backends")
    r = s.infer("scale", [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}])
    assert r.json()["outputs"][0]["data"] == [2.5, 4.5, 6.5]


def test_engine_of_the_prefix_is_used(start):  # noqa: F811
    s = start(MODELS / "identity_fp32")
    spec = s.get("/v2/models/identity_fp32").json()["inputs"][0]
    shape = [max(size, 1) for size in spec["shape"]]
    data = [1.5] * math.prod(shape)
    r = s.infer("identity_fp32", [{"name": spec["name"], "datatype": "FP32", "shape": shape, "data": data}])
    assert r.json()["outputs"][0]["data"] == data
    mapped = pathlib.Path(f"/proc/{s.process.pid}/maps").read_text()
    libraries = {line.split()[-1] for line in mapped.splitlines() if "onnxruntime" in line}
    assert libraries == {f"{PREFIX}/lib/modeld/backends/onnxruntime/{file}"
                         for file in ("libmodeld_onnxruntime.so", "libonnxruntime.so.1.32.0")}


def test_prefix_can_be_moved_and_called_by_a_link(tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(PREFIX, moved)
    (tmp_path / "tritonserver").symlink_to(moved / "bin/modeld")
    write_model(tmp_path / "models", "m", identity_config(extra="instance_group { kind: KIND_GPU }"))
    for program, ending in ((tmp_path / "tritonserver", "1 errors, 0 warnings\n"),  # the defaults differ with the name
                            (moved / "bin/modeld", "0 errors, 1 warnings\n")):
        done = subprocess.run([program, "--check-config", f"--model-repository={tmp_path}/models"],
                              capture_output=True, text=True, timeout=30)
        assert done.stdout.endswith("1 models, " + ending), done.stdout + done.stderr
