{{/* The source of the weights, and their path in the server's container. */}}

{{/* image, url, claim or oci. _checks.tpl refuses more than one. */}}
{{- define "ssd.modelSource" -}}
{{- if .Values.model.url }}url
{{- else if .Values.model.existingClaim }}claim
{{- else if .Values.model.image.reference }}oci
{{- else }}image
{{- end }}
{{- end }}

{{/* The path of the weights. If empty, the server uses its default weights. */}}
{{- define "ssd.weightsPath" -}}
{{- $source := include "ssd.modelSource" . }}
{{- if eq $source "image" }}
{{- .Values.model.path }}
{{- else if eq $source "url" }}
{{- /* A folder for each SHA-256, so that a cache never returns another file. */}}
{{- printf "/models/%s/%s" (.Values.model.sha256 | default "" | lower) (.Values.model.path | default (urlParse .Values.model.url).path | base) }}
{{- else }}
{{- printf "/models/%s" .Values.model.path }}
{{- end }}
{{- end }}

{{- define "ssd.modelCacheClaim" -}}
{{- .Values.model.cache.existingClaim | default (include "ssd.nameWith" (list . "model-cache")) }}
{{- end }}

{{/* Not empty if only one node at a time can mount the cache. */}}
{{- define "ssd.modelCacheIsExclusive" -}}
{{- $cache := .Values.model.cache }}
{{- if and .Values.model.url $cache.enabled (ne $cache.accessMode "ReadWriteMany") }}yes{{ end }}
{{- end }}

{{- define "ssd.modelVolume" -}}
{{- $source := include "ssd.modelSource" . -}}
- name: model
{{- if eq $source "claim" }}
  persistentVolumeClaim:
    claimName: {{ .Values.model.existingClaim | quote }}
    readOnly: true
{{- else if eq $source "oci" }}
  image:
    reference: {{ include "ssd.fromRegistry" (list . .Values.model.image.reference) }}
{{- else if .Values.model.cache.enabled }}
  persistentVolumeClaim:
    claimName: {{ include "ssd.modelCacheClaim" . | quote }}
{{- else }}
  emptyDir:
    sizeLimit: {{ .Values.model.cache.size }}
{{- end }}
{{- if and .Values.model.url .Values.model.ca }}
- name: model-ca
  {{- with .Values.model.ca.configMap }}
  configMap:
    name: {{ .name | quote }}
    items:
      - key: {{ .key | quote }}
        path: ca.crt
  {{- end }}
  {{- with .Values.model.ca.secret }}
  secret:
    secretName: {{ .name | quote }}
    items:
      - key: {{ .key | quote }}
        path: ca.crt
  {{- end }}
{{- end }}
{{- end }}

{{/* The init container that downloads the model and compares its SHA-256. */}}
{{- define "ssd.modelDownload" -}}
- name: download-model
  image: {{ include "ssd.image" (list . .Values.curl "") }}
  imagePullPolicy: {{ .Values.curl.pullPolicy }}
  command:
    - sh
    - -euc
  args:
    - |
      {{- $script := .Files.Get "files/download-model.sh" | required "The chart has no files/download-model.sh." }}
      {{- /* Without empty lines, which nindent would fill with spaces. */}}
      {{- regexReplaceAll "\n+" $script "\n" | trim | nindent 6 }}
  env:
    - name: MODEL_URL
      value: {{ .Values.model.url | quote }}
    - name: MODEL_SHA256
      value: {{ .Values.model.sha256 | lower | quote }}
    - name: MODEL_FILE
      value: {{ include "ssd.weightsPath" . | splitList "#" | first | quote }}
    - name: POD_NAME
      valueFrom:
        fieldRef:
          fieldPath: metadata.name
    {{- with .Values.model.headerSecret }}
    - name: MODEL_HEADER
      valueFrom:
        secretKeyRef:
          name: {{ . | quote }}
          key: {{ $.Values.model.headerKey | quote }}
    {{- end }}
    {{- with .Values.model.proxy }}
    {{- /* For http and https, and wherever the URL redirects to. */}}
    - name: ALL_PROXY
      value: {{ . | quote }}
    {{- end }}
    {{- if .Values.model.ca }}
    - name: CURL_CA_BUNDLE
      value: /etc/ssd-model-ca/ca.crt
    {{- end }}
  {{- with .Values.curl.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.securityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  volumeMounts:
    - name: model
      mountPath: /models
    {{- if .Values.model.ca }}
    - name: model-ca
      mountPath: /etc/ssd-model-ca
      readOnly: true
    {{- end }}
{{- end }}

{{/* The port to which the download connects: that of the proxy, or that of the model's URL. */}}
{{- define "ssd.modelUrlPort" -}}
{{- $url := .Values.model.proxy | default .Values.model.url | urlParse }}
{{- with regexFind ":[0-9]+$" $url.host }}
{{- trimPrefix ":" . }}
{{- else }}
{{- eq $url.scheme "https" | ternary 443 80 }}
{{- end }}
{{- end }}
