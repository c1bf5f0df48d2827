#!/usr/bin/env python3
"""Writes the small ONNX models that the backend tests load: FOLDER/<model>/1/model.onnx.

Needs the packages onnx and numpy. The same script always writes the same bytes.
usage: make_models.py FOLDER
"""
import os
import sys

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

FOLDER = sys.argv[1]
info = h.make_tensor_value_info
node = h.make_node

TYPES = {
    'bool': T.BOOL, 'uint8': T.UINT8, 'uint16': T.UINT16, 'uint32': T.UINT32, 'uint64': T.UINT64,
    'int8': T.INT8, 'int16': T.INT16, 'int32': T.INT32, 'int64': T.INT64, 'fp16': T.FLOAT16,
    'fp32': T.FLOAT, 'fp64': T.DOUBLE, 'bytes': T.STRING, 'bf16': T.BFLOAT16,
}


def save(name, nodes, inputs, outputs, initializers=(), checked=True, opset=17):
    graph = h.make_graph(nodes, name, inputs, outputs, list(initializers))
    model = h.make_model(graph, opset_imports=[h.make_opsetid('', opset)], ir_version=9,
                         producer_name='modeld-test')
    if checked:
        onnx.checker.check_model(model)
    folder = os.path.join(FOLDER, name, '1')
    os.makedirs(folder, exist_ok=True)
    onnx.save(model, os.path.join(folder, 'model.onnx'))
    return model


def array(name, values, dtype=np.float32):
    return nh.from_array(np.array(values, dtype), name)


def ordinary():
    for name, kind in TYPES.items():
        save(f'identity_{name}', [node('Identity', ['x'], ['y'])], [info('x', kind, ['n'])], [info('y', kind, ['n'])])
    save('identity_one', [node('Identity', ['x'], ['y'])], [info('x', T.FLOAT, [1])], [info('y', T.FLOAT, [1])])
    save('any_rank', [node('Identity', ['x'], ['y'])], [info('x', T.FLOAT, None)], [info('y', T.FLOAT, None)],
         checked=False)
    save('scalar', [node('Add', ['x', 'one'], ['y'])], [info('x', T.FLOAT, [])], [info('y', T.FLOAT, [])],
         [array('one', 1)])
    save('linear', [node('Gemm', ['x', 'W', 'b'], ['y'])], [info('x', T.FLOAT, ['batch', 4])],
         [info('y', T.FLOAT, ['batch', 2])], [array('W', np.ones((4, 2))), array('b', [1, 2])])
    save('multi', [node('Neg', ['x'], ['negative']), node('Add', ['x', 'x'], ['double']),
                   node('ReduceSum', ['x', 'axes'], ['sum'], keepdims=1)],
         [info('x', T.FLOAT, ['batch', 3])],
         [info('negative', T.FLOAT, ['batch', 3]), info('double', T.FLOAT, ['batch', 3]),
          info('sum', T.FLOAT, ['batch', 1])], [array('axes', [1], np.int64)])
    # An initializer that is an input too: a request may override it.
    save('optional', [node('Mul', ['x', 'scale'], ['y'])],
         [info('x', T.FLOAT, ['batch', 2]), info('scale', T.FLOAT, [1])], [info('y', T.FLOAT, ['batch', 2])],
         [array('scale', [3])])
    # The text of each row three times: strings through a batch dimension.
    save('strings', [node('Concat', ['x', 'x', 'x'], ['y'], axis=1)], [info('x', T.STRING, ['batch', 1])],
         [info('y', T.STRING, ['batch', 3])])
    rng = np.random.default_rng(7)
    save('deep', [n for k in range(4) for n in (node('MatMul', [f'x{k}', f'W{k}'], [f'm{k}']),
                                                node('Tanh', [f'm{k}'], [f'x{k + 1}']))],
         [info('x0', T.FLOAT, ['batch', 64])], [info('x4', T.FLOAT, ['batch', 64])],
         [array(f'W{k}', rng.standard_normal((64, 64)) / 8) for k in range(4)])
    save('slow', [node('MatMul', [f'x{k}', 'W'], [f'x{k + 1}']) for k in range(700)],
         [info('x0', T.FLOAT, [256, 256])], [info('x700', T.FLOAT, [256, 256])],
         [array('W', np.full((256, 256), 1 / 256))])
    save('heavy', [node('MatMul', ['x', 'W'], ['y'])], [info('x', T.FLOAT, ['batch', 2048])],
         [info('y', T.FLOAT, ['batch', 2048])], [array('W', (np.arange(2048 * 2048) % 7 * .01).reshape(2048, 2048))])


