#!/bin/bash
# Builds the tools that judge HTTP/2 and gRPC from their Go modules.
# usage: tools/fetch_grpc_tools.sh [NAME...]      (default: all)
# They lie in ~/.cache/modeld/grpc-tools/NAME-VERSION/NAME, each in a folder of its own that appears
# when it is complete: what one run could not fetch, the next tries again. Prints one line for each
# tool that is missing afterwards, with the reason, and exits 1. Without a Go that is new enough
# (Debian 12's own is not) nothing is fetched.
set -uo pipefail

cache="${XDG_CACHE_HOME:-$HOME/.cache}/modeld/grpc-tools"
needs_go=1.24

# name, version, package
tools="
h2spec            v2.2.1+incompatible github.com/summerwind/h2spec/cmd/h2spec
grpcurl           v1.9.4              github.com/fullstorydev/grpcurl/cmd/grpcurl
ghz               v0.93.0             github.com/bojand/ghz/cmd/ghz
grpc-interop      v1.85.0             google.golang.org/grpc/interop/client
grpc-health-probe v0.4.42             github.com/grpc-ecosystem/grpc-health-probe
"

go_version() {
    go version 2>/dev/null | sed -n 's/^go version go\([0-9]*\.[0-9]*\).*/\1/p'
}

# fetch NAME VERSION PACKAGE
fetch() {
    local folder="$cache/$1-$2" work
    [[ -x "$folder/$1" ]] && return 0
    mkdir -p "$cache" && work=$(mktemp -d "$cache/.work.XXXXXX") || return 1
    echo "building $1 $2"
    if ! GOBIN="$work/bin" GOTOOLCHAIN=local nice go install -ldflags '-s -w' "$3@$2" >"$work/log" 2>&1; then
        echo "fetch_grpc_tools: $1 $2 was not built: $(tail -n 1 "$work/log")" >&2
        rm -rf "$work"
        return 1
    fi
    mv "$work/bin/${3##*/}" "$work/bin/$1.new" && mv "$work/bin/$1.new" "$work/bin/$1"
    rm -rf "$folder"
    mv "$work/bin" "$folder"
    rm -rf "$work"
}

version=$(go_version)
if [[ -z "$version" || "$(printf '%s\n' "$needs_go" "$version" | sort -V | head -n 1)" != "$needs_go" ]]; then
    echo "fetch_grpc_tools: Go $needs_go or newer is needed, here is ${version:-none}" >&2
    exit 1
fi
failed=0
while read -r name tag package; do
    [[ -n "$name" ]] || continue
    (($# == 0)) || [[ " $* " == *" $name "* ]] || continue
    fetch "$name" "$tag" "$package" || failed=1
done <<<"$tools"
exit $failed
