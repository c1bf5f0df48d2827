"""gRPC's own client where things go wrong: deadlines, calls that are given up, channels that close, messages that are too
large, a server that ends."""
import concurrent.futures, signal, struct, threading, time

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from conftest import SANITIZED, Server

Code = grpc.StatusCode


def infer_request(model, count=3):
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="INPUT0", datatype="FP32", shape=[count])
    request.raw_input_contents.append(struct.pack("<f", 1.5) * count)
    return request


GOOD, SLOW = infer_request("identity_fp32"), infer_request("slow")


@pytest.fixture(scope="module")
def server(repository):
    s = Server(repository, "--grpc-max-message-size=1M")
    yield s
    assert s.process.poll() is None, f"the server died: {s.log()[-4000:]}"
    assert s.stop() == 0, s.log()[-4000:]


def open_channel(server, number=0, **options):
    """A connection of its own for each number."""
    options = {"grpc.use_local_subchannel_pool": 1, "grpc.enable_retries": 0, "grpc.max_receive_message_length": -1, **options}
    return grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", [*options.items(), ("number", number)])


@pytest.fixture
def stub(server):
    with open_channel(server) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def check_good(stub):
    assert stub.ModelInfer(GOOD, timeout=60).raw_output_contents == GOOD.raw_input_contents


@pytest.mark.parametrize("seconds", [0, 1e-6, 0.001, 0.05])
def test_deadlines_that_pass(stub, seconds):
    with pytest.raises(grpc.RpcError) as e:
        stub.ModelInfer(SLOW, timeout=seconds)
    # the latter once the server knows that there is not enough time
    assert e.value.code() in (Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE if seconds else None)
    check_good(stub)


def test_deadlines_in_time(stub):
    assert stub.ModelInfer(SLOW, timeout=50).raw_output_contents == SLOW.raw_input_contents


def test_streams_end_at_their_deadline(stub):
    def requests():
        yield SLOW
        time.sleep(2)

    begin = time.monotonic()
    with pytest.raises(grpc.RpcError) as e:
        list(stub.ModelStreamInfer(requests(), timeout=0.5))
    assert e.value.code() == Code.DEADLINE_EXCEEDED
    assert time.monotonic() - begin < 10
    check_good(stub)


def test_calls_that_are_given_up(stub):
    calls = [stub.ModelInfer.future(SLOW if i % 2 else GOOD) for i in range(600)]
    for call in calls[1::2]:
        call.cancel()
    for call in calls[::2]:
        assert call.result(60).raw_output_contents == GOOD.raw_input_contents
    assert all(call.code() == Code.CANCELLED for call in calls[1::2])
    check_good(stub)


def test_streams_that_are_given_up(server):
    for i in range(30):
        with open_channel(server, i) as channel:
            stub, gate = service_pb2_grpc.GRPCInferenceServiceStub(channel), threading.Event()

            def requests():
                yield SLOW
                yield SLOW
                gate.wait(30)

            call = stub.ModelStreamInfer(requests())
            if i % 3 == 0:
                assert not next(call).error_message
            if i % 2:
                call.cancel()
            gate.set()
    with open_channel(server, "after") as channel:
        check_good(service_pb2_grpc.GRPCInferenceServiceStub(channel))


def test_channels_that_close_with_calls_under_way(server):
    for i in range(30):
        channel = open_channel(server, i)
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        calls = [stub.ModelInfer.future(SLOW) for _ in range(20)]
        calls[0].result(60) if i % 10 == 0 else None
        channel.close()
        assert all(call.code() in (Code.CANCELLED, Code.OK) for call in calls)


def test_messages_that_are_too_large(stub):
    with pytest.raises(grpc.RpcError) as e:
        stub.ModelInfer(infer_request("identity_fp32", 300000))
    assert e.value.code() == Code.RESOURCE_EXHAUSTED
    with pytest.raises(grpc.RpcError) as e:
        list(stub.ModelStreamInfer(iter([GOOD, infer_request("identity_fp32", 300000)])))
    assert e.value.code() == Code.RESOURCE_EXHAUSTED
    check_good(stub)


def test_many_clients_at_once_each_answered_right(server):
    def run(number):
        with open_channel(server, number) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            for i in range(5 if SANITIZED else 30):
                count = 1 + (number * 31 + i * 977) % 5000
                request = infer_request("identity_fp32", count)
                request.raw_input_contents[0] = struct.pack("<f", number + i) * count
                assert stub.ModelInfer(request, timeout=60).raw_output_contents == request.raw_input_contents

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(run, range(32)))


def test_sigterm_under_load_loses_no_call(start, repository):
    server = start(repository)
    failed, answered, stop = [], [0], threading.Event()

    def run(number):
        with open_channel(server, number) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            while not stop.is_set():
                begun_before = server.process.poll() is None and not terminated.is_set()
                try:
                    stub.ModelInfer(SLOW if number % 2 else GOOD, timeout=60)
                    answered[0] += 1
                except grpc.RpcError as error:
                    if begun_before:
                        failed.append((error.code(), error.details()))
                    elif error.code() != Code.UNAVAILABLE:
                        failed.append((error.code(), error.details()))
                    return

    terminated = threading.Event()
    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    terminated.set()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(40) == 0
    stop.set()
    for thread in threads:
        thread.join(60)
    assert not failed and answered[0] > 8, failed
