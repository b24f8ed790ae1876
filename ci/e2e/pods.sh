# The pods that send requests to the server. Sourced by ci/e2e.sh.
# shellcheck shell=bash disable=SC2154 # ci/e2e.sh sets $work and $control_plane

sample=/sample/sample.jpg
# The credentials in ci/e2e/values.yaml.
login=e2e:only-for-tests

# run_pod NAME LABELS IMAGE COMMAND...: runs a pod on the control plane, so that it stays when the worker is drained.
run_pod() {
    local name=$1 labels=$2 image=$3
    shift 3
    kubectl apply --filename - <<YAML
apiVersion: v1
kind: Pod
metadata:
  name: $name
  labels: {$labels}
spec:
  nodeName: $control_plane
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: $name
      image: $image
      command: [$(printf '"%s",' "$@")]
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
      volumeMounts:
        - {name: sample, mountPath: /sample}
        - {name: tmp, mountPath: /tmp}
  volumes:
    - {name: sample, configMap: {name: sample}}
    - {name: tmp, emptyDir: {}}
YAML
}

curl_image() { sed -nE '/^curl:/,/^[a-z]*:/s/^  (repository|tag): //p' charts/ssd/values.yaml | paste -sd : -; }

# client    the client that the NetworkPolicy of ci/e2e/values.yaml allows
# stranger  a client that it blocks
# web       a web server to which pods could connect
run_pods() {
    kubectl create configmap sample --from-file charts/ssd/files/sample.jpg
    run_pod client 'app: client' "$(curl_image)" sleep 10000
    run_pod stranger 'app: stranger' "$(curl_image)" sleep 10000
    run_pod web 'app: web' busybox:1.37 httpd -f -p 8080 -h /sample
    kubectl wait --for condition=Ready pod/client pod/stranger pod/web --timeout 120s
}

# status POD CURL-ARGUMENT...: the HTTP status; 000 without a response.
status() {
    local pod=$1
    shift
    kubectl exec "$pod" -- curl --silent --output /dev/null --write-out '%{http_code}' --max-time 10 "$@" || true
}

expect() { # STATUS POD CURL-ARGUMENT...
    local want=$1
    shift
    same "status of $*" "$want" "$(status "$@")"
}

predict() { # STATUS POD USER:PASSWORD
    expect "$1" "$2" --user "$3" --form image=@$sample http://ssd/predict
}

# The labels in the response for the sample picture, one per line.
labels() {
    kubectl exec client -- curl --silent --fail --max-time 10 --user $login --form image=@$sample http://ssd/predict |
        grep -o '"label": *"[^"]*"' | sed 's/.*: *"\(.*\)"/\1/' | sort -u
}

# There are as many pods as replicas: none is draining.
settled() { [ "$(server_pods metadata.name | grep -c '')" = "$(get deployment/ssd '{.spec.replicas}')" ]; }

# pause SECONDS: how long each of the two clients of under_load waits between two requests.
pause() { kubectl exec client -- sh -c "echo $1 >/tmp/pause"; }

# under_load COMMAND...: runs COMMAND under a steady load of two requests at once, until no pod is draining any more.
# Fails if any response is not 200. $retry: curl's options with which clients retry. The load ends by itself after
# 2000 requests. It runs in the client's pod, so it does not need the API server. It uses the Service's address,
# because a drain may move the cluster's DNS server.
under_load() {
    local address result=0
    address=$(kubectl get service ssd --output 'jsonpath={.spec.clusterIP}')
    pause 0.1
    # shellcheck disable=SC2016 # for the shell in the pod
    kubectl exec client -- sh -c '
        rm -f /tmp/stop /tmp/load /tmp/ended
        load() {
            for i in $(seq 1000); do
                test ! -e /tmp/stop || return 0
                curl --silent --show-error --output /dev/null --write-out "%{http_code}\n" --max-time 30 $2 \
                    --user '$login' --form image=@'$sample' "http://$1/predict" || true
                sleep "$(cat /tmp/pause)"
            done
        }
        { load "$@" & load "$@" & wait; touch /tmp/ended; } >/tmp/load 2>&1 </dev/null &
    ' load "$address" "${retry-}"
    sleep 3
    "$@" || result=$?
    soon 60 settled || result=1
    sleep 3
    if kubectl exec client -- test -e /tmp/ended; then
        echo "the load ended before the command"
        result=1
    fi
    kubectl exec client -- touch /tmp/stop
    soon 60 kubectl exec client -- test -e /tmp/ended || result=1
    kubectl exec client -- cat /tmp/load >"$work/load"
    echo "responses by status:"
    sort "$work/load" | uniq -c
    [ "$(grep -c '^200$' "$work/load")" -ge 20 ] || {
        echo "fewer than 20 requests got 200"
        return 1
    }
    # curl also prints messages about attempts that it repeats.
    if grep -E '^[0-9]{3}$' "$work/load" | grep -qv '^200$'; then
        return 1
    fi
    return $result
}

# lossless COMMAND...: as under_load, and COMMAND must replace pods.
lossless() {
    local before result=0
    before=$(server_pods metadata.name)
    under_load "$@" || result=$?
    [ "$before" != "$(server_pods metadata.name)" ] || {
        echo "no pod was replaced: $before"
        return 1
    }
    return $result
}
