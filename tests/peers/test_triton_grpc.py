"""modeld beside the field's own server over gRPC: the same calls, the same answers."""
import random, re

import grpc
import pytest
from field import ours, triton  # noqa: F401 (fixtures)
from grpc_calls import ask, channel, pb, view
from grpc_cases import A, A_RAW, B, B_RAW, CALLS, message
from grpc_differences import GRPC_DIFFERENCES, LAXER, STRICTER


@pytest.fixture(scope="module")
def channels(triton, ours):
    with channel(triton) as theirs, channel(ours) as mine:
        yield theirs, mine


def code_of(name):
    """The code of the documented difference, or None."""
    return next((code for pattern, code, _ in GRPC_DIFFERENCES if re.fullmatch(pattern, name)), None)


@pytest.mark.parametrize("name,method,messages,metadata", CALLS, ids=[call[0] for call in CALLS])
def test_answer(channels, name, method, messages, metadata):
    theirs, mine = (ask(channel, method, messages, metadata) for channel in channels)
    if documented := code_of(name):
        assert mine.code == documented, (theirs, mine)
        assert view(method, theirs) != view(method, mine), "no difference any more"
    else:
        assert view(method, mine) == view(method, theirs)


@pytest.mark.parametrize("pattern", [pattern for pattern, *_ in GRPC_DIFFERENCES])
def test_every_difference_is_asked_for(pattern):
    assert any(re.fullmatch(pattern, name) for name, *_ in CALLS), pattern


# --- metadata, methods and services

def refused(channel, path, **arguments):
    with pytest.raises(grpc.RpcError) as error:
        channel.unary_unary(path)(b"", timeout=10, **arguments)
    return error.value.code().name, error.value.details()


@pytest.mark.parametrize("path", ["/inference.GRPCInferenceService/Nope", "/inference.Nope/ServerLive", "/x/y",
                                  "/inference.GRPCInferenceService/serverlive"])
def test_unknown_method(channels, path):
    theirs, mine = (refused(channel, path) for channel in channels)
    assert theirs[0] == mine[0] == "UNIMPLEMENTED"


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_request(channels, algorithm):
    raw = b"\0" * 40000
    request = message("id_FP32", pb.ModelInferRequest.InferInputTensor(
        name="INPUT0", datatype="FP32", shape=[10000]), raw=[raw]).SerializeToString()
    theirs, mine = (channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(
        request, compression=algorithm, timeout=10) for channel in channels)
    answer = pb.ModelInferResponse.FromString(mine)
    assert answer == pb.ModelInferResponse.FromString(theirs)
    assert answer.raw_output_contents[0] == raw


def test_deadline(channels):
    """Of a model that needs 20 ms."""
    request = message("slow", pb.ModelInferRequest.InferInputTensor(
        name="INPUT0", datatype="FP32", shape=[1]), raw=[b"\0" * 4]).SerializeToString()
    codes = []
    for channel in channels:
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(request, timeout=0.002)
        codes.append(error.value.code())
    late = grpc.StatusCode.DEADLINE_EXCEEDED
    # ours says so at once if it knows by now how long the model takes
    assert codes[0] == late and codes[1] in (late, grpc.StatusCode.UNAVAILABLE)


def test_large_message(channels):
    """More than the 4 MiB that the library takes by itself."""
    raw = random.Random(1).randbytes(8 << 20)
    request = message("id_FP32", pb.ModelInferRequest.InferInputTensor(
        name="INPUT0", datatype="FP32", shape=[len(raw) // 4]), raw=[raw]).SerializeToString()
    for channel in channels:
        answer = ask(channel, "ModelInfer", [request])
        assert answer.code == "OK", answer.details
        assert pb.ModelInferResponse.FromString(answer.messages[0]).raw_output_contents[0] == raw


# --- random damage

def damaged(data, dice):
    data = bytearray(data)
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(data))
        if dice.randrange(3):
            data[at] = dice.choice((data[at] ^ 1 << dice.randrange(8), dice.randrange(256), 0, 0xff))
        else:
            del data[at:at + dice.randint(1, 4)]
        data = data or bytearray(1)
    return bytes(data)


@pytest.mark.parametrize("seed", range(5))
def test_damaged_messages(channels, seed):
    """What both can read has the same answer; what one cannot read, the other does not either."""
    dice = random.Random(seed)
    good = message("pair", A, B, raw=[A_RAW, B_RAW], parameters={"a": 1.5, "priority": 1}
                   ).SerializeToString()
    for _ in range(200):
        wrong = damaged(good, dice)
        theirs, mine = (ask(channel, "ModelInfer", [wrong]) for channel in channels)
        if theirs.code == mine.code == "OK":
            assert view("ModelInfer", mine) == view("ModelInfer", theirs), wrong
        elif theirs.code == "OK":
            assert STRICTER.search(mine.details), (wrong, mine)
        elif mine.code == "OK":
            assert LAXER.search(theirs.details), (wrong, theirs)
        else:
            assert mine.code in ("INVALID_ARGUMENT", "NOT_FOUND", "INTERNAL", "UNIMPLEMENTED"), (wrong, mine)


# --- what is counted

def test_statistics_count_alike(channels):
    """Good and refused calls: counters grow by the same."""
    def counters(channel):
        data = ask(channel, "ModelStatistics", [pb.ModelStatisticsRequest(name="pair").SerializeToString()])
        (stats,) = pb.ModelStatisticsResponse.FromString(data.messages[0]).model_stats
        of = stats.inference_stats
        return (stats.inference_count, stats.execution_count, of.success.count, of.queue.count,
                of.compute_input.count, of.compute_infer.count, of.compute_output.count, of.cache_hit.count)

    grown = []
    for channel in channels:
        before = counters(channel)
        for _ in range(3):
            answer = ask(channel, "ModelInfer", [message("pair", A, B, raw=[A_RAW, B_RAW]).SerializeToString()])
            assert answer.code == "OK"
        grown.append([b - a for a, b in zip(before, counters(channel))])
    assert grown[0] == grown[1] and grown[0][0] == 3
