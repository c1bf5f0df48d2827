"""Where backends are found, and which code is trusted."""
import shutil

from conftest import BUILD, write_model

CONFIG = 'backend: "faulty"\ninput { name: "x" data_type: TYPE_FP32 dims: [ -1 ] }\n' \
         'output { name: "y" data_type: TYPE_FP32 dims: [ -1 ] }\n'
ONE = [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.5]}]


def test_a_backend_in_a_models_folder_needs_trust(start, tmp_path):
    folder = write_model(tmp_path, "own", CONFIG)
    shutil.copy(next((BUILD / "tests/backends").rglob("libmodeld_faulty.so")), folder / "1")
    s = start(tmp_path)
    entry = s.request("POST", "/v2/repository/index", b"").json()[0]
    assert entry["state"] == "UNAVAILABLE" and "--allow-op-library" in entry["reason"]
    s = start(tmp_path, "--allow-op-library=true")
    assert s.infer("own", ONE).json()["outputs"][0]["data"] == [1.5]
