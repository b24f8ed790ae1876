{{/* Numbers with units. */}}

{{/* Prints a number in full (10485760; a template would print 1.048576e+07) and leaves text unchanged. */}}
{{- define "ssd.wholeNumberOrText" -}}
{{- if kindIs "string" . }}{{ . }}{{ else }}{{ int64 . }}{{ end }}
{{- end }}

{{/* Milliseconds of a duration such as 500ms, 5s, 2m or 1h. */}}
{{- define "ssd.milliseconds" -}}
{{- $number := regexFind "^[0-9]+" . | int64 }}
{{- $unit := regexFind "[a-z]+$" . }}
{{- mul $number (get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000) $unit) }}
{{- end }}

{{/* Seconds of a duration, rounded up. */}}
{{- define "ssd.seconds" -}}
{{- div (add (include "ssd.milliseconds" .) 999) 1000 }}
{{- end }}
