# The checks of ci/e2e.sh, which sources this file.
# shellcheck shell=bash disable=SC2154 # variables of ci/e2e.sh

# ---- every installation ------------------------------------------------------------------------

# push_model FILE: pushes FILE to the local registry as a blob. Some values of charts/ssd/ci download the model from
# there, by its SHA-256.
push_model() {
    local sha256 location
    sha256=$({ sha256sum "$1" 2>/dev/null || shasum -a 256 "$1"; } | cut -d' ' -f1)
    location=$(curl --silent --show-error --fail --request POST --output /dev/null --dump-header - \
        "http://$registry/v2/ssd-model/blobs/uploads/" | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
    case $location in http*) ;; *) location=http://$registry$location ;; esac
    case $location in *\?*) location+="&" ;; *) location+="?" ;; esac
    curl --silent --show-error --fail --request PUT --header 'Content-Type: application/octet-stream' \
        --data-binary "@$1" "${location}digest=sha256:$sha256"
}

# An installation mostly waits, and ct makes one after the other. So three copies of the chart, each with a third of the
# values files, are installed at the same time.
every_installation() {
    local number=0 group values result=0
    for values in charts/ssd/ci/*-values.yaml; do
        group=$work/ct/$((number++ % 3))
        [ -d "$group" ] || { mkdir -p "$group" && cp -R charts/ssd "$group" && rm "$group"/ssd/ci/*; }
        cp "$values" "$group/ssd/ci"
    done
    for group in "$work"/ct/*; do
        ct install --config ct.yaml --charts "$group/ssd" \
            --helm-extra-set-args "--set=image.digest=$digest" >"$group/log" 2>&1 &
        echo $! >"$group/pid"
    done
    for group in "$work"/ct/*; do
        wait "$(cat "$group/pid")" || { tail -n 150 "$group/log"; result=1; }
    done
    return $result
}

# The worker gets a taint. The namespace refuses pods without requests and limits, and denies all traffic that no other
# policy allows.
strict_namespace() {
    trap 'kubectl get pods,events --namespace ssd-strict || true; loosen' EXIT
    local args=(strict charts/ssd --namespace ssd-strict --values ci/e2e/strict-values.yaml --wait --timeout 3m
        --set "image.digest=$digest")
    kubectl taint node "$worker" --overwrite dedicated=detection:NoSchedule
    kubectl apply --filename ci/e2e/strict-namespace.yaml
    soon 30 has_quota
    helm4 install "${args[@]}"
    helm4 test strict --namespace ssd-strict --logs
    helm4 upgrade "${args[@]}" --set server.threshold=0.5
    helm4 uninstall strict --namespace ssd-strict --wait
}
# A new quota applies a moment later.
has_quota() { [ -n "$(kubectl get resourcequota quota --namespace ssd-strict --output 'jsonpath={.status.hard}')" ]; }
loosen() {
    kubectl taint node "$worker" dedicated- || true
    kubectl delete --filename ci/e2e/strict-namespace.yaml --ignore-not-found --wait=false
}

# ---- one installation --------------------------------------------------------------------------

# A new namespace that enforces the restricted profile.
make_namespace() {
    kubectl delete namespace "$namespace" --ignore-not-found --timeout 120s
    kubectl create namespace "$namespace"
    kubectl label namespace "$namespace" pod-security.kubernetes.io/enforce=restricted
    # Pods need the default ServiceAccount, which is created a moment later.
    soon 30 kubectl get serviceaccount default
}

# Starts from the values of the chart and of ci/e2e: values of an earlier call are not kept.
begin_upgrade() { helm upgrade --install ssd charts/ssd --values ci/e2e/values.yaml --set "image.digest=$digest" "$@" >/dev/null; }

# Helm waits only for the new pods. The old pods still respond while they drain, with the old password.
upgrade() { begin_upgrade --wait --timeout 3m "$@" && soon 60 settled; }

refuses_privileged() {
    kubectl run privileged --image busybox:1.37 --privileged --restart Never 2>"$work/refused" && return 1
    grep 'violates PodSecurity "restricted' "$work/refused"
}

nodes_ready() {
    kubectl get nodes
    kubectl wait --for condition=Ready nodes --all --timeout 60s
    same "number of nodes" 2 "$(kubectl get nodes --output name | grep -c '')"
}

server_pods() { kubectl get pods --selector app.kubernetes.io/instance=ssd --output "jsonpath={.items[*].$1}" | tr ' ' '\n' | sort -u; }

spread() {
    kubectl get pods --output wide
    same "nodes with a server pod" 2 "$(server_pods spec.nodeName | grep -c '')"
}

# get OBJECT JSONPATH
get() { kubectl get "$1" --output "jsonpath=$2"; }

credentials() {
    predict 200 client $login
    predict 401 client "${login%:*}:wrong"
    predict 401 client "wrong:${login#*:}"
    expect 401 client --form "image=@$sample" http://ssd/predict
}

# The labels that a client of the Open Inference Protocol gets, one per line.
inferred_labels() {
    local model
    model=$(kubectl exec client -- curl --silent --fail --user $login http://ssd/model | sed 's/^{"name":"\([^"]*\)".*/\1/')
    # shellcheck disable=SC2016 # variables of the shell in the pod
    kubectl exec client -- sh -c '{
        printf %s "{\"inputs\": [{\"name\": \"image\", \"datatype\": \"BYTES\", \"shape\": [1], \"data\": [\""
        base64 <"$1" | tr -d "\n"
        printf %s "\"]}], \"outputs\": [{\"name\": \"labels\"}]}"
    } | curl --silent --fail --max-time 10 --user "$2" --data-binary @- "http://ssd/v2/models/$3/infer"' sh $sample $login "$model" |
        sed 's/.*"data":\[\([^]]*\)\].*/\1/' | tr ',' '\n' | tr -d '"' | sort -u
}

