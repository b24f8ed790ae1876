{{/* User name and password for POST /predict. */}}

{{- define "ssd.secretName" -}}
{{- .Values.auth.existingSecret | default (include "ssd.fullname" .) }}
{{- end }}

{{- define "ssd.usernameKey" -}}
{{- if .Values.auth.existingSecret }}{{ .Values.auth.usernameKey }}{{ else }}username{{ end }}
{{- end }}

{{- define "ssd.passwordKey" -}}
{{- if .Values.auth.existingSecret }}{{ .Values.auth.passwordKey }}{{ else }}password{{ end }}
{{- end }}

{{/* SECRET_USERNAME and SECRET_PASSWORD, as a container's environment. */}}
{{- define "ssd.credentialsEnvironment" -}}
- name: SECRET_USERNAME
  valueFrom:
    secretKeyRef:
      name: {{ include "ssd.secretName" . | quote }}
      key: {{ include "ssd.usernameKey" . | quote }}
- name: SECRET_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "ssd.secretName" . | quote }}
      key: {{ include "ssd.passwordKey" . | quote }}
{{- end }}

{{/*
{username, password} of the Secret that the chart creates. Stored in .Values by the first call, because a
random password must be the same in the Secret and in the checksum of the pods.
*/}}
{{- define "ssd.credentials" -}}
{{- $auth := .Values.auth }}
{{- if not (hasKey $auth "resolved") }}
{{- $password := $auth.password | default "ugain" }}
{{- if $auth.generate }}
{{- $password = include "ssd.generatedPassword" . }}
{{- end }}
{{- $_ := set $auth "resolved" (dict "username" ($auth.username | default "ugain") "password" $password) }}
{{- end }}
{{- toYaml $auth.resolved }}
{{- end }}

{{/* Marks a Secret whose password `auth.generate` created: only such a password is kept. */}}
{{- define "ssd.generatedMark" -}}
ssd/password: generated
{{- end }}

{{/* The password of the release's Secret if it has that mark, otherwise a new one. */}}
{{- define "ssd.generatedPassword" -}}
{{- $secret := lookup "v1" "Secret" .Release.Namespace (include "ssd.fullname" .) }}
{{- $kept := "" }}
{{- if eq (dig "metadata" "annotations" "ssd/password" "" $secret) "generated" }}
{{- $kept = dig "data" "password" "" $secret | b64dec }}
{{- end }}
{{- if $kept }}
{{- $kept }}
{{- else if or $secret (include "ssd.clusterIsReachable" .) }}
{{- randAlphaNum 32 }}
{{- else }}
{{- fail (include "ssd.generateNeedsCluster" .) }}
{{- end }}
{{- end }}

{{/*
Not empty if `lookup` reaches a cluster. The release's namespace may not exist yet (--create-namespace). Only
then is kube-system looked up: users with rights in one namespace cannot read it.
*/}}
{{- define "ssd.clusterIsReachable" -}}
{{- if lookup "v1" "ServiceAccount" .Release.Namespace "default" }}yes
{{- else if lookup "v1" "Namespace" "" "kube-system" }}yes
{{- end }}
{{- end }}

{{- define "ssd.generateNeedsCluster" }}

auth.generate must read the cluster to keep the password that it created before. Here the cluster cannot
be read (helm template, --dry-run=client, or a tool that only renders, such as Argo CD), so each render
would create another password. Instead, create the Secret once, outside the chart:

  kubectl -n {{ .Release.Namespace }} create secret generic {{ include "ssd.fullname" . }}-credentials \
    --type kubernetes.io/basic-auth --from-literal username={{ .Values.auth.username | default "ugain" }} \
    --from-literal password="$(openssl rand -base64 24)"

(or with External Secrets or Sealed Secrets) and set:

  auth.generate: false
  auth.existingSecret: {{ include "ssd.fullname" . }}-credentials
{{ end }}
