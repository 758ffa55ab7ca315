{{- define "domstats.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "domstats.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "domstats.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "domstats.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "domstats.selector" -}}
app.kubernetes.io/name: {{ include "domstats.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "domstats.labels" -}}
{{ include "domstats.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "domstats.image" -}}
{{- $repository := required "image.repository: where do the nodes find the image? (docs/containers.md)" .Values.image.repository }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" $repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "domstats.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "domstats.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- /* The configuration file: what the values say, and the port, and the web configuration where there is one. */}}
{{- define "domstats.config" -}}
{{- $web := dict "listen_addresses" (list (printf ":%d" (int .Values.port))) }}
{{- if .Values.webConfigSecret }}
{{- $web = set $web "config_file" "/etc/domstats-exporter-web/web.yaml" }}
{{- end }}
{{- toYaml (mergeOverwrite (dict "web" $web) (deepCopy .Values.config)) }}
{{- end }}

{{- /* What a PodMonitor and a ServiceMonitor say of an endpoint. */}}
{{- define "domstats.endpoint" -}}
- port: metrics
  scheme: {{ .scheme }}
  {{- with .interval }}
  interval: {{ . }}
  {{- end }}
  {{- with .scrapeTimeout }}
  scrapeTimeout: {{ . }}
  {{- end }}
  {{- with .tlsConfig }}
  tlsConfig: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .basicAuth }}
  basicAuth: {{- toYaml . | nindent 4 }}
  {{- end }}
  relabelings:
    - sourceLabels: [__meta_kubernetes_pod_node_name]
      targetLabel: instance
    {{- with .relabelings }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .metricRelabelings }}
  metricRelabelings: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
