#!/usr/bin/env bash
# Converts the model that ships again, and compares byte for byte. Says so where the package cannot be had.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

package=${XDG_CACHE_HOME:-$HOME/.cache}/ssd-mobilenet/objectron.tgz
if [ ! -e "$package" ] && ! npm view @mediapipe/objectron version >/dev/null 2>&1; then
    echo "convert_test: NOT converted again: npm is missing, or does not reach its registry"
    exit
fi
./convert.sh --check
