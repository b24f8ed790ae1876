#!/usr/bin/env bash
# Names each program that a build needs and this machine lacks, and says how to install it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

missing=0
need() { # PROGRAM ADVICE
    command -v "$1" >/dev/null && return
    echo "missing: $1. $2" >&2
    missing=1
}
rustup="Install Rust by rustup (https://rustup.rs); rust-toolchain.toml then picks the version."
need cargo "$rustup"
want=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
# A distribution's cargo ignores rust-toolchain.toml.
if command -v cargo >/dev/null && ! cargo --version | grep -qF "cargo $want "; then
    echo "missing: Rust $want; this is $(cargo --version). $rustup" >&2
    missing=1
fi
need c++ "Install a C++ compiler (Debian, Ubuntu: sudo apt-get install g++; macOS: xcode-select --install)."
need python3 \
    "Install Python 3 (Debian, Ubuntu: sudo apt-get install python3 python3-pip; macOS: xcode-select --install)."
if command -v python3 >/dev/null && ! python3 -m pip --version >/dev/null 2>&1; then
    echo "missing: pip for python3. (Debian, Ubuntu: sudo apt-get install python3-pip)" >&2
    missing=1
fi
if [ "$(uname -m)" = x86_64 ] && ! command -v nasm >/dev/null; then
    echo "note: nasm is not installed, so JPEGs will decode three times slower. (Debian, Ubuntu: sudo apt-get install" \
        "nasm; after a build without it, also cargo clean --package mozjpeg-sys)" >&2
fi
exit $missing
