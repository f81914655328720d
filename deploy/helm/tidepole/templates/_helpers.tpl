{{- define "tidepole.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* Of the Service, too, and so in the certificate. */}}
{{- define "tidepole.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := include "tidepole.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "tidepole.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tidepole.name" . }}
{{- if not .Values.plainManifests }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- end }}

{{- define "tidepole.labels" -}}
{{ include "tidepole.selectorLabels" . }}
{{- if not .Values.plainManifests }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "tidepole.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "tidepole.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name: needed where serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- /* The subject of every binding. */}}
{{- define "tidepole.subject" -}}
- kind: ServiceAccount
  name: {{ include "tidepole.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{- define "tidepole.image" -}}
{{- with .Values.image }}
{{- if .digest }}
{{- printf "%s@%s" .repository .digest }}
{{- else }}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The Secret with the serving pair. What cert-manager keeps has another name than what
Tidepole keeps: a Secret's type cannot be changed. */}}
{{- define "tidepole.servingSecret" -}}
{{- $fullname := include "tidepole.fullname" . }}
{{- with .Values.certificates }}
{{- if eq .mode "managed" }}
{{- default (printf "%s-serving" $fullname) .managed.secretName }}
{{- else if eq .mode "certManager" }}
{{- printf "%s-cert" $fullname }}
{{- else }}
{{- required "certificates.files.secretName: needed in mode files" .files.secretName }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Is there a file of rules? */}}
{{- define "tidepole.hasRules" -}}
{{- with .Values.rules }}
{{- if and .existingConfigMap (or .custom .external) }}
{{- fail "rules.existingConfigMap: instead of rules.custom and rules.external, not beside them" }}
{{- end }}
{{- if or .existingConfigMap .custom .external }}true{{ end }}
{{- end }}
{{- end }}

{{- /* The server config. */}}
{{- define "tidepole.config" -}}
{{- $values := .Values }}
{{- if not (or $values.apis.external $values.apis.custom) }}
{{- fail "apis: neither external nor custom would be served" }}
{{- end }}
{{- range $key, $instead := dict "apiVersion" "nothing" "kind" "nothing" "apis" "apis" "sources" "prometheus and extraSources" }}
{{- if hasKey $values.config $key }}
{{- fail (printf "config.%s: not to be set here; the value for it is %s" $key $instead) }}
{{- end }}
{{- end }}
{{- $sources := list }}
{{- with $values.prometheus }}
{{- $sources = append $sources (dict "name" "prometheus" "prometheus" .) }}
{{- end }}
{{- $sources = concat $sources $values.extraSources }}
{{- $names := list }}
{{- range $sources }}
{{- if has .name $names }}
{{- fail (printf "extraSources: there are two sources of the name %s" .name) }}
{{- end }}
{{- $names = append $names .name }}
{{- end }}
{{- $tls := dict "certFile" "/certs/tls.crt" "keyFile" "/certs/tls.key" }}
{{- if eq $values.certificates.mode "managed" }}
{{- $managed := dict "secret" (include "tidepole.servingSecret" .) "service" (include "tidepole.fullname" .) }}
{{- range $key := list "caLifetime" "certLifetime" "renewBefore" }}
{{- with index $values.certificates.managed $key }}
{{- $_ := set $managed $key . }}
{{- end }}
{{- end }}
{{- $tls = dict "managed" $managed }}
{{- end }}
{{- $rules := list }}
{{- if include "tidepole.hasRules" . }}
{{- $rule := dict "path" "/etc/tidepole/rules/config.yaml" }}
{{- range $key := list "source" "relistInterval" "seriesMaxAge" "refresh" "sampleMaxAge" }}
{{- with index $values.rules $key }}
{{- $_ := set $rule $key . }}
{{- end }}
{{- end }}
{{- $rules = append $rules $rule }}
{{- end }}
{{- $over := deepCopy $values.config }}
{{- $paths := concat (list "/etc/tidepole/metrics.d") (dig "definitions" "paths" list $over) }}
{{- $rules = concat $rules (dig "rules" list $over) }}
{{- $config := dict
  "server" (dict "listen" (printf "[::]:%v" $values.ports.https) "tls" $tls "auth" "delegated")
  "admin" (dict "listen" (printf "[::]:%v" $values.ports.admin))
  "apis" (dict "external" $values.apis.external "custom" $values.apis.custom)
  "sources" $sources }}
{{- $config = mergeOverwrite $config $over }}
{{- $_ := set $config "definitions" (dict "paths" $paths) }}
{{- if $rules }}
{{- $_ := set $config "rules" $rules }}
{{- end }}
{{- /* In the order in which people read it; the rest after that. */ -}}
apiVersion: tidepole.dev/v1alpha1
kind: ServerConfig
{{- range $key := list "server" "apis" "admin" "kubernetes" "sources" "definitions" "rules" "defaults" }}
{{- if hasKey $config $key }}
{{ dict $key (get $config $key) | toYaml }}
{{- $_ := unset $config $key }}
{{- end }}
{{- end }}
{{- with $config }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* What every APIService has after its group and version. */}}
{{- define "tidepole.apiServiceTarget" -}}
service:
  name: {{ include "tidepole.fullname" . }}
  namespace: {{ .Release.Namespace }}
  port: 443
{{- if eq .Values.certificates.mode "files" }}
caBundle: {{ required "certificates.files.caBundle: needed in mode files" .Values.certificates.files.caBundle | trim | printf "%s\n" | b64enc }}
{{- end }}
{{- end }}

{{- define "tidepole.apiServiceAnnotations" -}}
{{- if eq .Values.certificates.mode "certManager" }}
annotations:
  cert-manager.io/inject-ca-from: {{ .Release.Namespace }}/{{ include "tidepole.fullname" . }}-serving
{{- end }}
{{- end }}
