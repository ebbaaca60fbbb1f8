"""Parses CIDRs as people write them, and names those that can never be a floating destination."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network

from .errors import short
from .values import METADATA_NETWORKS, Address, Network, host_route

CIDR = re.compile(r"[0-9A-Fa-f:.]+/(0|[1-9][0-9]{0,2})")

NEVER: tuple[tuple[str, Network], ...] = (
    ("loopback", ip_network("127.0.0.0/8")),
    ("loopback", ip_network("::1/128")),
    ("link-local (instance metadata, DNS, time)", METADATA_NETWORKS[0]),
    ("AWS's own (instance metadata, DNS, time)", METADATA_NETWORKS[1]),
    ("link-local", ip_network("fe80::/10")),
    ("multicast", ip_network("224.0.0.0/4")),
    ("multicast", ip_network("ff00::/8")),
    ("unspecified", ip_network("0.0.0.0/8")),
    ("unspecified", ip_network("::/128")),
    ("broadcast", ip_network("255.255.255.255/32")),
    ("the VPC's NAT64", ip_network("64:ff9b::/96")),
    ("IPv4-mapped", ip_network("::ffff:0:0/96")),
)
"""Never claimed, whatever policy says, because node or VPC needs them. 169.254.168.0/22: link-local."""


def parse(text: str) -> Network:
    """Return the network that ``text`` names; a ValueError says what to write instead."""
    try:
        network: Network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f'"{short(text)}" is not a CIDR') from None
    if "%" in text:
        raise ValueError(f"{short(text)} names an interface; write the network alone")
    if "/" not in text:
        raise ValueError(f"{text} has no prefix length; write {network}")
    if not CIDR.fullmatch(text):
        raise ValueError(f"{short(text)} is not written as address/prefix length; write {network}")
    if ip_address(text.split("/")[0]) != network.network_address:
        raise ValueError(f"{text} has host bits set; write {network}")
    return network


def within(inner: Network, outer: Network) -> bool:
    """Return whether ``inner`` lies inside ``outer`` (or is it); false across families."""
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def never(network: Network) -> str | None:
    """Return why ``network`` can never be a destination, or None."""
    if network.prefixlen == 0:
        return f"{network} is the default route"
    for what, range_ in NEVER:
        if within(network, range_):
            return f"{network} is {what}"
        if within(range_, network):
            return f"{network} contains {range_}, which is {what}"
    return None


def never_address(address: Address) -> str | None:
    """Return why ``address`` can never be a floating IP, or None."""
    reason = never(host_route(address))
    return reason.replace(f"{host_route(address)}", str(address)) if reason else None
