#!/usr/bin/env bash
# Creates a Kubernetes cluster in Docker, and an image registry from which its nodes pull.
#
#   ci/cluster.sh up         creates the cluster of ci/kind.yaml, and a registry on localhost:5001
#   ci/cluster.sh metrics    installs metrics-server, without which a HorizontalPodAutoscaler cannot act.
#                            METRICS_SERVER is the URL or the path of its manifest
#   ci/cluster.sh down       removes cluster and registry with all their contents
#
# `up` may run again: it keeps what exists and starts what is stopped. The registry is connected as kind documents it
# (https://kind.sigs.k8s.io/docs/user/local-registry). If a registry of that name exists already, `up` uses it and
# `down` keeps it. kubectl's current context becomes kind-ssd.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source-path=SCRIPTDIR/..
. ci/soon.sh
cluster=$(sed -n 's/^name: //p' ci/kind.yaml)
registry=kind-registry
port=5001
metrics_server=${METRICS_SERVER:-https://github.com/kubernetes-sigs/metrics-server/releases/download/v0.9.0/components.yaml}
# The label of the registry that this script created.
mark=ssd.made-by=ci/cluster.sh

die() {
    echo "ci/cluster.sh: $*" >&2
    exit 1
}

needs_docker() {
    command -v docker >/dev/null ||
        die "missing: docker. Install Docker Engine (https://docs.docker.com/engine/install); on macOS and Windows, Docker Desktop."
    # In a development container that has just started, Docker is still starting.
    soon 30 docker info >/dev/null 2>&1 ||
        die "docker is installed, but its daemon does not respond. Start it (sudo systemctl start docker, or Docker Desktop), or let this user reach it (sudo usermod -aG docker $(id -un), then log in again)."
}

registry_up() {
    case $(docker container inspect --format '{{.State.Running}}' $registry 2>/dev/null) in
        true) ;;
        false) docker start $registry >/dev/null ;;
        *)
            # Published only on this machine, so that nobody else can push.
            docker run --detach --restart always --label "$mark" --publish 127.0.0.1:$port:5000 \
                --network bridge --name $registry registry:3 >/dev/null ||
                die "cannot start a registry on localhost:$port: is the port in use? (docker ps; Linux: ss -ltn; macOS: lsof -iTCP:$port -sTCP:LISTEN)"
            ;;
    esac
    soon 30 curl --silent --fail --output /dev/null http://localhost:$port/v2/ ||
        die "the container $registry does not serve a registry on localhost:$port (docker port $registry). Remove it, or publish that port."
}

cluster_up() {
    # Not grep -q, which ends before kind has listed the machine's other clusters: kind then fails.
    if kind get clusters 2>/dev/null | grep -x "$cluster" >/dev/null; then
        # shellcheck disable=SC2046 # one argument a node
        docker start $(kind get nodes --name "$cluster") >/dev/null
        soon 60 kind export kubeconfig --name "$cluster" 2>/dev/null ||
            die "the nodes of the cluster $cluster do not start: run ci/cluster.sh down, then up."
    else
        kind create cluster --config ci/kind.yaml --wait 180s
    fi
}

# On a node, localhost is the node itself. This makes localhost:5001 the registry there.
connect_registry() {
    local node folder=/etc/containerd/certs.d/localhost:$port
    for node in $(kind get nodes --name "$cluster"); do
        docker exec "$node" mkdir -p "$folder"
        echo "[host.\"http://$registry:5000\"]" | docker exec --interactive "$node" cp /dev/stdin "$folder/hosts.toml"
    done
    if [ "$(docker inspect --format '{{json .NetworkSettings.Networks.kind}}' $registry)" = null ]; then
        docker network connect kind $registry
    fi
    # Tools read this to find out where to push (KEP 1755).
    kubectl --context "kind-$cluster" apply --filename - >/dev/null <<YAML
apiVersion: v1
kind: ConfigMap
metadata:
  name: local-registry-hosting
  namespace: kube-public
data:
  localRegistryHosting.v1: |
    host: "localhost:$port"
    help: "https://kind.sigs.k8s.io/docs/user/local-registry/"
YAML
}

up() {
    registry_up
    cluster_up
    connect_registry
    kubectl --context "kind-$cluster" wait --for condition=Ready nodes --all --timeout 180s >/dev/null
    kubectl --context "kind-$cluster" get nodes
}

in_system() { kubectl --context "kind-$cluster" --namespace kube-system "$@"; }
metrics() {
    in_system apply --filename "$metrics_server" >/dev/null
    # kind's kubelets sign their certificates themselves.
    in_system patch deployment metrics-server --type json --patch \
        '[{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--kubelet-insecure-tls"}]' >/dev/null
    in_system rollout status deployment/metrics-server --timeout 180s
    soon 60 in_system top nodes 2>/dev/null || die "metrics-server runs, but has no metrics: kubectl -n kube-system logs deployment/metrics-server"
}

down() {
    kind delete cluster --name "$cluster"
    if [ -n "$(docker ps --all --quiet --filter "name=^$registry\$" --filter "label=$mark")" ]; then
        docker rm --force --volumes $registry >/dev/null
    fi
}

case ${1-} in
    up | metrics | down) ;;
    *)
        echo "usage: ci/cluster.sh up|metrics|down" >&2
        exit 2
        ;;
esac
needs_docker
ci/tools.sh kind kubectl
export PATH=$PWD/.tools/bin:$PATH
"$1"
