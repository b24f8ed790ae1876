# What goes wrong in a cluster, and what it costs: sourced by ci/e2e.sh. docs/faults.md says the same in words.
# They run under a load, as a condition, in which bash goes on when a line fails: hence every &&.
# shellcheck shell=bash disable=SC2154 # variables of ci/e2e.sh

# ---- a bad roll --------------------------------------------------------------------------------

# What any pod of the server waits for or ended by, and what the cluster warns of.
reasons() {
    local state
    for state in state.waiting state.terminated lastState.terminated; do
        kubectl get pods --selector app.kubernetes.io/instance=ssd --output \
            "jsonpath={.items[*].status.containerStatuses[*].$state.reason}"
        echo
    done
    kubectl get events --field-selector type=Warning --output 'jsonpath={range .items[*]}{.message}{"\n"}{end}'
}
tells() { reasons | grep -E "$1"; }

# bad_roll REASON HELM-ARGUMENT...: an upgrade that cannot end well, given up when the cluster says why. The
# pods of before still serve, and a rollback needs no new one.
bad_roll() {
    local reason=$1 before
    shift
    before=$(server_pods metadata.name)
    # Of this time only.
    kubectl delete events --all >/dev/null
    begin_upgrade "$@" &&
        soon 120 tells "$reason" &&
        same "available replicas" 2 "$(get deployment/ssd '{.status.availableReplicas}')" &&
        helm rollback ssd --wait --timeout 2m &&
        soon 60 settled &&
        same "pods" "$before" "$(server_pods metadata.name)"
}

# Less than libtorch alone takes.
too_little_memory() {
    bad_roll 'OOM-?[Kk]illed' --set resources.requests.memory=32Mi,resources.limits.memory=32Mi
}

no_volume() {
    bad_roll 'persistentvolumeclaim "nowhere" not found' --set model.existingClaim=nowhere,model.path=ssd_mobilenet_v2_oidv4.safetensors
}

no_such_model() {
    bad_roll CrashLoopBackOff --set model.path=nowhere.safetensors
}

# ---- what others lose --------------------------------------------------------------------------

# kill_container NODE CONTAINER-ID: its process, as the kernel would: no signal that it could answer.
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

# Pods that must pull wait until the registry is back, and the roll then ends by itself.
registry_away() {
    local before
    before=$(server_pods metadata.name)
    kubectl delete events --all >/dev/null
    docker stop kind-registry >/dev/null
    trap 'docker start kind-registry >/dev/null' EXIT
    begin_upgrade --set image.pullPolicy=Always &&
        soon 120 tells 'ErrImagePull|ImagePullBackOff' &&
        same "available replicas" 2 "$(get deployment/ssd '{.status.availableReplicas}')" &&
        docker start kind-registry >/dev/null &&
        kubectl rollout status deployment/ssd --timeout 180s &&
        soon 60 rolled "$before"
}

# The API server's container, as the API server itself tells.
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
    # Then for what the controllers do when they see the cluster again.
    kill_container "$control_plane" "$container" &&
        soon 120 another_api_server "$container" &&
        sleep 10 &&
        same "pods and their restarts" "$before" "$(pods_and_restarts)"
}

# Those that run have read it; a new one waits for it. An upgrade makes it again.
delete_secret() {
    kubectl delete events --all >/dev/null
    kubectl delete secret ssd &&
        kubectl delete "pod/$(server_pods metadata.name | head -n 1)" --wait &&
        soon 60 tells 'secret "ssd" not found' &&
        same "ready replicas" 1 "$(get deployment/ssd '{.status.readyReplicas}')" &&
        upgrade &&
        kubectl rollout status deployment/ssd --timeout 120s
}
