#!/usr/bin/env python3
"""Calls each model of the quickstart once and prints its answer in words.

usage: quickstart_call.py [--port N] [--with-minilm]

Needs nothing but Python: it shows how few lines a client takes.  Tensors travel as raw bytes
behind the JSON head of the request (the binary data extension).
"""
import argparse
import array
import http.client
import json
import math
import os
import pathlib
import re
import struct
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "modeld"
HEAD_LENGTH = "Inference-Header-Content-Length"


class Client:
    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def infer(self, model, inputs, outputs):
        """inputs: [(name, datatype, shape, bytes)]; outputs: {name: parameters}.

        Returns {name: bytes}, or for an output that was asked for as classes a list of strings.
        """
        head = json.dumps({
            "inputs": [{"name": name, "datatype": datatype, "shape": shape,
                        "parameters": {"binary_data_size": len(data)}}
                       for name, datatype, shape, data in inputs],
            "outputs": [{"name": name, "parameters": parameters}
                        for name, parameters in outputs.items()],
        }).encode()
        self.connection.request(
            "POST", f"/v2/models/{model}/infer",
            head + b"".join(data for *_, data in inputs), {HEAD_LENGTH: str(len(head))})
        response = self.connection.getresponse()
        body = response.read()
        if response.status != 200:
            sys.exit(f"{model}: HTTP {response.status}: {body.decode(errors='replace')}")
        length = int(response.getheader(HEAD_LENGTH) or len(body))
        results, offset = {}, length
        for output in json.loads(body[:length])["outputs"]:
            size = output.get("parameters", {}).get("binary_data_size")
            if size is None:
                results[output["name"]] = output["data"]
            else:
                results[output["name"]] = body[offset:offset + size]
                offset += size
        return results


BINARY = {"binary_data": True}


def top(count):
    """Asks for classes, "value:index:label", best first, in place of numbers."""
    return {"classification": count, "binary_data": False}


def pictures(client):
    for name, what in (("chelsea", "a cat"), ("coffee", "a cup of coffee")):
        data = (CACHE / "samples" / f"{name}.f32").read_bytes()
        started = time.monotonic()
        result = client.infer("efficientnet_lite0", [("image", "FP32", [1, 3, 224, 224], data)],
                              {"prob": top(3)})
        elapsed = (time.monotonic() - started) * 1000
        best = [entry.split(":", 2) for entry in result["prob"]]
        words = ", ".join(f"{label} {float(share):.1%}" for share, _, label in best)
        print(f"  picture of {what}: {words} ({elapsed:.0f} ms)")


def file_types(client):
    edge, block, filler, least = 1024, 4096, 256, 8
    for path in ("CMakeLists.txt", "tools/quickstart_call.py", "build/release/modeld"):
        content = (ROOT / path).read_bytes()
        first, last = content[:block].lstrip()[:edge], content[-block:].rstrip()[-edge:]
        assert len(first) >= least, f"{path} is too short to tell its type"
        values = [*first, *[filler] * (edge - len(first)), *[filler] * (edge - len(last)), *last]
        result = client.infer(
            "magika", [("bytes", "INT32", [1, 2 * edge], struct.pack(f"<{2 * edge}i", *values))],
            {"target_label": top(1)})
        share, _, label = result["target_label"][0].split(":", 2)
        print(f"  type of {path}: {label} ({float(share):.1%})")


def speech(client):
    """Goes through the recording window by window; the state comes back with every answer."""
    rate, window, before = 16000, 512, 64
    samples = array.array("f", (CACHE / "samples" / "speech.f32").read_bytes())
    state, context, spoken = bytes(2 * 128 * 4), array.array("f", bytes(4 * before)), []
    for start in range(0, len(samples) - window + 1, window):
        chunk = samples[start:start + window]
        result = client.infer(
            "silero_vad",
            [("input", "FP32", [1, before + window], (context + chunk).tobytes()),
             ("state", "FP32", [2, 1, 128], state), ("sr", "INT64", [], struct.pack("<q", rate))],
            {"output": BINARY, "stateN": BINARY})
        state, context = result["stateN"], chunk[-before:]
        if struct.unpack("<f", result["output"])[0] > 0.5:
            spoken.append(start)
    if not spoken:
        sys.exit("silero_vad: no speech was found in the recording")
    print(f"  speech in a recording of {len(samples) / rate:.1f} s: from {spoken[0] / rate:.2f} s "
          f"to {(spoken[-1] + window) / rate:.2f} s")


def sentences(client):
    folder = CACHE / "repository-minilm" / "all_minilm_l6_v2"
    words = {word: number for number, word in
             enumerate((folder / "vocab.txt").read_text("utf-8").splitlines())}
    texts = ("A man is eating food.", "A man is eating bread.", "The girl is carrying a baby.")
    embeddings = []
    for text in texts:  # all of these words are whole entries of the vocabulary
        ids = [words[word] for word in ["[CLS]", *re.findall(r"\w+|[^\w\s]", text.lower()), "[SEP]"]]
        shape = [1, len(ids)]
        result = client.infer(
            "all_minilm_l6_v2",
            [("input_ids", "INT64", shape, struct.pack(f"<{len(ids)}q", *ids)),
             ("attention_mask", "INT64", shape, struct.pack("<q", 1) * len(ids))],
            {"embedding": BINARY})
        embeddings.append(array.array("f", result["embedding"]))
    for text, other in zip(texts[1:], embeddings[1:]):
        likeness = math.fsum(a * b for a, b in zip(embeddings[0], other))
        print(f"  \"{texts[0]}\" and \"{text}\": {likeness:.2f} alike")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--with-minilm", action="store_true")
    options = parser.parse_args()
    client = Client(options.port)
    for call in (pictures, file_types, speech, *([sentences] if options.with_minilm else [])):
        call(client)


main()
