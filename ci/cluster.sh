#!/usr/bin/env bash
# A Kubernetes cluster on this machine, in Docker, with an image registry that it pulls from.
#
#   ci/cluster.sh up      the cluster of ci/kind.yaml, and a registry on localhost:5001
#   ci/cluster.sh down    removes both, and what was in them
#
# Both may be run again: what is there already stays, and what was stopped is started. The registry is
# wired as kind documents it (https://kind.sigs.k8s.io/docs/user/local-registry); one that somebody else
# made by those documents is used, and left. kubectl's current context becomes kind-ssd.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source-path=SCRIPTDIR/..
. ci/soon.sh
cluster=$(sed -n 's/^name: //p' ci/kind.yaml)
registry=kind-registry
port=5001
# On what this script made.
mark=ssd.made-by=ci/cluster.sh

die() {
    echo "ci/cluster.sh: $*" >&2
    exit 1
}

needs_docker() {
    command -v docker >/dev/null ||
        die "missing: docker. Install Docker Engine (https://docs.docker.com/engine/install)."
    # Where a development container has just started, so has its Docker.
    soon 30 docker info >/dev/null 2>&1 ||
        die "docker is here, but its daemon does not answer. Start it (sudo systemctl start docker, or Docker Desktop), or let this user reach it (sudo usermod -aG docker $(id -un), then log in again)."
}

registry_up() {
    case $(docker container inspect --format '{{.State.Running}}' $registry 2>/dev/null) in
        true) ;;
        false) docker start $registry >/dev/null ;;
        *)
            # This machine only: nobody else may push.
            docker run --detach --restart always --label "$mark" --publish 127.0.0.1:$port:5000 \
                --network bridge --name $registry registry:3 >/dev/null ||
                die "no registry on localhost:$port: is the port taken? (docker ps; ss -ltn)"
            ;;
    esac
    soon 30 curl --silent --fail --output /dev/null http://localhost:$port/v2/ ||
        die "the container $registry is no registry on localhost:$port (docker port $registry). Remove it, or give it that port."
}

cluster_up() {
    local nodes
    if kind get clusters 2>/dev/null | grep -qx "$cluster"; then
        mapfile -t nodes < <(kind get nodes --name "$cluster")
        docker start "${nodes[@]}" >/dev/null
        soon 60 kind export kubeconfig --name "$cluster" 2>/dev/null ||
            die "the nodes of the cluster $cluster do not come up: ci/cluster.sh down, then up."
    else
        kind create cluster --config ci/kind.yaml --wait 180s
    fi
}

# On a node localhost is the node itself: this sends what is named localhost:5001 to the registry.
wire_registry() {
    local node folder=/etc/containerd/certs.d/localhost:$port
    for node in $(kind get nodes --name "$cluster"); do
        docker exec "$node" mkdir -p "$folder"
        echo "[host.\"http://$registry:5000\"]" | docker exec --interactive "$node" cp /dev/stdin "$folder/hosts.toml"
    done
    if [ "$(docker inspect --format '{{json .NetworkSettings.Networks.kind}}' $registry)" = null ]; then
        docker network connect kind $registry
    fi
    # For tools that ask a cluster where to push (KEP 1755).
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
    wire_registry
    kubectl --context "kind-$cluster" wait --for condition=Ready nodes --all --timeout 180s >/dev/null
    kubectl --context "kind-$cluster" get nodes
}

down() {
    kind delete cluster --name "$cluster"
    if [ -n "$(docker ps --all --quiet --filter "name=^$registry\$" --filter "label=$mark")" ]; then
        docker rm --force --volumes $registry >/dev/null
    fi
}

case ${1-} in
    up | down) ;;
    *)
        echo "usage: ci/cluster.sh up|down" >&2
        exit 2
        ;;
esac
needs_docker
ci/tools.sh kind kubectl
export PATH=$PWD/.tools/bin:$PATH
"$1"
