{{/*
Refuses values that contradict each other, with a sentence for each. values.schema.json checks single values.
*/}}
{{- define "ssd.checks" -}}
{{- $wrong := concat
  (include "ssd.checkNames" . | fromJsonArray)
  (include "ssd.checkSizes" . | fromJsonArray)
  (include "ssd.checkCredentials" . | fromJsonArray)
  (include "ssd.checkResources" . | fromJsonArray)
  (include "ssd.checkLabels" . | fromJsonArray)
  (include "ssd.checkModel" . | fromJsonArray)
  (include "ssd.checkEnvironment" . | fromJsonArray)
  (include "ssd.checkScaling" . | fromJsonArray)
  (include "ssd.checkExposure" . | fromJsonArray)
  (include "ssd.checkService" . | fromJsonArray)
}}
{{- if $wrong }}
{{- printf "\n\nThese values cannot be used:\n  - %s\n" (join "\n  - " $wrong) | fail }}
{{- end }}
{{- end }}

{{- define "ssd.checkNames" -}}
{{- $wrong := list }}
{{- $name := include "ssd.fullname" . }}
{{- if not (kindIs "string" (printf "name: %s" $name | fromYaml).name) }}
{{- $wrong = append $wrong (printf "The objects' name would be %s, which YAML does not read as text: set another fullnameOverride." $name) }}
{{- end }}
{{- $maps := dict
  "commonLabels" .Values.commonLabels
  "podLabels" .Values.podLabels
  "service.labels" .Values.service.labels
  "metrics.serviceMonitor.labels" .Values.metrics.serviceMonitor.labels
  "metrics.prometheusRule.labels" .Values.metrics.prometheusRule.labels
  "metrics.dashboard.labels" .Values.metrics.dashboard.labels
  "tests.labels" .Values.tests.labels
}}
{{- $fixed := include "ssd.selectorLabels" . | fromYaml | keys | sortAlpha }}
{{- range $path, $labels := $maps }}
{{- range $label := append $fixed "app.kubernetes.io/managed-by" }}
{{- if hasKey ($labels | default dict) $label }}
{{- $wrong = append $wrong (printf "%s cannot set %s, by which Kubernetes and Helm find the objects: remove it. (nameOverride changes app.kubernetes.io/name.)" $path $label) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $path := list "commonAnnotations" "podAnnotations" }}
{{- range $annotation := list "checksum/coco-labels" "checksum/credentials" "checksum/env-vars" }}
{{- if hasKey (get $.Values $path | default dict) $annotation }}
{{- $wrong = append $wrong (printf "%s cannot set %s, by which the chart replaces the pods: use another key." $path $annotation) }}
{{- end }}
{{- end }}
{{- end }}
{{- toJson $wrong }}
{{- end }}

{{- define "ssd.checkSizes" -}}
{{- $wrong := list }}
{{- with .Values.server }}
{{- $one := include "ssd.bytes" .bodyLimit | int64 }}
{{- $all := include "ssd.bytes" .bodiesLimit | int64 }}
{{- if gt $one (include "ssd.bytes" "1GiB" | int64) }}
{{- $wrong = append $wrong (printf "server.bodyLimit is %v; the maximum is 1GiB." .bodyLimit) }}
{{- end }}
{{- if gt $all (include "ssd.bytes" "64GiB" | int64) }}
{{- $wrong = append $wrong (printf "server.bodiesLimit is %v; the maximum is 64GiB." .bodiesLimit) }}
{{- end }}
{{- if lt $all $one }}
{{- $wrong = append $wrong (printf "server.bodiesLimit (%v) limits all bodies together: it cannot be less than server.bodyLimit (%v), the limit of one body." .bodiesLimit .bodyLimit) }}
{{- end }}
{{- end }}
{{- toJson $wrong }}
{{- end }}

{{/*
The bytes of a size such as 10MiB.
*/}}
{{- define "ssd.bytes" -}}
{{- $text := include "ssd.wholeNumberOrText" . }}
{{- $unit := regexFind "[A-Za-z]*$" $text }}
{{- $units := dict "" 1 "kB" 1000 "MB" 1000000 "GB" 1000000000 "KiB" 1024 "MiB" 1048576 "GiB" 1073741824 }}
{{- mul (trimSuffix $unit $text | int64) (get $units $unit) }}
{{- end }}

