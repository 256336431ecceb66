{{/* What the schema can't say: settings that contradict each other. Each says why, and what to set. */}}
{{- define "greylag.check" -}}
{{- $set := .Values.migration -}}
{{- if not $set.engine -}}
{{- fail "greylag: migration.engine is not set: it chooses the driver and the Secret's name; set postgres or clickhouse [engine-missing]" -}}
{{- end -}}
{{- if and (include "greylag.hasJob" .) (not $set.database) -}}
{{- fail "greylag: migration.database is not set: it keeps one environment's run from another one's database; set the database's name with its suffix, such as auth_db_dev [database-missing]" -}}
{{- end -}}
{{- if and $set.existingSecret $set.externalSecret.path -}}
{{- fail "greylag: migration.existingSecret and migration.externalSecret.path are both set, and one Secret can't have two makers; remove one of them [two-secrets]" -}}
{{- end -}}
{{- if not (or $set.existingSecret $set.externalSecret.enabled) -}}
{{- fail "greylag: no Secret: migration.externalSecret.enabled is false and migration.existingSecret is empty; name the Secret with host, port, username, password and database [no-secret]" -}}
{{- end -}}
{{- if and (include "greylag.makesSecret" .) (not $set.externalSecret.path) -}}
{{- fail "greylag: migration.externalSecret.path is not set, and no existingSecret is named: the secret's path in the store, without the mount, such as apps/my-girok/dev/auth-service/postgres [path-missing]" -}}
{{- end -}}
{{- if and (include "greylag.makesSecret" .) $set.secretKeys -}}
{{- fail "greylag: migration.secretKeys is for an existing Secret; an ExternalSecret is told by externalSecret.keys [keys-twice]" -}}
{{- end -}}
{{- if and (not $set.serviceAccount.create) (not $set.serviceAccount.name) (include "greylag.hasJob" .) -}}
{{- fail "greylag: migration.serviceAccount.create is false and no name is given; name the account that is there (`default` is one) [account-missing]" -}}
{{- end -}}
{{- if and (eq $set.approval "plan") (not $set.approvedPlan) (include "greylag.hasJob" .) -}}
{{- fail "greylag: migration.approval is plan and migration.approvedPlan is empty: the Job may run only a plan that was looked at; `greylag plan` prints its digest [approval-required]" -}}
{{- end -}}
{{- if and (eq $set.approval "required") (include "greylag.hasJob" .) -}}
{{- if not $set.approvers.configMap -}}
{{- fail "greylag: migration.approval is required and migration.approvers.configMap is empty: name the ConfigMap with allowed_signers, which says whose signatures count [approvers-missing]" -}}
{{- end -}}
{{- if not (contains "@sha256:" (include "greylag.image" .)) -}}
{{- fail "greylag: migration.approval is required and the image is named by a tag, which may move after it was approved; set image.digest or migration.image.digest [image-unpinned]" -}}
{{- end -}}
{{- else if $set.signedApproval -}}
{{- fail "greylag: migration.signedApproval is given and migration.approval is not required, so nobody would look at it; set approval: required, or remove it [approval-unread]" -}}
{{- end -}}
{{- if eq $set.sql.source "configMap" -}}
{{- $files := include "greylag.files" . | fromJson -}}
{{- if not $files -}}
{{- fail (printf "greylag: migration.sql.source is configMap, and the chart has no file that matches %s; correct sql.glob, give sql.files, or set source: image [no-files]" $set.sql.glob) -}}
{{- end -}}
{{- $size := 0 -}}
{{- range $name, $text := $files -}}
{{- $size = add $size (len $name) (len $text) -}}
{{- end -}}
{{- if gt (int $size) 1000000 -}}
{{- fail (printf "greylag: the migrations are %d bytes, and a ConfigMap holds 1048576 with what Kubernetes adds; put the files into the image (sql.source: image), or into a migration image of their own [configmap-too-large]" (int $size)) -}}
{{- end -}}
{{- else if $set.sql.files -}}
{{- fail "greylag: migration.sql.files are given and sql.source is image: one of the two would be dead; set source: configMap, or remove the files [two-sources]" -}}
{{- end -}}
{{- end -}}