speaks_the_inference_protocol() {
    expect 200 client http://ssd/v2/health/ready
    expect 401 client http://ssd/v2
    same "labels by /v2" "$(labels)" "$(inferred_labels)"
}

# ---- NetworkPolicy -----------------------------------------------------------------------------

lets_in() {
    expect 200 client http://ssd/readyz
    # Without the kubelet's probes, no pod would be ready.
    same "ready replicas" 2 "$(get deployment/ssd '{.status.readyReplicas}')"
}

# The stranger reaches another pod, but not the server's pods.
keeps_out() {
    expect 200 stranger "http://$(get pod/web '{.status.podIP}'):8080/sample.jpg"
    expect 000 stranger http://ssd/readyz
}

# The server's image has no shell, so a second pod stands in for it: it can connect until it is given the server's
# labels, and with them it cannot, because the NetworkPolicy applies. The Service sends it no requests, because it has
# no port named http.
lets_nothing_out() {
    local web labels
    web=$(get pod/web '{.status.podIP}')
    # shellcheck disable=SC2016 # kubectl's variables
    labels=$(kubectl get service/ssd \
        --output 'go-template={{range $key, $value := .spec.selector}}{{$key}}={{$value}} {{end}}')
    run_pod twin 'app: twin' "$(curl_image)" sleep 10000
    kubectl wait --for condition=Ready pod/twin --timeout 60s
    expect 200 twin --max-time 10 "http://$web:8080/sample.jpg"
    # shellcheck disable=SC2086 # one argument a label
    kubectl label pod twin $labels
    soon 20 expect 000 twin --max-time 3 "http://$web:8080/sample.jpg"
    expect 000 twin --max-time 3 "http://$web:8080/sample.jpg"
    kubectl delete pod twin --wait
}

# ---- changes -----------------------------------------------------------------------------------

# rolled PODS: none of PODS is left.
rolled() {
    local now
    now=$(server_pods metadata.name) && [ -n "$now" ] && [ -z "$(comm -12 <(echo "$1") <(echo "$now"))" ]
}

