#!/bin/bash
# Puts ONNX Runtime's C library and header into the cache.  usage: tools/fetch_onnxruntime.sh
#
# Result: ${XDG_CACHE_HOME:-~/.cache}/modeld/onnxruntime-1.32.0/
#     lib/libonnxruntime.so.1.32.0, include/onnxruntime_c_api.h, LICENSE, ThirdPartyNotices.txt
# The library is the one inside the Python wheel; the wheel has no header, so that comes from
# Debian's libonnxruntime-dev of a later release (API 21, which newer libraries go on serving).
# Both downloads are pinned by checksum.  The folder appears whole or not at all.
set -euo pipefail

version=1.32.0
header_suite=trixie
machine=$(uname -m)
case $machine in
x86_64)
    debian_arch=amd64
    wheel_sum=5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d
    header_sum=14f7d959d5deacbcf1504830d4189f91fc67382b399ed9ae9d3aa9c4050ced08
    ;;
aarch64)
    debian_arch=arm64
    wheel_sum=2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c
    header_sum=d4b1967893865756c0fa8536be165259a8eb0e9068e60d322ba707ef4527e44e
    ;;
*)
    echo "fetch_onnxruntime: no ONNX Runtime package is known for $machine" >&2
    exit 1
    ;;
esac

cache=${XDG_CACHE_HOME:-$HOME/.cache}/modeld
target=$cache/onnxruntime-$version
[ ! -f "$target/.complete" ] || exit 0

mkdir -p "$cache"
work=$(mktemp -d "$cache/.onnxruntime.XXXXXX")
trap 'rm -rf "$work"' EXIT

fail() {
    echo "fetch_onnxruntime: $*" >&2
    exit 1
}

verify() { # FILE SUM
    local actual
    actual=$(sha256sum "$1" | cut -d' ' -f1)
    [ "$actual" = "$2" ] || fail "$(basename "$1") is not the file this version was tested with:
    expected SHA-256 $2
    received SHA-256 $actual
Nothing was installed.  If the package was replaced on purpose, change the sum in this script."
}

# Reads a later Debian release from the mirror that this machine already uses, without touching
# the machine's own package lists.
write_private_apt() { # FOLDER
    local uri
    uri=$(awk '
        /^URIs:/ && !found { found = $2 }
        $1 == "deb" && !found { for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) { found = $i; break } }
        END { print found }' \
        $(ls /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null))
    [ -n "$uri" ] || fail "no Debian mirror in /etc/apt: the header's package cannot be found"
    mkdir -p "$1/lists/partial" "$1/cache/archives/partial"
    : >"$1/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $header_suite main" \
        >"$1/sources.list"
    cat >"$1/apt.conf" <<CONF
APT::Architecture "$debian_arch";
APT::Architectures { "$debian_arch"; };
Acquire::Languages "none";
Dir::Etc::sourcelist "$1/sources.list";
Dir::Etc::sourceparts "-";
Dir::State "$1";
Dir::State::lists "$1/lists";
Dir::State::status "$1/status";
Dir::Cache "$1/cache";
CONF
}

cd "$work"
echo "fetching ONNX Runtime $version ($machine)"
python3 -m pip -q download --disable-pip-version-check --no-deps --only-binary=:all: \
    --python-version 311 --platform "manylinux_2_28_$machine" -d . "onnxruntime==$version" \
    || fail "pip could not download onnxruntime==$version"
wheel=$(echo onnxruntime-"$version"-*.whl)
verify "$wheel" "$wheel_sum"

write_private_apt "$work/apt"
APT_CONFIG=$work/apt/apt.conf apt-get -q update >apt.log 2>&1 &&
    APT_CONFIG=$work/apt/apt.conf apt-get -q download libonnxruntime-dev >>apt.log 2>&1 || {
    tail -n 20 apt.log >&2
    fail "apt could not download libonnxruntime-dev of $header_suite"
}
header=$(echo libonnxruntime-dev_*.deb)
verify "$header" "$header_sum"

mkdir -p whole/lib whole/include deb
unzip -q "$wheel" "onnxruntime/capi/libonnxruntime.so.$version" onnxruntime/LICENSE \
    onnxruntime/ThirdPartyNotices.txt
mv "onnxruntime/capi/libonnxruntime.so.$version" whole/lib/
mv onnxruntime/LICENSE onnxruntime/ThirdPartyNotices.txt whole/
dpkg-deb -x "$header" deb
cp deb/usr/include/onnxruntime/onnxruntime_c_api.h whole/include/
chmod -R u=rwX,go=rX whole
touch whole/.complete
if [ -e "$target" ]; then mv -T "$target" incomplete; fi
mv -T whole "$target"
