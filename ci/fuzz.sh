#!/usr/bin/env bash
# Fuzzes what reads bytes from outside, each target of server/fuzz for SECONDS_EACH (20 minutes): what `make fuzz`
# runs.
#
#   ci/fuzz.sh [TARGET...]    all by default
#
# What reached something new is kept in server/fuzz/corpus, and what broke a target in server/fuzz/artifacts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=0.13.2
cargo fuzz --version 2>/dev/null | grep -qxF "cargo-fuzz $version" ||
    cargo install --quiet --locked --version "$version" cargo-fuzz

# The crates are those of the server.
cp Cargo.lock server/fuzz/Cargo.lock
# Sanitizers are for nightly compilers only; this lets the pinned one have them.
export RUSTC_BOOTSTRAP=1
# What libtorch keeps is no leak.
export ASAN_OPTIONS=detect_leaks=0
cd server
cargo fuzz build
mapfile -t all < <(cargo fuzz list)
for target in "${@:-${all[@]}}"; do
    echo "fuzz: $target"
    mkdir -p "fuzz/corpus/$target"
    # The targets count what they take; these limits are for what they never come back from. An input of
    # 64 KiB is long enough: `pickle_repeated` makes long files of short ones.
    cargo fuzz run "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -dict="fuzz/dictionaries/$target" -max_total_time="${SECONDS_EACH:-1200}" -max_len=65536 -timeout=20 \
        -malloc_limit_mb=256 -rss_limit_mb=4096 -print_final_stats=1
done
