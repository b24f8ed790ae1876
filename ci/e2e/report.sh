# Runs and reports named checks. Sourced by ci/e2e.sh.
# shellcheck shell=bash disable=SC2154 # ci/e2e.sh sets $work

passed=0
failed=0
skipped=0

# check NAME COMMAND...: prints PASS or FAIL, the name and the time. If COMMAND fails, also prints its output and the
# state of the cluster.
check() {
    local name=$1 start=$SECONDS status
    shift
    set +e
    (set -euo pipefail && "$@") >"$work/output" 2>&1
    status=$?
    set -e
    if [ $status = 0 ]; then
        passed=$((passed + 1))
        printf 'PASS  %-76s %4d s\n' "$name" $((SECONDS - start))
    else
        failed=$((failed + 1))
        printf 'FAIL  %-76s %4d s\n' "$name" $((SECONDS - start))
        { tail -n 400 "$work/output"; explain; } | sed 's/^/      | /' || true
    fi
}

# check_with_metrics NAME COMMAND...: as check, but skipped if the cluster has no metrics. With CI=true it fails then.
check_with_metrics() {
    if [ "${CI-}" != true ] && ! kubectl get --raw /apis/metrics.k8s.io/v1beta1/nodes >/dev/null 2>&1; then
        skipped=$((skipped + 1))
        echo "SKIP  $1: this cluster has no metrics; ci/cluster.sh metrics installs them"
        return
    fi
    check "$@"
}

# must NAME COMMAND...: as check, but a failure ends the run: later checks depend on it.
must() {
    local before=$failed
    check "$@"
    if [ $failed != "$before" ]; then
        summary
        exit 1
    fi
}

# Prints the state of the cluster.
explain() {
    echo "--- kubectl get nodes,pods"
    kubectl get nodes,pods --output wide
    echo "--- kubectl describe pods"
    kubectl describe pods --selector app.kubernetes.io/name=ssd | tail -n 100
    echo "--- kubectl get events"
    kubectl get events --sort-by .lastTimestamp | tail -n 25
    echo "--- kubectl logs"
    kubectl logs --selector app.kubernetes.io/name=ssd --all-containers --prefix --tail 15
    echo "--- kubectl logs --previous, of restarted containers"
    kubectl logs --selector app.kubernetes.io/name=ssd --all-containers --prefix --tail 15 --previous 2>/dev/null || true
} 2>&1

# The last line of the output.
summary() { echo "$passed passed, $failed failed, $skipped skipped"; }

same() { # WHAT EXPECTED ACTUAL
    [ "$2" = "$3" ] || {
        echo "$1: expected '$2', but it is '$3'"
        return 1
    }
}
