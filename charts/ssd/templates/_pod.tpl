{{/* Parts of the server's pods. */}}

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
By default a new pod must be ready before an old one is removed. If both cannot run at the same time, because all GPUs
or the cache volume may be in use, that rollout would never end, so an old pod is removed first.
*/}}
{{- define "ssd.updateStrategy" -}}
{{- $exclusive := or .Values.gpu.enabled (include "ssd.modelCacheIsExclusive" .) | empty | not }}
{{- if .Values.updateStrategy }}
{{- toYaml .Values.updateStrategy }}
{{- else if and $exclusive (le (include "ssd.mostReplicas" . | int) 1) }}
{{- "type: Recreate" }}
{{- else -}}
type: RollingUpdate
rollingUpdate:
  maxSurge: {{ ternary 0 1 $exclusive }}
  maxUnavailable: {{ ternary 1 0 $exclusive }}
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

{{/*
The affinity of the values, and a preference for zones that have no other pod of the release, unless the values have
preferences of that kind. `merge` would not let an empty list turn it off.
*/}}
{{- define "ssd.affinity" -}}
{{- $affinity := deepCopy (.Values.affinity | default dict) }}
{{- $preference := include "ssd.zoneAntiAffinity" . | fromYaml }}
{{- range $kind, $terms := $affinity.podAntiAffinity }}
{{- $_ := set $preference $kind $terms }}
{{- end }}
{{- set $affinity "podAntiAffinity" $preference | toYaml }}
{{- end }}

{{- define "ssd.zoneAntiAffinity" -}}
preferredDuringSchedulingIgnoredDuringExecution:
  - weight: 100
    podAffinityTerm:
      topologyKey: topology.kubernetes.io/zone
      matchLabelKeys:
        - pod-template-hash
      labelSelector:
        matchLabels:
          {{- include "ssd.selectorLabels" . | nindent 10 }}
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
