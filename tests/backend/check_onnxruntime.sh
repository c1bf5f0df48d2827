#!/bin/sh
# The conformance program over the models of make_models.py, and over damaged files of two of them.
# usage: check_onnxruntime.sh CHECK_PROGRAM BACKEND.so
[ -n "$MODELD_TEST_MODELS" ] || {
    echo "skipped: MODELD_TEST_MODELS does not name the folder that make_models.py has filled"
    exit 77
}
check=$1
backend=$2
failed=0

one() {
    model=$1
    shift
    echo "== $model $*"
    "$check" "$@" "$backend" "$MODELD_TEST_MODELS/$model/1" >"$log" 2>&1 || {
        failed=1
        cat "$log"
    }
    tail -n 1 "$log"
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
one linear --damage 100
one deep --damage 100 --threads 2
one multi --max-batch-size 4
one strings --max-batch-size 4
one optional
one scalar
one any_rank
one external
one identity_bytes
one identity_bf16
one slow --runs 1
one heavy --runs 5
exit $failed
