#!/usr/bin/env bash
# Checks the OpenAPI document, the programs of docs/clients.md and other protocols: what `make contract` runs.
#
#   ci/contract.sh [CHECK...]    all by default
#
#   lint         the document follows the rules of ci/contract/redocly.yaml
#   generated    a client generated from it gets the same response as a plain request
#   clients      the programs of docs/clients.md print the response, retry and give up
#   protocols    clients of the Open Inference Protocol and of DeepStack get the response of a plain request, the
#                examples of docs/clients.md and docs/kserve.md run, and KServe has the fields of the manifests
#   fuzz         2,000 requests generated from the document get responses that it describes
#
# A check that needs a missing program is skipped and listed at the end; with CI=true it fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ci/soon.sh
checks=(lint generated clients protocols fuzz)

work=$(mktemp -d)
trap 'kill "${server-}" 2>/dev/null || true; rm -rf "$work"' EXIT

die() {
    echo "ci/contract.sh: $*" >&2
    exit 1
}

skipped=()
# needs "PROGRAM..." CHECK: succeeds if the programs that the check needs are installed.
needs() {
    local program
    for program in $1; do
        command -v "$program" >/dev/null && continue
        skip "$2" "$program"
        return 1
    done
}

skip() { # CHECK NEED
    [ "${CI-}" != true ] || die "$1 needs $2, which is not installed"
    skipped+=("$1, which needs $2")
}

# Starts a server on a free port, with the model that ships, and exports its address and login. Its low
# threshold gives more than one object.
serve() {
    cargo build --locked --workspace --bin ssd --example client
    env -i PATH="$PATH" PORT=0 THRESHOLD=0.1 WEIGHTS_PATH=weights/ssd_mobilenet_v2_oidv4.safetensors \
        target/debug/ssd >"$work/log" 2>&1 &
    server=$!
    soon 60 grep -q 'Running on' "$work/log" || { cat "$work/log" >&2; die "the server does not start"; }
    SSD_URL=$(sed -n 's|.*Running on \(http://.*\)/.*|\1|p' "$work/log")
    export SSD_URL SSD_USERNAME=ugain SSD_PASSWORD=ugain
}

lint() {
    needs npm "the check lint" || return 0
    ci/tools.sh redocly
    .tools/bin/redocly lint --config ci/contract/redocly.yaml server/openapi.json
}

generated() {
    .tools/bin/openapi-python-client generate --meta none --config ci/contract/generator.yaml \
        --path server/openapi.json --output-path "$work/generated/client" >"$work/generator" 2>&1 ||
        { cat "$work/generator"; return 1; }
    # The generator supports JSON, forms and octet streams, but no other bodies.
    if grep -E '^(Unsupported|Unable|Cannot|Failure)' "$work/generator" | grep -v '^Unsupported content type image/'; then
        die "the generator could not convert the lines above"
    fi
    PYTHONPATH=$work/generated .tools/contract/bin/python ci/contract/generated_test.py
}

clients() {
    local program
    for program in sh:curl\ jq mjs:node py: rs:; do
        needs "${program#*:}" "client.${program%:*}" || continue
        echo "contract: client.${program%:*}"
        .tools/contract/bin/python ci/contract/clients_test.py "${program%:*}"
    done
}

protocols() {
    if ! python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'; then
        skip "the check protocols" "Python 3.11, 3.12 or 3.13"
        return
    fi
    ci/tools.sh tritonclient
    .tools/protocols/bin/python ci/contract/kserve_test.py
    .tools/protocols/bin/python ci/contract/protocols_test.py
}

fuzz() {
    local hooks=$PWD/ci/contract/pictures.py schemathesis=$PWD/.tools/bin/schemathesis
    # schemathesis writes files to the working directory.
    (cd "$work" && SCHEMATHESIS_HOOKS=$hooks PYTHONDONTWRITEBYTECODE=1 "$schemathesis" run "$SSD_URL/openapi.json" \
        --auth "$SSD_USERNAME:$SSD_PASSWORD" --checks all --max-examples 2000 --seed 20260101 \
        --report har --report-har-path fuzz.har) >"$work/fuzz" || { cat "$work/fuzz"; return 1; }
    .tools/contract/bin/python - "$work/fuzz.har" <<'PYTHON'
import collections, json, sys

entries = json.load(open(sys.argv[1]))["log"]["entries"]
seen = collections.Counter(entry["response"]["status"] for entry in entries)
print(len(entries), "requests; responses by status:", ", ".join(f"{status}: {count}" for status, count in sorted(seen.items())))
if len(entries) < 2000:
    sys.exit("fewer than 2,000")
PYTHON
}

ci/tools.sh openapi-python-client schemathesis
serve
for check in "${@:-${checks[@]}}"; do
    case " ${checks[*]} " in *" $check "*) ;; *) die "no check '$check': ${checks[*]}" ;; esac
    echo "contract: $check"
    "$check"
done
for each in ${skipped[@]+"${skipped[@]}"}; do
    echo "NOT CHECKED: $each" >&2
done
