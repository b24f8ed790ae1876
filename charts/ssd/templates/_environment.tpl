{{/* The server's settings as environment variables, without the credentials. `ci/chart.sh settings` reads this mapping. */}}
{{- define "ssd.environment" -}}
HOST: {{ .Values.server.host | quote }}
PORT: {{ .Values.server.port | int | quote }}
{{- if .Values.tls.secretName }}
TLS_CERTIFICATE_PATH: "/etc/ssd-tls/tls.crt"
TLS_KEY_PATH: "/etc/ssd-tls/tls.key"
{{- end }}
COCO_LABELS_PATH: {{ include "ssd.labelsPath" . | quote }}
{{- with include "ssd.weightsPath" . }}
WEIGHTS_PATH: {{ . | quote }}
{{- end }}
THRESHOLD: {{ .Values.server.threshold | quote }}
NMS_IOU: {{ .Values.server.nmsIou | quote }}
TOP_K: {{ .Values.server.topK | int | quote }}
BODY_LIMIT: {{ include "ssd.wholeNumberOrText" .Values.server.bodyLimit | quote }}
BODIES_LIMIT: {{ include "ssd.wholeNumberOrText" .Values.server.bodiesLimit | quote }}
PIXEL_LIMIT: {{ .Values.server.pixelLimit | int64 | quote }}
PRECISION: {{ .Values.server.precision | quote }}
{{- $mustUseGPU := and .Values.gpu.enabled (eq .Values.server.device "auto") }}
DEVICE: {{ ternary "cuda:0" .Values.server.device $mustUseGPU | quote }}
WORKERS: {{ .Values.server.workers | int | quote }}
THREADS: {{ include "ssd.wholeNumberOrText" .Values.server.threads | quote }}
BATCH: {{ include "ssd.wholeNumberOrText" .Values.server.batch | quote }}
QUEUE_LENGTH: {{ .Values.server.queueLength | int | quote }}
REQUEST_TIMEOUT: {{ .Values.server.requestTimeout | quote }}
FORWARD_TIMEOUT: {{ .Values.server.forwardTimeout | quote }}
CONNECTION_LIMIT: {{ .Values.server.connectionLimit | int | quote }}
IDLE_TIMEOUT: {{ .Values.server.idleTimeout | quote }}
HEADER_TIMEOUT: {{ .Values.server.headerTimeout | quote }}
BODY_TIMEOUT: {{ .Values.server.bodyTimeout | quote }}
WRITE_TIMEOUT: {{ .Values.server.writeTimeout | quote }}
DRAIN_DELAY: {{ .Values.server.drainDelay | quote }}
DRAIN_TIMEOUT: {{ .Values.server.drainTimeout | quote }}
LOG_FORMAT: {{ .Values.server.logFormat | quote }}
LOG_FILTER: {{ .Values.server.logFilter | quote }}
MANAGEMENT_PORT: {{ ternary (.Values.metrics.port | int) "off" .Values.metrics.enabled | quote }}
{{- end }}

{{/* Prints a number in full (10485760; a template would print 1.048576e+07) and leaves text unchanged. */}}
{{- define "ssd.wholeNumberOrText" -}}
{{- if kindIs "string" . }}{{ . }}{{ else }}{{ int64 . }}{{ end }}
{{- end }}
