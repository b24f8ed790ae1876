{{/* The label selector that finds this release's series in Prometheus, with more matchers if given. */}}
{{- define "ssd.metricsSelector" -}}
{namespace="{{ .Release.Namespace }}",service="{{ include "ssd.nameWith" (list . "metrics") }}"}
{{- end }}

{{/* (list $ MATCHERS) */}}
{{- define "ssd.metricsSelectorWith" -}}
{{- include "ssd.metricsSelector" (first .) | trimSuffix "}" }},{{ last . }}}
{{- end }}

{{/* (list $ SEVERITY): the labels of an alert. Its expression has lost those of the series, by which Alertmanager routes. */}}
{{- define "ssd.alertLabels" -}}
{{- $root := first . -}}
{{- $own := dict "severity" (last .) "namespace" $root.Release.Namespace "service" (include "ssd.nameWith" (list $root "metrics")) -}}
{{- mergeOverwrite $own ($root.Values.metrics.prometheusRule.alertLabels | default dict) | toYaml -}}
{{- end }}
