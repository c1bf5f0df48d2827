#!/bin/bash
# Puts yyjson's source, a yardstick for bench/, into the cache.  usage: tools/fetch_yyjson.sh
#
# Result: ${XDG_CACHE_HOME:-~/.cache}/modeld/yyjson-0.10.0/{yyjson.c,yyjson.h,LICENSE}
# It comes out of a Python source package that holds it, pinned by checksum; nothing of that
# package is built for use or installed.
set -euo pipefail

package="yyjson==4.0.6 --hash=sha256:fcd4dc15c1e39a30bf9fa85d56903029111506860fc3080ab0d81c6c6dacaa8c"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/modeld
target=$cache/yyjson-0.10.0
[ ! -f "$target/yyjson.c" ] || exit 0

mkdir -p "$cache"
work=$(mktemp -d "$cache/.yyjson.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "$package" >"$work/list"
python3 -m pip -q download --disable-pip-version-check --no-deps --no-binary=:all: \
    --require-hashes -r "$work/list" -d "$work" || {
    echo "fetch_yyjson: the package could not be downloaded, or is not the pinned file" >&2
    exit 1
}
mkdir "$work/made"
tar -xzf "$work"/yyjson-*.tar.gz -C "$work/made" --strip-components=1
rm -rf "$target"
mkdir "$target"
cp "$work/made/LICENSE" "$work/made/yyjson/yyjson.h" "$target"
cp "$work/made/yyjson/yyjson.c" "$target"
