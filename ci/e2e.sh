#!/usr/bin/env bash
# Tests the chart on the cluster of ci/cluster.sh: `make e2e` runs it.
#
#   ci/e2e.sh DIGEST     DIGEST of the image in the local registry; `make e2e` passes it
#
# Installs the chart with each values file of charts/ssd/ci, walks through docs/lab.md and the quick starts, and
# installs the chart in a strict namespace. Then it installs the chart once more, and tests changes and faults on that
# release. Each line of the output is one check; a failed check also prints its output and the state of the cluster. The
# script uses a kubeconfig of its own, so it touches no other cluster, and it leaves the cluster as it was.
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
    loosen >/dev/null 2>&1 || true
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

ci/tools.sh kind kubectl helm helm4 ct
export PATH=$PWD/.tools/bin:$PATH
kind get kubeconfig --name "$cluster" >"$KUBECONFIG"
kubectl config set-context --current --namespace "$namespace" >/dev/null

must "two nodes are Ready" nodes_ready
check "the registry serves the model as a file" push_model $model
echo "      not installed here (this cluster lacks what they need); make chart only renders these values files:"
for values in charts/ssd/tests/values/*-values.yaml; do
    echo "        $values: $(sed -n '1s/^# //p' "$values")"
done
echo "      not probed here (this cluster has no controllers for them): Ingress, HTTPRoute, LoadBalancer"
check "ct: each of $(printf '%s\n' charts/ssd/ci/*-values.yaml | grep -c '') values files is installed and passes helm test" every_installation
check "docs/lab.md runs as printed, with the output that it shows" ci/lab.py check
check "both quick starts and the chart's notes run as printed" ci/lab.py quickstarts
check "Helm 4 installs, tests and upgrades under default-deny, a quota and a taint" strict_namespace

must "there is a namespace that enforces restricted Pod Security" make_namespace
must "the client, the other client and the web server run" run_pods
objects_before=$(everything)
must "helm install: two replicas are ready" upgrade
check "the namespace refuses a privileged pod" refuses_privileged
check "the pods are spread over both nodes" spread
check "the Secret's credentials get 200, others 401" credentials
check "the Open Inference Protocol through the Service has the labels of /predict" speaks_the_inference_protocol
check "the NetworkPolicy allows the client and the probes" lets_in
check "the NetworkPolicy blocks another client" keeps_out
check "the NetworkPolicy blocks connections from the pods" lets_nothing_out
must "another port, password and Service type, metrics and no queue: the pods are replaced" changes_much
check "the Service's target and the probes follow server.port" moves_port
check "the new password works, the old one does not, and the public one is refused" rotates_secret
check "a NodePort leads to the server from the address of each node" node_port
check "metrics are served on a port of their own, and only there" serves_metrics
check "a full queue gives 429 with Retry-After, and loses no request" refuses_when_full
check "with tls.secretName the server speaks HTTPS, also to the probes" speaks_tls
check "another list of labels replaces the pods and changes the responses" changes_labels
check "a generated password is random, works, and is kept when Helm 4 upgrades" keeps_generated
must "the first values are installed again" upgrade
check_with_metrics "a HorizontalPodAutoscaler adds and removes pods, and loses no request" lossless autoscales
must "the first values are installed again" upgrade
check "helm upgrade under load loses no request" lossless roll
check "helm rollback under load loses no request" lossless roll_back
check "deleting a pod under load loses no request" lossless lose_pod
check "draining the worker under load loses no request" lossless drain_worker
kubectl uncordon "$worker" >/dev/null
must "the first values are installed once more" upgrade
check "a new pod with too little memory replaces no pod" under_load too_little_memory
check "a new pod without its volume replaces no pod" under_load no_volume
check "a new pod without its model replaces no pod" under_load no_such_model
check "a rollout without the registry waits for it, and loses no request" lossless registry_away
check "without its Secret the server still serves; an upgrade restores it" lossless delete_secret
check "a restart of the API server has no effect" under_load restart_api_server
retry="--retry 5 --retry-all-errors" \
    check "a server killed with SIGKILL restarts; clients that retry lose nothing" under_load kill_server
check "a model with another SHA-256 is refused; the log and an event report it" refuses_model
check "helm uninstall leaves nothing" leaves_nothing
summary
[ $failed = 0 ]
