#!/usr/bin/env bash
# Fuzzes the readers of weights files, labels and pictures: each target of server/fuzz for SECONDS_EACH (20 minutes).
# `make fuzz` runs it.
#
#   ci/fuzz.sh [TARGET...]    all by default
#
# Inputs that reach new code are kept in server/fuzz/corpus, and inputs that crash a target in server/fuzz/artifacts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=0.13.2
cargo fuzz --version 2>/dev/null | grep -qxF "cargo-fuzz $version" ||
    cargo install --quiet --locked --version "$version" cargo-fuzz

# The same versions of the crates as the server's.
cp Cargo.lock server/fuzz/Cargo.lock
# Only nightly compilers have sanitizers; this enables them in the pinned one.
export RUSTC_BOOTSTRAP=1
# libtorch never frees some of its memory, which is not a leak.
export ASAN_OPTIONS=detect_leaks=0
# libjpeg is C: clang compiles it with the same sanitizer and coverage.
command -v clang >/dev/null || {
    echo "ci/fuzz.sh: needs clang (Debian, Ubuntu: sudo apt-get install clang)" >&2
    exit 1
}
export CC=$PWD/ci/fuzz/cc.sh
cd server
cargo fuzz build
# shellcheck disable=SC2046 # one argument a target
[ $# -gt 0 ] || set -- $(cargo fuzz list)
for target; do
    echo "fuzz: $target"
    mkdir -p "fuzz/corpus/$target"
    # The targets check their own limits; these options stop a target that hangs on an input. 64 KiB is long enough:
    # `pickle_repeated` makes long files from short ones.
    cargo fuzz run "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -dict="fuzz/dictionaries/$target" -max_total_time="${SECONDS_EACH:-1200}" -max_len=65536 -timeout=20 \
        -malloc_limit_mb=256 -rss_limit_mb=4096 -print_final_stats=1
done
