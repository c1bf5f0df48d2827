#!/bin/bash
# Makes inference/ from proto/: the messages and the client.  Needs protoc (Debian: protobuf-compiler) and Go.
set -euo pipefail
cd "$(dirname "$0")"
tools="${GOBIN:-$(go env GOPATH)/bin}"
[ -x "$tools/protoc-gen-go" ] || go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.11
[ -x "$tools/protoc-gen-go-grpc" ] || go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2

options=()
for plugin in go go-grpc; do
    options+=(--plugin="protoc-gen-$plugin=$tools/protoc-gen-$plugin" "--${plugin}_out=inference"
        "--${plugin}_opt=paths=source_relative")
    for file in grpc_service model_config; do
        options+=("--${plugin}_opt=M$file.proto=modeld-example/inference")
    done
done
mkdir -p inference
protoc -I ../../../proto "${options[@]}" grpc_service.proto model_config.proto
