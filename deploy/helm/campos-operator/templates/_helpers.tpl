{{- define "campos-operator.name" -}}
{{- if contains "campos-operator" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-campos-operator" (.Release.Name | trunc 34 | trimSuffix "-") }}{{ end }}
{{- end }}

{{- define "campos-operator.selector" -}}
app.kubernetes.io/name: campos-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "campos-operator.meta" -}}
name: {{ include "campos-operator.name" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "campos-operator.selector" . | nindent 2 }}
  app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .Release.Service }}
  helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* "true" if the operator uses the API of the cluster. */}}
{{- define "campos-operator.usesCluster" -}}
{{- if or (eq .Values.source "kubernetes") .Values.leaderElection.enabled }}true{{ end }}
{{- end }}

{{/* Stops a release that could run two operators on one account, or that has a word with another meaning. */}}
{{- define "campos-operator.check" -}}
{{- if not (has .Values.source (list "directory" "kubernetes")) }}{{ fail (printf "source: %q: expected directory or kubernetes" .Values.source) }}{{ end }}
{{- if and (gt (int .Values.replicas) 1) (not .Values.leaderElection.enabled) }}{{ fail "replicas: more than 1 needs leaderElection.enabled" }}{{ end }}
{{- if and (eq .Values.source "kubernetes") (or .Values.manifests.files .Values.manifests.existingConfigMap) }}{{ fail "manifests: the source kubernetes reads no files" }}{{ end }}
{{- if and (gt (int .Values.replicas) 1) .Values.state.existingClaim }}{{ fail "state.existingClaim: two replicas would write the same history" }}{{ end }}
{{- end }}
