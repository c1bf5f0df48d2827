#!/bin/bash
# One inference over REST, three ways.  usage: infer.sh [HOST:PORT]
set -euo pipefail
model="http://${1:-localhost:8000}/v2/models/identity"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A call that fails answers {"error": "..."} with a status of 400 or more: -f turns that into an exit
# status, and --fail-with-body shows the sentence all the same.
call() {
    curl -sS --fail-with-body "$@"
}

# Prints what a Python expression makes of the JSON document on the standard input.
from_json() {
    python3 -c "import json, sys; d = json.load(sys.stdin); print($1)"
}

call "$model/ready" && echo ready
call "$model" | from_json '"{name} {datatype} {shape}".format(**d["inputs"][0]).replace(", ", ",")'

request='{"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 3], "data": [1.5, -2, 0.25]}]}'
call "$model/infer" -d "$request" | from_json '"JSON:", *map(float, d["outputs"][0]["data"])'

# The tensor's twelve bytes follow the JSON, whose length is in a header; so is the answer's.
head='{"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 3],
       "parameters": {"binary_data_size": 12}}], "parameters": {"binary_data_output": true}}'
printf '%s\0\0\300\077\0\0\0\300\0\0\200\076' "$head" >"$work/request"
call "$model/infer" -H "Inference-Header-Content-Length: ${#head}" --data-binary "@$work/request" \
    -D "$work/headers" -o "$work/answer"
python3 - "$work" <<'PROGRAM'
import pathlib, re, struct, sys
work = pathlib.Path(sys.argv[1])
length = int(re.search(r"(?i)inference-header-content-length: (\d+)", (work / "headers").read_text())[1])
print("binary:", *struct.unpack("<3f", (work / "answer").read_bytes()[length:]))
PROGRAM

call --http2-prior-knowledge "$model/infer" -d "$request" |
    from_json '"HTTP/2:", *map(float, d["outputs"][0]["data"])'
