"""Inferences over gRPC with tritonclient.  usage: grpc_client.py [HOST:PORT]"""
import queue
import sys

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException


def tensor(values):
    data = np.array([values], np.float32)
    made = grpc.InferInput("INPUT0", data.shape, "FP32")
    made.set_data_from_numpy(data)
    return made


def total(answer):
    return float(answer.as_numpy("OUTPUT0").sum())


def stream(client, count):
    """One stream carries all; answers come in the order of their requests."""
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for i in range(count):
        client.async_stream_infer("identity", [tensor([i, i, i])])
    sums = []
    for _ in range(count):
        answer, error = answers.get(timeout=10)
        if error:
            raise error
        sums.append(total(answer))
    client.stop_stream()
    return sums


def main():
    address = sys.argv[1] if len(sys.argv) > 1 else "localhost:8001"
    with grpc.InferenceServerClient(address) as client:
        assert client.is_model_ready("identity")
        print("sum of one answer:", total(client.infer("identity", [tensor([1.5, -2, 0.25])], client_timeout=5)))
        print("sums of 4 at a time:", stream(client, 4))
        try:
            client.infer("nope", [tensor([1])])
        except InferenceServerException as error:
            print("error:", error.message())


main()
