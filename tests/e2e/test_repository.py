"""What folders and their configurations are taken for, from --check-config to the repository index."""
import json, os, subprocess
from urllib.parse import quote

import pytest
from conftest import BUILD, identity_config, write_model

X = [{"name": "INPUT0", "datatype": "FP32", "shape": [1], "data": [1]}]


def check(*flags, folder=None):
    """Exit status, what is wrong (standard error), what there is (standard output)."""
    command = [BUILD / "modeld", "--check-config", *flags, *([f"--model-repository={folder}"] if folder else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stderr, done.stdout


def index(server):
    return [(m["name"], m.get("version"), m.get("state")) for m in server.request("POST", "/v2/repository/index", b"").json()]


def test_check_config_says_what_becomes_of_each_model(tmp_path):
    write_model(tmp_path, "plain", identity_config(), versions=(1, 2, 3))
    write_model(tmp_path, "mixed", identity_config(extra="response_cache { }\nversion_policy { all { } }\n"
                "instance_group { count: 2 host_policy: \"x\" }"), versions=(1, 2))
    write_model(tmp_path, "refused", identity_config(extra="ensemble_scheduling { }"))
    status, wrong, there = check(folder=tmp_path)
    assert status == 1
    assert there == (
        f"model 'mixed': versions 1, 2, {tmp_path}/mixed/config.pbtxt\n"
        "  supported: backend, version_policy, input, output, instance_group\n"
        "  ignored: host_policy, response_cache\n"
        f"model 'plain': version 3, {tmp_path}/plain/config.pbtxt\n"
        "  supported: backend, input, output\n"
        f"model 'refused': unusable, version 1, {tmp_path}/refused/config.pbtxt\n"
        "  supported: backend, input, output\n"
        "  refused: ensemble_scheduling\n"
        "3 models, 1 errors, 0 warnings\n")
    assert f"{tmp_path}/mixed/config.pbtxt:5: note: 'response_cache' in ModelConfig has no effect" in wrong
    assert f"{tmp_path}/refused/config.pbtxt:5: error: 'ensemble_scheduling' in ModelConfig is not supported" in wrong


WRONG = {  # files of a model 'm' and what --check-config says of them
    "version folders": ({"v1/model.onnx": "", "01/model.onnx": ""}, "m: error: there is no version folder: '01' is none"),
    "no version": ({"readme": ""}, "m: error: there is no version folder; the model's file belongs into 1/model.onnx"),
    "no file": ({"1/x": ""}, "1: error: {m}/1 holds no model file that is known"),
    "file's name": ({"1/net.onnx": ""}, "but 'net.onnx': rename it, or say default_model_filename: \"net.onnx\""),
    "named file": ({"1/x": "", "config.pbtxt": 'default_model_filename: "y.onnx"'},
                   "1/y.onnx: error: the model's file is missing or cannot be read"),
    "backend": ({"1/model.plan": "", "config.pbtxt": 'backend: "tensorrt"'},
                "1: error: unable to find backend library 'libmodeld_tensorrt.so' for backend 'tensorrt', searched: "),
    "name": ({"1/model.onnx": "", "config.pbtxt": '\nname: "n"'},
             "config.pbtxt:2: error: the name 'n' is not the folder's name 'm': take it out, or rename the folder"),
    "policy": ({"1/model.onnx": "", "config.pbtxt": "version_policy { specific { versions: [2] } }"},
               "config.pbtxt:1: error: the version policy names no version that exists"),
    "labels": ({"1/model.onnx": "", "config.pbtxt": 'output {\nname: "y" label_filename: "l.txt" }'},
               "config.pbtxt:2: error: label file of output 'y': cannot open {m}/l.txt: No such file"),
    "label text": ({"1/model.onnx": "", "l.txt": b"a\nb\xff\n", "config.pbtxt": 'output { name: "y" label_filename: "l.txt" }'},
                   "config.pbtxt:1: error: label file of output 'y': {m}/l.txt: line 2 is not UTF-8"),
    "label path": ({"1/model.onnx": "", "config.pbtxt": 'output { name: "y" label_filename: "../l.txt" }'},
                   "config.pbtxt:1: error: label_filename '../l.txt' must lie inside the model's folder"),
    "native code": ({"1/model.onnx": "", "config.pbtxt": 'model_operations { op_library_filename: "x.so" }'},
                    "config.pbtxt:1: error: model 'm' wants to load native code; start with --allow-op-library"),
}


@pytest.mark.parametrize("files,text", WRONG.values(), ids=WRONG.keys())
def test_check_config_finds(tmp_path, files, text):
    write_model(tmp_path, "m", None, versions=(), files=files)
    status, wrong, there = check(folder=tmp_path)
    assert status == 1 and text.format(m=tmp_path / "m") in wrong, wrong
    assert "model 'm': unusable" in there


def test_warnings_and_notes_of_the_scan(tmp_path):
    write_model(tmp_path, "m", identity_config(), versions=(1, 3), files={"config.json": "{}", "01/x": ""})
    (tmp_path / "m/config.pbtxt").write_text(identity_config(extra="version_policy { specific { versions: [1, 2] } }"))
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "..data").mkdir()
    (tmp_path / "notes.txt").write_text("")
    status, wrong, there = check(folder=tmp_path)
    assert status == 0 and "model 'm': version 1, " in there and "1 models, 0 errors, 2 warnings" in there
    assert f"m/config.json: warning: it is not read, {tmp_path}/m/config.pbtxt stands beside it" in wrong
    assert "m/config.pbtxt:5: warning: the version policy names version 2, which has no folder" in wrong
    assert "m: note: the folder '01' is passed over" in wrong
    status, wrong, _ = check("--model-name=x", folder=tmp_path)
    assert status == 0 and "it holds folders of models, so --model-name has no effect" in wrong
    (tmp_path / "empty").mkdir()
    status, wrong, there = check(folder=tmp_path / "empty")
    assert status == 0 and "warning: there is no model here" in wrong and there == "0 models, 0 errors, 1 warnings\n"


def test_options_and_models_are_checked_in_one_run(tmp_path):
    write_model(tmp_path, "m", "max_batchsize: 3")
    config = tmp_path / "options.yaml"
    config.write_text("http-prot: 1\nmodels:\n- {pattern: m, config: {max_batch_size: x}}\n")
    status, wrong, _ = check("--nonsense", f"--config={config}", "--load-model=m", folder=tmp_path)
    for text in ("unknown option '--nonsense'", f"{config}:1:1: error: unknown option 'http-prot', did you mean",
                 f"{config}:3: error: 'max_batch_size'", "config.pbtxt:1:1: error: unknown field 'max_batchsize'"):
        assert text in wrong, wrong
    assert status != 0


POLICIES = [("", ["9"]), ("version_policy { latest { num_versions: 2 } }", ["3", "9"]),
            ("version_policy { all { } }", ["1", "3", "9"]), ("version_policy { specific { versions: [3, 1] } }", ["1", "3"])]


def test_version_policies(start, tmp_path):
    for i, (policy, _) in enumerate(POLICIES):
        write_model(tmp_path, f"m{i}", identity_config(extra=policy), versions=(1, 3, 9))
    s = start(tmp_path)
    for i, (_, versions) in enumerate(POLICIES):
        assert s.get(f"/v2/models/m{i}").json()["versions"] == versions
        assert s.infer(f"m{i}", X).json()["model_version"] == versions[-1]
    assert s.get("/v2/models/m0/versions/3").status == 404


def test_overlays_win_over_files(start, tmp_path):
    write_model(tmp_path, "resnet_a", identity_config(batch=2))
    write_model(tmp_path, "resnet_b", identity_config(batch=2))
    write_model(tmp_path, "other", identity_config(batch=2))
    config = tmp_path.with_suffix(".yaml")
    config.write_text("models:\n- {pattern: 'resnet*', config: {max_batch_size: 16, parameters: {k: {string_value: v}}}}\n"
                      "- {pattern: resnet_b, config: {maxBatchSize: 32}}\n- {pattern: resnt, config: {}}\n")
    s = start(tmp_path, f"--config={config}")
    sizes = {name: s.get(f"/v2/models/{name}/config").json()["max_batch_size"] for name in ("resnet_a", "resnet_b", "other")}
    assert sizes == {"resnet_a": 16, "resnet_b": 32, "other": 2}
    assert s.get("/v2/models/resnet_b/config").json()["parameters"]["k"] == {"string_value": "v"}
    assert f"{config}:4: warning: no model has a name that fits the pattern 'resnt'" in s.log()


def test_explicit_mode_loads_what_is_named(start, tmp_path):
    for name in ("a", "b"):
        write_model(tmp_path, name, identity_config(), versions=(1, 2))
    write_model(tmp_path, "broken", "nonsense: 1")
    s = start(tmp_path, "--model-control-mode=explicit", "--load-model=a", "--load-model=b", "--exit-on-error")
    assert index(s) == [("a", "2", "READY"), ("b", "2", "READY"), ("broken", None, None)]
    assert "nonsense" not in s.log() and "2 of 2 models" in s.log()
    s = start(tmp_path, "--model-control-mode=explicit", "--load-model=a")
    assert index(s) == [("a", "2", "READY"), ("b", None, None), ("broken", None, None)]
    assert s.infer("b", X).status == 404 and "'b' is not found" in s.infer("b", X).json()["error"]
    s = start(tmp_path, "--model-control-mode=explicit", "--load-model=*")
    assert index(s) == [("a", "2", "READY"), ("b", "2", "READY"), ("broken", "1", "UNAVAILABLE")]
    assert index(start(tmp_path, "--model-control-mode=explicit")) == [("a", None, None), ("b", None, None), ("broken", None, None)]


def test_a_name_that_no_repository_has(start, tmp_path):
    write_model(tmp_path, "resnet", identity_config())
    flags = ("--model-control-mode=explicit", "--load-model=resnt")
    status, wrong, _ = check(*flags, folder=tmp_path)
    assert status == 1 and "--load-model=resnt: no repository has a model of this name, did you mean 'resnet'?" in wrong
    s = start(tmp_path, *flags)
    assert "did you mean 'resnet'?" in s.log()
    s = start(tmp_path, *flags, "--exit-on-error", wait=False)
    assert s.process.wait(20) == 1 and "1 of 1 models are unavailable" in s.log()


def test_two_repositories(start, tmp_path):
    for folder, names in (("one", ("a", "same")), ("two", ("b", "same"))):
        for name in names:
            write_model(tmp_path / folder, name, identity_config())
    s = start([tmp_path / "one", tmp_path / "two"])
    assert [state for _, _, state in index(s)] == ["READY", "READY", "UNAVAILABLE", "UNAVAILABLE"]
    assert f"{tmp_path}/two/same: error: model 'same' stands in {tmp_path}/one/same too: rename one of them" in s.log()
    assert s.infer("same", X).status == 404 and s.infer("a", X).status == s.infer("b", X).status == 200


@pytest.mark.parametrize("name", ["with space", "ünïcode", "100%", "a#b?c=d", "a+b", "'\"<>&;", "stats", "versions"])
def test_names_with_odd_characters(start, tmp_path, name):
    write_model(tmp_path, name, identity_config())
    s = start(tmp_path)
    path = f"/v2/models/{quote(name, safe='')}"
    assert s.request("POST", path + "/infer", {"inputs": X}).json()["model_name"] == name
    assert s.get(path + "/versions/1/config").json()["name"] == name
    assert index(s) == [(name, "1", "READY")]
    assert s.metrics()[f'nv_inference_request_success{{model="{name}",version="1"}}'.replace('\'"<', '\'\\"<')] == 1


@pytest.mark.parametrize("name", [b"line\nbreak", b"\xff\xfe"])
def test_names_that_cannot_be(start, tmp_path, name):
    os.makedirs(os.path.join(os.fsencode(tmp_path), name, b"1"))
    write_model(tmp_path, "good", identity_config())
    s = start(tmp_path)
    assert s.infer("good", X).status == 200
    assert "a model's name is UTF-8 without slashes and control characters: rename the folder" in s.log()
    assert sorted(state for _, _, state in index(s)) == ["READY", "UNAVAILABLE"]


def test_folder_that_is_a_model(start, tmp_path):
    """As Kubernetes mounts one at /mnt/models."""
    folder = write_model(tmp_path, "models", identity_config())
    assert index(start(folder)) == [("models", "1", "READY")]
    assert index(start(folder, "--model-name=resnet")) == [("resnet", "1", "READY")]
    status, wrong, _ = check("--model-name=a/b", folder=folder)
    assert status == 1 and "or say another --model-name" in wrong
    (folder / "config.pbtxt").write_text('name: "resnet"\n' + identity_config())
    status, wrong, _ = check(folder=folder)
    assert status == 1 and "the name 'resnet' is not the folder's name 'models': say --model-name=resnet" in wrong
    assert index(start(folder, "--model-name=resnet")) == [("resnet", "1", "READY")]


def test_links_and_folders_without_permission_to_write(start, tmp_path):
    write_model(tmp_path / "far", "m", identity_config())
    repository = tmp_path / "near"
    repository.mkdir()
    (repository / "linked").symlink_to(tmp_path / "far/m")
    (repository / "nowhere").symlink_to(tmp_path / "absent")
    for folder in (repository, tmp_path / "far/m/1", tmp_path / "far/m"):
        folder.chmod(0o555)
    s = start(repository)
    assert index(s) == [("linked", "1", "READY"), ("nowhere", None, "UNAVAILABLE")]
    assert f"{repository}/nowhere: error: the link leads nowhere" in s.log()
    for folder in (tmp_path / "far/m", tmp_path / "far/m/1", repository):
        folder.chmod(0o755)


def test_labels_of_another_number(start, tmp_path):
    config = identity_config(dims="4").replace('name: "OUTPUT0"', 'name: "OUTPUT0" label_filename: "l.txt"')
    write_model(tmp_path, "m", config, files={"l.txt": "a\nb\nc\n"})
    s = start(tmp_path)
    assert "model 'm': output 'OUTPUT0' has 4 classes, its label file 3 lines" in s.log()
    r = s.infer("m", [{**X[0], "shape": [4], "data": [1, 2, 3, 4]}],
                outputs=[{"name": "OUTPUT0", "parameters": {"classification": 2}}])
    assert r.json()["outputs"][0]["data"] == ["4.000000:3", "3.000000:2:c"]


def test_config_json_and_its_place_in_errors(start, tmp_path):
    tensors = {"input": [{"name": "INPUT0", "dims": ["-1"], "data_type": 11}],
               "output": [{"name": "OUTPUT0", "dims": [-1], "data_type": "TYPE_FP32"}]}
    text = json.dumps({"backend": "identity", "maxBatchSize": "4", **tensors})
    write_model(tmp_path, "m", None, files={"config.json": text})
    config = start(tmp_path).get("/v2/models/m/config").json()
    assert config["max_batch_size"] == 4 and config["input"][0]["dims"] == [-1] and config["input"][0]["data_type"] == "TYPE_FP32"
    (tmp_path / "m/config.json").write_text('{"backend": "identity",\n "max_batch": 4}')
    status, wrong, _ = check(folder=tmp_path)
    assert status == 1 and "config.json:2" in wrong and "unknown field 'max_batch'" in wrong


def test_gpu_fallback(start, tmp_path):
    write_model(tmp_path, "m", identity_config(extra="instance_group { kind: KIND_GPU gpus: [ 0 ] }"))
    s = start(tmp_path)
    assert "config.pbtxt:5: warning: model 'm' asks for a GPU and this server has none: it runs on the CPU" in s.log()
    group = s.get("/v2/models/m/config").json()["instance_group"][0]
    assert group["kind"] == "KIND_CPU" and group["gpus"] == [] and group["count"] == 1
    s = start(tmp_path, "--gpu-fallback=error")
    assert "asks for a GPU and this server has none; use KIND_CPU, or start with --gpu-fallback=cpu" in s.log()
    assert index(s) == [("m", "1", "UNAVAILABLE")]


def test_a_folder_that_is_named_twice_counts_once(start, tmp_path):
    write_model(tmp_path / "r", "m", identity_config())
    (tmp_path / "link").symlink_to(tmp_path / "r")
    s = start([tmp_path / "r", tmp_path / "link"])
    assert s.get("/v2/models/m/ready").status == 200
    assert "named twice; it counts once" in s.log()
