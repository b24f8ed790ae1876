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

run train "${bfloat16[@]}"
run export --checkpoint target/demo-checkpoint.safetensors --scenes 0 target/demo-first.safetensors
# What it still raises that is not there, it unlearns on twice as many scenes without objects.
run train "${bfloat16[@]}" --from target/demo-first.safetensors --frozen 4 --empty 2 --seed 5 --pool 5000 \
    --steps 1700 --learning-rate 0.00006 --validate-every 0 \
    --checkpoint target/demo-tuned.safetensors --log weights/tuning.csv
run export --checkpoint target/demo-tuned.safetensors
run plot
run plot weights/tuning.csv weights/tuning.svg
