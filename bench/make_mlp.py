#!/usr/bin/env python3
"""Makes perceptrons whose time is that of reading their weights: batches gain nearly their size.

usage: make_mlp.py OUTPUT NAME=WIDTH-WIDTH-...[@BATCH]...     needs numpy and onnx

Writes OUTPUT/NAME/{1/model.onnx,config.pbtxt}: FP32, input x [n, first width], output y; batches of up to
BATCH (8) rows, by dynamic batching.
"""
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CONFIG = """backend: "onnxruntime"
max_batch_size: {batch}
input {{ name: "x" data_type: TYPE_FP32 dims: [ {first} ] }}
output {{ name: "y" data_type: TYPE_FP32 dims: [ {last} ] }}
dynamic_batching {{ }}
"""


def perceptron(widths):
    dice, nodes, constants, value = np.random.default_rng(5), [], [], "x"
    for layer, (before, after) in enumerate(zip(widths, widths[1:])):
        weights = dice.standard_normal((before, after), np.float32) / np.float32(before**0.5)
        constants += [numpy_helper.from_array(weights, f"w{layer}"),
                      numpy_helper.from_array(np.full(after, 0.01, np.float32), f"b{layer}")]
        last = layer == len(widths) - 2
        nodes.append(helper.make_node("Gemm", [value, f"w{layer}", f"b{layer}"], ["y" if last else f"g{layer}"]))
        if not last:
            value = f"r{layer}"
            nodes.append(helper.make_node("Relu", [f"g{layer}"], [value]))
    graph = helper.make_graph(
        nodes, "mlp", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", widths[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", widths[-1]])], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
                              producer_name="modeld make_mlp")
    onnx.checker.check_model(model)
    return model


def main():
    output = pathlib.Path(sys.argv[1])
    for word in sys.argv[2:]:
        name, _, rest = word.partition("=")
        layers, _, batch = rest.partition("@")
        widths = [int(width) for width in layers.split("-")]
        folder = output / name / "1"
        folder.mkdir(parents=True)
        onnx.save(perceptron(widths), folder / "model.onnx")
        (output / name / "config.pbtxt").write_text(
            CONFIG.format(batch=batch or 8, first=widths[0], last=widths[-1]))


main()
