#!/usr/bin/env bash
# Trains the demo model, step for step as the one in weights/ was trained, and measures it. An
# interrupted run goes on from its last checkpoint when this is called again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# libtorch's own threads would share out every layer; the two replicas share out batches instead.
export OMP_NUM_THREADS=1
# Keeps the memory of one step for the next.
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592

bfloat16=()
if grep -qw avx512_bf16 /proc/cpuinfo; then
    bfloat16=(--bfloat16)
fi
run() {
    cargo run --locked --release --package ssd-train -- "$@"
}

run train --log weights/training.csv "${bfloat16[@]}"
run export
run plot
