"""Where backends are found, and which code is trusted."""
import shutil

import pytest
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


@pytest.mark.parametrize("claim,words", [
    *((name, f"asks for {name}, which this version of the server does not offer")
      for name in ("TAKES_ROWS", "OWN_PROCESS", "sequence_start", "warm_up")),
    ("no execute", "lacks a function that every backend has")])
def test_what_is_reserved_is_refused_by_name(start, tmp_path, claim, words):
    write_model(tmp_path, "m", CONFIG)
    s = start(tmp_path, f"--backend-directory={BUILD}/tests/backends", env={"FAULTY_CLAIM": claim})
    entry = s.request("POST", "/v2/repository/index", b"").json()[0]
    assert entry["state"] == "UNAVAILABLE" and words in entry["reason"]