{{- define "ssd.checkCredentials" -}}
{{- $wrong := list }}
{{- with .Values.auth }}
{{- if and .existingSecret (or .username .password .generate) }}
{{- $wrong = append $wrong "auth.existingSecret already contains the credentials: remove auth.username, auth.password and auth.generate." }}
{{- end }}
{{- if eq .existingSecret (include "ssd.fullname" $) }}
{{- $secret := lookup "v1" "Secret" (include "ssd.namespace" $) .existingSecret }}
{{- if eq (dig "metadata" "annotations" "meta.helm.sh/release-name" "" $secret) $.Release.Name }}
{{- $wrong = append $wrong "auth.existingSecret names the Secret that this release created, and Helm would now delete it: copy it to another name first." }}
{{- end }}
{{- end }}
{{- if regexMatch "[\\x00-\\x1f\\x7f]" (.password | default "") }}
{{- $wrong = append $wrong "auth.password contains a line break or another control character: remove it. (--set-file keeps the line break at the end of a file.)" }}
{{- end }}
{{- if and .generate .password }}
{{- $wrong = append $wrong "auth.generate creates a password: remove auth.password, or set auth.generate to false." }}
{{- end }}
{{- if and (include "ssd.passwordIsPublic" $) (not .allowPublicPassword) }}
{{- with include "ssd.ownLogin" $ }}
{{- $wrong = append $wrong (printf "In the cluster, %s. These values would replace it with the password ugain, which everyone knows. To keep the earlier values, run helm upgrade with --reset-then-reuse-values; or set auth.generate=true, auth.existingSecret or auth.password. To return to ugain on purpose, set auth.allowPublicPassword=true." .) }}
{{- end }}
{{- with include "ssd.exposure" $ }}
{{- $wrong = append $wrong (printf "Clients from outside the cluster can connect (%s), and the password is ugain, which everyone knows. Set auth.generate=true, auth.existingSecret or auth.password; or, if anyone may use the server, auth.allowPublicPassword=true." .) }}
{{- end }}
{{- end }}
{{- end }}
{{- toJson $wrong }}
{{- end }}

{{/* The values by which clients from outside the cluster reach the server. */}}
{{- define "ssd.exposure" -}}
{{- $type := eq .Values.service.type "ClusterIP" | ternary "" (printf "service.type %s" .Values.service.type) }}
{{- $ingress := .Values.ingress.enabled | ternary "ingress.enabled" "" }}
{{- $route := .Values.httpRoute.enabled | ternary "httpRoute.enabled" "" }}
{{- list $type $ingress $route | compact | join ", " }}
{{- end }}

{{- define "ssd.checkResources" -}}
{{- $wrong := list }}
{{- $names := list }}
{{- range .Values.resourceClaims }}
{{- $names = append $names .name }}
{{- end }}
{{- range dig "claims" list (.Values.resources | default dict) }}
{{- if not (has .name $names) }}
{{- $wrong = append $wrong (printf "resources.claims names %s, which is not in resourceClaims, the claims of the pod: add it there." .name) }}
{{- end }}
{{- end }}
{{- toJson $wrong }}
{{- end }}

{{- define "ssd.checkLabels" -}}
{{- $wrong := list }}
{{- if and .Values.cocoLabels.inline .Values.cocoLabels.existingConfigMap }}
{{- $wrong = append $wrong "cocoLabels.inline and cocoLabels.existingConfigMap both set the labels: keep one." }}
{{- end }}
{{- toJson $wrong }}
{{- end }}

{{- define "ssd.checkModel" -}}
{{- $wrong := list }}
{{- with .Values.model }}
{{- if gt (list .url .existingClaim .image.reference | compact | len) 1 }}
{{- $wrong = append $wrong "model.url, model.existingClaim and model.image.reference each set the model: keep one." }}
{{- end }}
{{- if and .url (not .sha256) }}
{{- $wrong = append $wrong "model.url needs model.sha256, the SHA-256 of that file (sha256sum FILE): the download is compared with it." }}
{{- end }}
{{- if and .url (not .path) (has (base (urlParse .url).path) (list "." "/")) }}
{{- $wrong = append $wrong "model.url does not end with a file name: set model.path to the name to save the file as." }}
{{- end }}
{{- if and .sha256 (not .url) }}
{{- $wrong = append $wrong "model.sha256 needs model.url, the download that it is compared with." }}
{{- end }}
{{- if and .headerSecret (not .url) }}
{{- $wrong = append $wrong "model.headerSecret needs model.url, the download that the header is sent with." }}
{{- end }}
{{- if and (or .proxy .ca) (not .url) }}
{{- $wrong = append $wrong "model.proxy and model.ca need model.url, the download that they are used for." }}
{{- end }}
{{- if and .cache.enabled (not .url) }}
{{- $wrong = append $wrong "model.cache needs model.url, the download to keep. For a claim that already contains the file, set model.existingClaim." }}
{{- end }}
{{- if and .cache.existingClaim (not .cache.enabled) }}
{{- $wrong = append $wrong "model.cache.existingClaim needs model.cache.enabled." }}
{{- end }}
{{- if and (or .existingClaim .image.reference) (not .path) }}
{{- $wrong = append $wrong "model.path must name the file of the volume to load." }}
{{- end }}
{{- if and (ne (include "ssd.modelSource" $) "image") (or (hasPrefix "/" (toString .path)) (has ".." (splitList "/" (toString .path)))) }}
{{- $wrong = append $wrong "model.path must be below the volume's root: no leading / and no .." }}
{{- end }}
{{- if and .image.reference (semverCompare "<1.31-0" $.Capabilities.KubeVersion.Version) }}
{{- $wrong = append $wrong (printf "model.image needs OCI image volumes (Kubernetes 1.31 or later), which Kubernetes %s does not have." $.Capabilities.KubeVersion.Version) }}
{{- end }}
{{- end }}
{{- if and (include "ssd.modelCacheIsExclusive" .) (gt (include "ssd.mostReplicas" . | int) 1) }}
{{- $wrong = append $wrong "model.cache.accessMode must be ReadWriteMany for more than one replica." }}
{{- end }}
{{- toJson $wrong }}
{{- end }}

