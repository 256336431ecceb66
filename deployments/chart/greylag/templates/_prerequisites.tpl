{{/* Annotations that put an object into its place. (dict "context" . "wave" WAVE "early" "true"|"") */}}
{{- define "greylag.order" -}}
{{- if not .early -}}
argocd.argoproj.io/sync-wave: {{ .wave | quote }}
{{- else if eq .context.Values.migration.strategy "argo-presync" -}}
argocd.argoproj.io/hook: PreSync
argocd.argoproj.io/hook-delete-policy: BeforeHookCreation
argocd.argoproj.io/sync-wave: {{ .wave | quote }}
{{- else -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ .wave | quote }}
helm.sh/hook-delete-policy: before-hook-creation
{{- end -}}
{{- end -}}

{{/* An ExternalSecret. (dict "context" . "name" NAME "early" "true"|"") */}}
{{- define "greylag.externalSecret" -}}
{{- $from := .context.Values.migration.externalSecret -}}
apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata:
  name: {{ .name }}
  namespace: {{ .context.Release.Namespace }}
  annotations:
    {{- include "greylag.order" (dict "context" .context "wave" "-5" "early" .early) | nindent 4 }}
spec:
  refreshInterval: {{ $from.refreshInterval }}
  secretStoreRef:
    name: {{ $from.store.name }}
    kind: {{ $from.store.kind }}
  target:
    name: {{ .name }}
    creationPolicy: Owner
    template:
      engineVersion: v2
      data:
        greylag-source: {{ include "greylag.source" .context | quote }} # the Job waits until the Secret is of this path, store and keys
        {{- range $part, $_ := $from.keys }}
        {{ $part }}: {{ printf "{{ .%s }}" $part | quote }}
        {{- end }}
  data:
    {{- range $part, $property := $from.keys }}
    - secretKey: {{ $part }}
      remoteRef:
        key: {{ $from.path }}
        property: {{ $property }}
    {{- end }}
{{- end -}}

{{/* A ConfigMap with the migration files. (dict "context" . "name" NAME "early" "true"|"") */}}
{{- define "greylag.configMap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .name }}
  namespace: {{ .context.Release.Namespace }}
  annotations:
    {{- include "greylag.order" (dict "context" .context "wave" "-4" "early" .early) | nindent 4 }}
    # A client-side apply would copy everything into an annotation, which holds 256 KiB. The old files go last: pods mount them until then.
    argocd.argoproj.io/sync-options: ServerSideApply=true,PruneLast=true
    greylag/bundle: {{ include "greylag.bundle" .context | quote }}
data:
  {{- include "greylag.files" .context | fromJson | toYaml | nindent 2 }}
immutable: true # its name tells its content; and Helm cuts the end of a document, which must not be the end of a file
{{- end -}}

{{- define "greylag.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "greylag.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
  annotations:
    {{- include "greylag.order" (dict "context" . "wave" "-3" "early" (include "greylag.early" .)) | nindent 4 }}
    {{- with .Values.migration.serviceAccount.annotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
automountServiceAccountToken: false
{{- end -}}

{{- define "greylag.networkPolicy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "greylag.name" (list (include "greylag.fullname" .) "-migration") }}
  namespace: {{ .Release.Namespace }}
  annotations:
    {{- include "greylag.order" (dict "context" . "wave" "-3" "early" (include "greylag.early" .)) | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      app.kubernetes.io/name: {{ include "greylag.name" (list (include "greylag.service" .) "-migration") }}
      app.kubernetes.io/component: migration
  policyTypes: [Ingress, Egress]
  egress:
    - ports:
        - {port: 53, protocol: UDP}
        - {port: 53, protocol: TCP}
    {{- if .Values.migration.networkPolicy.egress }}
    {{- toYaml .Values.migration.networkPolicy.egress | nindent 4 }}
    {{- else }}
    - ports:
        {{- range ternary (list 8123 8443) (list 5432) (eq .Values.migration.engine "clickhouse") }}
        - {port: {{ . }}, protocol: TCP}
        {{- end }}
        {{- with .Values.migration.port }}
        - {port: {{ . }}, protocol: TCP}
        {{- end }}
    {{- end }}
{{- end -}}

{{/* Everything that the migration needs, in the order of its waves. */}}
{{- define "greylag.migration" -}}
{{- include "greylag.check" . -}}
{{- $set := .Values.migration -}}
{{- $job := include "greylag.hasJob" . -}}
{{- $early := include "greylag.early" . -}}
{{- if include "greylag.makesSecret" . }}
---
{{ include "greylag.externalSecret" (dict "context" . "name" (include "greylag.secretName" .) "early" "") }}
{{- if and $job $early }}
---
{{ include "greylag.externalSecret" (dict "context" . "name" (include "greylag.jobSecretName" .) "early" $early) }}
{{- end }}
{{- end }}
{{- if eq $set.sql.source "configMap" }}
{{- if or $set.wait.enabled (and $job (not $early)) }}
---
{{ include "greylag.configMap" (dict "context" . "name" (include "greylag.configMapName" .) "early" "") }}
{{- end }}
{{- if and $job $early }}
---
{{ include "greylag.configMap" (dict "context" . "name" (include "greylag.jobConfigMapName" .) "early" $early) }}
{{- end }}
{{- end }}
{{- if and $set.enabled $set.serviceAccount.create }}
---
{{ include "greylag.serviceAccount" . }}
{{- end }}
{{- if and $set.enabled $set.networkPolicy.enabled }}
---
{{ include "greylag.networkPolicy" . }}
{{- end }}
{{- if $job }}
---
{{ include "greylag.job" . }}
{{- end }}
{{- end -}}
