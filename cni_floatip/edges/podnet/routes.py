"""Converts routes and rules, ours and foreign ones, from and to the kernel's messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Literal

from ...model.values import ROUTE_PROTO, Address, Network, PodRoute, PodRule
from .rtnetlink import Message

AF_INET, AF_INET6 = 2, 10
FAMILIES: Mapping[int, int] = {4: AF_INET, 6: AF_INET6}
"""By IP version. (The ``socket`` module has them too, and takes 5 ms to import.)"""
MAIN_TABLE, LOCAL_TABLE = 254, 255
RESERVED_TABLES = frozenset({0, 253, MAIN_TABLE, LOCAL_TABLE})
KERNEL_PROTO = 2
SCOPE_UNIVERSE, SCOPE_LINK = 0, 253

_ONLINK = 0x4  # RTNH_F_ONLINK
_CLONED = 0x200  # RTM_F_CLONED: a cache entry, not a route
_TO_TABLE, _UNREACHABLE = 1, 7  # FR_ACT_TO_TBL, FR_ACT_UNREACHABLE
_KINDS = {
    1: "unicast",
    2: "local",
    3: "broadcast",
    4: "anycast",
    5: "multicast",
    6: "blackhole",
    7: "unreachable",
    9: "throw",
}
_IPV6_PREFIX_METRIC = 256  # IP6_RT_PRIO_ADDRCONF: what the kernel gives a connected route
_SELECTORS = ("FRA_IIFNAME", "FRA_FWMARK", "FRA_UID_RANGE", "FRA_IP_PROTO")
_TYPES = {name: number for number, name in _KINDS.items()}
_OURS: Mapping[int, Literal["unreachable", "throw"]] = {7: "unreachable", 9: "throw"}
"""Types of our routes that lead through no link."""


@dataclass(frozen=True, slots=True)
class OtherRoute:
    """A route that somebody else put into the pod. ``ifname`` is empty for a route without a link."""

    destination: Network
    table: int
    gateway: Address | None
    ifname: str
    proto: int
    metric: int = 0
    kind: str = "unicast"

    def __str__(self) -> str:
        kind = "" if self.kind == "unicast" else f"{self.kind} "
        via = f" via {self.gateway}" if self.gateway else ""
        dev = f" dev {self.ifname}" if self.ifname else ""
        metric = f" metric {self.metric}" if self.metric else ""
        return f"{kind}{self.destination}{via}{dev} table {self.table} proto {self.proto}{metric}"


def is_route(message: Message) -> bool:
    """Whether a message of a dump is an IPv4 or IPv6 route, not a cache entry or MPLS."""
    return message["family"] in (AF_INET, AF_INET6) and not message["flags"] & _CLONED


def destination_of(message: Message) -> Network:
    """Return where the route leads; the kernel leaves a default route's destination out."""
    return _network(message, message.get_attr("RTA_DST"), message["dst_len"])


def table_of(message: Message, attribute: str) -> int:
    """Return the 32 bit table number; the header has room for 8 bits."""
    return int(message.get_attr(attribute) or message["table"])


def pod_route(message: Message) -> PodRoute:
    """Read one of our own routes."""
    metrics = message.get_attr("RTA_METRICS")
    gateway = message.get_attr("RTA_GATEWAY")
    return PodRoute(
        destination=destination_of(message),
        gateway=ip_address(gateway) if gateway else None,
        table=table_of(message, "RTA_TABLE"),
        mtu=(metrics.get_attr("RTAX_MTU") or None) if metrics else None,
        kind=_OURS.get(message["type"], "unicast"),
    )


def other_routes(message: Message, names: Mapping[int, str]) -> Iterator[OtherRoute]:
    """Read a foreign route; a multipath route gives one for each next hop. ``names``: by link index."""
    hops = message.get_attr("RTA_MULTIPATH") or [message]
    for hop in hops:
        via = hop.get_attr("RTA_VIA")
        gateway = hop.get_attr("RTA_GATEWAY") or (via["addr"] if via else None)
        index = message.get_attr("RTA_OIF") if hop is message else hop["oif"]
        kind = _KINDS.get(message["type"], str(message["type"]))
        yield OtherRoute(
            destination=destination_of(message),
            table=table_of(message, "RTA_TABLE"),
            gateway=_shown_address(gateway),
            ifname=names.get(index, f"#{index}") if index and kind == "unicast" else "",
            proto=message["proto"],
            metric=message.get_attr("RTA_PRIORITY") or 0,
            kind=kind,
        )


def is_ours(message: Message, index: int) -> bool:
    """Whether the route carries our mark and leads through link ``index`` or through none."""
    if not is_route(message) or message["proto"] != ROUTE_PROTO:
        return False
    return message["type"] in _OURS or message.get_attr("RTA_OIF") == index


