{{/* The variables of greylag, without the credentials. Kubernetes would substitute `$(`, so its `$` is doubled. (dict "context" . "name" JOB) */}}
{{- define "greylag.variables" -}}
{{- $context := .context -}}
{{- $set := $context.Values.migration -}}
{{- $query := list -}}
{{- range $key := keys $set.parameters | sortAlpha -}}
{{- $query = append $query (printf "%s=%s" (urlquery $key) (get $set.parameters $key | toString | urlquery)) -}}
{{- end -}}
{{- $all := list
  (list "GREYLAG_DRIVER" $set.engine)
  (list "GREYLAG_MIGRATION_DIR" (include "greylag.directory" $context))
  (list "GREYLAG_CREDENTIALS_DIRECTORY" "/var/run/greylag/credentials")
  (list "GREYLAG_EXPECTED_DATABASE" $set.database)
  (list "GREYLAG_BUNDLE" (include "greylag.bundle" $context))
  (list "GREYLAG_SERVICE" (include "greylag.service" $context))
  (list "GREYLAG_PORT" ($set.port | toString))
  (list "GREYLAG_PARAMETERS" (join "&" $query))
  (list "GREYLAG_TERMINATION_LOG" "/dev/termination-log")
-}}
{{- if eq (toString .wait) "true" -}}
{{- $all = append $all (list "GREYLAG_TIMEOUT" $set.wait.timeout) -}}
{{- if not $set.wait.existingSecret -}}
{{- $all = append $all (list "GREYLAG_ROLE" $set.role) -}}
{{- end -}}
{{- else -}}
{{- $all = concat $all (list
  (list "GREYLAG_APPROVED_DIGEST" $set.approvedPlan)
  (list "GREYLAG_APPROVAL" (ternary $set.signedApproval "" (eq $set.approval "required")))
  (list "GREYLAG_APPROVERS" (ternary "/var/run/greylag/approvers" "" (eq $set.approval "required")))
  (list "GREYLAG_APPROVERS_MINIMUM" (ternary ($set.approvers.minimum | toString) "" (eq $set.approval "required")))
  (list "GREYLAG_IMAGE" (ternary (include "greylag.image" $context) "" (eq $set.approval "required")))
  (list "GREYLAG_APPLIED_BY" (ternary (printf "%s/%s" $context.Release.Namespace .name) "" (ne .name "")))
  (list "GREYLAG_LOCK_WAIT" $set.lockWait)
  (list "GREYLAG_STATEMENT_TIMEOUT" $set.statementTimeout)
  (list "GREYLAG_ROLE" $set.role)
  (list "GREYLAG_PROTECTED" (ternary "true" "" $set.protected))
) -}}
{{- end -}}
{{- if and (include "greylag.makesSecret" $context) (not (and (eq (toString .wait) "true") $set.wait.existingSecret)) -}}
{{- $all = concat $all (list (list "GREYLAG_CREDENTIALS_SOURCE" (include "greylag.source" $context)) (list "GREYLAG_CREDENTIALS_WAIT" $set.externalSecret.wait)) -}}
{{- end -}}
{{- range $key := keys $set.env | sortAlpha -}}
{{- $all = append $all (list $key (get $set.env $key | toString)) -}}
{{- end -}}
{{- range $all }}
{{- if index . 1 }}
- name: {{ index . 0 }}
  value: {{ index . 1 | toString | replace "$(" "$$(" | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "greylag.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* A volume with a Secret, its keys named as greylag expects them. (dict "context" . "name" VOLUME "secret" SECRET "mode" MODE) */}}
{{- define "greylag.credentials" -}}
- name: {{ .name }}
  secret:
    secretName: {{ .secret }}
    defaultMode: {{ .mode }}
    {{- with .context.Values.migration.secretKeys }}
    items:
      {{- $given := . }}
      {{- range $part := list "host" "port" "username" "password" "database" }}
      - key: {{ get $given $part | default $part }}
        path: {{ $part }}
      {{- end }}
      {{- if hasKey $given "http_port" }}
      - key: {{ get $given "http_port" }}
        path: http_port
      {{- end }}
    {{- end }}
{{- end -}}

{{/* The specification of the Job: the same as `tasks/job/manifest.py` makes. (dict "context" . "name" JOB) */}}
{{- define "greylag.spec" -}}
{{- $context := .context -}}
{{- $set := $context.Values.migration -}}
backoffLimit: {{ int $set.backoffLimit }}
activeDeadlineSeconds: {{ int $set.activeDeadlineSeconds }}
{{- if ne $set.strategy "plain" }}
ttlSecondsAfterFinished: {{ int $set.ttlSecondsAfterFinished }}
{{- end }}
podReplacementPolicy: Failed # else two pods may run at once while one is being evicted
podFailurePolicy:
  rules:
    - action: Ignore
      onPodConditions:
        - {type: DisruptionTarget, status: "True"}
    - action: Ignore # interrupted: somebody deleted the pod; only an eviction has the condition above
      onExitCodes: {containerName: migrate, operator: In, values: [23]}
    - action: FailJob # permanent: another attempt can't help
      onExitCodes: {containerName: migrate, operator: In, values: [2, 10, 11, 12, 13, 14, 15, 16]}
template:
  metadata:
    labels:
      {{- include "greylag.podLabels" $context | nindent 6 }}
    annotations:
      cluster-autoscaler.kubernetes.io/safe-to-evict: "false"
      {{- with $set.podAnnotations }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
  spec:
    restartPolicy: Never
    automountServiceAccountToken: false
    enableServiceLinks: false
    terminationGracePeriodSeconds: {{ int $set.terminationGracePeriodSeconds }}
    securityContext:
      runAsNonRoot: true
      runAsUser: {{ int $set.user }}
      runAsGroup: {{ int $set.user }}
      fsGroup: {{ int $set.user }}
      seccompProfile: {type: RuntimeDefault}
    serviceAccountName: {{ include "greylag.serviceAccountName" $context }}
    {{- with $set.imagePullSecrets }}
    imagePullSecrets:
      {{- range . }}
      - name: {{ . }}
      {{- end }}
    {{- end }}
    {{- with $set.nodeSelector }}
    nodeSelector:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $set.tolerations }}
    tolerations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $set.affinity }}
    affinity:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $set.priorityClassName }}
    priorityClassName: {{ . }}
    {{- end }}
    containers:
      - name: migrate
        image: {{ include "greylag.image" $context }}
        {{- with $set.image.pullPolicy }}
        imagePullPolicy: {{ . }}
        {{- end }}
        command:
          {{- toYaml (append $set.command "up") | nindent 10 }}
        env:
          {{- include "greylag.variables" . | trim | nindent 10 }}
          {{- if $set.substitutePassword }}
          - name: {{ ternary "CLICKHOUSE" "POSTGRES" (eq $set.engine "clickhouse") }}_PASSWORD
            valueFrom:
              secretKeyRef:
                name: {{ include "greylag.jobSecretName" $context }}
                key: {{ get $set.secretKeys "password" | default "password" }}
          {{- end }}
        resources:
          {{- toYaml $set.resources | nindent 10 }}
        securityContext:
          {{- include "greylag.containerSecurity" $context | nindent 10 }}
        terminationMessagePolicy: FallbackToLogsOnError
        volumeMounts:
          - {name: tmp, mountPath: /tmp}
          - {name: credentials, mountPath: /var/run/greylag/credentials, readOnly: true}
          {{- if eq $set.approval "required" }}
          - {name: approvers, mountPath: /var/run/greylag/approvers, readOnly: true}
          {{- end }}
          {{- if eq $set.sql.source "configMap" }}
          - {name: migrations, mountPath: {{ include "greylag.directory" $context | quote }}, readOnly: true}
          {{- end }}
    volumes:
      - name: tmp
        emptyDir: {}
      {{- include "greylag.credentials" (dict "context" $context "name" "credentials" "secret" (include "greylag.jobSecretName" $context) "mode" 288) | nindent 6 }}
      {{- if eq $set.approval "required" }}
      - name: approvers
        configMap:
          name: {{ $set.approvers.configMap }}
      {{- end }}
      {{- if eq $set.sql.source "configMap" }}
      - name: migrations
        configMap:
          name: {{ include "greylag.jobConfigMapName" $context }}
      {{- end }}
{{- end -}}

{{/* The migration Job. */}}
{{- define "greylag.job" -}}
{{- include "greylag.check" . -}}
{{- $name := include "greylag.jobName" . -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ $name }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "greylag.podLabels" . | nindent 4 }}
  annotations:
    {{- if eq .Values.migration.strategy "argo-sync-hook" }}
    argocd.argoproj.io/hook: Sync
    argocd.argoproj.io/hook-delete-policy: BeforeHookCreation
    argocd.argoproj.io/sync-wave: "-2"
    {{- else }}
    {{- include "greylag.order" (dict "context" . "wave" "-2" "early" (include "greylag.early" .)) | nindent 4 }}
    {{- end }}
    {{- with include "greylag.bundle" . }}
    greylag/bundle: {{ . | quote }}
    {{- end }}
spec:
  {{- include "greylag.spec" (dict "context" . "name" $name) | nindent 2 }}
{{- end -}}
