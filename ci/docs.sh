#!/usr/bin/env bash
# Writes what is generated from the program: the table of settings and the example's answer in
# README.md, and server/openapi.json. Tests fail where the committed text differs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo build --locked --bin ssd
target/debug/ssd openapi >server/openapi.json

# Puts the standard input between the marks around SECTION in README.md.
section() {
    python3 -c '
import sys
section, readme = sys.argv[1], open("README.md", encoding="utf-8").read()
begin, end = f"<!-- {section}: written by make docs -->\n", f"<!-- /{section} -->"
if begin not in readme or end not in readme:
    sys.exit(f"ci/docs.sh: README.md has lost the marks around its section {section}")
head, rest = readme.split(begin)
readme = head + begin + sys.stdin.read() + end + rest.split(end)[1]
open("README.md", "w", encoding="utf-8").write(readme)
' "$1"
}

target/debug/ssd settings | section settings
# In the precision that every processor has.
env -i PATH="$PATH" PRECISION=f32 TOP_K=3 WEIGHTS_PATH=weights/demo.safetensors \
    target/debug/ssd predict --json data/samples/street.jpg | python3 -c '
import json, sys
answer, fence = json.load(sys.stdin), "\x60" * 3
del answer["file"]  # of the command, not of the API
found = ",\n".join(f"    {json.dumps(each)}" for each in answer.pop("predictions"))
print(fence + "json\n" + json.dumps(answer)[:-1] + ", \"predictions\": [\n" + found + "\n]}\n" + fence)
' | section answer
