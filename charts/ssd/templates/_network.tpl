{{/* A NetworkPolicy's rule for DNS. The ports are those of the DNS server's pods: in OpenShift they listen on 5353. */}}
{{- define "ssd.dnsEgress" -}}
- ports:
    {{- range $port := list 53 5353 }}
    - port: {{ $port }}
      protocol: UDP
    - port: {{ $port }}
      protocol: TCP
    {{- end }}
{{- end }}
