{{/* The init container that holds a pod until the database has the newest version of the image's files. Nothing where it is switched off. */}}
{{- define "greylag.wait" -}}
{{- include "greylag.check" . -}}
{{- $set := .Values.migration -}}
{{- if $set.wait.enabled -}}
- name: wait-for-migrations
  image: {{ include "greylag.image" . }}
  {{- with $set.image.pullPolicy }}
  imagePullPolicy: {{ . }}
  {{- end }}
  command:
    {{- toYaml (append $set.command "wait") | nindent 4 }}
  env:
    {{- include "greylag.variables" (dict "context" . "name" "" "wait" true) | trim | nindent 4 }}
  resources:
    {{- toYaml $set.resources | nindent 4 }}
  securityContext:
    {{- include "greylag.containerSecurity" . | nindent 4 }}
    runAsNonRoot: true
    runAsUser: {{ int $set.user }}
    runAsGroup: {{ int $set.user }}
    seccompProfile: {type: RuntimeDefault}
  terminationMessagePolicy: FallbackToLogsOnError
  volumeMounts:
    - {name: greylag-tmp, mountPath: /tmp}
    - {name: greylag-credentials, mountPath: /var/run/greylag/credentials, readOnly: true}
    {{- if eq $set.sql.source "configMap" }}
    - {name: greylag-migrations, mountPath: {{ include "greylag.directory" . | quote }}, readOnly: true}
    {{- end }}
{{- end -}}
{{- end -}}

{{/* The volumes of that container. Only it mounts them, so that its uid may read the Secret without being the pod's group. */}}
{{- define "greylag.volumes" -}}
{{- $set := .Values.migration -}}
{{- if $set.wait.enabled -}}
- name: greylag-tmp
  emptyDir: {}
{{ include "greylag.credentials" (dict "context" . "name" "greylag-credentials" "secret" ($set.wait.existingSecret | default (include "greylag.secretName" .)) "mode" 292) }}
{{- if eq $set.sql.source "configMap" }}
- name: greylag-migrations
  configMap:
    name: {{ include "greylag.configMapName" . }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* Annotations of the Deployment: hooks are not compared, so a change of the migration alone is made visible here. */}}
{{- define "greylag.annotations" -}}
{{- if include "greylag.hasJob" . -}}
greylag/migration: {{ include "greylag.digest" . | quote }} # 12 hex digits may read as a number
{{- end -}}
{{- end -}}

{{/* The recipe's variables of the service's own container: POSTGRES_HOST and so on, from the Secret. */}}
{{- define "greylag.environment" -}}
{{- $set := .Values.migration -}}
{{- $secret := include "greylag.secretName" . -}}
{{- $clickhouse := eq $set.engine "clickhouse" -}}
{{- range $part := list "host" "port" "username" "password" "database" }}
- name: {{ printf "%s_%s" (ternary "CLICKHOUSE" "POSTGRES" $clickhouse) (ternary "USER" (upper $part) (and (eq $part "username") (not $clickhouse))) }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ get $set.secretKeys $part | default $part }}
{{- end }}
{{- end -}}