{{/* Helm 4 applies objects on the server, which refuses a container that sets a variable twice. */}}
{{- define "ssd.checkEnvironment" -}}
{{- $wrong := list }}
{{- $values := dict
  "SECRET_USERNAME" "auth"
  "SECRET_PASSWORD" "auth"
  "TLS_CERTIFICATE_PATH" "tls.secretName"
  "TLS_KEY_PATH" "tls.secretName"
  "COCO_LABELS_PATH" "cocoLabels"
  "WEIGHTS_PATH" "model"
  "MANAGEMENT_PORT" "metrics"
}}
{{- range $setting, $_ := .Values.server }}
{{- $values = merge $values (dict (snakecase $setting | upper) (printf "server.%s" $setting)) }}
{{- end }}
{{- $names := list }}
{{- range tpl (.Values.extraEnv | default list | toYaml) . | fromYamlArray }}
{{- if hasKey $values .name }}
{{- $wrong = append $wrong (printf "extraEnv sets %s, which the chart sets: use %s." .name (get $values .name)) }}
{{- else if has .name $names }}
{{- $wrong = append $wrong (printf "extraEnv sets %s twice: keep one." .name) }}
{{- end }}
{{- $names = append $names .name }}
{{- end }}
{{- toJson $wrong }}
{{- end }}

{{- define "ssd.checkScaling" -}}
{{- $wrong := list }}
{{- if and .Values.autoscaling.enabled .Values.keda.enabled }}
{{- $wrong = append $wrong "autoscaling and keda both set the number of pods: enable only one." }}
{{- end }}
{{- with .Values.autoscaling }}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) }}
{{- $wrong = append $wrong "autoscaling.minReplicas is greater than autoscaling.maxReplicas." }}
{{- end }}
{{- if and .enabled (not (or .targetCPUUtilizationPercentage .targetQueueDepth .metrics)) }}
{{- $wrong = append $wrong "autoscaling needs a target: targetCPUUtilizationPercentage, targetQueueDepth or metrics." }}
{{- end }}
{{- if and .enabled .targetCPUUtilizationPercentage (eq (include "ssd.cpuRequest" $ | include "ssd.cores") "0") }}
{{- $wrong = append $wrong "autoscaling.targetCPUUtilizationPercentage is a share of resources.requests.cpu: set that request." }}
{{- end }}
{{- with include "ssd.cpuLimitPercent" $ }}
{{- /* An autoscaler adds pods only if usage exceeds the target by its tolerance, by default 10 %. */}}
{{- $most := div (sub (mul . 10) 1) 11 }}
{{- with $.Values.autoscaling }}
{{- if and .enabled (gt (int64 .targetCPUUtilizationPercentage) $most) (not (dig "scaleUp" "tolerance" "" (.behavior | default dict))) }}
{{- $wrong = append $wrong (printf "autoscaling.targetCPUUtilizationPercentage is %v, but the CPU limit caps usage at 100 * %s / %s = %s %% of the request, and an autoscaler adds pods only above 1.1 times its target: it would never add one. Set the target to %d or less, or change resources.limits.cpu or resources.requests.cpu." .targetCPUUtilizationPercentage (include "ssd.cpuLimit" $) (include "ssd.cpuRequest" $) (include "ssd.cpuLimitPercent" $) $most) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .enabled .targetQueueDepth (not $.Values.metrics.enabled) }}
{{- $wrong = append $wrong "autoscaling.targetQueueDepth needs metrics.enabled." }}
{{- end }}
{{- end }}
{{- with .Values.keda }}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) }}
{{- $wrong = append $wrong "keda.minReplicas is greater than keda.maxReplicas." }}
{{- end }}
{{- if and .enabled (not (or .prometheusAddress .triggers)) }}
{{- $wrong = append $wrong "keda needs a trigger: prometheusAddress or triggers." }}
{{- end }}
{{- if and .enabled (eq (int .minReplicas) 0) (not .triggers) }}
{{- $wrong = append $wrong "keda.minReplicas is 0, but only the pods' own queue triggers scaling: no pod would ever start again. Set it to 1, or add a trigger to keda.triggers that does not depend on the pods." }}
{{- end }}
{{- if and .enabled .prometheusAddress (not $.Values.metrics.enabled) }}
{{- $wrong = append $wrong "keda.prometheusAddress needs metrics.enabled." }}
{{- end }}
{{- end }}
{{- toJson $wrong }}
{{- end }}

