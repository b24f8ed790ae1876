#!/usr/bin/env bash
# Sets up a new development container: packages, the compiler, libtorch and the tools.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
sudo apt-get update
sudo apt-get install --yes --no-install-recommends build-essential nasm pkg-config python3 python3-pip python3-venv
rustup toolchain install
make libtorch
ci/tools.sh
