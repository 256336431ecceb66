{{/* The chart's full name, as `helm create` makes it, unless the settings name it. */}}
{{- define "greylag.fullname" -}}
{{- if .Values.migration.fullname -}}
{{- .Values.migration.fullname | trunc 63 | trimSuffix "-" -}}
{{- else if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* (list BASE ENDING): a name of at most 63 characters with that ending. What is cut is told apart by a digest. */}}
{{- define "greylag.name" -}}
{{- $base := index . 0 -}}
{{- $ending := index . 1 -}}
{{- $room := int (sub 63 (len $ending)) -}}
{{- if gt (len $base) $room -}}
{{- printf "%s-%s%s" ($base | trunc (int (sub $room 7)) | trimSuffix "-") (sha256sum $base | trunc 6) $ending -}}
{{- else -}}
{{- print $base $ending -}}
{{- end -}}
{{- end -}}

{{- define "greylag.service" -}}
{{- .Values.migration.service | default (include "greylag.fullname" .) -}}
{{- end -}}

{{/* "true" where the Job runs before the plain objects of its release, so that it needs prerequisites of its own. */}}
{{- define "greylag.early" -}}
{{- if has .Values.migration.strategy (list "argo-presync" "helm-hook") -}}true{{- end -}}
{{- end -}}

{{/* "true" where the chart makes a Job. */}}
{{- define "greylag.hasJob" -}}
{{- if and .Values.migration.enabled (ne .Values.migration.strategy "external") -}}true{{- end -}}
{{- end -}}

{{/* "true" where the chart makes the Secret: an existing one comes first. */}}
{{- define "greylag.makesSecret" -}}
{{- if and .Values.migration.externalSecret.enabled (not .Values.migration.existingSecret) -}}true{{- end -}}
{{- end -}}

{{/* The Secret of the service's own pods. */}}
{{- define "greylag.secretName" -}}
{{- .Values.migration.existingSecret | default .Values.migration.externalSecret.name | default (include "greylag.name" (list (include "greylag.fullname" .) (printf "-%s-credentials" .Values.migration.engine))) -}}
{{- end -}}

{{/* The Secret of the Job. */}}
{{- define "greylag.jobSecretName" -}}
{{- if and (include "greylag.early" .) (include "greylag.makesSecret" .) -}}
{{- include "greylag.name" (list (include "greylag.fullname" .) "-migration-credentials") -}}
{{- else -}}
{{- include "greylag.secretName" . -}}
{{- end -}}
{{- end -}}

{{- define "greylag.serviceAccountName" -}}
{{- .Values.migration.serviceAccount.name | default (ternary (include "greylag.name" (list (include "greylag.fullname" .) "-migration")) "" .Values.migration.serviceAccount.create) -}}
{{- end -}}

{{/* The ConfigMap with the files, named after its content: a release that fails leaves the one that running pods mount as it was. */}}
{{- define "greylag.configMapName" -}}
{{- include "greylag.name" (list (include "greylag.fullname" .) (printf "-migrations-%s" (include "greylag.bundle" . | trunc 12))) -}}
{{- end -}}

{{- define "greylag.jobConfigMapName" -}}
{{- if include "greylag.early" . -}}
{{- include "greylag.name" (list (include "greylag.fullname" .) "-migration-files") -}}
{{- else -}}
{{- include "greylag.configMapName" . -}}
{{- end -}}
{{- end -}}

{{/* The Job's name. Without a hook it holds a digest of the specification: Kubernetes changes no Job's template. */}}
{{- define "greylag.jobName" -}}
{{- $full := include "greylag.fullname" . -}}
{{- if eq .Values.migration.strategy "plain" -}}
{{- include "greylag.name" (list $full (printf "-migration-%s" (include "greylag.digest" .))) -}}
{{- else -}}
{{- include "greylag.name" (list $full "-migration") -}}
{{- end -}}
{{- end -}}

{{/* Twelve digits of everything that the Job is made of but its name. */}}
{{- define "greylag.digest" -}}
{{- printf "%s\n%s" (include "greylag.spec" (dict "context" . "name" "")) (include "greylag.bundle" .) | sha256sum | trunc 12 -}}
{{- end -}}

{{/* The labels of the Job and its pods. The name isn't the service's, or its Service would take the pods for endpoints. */}}
{{- define "greylag.podLabels" -}}
app.kubernetes.io/name: {{ include "greylag.name" (list (include "greylag.service" .) "-migration") }}
app.kubernetes.io/instance: {{ include "greylag.service" . | quote }}
app.kubernetes.io/component: migration
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.migration.environment }}
greylag/environment: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* The image, with the chart's own section `image` where the settings leave a part empty. */}}
{{- define "greylag.image" -}}
{{- $own := .Values.image | default dict -}}
{{- $set := .Values.migration.image -}}
{{- $repository := $set.repository | default $own.repository -}}
{{- $digest := $set.digest -}}
{{- $tag := $set.tag -}}
{{- if and (not $digest) (not $tag) -}}
{{- $digest = $own.digest -}}
{{- $tag = $own.tag | default .Chart.AppVersion -}}
{{- end -}}
{{- if not $repository -}}
{{- fail "greylag: no image is named: the Job runs greylag in the service's image or in a migration image; set image.repository or migration.image.repository [image-missing]" -}}
{{- end -}}
{{- if $digest -}}{{- printf "%s@%s" $repository $digest -}}{{- else -}}{{- printf "%s:%s" $repository (toString $tag) -}}{{- end -}}
{{- end -}}
