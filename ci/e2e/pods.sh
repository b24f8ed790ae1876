# The pods that talk to the server, and what they say: sourced by ci/e2e.sh.
# shellcheck shell=bash disable=SC2154 # ci/e2e.sh sets $work and $control_plane

sample=/sample/sample.jpg

# run_pod NAME LABELS IMAGE COMMAND...: on the control plane, where they stay when the worker is drained.
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

curl_image() { sed -n '/^curl:/,/^[a-z]*:/s/^  \(repository\|tag\): //p' charts/ssd/values.yaml | paste -sd : -; }

# client    the one that the NetworkPolicy of ci/e2e/values.yaml lets in
# stranger  any other
# web       something that a pod could reach
run_pods() {
    kubectl create configmap sample --from-file charts/ssd/files/sample.jpg
    run_pod client 'app: client' "$(curl_image)" sleep 10000
    run_pod stranger 'app: stranger' "$(curl_image)" sleep 10000
    run_pod web 'app: web' busybox:1.37 httpd -f -p 8080 -h /sample
    kubectl wait --for condition=Ready pod/client pod/stranger pod/web --timeout 120s
}

# status POD CURL-ARGUMENT...: the HTTP status; 000 without an answer.
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

# The labels in the answer for the sample picture, one a line.
labels() {
    kubectl exec client -- curl --silent --fail --max-time 10 --user ugain:ugain --form image=@$sample http://ssd/predict |
        grep -o '"label": *"[^"]*"' | sed 's/.*: *"\(.*\)"/\1/' | sort -u
}

# As many pods as replicas: none drains any more.
settled() { [ "$(server_pods metadata.name | wc -l)" = 2 ]; }

# under_load COMMAND...: runs it under a steady load, two requests at a time, which outlasts both the command
# and the last pod that drains; and then fails if any request was not answered with 200. With $insist, curl's
# options, clients try again. The load ends by itself after 2000 requests. It runs in the client's pod, whether
# the API server answers or not, and names the Service by its address, since the cluster's own resolver may be
# among what a drain moves.
under_load() {
    local address result=0
    address=$(kubectl get service ssd --output 'jsonpath={.spec.clusterIP}')
    # shellcheck disable=SC2016 # for the shell in the pod
    kubectl exec client -- sh -c '
        rm -f /tmp/stop /tmp/load /tmp/ended
        load() {
            for i in $(seq 1000); do
                test ! -e /tmp/stop || return 0
                curl --silent --show-error --output /dev/null --write-out "%{http_code}\n" --max-time 30 $2 \
                    --user ugain:ugain --form image=@'$sample' "http://$1/predict" || true
                sleep 0.1
            done
        }
        { load "$@" & load "$@" & wait; touch /tmp/ended; } >/tmp/load 2>&1 </dev/null &
    ' load "$address" "${insist-}"
    sleep 3
    "$@" || result=$?
    soon 60 settled || result=1
    sleep 3
    if kubectl exec client -- test -e /tmp/ended; then
        echo "the load ended first"
        result=1
    fi
    kubectl exec client -- touch /tmp/stop
    soon 60 kubectl exec client -- test -e /tmp/ended || result=1
    kubectl exec client -- cat /tmp/load >"$work/load"
    echo "answers by status:"
    sort "$work/load" | uniq -c
    [ "$(grep -c '^200$' "$work/load")" -ge 20 ] || {
        echo "there was hardly any load"
        return 1
    }
    # What curl says of an attempt that it repeats is no status.
    if grep -E '^[0-9]{3}$' "$work/load" | grep -qv '^200$'; then
        return 1
    fi
    return $result
}

# lossless COMMAND...: the same, and pods are replaced.
lossless() {
    local before result=0
    before=$(server_pods metadata.name)
    under_load "$@" || result=$?
    [ "$before" != "$(server_pods metadata.name)" ] || {
        echo "the same pods as before: $before"
        return 1
    }
    return $result
}
