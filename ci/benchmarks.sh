#!/usr/bin/env bash
# Compares the server with a plain Flask application and with other engines, and writes docs/benchmarks.md, its plots and
# README.md's tables. It takes about fifteen minutes, in which the machine must have nothing else to do.
#
# It needs 7 GB for the engines in .tools/benchmarks, or PYTHON set to an interpreter that has PyTorch and those packages
# that should be compared. It compiles the load generator oha into .tools/bin.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-.tools/benchmarks/bin/python}
if ! command -v "$python" >/dev/null; then
    python3 -m venv .tools/benchmarks
    .tools/benchmarks/bin/pip install --quiet torch==2.13.0 numpy==2.4.6 opencv-python-headless==5.0.0.93 \
        onnx==1.23.2 flask==3.1.3 matplotlib==3.11.2
    # A rival that does not install on this machine is left out.
    for engine in ai-edge-litert==2.3.0 ncnn==1.0.20261020 onnxruntime==1.32.0 "openvino==2026.4.1 nncf==3.4.0" pnnx==20261020; do
        # shellcheck disable=SC2086
        .tools/benchmarks/bin/pip install --quiet $engine || echo "ci/benchmarks.sh: without $engine" >&2
    done
fi
oha=${OHA:-.tools/bin/oha}
if ! command -v "$oha" >/dev/null; then
    cargo install --quiet --locked --root .tools oha@1.16.0
fi
cargo build --locked --release --bin ssd

PYTHONPATH=server/tests/reference exec "$python" ci/benchmarks/run.py "$oha"