# Returns when the probes succeed on the new port. A request through a NodePort comes from the node's address, so all
# clients are allowed.
changes_much() {
    local before
    before=$(server_pods metadata.name)
    upgrade --set server.port=8000,server.queueLength=0,auth.password=another,service.type=NodePort,metrics.enabled=true \
        --set-json 'networkPolicy.from=[]'
    rolled "$before"
}

moves_port() {
    same "PORT" 8000 "$(get configmap/ssd-env-vars '{.data.PORT}')"
    same "port behind the Service" 8000 "$(kubectl get endpointslices \
        --selector kubernetes.io/service-name=ssd --output 'jsonpath={.items[*].ports[*].port}')"
    expect 200 client http://ssd/readyz
}

rotates_secret() {
    predict 200 client e2e:another
    predict 401 client $login
    if begin_upgrade --set auth.username=,auth.password= 2>"$work/refusal"; then
        echo "an upgrade without a password brought the public one back"
        return 1
    fi
    grep 'the Secret ssd has a password of its own' "$work/refusal"
}

node_port() {
    local port address
    port=$(get service/ssd '{.spec.ports[0].nodePort}')
    for address in $(kubectl get nodes \
        --output 'jsonpath={.items[*].status.addresses[?(@.type=="InternalIP")].address}'); do
        expect 200 client --user e2e:another --form image=@$sample "http://$address:$port/predict"
    done
}

# A scrape, as Prometheus does it.
serves_metrics() {
    kubectl exec client -- curl --silent --fail --max-time 10 http://ssd-metrics:9090/metrics >"$work/metrics"
    grep -x 'ssd_queue_capacity 0' "$work/metrics"
    expect 404 client http://ssd/metrics
}

# Five times eight requests at once, without a queue: each gets 200, or 429 with Retry-After.
refuses_when_full() {
    # shellcheck disable=SC2016 # for the shell in the pod
    kubectl exec client -- sh -c '
        for round in 1 2 3 4 5; do
            for each in 1 2 3 4 5 6 7 8; do
                curl --silent --show-error --output /dev/null --write-out "%{http_code} %header{retry-after}\n" \
                    --max-time 30 --user e2e:another --form image=@'$sample' http://ssd/predict &
            done
            wait
        done
    ' >"$work/responses"
    sort "$work/responses" | uniq -c
    same "responses" 40 "$(grep -c '' "$work/responses")"
    grep -q '^200 $' "$work/responses" && grep -qE '^429 [1-9][0-9]*$' "$work/responses" &&
        ! grep -qvE '^(200 |429 [1-9][0-9]*)$' "$work/responses"
}

# The kubelet's probes use HTTPS too: otherwise no pod would be ready.
speaks_tls() {
    trap 'kubectl delete secret certificate >/dev/null' EXIT
    openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=ssd -addext subjectAltName=DNS:ssd \
        -keyout "$work/tls.key" -out "$work/tls.crt" 2>/dev/null
    kubectl create secret tls certificate --cert "$work/tls.crt" --key "$work/tls.key"
    upgrade --set tls.secretName=certificate
    kubectl exec --stdin client -- sh -c "cat >/tmp/tls.crt" <"$work/tls.crt"
    expect 200 client --cacert /tmp/tls.crt --user $login --form image=@$sample https://ssd:80/predict
    expect 000 client http://ssd/livez
    upgrade
}

# A list with as many labels as the model has classes is matched by position, so this one renames every class.
changes_labels() {
    local classes
    upgrade
    classes=$(kubectl logs deployment/ssd | grep -o '"classes":[0-9]*' | head -n 1 | cut -d: -f2)
    labels | grep -v '^renamed ' || {
        echo "the response for the sample picture has no detections"
        return 1
    }
    seq -f 'renamed %g' "$classes" >"$work/labels.txt"
    upgrade --set-file "cocoLabels.inline=$work/labels.txt"
    soon 20 renamed
}
renamed() {
    labels | tee "$work/labels-found"
    [ -s "$work/labels-found" ] && ! grep -v '^renamed ' "$work/labels-found"
}

