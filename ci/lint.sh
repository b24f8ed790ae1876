#!/usr/bin/env bash
# Lints all shell scripts, YAML files and workflows, except files that git ignores. cargo lints Rust, and ci/chart.sh
# the chart.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

ci/tools.sh shellcheck yamllint actionlint
files() { git ls-files --cached --others --exclude-standard "$@"; }
# Scripts are recognised by their first line, because some have no extension. Markdown is left out, because documents
# quote scripts.
scripts=$(files -z ':!*.md' | xargs -0 grep -lIE -m 1 '^#!(/usr/bin/env (ba)?sh|/bin/(ba)?sh)$' || true)
yaml=$(files '*.yaml' '*.yml')
# shellcheck disable=SC2086 # one argument a line
{
    # Also the files that they source, which have no such line.
    .tools/bin/shellcheck --check-sourced $scripts
    .tools/bin/yamllint --strict $yaml
}
.tools/bin/actionlint -shellcheck .tools/bin/shellcheck

# macOS has bash 3.2 and BSD's tools, and shellcheck does not report what they lack. Under `set -u`, bash 3.2 also
# refuses "${name[@]}" of an empty array.
bash4='mapfile|readarray|coproc|(declare|local|typeset) -[a-z]*[An]|wait -n|[|]&|&>>|;;&|%\([^)]*\)T|BASHPID|EPOCH|globstar'
bash4+='|\[\[ -v|\$\{[A-Za-z_]+(\[[^]]*\])?(,|\^|@[A-Z])|\$\{[A-Za-z_]+\[-'
gnu='xargs -[dr]|sed -i([^.]|$)|sed [^|]*\\[|+?]|readlink -f|realpath|grep -[a-zA-Z]*P|stat -c|sort -V|date -d|nproc|wc -l|mktemp --'
empty=$(files '*.sh' ':!ci/lint.sh' | xargs grep -hoE '[a-z_]+=\(\)' | sort -u | sed 's/=.*//' | paste -sd '|' -)
if files '*.sh' .ci/run ':!ci/lint.sh' | xargs grep -nE "$bash4|$gnu|\"[$][{]($empty)\[@\]\}\"" | grep -vE '[[]@]\+"'; then
    echo "lint: macOS runs none of the lines above: they need bash 4, or GNU's tools. Instead of wc -l, whose output BSD" \
        "pads, use grep -c ''; for an array that may be empty, \${name[@]+\"\${name[@]}\"}" >&2
    exit 1
fi
count() { grep -c '' <<<"$1"; }
echo "lint: $(count "$scripts") scripts and $(count "$yaml") YAML files are clean"