{{- define "ssd.checkExposure" -}}
{{- $wrong := list }}
{{- if and .Values.service.nodePort (eq .Values.service.type "ClusterIP") }}
{{- $wrong = append $wrong "service.nodePort needs service.type NodePort or LoadBalancer." }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
{{- $wrong = append $wrong "httpRoute.enabled needs httpRoute.parentRefs, the Gateways to attach to." }}
{{- end }}
{{- with .Values.httpRoute.backendTLS }}
{{- if and .hostname (not (and $.Values.httpRoute.enabled $.Values.tls.secretName)) }}
{{- $wrong = append $wrong "httpRoute.backendTLS.hostname needs httpRoute.enabled, and tls.secretName, the certificate with that name." }}
{{- end }}
{{- if and .caConfigMap (not .hostname) }}
{{- $wrong = append $wrong "httpRoute.backendTLS.caConfigMap needs httpRoute.backendTLS.hostname, the name in the certificate." }}
{{- end }}
{{- end }}
{{- if and .Values.httpRoute.gkeHealthCheck (not .Values.httpRoute.enabled) }}
{{- $wrong = append $wrong "httpRoute.gkeHealthCheck needs httpRoute.enabled." }}
{{- end }}
{{- if and .Values.metrics.enabled (eq (int .Values.metrics.port) (int .Values.server.port)) }}
{{- $wrong = append $wrong "metrics.port and server.port must differ." }}
{{- end }}
{{- with .Values.metrics.serviceMonitor }}
{{- if and .enabled (gt (include "ssd.milliseconds" .scrapeTimeout | int64) (include "ssd.milliseconds" .interval | int64)) }}
{{- $wrong = append $wrong (printf "metrics.serviceMonitor.scrapeTimeout (%s) is longer than its interval (%s), which the Prometheus operator refuses." .scrapeTimeout .interval) }}
{{- end }}
{{- end }}
{{- range $name := list "serviceMonitor" "prometheusRule" "dashboard" }}
{{- if and (get $.Values.metrics $name).enabled (not $.Values.metrics.enabled) }}
{{- $wrong = append $wrong (printf "metrics.%s needs metrics.enabled." $name) }}
{{- end }}
{{- end }}
{{- toJson $wrong }}
{{- end }}

{{/* The API server refuses these fields for other types of a Service. */}}
{{- define "ssd.checkService" -}}
{{- $wrong := list }}
{{- range $field, $_ := .Values.service.spec }}
{{- if and (has $field (list "allocateLoadBalancerNodePorts" "loadBalancerClass" "loadBalancerSourceRanges")) (ne $.Values.service.type "LoadBalancer") }}
{{- $wrong = append $wrong (printf "service.spec.%s needs service.type LoadBalancer." $field) }}
{{- end }}
{{- if and (eq $field "externalTrafficPolicy") (eq $.Values.service.type "ClusterIP") }}
{{- $wrong = append $wrong "service.spec.externalTrafficPolicy needs service.type NodePort or LoadBalancer." }}
{{- end }}
{{- end }}
{{- toJson $wrong }}
{{- end }}

{{- define "ssd.cpuLimit" -}}
{{- dig "limits" "cpu" "" (.Values.resources | default dict) }}
{{- end }}

{{/* If there is a limit but no request, Kubernetes sets the request to the limit. */}}
{{- define "ssd.cpuRequest" -}}
{{- dig "requests" "cpu" (include "ssd.cpuLimit" .) (.Values.resources | default dict) }}
{{- end }}

{{/* The CPU limit in percent of the request, rounded down. Empty if one of them is missing or 0. */}}
{{- define "ssd.cpuLimitPercent" -}}
{{- $limit := include "ssd.cpuLimit" . | include "ssd.cores" }}
{{- $request := include "ssd.cpuRequest" . | include "ssd.cores" }}
{{- if not (or (eq $limit "0") (eq $request "0")) }}
{{- divf (mulf 100 $limit) $request | floor | int64 }}
{{- end }}
{{- end }}

{{/* Cores of a CPU quantity such as 500m, 2 or 0.5. No quantity is 0. */}}
{{- define "ssd.cores" -}}
{{- divf (trimSuffix "m" . | float64) (hasSuffix "m" . | ternary 1000 1) }}
{{- end }}