# Needs a cluster: otherwise `lookup` finds nothing. Helm 4 upgrades the release that Helm 3 installed.
keeps_generated() {
    trap 'helm4 uninstall kept --wait >/dev/null 2>&1 || true' EXIT
    local first args=(kept charts/ssd --values ci/e2e/values.yaml --wait --timeout 3m
        --set "image.digest=$digest,replicaCount=1,auth.password=,auth.generate=true")
    helm install "${args[@]}"
    first=$(get secret/kept-ssd '{.data.password}' | base64 -d)
    [ ${#first} -ge 20 ]
    helm4 upgrade "${args[@]}" --set server.threshold=0.5
    same "password is the first one" yes "$([ "$first" = "$(get secret/kept-ssd '{.data.password}' | base64 -d)" ] && echo yes)"
    expect 401 client --user $login --form image=@$sample http://kept-ssd/predict
    # By standard input, so that the password is not on a command line.
    same "status with it" 200 "$(kubectl exec --stdin client -- curl --silent --output /dev/null \
        --write-out '%{http_code}' --config - --form image=@$sample http://kept-ssd/predict <<<"user = \"e2e:$first\"")"
}

# ---- under load --------------------------------------------------------------------------------

roll() {
    local before
    before=$(server_pods metadata.name)
    upgrade --set server.threshold=0.5 && rolled "$before"
}

roll_back() { helm rollback ssd --wait --timeout 3m; }

# Returns when the pod is gone and another is ready.
lose_pod() {
    kubectl delete "$(kubectl get pods --selector app.kubernetes.io/instance=ssd --output name | head -n 1)" --wait &&
        kubectl rollout status deployment/ssd --timeout 120s
}

drain_worker() {
    server_pods spec.nodeName | grep -qx "$worker" &&
        kubectl drain "$worker" --ignore-daemonsets --delete-emptydir-data --timeout 180s &&
        kubectl rollout status deployment/ssd --timeout 120s &&
        same "nodes with a server pod" "$control_plane" "$(server_pods spec.nodeName)"
}

ready_replicas() { [ "$(get deployment/ssd '{.status.readyReplicas}')" = "$1" ]; }

# The steady load needs more than one pod; with longer pauses one is enough.
autoscales() {
    begin_upgrade --values ci/e2e/autoscaling-values.yaml &&
        soon 180 ready_replicas 3 &&
        pause 3 &&
        soon 240 ready_replicas 1
}

# ---- the end -----------------------------------------------------------------------------------

# The file exists, but does not have the SHA-256 model.sha256.
refuses_model() {
    helm install wrong charts/ssd --values ci/e2e/values.yaml --set "image.digest=$digest,replicaCount=1" \
        --values charts/ssd/ci/model-url-values.yaml --set "model.sha256=$(printf 'a%.0s' {1..64})"
    local result=0
    soon 90 logs_refusal && soon 60 backs_off || result=1
    same "started servers" '' "$(kubectl get pods --selector app.kubernetes.io/instance=wrong \
        --output 'jsonpath={.items[*].status.containerStatuses[?(@.started==true)].name}')" || result=1
    [ $result = 0 ] || kubectl describe pods --selector app.kubernetes.io/instance=wrong
    helm uninstall wrong --wait
    return $result
}
logs_refusal() {
    kubectl logs --selector app.kubernetes.io/instance=wrong --container download-model |
        grep 'REFUSED: the SHA-256 of the file at model.url is not model.sha256'
}
backs_off() {
    kubectl get events --field-selector type=Warning,reason=BackOff --output 'jsonpath={range .items[*]}{.message}{"\n"}{end}' |
        grep 'download-model'
}

# All objects in the namespace, except events and measurements, which come and go.
everything() {
    kubectl get "$(kubectl api-resources --verbs list --namespaced --output name |
        grep -vE '^events(\.|$)|\.metrics\.k8s\.io$' | paste -sd , -)" --ignore-not-found --output name | sort
}

leaves_nothing() {
    helm uninstall ssd --wait --timeout 2m
    soon 60 nothing_left
}
nothing_left() { diff <(echo "$objects_before") <(everything); }
