#!/usr/bin/env bash
# Writes what is generated from the program: the table of settings in README.md, server/openapi.json.
# Tests fail where the committed text differs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo build --locked --bin ssd
target/debug/ssd openapi >server/openapi.json
target/debug/ssd settings | python3 -c '
import sys
readme = open("README.md", encoding="utf-8").read()
begin, end = "<!-- settings: written by make docs -->\n", "<!-- /settings -->"
if begin not in readme or end not in readme:
    sys.exit("ci/docs.sh: README.md has lost the marks around the table of settings")
head, rest = readme.split(begin)
readme = head + begin + sys.stdin.read() + end + rest.split(end)[1]
open("README.md", "w", encoding="utf-8").write(readme)
'
