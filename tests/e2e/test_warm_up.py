"""model_warmup: what runs before a version becomes ready, and what keeps it from being loaded."""
import struct, subprocess, time

import pytest
from conftest import BUILD, MODELS, identity_config, write_model


def serve(root, name, model, config, files=None):
    (root / name).mkdir(parents=True)
    (root / name / "1").symlink_to(MODELS / model / "1")
    write_model(root, name, config, versions=(), files=files)


def delay(ms):
    return f'parameters {{ key: "execute_delay_ms" value {{ string_value: "{ms}" }} }}\n'


def sample(inputs, name="s", batch_size=1, count=0):
    return (f'model_warmup {{ name: "{name}" batch_size: {batch_size} count: {count} ' + " ".join(
        f'inputs {{ key: "{key}" value {{ data_type: {dtype} dims: [ {dims} ] {data} }} }}'
        for key, (dtype, dims, data) in inputs.items()) + " }\n")


def reason(server, model):
    return server.index()[(model, "1")][1]


def inference_count(server, model):
    return server.get(f"/v2/models/{model}/stats").json()["model_stats"][0]["inference_count"]


X = {"x": ("TYPE_FP32", "4", "random_data: true")}


def test_every_kind_of_data_before_the_model_is_ready(start, tmp_path):
    text = b"hello\0"
    serve(tmp_path, "zero", "rows_scaled", "max_batch_size: 8\n" + sample(
        {"x": ("TYPE_FP32", "4", "zero_data: true")}, batch_size=8))
    serve(tmp_path, "random", "rows_scaled", "max_batch_size: 8\n" + sample(X, batch_size=3, count=4))
    serve(tmp_path, "file", "rows_scaled", "max_batch_size: 8\n" + sample(
        {"x": ("TYPE_FP32", "4", 'input_data_file: "row"')}, batch_size=2),
        {"warmup/row": struct.pack("<4f", 1, 2, 3, 4)})
    serve(tmp_path, "whole", "rows_scaled", "max_batch_size: 0\n" + sample({"x": ("TYPE_FP32", "7, 4", "random_data: true")}))
    serve(tmp_path, "strings", "strings", "max_batch_size: 4\n" + sample(
        {"x": ("TYPE_STRING", "1", 'input_data_file: "text/one"')}, batch_size=4) + sample(
        {"x": ("TYPE_STRING", "1", "zero_data: true")}, name="empty"),
        {"warmup/text/one": struct.pack("<I", len(text)) + text})
    for flag in ("--auto-batching=on", "--compat=triton"):
        s = start(tmp_path, flag)
        for model in ("zero", "random", "file", "whole", "strings"):
            assert s.get(f"/v2/models/{model}/ready").status == 200, s.log()
            assert inference_count(s, model) == 0  # it is no request
        assert "warmup" not in s.log()  # the folder is none that is passed over


def test_every_instance_runs_each_sample_as_often_as_it_says(start, tmp_path):
    x = {"INPUT0": ("TYPE_FP32", "4", "zero_data: true")}
    write_model(tmp_path, "m", identity_config(extra=delay(100) + "instance_group { count: 2 }\n" +
                                               sample(x, count=3) + sample(x, name="t") +
                                               'model_warmup { name: "skipped" }'))
    s = start(tmp_path)
    ms = float(s.log().split("model 'm' version 1 is ready after ")[1].split()[0])
    assert 800 <= ms < 2500, ms  # 2 x (3 + 1) x 100 ms
    assert "warm-up sample 'skipped' is passed over" in s.log()


def test_slow_ones_are_told_of_and_others_served_meanwhile(start, tmp_path):
    x = {"INPUT0": ("TYPE_FP32", "4", "zero_data: true")}
    write_model(tmp_path, "slow", identity_config(extra=delay(1500) + sample(x, count=4)))
    write_model(tmp_path, "quick", identity_config())
    s = start(tmp_path, wait=False)
    s.wait_for("model 'quick' version 1 is ready")
    assert s.infer("quick", [{"name": "INPUT0", "datatype": "FP32", "shape": [1], "data": [1]}]).status == 200
    assert s.get("/v2/models/slow/ready").status != 200 and s.index()[("slow", "1")][0] == "LOADING"
    s.wait_for("model 'slow': warm-up sample 's' has run")
    s.wait_for("model 'slow' version 1 is ready", seconds=20)


