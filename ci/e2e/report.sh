# Named checks: sourced by ci/e2e.sh.
# shellcheck shell=bash disable=SC2154 # ci/e2e.sh sets $work

passed=0
failed=0

# check NAME COMMAND...: prints PASS or FAIL, the name and the time; and when the command fails, what it
# said and what the cluster has to say.
check() {
    local name=$1 start=$SECONDS status
    shift
    set +e
    (set -euo pipefail && "$@") >"$work/said" 2>&1
    status=$?
    set -e
    if [ $status = 0 ]; then
        passed=$((passed + 1))
        printf 'PASS  %-76s %4d s\n' "$name" $((SECONDS - start))
    else
        failed=$((failed + 1))
        printf 'FAIL  %-76s %4d s\n' "$name" $((SECONDS - start))
        { tail -n 400 "$work/said"; explain; } | sed 's/^/      | /' || true
    fi
}

# must NAME COMMAND...: as check; without it, what follows makes no sense.
must() {
    local before=$failed
    check "$@"
    if [ $failed != "$before" ]; then
        summary
        exit 1
    fi
}

# What people would type to find out.
explain() {
    echo "--- kubectl get nodes,pods"
    kubectl get nodes,pods --output wide
    echo "--- kubectl describe pods"
    kubectl describe pods --selector app.kubernetes.io/name=ssd | tail -n 100
    echo "--- kubectl get events"
    kubectl get events --sort-by .lastTimestamp | tail -n 25
    echo "--- kubectl logs"
    kubectl logs --selector app.kubernetes.io/name=ssd --all-containers --prefix --tail 15
    echo "--- kubectl logs --previous, of pods that started again"
    kubectl logs --selector app.kubernetes.io/name=ssd --all-containers --prefix --tail 15 --previous 2>/dev/null || true
} 2>&1

# The last line, in a form that CI reads.
summary() { echo "$passed passed, $failed failed"; }

same() { # WHAT EXPECTED ACTUAL
    [ "$2" = "$3" ] || {
        echo "$1: expected '$2', but it is '$3'"
        return 1
    }
}
