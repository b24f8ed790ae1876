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

{{/*
{username, password, salt} of the Secret that the chart creates. Stored in .Values by the first call, because what
is random must be the same in the Secret and in the checksum of the pods.
*/}}
{{- define "ssd.credentials" -}}
{{- $auth := .Values.auth }}
{{- if not (hasKey $auth "resolved") }}
{{- $password := $auth.password | default "ugain" }}
{{- if $auth.generate }}
{{- $password = include "ssd.generatedPassword" . }}
{{- end }}
{{- $_ := set $auth "resolved" (dict "username" ($auth.username | default "ugain") "password" $password "salt" (include "ssd.salt" .)) }}
{{- end }}
{{- toYaml $auth.resolved }}
{{- end }}

{{/* Not empty if the chart's Secret has the password that everyone knows. */}}
{{- define "ssd.passwordIsPublic" -}}
{{- with .Values.auth }}
{{- if not (or .existingSecret .generate (ne (.password | default "ugain") "ugain")) }}yes{{ end }}
{{- end }}
{{- end }}

{{/* The release's login in the cluster, if it is not the public one: what the chart must not replace in silence. */}}
{{- define "ssd.ownLogin" -}}
{{- $name := include "ssd.fullname" . }}
{{- $secret := lookup "v1" "Secret" (include "ssd.namespace" .) $name }}
{{- $password := dig "data" "password" "" $secret | b64dec }}
{{- $deployment := lookup "apps/v1" "Deployment" (include "ssd.namespace" .) $name }}
{{- if not (has $password (list "" "ugain")) }}the Secret {{ $name }} has a password of its own
{{- else }}
{{- range dig "spec" "template" "spec" "containers" list $deployment }}
{{- range .env }}
{{- $source := dig "valueFrom" "secretKeyRef" "name" $name . }}
{{- if and (eq .name "SECRET_PASSWORD") (ne $source $name) }}the pods read their password from the Secret {{ $source }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/*
The checksum of the credentials, an annotation of the pods. Many may read pods who may not read Secrets: to them it
must not confirm a guess of the password. The random salt, which only the Secret has, makes guessing impossible. Where
the cluster cannot be read there is no salt, because another one for each rendering would replace the pods each time.
There the checksum still costs a guesser 0.1 s for each guess, because derivePassword is scrypt.
*/}}
{{- define "ssd.credentialsChecksum" -}}
{{- $credentials := include "ssd.credentials" . | fromYaml }}
{{- if include "ssd.passwordIsPublic" . }}
{{- omit $credentials "salt" | toYaml | sha256sum }}
{{- else }}
{{- $user := printf "%s/%s/%s" (include "ssd.namespace" .) (include "ssd.fullname" .) $credentials.username }}
{{- derivePassword 1 "long" $credentials.password $user $credentials.salt | sha256sum }}
{{- end }}
{{- end }}

{{/*
The salt of the release's Secret; if it has none, a new one. Empty where the cluster cannot be read, and for the public
password, which has nothing to hide.
*/}}
{{- define "ssd.salt" -}}
{{- if not (include "ssd.passwordIsPublic" .) }}
{{- $secret := lookup "v1" "Secret" (include "ssd.namespace" .) (include "ssd.fullname" .) }}
{{- if dig "data" "salt" "" $secret }}
{{- b64dec $secret.data.salt }}
{{- else if or $secret (include "ssd.clusterIsReachable" .) }}
{{- randAlphaNum 32 }}
{{- end }}
{{- end }}
{{- end }}

{{/* Marks a Secret whose password `auth.generate` created: only such a password is kept. */}}
{{- define "ssd.generatedMark" -}}
ssd/password: generated
{{- end }}

{{/* The password of the release's Secret if it has that mark, otherwise a new one. */}}
{{- define "ssd.generatedPassword" -}}
{{- $secret := lookup "v1" "Secret" (include "ssd.namespace" .) (include "ssd.fullname" .) }}
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
{{- if lookup "v1" "ServiceAccount" (include "ssd.namespace" .) "default" }}yes
{{- else if lookup "v1" "Namespace" "" "kube-system" }}yes
{{- end }}
{{- end }}

{{- define "ssd.generateNeedsCluster" }}

auth.generate must read the cluster to keep the password that it created before. Here the cluster cannot
be read (helm template, --dry-run=client, or a tool that only renders, such as Argo CD), so each render
would create another password. Instead, create the Secret once, outside the chart:

  kubectl -n {{ include "ssd.namespace" . }} create secret generic {{ include "ssd.fullname" . }}-credentials \
    --type kubernetes.io/basic-auth --from-literal username={{ .Values.auth.username | default "ugain" | replace "'" `'\''` | squote }} \
    --from-literal password="$(openssl rand -base64 24)"

(or with External Secrets or Sealed Secrets) and set:

  auth.generate: false
  auth.existingSecret: {{ include "ssd.fullname" . }}-credentials
{{ end }}
