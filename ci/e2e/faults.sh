# Faults of a cluster, as docs/faults.md lists them. Sourced by ci/e2e.sh.
# The functions run under load, as conditions, in which bash continues after a failed line: hence the &&.
# shellcheck shell=bash disable=SC2154 # variables of ci/e2e.sh

# ---- a failed rollout --------------------------------------------------------------------------

# Why the server's pods wait or ended, and the cluster's warnings.
reasons() {
    local state
    for state in state.waiting state.terminated lastState.terminated; do
        kubectl get pods --selector app.kubernetes.io/instance=ssd --output \
            "jsonpath={.items[*].status.containerStatuses[*].$state.reason}"
        echo
    done
    kubectl get events --field-selector type=Warning --output 'jsonpath={range .items[*]}{.message}{"\n"}{end}'
}
reports() { reasons | grep -E "$1"; }

# failed_rollout REASON HELM-ARGUMENT...: starts an upgrade that must fail, and rolls it back when the cluster reports
# REASON. The old pods still serve, and the rollback starts no new pod.
failed_rollout() {
    local reason=$1 before
    shift
    before=$(server_pods metadata.name)
    # Earlier events would match too.
    kubectl delete events --all >/dev/null
    begin_upgrade "$@" &&
        soon 120 reports "$reason" &&
        same "available replicas" 2 "$(get deployment/ssd '{.status.availableReplicas}')" &&
        helm rollback ssd --wait --timeout 2m &&
        soon 60 settled &&
        same "pods" "$before" "$(server_pods metadata.name)"
}

# Less than libtorch alone needs.
too_little_memory() {
    failed_rollout 'OOM-?[Kk]illed' --set resources.requests.memory=32Mi,resources.limits.memory=32Mi
}

no_volume() {
    failed_rollout 'persistentvolumeclaim "nowhere" not found' --set model.existingClaim=nowhere,model.path=ssd_mobilenet_v2_oidv4.safetensors
}

no_such_model() {
    failed_rollout CrashLoopBackOff --set model.path=nowhere.safetensors
}

# ---- a running server --------------------------------------------------------------------------

# kill_container NODE CONTAINER-ID: sends SIGKILL, as the kernel does when memory runs out.
kill_container() { docker exec "$1" ctr --namespace k8s.io tasks kill --signal SIGKILL "${2#containerd://}"; }

# restarts POD
restarts() { get "pod/$1" '{.status.containerStatuses[0].restartCount}'; }
ready_again() { # POD RESTARTS
    [ "$(restarts "$1")" -gt "$2" ] && [ "$(get "pod/$1" '{.status.containerStatuses[0].ready}')" = true ]
}

kill_server() {
    local pod before
    pod=$(server_pods metadata.name | head -n 1)
    before=$(restarts "$pod")
    kill_container "$(get "pod/$pod" '{.spec.nodeName}')" "$(get "pod/$pod" '{.status.containerStatuses[0].containerID}')" &&
        soon 60 ready_again "$pod" "$before" &&
        same "exit code" 137 "$(get "pod/$pod" '{.status.containerStatuses[0].lastState.terminated.exitCode}')"
}

# Pods that must pull wait for the registry; when it is back, the rollout finishes by itself.
registry_away() {
    local before
    before=$(server_pods metadata.name)
    kubectl delete events --all >/dev/null
    docker stop kind-registry >/dev/null
    trap 'docker start kind-registry >/dev/null' EXIT
    begin_upgrade --set image.pullPolicy=Always &&
        soon 120 reports 'ErrImagePull|ImagePullBackOff' &&
        same "available replicas" 2 "$(get deployment/ssd '{.status.availableReplicas}')" &&
        docker start kind-registry >/dev/null &&
        kubectl rollout status deployment/ssd --timeout 180s &&
        soon 60 rolled "$before"
}

# The id of the API server's container.
api_server() {
    kubectl --namespace kube-system get "pod/kube-apiserver-$control_plane" \
        --output 'jsonpath={.status.containerStatuses[0].containerID}'
}
another_api_server() {
    local now
    now=$(api_server) && [ "$now" != "$1" ]
}
pods_and_restarts() {
    kubectl get pods --selector app.kubernetes.io/instance=ssd --output \
        'jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].restartCount}{"\n"}{end}'
}

restart_api_server() {
    local before container
    before=$(pods_and_restarts)
    container=$(api_server)
    # After the restart, the controllers get ten seconds to act.
    kill_container "$control_plane" "$container" &&
        soon 120 another_api_server "$container" &&
        sleep 10 &&
        same "pods and their restarts" "$before" "$(pods_and_restarts)"
}

# Running pods have read the Secret already, a new pod waits for it, and an upgrade creates it again.
delete_secret() {
    kubectl delete events --all >/dev/null
    kubectl delete secret ssd &&
        kubectl delete "pod/$(server_pods metadata.name | head -n 1)" --wait &&
        soon 60 reports 'secret "ssd" not found' &&
        same "ready replicas" 1 "$(get deployment/ssd '{.status.readyReplicas}')" &&
        upgrade &&
        kubectl rollout status deployment/ssd --timeout 120s
}
