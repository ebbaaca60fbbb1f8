"""Judges allowed ranges against the VPC: what can never be claimed there, and what would do harm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...model import cidr
from ...model.values import Network, Subnet
from ..catalog import make_finding
from ..finding import Finding


def ranges(
    allowed: Sequence[Network],
    vpc_cidrs: Sequence[Network],
    subnets: Sequence[Subnet],
    occupants: Mapping[str, str],
    vpc: str,
) -> Iterator[Finding]:
    """Judge each range. ``occupants``: subnet -> one network interface in it."""
    for range_ in allowed:
        if any(cidr.within(block, range_) for block in vpc_cidrs):
            what = f"{range_} contains a CIDR of {vpc}"
            yield make_finding("range-contains-vpc", str(range_), what, range=range_)
        elif any(cidr.within(range_, block) for block in vpc_cidrs):
            yield from _inside(range_, subnets, occupants, vpc)


def _inside(
    range_: Network, subnets: Sequence[Subnet], occupants: Mapping[str, str], vpc: str
) -> Iterator[Finding]:
    near = [
        (subnet, net)
        for subnet in subnets
        for net in subnet.cidrs
        if cidr.within(net, range_) or cidr.within(range_, net)
    ]
    for subnet, net in near:
        if subnet.id in occupants:
            what = f"{net} is {subnet.id}, where {occupants[subnet.id]} lives"
            yield make_finding("range-populated", str(range_), what, range=range_, subnet=subnet.id)
    if not any(cidr.within(net, range_) for _, net in near):
        option = "--cidr-block" if range_.version == 4 else "--ipv6-native --ipv6-cidr-block"
        what = f"no subnet of {vpc} lies in it"
        yield make_finding("range-without-subnet", str(range_), what, vpc=vpc, option=option, range=range_)
