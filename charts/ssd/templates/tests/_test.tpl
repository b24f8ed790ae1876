{{/*
Common parts of the objects of `helm test`. The Service does not select their labels. The pods stay after the
test, so that `helm test --logs` can read their logs.
*/}}

{{/* The metadata of a test's object without its name. (list $ WEIGHT DELETE-POLICY) */}}
{{- define "ssd.testMetadata" -}}
{{- $root := first . }}
{{- $hook := dict "helm.sh/hook" "test" "helm.sh/hook-weight" (index . 1 | toString) "helm.sh/hook-delete-policy" (last .) -}}
namespace: {{ include "ssd.namespace" $root | quote }}
labels:
  {{- mergeOverwrite (include "ssd.labels" (list $root) | fromYaml) (include "ssd.testLabels" $root | fromYaml) | toYaml | nindent 2 }}
annotations:
  {{- include "ssd.annotations" (list $root $hook) | nindent 2 }}
{{- end }}

{{/* The pod's fields without its containers and volumes. */}}
{{- define "ssd.testPod" -}}
restartPolicy: Never
automountServiceAccountToken: false
enableServiceLinks: false
{{- if not .Values.hostUsers }}
hostUsers: false
{{- end }}
{{- with include "ssd.imagePullSecrets" . | trim }}
imagePullSecrets:
  {{- . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The container's fields without its name, command and environment. */}}
{{- define "ssd.testContainer" -}}
image: {{ include "ssd.image" (list . .Values.curl "") }}
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

{{/* The test does not verify the certificate, which may be for a name outside the cluster. */}}
{{- define "ssd.testCurl" -}}
curl{{ if .Values.tls.secretName }} --insecure{{ end }}
{{- end }}

{{- define "ssd.serviceUrl" -}}
{{ include "ssd.scheme" . }}://{{ include "ssd.fullname" . }}.{{ include "ssd.namespace" . }}.svc:{{ .Values.service.port }}
{{- end }}