def rows():
    """Each leaves its first dimension free; only of the first two is it a batch."""
    io = [info('x', T.FLOAT, ['n', 4])], [info('y', T.FLOAT, ['n', 4])]
    save('rows_scaled', [node('Mul', ['x', 'two'], ['y'])], *io, [array('two', 2)])
    save('rows_softmax', [node('Softmax', ['x'], ['y'], axis=1)], *io)
    save('over_softmax', [node('Softmax', ['x'], ['y'], axis=0)], *io)
    save('over_mean', [node('ReduceMean', ['x'], ['m'], axes=[0], keepdims=1), node('Sub', ['x', 'm'], ['y'])], *io)
    save('over_time', [node('CumSum', ['x', 'axis'], ['y'])], *io, [array('axis', 0, np.int64)])
    save('over_tokens', [node('Transpose', ['x'], ['t'], perm=[1, 0]), node('MatMul', ['x', 't'], ['s']),
                         node('Softmax', ['s'], ['w'], axis=1), node('MatMul', ['w', 'x'], ['y'])], *io)
    save('over_pairs', [node('Transpose', ['x'], ['t'], perm=[1, 0]), node('MatMul', ['x', 't'], ['y'])],
         [info('x', T.FLOAT, ['n', 4])], [info('y', T.FLOAT, ['n', 'm'])])
    save('rows_break', [node('Gather', ['x', 'i'], ['y'], axis=1)], [info('x', T.FLOAT, ['n', 'm'])],
         [info('y', T.FLOAT, ['n', 1])], [array('i', [40], np.int64)])


def wrong_at_run():
    # Fails inside the engine unless x has four elements.
    save('throws', [node('Reshape', ['x', 'shape'], ['y'])], [info('x', T.FLOAT, ['n'])], [info('y', T.FLOAT, [2, 2])],
         [array('shape', [2, 2], np.int64)])
    # Declares rows that it does not keep.
    save('shrinks', [node('ReduceSum', ['x', 'axes'], ['y'], keepdims=1)], [info('x', T.FLOAT, ['batch', 3])],
         [info('y', T.FLOAT, ['rows', 3])], [array('axes', [0], np.int64)])
    # Declares one column and gives three: the engine only warns.
    save('lies', [node('Identity', ['x'], ['y'])], [info('x', T.FLOAT, ['batch', 3])], [info('y', T.FLOAT, ['batch', 1])],
         checked=False)


def refused():
    save('sequence_out', [node('SequenceConstruct', ['x'], ['y'])], [info('x', T.FLOAT, [2])],
         [h.make_tensor_sequence_value_info('y', T.FLOAT, [2])])
    save('sequence_in', [node('SequenceAt', ['x', 'zero'], ['y'])],
         [h.make_tensor_sequence_value_info('x', T.FLOAT, [2])], [info('y', T.FLOAT, [2])],
         [array('zero', 0, np.int64)])
    save('float8', [node('Cast', ['x'], ['y'], to=T.FLOAT8E4M3FN)], [info('x', T.FLOAT, [2])],
         [info('y', T.FLOAT8E4M3FN, [2])], opset=19)
    save('int4', [node('Cast', ['x'], ['y'], to=T.INT4)], [info('x', T.FLOAT, [2])], [info('y', T.INT4, [2])],
         opset=21)


def external():
    """Weights beside the model; the model as a folder; and weights that are named outside of it."""
    weights = np.arange(8, dtype=np.float32).reshape(4, 2)
    places = {'external': 'weights.bin', 'external_escape': '../../outside.bin', 'external_absolute': '/etc/hostname'}
    for name, location in places.items():
        tensor = T(name='W', data_type=T.FLOAT, dims=weights.shape, data_location=T.EXTERNAL)
        for key, value in (('location', location), ('offset', '0'), ('length', str(weights.nbytes))):
            tensor.external_data.add(key=key, value=value)
        graph = h.make_graph([node('MatMul', ['x', 'W'], ['y'])], name, [info('x', T.FLOAT, ['batch', 4])],
                             [info('y', T.FLOAT, ['batch', 2])], [tensor])
        model = h.make_model(graph, opset_imports=[h.make_opsetid('', 17)], ir_version=9)
        folder = os.path.join(FOLDER, name, '1')
        os.makedirs(folder, exist_ok=True)
        folder = os.path.join(folder, 'model.onnx') if name == 'external' else folder
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, 'model.onnx'), 'wb') as file:
            file.write(model.SerializeToString())
        if not location.startswith('/'):
            weights.tofile(os.path.join(folder, location))


ordinary()
rows()
wrong_at_run()
refused()
external()
