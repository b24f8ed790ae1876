{{/*
What the objects of `helm test` share. They carry no label by which the Service selects, and stay
after the test for `helm test --logs` to read.
*/}}

{{/* The metadata of a test's object but for its name. (list $ WEIGHT) */}}
{{- define "ssd.testMetadata" -}}
{{- $root := first . }}
{{- $hook := dict "helm.sh/hook" "test" "helm.sh/hook-delete-policy" "before-hook-creation" "helm.sh/hook-weight" (last . | toString) -}}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- mergeOverwrite (list $root | include "ssd.labels" | fromYaml) (include "ssd.testLabels" $root | fromYaml) | toYaml | nindent 2 }}
annotations:
  {{- list $root $hook | include "ssd.annotations" | nindent 2 }}
{{- end }}

{{/* The container's fields but for its name, command and environment. */}}
{{- define "ssd.testContainer" -}}
image: {{ list .Values.curl "" | include "ssd.image" }}
imagePullPolicy: {{ .Values.curl.pullPolicy }}
{{- with .Values.curl.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "ssd.serviceUrl" -}}
http://{{ include "ssd.fullname" . }}.{{ .Release.Namespace }}.svc:{{ .Values.service.port }}
{{- end }}
