#!/bin/sh
# Compares the backend interface with its committed description, tests/backend/abi-<major>.<minor>.xml.
# Needs abidiff and abidw (package abigail-tools). usage: tools/check_abi.sh [--update]
#
# Fields may be appended only with a new minor version: structs that cross the border carry their size, but a
# description that is committed never changes again once it was released. --update writes the description anew.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
header=$root/include/modeld/backend.h
number() { sed -n "s/^#define MODELD_ABI_$1 \([0-9]*\)$/\1/p" "$header"; }
description=$root/tests/backend/abi-$(number MAJOR).$(number MINOR).xml
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

command -v abidiff >/dev/null || {
    echo "abidiff is missing: install abigail-tools"
    exit 77
}
cd "$root" # so that the description names the source by its path in the tree
"${CC:-gcc}" -std=c11 -g -O0 -fPIC -shared -fvisibility=hidden -Iinclude \
    -o "$work/libmodeld_abi.so" tests/backend/abi.c
abidw --no-corpus-path --no-comp-dir-path --no-show-locs --no-elf-needed --type-id-style hash \
    --out-file "$work/abi.xml" "$work/libmodeld_abi.so"
if [ "${1:-}" = --update ]; then
    cp "$work/abi.xml" "$description"
    echo "wrote ${description#"$root/"}"
    exit 0
fi
[ -f "$description" ] || {
    echo "there is no ${description#"$root/"}: write it with tools/check_abi.sh --update"
    exit 1
}
abidiff --no-show-locs "$description" "$work/abi.xml" || {
    echo "include/modeld/backend.h differs from ${description#"$root/"}: append only, and with a new MODELD_ABI_MINOR"
    exit 1
}
echo "the backend interface is as described in ${description#"$root/"}"
