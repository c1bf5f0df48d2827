"""The field's load generator over gRPC: no complaint, and figures of the server that make sense."""
import json, re

import pytest
from field import ours, request  # noqa: F401 (fixture)
from test_perf_analyzer import FILES, SHAPE, figure, perf_analyzer

MODES = [
    ("pair", *SHAPE, "--concurrency-range", "1:3:2"),
    ("pair", *SHAPE, "--sync", "--concurrency-range", "4"),
    ("pair", *SHAPE, "-a", "--concurrency-range", "16"),
    ("pair", *SHAPE, "--request-rate-range", "100:200:100"),
    ("pair", *SHAPE, "--streaming", "-a", "--concurrency-range", "1:5:4"),
    ("pair", *SHAPE, "-b", "4", "--percentile", "95"),
    ("pair", *SHAPE, "--grpc-compression-algorithm", "gzip"),
    ("pair", *SHAPE, "--grpc-compression-algorithm", "deflate"),
    ("pair", "--input-data", "pair.json"),
    ("pair", *SHAPE, "-v", "--measurement-mode", "count_windows", "--measurement-request-count", "100"),
    ("id_FP32", "--shape", "INPUT0:150528", "--concurrency-range", "4"),
    ("id_INT64", *SHAPE, "--sync"),
    ("id_BYTES", "--shape", "INPUT0:2", "--string-length", "8"),
    ("id_BYTES", "--input-data", "text.json"),
    ("dotted.name-1", *SHAPE, "-x", "1"),
]
SHARED_MEMORY = [
    ("pair", *SHAPE, "--concurrency-range", "2"),
    ("pair", *SHAPE, "-a", "--streaming", "--concurrency-range", "2"),
    ("id_FP32", "--shape", "INPUT0:150528", "--concurrency-range", "2"),
]


def check(output, mode):
    assert not re.search(r"(?i)warning|error|failed", output), output
    rows = 4 if "-b" in mode else 1
    assert figure(output, "Inference count") == rows * figure(output, "Execution count") > 0
    assert figure(output, "throughput") > 50, output


@pytest.mark.parametrize("mode", MODES, ids=" ".join)
def test_mode(ours, tmp_path, mode):
    for name, data in FILES.items():
        (tmp_path / name).write_text(json.dumps(data))
    check(perf_analyzer(ours, *mode, "-i", "grpc", folder=tmp_path, port=ours.grpc_port), mode)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("mode", SHARED_MEMORY, ids=" ".join)
def test_shared_memory(ours, tmp_path, mode, protocol):
    """Regions are given back: those of one run are not there for the next."""
    if protocol == "http" and "--streaming" in mode:
        pytest.skip("HTTP has no streams of inferences")
    port = ours.grpc_port if protocol == "grpc" else ours.port
    check(perf_analyzer(ours, *mode, "-i", protocol, "--shared-memory", "system", "--output-shared-memory-size",
                        "602112", folder=tmp_path, port=port), mode)
    assert request(ours.port, "GET", "/v2/systemsharedmemory/status").json() == []


def test_figures_of_the_server(ours, tmp_path):
    """Two callers of a model that takes 20 ms: each waits for the other as long as it computes."""
    output = perf_analyzer(ours, "slow", *SHAPE, "--concurrency-range", "2", "-p", "1000", "-i", "grpc",
                           folder=tmp_path, port=ours.grpc_port)
    queue, compute = figure(output, "queue"), figure(output, "compute infer")
    assert 20000 <= compute < 200000 and compute / 4 < queue < 1.5 * compute, output
    assert queue + compute <= figure(output, "Avg request latency"), output
