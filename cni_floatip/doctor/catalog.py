"""The catalog of findings: severity, why it matters, remedy. ``docs/doctor.md`` shows them.

A remedy is a command or a setting; the check fills in ``{names}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .finding import Finding, Severity

ERROR, WARNING = Severity.ERROR, Severity.WARNING


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding. ``check`` finds it; ``title`` is its heading, ``remedy`` a template."""

    check: str
    id: str
    severity: Severity
    title: str
    why: str
    remedy: str


def make_finding(id_: str, subject: str, what: str, **names: object) -> Finding:
    """Return the finding of kind ``id_``. Every name that its remedy uses must be given."""
    kind = KINDS[id_]
    return Finding(id_, kind.severity, subject, what, kind.why, kind.remedy.format(**names))


_KINDS = (
    # -- this node --------------------------------------------------------------------------------------
    Kind(
        "policy",
        "policy-missing",
        ERROR,
        "There is no node configuration",
        "Without it no destination and no route table is allowed, and every ADD is refused.",
        "with the chart: set config.allowedDestinations and config.allowedRouteTables, then helm upgrade;"
        " without: write {path}; a minimal one: {minimal}",
    ),
    Kind(
        "policy",
        "policy-unusable",
        ERROR,
        "The node configuration is wrong",
        "No destination and no route table is allowed while it is, and every ADD is refused.",
        "run: floatipctl validate --kind node {path}; with the chart: helm upgrade with the values mended",
    ),
    Kind(
        "policy",
        "policy-empty",
        ERROR,
        "The node configuration allows nothing",
        "Agents refuse what policy does not list (error 102), so nothing can be claimed.",
        "set {key} in {path} (chart: {value})",
    ),
    Kind(
        "client",
        "client-missing",
        ERROR,
        "The client is not in the runtime's plugin directory",
        "The runtime says 'failed to find plugin \"floatip\"', for DEL too, and the pod does not start.",
        "run: floatipctl install-client --bin-dir {directory} (the init container of the DaemonSet does)",
    ),
    Kind(
        "client",
        "client-broken",
        ERROR,
        "The client does not run",
        "Every ADD and DEL of a pod with this network fails.",
        'run: floatipctl install-client --bin-dir {directory}; then: echo \'{{"cniVersion":"1.1.0"}}\''
        " | CNI_COMMAND=VERSION {path}",
    ),
    Kind(
        "client",
        "client-elsewhere",
        ERROR,
        "The client was installed for another configuration",
        "It looks for the agent at another socket, so ADD waits in vain and fails with error 11.",
        "run: floatipctl install-client --bin-dir {directory}",
    ),
    Kind(
        "client",
        "client-of-another-release",
        WARNING,
        "The client is of another release than this program",
        "The agent understands older clients; but the installer of this release has not done its work.",
        "see the init container's log, or run: floatipctl install-client --bin-dir {directory}",
    ),
    Kind(
        "agent",
        "agent-silent",
        ERROR,
        "The node's agent does not answer",
        "Without it ADD and CHECK fail (error 11), DELs only pile up, and no route is mended.",
        "run: kubectl -n {namespace} get pods -l app.kubernetes.io/name=cni-floatip --field-selector"
        " spec.nodeName={node}; then its logs",
    ),
    Kind(
        "agent",
        "agent-not-ready",
        ERROR,
        "The agent says that it is not ready",
        "Until it is, nobody maintains its claims.",
        "fix what it reports; run: floatipctl status",
    ),
    Kind(
        "agent",
        "agent-warns",
        WARNING,
        "The agent reports a problem that it cannot fix itself",
        "It goes on working, but not as it should.",
        "fix what it reports; run: floatipctl status",
    ),
    Kind(
        "agent",
        "agent-claims",
        WARNING,
        "The last look at a claimed route failed, or a claim file cannot be read",
        "A route that is not looked at is not mended, and one that is forgotten is not released.",
        "run: floatipctl status",
    ),
    Kind(
        "pods",
        "pod-lost",
        ERROR,
        "A pod lacks something that ADD gave it",
        "Its packets leave by the wrong interface or not at all, and its VPC routes look sound. The agent"
        " puts routes and rules back within a second; what stays lost is an address, an interface, or has"
        " another's route in its place.",
        "look at: nsenter --net={netns} ip addr show {ifname}; put the address back, remove what has the"
        " place of ours, or delete the pod, so that it is added anew",
    ),
    Kind(
        "metadata",
        "metadata-unreachable",
        ERROR,
        "Instance metadata does not answer on the host",
        "An ADD finds the ENI of a pod there, and credentials may come from it.",
        "run: aws ec2 modify-instance-metadata-options --instance-id {instance} --http-endpoint enabled"
        " --http-tokens required; the agent needs hostNetwork: true",
    ),
    Kind(
        "metadata-guard",
        "metadata-open",
        ERROR,
        "Instance metadata answers through a floating interface",
        "With the source/dest check off EC2 answers packets that are forwarded: any process in the pod gets"
        " the node's credentials.",
        "restart the agent, which puts the guard back: kubectl -n {namespace} delete pod"
        " -l app.kubernetes.io/name=cni-floatip --field-selector spec.nodeName={node}; what took it from"
        " {link}: tc filter show dev LINK egress (and ingress); nft list ruleset",
    ),
    Kind(
        "metadata-guard",
        "guard-missing",
        ERROR,
        "An ENI with floating IPs has no metadata guard",
        "A pod with NET_ADMIN or NET_RAW can reach instance metadata, and gets the node's credentials."
        " Through ipvlan it also reaches services of the node that are not meant for pods.",
        "see the agent's warnings (floatipctl status): its kernel needs nftables (netdev family) or"
        " sch_ingress and cls_bpf, the agent NET_ADMIN; link {link}",
    ),
    Kind(
        "metadata-guard",
        "eni-in-pod",
        WARNING,
        "An ENI is itself in a pod (host-device)",
        "No filter of the node keeps that pod from instance metadata: with NET_RAW alone the pod gets the"
        " node's credentials. You trust it with the node's role.",
        "use ipvlan; or drop NET_RAW and NET_ADMIN in that pod; or require IMDS to be off on such nodes"
        " (HttpEndpoint: disabled)",
    ),
    Kind(
        "metadata-guard",
        "guard-impossible",
        ERROR,
        "No metadata guard can be put on a link here",
        "The agent could not keep pods with floating IPs from instance metadata: they would get the node's"
        " credentials.",
        "run: modprobe -a sch_ingress cls_bpf, or modprobe nf_tables (Linux >= 5.16), on the node; the agent"
        " needs NET_ADMIN and SYS_ADMIN (the chart gives them)",
    ),
    Kind(
        "clock",
        "clock-skew",
        ERROR,
        "The node's clock is wrong",
        "AWS refuses requests that are signed with a time 5 minutes off (RequestExpired, AuthFailure).",
        "run: chronyc tracking; chronyc makestep (server 169.254.169.123)",
    ),
    Kind(
        "endpoint",
        "endpoint-unreachable",
        ERROR,
        "EC2 (or STS, where the credentials come from there) cannot be reached",
        "No route can be written: every ADD fails with error 11.",
        "let TCP 443 out to {endpoint}, and have its name resolved: a NAT gateway, or interface endpoints for"
        " ec2 and sts in the VPC; IPv6-only nodes: AWS_USE_DUALSTACK_ENDPOINT=true (chart:"
        " aws.useDualstackEndpoint); behind a proxy: NO_PROXY (chart: extraEnv) names what is reached without"
        " it: 169.254.169.254, [fd00:ec2::254], 169.254.170.23, [fd00:ec2::23] and the VPC's interface"
        " endpoints",
    ),
    Kind(
        "endpoint",
        "endpoint-slow",
        WARNING,
        "EC2 answers slowly",
        "An ADD makes at least two calls in a row; the agent waits 1 s for a connection, 4 s for an answer.",
        "create interface endpoints for ec2 and sts in the VPC: aws ec2 create-vpc-endpoint"
        " --vpc-endpoint-type Interface --service-name com.amazonaws.{region}.ec2 ...",
    ),
    # -- credentials and permissions --------------------------------------------------------------------
    Kind(
        "identity",
        "no-credentials",
        ERROR,
        "There are no usable AWS credentials",
        "No route can be written.",
        "associate a role with the agent's service account: aws eks create-pod-identity-association ..."
        " (or the IRSA annotation, chart: serviceAccount.annotations)",
    ),
    Kind(
        "identity",
        "identity-of-node",
        WARNING,
        "The credentials are the node role's",
        "Every pod on the host network then may write routes too; a role for the agent alone may not be used"
        " by others.",
        "associate a role with the agent's service account (Pod Identity or IRSA), and take the route actions"
        " away from {identity}",
    ),
    Kind(
        "roles",
        "role-refused",
        ERROR,
        "A role of the node configuration cannot be assumed",
        "The route tables of that account cannot be read or written.",
        "allow sts:AssumeRole on {role} to {identity}, and name that identity in the role's trust policy",
    ),
    Kind(
        "roles",
        "sts-unreachable",
        ERROR,
        "STS cannot be reached, and the node configuration names a role",
        "The role cannot be assumed: the route tables of that account cannot be read or written.",
        "let TCP 443 out to sts.{region}.amazonaws.com: a NAT gateway, or an interface endpoint for sts in"
        " the VPC; IPv6-only nodes: AWS_USE_DUALSTACK_ENDPOINT=true (chart: aws.useDualstackEndpoint)",
    ),
    Kind(
        "permissions",
        "action-denied",
        ERROR,
        "IAM does not allow an action that is needed",
        "The agent fails at this action when a pod starts or moves (error 100).",
        'add to the policy of {identity}: "Effect": "Allow", "Action": "ec2:{action}", "Resource":'
        ' "{resource}" (install/iam has the whole policy)',
    ),
    # -- route tables -----------------------------------------------------------------------------------
    Kind(
        "tables",
        "no-tables",
        ERROR,
        "No route table of the VPC is allowed",
        "Every ADD is refused: no table that it asks for may be written.",
        "tag the tables: aws ec2 create-tags --resources rtb-... --tags {tags}; or list them in"
        " allowedRouteTables.ids",
    ),
    Kind(
        "tables",
        "table-missing",
        ERROR,
        "A table that allowedRouteTables lists does not exist in this VPC",
        "Networks that name it fail, and policy says less than it seems to.",
        "take {table} out of allowedRouteTables.ids, or correct it: aws ec2 describe-route-tables"
        " --filters Name=vpc-id,Values={vpc}",
    ),
    Kind(
        "quota",
        "quota-near",
        WARNING,
        "A route table is nearly full",
        "At the quota CreateRoute fails (error 100), while blackholes of dead nodes count as well.",
        "run: aws service-quotas get-service-quota --service-code vpc --quota-code L-93826ACB; then"
        " request-service-quota-increase, or floatipctl sweep --range {range}, or claim whole ranges",
    ),
    Kind(
        "addresses",
        "address-cut-off",
        ERROR,
        "The ENI of a running pod is not attached to its node",
        "Its addresses are dead: nothing is sent to an ENI that is not attached, and the agent writes nothing"
        " through one.",
        "attach {eni} again, or run: {restart}",
    ),
    Kind(
        "addresses",
        "address-superseded",
        ERROR,
        "The address of a running pod leads to another ENI",
        "The last writer has the route, and no agent steals it back: clients reach the other pod, or none.",
        "if this pod is the right owner, run: {restart} (the ADD of its next start takes the route); else end"
        " it for good; who has the address now: kubectl get nodes -o"
        " custom-columns=NAME:.metadata.name,ID:.spec.providerID; on the node of {instance}: floatipctl"
        " doctor",
    ),
    Kind(
        "addresses",
        "address-unserved",
        ERROR,
        "The address of a running pod leads nowhere",
        "Clients whose traffic these tables route do not reach the pod.",
        "wait two minutes, in which the agent repairs it; if this stays, the LAST ERROR of {pod} says why it"
        " does not: floatipctl status",
    ),
    Kind(
        "addresses",
        "route-unclaimed",
        WARNING,
        "A route of an allowed destination leads to this node, where no pod has it",
        "This node drops packets to it. A pod elsewhere that has the address has lost it to this route. (A"
        ' network with "onDelete": "keep" leaves such routes on purpose.)',
        "run: aws ec2 delete-route --route-table-id {table} {option} {destination} (in each of these tables):"
        " the agent of a pod that has the address creates it again",
    ),
    Kind(
        "conflicts",
        "route-conflict",
        ERROR,
        "A route that is not ours to replace stands where a floating IP is allowed",
        "An ADD of that destination fails with error 101.",
        "run: aws ec2 delete-route --route-table-id {table} {option} {destination}; or take the destination"
        " out of allowedDestinations",
    ),
    Kind(
        "conflicts",
        "route-blackhole",
        WARNING,
        "A blackhole stands in an allowed range",
        "Its node is stopped, or is gone and nobody else released the route: clients of that address get"
        " no answer, and the route counts against the quota.",
        "run: floatipctl sweep --range {range} --dry-run; then without --dry-run",
    ),
    Kind(
        "transit",
        "transit-table",
        WARNING,
        "The route table of a transit gateway attachment's subnet may not be written",
        "That table routes packets from the transit gateway (other VPCs, on premises), and without this"
        " route they reach no floating IP.",
        "allow the table too: aws ec2 create-tags --resources {table} --tags {tags}, or list it in"
        " allowedRouteTables.ids; then select it in the networks' routeTables",
    ),
    Kind(
        "transit",
        "transit-unselected",
        WARNING,
        "The route table of a transit gateway attachment's subnet has no route to a floating IP of this node",
        "That table routes packets from the transit gateway (other VPCs, on premises), and without this"
        " route they do not reach this pod.",
        "if clients come from there, select {table} too in routeTables of the network that {pods} use; it"
        " counts from the pod's next start",
    ),
    Kind(
        "transit",
        "transit-zone",
        WARNING,
        "A transit gateway has no attachment subnet in the zone of this node",
        "A zone without one does not reach the gateway: clients behind it (other VPCs, on premises) get no"
        " answer from floating IPs that are on this node, or move to it.",
        "if clients come from there, run: aws ec2 modify-transit-gateway-vpc-attachment"
        " --transit-gateway-attachment-id {attachment} --add-subnet-ids subnet-..., one whose table is"
        " allowed; those of the zone: aws ec2 describe-subnets --filters"
        " Name=availability-zone-id,Values={zone}",
    ),
    # -- network interfaces -----------------------------------------------------------------------------
    Kind(
        "enis",
        "no-floating-eni",
        ERROR,
        "The instance has no ENI for floating IPs",
        "The primary ENI, those of VPC CNI and EFA-only ones cannot be used. No pod can have a floating IP"
        " here, and yet the agent's credentials here can write the route tables.",
        "attach a second ENI with the tag node.k8s.amazonaws.com/no_manage=true (install/cloudformation):"
        " aws ec2 attach-network-interface --instance-id {instance} --device-index 1 ...; a node that is to"
        " have none needs no agent: take the label that the chart's nodeSelector names off it"
        " (kubectl label node NAME floatip-)",
    ),
    Kind(
        "enis",
        "eni-not-allowed",
        ERROR,
        "An ENI does not have the tags of allowedInterfaces",
        "An ADD of a pod behind it is refused (error 102); pods that run stay.",
        "if nothing else uses it, run: aws ec2 create-tags --resources {eni} --tags {tags}; or change"
        " allowedInterfaces of the node configuration (chart: config.allowedInterfaces)",
    ),
    Kind(
        "enis",
        "eni-managed",
        ERROR,
        "VPC CNI may take the ENI for its own pods",
        "Without the tag its ipamd gives the ENI's addresses to pods; its rules send their traffic there.",
        "run: aws ec2 create-tags --resources {eni} --tags Key=node.k8s.amazonaws.com/no_manage,Value=true;"
        " then restart aws-node on this node; where VPC CNI is to have it, name the others instead:"
        " floatipctl doctor --interface NAME",
    ),
    Kind(
        "enis",
        "interface-unknown",
        ERROR,
        "--interface names no ENI that floating IPs can use",
        "The check of that name is skipped, and a network with that master cannot be attached here.",
        "run: ip link; name the ENI by its link (an altname will do), or by its id if a pod has the link",
    ),
    Kind(
        "links",
        "link-missing",
        ERROR,
        "No link of this node and its pods has the ENI's MAC",
        "A network that names it as master cannot be attached.",
        "run: ip -br link; aws ec2 describe-network-interfaces --network-interface-ids {eni} (is it attached,"
        " and does no DPDK driver have it?)",
    ),
    Kind(
        "links",
        "link-down",
        WARNING,
        "The ENI's link is down",
        "AL2023 leaves a hot-plugged ENI down. An ADD brings it up, but its first packets wait for that.",
        "run: ip link set {link} up; for every boot: install/cloudformation/node/floatip-links",
    ),
    Kind(
        "links",
        "link-down-in-use",
        ERROR,
        "The link of an ENI with floating IPs is down",
        "The addresses of its pods are dead: nothing comes in or goes out.",
        "run: ip link set {link} up; where it goes down again, networkd or NetworkManager manages it:"
        " install/cloudformation/node/floatip-links leaves it unmanaged",
    ),
    Kind(
        "links",
        "no-carrier",
        ERROR,
        "The ENI's link is up and has no carrier",
        "An ADD waits 2 s for a carrier and then fails (error 103).",
        "run: ip link show {link}; aws ec2 describe-network-interfaces --network-interface-ids {eni}"
        " (status, attachment)",
    ),
    Kind(
        "links",
        "mtu-small",
        WARNING,
        "The ENI's link has a small MTU",
        "Inside a VPC 9001 bytes pass; interfaces of pods take their MTU from the master.",
        "run: ip link set {link} mtu 9001; for every boot: install/cloudformation/node/floatip-links",
    ),
    Kind(
        "links",
        "link-name",
        WARNING,
        "The link is not named by its device index",
        'Such names depend on the instance type: one "master" in a network does not fit all nodes.',
        "name links by device index, as install/cloudformation/node/floatip-links does: ip link property add"
        " dev {link} altname floatip{slot}",
    ),
    Kind(
        "links",
        "host-uses-eni",
        WARNING,
        "The host itself uses an ENI for floating IPs",
        "The ENI's metadata guard also drops what the host sends to instance metadata through it. If its"
        " default route wins, the node loses its credentials with the first pod.",
        "leave the ENI unmanaged on the host: [Link] Unmanaged=yes in a .network file of systemd-networkd"
        " (install/cloudformation's floatip-links writes one); then: ip addr flush dev {link} scope"
        " global; ip route del default dev {link}",
    ),
    Kind(
        "source-dest-check",
        "check-on",
        ERROR,
        "The source/dest check of an ENI is on",
        "EC2 drops what the ENI sends or receives for addresses other than its own: all floating traffic.",
        "run: aws ec2 modify-network-interface-attribute --network-interface-id {eni} --no-source-dest-check"
        ' (or "sourceDestCheck": "disable" in the node configuration)',
    ),
    Kind(
        "security-groups",
        "security-group-inbound",
        WARNING,
        "No inbound rule names a floating range",
        "Floating IPs of other nodes cannot reach pods behind this ENI. A rule that names a group as"
        " source does not match them, because groups stand for the ENIs' own addresses.",
        "run: aws ec2 authorize-security-group-ingress --group-id {group} --ip-permissions '{permissions}'",
    ),
    Kind(
        "security-groups",
        "security-group-reference",
        WARNING,
        "Another group admits ours by reference, and no floating range",
        "A group as source stands for the ENIs' own addresses, so EC2 drops what a pod sends there from"
        " its floating IP.",
        "where pods call what is behind it, run: aws ec2 authorize-security-group-ingress --group-id {group}"
        " --ip-permissions '{permissions}'",
    ),
    Kind(
        "security-groups",
        "security-group-outbound",
        WARNING,
        "No outbound rule names a floating range",
        "Pods behind this ENI cannot call floating IPs of other nodes.",
        "run: aws ec2 authorize-security-group-egress --group-id {group} --ip-permissions '{permissions}'",
    ),
    Kind(
        "network-acls",
        "network-acl-denies",
        WARNING,
        "The network ACL of an ENI's subnet denies a floating range",
        "A network ACL keeps no state: calls and answers between floating IPs are dropped at the subnet.",
        "run: aws ec2 create-network-acl-entry --network-acl-id {acl} {direction} --rule-number N"
        " --protocol -1 --rule-action allow {option} {range}, N lower than the denying rule's; each range",
    ),
    Kind(
        "rp-filter",
        "rp-filter-strict",
        WARNING,
        "Strict reverse path filtering is on",
        "The kernel drops packets that arrive on an interface through which it would not answer. New pods"
        " get the node's default: one without source routing receives nothing on its floating interface.",
        "run: sysctl -w net.ipv4.conf.{link}.rp_filter=2 (and in /etc/sysctl.d)",
    ),
    Kind(
        "forwarding",
        "forwarding-on",
        WARNING,
        "The node forwards what arrives on an ENI with floating IPs",
        "A packet for a pod that has gone is sent on through the primary ENI, back into the VPC.",
        "see the agent's warnings (floatipctl status): it puts a rule of preference 110 there"
        " (ip {family} rule), unless the table local is looked up later than that; {link}",
    ),
    Kind(
        "router-advertisements",
        "ra-default-route",
        WARNING,
        "A pod took a default route from a router advertisement on its floating interface",
        "It stands beside the pod's own default route: traffic of the cluster may leave by the wrong ENI.",
        'put before floatip in the network: {{"type": "tuning", "sysctl":'
        ' {{"net.ipv6.conf.IFNAME.accept_ra": "0"}}}}; pod {pod}, interface {ifname}',
    ),
    # -- address ranges ---------------------------------------------------------------------------------
    Kind(
        "ranges",
        "range-populated",
        ERROR,
        "An allowed range covers a subnet with network interfaces",
        "A destination there would take a live subnet away from the VPC: every ADD of it is refused"
        " (error 102).",
        "take {range} out of allowedDestinations, or name empty subnets: aws ec2 describe-network-interfaces"
        " --filters Name=subnet-id,Values={subnet}",
    ),
    Kind(
        "ranges",
        "range-without-subnet",
        WARNING,
        "An allowed range inside the VPC holds no subnet",
        "Inside its own CIDRs a VPC takes only routes for whole subnets: nothing there can be claimed.",
        "create an empty subnet: aws ec2 create-subnet --vpc-id {vpc} {option} {range}; or use a range"
        " outside the VPC",
    ),
    Kind(
        "ranges",
        "range-contains-vpc",
        WARNING,
        "An allowed range contains the VPC",
        "It is wider than floating IPs need: single addresses in it pass, also those of others.",
        "name the floating ranges alone in allowedDestinations instead of {range}",
    ),
    # -- cluster ----------------------------------------------------------------------------------------
    Kind(
        "snat",
        "snat",
        WARNING,
        "VPC CNI rewrites the source of calls to a floating range",
        "Pods that call a floating IP outside the VPC arrive there with their node's address.",
        "run: kubectl -n kube-system set env daemonset aws-node AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS={ranges}"
        " (with the EKS add-on: its configuration values)",
    ),
    Kind(
        "multus",
        "multus-missing",
        WARNING,
        "There is no daemonset kube-multus-ds in kube-system",
        "Multus gives pods their further interfaces. (It may have another name.)",
        "install Multus (install/README.md); run: kubectl get daemonsets -A | grep -i multus",
    ),
    Kind(
        "multus",
        "multus-memory",
        WARNING,
        "Thick Multus has little memory",
        "It runs plugins in its own memory limit: several at once, waiting for EC2, are killed there (OOM).",
        "run: kubectl -n kube-system set resources daemonset kube-multus-ds -c {container}"
        " --limits=memory=256Mi",
    ),
    Kind(
        "multus",
        "multus-old",
        WARNING,
        "Multus is older than 4.0",
        'It knows CNI up to 0.4.0: a pod whose network says "cniVersion": "1.0.0" does not start'
        ' (unsupported CNI result version "1.0.0").',
        'install Multus 4 (install/README.md); until then write "cniVersion": "0.4.0" in the networks',
    ),
    Kind(
        "multus",
        "multus-not-ready",
        WARNING,
        "Multus does not run on every node",
        "Pods with a second interface do not start where it does not run.",
        "run: kubectl -n kube-system get pods -o wide -l {selector}",
    ),
)

KINDS: Mapping[str, Kind] = {kind.id: kind for kind in _KINDS}
