#!/usr/bin/env bash
# Keeps a server busy for SECONDS_IN_ALL (20 minutes) and tells whether it wears out: unexpected answers, memory,
# open files. What it found goes to target/soak. The settings are those of the environment.
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
