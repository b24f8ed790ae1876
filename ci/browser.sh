#!/usr/bin/env bash
# Tries the playground in a headless Chromium, as people use it: what `make browser-test` runs.
#
#   ci/browser.sh [TEST...]     all by default; one is PlaygroundTest.test_...
#   ci/browser.sh screenshot    writes docs/playground.webp
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

first() { # PROGRAM...: the path of the first that is there
    for program; do
        command -v "$program" && return
    done
}
BROWSER=$(first chromium chromium-browser google-chrome || true)
# GitHub's runners name the folder of the driver that belongs to their Chrome.
DRIVER=$(first "${CHROMEWEBDRIVER:+$CHROMEWEBDRIVER/chromedriver}" chromedriver || true)
if [ -z "$BROWSER" ] || [ -z "$DRIVER" ]; then
    echo "ci/browser.sh: needs Chromium and its driver (Debian: sudo apt-get install chromium chromium-driver)" >&2
    exit 1
fi
# The times in the screenshot are to be those of a server in use.
case ${1-} in screenshot) profile=release ;; *) profile=dev ;; esac
SERVER=target/${profile/dev/debug}/ssd
export BROWSER DRIVER SERVER

ci/tools.sh selenium
cargo build --locked --profile $profile --bin ssd
exec .tools/browser/bin/python ci/browser/playground_test.py "$@"
