#!/usr/bin/env bash
# Tests the layout of the image from deploy/Dockerfile without a container engine: the static binary and the manifests
# in an otherwise empty, read-only directory, as the user of the image. Prints the figures of deploy/README.md.
#
#   deploy/check-image-layout.sh [BINARY]      # default: builds it with deploy/build-static.sh
#
# Needs root, for the mount namespace and the chroot.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ] || ! unshare --mount true 2>/dev/null; then
    echo "LEFT OUT: the image's layout (needs root and mount namespaces)"
    exit 0
fi
fail() { echo "FAILED: $*"; exit 1; }

binary=${1:-$(deploy/build-static.sh | tail -1)}
# The binary needs no dynamic loader.
if readelf -l "$binary" | grep -q INTERP; then fail "$binary is not static"; fi

scratch=$(mktemp -d)
root=$scratch/root
pids=()
cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$scratch"
}
trap cleanup EXIT
chmod 755 "$scratch"
mkdir "$root"
cp "$binary" "$root/campos-operator"
cp -R manifests "$root/manifests"
chmod -R go+rX "$root"

# shellcheck disable=SC2016
enter='mount --bind "$1" "$1" && mount -o remount,bind,ro,nosuid,nodev "$1" || exit 99
    if touch "$1/probe" 2>/dev/null; then echo "the root can be written to"; exit 99; fi
    root=$1; shift
    exec setpriv --no-new-privs "$(command -v chroot)" --userspec=65532:65532 --groups=65532 "$root" /campos-operator "$@"'
# Runs the operator with the environment of the image, and the variables before the first flag.
inside() {
    local environment=()
    while [[ $1 == *=* ]]; do environment+=("$1"); shift; done
    exec env -i PATH="$PATH" "${environment[@]}" unshare --mount bash -c "$enter" enter "$root" "$@"
}
wait_for() { # FILE TEXT
    for _ in $(seq 300); do
        grep -q "$2" "$1" && return
        sleep 0.1
    done
    cat "$1"
    fail "waited in vain for: $2"
}
says() { # TEXT COMMAND..
    local text=$1 said
    shift
    said=$( (inside "$@") 2>&1 || true)
    grep -q "$text" <<<"$said" || fail "$* does not say $text: $said"
}

# An address without a server. Another process can take a port that was just free.
nobody=127.0.0.1:1

# The main job, then the health check, then the shutdown.
log=$scratch/log
(inside demo --listen 127.0.0.1:0) >"$log" 2>&1 &
demo=$!
pids+=("$demo")
wait_for "$log" "some apps are held"
address=$(sed -n 's|.*open: \(http://[0-9.:]*\)/.*|\1|p' "$log" | head -1)
grep -E '^Uid:|^NoNewPrivs:|^CapEff:' "/proc/$demo/status"
says "^healthy: $address$" health --server "$address"
kill -TERM "$demo"
wait "$demo" || fail "the demo ended with $?"
tail -2 "$log"
says "no daemon at" health --server "http://$nobody"

# Time zones and certificates. Without certificates of the system, a request must reach the connection.
says "America/Sao_Paulo" explain -f /manifests/schedules/office-hours.yaml
says "refused" CAMPOSCLOUD_TOKEN=x plan --api-url "https://$nobody"
# Name resolution, with the files that a container engine provides.
mkdir "$root/etc" && echo "127.0.0.1 api.layout.test" >"$root/etc/hosts" && chmod -R go+rX "$root/etc"
says "refused" CAMPOSCLOUD_TOKEN=x plan --api-url "https://api.layout.test:${nobody##*:}"
if command -v openssl >/dev/null; then
    # A server with a certificate of a private authority: rejected, unless the authority is named.
    (cd "$scratch" && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.pem -subj "/CN=Layout CA" \
        -addext "basicConstraints=critical,CA:TRUE" &&
        openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj "/CN=api.layout.test" &&
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out server.pem \
            -extfile <(echo "subjectAltName=DNS:api.layout.test")) 2>/dev/null
    openssl s_server -accept 127.0.0.1:0 -cert "$scratch/server.pem" -key "$scratch/server.key" -www \
        >"$scratch/server.log" 2>&1 </dev/null &
    pids+=("$!")
    wait_for "$scratch/server.log" "ACCEPT 127"
    port=$(sed -n 's/^ACCEPT 127.0.0.1:\([0-9]*\).*/\1/p' "$scratch/server.log")
    install -m 644 "$scratch/ca.pem" "$root/ca.pem"
    says "not from an authority that this machine trusts" CAMPOSCLOUD_TOKEN=x plan --api-url "https://api.layout.test:$port"
    # The server is not CamposCloud, but this error comes after the handshake.
    says "the server answered 200" CAMPOSCLOUD_TOKEN=x SSL_CERT_FILE=/ca.pem plan --api-url "https://api.layout.test:$port"
else
    echo "LEFT OUT: certificates of an authority of one's own (no openssl)"
fi

# Time from the start of the process to its first line, and to /livez; the median of ten.
first=() alive=()
for _ in $(seq 10); do
    : >"$log"
    begin=$(date +%s%N)
    (inside CAMPOSCLOUD_TOKEN=x run --listen 127.0.0.1:0 --api-url "http://$nobody") >"$log" 2>&1 &
    run=$!
    pids+=("$run")
    until grep -q "started" "$log"; do kill -0 "$run" || fail "$(cat "$log")"; done
    first+=($((($(date +%s%N) - begin) / 10000)))
    port=$(sed -n 's/.*listen="127.0.0.1:\([0-9]*\)".*/\1/p' "$log" | head -1)
    until exec 3<>"/dev/tcp/127.0.0.1/$port" && printf 'GET /livez HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3 &&
        read -r line <&3 && [[ $line == *" 200 "* ]]; do :; done
    alive+=($((($(date +%s%N) - begin) / 10000)))
    exec 3>&-
    kill -TERM "$run"
    wait "$run" || fail "run ended with $?"
done
middle() { printf '%s\n' "$@" | sort -n | sed -n 6p | sed 's/..$/.&/; s/^\./0./'; }
echo "size: $(stat -c %s "$binary") bytes, $(gzip -c "$binary" | wc -c) compressed"
echo "start, with unshare, mount and chroot: first line after $(middle "${first[@]}") ms, /livez 200 after $(middle "${alive[@]}") ms"
echo "the image's layout works"
