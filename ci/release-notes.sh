#!/usr/bin/env bash
# Prints the section of a version in CHANGELOG.md, and fails if there is none.
#
#   ci/release-notes.sh VERSION
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=${1:?usage: ci/release-notes.sh VERSION}
# From the version's heading to the next one, or to the links at the end.
notes=$(awk -v heading="## [$version]" '
    index($0, "## ") == 1 { inside = index($0, heading) == 1; next }
    /^\[[^]]*\]: / { inside = 0 }
    inside { print }
' CHANGELOG.md | sed -e '/./,$!d')
if [ -z "$notes" ]; then
    echo "ci/release-notes.sh: CHANGELOG.md has no section '## [$version]': rename the heading Unreleased" >&2
    exit 1
fi
echo "$notes"
