{{/*
Common parts of the objects of `helm test`. The Service does not select their labels. The pods stay after the
test, so that `helm test --logs` can read their logs. The other objects have names of pods, because Helm 3 reads the
log of a pod with the name of each object.
*/}}

{{/* The metadata of a test's object without its name. (list $ WEIGHT DELETE-POLICY) */}}
{{- define "ssd.testMetadata" -}}
{{- $root := first . }}
{{- $hook := dict "helm.sh/hook" "test" "helm.sh/hook-weight" (index . 1 | toString) "helm.sh/hook-delete-policy" (last .) -}}
namespace: {{ include "ssd.namespace" $root | quote }}
labels:
  {{- mergeOverwrite (include "ssd.labels" (list $root $root.Values.tests.labels) | fromYaml) (include "ssd.testLabels" $root | fromYaml) | toYaml | nindent 2 }}
annotations:
  {{- include "ssd.annotations" (list $root $root.Values.tests.annotations $hook) | nindent 2 }}
{{- end }}

{{/* The pod's fields without its containers and volumes. By default it can run on every node that the server can run on. */}}
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
{{- with .Values.tests.nodeSelector | default .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if not .Values.tests.nodeSelector }}
{{- with (.Values.affinity).nodeAffinity }}
affinity:
  nodeAffinity:
    {{- toYaml . | nindent 4 }}
{{- end }}
{{- end }}
{{- with .Values.tests.tolerations | default (include "ssd.tolerations" . | fromYamlArray) }}
tolerations:
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

{{/*
Retries until the network lets the new pod reach the server. The certificate is not verified, because it may be for a
name outside the cluster.
*/}}
{{- define "ssd.testCurl" -}}
curl{{ if .Values.tls.secretName }} --insecure{{ end }} --silent --show-error --connect-timeout 5 --retry 10 --retry-delay 2 --retry-connrefused
{{- end }}

{{- define "ssd.serviceUrl" -}}
{{ include "ssd.scheme" . }}://{{ include "ssd.fullname" . }}.{{ include "ssd.namespace" . }}.svc:{{ .Values.service.port }}
{{- end }}
