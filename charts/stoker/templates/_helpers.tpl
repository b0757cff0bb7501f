{{- define "stoker.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "stoker.gateway" -}}
{{ include "stoker.name" . }}-gateway
{{- end }}

{{- define "stoker.operator" -}}
{{ include "stoker.name" . }}-operator
{{- end }}

{{- define "stoker.internalSecret" -}}
{{- .Values.internalKey.existingSecret | default (printf "%s-internal" (include "stoker.name" .)) -}}
{{- end }}

{{- define "stoker.apiKeySecret" -}}
{{- .Values.gateway.apiKey.existingSecret | default (printf "%s-api-key" (include "stoker.name" .)) -}}
{{- end }}

{{- define "stoker.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "stoker.runtimeImage" -}}
{{- $values := index . 0 -}}{{- $kind := index . 1 -}}
{{- index $values.Values.runtime.image $kind | default (printf "stoker-runtime:%s-%s" ($values.Values.image.tag | default $values.Chart.AppVersion) $kind) -}}
{{- end }}

{{- define "stoker.selector" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}
app.kubernetes.io/name: stoker
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ $component }}
{{- end }}

{{- define "stoker.labels" -}}
{{- $root := index . 0 -}}
{{ include "stoker.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end }}

{{- define "stoker.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "stoker.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Spread over nodes where there are several, without refusing to run on one. */}}
{{- define "stoker.placement" -}}
{{- $root := index . 0 -}}{{- $component := index . 1 -}}{{- $values := index . 2 -}}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{ include "stoker.selector" (list $root $component) | nindent 8 }}
{{- end }}