def route_message(route: PodRoute, index: int) -> tuple[dict[str, int], list[tuple[str, Any]]]:
    """Return one of our routes, through link ``index``, as ``(header fields, attributes)``.

    The next hop is on-link, because it is in the ENI's subnet and the floating address is not. No preferred
    source, because an IPv6 address may still be tentative and the kernel refuses a tentative one.
    """
    unicast = route.kind == "unicast"
    fields = {
        "family": FAMILIES[route.destination.version],
        "dst_len": route.destination.prefixlen,
        "table": min(route.table, 252),  # RTA_TABLE counts; 252 is RT_TABLE_COMPAT, "look there"
        "proto": ROUTE_PROTO,
        "type": _TYPES[route.kind],
        "scope": SCOPE_LINK if unicast and not route.gateway else SCOPE_UNIVERSE,
        "flags": _ONLINK if unicast and route.gateway else 0,
    }
    attrs: list[tuple[str, Any]] = [
        ("RTA_DST", str(route.destination.network_address)),
        ("RTA_TABLE", route.table),
    ]
    if unicast:
        attrs.append(("RTA_OIF", index))
    if unicast and route.gateway:
        attrs.append(("RTA_GATEWAY", str(route.gateway)))
    if route.mtu:
        attrs.append(("RTA_METRICS", (("RTAX_MTU", route.mtu),)))
    return fields, attrs


def connected_message(
    network: Network, index: int, address: Address | None = None
) -> tuple[dict[str, int], list[tuple[str, Any]]]:
    """Return the kernel's connected route of ``network`` as a message; with the address, to put it back."""
    fields = {
        "family": FAMILIES[network.version],
        "dst_len": network.prefixlen,
        "table": MAIN_TABLE,
        "proto": KERNEL_PROTO,
        "type": _TYPES["unicast"],
        "scope": SCOPE_LINK if network.version == 4 else SCOPE_UNIVERSE,
    }
    attrs: list[tuple[str, Any]] = [("RTA_DST", str(network.network_address)), ("RTA_OIF", index)]
    if address and network.version == 4:
        attrs.append(("RTA_PREFSRC", str(address)))
    elif address:
        attrs.append(("RTA_PRIORITY", _IPV6_PREFIX_METRIC))
    return fields, attrs


def is_our_rule(message: Message) -> bool:
    """Whether the rule carries our mark and has a form that we give a rule."""
    action = _UNREACHABLE if message["dst_len"] else _TO_TABLE
    ours = message.get_attr("FRA_PROTOCOL") == ROUTE_PROTO and message["action"] == action
    return ours and message["family"] in (AF_INET, AF_INET6)


def is_plain_rule(message: Message) -> bool:
    """Whether the rule selects by source, destination and bound interface, and nothing else."""
    return message["tos"] == 0 and all(message.get_attr(item) is None for item in _SELECTORS)


def pod_rule(message: Message) -> PodRule:
    """Read a rule as if it were ours; a rule with a destination makes it unreachable."""
    to = message["dst_len"]
    return PodRule(
        source=_network(message, message.get_attr("FRA_SRC"), message["src_len"]),
        table=table_of(message, "FRA_TABLE"),
        oif=message.get_attr("FRA_OIFNAME") or "",
        unreachable_to=_network(message, message.get_attr("FRA_DST"), to) if to else None,
    )


def rule_message(rule: PodRule) -> tuple[dict[str, int], list[tuple[str, Any]]]:
    """Return a rule of ours as ``(header fields, attributes)``; the kernel chooses its priority."""
    fields = {
        "family": FAMILIES[rule.source.version],
        "src_len": rule.source.prefixlen,
        "dst_len": rule.unreachable_to.prefixlen if rule.unreachable_to else 0,
        "table": min(rule.table, 252),
        "action": _UNREACHABLE if rule.unreachable_to else _TO_TABLE,
    }
    attrs: list[tuple[str, Any]] = [("FRA_TABLE", rule.table), ("FRA_PROTOCOL", ROUTE_PROTO)]
    if rule.source.prefixlen:
        attrs.append(("FRA_SRC", str(rule.source.network_address)))
    if rule.unreachable_to:
        attrs.append(("FRA_DST", str(rule.unreachable_to.network_address)))
    if rule.oif:
        attrs.append(("FRA_OIFNAME", rule.oif))
    return fields, attrs


def _shown_address(text: str | None) -> Address | None:
    try:
        return ip_address(text) if text else None
    except ValueError:  # a next hop of another family (MPLS) comes as a hex dump
        return None


def _network(message: Message, address: str | None, length: int) -> Network:
    nothing = "0.0.0.0" if message["family"] == AF_INET else "::"  # noqa: S104 -- no socket is bound to it
    return ip_network((address or nothing, length))
