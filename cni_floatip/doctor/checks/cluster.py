"""The cluster: VPC CNI's source NAT, and Multus."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...model import cidr
from ...model.values import Network
from .. import kubernetes
from ..catalog import make_finding
from ..finding import Finding, fine, not_checked
from ..judge import cluster
from ..probe import Probe


def snat(probe: Probe) -> Iterable[Finding]:
    outside = _outside(probe.ranges, probe.vpc_cidrs)
    ask = "run: kubectl -n kube-system get daemonset aws-node -o yaml | grep -A1 SNAT"
    try:
        daemonset = kubernetes.daemonset("aws-node", probe.environ, probe.service_account)
    except kubernetes.NotReadable as e:
        return [not_checked("aws-node", e.msg, ask)]
    if daemonset is None:
        return [not_checked("aws-node", "no such daemonset: the cluster uses another network plugin", ask)]
    finding = fine(
        "aws-node", f"leaves calls to {', '.join(map(str, outside)) or 'floating IPs'} as they are"
    )
    return list(cluster.snat(daemonset, outside)) or [finding]


def _outside(allowed: Sequence[Network], vpc_cidrs: Sequence[Network]) -> list[Network]:
    return [net for net in allowed if not any(cidr.within(net, block) for block in vpc_cidrs)]


def multus(probe: Probe) -> Iterable[Finding]:
    ask = "run: kubectl -n kube-system get daemonset kube-multus-ds -o yaml | grep -e image: -A2 -e limits"
    try:
        daemonset = kubernetes.daemonset("kube-multus-ds", probe.environ, probe.service_account)
    except kubernetes.NotReadable as e:
        return [not_checked("kube-multus-ds", e.msg, ask)]
    if daemonset is None:
        return [make_finding("multus-missing", "kube-multus-ds", "no such daemonset")]
    return list(cluster.multus(daemonset)) or [fine("kube-multus-ds", "runs, with memory for plugins")]
