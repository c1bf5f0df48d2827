"""Models that no configuration batches: joined where that changes no answer, and /config says why or why not."""
import json, threading

import pytest
from conftest import MODELS, write_model

np = pytest.importorskip("numpy")

UNTRIED = "off: the model does not leave the first dimension of all tensors free"
ON = "on: 3 rows together get the answers that each gets alone; up to 32 rows"
SAID = {
    "rows_scaled": ON, "rows_softmax": ON, "linear": ON, "multi": ON, "deep": ON, "identity_fp32": ON,
    "identity_int64": ON, "identity_bool": ON, "identity_fp16": ON, "identity_bf16": ON,
    "over_softmax": "off: output 'y' of a row with others is another than alone",
    "over_mean": "off: output 'y' of a row with others is another than alone",
    "over_time": "off: output 'y' of a row with others is another than alone",
    "over_tokens": "off: output 'y' of a row with others is another than alone",
    "over_pairs": "off: output 'y' of 3 rows has the shape [3,3]",
    "rows_break": "off: it cannot be tried: ",
    "strings": "off: input 'x' is of strings, which cannot be made up",
    **{name: UNTRIED for name in ("identity_one", "optional", "scalar", "slow", "throws", "shrinks")},
}


def serve(root, name, model, config=None):
    (root / name).mkdir(parents=True)
    (root / name / "1").symlink_to(MODELS / model / "1")
    write_model(root, name, config, versions=())


def batching(server, model):
    """What /config says of it, or None."""
    parameters = server.get(f"/v2/models/{model}/config").json()["parameters"]
    return parameters.get("modeld_batching", {}).get("string_value")


def batches(server, model):
    return server.get(f"/v2/models/{model}/batches").json()["batches"]


def at_once(server, model, inputs):
    """The answers to many requests at the same time, each of one connection."""
    answers = [None] * len(inputs)

    def ask(i):
        x = inputs[i]
        answers[i] = server.infer_binary(model, {"x": ("FP32", list(x.shape), x.tobytes())})["y"]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [np.frombuffer(data, np.float32).reshape(shape) for _, shape, data in answers]


@pytest.fixture(scope="module")
def tried():
    from conftest import Server
    s = Server(MODELS, "--engine-threads=1", "--executor-threads=1")
    yield s
    assert s.process.poll() is None, f"the server died: {s.log()[-4000:]}"
    assert s.stop() == 0, s.log()[-4000:]


@pytest.mark.parametrize("model", SAID)
def test_what_becomes_of_models(tried, model):
    said = batching(tried, model)
    assert said.startswith(SAID[model]), said
    if said != UNTRIED and not said.startswith("off: max"):
        assert f"model '{model}': batching is {said}" in tried.log()


def heavy_answer(x):
    weights = (np.arange(2048 * 2048) % 7 * .01).reshape(2048, 2048).astype(np.float32)
    return x @ weights


def test_requests_are_joined_and_answered_as_alone(tried):
    rng = np.random.default_rng(1)
    inputs = [rng.random((1 + i % 3, 2048), np.float32) for i in range(24)]
    for x, y in zip(inputs, at_once(tried, "heavy", inputs)):
        assert y.shape == x.shape
        np.testing.assert_allclose(y, heavy_answer(x), rtol=1e-3)
    seen = batches(tried, "heavy")
    assert sum(b["requests"] for b in seen) == len(inputs)
    assert max(b["requests"] for b in seen) > 1 and max(b["rows"] for b in seen) <= 32
    stats = tried.get("/v2/models/heavy/stats").json()["model_stats"][0]
    sizes = {s["batch_size"]: s["compute_infer"]["count"] for s in stats["batch_stats"]}
    assert sum(sizes.values()) == stats["execution_count"]
    assert {b["rows"] for b in seen if b["requests"] > 1} <= sizes.keys()


