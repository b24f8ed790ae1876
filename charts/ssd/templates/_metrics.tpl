{{/* The label selector of this release's series in Prometheus. */}}
{{- define "ssd.metricsSelector" -}}
{namespace="{{ include "ssd.namespace" . }}",service="{{ include "ssd.nameWith" (list . "metrics") }}"}
{{- end }}

{{/* The same with more matchers. (list $ MATCHERS) */}}
{{- define "ssd.metricsSelectorWith" -}}
{{- include "ssd.metricsSelector" (first .) | trimSuffix "}" }},{{ last . }}}
{{- end }}

{{/*
Labels of an alert. They add namespace and service, which the expression aggregates away and by which Alertmanager
may route. (list $ SEVERITY)
*/}}
{{- define "ssd.alertLabels" -}}
{{- $root := first . -}}
{{- $own := dict "severity" (last .) "namespace" (include "ssd.namespace" $root) "service" (include "ssd.nameWith" (list $root "metrics")) -}}
{{- mergeOverwrite $own ($root.Values.metrics.prometheusRule.alertLabels | default dict) | toYaml -}}
{{- end }}
