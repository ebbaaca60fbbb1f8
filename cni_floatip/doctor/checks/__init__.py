"""The list of checks: each is a function that reads facts, has them judged, and says if all is fine.

A failed read raises. Only the check whose subject it is says why; the others are "not checked".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..finding import Finding
from ..probe import Probe
from . import aws, cluster, interfaces, node, pods, tables


@dataclass(frozen=True, slots=True)
class Check:
    """One check. ``look`` yields findings; none at all is a mistake."""

    id: str
    group: str
    title: str
    look: Callable[[Probe], Iterable[Finding]]


NODE, AWS, TABLES = "This node", "Credentials and permissions", "Route tables"
ENIS, RANGES, CLUSTER = "Network interfaces", "Address ranges", "Cluster"

CHECKS: Sequence[Check] = (
    Check("policy", NODE, "node configuration", node.policy),
    Check("client", NODE, "client", node.client),
    Check("agent", NODE, "agent", node.agent),
    Check("pods", NODE, "pods", pods.pods),
    Check("metadata", NODE, "instance metadata", node.metadata),
    Check("metadata-guard", NODE, "metadata guard", node.metadata_guard),
    Check("clock", NODE, "clock", node.clock),
    Check("endpoint", AWS, "EC2 endpoint", aws.endpoint),
    Check("identity", AWS, "credentials", aws.identity),
    Check("roles", AWS, "roles", aws.roles),
    Check("permissions", AWS, "permissions", aws.permissions),
    Check("tables", TABLES, "allowed tables", tables.allowed_tables),
    Check("quota", TABLES, "quota", tables.quota),
    Check("addresses", TABLES, "addresses", tables.served),
    Check("conflicts", TABLES, "routes in the way", tables.conflicts),
    Check("transit", TABLES, "transit gateways", tables.transit),
    Check("enis", ENIS, "ENIs", interfaces.enis),
    Check("links", ENIS, "links", interfaces.links),
    Check("source-dest-check", ENIS, "source/dest check", interfaces.source_dest_check),
    Check("security-groups", ENIS, "security groups", interfaces.security_groups),
    Check("network-acls", ENIS, "network ACLs", interfaces.network_acls),
    Check("rp-filter", ENIS, "rp_filter", interfaces.rp_filter),
    Check("forwarding", ENIS, "forwarding", interfaces.forwarding),
    Check("router-advertisements", ENIS, "router advertisements", interfaces.router_advertisements),
    Check("ranges", RANGES, "allowed ranges", tables.allowed_ranges),
    Check("snat", CLUSTER, "source NAT", cluster.snat),
    Check("multus", CLUSTER, "Multus", cluster.multus),
)
