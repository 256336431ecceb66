{{- define "auth-service.fullname" -}}
{{- default .Chart.Name .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "auth-service.serviceAccountName" -}}
{{- include "auth-service.fullname" . -}}
{{- end -}}
