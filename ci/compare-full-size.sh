#!/usr/bin/env bash
# Compares the server with the plain PyTorch reference on full-size weights (105 MB, seeded) in both formats of .pth,
# and prints the server's memory over many requests.
#
#   ci/compare-full-size.sh [PICTURE...]     by default the photograph of the tests
#
# CI does not run it: it needs 5 GB for PyTorch in .tools/reference, or PYTHON set to an interpreter with torch, numpy,
# opencv-python-headless and requests. REQUESTS (500) is the number of requests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

pictures=("$@")
[ ${#pictures[@]} -gt 0 ] || pictures=(server/tests/data/cat.png)
requests=${REQUESTS:-500}
python=${PYTHON:-.tools/reference/bin/python}
if ! command -v "$python" >/dev/null; then
    python3 -m venv .tools/reference
    .tools/reference/bin/pip install --quiet torch==2.13.0 numpy opencv-python-headless requests
fi
cargo build --locked --release --bin ssd

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$work"' EXIT

serve() { # WEIGHTS: sets $server and $url
    : >"$work/log"
    PORT=0 PRECISION=f32 WEIGHTS_PATH=$1 target/release/ssd 2>"$work/log" &
    server=$!
    url=
    for _ in $(seq 300); do
        url=$(sed -n 's/.*Running on \(http:.*\)\//\1/p' "$work/log")
        [ -z "$url" ] || return 0
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    cat "$work/log" >&2
    return 1
}

resident() { # memory in MB: now and the maximum
    awk '/VmRSS|VmHWM/ { printf "%s %d MB  ", $1, $2 / 1024 }' "/proc/$server/status"
    echo
}

for form in legacy zip; do
    "$python" server/tests/reference/make_weights.py "$work/$form.pth" 3 21 "$form"
    serve "$work/$form.pth"
    echo "$form: loaded. $(resident)"
    "$python" server/tests/reference/compare.py "$work/$form.pth" "$url" "${pictures[@]}"
    if [ "$form" = legacy ]; then
        for part in 1 2 3 4 5; do
            for _ in $(seq $((requests / 5))); do
                curl --silent --fail --output /dev/null -u ugain:ugain -F "image=@${pictures[0]}" "$url/predict"
            done
            echo "after $((part * requests / 5)) requests: $(resident)"
        done
    fi
    kill "$server"
    wait "$server"
done
