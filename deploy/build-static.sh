#!/bin/sh
# Builds the binary of the image and of releases: one static file that runs in an empty directory, and the same file from
# the same source, wherever it lies.
#
#   deploy/build-static.sh [TARGET]      # default: this machine's, such as x86_64-unknown-linux-gnu
#
# Its path is the last line on stdout. Needs the Rust toolchain (with the target's std) and a C compiler for the target.
set -eu
cd "$(dirname "$0")/.."
target=${1:-$(uname -m)-unknown-linux-gnu}
cargo_home=${CARGO_HOME:-$HOME/.cargo}
us=$(printf '\037') # between flags: paths may have spaces

# glibc is linked statically. It needs nothing of the system but /etc/resolv.conf and /etc/hosts to look names up.
flags="-Ctarget-feature=+crt-static"
# Randomness by the system call. The default looks a function up at run time, which a static binary cannot, and then
# needs /dev/urandom, which an empty directory has not.
flags="$flags$us--cfg${us}getrandom_backend=\"linux_getrandom\""
# No path of the machine that it is built on.
flags="$flags$us--remap-path-prefix=$PWD=/src$us--remap-path-prefix=$cargo_home=/cargo"
export CARGO_ENCODED_RUSTFLAGS="$flags"
export CFLAGS="${CFLAGS:-} -ffile-prefix-map=$PWD=/src -ffile-prefix-map=$cargo_home=/cargo"
# Nor the moment, for whatever asks.
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}"

cargo build --release --locked --target "$target" --bin campos-operator >&2
printf '%s\n' "${CARGO_TARGET_DIR:-target}/$target/release/campos-operator"
