#!/usr/bin/env bash
# Loads a server for SECONDS_IN_ALL (20 minutes), and fails on unexpected responses or a leak of memory or open files.
# The plot and the server's log go to target/soak. The environment sets the server's settings.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=.tools/soak/bin/python
if ! [ -x "$python" ]; then
    python3 -m venv .tools/soak
    .tools/soak/bin/pip install --quiet aiohttp==3.14.5 matplotlib==3.11.2 numpy==2.4.6 pillow==13.0.0
fi
cargo build --locked --release --bin ssd

mkdir -p target/soak
exec "$python" ci/soak/run.py "${SECONDS_IN_ALL:-1200}" target/soak
