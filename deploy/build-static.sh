#!/bin/sh
# Builds the binary of the image and of releases: one static file that runs in an empty directory. The same source gives
# the same file in any directory.
#
#   deploy/build-static.sh [TARGET]      # default: the target of this machine, such as x86_64-unknown-linux-gnu
#
# Prints the path as the last line on stdout. Needs the Rust toolchain (with the target's std) and a C compiler for the target.
set -eu
cd "$(dirname "$0")/.."
target=${1:-$(uname -m)-unknown-linux-gnu}
cargo_home=${CARGO_HOME:-$HOME/.cargo}
us=$(printf '\037') # between flags: paths may have spaces

# glibc is linked statically. From the system it needs only /etc/resolv.conf and /etc/hosts, to resolve names.
flags="-Ctarget-feature=+crt-static"
# Read random numbers with the system call. The default resolves a function at run time, which a static binary cannot do,
# and then needs /dev/urandom, which an empty directory does not have.
flags="$flags$us--cfg${us}getrandom_backend=\"linux_getrandom\""
# Without symbols, since an image is pulled often: a panic still names its file and line.
flags="$flags$us-Cstrip=symbols"
# Remove the paths of the build machine.
flags="$flags$us--remap-path-prefix=$PWD=/src$us--remap-path-prefix=$cargo_home=/cargo"
export CARGO_ENCODED_RUSTFLAGS="$flags"
export CFLAGS="${CFLAGS:-} -ffile-prefix-map=$PWD=/src -ffile-prefix-map=$cargo_home=/cargo"
# Fix the build time.
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}"

cargo build --release --locked --features kubernetes --target "$target" --bin campos-operator >&2
printf '%s\n' "${CARGO_TARGET_DIR:-target}/$target/release/campos-operator"
