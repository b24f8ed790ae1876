#!/usr/bin/env bash
# Proves the chart on the cluster of ci/cluster.sh: what `make e2e` runs.
#
#   ci/e2e.sh DIGEST     of the image in the local registry (make e2e passes that of its own)
#
# Installs the chart in every way that charts/ssd/ci knows; then once more, and tries on that one what
# happens to a running server. Each line is one check, and what failed is explained. Nothing is passed
# over in silence. It uses a kubeconfig of its own, so that no other cluster is ever touched, and
# leaves the cluster as it was.
# shellcheck disable=SC2034 # ci/e2e/*.sh read these variables
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
digest=${1:?usage: ci/e2e.sh DIGEST: run make e2e}
cluster=$(sed -n 's/^name: //p' ci/kind.yaml)
control_plane=$cluster-control-plane
worker=$cluster-worker
registry=localhost:5001
namespace=ssd-e2e
model=weights/ssd_mobilenet_v2_oidv4.safetensors

work=$(mktemp -d)
export KUBECONFIG=$work/kubeconfig
cleanup() {
    kubectl uncordon "$worker" >/dev/null 2>&1 || true
    docker start kind-registry >/dev/null 2>&1 || true
    kubectl delete namespace "$namespace" --ignore-not-found --timeout 120s >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap cleanup EXIT

# shellcheck source-path=SCRIPTDIR/..
. ci/soon.sh
. ci/e2e/report.sh
. ci/e2e/pods.sh
. ci/e2e/checks.sh
. ci/e2e/faults.sh

ci/tools.sh kind kubectl helm ct yamllint yamale
export PATH=$PWD/.tools/bin:$PATH
kind get kubeconfig --name "$cluster" >"$KUBECONFIG"
kubectl config set-context --current --namespace "$namespace" >/dev/null

must "two nodes are Ready" nodes_ready
check "the model is a file that pods can download" push_model $model
echo "      not installed, since this cluster lacks what they need, only rendered by make chart:"
for values in charts/ssd/tests/values/*-values.yaml; do
    echo "        $values: $(sed -n '1s/^# //p' "$values")"
done
check "ct: each of $(printf '%s\n' charts/ssd/ci/*-values.yaml | wc -l) values files is linted, installed and passes helm test" every_installation

must "a namespace that enforces restricted Pod Security takes the test's pods" make_namespace
must "the client, the stranger and the web server run" run_pods
objects_before=$(everything)
must "helm install: two replicas are ready in that namespace" upgrade
check "that namespace refuses a privileged pod" refuses_privileged
check "the pods are spread over both nodes" spread
check "the objects of the lab exist and have their types" lab_objects
check "the lab's curl line answers through kubectl port-forward" lab_curl
check "the Secret's credentials are taken, others get 401" credentials
check "NetworkPolicy lets the client and the probes in" lets_in
check "NetworkPolicy keeps a stranger out" keeps_out
check "NetworkPolicy lets nothing out" lets_nothing_out
check "server.port moves the server, the Service's target and the probes" moves_port
check "tls.secretName: the server speaks HTTPS, and to the probes as well" speaks_tls
check "another list of labels rolls the pods and changes the answers" changes_labels
check "another password rolls the pods, and the old one stops working" rotates_secret
check "metrics are served on a port of their own, and only there" serves_metrics
check "a full queue refuses with 429 and Retry-After, and loses nobody" refuses_when_full
check "a generated password is random, works, and is kept across upgrades" keeps_generated
must "back to the first values" upgrade
check "helm upgrade under load loses no request" lossless roll
check "helm rollback under load loses no request" lossless roll_back
check "deleting a pod under load loses no request" lossless lose_pod
check "draining the worker under load loses no request" lossless drain_worker
kubectl uncordon "$worker" >/dev/null
must "back to the first values again" upgrade
check "a new pod without the memory it takes replaces no pod that serves" under_load too_little_memory
check "nor does one whose volume is not there" under_load no_volume
check "nor one whose model is not there" under_load no_such_model
check "a roll without the registry waits for it, and loses no request" lossless registry_away
check "without its Secret the server goes on; an upgrade makes it again" lossless delete_secret
check "the API server's restart is not noticed" under_load restart_api_server
insist="--retry 5 --retry-all-errors" \
    check "a server killed with SIGKILL is back; clients that try again lose nothing" under_load kill_server
check "a model with another SHA-256 is refused, in the log and by an event" refuses_model
check "helm uninstall leaves nothing" leaves_nothing
summary
[ $failed = 0 ]
