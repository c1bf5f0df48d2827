"""The field's load generator in its usual modes: no complaint, and figures of the server that make sense."""
import json, os, re, subprocess

import pytest
from field import PEERS, ours  # noqa: F401 (fixture)

SHAPE = ("--shape", "INPUT0:4")
FILES = {
    "pair.json": {"data": [{"INPUT0": {"content": [1.5, 2.0, 3.0], "shape": [3]}, "INPUT1": [4, 5]},
                           {"INPUT0": {"content": [1.0], "shape": [1]}, "INPUT1": [4, 5]}]},
    "text.json": {"data": [{"INPUT0": {"content": ["abc", "h\u00e4user"], "shape": [2]}}]},
    "word.json": {"data": [{"INPUT0": {"content": ["h\u00e4user"], "shape": [1]}}]},  # as JSON it mixes two up
}
MODES = [
    ("pair", *SHAPE, "--concurrency-range", "1:3:2"),
    ("pair", *SHAPE, "--request-rate-range", "100:200:100"),
    ("pair", *SHAPE, "--input-tensor-format", "json", "--output-tensor-format", "json"),
    ("pair", *SHAPE, "--input-tensor-format", "json", "--output-tensor-format", "binary"),
    ("pair", *SHAPE, "-b", "4", "--percentile", "95"),
    ("pair", "--input-data", "pair.json"),
    ("id_FP32", "--shape", "INPUT0:100", "--input-data", "zero", "-a", "--concurrency-range", "8"),
    ("id_INT64", *SHAPE, "--sync"),
    ("id_BYTES", "--shape", "INPUT0:2", "--string-length", "8"),
    ("id_BYTES", "--input-data", "text.json"),
    ("id_BYTES", "--input-data", "word.json", "--input-tensor-format", "json", "--output-tensor-format",
     "json"),
    ("dotted.name-1", *SHAPE, "-x", "1"),
    ("pair", *SHAPE, "-v", "--measurement-mode", "count_windows", "--measurement-request-count", "100"),
]


def perf_analyzer(server, model, *arguments, folder, port=None):
    r = subprocess.run([str(PEERS / "bin/perf_analyzer"), "-m", model, "-u", f"127.0.0.1:{port or server.port}",
                        "-p", "300", "-s", "999", "-r", "10", *arguments],
                       env={**os.environ, "LD_LIBRARY_PATH": str(PEERS / "lib")}, cwd=folder,
                       capture_output=True, text=True, timeout=60)
    assert r.returncode == 0, r.stdout + r.stderr
    return r.stdout + r.stderr


def figure(output, name):
    return float(re.search(name + r":? ([\d.]+)", output)[1])


@pytest.mark.parametrize("mode", MODES, ids=[" ".join(mode) for mode in MODES])
def test_mode(ours, tmp_path, mode):
    for name, data in FILES.items():
        (tmp_path / name).write_text(json.dumps(data))
    output = perf_analyzer(ours, *mode, folder=tmp_path)
    assert not re.search(r"(?i)warning|error|failed", output), output
    rows = 4 if "-b" in mode else 1
    assert figure(output, "Inference count") == rows * figure(output, "Execution count") > 0
    assert figure(output, "throughput") > 50, output


def test_figures_of_the_server(ours, tmp_path):
    """Two callers of a model that takes 20 ms: each waits for the other as long as it computes."""
    output = perf_analyzer(ours, "slow", *SHAPE, "--concurrency-range", "2", "-p", "1000", folder=tmp_path)
    queue, compute = figure(output, "queue"), figure(output, "compute infer")
    assert 20000 <= compute < 200000 and compute / 4 < queue < 1.5 * compute, output
    assert queue + compute <= figure(output, "Avg request latency") <= figure(output, "Avg latency"), output


def test_collected_metrics(ours, tmp_path):
    output = perf_analyzer(ours, "pair", *SHAPE, "--collect-metrics", "--metrics-url",
                           f"127.0.0.1:{ours.metrics_port}/metrics", "--metrics-interval", "100",
                           folder=tmp_path)
    complaints = [line for line in output.splitlines() if re.search("(?i)warning|error|failed", line)]
    assert complaints and all("nv_gpu_" in line for line in complaints), complaints  # there is no GPU
