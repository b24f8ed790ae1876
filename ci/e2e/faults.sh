# What goes wrong in a cluster, and what it costs: sourced by ci/e2e.sh. docs/faults.md says the same in words.
# shellcheck shell=bash disable=SC2154 # variables of ci/e2e.sh

# ---- a bad roll --------------------------------------------------------------------------------

# What any pod of the server waits for or ended by, its init containers' included.
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
    helm upgrade ssd charts/ssd --values ci/e2e/values.yaml --set "image.digest=$digest" "$@" >/dev/null &&
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
    bad_roll 'persistentvolumeclaim "nowhere" not found' --set model.existingClaim=nowhere,model.path=demo.safetensors
}

no_such_model() {
    bad_roll CrashLoopBackOff --set model.path=nowhere.safetensors
}

# ---- what others lose --------------------------------------------------------------------------

# restarts POD
restarts() { get "pod/$1" '{.status.containerStatuses[0].restartCount}'; }
ready_again() { # POD RESTARTS
    [ "$(restarts "$1")" -gt "$2" ] && [ "$(get "pod/$1" '{.status.containerStatuses[0].ready}')" = true ]
}

# The process itself, as the kernel would: no signal that it could answer.
kill_server() {
    local pod node container before
    pod=$(server_pods metadata.name | head -n 1)
    node=$(get "pod/$pod" '{.spec.nodeName}')
    container=$(get "pod/$pod" '{.status.containerStatuses[0].containerID}')
    before=$(restarts "$pod")
    docker exec "$node" ctr --namespace k8s.io tasks kill --signal SIGKILL "${container#containerd://}" &&
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
    helm upgrade ssd charts/ssd --values ci/e2e/values.yaml --set "image.digest=$digest" \
        --set image.pullPolicy=Always >/dev/null
    soon 120 tells 'ErrImagePull|ImagePullBackOff'
    same "available replicas" 2 "$(get deployment/ssd '{.status.availableReplicas}')"
    docker start kind-registry >/dev/null
    kubectl rollout status deployment/ssd --timeout 180s
    soon 60 rolled "$before"
}

api_server_answers() { kubectl get --raw /readyz >/dev/null 2>&1; }
api_server() { docker exec "$control_plane" crictl ps --quiet --name kube-apiserver; }
another_api_server() { [ -n "$(api_server)" ] && [ "$(api_server)" != "$1" ] && api_server_answers; }

restart_api_server() {
    local pods before container
    pods=$(kubectl get pods --selector app.kubernetes.io/instance=ssd --output \
        'jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].restartCount}{"\n"}{end}')
    container=$(api_server)
    docker exec "$control_plane" crictl stop "$container" >/dev/null
    soon 120 another_api_server "$container"
    # What the controllers do when they see the cluster again.
    sleep 10
    same "pods and their restarts" "$pods" "$(kubectl get pods --selector app.kubernetes.io/instance=ssd --output \
        'jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].restartCount}{"\n"}{end}')"
}

# Those that run have read it; a new one waits for it. An upgrade makes it again.
delete_secret() {
    kubectl delete events --all >/dev/null
    kubectl delete secret ssd
    kubectl delete "$(kubectl get pods --selector app.kubernetes.io/instance=ssd --output name | head -n 1)" --wait
    soon 60 tells 'secret "ssd" not found'
    same "ready replicas" 1 "$(get deployment/ssd '{.status.readyReplicas}')"
    upgrade
    kubectl rollout status deployment/ssd --timeout 120s
}