def test_one_request_may_have_more_rows_than_a_batch(tried):
    x = np.ones((100, 4), np.float32)
    y = at_once(tried, "rows_scaled", [x])[0]
    assert (y == 2).all() and y.shape == (100, 4)


def test_models_that_may_not_be_joined_run_alone(tried):
    inputs = [np.full((2, 4), i, np.float32) for i in range(24)]
    for x, y in zip(inputs, at_once(tried, "over_mean", inputs)):
        assert (y == 0).all()
    assert all(b["requests"] == 1 for b in batches(tried, "over_mean"))


def test_configuration(start, tmp_path):
    serve(tmp_path, "sixteen", "rows_scaled", "max_batch_size: 16")
    serve(tmp_path, "one", "rows_scaled", "max_batch_size: 1")
    serve(tmp_path, "none", "rows_scaled", "max_batch_size: 0")
    serve(tmp_path, "never", "rows_scaled", 'parameters { key: "modeld_batching" value { string_value: "off" } }')
    serve(tmp_path, "asked", "over_mean", "max_batch_size: 8 dynamic_batching { }")
    serve(tmp_path, "fixed", "rows_scaled", 'input { name: "x" data_type: TYPE_FP32 dims: [ 1, 4 ] }')
    serve(tmp_path, "allowed", "rows_scaled",
          'parameters { key: "modeld_allowed_batch_sizes" value { string_value: "1,4,8" } }')
    serve(tmp_path, "padded", "rows_scaled",
          'parameters { key: "modeld_allowed_batch_sizes" value { string_value: "4,8" } }')
    s = start(tmp_path)
    assert batching(s, "sixteen").endswith("up to 16 rows")
    assert batching(s, "one") == "off: max_batch_size is 1"
    assert batching(s, "none") == ON
    assert batching(s, "never") == "off: the configuration says so"
    assert batching(s, "asked") is None
    dynamic = s.get("/v2/models/asked/config").json()["dynamic_batching"]
    assert dynamic["preferred_batch_size"] == [8] and dynamic["priority_levels"] == 0  # as the field completes it
    assert batching(s, "fixed") == "off: the configuration does not leave the first dimension of all tensors free"
    assert batching(s, "allowed").endswith("up to 8 rows")
    assert batching(s, "padded").endswith("up to 8 rows")
    # What /config says can be put into the model's configuration.
    config = s.get("/v2/models/none/config").json()
    s.stop()
    (tmp_path / "none" / "config.pbtxt").unlink()
    (tmp_path / "none" / "config.json").write_text(json.dumps(config))
    s = start(tmp_path)
    assert batching(s, "none") == ON


@pytest.mark.parametrize("flag", ["--auto-batching=off", "--compat=triton"])
def test_switched_off(start, tmp_path, flag):
    for model in ("rows_scaled", "heavy", "over_mean"):
        serve(tmp_path, model, model)
    s = start(tmp_path, flag)
    assert all(batching(s, model) is None for model in ("rows_scaled", "heavy", "over_mean"))
    assert "batching" not in s.log()
    rng = np.random.default_rng(2)
    at_once(s, "heavy", [rng.random((1, 2048), np.float32) for _ in range(12)])
    assert all(b["requests"] == 1 for b in batches(s, "heavy"))
    assert not [name for name in s.metrics() if name.startswith("modeld_execution_seconds") and "rows_scaled" in name]


def test_times_are_learned_before_the_first_request(tried):
    stats = tried.get("/v2/models/linear/stats").json()["model_stats"][0]
    assert stats["inference_count"] == stats["execution_count"] == 0  # a try is no request
    at_once(tried, "linear", [np.ones((3, 4), np.float32)])
    learned = [name for name in tried.metrics() if name.startswith("modeld_execution_seconds") and '"linear"' in name]
    sizes = [size for size in (1, 2, 4, 8, 16, 32) if any(f'batch_size="{size}"' in name for name in learned)]
    assert sizes and sizes == [1, 2, 4, 8, 16, 32][:len(sizes)]  # as far as there was time
