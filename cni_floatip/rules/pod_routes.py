"""Plans the pod's routes and the routing policy rules that choose them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network

from ..config.netconf import NetConf, PodRoutesConf
from ..model import cidr
from ..model.errors import InvalidConfig
from ..model.values import (
    MAIN_TABLE,
    METADATA_NETWORKS,
    Address,
    Eni,
    Interface,
    Network,
    PodRoute,
    PodRule,
    host_route,
)
from .destinations import WantedDestination, inside

EVERYTHING: Mapping[int, Network] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}
"""All there is, by IP version."""

ON_EVERY_LINK: tuple[Network, ...] = (IPv6Network("fe80::/64"),)
"""On-link everywhere: no router has these, and bound sockets find them only in their own table."""

VPC_ROUTER_V6 = IPv6Address("fe80:ec2::1")
"""The VPC router in every subnet (VPC user guide, "Subnet sizing")."""


@dataclass(frozen=True, slots=True)
class PodPlan:
    """Routes and rules for a pod. ``connected``: addresses whose misleading connected route is removed."""

    routes: tuple[PodRoute, ...] = ()
    rules: tuple[PodRule, ...] = ()
    connected: tuple[Interface, ...] = ()
    table: int | None = None


def pod_plan(
    conf: NetConf,
    addresses: Sequence[Interface],
    wants: Sequence[WantedDestination],
    eni: Eni,
    table: int,
    ifname: str,
) -> PodPlan:
    """Return the routes and rules of the pod's ``ifname``; ``table`` is the one for source routing.

    Packets from a listed CIDR leave through ``ifname`` like those from floating addresses. Packets *to* it go
    behind the pod, so the pod's other tables route them (``throw``): through ``ifname`` the VPC would send
    them back for ever. A CIDR around the pod's own address gets no ``throw``, because pods share that range.
    """
    short = [
        interface for interface in addresses if interface.network.prefixlen < interface.network.max_prefixlen
    ]
    shared = [
        interface
        for interface in short
        if inside(interface.network, (w.destination for w in wants if w.subnet))
    ]
    connected = tuple(interface for interface in short if interface not in shared)
    routes_conf = conf.pod_routes
    if routes_conf is None:
        return PodPlan(connected=connected)
    versions = sorted({address.version for address in addresses})
    by_source = routes_conf.source_routing is not False
    number = table if by_source else MAIN_TABLE
    routes = [
        PodRoute(network, _gateway(routes_conf, network.version, eni), number, routes_conf.mtu)
        for network in routes_conf.to
        if network.version in versions
    ]
    rules: list[PodRule] = []
    if by_source:
        rules = [PodRule(host_route(address.ip), table) for address in addresses]
        pools = [network for network in conf.extra_destinations if network.version in versions]
        rules += [PodRule(pool, table) for pool in pools]
        rules += _rules_of_bound_sockets(versions, table, ifname)
        # Pattern 2: the addresses of a subnet share one ENI, so its other pods are on-link.
        routes += [
            PodRoute(interface.network, None, table)
            for interface in shared
            if interface.network not in routes_conf.to
        ]
        routes += [PodRoute(network, None, table) for network in ON_EVERY_LINK if network.version in versions]
        routes += [
            PodRoute(network, None, table, kind="unreachable")
            for network in METADATA_NETWORKS
            if network.version in versions
        ]
        taken = {route.destination for route in routes}
        routes += [
            PodRoute(pool, None, table, kind="throw")
            for pool in pools
            if pool not in taken and not any(address.ip in pool for address in addresses)
        ]
    return PodPlan(tuple(dict.fromkeys(routes)), tuple(dict.fromkeys(rules)), connected, number)


def _rules_of_bound_sockets(versions: Sequence[int], table: int, ifname: str) -> Iterator[PodRule]:
    """Rules for sockets bound to the interface, which may have no source yet (VRRP, ``ping -I``).

    IPv6: a lookup bound to an interface skips ``unreachable`` routes, as of another interface, and falls
    through to the default route. So metadata gets an ``unreachable`` *rule*, added last because the kernel
    evaluates the newest rule first. IPv4 has no such rule: a bound socket without a route treats the
    destination as on-link. The egress guard covers that.
    """
    for version in versions:
        yield PodRule(EVERYTHING[version], table, ifname)
    for network in METADATA_NETWORKS:
        if network.version == 6 and network.version in versions:
            yield PodRule(EVERYTHING[6], table, ifname, unreachable_to=network)


def _gateway(conf: PodRoutesConf, version: int, eni: Eni) -> Address:
    """The VPC router: in IPv4 the first host of the ENI's subnet, in IPv6 the same everywhere."""
    if written := conf.gateway(version):
        return written
    if version == 6:
        return VPC_ROUTER_V6
    for network in eni.subnet_cidrs:
        if network.version == version:
            return network.network_address + 1
    raise InvalidConfig(f"$.podRoutes.gateway: the subnet of {eni} has no IPv{version}: write the gateway")


def refuse_cluster_routes(
    conf: NetConf, cluster: Callable[[], Iterable[Interface]], node_subnets: Iterable[Network]
) -> None:
    """Raise InvalidConfig when routes of the main table would divert the pod's cluster traffic.

    ``cluster`` returns the pod's other addresses; the kubelet's probes come from ``node_subnets``.
    """
    routes_conf = conf.pod_routes
    if routes_conf is None or routes_conf.source_routing is not False:
        return
    own = {host_route(address.ip): f"the pod's address {address.ip}" for address in cluster()}
    own |= {network: f"the node's primary subnet {network}" for network in node_subnets}
    complaints = [
        f"$.podRoutes.to: {network} covers {what}: its cluster traffic would leave through the floating"
        " interface; use sourceRouting"
        for network in routes_conf.to
        for other, what in own.items()
        if cidr.within(other, network) or cidr.within(network, other)
    ]
    if complaints:
        raise InvalidConfig(" | ".join(complaints))
