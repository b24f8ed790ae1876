{{/* Names, namespace, labels and annotations of the objects. */}}

{{/* The chart's name or alias, in lower case: an alias may be nightShift, but a name must be nightshift. */}}
{{- define "ssd.name" -}}
{{- .Values.nameOverride | default (.Chart.Name | lower | replace "_" "-") | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/*
The start of every object's name: RELEASE-ssd, or the release's name alone if it contains the chart's name. A Service's
name has no dots and starts with a letter, which Helm does not require of a release's name: 1.2 becomes ssd-1-2-ssd.
*/}}
{{- define "ssd.fullname" -}}
{{- $name := include "ssd.name" . }}
{{- if .Values.fullnameOverride }}
{{- $name = .Values.fullnameOverride }}
{{- else if not (contains $name .Release.Name) }}
{{- $name = printf "%s-%s" .Release.Name $name }}
{{- else }}
{{- $name = .Release.Name }}
{{- end }}
{{- regexReplaceAll "^[0-9]" (replace "." "-" $name) "ssd-${0}" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The full name with a suffix, at most 63 characters together. (list $ "suffix") */}}
{{- define "ssd.nameWith" -}}
{{- $suffix := last . }}
{{- $length := sub 62 (len $suffix) | int }}
{{- printf "%s-%s" (include "ssd.fullname" (first .) | trunc $length | trimSuffix "-") $suffix }}
{{- end }}

{{/* The namespace of every object. */}}
{{- define "ssd.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace }}
{{- end }}

{{/*
Labels by which other objects select the server's pods. The Service and the Deployment show them in full. An upgrade
cannot change them.
*/}}
{{- define "ssd.selectorLabels" -}}
app.kubernetes.io/component: server
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/name: {{ include "ssd.name" . | quote }}
{{- end }}

{{/* Labels of the pods of `helm test`, which the Service must not select. */}}
{{- define "ssd.testLabels" -}}
app.kubernetes.io/component: test
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/name: {{ include "ssd.nameWith" (list . "test") }}
{{- end }}

{{/* The version as a label. Unlike a tag, a label must begin and end with a letter or a digit. */}}
{{- define "ssd.versionLabel" -}}
{{- .Values.image.tag | default .Chart.AppVersion | replace "+" "_" | trimAll "-_." | trunc 63 | trimAll "-_." }}
{{- end }}

{{/*
More labels of the server's pods, none of which can change those that select. The chart's version is not among them: a
new version alone must not replace pods.
*/}}
{{- define "ssd.podLabels" -}}
{{- $labels := dict "app.kubernetes.io/version" (include "ssd.versionLabel" .) }}
{{- $labels = mergeOverwrite $labels (.Values.commonLabels | default dict) (.Values.podLabels | default dict) }}
{{- omit $labels "app.kubernetes.io/component" "app.kubernetes.io/instance" "app.kubernetes.io/name" | toYaml }}
{{- end }}

{{/* Labels of every other object. (list $ ADDITIONAL…) */}}
{{- define "ssd.labels" -}}
{{- $root := first . }}
{{- $labels := dict
  "app.kubernetes.io/managed-by" $root.Release.Service
  "app.kubernetes.io/version" (include "ssd.versionLabel" $root)
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
}}
{{- range prepend (rest .) $root.Values.commonLabels | compact }}
{{- $labels = mergeOverwrite $labels . }}
{{- end }}
{{- mergeOverwrite $labels (include "ssd.selectorLabels" $root | fromYaml) | toYaml }}
{{- end }}

{{/* The common annotations and an object's own, or nothing. (list $ ADDITIONAL…) */}}
{{- define "ssd.annotations" -}}
{{- $annotations := dict }}
{{- range prepend (rest .) (first .).Values.commonAnnotations | compact }}
{{- $annotations = mergeOverwrite $annotations . }}
{{- end }}
{{- with $annotations }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{- define "ssd.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "ssd.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{/* The reference of an image. (list $ IMAGE-VALUES DEFAULT-TAG) */}}
{{- define "ssd.image" -}}
{{- $image := index . 1 }}
{{- $repository := include "ssd.fromRegistry" (list (first .) $image.repository) }}
{{- if $image.digest }}
{{- printf "%s@%s" $repository $image.digest }}
{{- else }}
{{- printf "%s:%s" $repository ($image.tag | default (last .)) }}
{{- end }}
{{- end }}

{{/*
A reference with the registry of global.imageRegistry. As in Docker, the first part of a reference is a registry if it
has a dot or a port, or is localhost. (list $ REFERENCE)
*/}}
{{- define "ssd.fromRegistry" -}}
{{- $reference := last . }}
{{- with ((first .).Values.global).imageRegistry }}
{{- $reference = regexReplaceAll "^([^/]*[.:][^/]*|localhost)/" $reference "" | printf "%s/%s" (trimSuffix "/" .) }}
{{- end }}
{{- $reference }}
{{- end }}

{{/* The pull secrets of every pod. Those of the parent chart may be names. */}}
{{- define "ssd.imagePullSecrets" -}}
{{- $names := list }}
{{- range concat ((.Values.global).imagePullSecrets | default list) (.Values.imagePullSecrets | default list) }}
{{- if kindIs "string" . }}{{ $names = append $names . }}{{ else }}{{ $names = append $names .name }}{{ end }}
{{- end }}
{{- range uniq $names }}
- name: {{ . | quote }}
{{- end }}
{{- end }}
