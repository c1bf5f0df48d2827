"""Models whose batches can be watched (tests/backend/rows.c), and what is sent to them.

A row of input x is [value, milliseconds, what]; output y is x, a row of output turn is [number of the
batch, place of the request in it, rows of the batch].
"""
import struct, threading, time

import grpc as grpc_library
from tritonclient.grpc import service_pb2 as pb

import rpc_status
from conftest import BUILD, request, write_model

ANSWER, FAIL, FAIL_BATCH, POISON, HANG, YIELD, FORGET, ANSWER_FAIL = range(8)  # what
BACKENDS = f"--backend-directory={BUILD}/tests/backends"


def policy(action="REJECT", timeout_us=0, override=False, size=0):
    return (f"{{ timeout_action: {action} default_timeout_microseconds: {timeout_us} "
            f"allow_timeout_override: {str(override).lower()} max_queue_size: {size} }}")


def config(batching, batch=4, instances=1, extra="", **parameters):
    """batching: what stands in dynamic_batching; None: there is none."""
    row, turn = ("-1", "3") if batch else ("-1, -1", "-1, 3")
    text = (f"max_batch_size: {batch}\ninstance_group [ {{ count: {instances} kind: KIND_CPU }} ]\n"
            f'input {{ name: "x" data_type: TYPE_FP32 dims: [ {row} ] }}\n'
            f'output {{ name: "y" data_type: TYPE_FP32 dims: [ {row} ] }}\n'
            f'output {{ name: "turn" data_type: TYPE_INT32 dims: [ {turn} ] }}\n')
    if batching is not None:
        text += f"dynamic_batching {{ {batching} }}\n"
    for key, value in parameters.items():
        text += f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n'
    return f"{text}{extra}\n"


def write_rows(root, models, backend="rows"):
    """models: {name: config}."""
    for name, text in models.items():
        write_model(root, name, f'backend: "{backend}"\n{text}')
    return root


class Call(threading.Thread):
    """One request on its way; deadline: seconds, that the server is told of; outputs: names, none: all. Afterwards:
    status (over gRPC the code), error, names (of the outputs), values, turn, seconds."""

    def __init__(self, server, model, value=0.0, ms=0, what=0, rows=1, columns=3, grpc=False, headers=None,
                 deadline=None, outputs=(), **parameters):
        super().__init__()
        self.arguments = server, model, [float(value), float(ms), float(what)] + [0.0] * (columns - 3), rows, columns
        self.grpc, self.headers, self.deadline, self.outputs, self.parameters = grpc, headers, deadline, outputs, parameters
        self.status = self.error = self.values = self.turn = self.details = None
        self.start()

    def run(self):
        begin = time.monotonic()
        (self.over_grpc if self.grpc else self.over_http)(*self.arguments)
        self.ended = time.monotonic()
        self.seconds = self.ended - begin

    def over_http(self, server, model, row, rows, columns):
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [rows, columns], "data": row * rows}]}
        if self.parameters:
            body["parameters"] = self.parameters
        if self.outputs:
            body["outputs"] = [{"name": name} for name in self.outputs]
        headers = dict(self.headers or {})
        if self.deadline is not None:
            headers["modeld-timeout-ms"] = round(self.deadline * 1000)
        r = request(server.port, "POST", f"/v2/models/{model}/infer", body, headers)
        self.status, document = r.status, r.json()
        self.response = r
        self.error = document.get("error")
        if not self.error:
            self.take({o["name"]: o["data"] for o in document["outputs"]}, columns)

    def over_grpc(self, server, model, row, rows, columns):
        m = pb.ModelInferRequest(model_name=model, raw_input_contents=[struct.pack(f"<{rows * columns}f", *row * rows)])
        m.inputs.add(name="x", datatype="FP32", shape=[rows, columns])
        for name in self.outputs:
            m.outputs.add(name=name)
        for key, value in self.parameters.items():
            field, value = value if isinstance(value, tuple) else ("int64_param", value)
            setattr(m.parameters[key], field, value)
        try:
            with grpc_library.insecure_channel(f"127.0.0.1:{server.grpc_port}",
                                               [("grpc.use_local_subchannel_pool", 1)]) as channel:
                call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer",
                                           pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
                m = call(m, timeout=self.deadline)
        except grpc_library.RpcError as error:
            self.status, self.error, self.details = error.code().name, error.details(), rpc_status.details(error)
        else:
            self.status = "OK"
            outputs = {o.name: memoryview(raw).cast("fi"[o.name == "turn"]).tolist()
                       for o, raw in zip(m.outputs, m.raw_output_contents)}
            self.take(outputs, columns)

    def take(self, outputs, columns):
        self.names = list(outputs)
        if "y" in outputs:
            self.values = outputs["y"][::columns]
        if "turn" in outputs:
            self.turn = tuple(outputs["turn"][:3])


def gather(calls):
    for call in calls:
        call.join()
    return calls


GAP = 0.02  # s between two requests whose order counts


def one_by_one(server, model, *rows, gap=GAP, **common):
    """Sends them in this order, each a dict of Call's arguments; waits for all."""
    calls = []
    for row in rows:
        calls.append(Call(server, model, **{**common, **row}))
        time.sleep(gap)
    return gather(calls)


def batches(calls):
    """Batches in the order of execution, each a list of (index of the call in its place, rows)."""
    ran = sorted((call.turn, i) for i, call in enumerate(calls) if call.turn)
    found = {}
    for (number, _, rows), i in ran:
        found.setdefault((number, rows), []).append(i)
    return [(members, rows) for (_, rows), members in found.items()]


def order(calls):
    """Indices in the order of execution; those that failed are left out."""
    return [i for members, _ in batches(calls) for i in members]


def outcomes(calls):
    return [(call.status, call.error) for call in calls]
