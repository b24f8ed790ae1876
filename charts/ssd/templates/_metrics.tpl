{{/* The label selector that finds this release's series in Prometheus, with more matchers if given. */}}
{{- define "ssd.metricsSelector" -}}
{namespace="{{ .Release.Namespace }}",service="{{ include "ssd.nameWith" (list . "metrics") }}"}
{{- end }}

{{/* (list $ MATCHERS) */}}
{{- define "ssd.metricsSelectorWith" -}}
{{- include "ssd.metricsSelector" (first .) | trimSuffix "}" }},{{ last . }}}
{{- end }}
