#!/usr/bin/env bash
# Converts the model that ships again, and compares the bytes. Skipped if the model's package cannot be downloaded.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

package=${XDG_CACHE_HOME:-$HOME/.cache}/ssd-mobilenet/objectron.tgz
if [ ! -e "$package" ] && ! npm view @mediapipe/objectron version >/dev/null 2>&1; then
    echo "convert_test: SKIPPED: npm is missing, or does not reach its registry"
    exit
fi
./convert.sh --check
