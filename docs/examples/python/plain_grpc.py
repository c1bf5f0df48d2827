"""Inferences over gRPC without a client library: stubs made from proto/.  usage: plain_grpc.py [HOST:PORT]"""
import pathlib
import struct
import sys

import grpc

PROTO = pathlib.Path(__file__).resolve().parents[3] / "proto"

# grpcio-tools compiles them while they are imported; `python -m grpc_tools.protoc` writes them to files.
sys.path.insert(0, str(PROTO))
messages, services = grpc.protos_and_services("grpc_service.proto")
health_messages, health_services = grpc.protos_and_services("grpc/health/v1/health.proto")


def request(model, values):
    """Raw bytes in the order of the inputs: what costs both sides least."""
    return messages.ModelInferRequest(
        model_name=model, inputs=[{"name": "INPUT0", "datatype": "FP32", "shape": [1, len(values)]}],
        raw_input_contents=[struct.pack(f"<{len(values)}f", *values)])


def total(answer):
    (data,) = answer.raw_output_contents
    return sum(struct.unpack(f"<{len(data) // 4}f", data))


def main():
    address = sys.argv[1] if len(sys.argv) > 1 else "localhost:8001"
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(address, options) as channel:
        health = health_services.HealthStub(channel).Check(health_messages.HealthCheckRequest(service="identity"))
        assert health.status == health_messages.HealthCheckResponse.SERVING

        server = services.GRPCInferenceServiceStub(channel)
        print("sum of one answer:", total(server.ModelInfer(request("identity", [1.5, -2, 0.25]), timeout=5)))

        running = [server.ModelInfer.future(request("identity", [i, i, i]), timeout=5) for i in range(4)]
        print("sums of 4 at a time:", [total(r.result()) for r in running])

        try:
            server.ModelInfer(request("nope", [1]))
        except grpc.RpcError as error:
            print("error:", error.details())


main()
