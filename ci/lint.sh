#!/usr/bin/env bash
# Lints all shell scripts, YAML files and workflows, except files that git ignores. cargo lints Rust, and ci/chart.sh
# the chart.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

ci/tools.sh shellcheck yamllint actionlint
files() { git ls-files --cached --others --exclude-standard "$@"; }
# Scripts are recognised by their first line, because some have no extension. Markdown is left out, because documents
# quote scripts.
mapfile -t scripts < <(files ':!*.md' | xargs -d '\n' grep -lIE -m 1 '^#!/(usr/bin/env (ba)?sh|bin/(ba)?sh)$')
# Also the files that they source, which have no such line.
.tools/bin/shellcheck --check-sourced "${scripts[@]}"
mapfile -t yaml < <(files '*.yaml' '*.yml')
.tools/bin/yamllint --strict "${yaml[@]}"
.tools/bin/actionlint -shellcheck .tools/bin/shellcheck
echo "lint: ${#scripts[@]} scripts and ${#yaml[@]} YAML files are clean"
