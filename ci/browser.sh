#!/usr/bin/env bash
# Tests the playground and /docs in a headless Chromium: `make browser-test` runs it.
#
#   ci/browser.sh [TEST...]     all tests by default; a test is PlaygroundTest.test_... or ProxyTest.test_...
#   ci/browser.sh screenshot    writes docs/playground.webp and docs/playground-live.webp
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

first() { # PROGRAM...: the path of the first that exists
    for program; do
        command -v "$program" && return
    done
}
BROWSER=$(first chromium chromium-browser google-chrome || true)
# GitHub's runners set CHROMEWEBDRIVER to the folder of the driver for their Chrome.
DRIVER=$(first "${CHROMEWEBDRIVER:+$CHROMEWEBDRIVER/chromedriver}" chromedriver || true)
if [ -z "$BROWSER" ] || [ -z "$DRIVER" ]; then
    echo "ci/browser.sh: needs Chromium and its driver (Debian: sudo apt-get install chromium chromium-driver)" >&2
    exit 1
fi
# The screenshots show the times of a release build.
case ${1-} in screenshot) profile=release ;; *) profile=dev ;; esac
SERVER=target/${profile/dev/debug}/ssd
export BROWSER DRIVER SERVER

ci/tools.sh selenium
cargo build --locked --profile $profile --bin ssd
exec .tools/browser/bin/python ci/browser/playground_test.py "$@"
