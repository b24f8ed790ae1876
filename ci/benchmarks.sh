#!/usr/bin/env bash
# Compares the server with a plain Flask application, OpenVINO and LiteRT, and writes docs/benchmarks.md and its
# plots. It takes about ten minutes, in which the machine must have nothing else to do.
#
# It needs 6 GB for PyTorch and OpenVINO in .tools/benchmarks, or PYTHON set to an interpreter with the same
# packages. It compiles the load generator oha into .tools/bin.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-.tools/benchmarks/bin/python}
if ! command -v "$python" >/dev/null; then
    python3 -m venv .tools/benchmarks
    .tools/benchmarks/bin/pip install --quiet torch==2.13.0 openvino==2026.4.1 nncf==3.4.0 \
        ai-edge-litert==2.3.0 numpy==2.4.6 opencv-python-headless==5.0.0.93 flask==3.1.3 matplotlib==3.11.2 requests
fi
oha=${OHA:-.tools/bin/oha}
if ! command -v "$oha" >/dev/null; then
    cargo install --quiet --locked --root .tools oha@1.16.0
fi
cargo build --locked --release --bin ssd

PYTHONPATH=server/tests/reference exec "$python" ci/benchmarks/run.py "$oha"
