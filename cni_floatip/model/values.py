"""Frozen value types for the CNI, EC2 and the pod's network. No I/O, no decisions; standard library only."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Literal

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network

ROUTE_PROTO = 241
"""The ``proto`` of every route and rule that we put into a pod; one without it is not ours."""

MAIN_TABLE = 254
"""The routing table of everything that no rule sends elsewhere (RT_TABLE_MAIN)."""

METADATA_NETWORKS: tuple[Network, ...] = (IPv4Network("169.254.0.0/16"), IPv6Network("fd00:ec2::/32"))
"""Where instance metadata, VPC DNS and time sync live. No floating interface reaches them, because a pod
that reads instance metadata has the node's credentials."""


def host_route(address: Address) -> Network:
    """Return the /32 or /128 that holds ``address`` alone."""
    return IPv4Network(address) if isinstance(address, IPv4Address) else IPv6Network(address)


@dataclass(frozen=True, slots=True, order=True)
class Attachment:
    """What a CNI call is about: one interface of one container in one network (SPEC.md, "Attachment")."""

    network: str
    container: str
    ifname: str

    def __str__(self) -> str:
        return f"{self.network}/{self.container}/{self.ifname}"


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """Who the container is to Kubernetes, from ``CNI_ARGS``; empty strings outside Kubernetes."""

    namespace: str = ""
    name: str = ""
    uid: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.name else "-"


@dataclass(frozen=True, slots=True)
class Eni:
    """A network interface of this instance, as instance metadata describes it.

    Device numbers count per network card: each card may have an interface 0.
    """

    id: str
    mac: str
    device_number: int
    vpc: str
    subnet: str
    subnet_cidrs: tuple[Network, ...]
    vpc_cidrs: tuple[Network, ...]
    network_card: int = 0

    def __str__(self) -> str:
        return self.id


@dataclass(frozen=True, slots=True)
class Node:
    """This instance, as its identity document says."""

    instance: str
    account: str
    region: str


@dataclass(frozen=True, slots=True)
class NetworkInterface:
    """An ENI as EC2 describes it. ``checks_source``: it drops packets of addresses that are not the ENI's."""

    checks_source: bool
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RouteTarget:
    """Where a VPC route points. ``active`` is false for a blackhole."""

    id: str
    is_eni: bool
    active: bool = True
    propagated: bool = False

    def __str__(self) -> str:
        return self.id if self.active else f"{self.id} (blackhole)"


@dataclass(frozen=True, slots=True, order=True)
class RouteKey:
    """What identifies a VPC route: a route table and a destination."""

    table: str
    destination: Network = field(compare=False)
    key: tuple[int, int, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        net = self.destination
        object.__setattr__(self, "key", (net.version, int(net.network_address), net.prefixlen))

    def __str__(self) -> str:
        return f"{self.table} {self.destination}"


@dataclass(frozen=True, slots=True)
class RouteTable:
    """A VPC route table as last read. ``routes`` holds CIDR destinations only (no prefix lists).

    ``routes`` may keep EC2's whole answer in memory, and raise Ec2Error where that is not readable.
    """

    id: str
    vpc: str
    account: str
    routes: Mapping[Network, RouteTarget]
    tags: Mapping[str, str] = field(default_factory=dict)
    subnets: frozenset[str] = frozenset()
    main: bool = False
    is_gateway_table: bool = False

    def narrowed(self, destinations: Collection[Network]) -> RouteTable:
        """Return the table with its routes to ``destinations`` alone; it keeps no answer in memory."""
        routes = {network: self.routes.get(network) for network in destinations}
        return replace(self, routes={network: target for network, target in routes.items() if target})


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet of the VPC; ``account`` owns it and with it the VPC's route tables.

    ``zone``: the id of its Availability Zone. Unlike the name, the id is the same in every account.
    """

    id: str
    vpc: str
    account: str
    cidrs: tuple[Network, ...]
    zone: str = ""


@dataclass(frozen=True, slots=True)
class PodRoute:
    """A route inside the pod: on-link through the floating interface, ``unreachable``, or ``throw``.

    ``throw`` ends the lookup in this table, and the kernel goes on with the rules that follow.
    """

    destination: Network
    gateway: Address | None
    table: int
    mtu: int | None = None
    kind: Literal["unicast", "unreachable", "throw"] = "unicast"

    def __str__(self) -> str:
        if self.kind != "unicast":
            return f"{self.kind} {self.destination} table {self.table}"
        mtu = f" mtu {self.mtu}" if self.mtu else ""
        via = f"via {self.gateway}" if self.gateway else "on the link"
        return f"{self.destination} {via} table {self.table}{mtu}"


@dataclass(frozen=True, slots=True)
class PodRule:
    """``ip rule from SOURCE lookup TABLE`` inside the pod.

    ``oif``: only for sockets bound to that interface (SO_BINDTODEVICE). ``unreachable_to``: the rule makes
    this network unreachable instead of a table lookup; the table then only marks whose rule it is.
    """

    source: Network
    table: int
    oif: str = ""
    unreachable_to: Network | None = None

    @property
    def selector(self) -> tuple[Network, str, Network | None]:
        """What the rule matches: two rules with the same selector conflict."""
        return self.source, self.oif, self.unreachable_to

    def __str__(self) -> str:
        to = f" to {self.unreachable_to}" if self.unreachable_to else ""
        oif = f" oif {self.oif}" if self.oif else ""
        return f"from {self.source}{to}{oif} " + (
            "unreachable" if self.unreachable_to else f"lookup {self.table}"
        )


@dataclass(frozen=True, slots=True)
class PodAddress:
    """An address on the pod's interface and whether duplicate address detection is still under way.

    ``temporary``: the kernel made it for privacy (RFC 8981). ``made``: when it was assigned, in seconds since
    boot by the kernel's own count. That count lags behind every clock: compare it, but do not add to it.
    """

    interface: Interface
    tentative: bool = False
    duplicate: bool = False
    temporary: bool = False
    made: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface of the kernel. ``ipvlan_mode`` is set on ipvlan interfaces only."""

    name: str
    index: int
    mac: str
    kind: str = ""
    up: bool = True
    carrier: bool = True
    ipvlan_mode: Literal["", "l2", "l3", "l3s"] = ""
