"""The models of tests/backend/rows.c, for both servers."""
from field import request, write_model
from grpc_cases import floats
from rows import Call, config, gather, policy

# A row of input x is [value, milliseconds, what]; what is 1 for a request that fails, 2 for one that fails its batch.
MODEL_PY = """import os, threading, time
import numpy as np
import triton_python_backend_utils as pb
class TritonPythonModel:
    def initialize(self, args):
        self.batches = 0
    def execute(self, requests):
        given = [pb.get_input_tensor_by_name(r, "x").as_numpy() for r in requests]
        rows = sum(len(x) for x in given)
        number, self.batches = self.batches, self.batches + 1
        ms = max(x[:, 1].max() for x in given)
        time.sleep(ms / 1000 if 0 < ms < 60000 else 0)  # a warm-up brings anything
        if any((x[:, 2] == 2).any() for x in given):
            raise pb.TritonModelException("the batch failed")
        answers = []
        for place, x in enumerate(given):
            if (x[:, 2] == 1).any():
                answers.append(pb.InferenceResponse(error=pb.TritonError("the row failed")))
                continue
            turn = np.tile(np.array([[number, place, rows]], np.int32), (len(x), 1))
            answers.append(pb.InferenceResponse([pb.Tensor("y", x), pb.Tensor("turn", turn)]))
        return answers
"""

SAMPLE = 'inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 3 ] %s } }'


def warm(rows, data, extra=""):
    return config("", extra=f'model_warmup [ {{ name: "w" batch_size: {rows} {SAMPLE % data} {extra} }} ]')


LEVELS = "priority_levels: 3 default_priority_level: 2"
MODELS = {
    "alone": config(None),
    "plain": config(""),
    "full": config("default_queue_policy " + policy(size=2), batch=1),
    "reject": config("default_queue_policy " + policy(timeout_us=150000)),
    "override": config("default_queue_policy " + policy(timeout_us=1500000, override=True), batch=1),
    "open": config("default_queue_policy " + policy(override=True), batch=1),
    "closed": config("default_queue_policy " + policy(), batch=1),
    "delay": config("default_queue_policy " + policy("DELAY", 400000), batch=1),
    "levels": config(LEVELS, batch=1),
    "level_policies": config(LEVELS + " priority_queue_policy { key: 1 value " + policy(size=1) +
                             " } priority_queue_policy { key: 3 value " + policy(timeout_us=150000) + " }", batch=1),
    "ordered": config("preserve_ordering: true", batch=1, instances=2),
    "unordered": config("", batch=1, instances=2),
    "preferred": config("preferred_batch_size: [ 2, 4 ]", batch=8),
    "waiting": config("max_queue_delay_microseconds: 600000"),
    "waiting_preferred": config("preferred_batch_size: [ 2 ] max_queue_delay_microseconds: 600000"),
    # configurations
    "no_batch": config("", batch=0),
    "levels_without_default": config("priority_levels: 3"),
    "default_above_levels": config("priority_levels: 3 default_priority_level: 4"),
    "policy_without_levels": config("priority_queue_policy { key: 1 value " + policy(size=1) + " }"),
    "policy_of_0": config(LEVELS + " priority_queue_policy { key: 0 value " + policy(size=1) + " }"),
    "policy_above_levels": config(LEVELS + " priority_queue_policy { key: 4 value " + policy(size=1) + " }"),
    "preferred_0": config("preferred_batch_size: [ 0 ]"),
    "preferred_negative": config("preferred_batch_size: [ -1 ]"),
    "preferred_above": config("preferred_batch_size: [ 2, 9 ]"),
    # warm-up; one that fails may end the field's server (a null pointer), so that there is none
    "warm_zero": warm(1, "zero_data: true"),
    "warm_random": warm(2, "random_data: true", "count: 3"),
    "warm_file": warm(1, 'input_data_file: "raw"'),
    "warm_no_rows": warm(0, "zero_data: true"),
    "warm_no_batch": config(None, batch=0, extra=f'model_warmup [ {{ name: "w" {SAMPLE % "zero_data: true"} }} ]'),
}
FILES = {"warmup/raw": floats(7, 1, 0)}


def write_repository(root, backend):
    for name, text in MODELS.items():
        (root / name).mkdir(parents=True)
        write_model(root, name, f'backend: "{backend}"\n{text}', (1,),
                    {**FILES, "1/model.py": MODEL_PY} if backend == "python" else FILES)


def warm_up(server):
    """What is done first takes longer; not of those whose own warm-up is looked at."""
    gather([Call(server, name) for name in MODELS if not name.startswith("warm")
            and request(server.port, "GET", f"/v2/models/{name}/ready").status == 200])
