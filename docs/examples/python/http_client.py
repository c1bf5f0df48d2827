"""Inferences over HTTP with tritonclient.  usage: http_client.py [HOST:PORT]"""
import sys

import numpy as np
import tritonclient.http as http
from tritonclient.utils import InferenceServerException


def tensor(values):
    """An input of the model; its bytes go behind the JSON."""
    data = np.array([values], np.float32)
    made = http.InferInput("INPUT0", data.shape, "FP32")
    made.set_data_from_numpy(data)
    return made


def main():
    address = sys.argv[1] if len(sys.argv) > 1 else "localhost:8000"
    with http.InferenceServerClient(address, concurrency=4) as client:
        assert client.is_model_ready("identity")
        answer = client.infer("identity", [tensor([1.5, -2, 0.25])], request_id="first")
        print("sum of one answer:", answer.as_numpy("OUTPUT0").sum())

        running = [client.async_infer("identity", [tensor([i, i, i])]) for i in range(4)]
        print("sums of 4 at a time:", [float(r.get_result().as_numpy("OUTPUT0").sum()) for r in running])

        try:
            client.infer("nope", [tensor([1])])
        except InferenceServerException as error:
            print("error:", error.message())


main()
