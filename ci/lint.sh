#!/usr/bin/env bash
# Lints every shell script, YAML file and workflow that git knows. Rust is linted by cargo, the chart by
# ci/chart.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

ci/tools.sh shellcheck yamllint actionlint
files() { git ls-files --cached --others --exclude-standard "$@"; }
# By their first line: not every script has an ending. (Documents show scripts.)
mapfile -t scripts < <(files ':!*.md' | xargs -d '\n' grep -lIE -m 1 '^#!/(usr/bin/env (ba)?sh|bin/(ba)?sh)$')
# Also what they source, which has no first line of its own.
.tools/bin/shellcheck --check-sourced "${scripts[@]}"
mapfile -t yaml < <(files '*.yaml' '*.yml')
.tools/bin/yamllint --strict "${yaml[@]}"
.tools/bin/actionlint -shellcheck .tools/bin/shellcheck
echo "lint: ${#scripts[@]} scripts and ${#yaml[@]} YAML files are clean"
