#!/usr/bin/env bash
# Names every program that a build needs and this machine lacks, with the way to get it.
set -euo pipefail

missing=0
need() { # PROGRAM ADVICE
    command -v "$1" >/dev/null && return
    echo "missing: $1. $2" >&2
    missing=1
}
need cargo "Install Rust by rustup (https://rustup.rs); rust-toolchain.toml then picks the version."
need c++ "Install a C++ compiler (Debian, Ubuntu: sudo apt-get install g++)."
need python3 "Install Python 3 (Debian, Ubuntu: sudo apt-get install python3 python3-pip)."
if command -v python3 >/dev/null && ! python3 -m pip --version >/dev/null 2>&1; then
    echo "missing: pip for python3. (Debian, Ubuntu: sudo apt-get install python3-pip)" >&2
    missing=1
fi
exit $missing
