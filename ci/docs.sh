#!/usr/bin/env bash
# Writes what is generated: from the program the table of settings and the example's answer in README.md, and
# server/openapi.json; the programs in docs/clients.md. Tests fail where the committed text differs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo build --locked --bin ssd
target/debug/ssd openapi >server/openapi.json

# Puts the standard input between the marks around SECTION in FILE.
section() { # FILE SECTION
    python3 -c '
import sys
file, section = sys.argv[1:]
text = open(file, encoding="utf-8").read()
begin, end = f"<!-- {section}: written by make docs -->\n", f"<!-- /{section} -->"
if begin not in text or end not in text:
    sys.exit(f"ci/docs.sh: {file} has lost the marks around its section {section}")
head, rest = text.split(begin)
text = head + begin + sys.stdin.read() + end + rest.split(end)[1]
open(file, "w", encoding="utf-8").write(text)
' "$@"
}

target/debug/ssd settings | section README.md settings
# In the precision that every processor has.
env -i PATH="$PATH" PRECISION=f32 TOP_K=3 WEIGHTS_PATH=weights/ssd_mobilenet_v2_oidv4.safetensors \
    target/debug/ssd predict --json data/samples/cat.png | python3 -c '
import json, sys
answer, fence = json.load(sys.stdin), "\x60" * 3
del answer["file"]  # of the command, not of the API
found = ",\n".join(f"    {json.dumps(each)}" for each in answer.pop("predictions"))
print(fence + "json\n" + json.dumps(answer)[:-1] + ", \"predictions\": [\n" + found + "\n]}\n" + fence)
' | section README.md answer

for each in sh:bash py:python mjs:javascript rs:rust; do
    program=client.${each%:*}
    { echo "\`\`\`${each#*:}" && cat "server/examples/$program" && echo "\`\`\`"; } |
        section docs/clients.md "$program"
done
