{{- define "floatip.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "floatip.fullname" -}}
{{- $name := include "floatip.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "floatip.selector" -}}
app.kubernetes.io/name: {{ include "floatip.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "floatip.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "floatip.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "floatip.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "floatip.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "set serviceAccount.name: with serviceAccount.create=false it must name a service account that exists" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "floatip.image" -}}
{{- $repository := required "set image.repository: where you pushed the image (install/README.md, \"The image\")" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- /* The node configuration. A key that was set to null has gone from the values; for these two it says "nowhere". */ -}}
{{- define "floatip.config" -}}
{{- if not .Values.config.allowedDestinations -}}
{{- fail "set config.allowedDestinations: the ranges that pods may have floating IPs in, for example\n  config:\n    allowedDestinations: [{cidr: 192.168.0.0/24, namespaces: [\"core-*\"]}]\nWithout it no pod may have any." -}}
{{- end -}}
{{- if not .Values.config.allowedRouteTables -}}
{{- fail "set config.allowedRouteTables: the VPC route tables that may be written, for example\n  config:\n    allowedRouteTables: {tags: {floatip: \"*\"}}\nWithout it none may be." -}}
{{- end -}}
{{- $config := deepCopy .Values.config -}}
{{- range $key := list "metricsAddress" "healthAddress" -}}
{{- if not (hasKey $config $key) -}}{{- $_ := set $config $key nil -}}{{- end -}}
{{- end -}}
{{- /* Absent while it is off: an agent of release 0.3 that starts meanwhile, or after a roll-back, does not know the key. */ -}}
{{- if not (include "floatip.elects" .) -}}{{- $_ := unset $config "elections" -}}{{- end -}}
{{- toPrettyJson $config -}}
{{- end -}}

{{- /* Not empty if the node configuration has elections; an empty object has. */ -}}
{{- define "floatip.elects" -}}
{{- if kindIs "map" .Values.config.elections -}}yes{{- end -}}
{{- end -}}

{{- /* The namespace of the elections' Leases: the agent's default, where none is given. */ -}}
{{- define "floatip.electionsNamespace" -}}
{{- .Values.config.elections.namespace | default "floatip-elections" -}}
{{- end -}}

{{- /* The name of what is the elections'. Some of it lies in namespaces that releases share, some in none. */ -}}
{{- define "floatip.electionsName" -}}
{{- printf "%s-%s-elections" (include "floatip.fullname" .) .Release.Namespace -}}
{{- end -}}

{{- /* The IP of an IP:port. */ -}}
{{- define "floatip.ip" -}}
{{- regexReplaceAll ":[0-9]+$" . "" | trimPrefix "[" | trimSuffix "]" -}}
{{- end -}}

{{- /* The port of an IP:port. */ -}}
{{- define "floatip.port" -}}
{{- regexFind "[0-9]+$" . -}}
{{- end -}}

{{- /* What a probe asks. The kubelet would go to the node's address, where nobody listens. */ -}}
{{- define "floatip.probe" -}}
{{- $ip := include "floatip.ip" .address -}}
httpGet:
  host: {{ get (dict "0.0.0.0" "127.0.0.1" "::" "::1") $ip | default $ip | quote }}
  port: {{ include "floatip.port" .address }}
  path: {{ .path }}
{{- end -}}

{{- /* What agent and uninstaller know of node, cluster and AWS. */ -}}
{{- define "floatip.env" -}}
- {name: FLOATIP_CONFIG, value: /etc/floatip/config.json}
# Where `floatipctl doctor` looks for the client.
- {name: FLOATIP_BIN_DIR, value: {{ .Values.cniBinDir | quote }}}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
# The region's own STS: the global one is in us-east-1.
- {name: AWS_STS_REGIONAL_ENDPOINTS, value: regional}
{{- with .Values.aws.region }}
- {name: AWS_REGION, value: {{ . | quote }}}
{{- end }}
{{- if .Values.aws.useDualstackEndpoint }}
- {name: AWS_USE_DUALSTACK_ENDPOINT, value: "true"}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* What agent and uninstaller may. */ -}}
{{- define "floatip.securityContext" -}}
runAsUser: 0 # the state on the host, the namespaces and the socket are root's
runAsGroup: 0
privileged: false
# Nothing that is run here is setuid. Kubernetes takes this beside SYS_ADMIN (written CAP_SYS_ADMIN it refuses both).
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
  add:
    - SYS_ADMIN # setns: enter the network namespace of a pod
    - NET_ADMIN # links up, routes and rules in pods; on the host the guard before instance metadata, rules against forwarding
{{- end -}}

{{- /* The host's directories. The client's first line names its own, so that one has the same path inside; so have
       the others, whose paths the client and CNI_NETNS name. */ -}}
{{- define "floatip.clientMounts" -}}
- {name: config, mountPath: /etc/floatip, readOnly: true}
- {name: cni-bin, mountPath: {{ .Values.cniBinDir | quote }}}
{{- end -}}

{{- define "floatip.mounts" -}}
{{ include "floatip.clientMounts" . }}
- {name: run, mountPath: {{ dir .Values.config.socketPath | quote }}}
- {name: data, mountPath: {{ .Values.config.dataDir | quote }}}
{{- if include "floatip.ownSpool" . }}
- {name: spool, mountPath: {{ .Values.config.spoolDir | quote }}}
{{- end }}
# A namespace is a mount: without propagation those of later pods would be empty files in here.
- {name: netns, mountPath: {{ .Values.netnsDir | quote }}, mountPropagation: HostToContainer}
{{- range $index, $dir := .Values.extraNetnsDirs }}
- {name: netns-{{ $index }}, mountPath: {{ $dir | quote }}, mountPropagation: HostToContainer}
{{- end }}
{{- end -}}

{{- /* Not empty if the spool lies outside the data directory and needs a volume of its own. */ -}}
{{- define "floatip.ownSpool" -}}
{{- if not (hasPrefix (printf "%s/" (clean .Values.config.dataDir)) (clean .Values.config.spoolDir)) -}}yes{{- end -}}
{{- end -}}

{{- /* Refuse what is no CIDR, and an IPv4 one with host bits: no agent would start with it. The agent looks at IPv6's too. */ -}}
{{- define "floatip.cidr" -}}
{{- $octet := "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])" -}}
{{- $v4 := printf "^(%s\\.){3}%s/(3[0-2]|[12]?[0-9])$" $octet $octet -}}
{{- $v6 := "^[0-9A-Fa-f]*:[0-9A-Fa-f:.]+/(12[0-8]|1[01][0-9]|[1-9]?[0-9])$" -}}
{{- if regexMatch $v4 .text -}}
{{- $bits := 0 -}}
{{- range $part := regexFind "^[^/]+" .text | splitList "." -}}{{- $bits = add (mul $bits 256) (int $part) -}}{{- end -}}
{{- $size := 1 -}}
{{- range until (sub 32 (regexFind "[0-9]+$" .text | int) | int) -}}{{- $size = mul $size 2 -}}{{- end -}}
{{- if mod $bits $size -}}
{{- fail (printf "%s: %s has host bits set; write the network's first address" .at .text) -}}
{{- end -}}
{{- else if not (regexMatch $v6 .text) -}}
{{- fail (printf "%s: %s is not a CIDR; write address/prefix length, for example 192.168.0.0/24" .at .text) -}}
{{- end -}}
{{- end -}}

{{- /* Refuse directories that the pod cannot have: one twice, or one that is far more than ours; and one port twice. */ -}}
{{- define "floatip.checked" -}}
{{- $config := .Values.config -}}
{{- if and (include "floatip.elects" .) (ne (index .Chart.Annotations "cni-floatip.dev/elections") "true") -}}
{{- fail "config.elections: elected claims are not in this release, and no agent of it would start with them: leave the key out" -}}
{{- end -}}
{{- range $index, $entry := $config.allowedDestinations -}}
{{- include "floatip.cidr" (dict "at" (printf "config.allowedDestinations[%d].cidr" $index) "text" $entry.cidr) -}}
{{- end -}}
{{- $dirs := concat (list .Values.cniBinDir (dir $config.socketPath) $config.dataDir .Values.netnsDir) (default list .Values.extraNetnsDirs) -}}
{{- if include "floatip.ownSpool" . -}}{{- $dirs = append $dirs $config.spoolDir -}}{{- end -}}
{{- $seen := list "/etc/floatip" -}}
{{- range $dir := $dirs -}}
{{- $dir = clean $dir -}}
{{- if regexMatch "^/[^/]*$" $dir -}}
{{- fail (printf "the directory %s of the host would be mounted as a whole: choose one below it (cniBinDir, netnsDir, extraNetnsDirs, config.socketPath, config.dataDir, config.spoolDir)" $dir) -}}
{{- end -}}
{{- if has $dir $seen -}}
{{- fail (printf "the directory %s is named twice (cniBinDir, netnsDir, extraNetnsDirs, config.socketPath, config.dataDir, config.spoolDir): each needs its own" $dir) -}}
{{- end -}}
{{- $seen = append $seen $dir -}}
{{- end -}}
{{- if and $config.metricsAddress $config.healthAddress -}}
{{- $port := include "floatip.port" $config.metricsAddress -}}
{{- if eq $port (include "floatip.port" $config.healthAddress) -}}
{{- fail (printf "config.metricsAddress and config.healthAddress both have port %s: on the host's network each needs its own" $port) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The nodes that run an agent. The default is not in values.yaml, because helm would add it to what is given. */ -}}
{{- define "floatip.nodeSelector" -}}
{{- toYaml (.Values.nodeSelector | default (dict "floatip" "true")) -}}
{{- end -}}

{{- /* Refuse an upgrade that would take the agents off nodes by the default alone. `lookup` finds nothing where helm
       renders without a cluster (helm template, Argo CD). */ -}}
{{- define "floatip.keptNodes" -}}
{{- if not .Values.nodeSelector -}}
{{- with lookup "apps/v1" "DaemonSet" .Release.Namespace (include "floatip.fullname" .) -}}
{{- $selector := dig "spec" "template" "spec" "nodeSelector" dict . | default (dict "kubernetes.io/os" "linux") -}}
{{- if ne (get $selector "floatip") "true" -}}
{{- fail (printf "nodeSelector is not set, and its default is {floatip: \"true\"} now. The agents of the daemon set %s/%s run on nodes with %s; they would leave those without the label, and nobody would look after the floating IPs there. Label the nodes that have ENIs for floating IPs, then say that you did:\n  kubectl label node NAME floatip=true\n  nodeSelector: {\"floatip\":\"true\"}\nor keep the agents where they are:\n  nodeSelector: %s\n" .metadata.namespace .metadata.name (toJson $selector) (toJson $selector)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