FAILS = {
    "unknown input": ("rows_scaled", sample({**X, "q": X["x"]}), "warm-up sample 's': the model has no input 'q'"),
    "missing input": ("rows_scaled", sample({}), "warm-up sample 's': the input 'x' is missing"),
    "wrong type": ("rows_scaled", sample({"x": ("TYPE_INT8", "4", "zero_data: true")}),
                   "warm-up sample 's', input 'x': it is INT8 [1,4], the model takes FP32 [-1,4]"),
    "wrong dims": ("rows_scaled", sample({"x": ("TYPE_FP32", "5", "zero_data: true")}), "it is FP32 [1,5]"),
    "no file": ("rows_scaled", sample({"x": ("TYPE_FP32", "4", 'input_data_file: "none"')}), "/m/warmup/none"),
    "short file": ("rows_scaled", sample({"x": ("TYPE_FP32", "4", 'input_data_file: "three"')}),
                   "/m/warmup/three has 3 bytes, 4 elements of FP32 are 16"),
    "no string": ("strings", sample({"x": ("TYPE_STRING", "1", 'input_data_file: "three"')}),
                  "/m/warmup/three does not hold 1 strings"),
    "engine": ("throws", "max_batch_size: 0\n" + sample({"x": ("TYPE_FP32", "3", "zero_data: true")}),
               "warm-up sample 's' fails on instance 0: "),
}


@pytest.mark.parametrize("case", FAILS)
def test_a_sample_that_fails_fails_the_load(start, tmp_path, case):
    model, text, words = FAILS[case]
    config = text if text.startswith("max") else "max_batch_size: 8\n" + text
    serve(tmp_path, "m", model, config, {"warmup/three": b"abc"})
    serve(tmp_path, "other", "rows_scaled", None)
    s = start(tmp_path)
    assert s.get("/v2/models/m/ready").status != 200
    assert s.index()[("m", "1")][0] == "UNAVAILABLE"
    assert words in reason(s, "m") and words in s.log(), reason(s, "m")
    assert s.get("/v2/models/other/ready").status == 200


def test_a_sample_that_takes_too_long_fails_the_load(start, tmp_path):
    x = {"INPUT0": ("TYPE_FP32", "4", "zero_data: true")}
    limit = 'parameters { key: "modeld_execution_timeout_ms" value { string_value: "200" } }'
    write_model(tmp_path, "slow", identity_config(extra=delay(60000) + limit + sample(x)))
    write_model(tmp_path, "quick", identity_config())
    s = start(tmp_path)
    assert s.index()[("slow", "1")][0] == "UNAVAILABLE" and s.index()[("quick", "1")][0] == "READY"
    assert "warm-up sample 's' fails on instance 0: model 'slow' gave no answer in 200 ms" in reason(s, "slow")


def test_check_config_finds_missing_files(tmp_path):
    serve(tmp_path, "m", "rows_scaled", "max_batch_size: 8\n" + sample({"x": ("TYPE_FP32", "4", 'input_data_file: "f"')}),
          {"warmup/other": b""})
    run = lambda: subprocess.run([BUILD / "modeld", "--check-config", f"--model-repository={tmp_path}"],
                                 capture_output=True, text=True)
    done = run()
    assert done.returncode == 1
    assert f"m/config.pbtxt:2: error: {tmp_path}/m/warmup/f is missing or cannot be read" in done.stderr
    (tmp_path / "m/warmup/f").write_bytes(bytes(16))
    done = run()
    assert done.returncode == 0 and "warmup" not in done.stderr, done.stderr
    assert "max_batch_size, model_warmup" in done.stdout


def test_end_while_a_model_warms_up(start, tmp_path):
    x = {"INPUT0": ("TYPE_FP32", "4", "zero_data: true")}
    write_model(tmp_path, "slow", identity_config(extra=delay(200) + sample(x, count=1000)))
    s = start(tmp_path, "--exit-timeout-secs=1", wait=False)
    s.wait_for("http on")
    time.sleep(0.5)
    begin = time.time()
    s.stop()
    assert time.time() - begin < 5
