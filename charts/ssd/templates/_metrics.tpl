{{/* The label selector that finds this release's series in Prometheus, with more matchers if given. */}}
{{- define "ssd.metricsSelector" -}}
{namespace="{{ .Release.Namespace }}",service="{{ include "ssd.fullname" . }}"}
{{- end }}

{{/* (list $ MATCHERS) */}}
{{- define "ssd.metricsSelectorWith" -}}
{{- include "ssd.metricsSelector" (first .) | trimSuffix "}" }},{{ last . }}}
{{- end }}
