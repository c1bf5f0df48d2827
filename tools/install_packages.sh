#!/bin/bash
# Installs the Debian packages a job needs.  usage: tools/install_packages.sh GROUP...
# Groups: build, check, bench, peers.  As root it runs apt itself; otherwise it prints the command and
# exits 1.  With nothing missing it only asks dpkg once.
set -euo pipefail

declare -A groups=(
    [build]="build-essential cmake ninja-build pkg-config zlib1g-dev libyaml-dev libnghttp2-dev libcmocka-dev
             libcurl4-openssl-dev libssl-dev openssl protobuf-compiler python3 python3-venv python3-pip
             unzip curl ca-certificates"
    [check]="clang clang-format clang-tidy libclang-rt-14-dev valgrind abigail-tools prometheus
             strace node-llhttp"
    [bench]="nginx-light libsimdjson-dev valgrind procps nghttp2-client libgrpc-dev"
    [peers]="nghttp2-client testssl.sh openssl"
)

wanted=()
for group in "$@"; do
    if [[ ! -v groups[$group] ]]; then
        echo "install_packages: no group named '$group' (there are: ${!groups[*]})" >&2
        exit 2
    fi
    read -r -d '' -a names <<<"${groups[$group]}" || true
    wanted+=("${names[@]}")
done
if ((${#wanted[@]} == 0)); then
    echo "usage: install_packages.sh GROUP...   (${!groups[*]})" >&2
    exit 2
fi

# dpkg-query exits 1 when it does not know one of the names; those simply have no line here.
present=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${wanted[@]}" 2>/dev/null || true)
missing=()
for name in "${wanted[@]}"; do
    [[ $'\n'$present$'\n' == *$'\n'"$name installed"$'\n'* ]] || missing+=("$name")
done
((${#missing[@]} > 0)) || exit 0

if ((EUID != 0)); then
    echo "These Debian packages are missing.  Install them and run this again:" >&2
    echo "    sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get -q update && apt-get -q -y install --no-install-recommends "${missing[@]}"; } \
        >"$log" 2>&1 </dev/null; then
    tail -n 30 "$log" >&2
    echo "install_packages: apt-get failed (its last lines are above)" >&2
    exit 1
fi
