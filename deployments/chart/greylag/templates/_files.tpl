{{/* The migration files of the chart as JSON (toYaml cuts the last line end), name to text; nothing where they lie in the image. */}}
{{- define "greylag.files" -}}
{{- if eq .Values.migration.sql.source "configMap" -}}
{{- $found := dict -}}
{{- if .Values.migration.sql.files -}}
{{- $found = .Values.migration.sql.files -}}
{{- else -}}
{{- range $path, $_ := .Files.Glob .Values.migration.sql.glob -}}
{{- $_ := set $found (base $path) ($.Files.Get $path) -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}
{{- end -}}

{{/* The bundle digest: of the files that the chart carries, computed as greylag does (sha256 of the sorted lines `name sha256`), else the one that was given. */}}
{{- define "greylag.bundle" -}}
{{- if eq .Values.migration.sql.source "configMap" -}}
{{- $lines := list -}}
{{- range $name, $text := include "greylag.files" . | fromJson -}}
{{- $lines = append $lines (printf "%s %s\n" $name ($text | replace "\r\n" "\n" | sha256sum)) -}}
{{- end -}}
{{- $lines | sortAlpha | join "" | sha256sum -}}
{{- else -}}
{{- .Values.migration.sql.bundle -}}
{{- end -}}
{{- end -}}

{{- define "greylag.directory" -}}
{{- $default := ternary "/migrations" (printf "/app/services/%s/migrations" (include "greylag.service" .)) (eq .Values.migration.sql.source "configMap") -}}
{{- .Values.migration.sql.directory | default $default -}}
{{- end -}}

{{/* What the Secret must have been made of: a digest of path, store and keys. The ExternalSecret writes it beside the credentials, the Job waits for it. */}}
{{- define "greylag.source" -}}
{{- $from := .Values.migration.externalSecret -}}
{{- printf "%s\n%s/%s\n%s" $from.path $from.store.kind $from.store.name (toJson $from.keys) | sha256sum | trunc 16 -}}
{{- end -}}
