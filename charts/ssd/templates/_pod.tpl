{{/* Parts of the pods' specification. */}}

{{/* Fields of every pod of the chart, tests included. */}}
{{- define "ssd.podDefaults" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- if not .Values.hostUsers }}
hostUsers: false
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Milliseconds of a duration such as 500ms, 5s, 2m or 1h. */}}
{{- define "ssd.milliseconds" -}}
{{- $number := regexFind "^[0-9]+" . | int64 }}
{{- $unit := regexFind "[a-z]+$" . }}
{{- mul $number (get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000) $unit) }}
{{- end }}

{{/* Seconds of a duration, rounded up. */}}
{{- define "ssd.seconds" -}}
{{- div (add (include "ssd.milliseconds" .) 999) 1000 }}
{{- end }}

{{/* The server's drain, and 5 seconds for its last log lines. */}}
{{- define "ssd.gracePeriodSeconds" -}}
{{- add (include "ssd.seconds" .Values.server.drainDelay) (include "ssd.seconds" .Values.server.drainTimeout) 5 }}
{{- end }}

{{- define "ssd.mostReplicas" -}}
{{- if .Values.autoscaling.enabled }}{{ int .Values.autoscaling.maxReplicas }}
{{- else if .Values.keda.enabled }}{{ int .Values.keda.maxReplicas }}
{{- else }}{{ int .Values.replicaCount }}
{{- end }}
{{- end }}

{{/*
By default a new pod must be ready before an old one is removed. If both cannot run at the same time, because
one GPU or one cache volume is in use, that rollout would never end, so the old pod is removed first.
*/}}
{{- define "ssd.updateStrategy" -}}
{{- $exclusive := or .Values.gpu.enabled (include "ssd.modelCacheIsExclusive" .) }}
{{- if .Values.updateStrategy }}
{{- toYaml .Values.updateStrategy }}
{{- else if and $exclusive (le (include "ssd.mostReplicas" . | int) 1) }}
{{- "type: Recreate" }}
{{- else -}}
type: RollingUpdate
rollingUpdate:
  maxSurge: 1
  maxUnavailable: 0
{{- end }}
{{- end }}

{{/*
Spread over nodes as far as possible: a hard constraint would leave pods pending in a small cluster. Zones are an
affinity below, not a second constraint: the scheduler ignores nodes that lack the topology key of any constraint,
so in a cluster without zone labels it would ignore all nodes.
*/}}
{{- define "ssd.topologySpreadConstraints" -}}
{{- $constraints := .Values.topologySpreadConstraints | default list }}
{{- if not $constraints }}
{{- $constraints = list (dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway" "matchLabelKeys" (list "pod-template-hash")) }}
{{- end }}
{{- $selector := dict "labelSelector" (dict "matchLabels" (include "ssd.selectorLabels" . | fromYaml)) }}
{{- range $constraints }}
- {{ ternary . (merge (deepCopy .) $selector) (hasKey . "labelSelector") | toYaml | indent 2 | trim }}
{{- end }}
{{- end }}

{{/* Prefers a zone that has no other pod of the release, if nodes have zones. */}}
{{- define "ssd.affinity" -}}
{{- if .Values.affinity }}
{{- toYaml .Values.affinity }}
{{- else -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: topology.kubernetes.io/zone
        matchLabelKeys:
          - pod-template-hash
        labelSelector:
          matchLabels:
            {{- include "ssd.selectorLabels" . | nindent 12 }}
{{- end }}
{{- end }}

{{- define "ssd.runtimeClassName" -}}
{{- .Values.gpu.enabled | ternary .Values.gpu.runtimeClassName "" | default .Values.runtimeClassName }}
{{- end }}

{{- define "ssd.tolerations" -}}
{{- with concat (.Values.tolerations | default list) (ternary .Values.gpu.tolerations list .Values.gpu.enabled | default list) }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/* Requests and limits. The GPU is a limit: Kubernetes sets the request to the same number. */}}
{{- define "ssd.resources" -}}
{{- $resources := deepCopy (.Values.resources | default dict) }}
{{- if .Values.gpu.enabled }}
{{- $resources = merge $resources (dict "limits" (dict .Values.gpu.resourceName (int .Values.gpu.count))) }}
{{- end }}
{{- with $resources }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/* A change of these checksums replaces the pods. The chart cannot see changes of existing objects: see `reloader`. */}}
{{- define "ssd.checksums" -}}
checksum/env-vars: {{ include "ssd.environment" . | sha256sum }}
{{- if not .Values.cocoLabels.existingConfigMap }}
checksum/coco-labels: {{ include "ssd.labelsText" . | sha256sum }}
{{- end }}
{{- if not .Values.auth.existingSecret }}
checksum/credentials: {{ include "ssd.credentialsChecksum" . }}
{{- end }}
{{- end }}

{{/* Annotations for Stakater's Reloader, which watches existing objects. */}}
{{- define "ssd.reloaderAnnotations" -}}
{{- if .Values.reloader }}
{{- with .Values.auth.existingSecret }}
secret.reloader.stakater.com/reload: {{ . | quote }}
{{- end }}
{{- with .Values.cocoLabels.existingConfigMap }}
configmap.reloader.stakater.com/reload: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* The server's protocol, which is also the name of its port. */}}
{{- define "ssd.scheme" -}}
{{ ternary "https" "http" (not (empty .Values.tls.secretName)) }}
{{- end }}

{{/* The startup probe uses /readyz, because /livez succeeds while the model still loads. */}}
{{- define "ssd.probes" -}}
{{- $paths := dict "startup" "/readyz" "liveness" "/livez" "readiness" "/readyz" }}
{{- range $kind := list "startup" "liveness" "readiness" }}
{{- with get $.Values.probes $kind }}
{{ $kind }}Probe:
  httpGet:
    path: {{ get $paths $kind }}
    port: {{ include "ssd.scheme" $ }}
    {{- if $.Values.tls.secretName }}
    scheme: HTTPS
    {{- end }}
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* The nodes on which the server's pods run. */}}
{{- define "ssd.scheduling" -}}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with include "ssd.runtimeClassName" . }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- with .Values.resourceClaims }}
resourceClaims:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
  {{- include "ssd.affinity" . | nindent 2 }}
{{- with include "ssd.tolerations" . }}
tolerations:
  {{- . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  {{- include "ssd.topologySpreadConstraints" . | trim | nindent 2 }}
{{- end }}
