#!/usr/bin/env bash
# Writes generated text: the table of settings and the example response in README.md, server/openapi.json, and the
# programs in docs/clients.md. A test fails if the committed text differs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo build --locked --bin ssd
target/debug/ssd openapi >server/openapi.json

# section FILE SECTION: writes the standard input between the marks of SECTION.
section() {
    python3 -c '
import sys
file, section = sys.argv[1:]
text = open(file, encoding="utf-8").read()
begin, end = f"<!-- {section}: written by make docs -->\n", f"<!-- /{section} -->"
if begin not in text or end not in text:
    sys.exit(f"ci/docs.sh: {file} lacks the marks of its section {section}")
head, rest = text.split(begin)
text = head + begin + sys.stdin.read() + end + rest.split(end)[1]
open(file, "w", encoding="utf-8").write(text)
' "$@"
}

target/debug/ssd settings | section README.md settings
# f32, which every processor has.
env -i PATH="$PATH" PRECISION=f32 TOP_K=3 WEIGHTS_PATH=weights/ssd_mobilenet_v2_oidv4.safetensors \
    target/debug/ssd predict --json data/samples/cat.png | python3 -c '
import json, sys
response, fence = json.load(sys.stdin), "\x60" * 3
del response["file"]  # The API has no such field.
predictions = ",\n".join(f"    {json.dumps(each)}" for each in response.pop("predictions"))
print(fence + "json\n" + json.dumps(response)[:-1] + ", \"predictions\": [\n" + predictions + "\n]}\n" + fence)
' | section README.md response

for each in sh:bash py:python mjs:javascript rs:rust; do
    program=client.${each%:*}
    { echo "\`\`\`${each#*:}" && cat "server/examples/$program" && echo "\`\`\`"; } |
        section docs/clients.md "$program"
done
