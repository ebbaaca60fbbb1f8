"""Judges route tables: which exist, how full they are, conflicting routes, and those of transit gateways."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from ...config.nodeconf import AllowedRouteTables
from ...model import cidr
from ...model.values import Network, RouteKey, RouteTable, RouteTarget, Subnet
from ..catalog import make_finding
from ..facts import ClaimedPod, TgwAttachment
from ..finding import Finding, list_names, not_checked
from .node import tag_arguments

QUOTAS = (50, 500, 1000)
"""Routes per table and family: the older default, the one since June 2025, the most there is."""
NEAR = 0.9
_OF_THE_REGION = re.compile(r"[^-]+-az\d+")
"""Ids of Availability Zones; those of Local and Wavelength Zones have more parts (usw2-lax1-az1)."""


def allowed(
    tables: Sequence[RouteTable], of_policy: AllowedRouteTables, chosen: Sequence[RouteTable], vpc: str
) -> Iterator[Finding]:
    """Judge what policy allows of the VPC's tables."""
    for missing in sorted(of_policy.ids - {table.id for table in tables}):
        yield make_finding("table-missing", missing, f"not in {vpc}", table=missing, vpc=vpc)
    if not chosen:
        text = " and ".join(f"{key}={value}" for key, value in of_policy.tags.items())
        what = f"{len(tables)} tables in {vpc}, none of them {f'with {text}' if text else 'listed'}"
        yield make_finding("no-tables", "allowedRouteTables", what, tags=tag_arguments(of_policy.tags))


def quota(tables: Sequence[RouteTable], ranges: Sequence[Network]) -> Iterator[Finding]:
    """Judge how full each table is. AWS does not tell its limit here: each limit it may be is near or not."""
    for table in tables:
        for version in (4, 6):
            used = count_routes(table, version)
            limit = next((item for item in QUOTAS if used <= item), QUOTAS[-1])
            if used >= NEAR * limit:
                what = (
                    f"{used} IPv{version} routes: the limit is {limit} unless it was raised (AWS's default is"
                    f" {QUOTAS[0]}, or {QUOTAS[1]} since June 2025; this check cannot see it)"
                )
                range_ = next((str(network) for network in ranges if network.version == version), "RANGE")
                yield make_finding("quota-near", table.id, what, range=range_)


def count_routes(table: RouteTable, version: int) -> int:
    """Return how many routes of a family count against the quota: propagated ones do not."""
    return sum(net.version == version and not target.propagated for net, target in table.routes.items())


def conflicts(
    tables: Sequence[RouteTable],
    ranges: Sequence[Network],
    cut_off: Collection[str] = (),
    live: Collection[RouteKey] = (),
) -> Iterator[Finding]:
    """Judge the routes inside the allowed ranges.

    Blackholes of the ENIs ``cut_off``, and in the places of ``live`` claims, are not for a sweep: what is
    wrong there is that an address is dead.
    """
    for table in tables:
        for net, target in table.routes.items():
            range_ = next((network for network in ranges if cidr.within(net, network)), None)
            if range_ is None or target.id == "local":
                continue
            if not target.is_eni or target.propagated:
                if _could_be_claimed(net, ranges):
                    yield _conflict(table, net, target)
            elif not target.active and target.id not in cut_off and RouteKey(table.id, net) not in live:
                what = f"{net} -> {target}"
                yield make_finding("route-blackhole", table.id, what, range=range_)


def _could_be_claimed(net: Network, ranges: Sequence[Network]) -> bool:
    """Whether a claim may be for exactly this destination: an address, or a whole allowed range or subnet."""
    return (
        net.prefixlen == net.max_prefixlen
        or net in ranges
        or net.prefixlen >= (28 if net.version == 4 else 64)
    )


def option_of(net: Network) -> str:
    """Return the option by which ``aws ec2 delete-route`` takes a destination."""
    return "--destination-cidr-block" if net.version == 4 else "--destination-ipv6-cidr-block"


def _conflict(table: RouteTable, net: Network, target: RouteTarget) -> Finding:
    option = option_of(net)
    how = ", propagated" if target.propagated else ""
    names = {"table": table.id, "option": option, "destination": net}
    return make_finding("route-conflict", table.id, f"{net} -> {target}{how}", **names)


def transit(
    attachments: Sequence[TgwAttachment],
    tables: Sequence[RouteTable],
    of_policy: AllowedRouteTables,
    claims: Sequence[ClaimedPod] = (),
) -> Iterator[Finding]:
    """Judge whether the tables that a transit gateway's packets meet may be written, and are."""
    known: set[str] = set()
    for attachment in attachments:
        for subnet in attachment.subnets:
            table = _serving(tables, subnet)
            if table is None or table.id in known:
                continue
            known.add(table.id)
            serves = f"serves {subnet} of {attachment.id} ({attachment.gateway})"
            if not of_policy.allows(table):
                names = {"table": table.id, "tags": tag_arguments(of_policy.tags)}
                yield make_finding(
                    "transit-table", table.id, f"{serves}, and policy does not allow it", **names
                )
            elif pods := sorted(
                {claim.pod for claim in claims if claim.tables and table.id not in claim.tables}
            ):
                what = f"{serves}, and no route there leads to {list_names(pods)}"
                yield make_finding(
                    "transit-unselected", table.id, what, table=table.id, pods=list_names(pods)
                )


def zones(attachments: Sequence[TgwAttachment], subnets: Sequence[Subnet], ours: str) -> Iterator[Finding]:
    """Judge whether each transit gateway is attached in the zone of the node's own subnet.

    "Any resources in Availability Zones where there is no transit gateway attachment cannot reach the
    transit gateway" (Amazon VPC attachments in AWS Transit Gateway, limits).
    """
    zone_of = {subnet.id: subnet.zone for subnet in subnets}
    here = zone_of.get(ours, "")
    if not _OF_THE_REGION.fullmatch(here):
        what = f"is {here}, where no gateway can be attached" if here else "is not shown to this account"
        yield not_checked("", f"the zone of {ours} {what}: whether it reaches one is not known")
        return
    for attachment in attachments:
        there = {zone_of.get(subnet, "") for subnet in attachment.subnets}
        if here in there:
            continue
        if "" in there:
            text = f"EC2 does not show the zones of {list_names(attachment.subnets)} to this account"
            yield not_checked(attachment.id, text)
            continue
        what = f"attaches {attachment.gateway} in {', '.join(sorted(there))}, and this node is in {here}"
        yield make_finding("transit-zone", attachment.id, what, attachment=attachment.id, zone=here)


def not_written(
    subnets: Sequence[str], tables: Sequence[RouteTable], of_policy: AllowedRouteTables
) -> list[str]:
    """Return the tables of these subnets that policy does not allow."""
    served = {table.id: table for subnet in subnets if (table := _serving(tables, subnet))}
    return sorted(id_ for id_, table in served.items() if not of_policy.allows(table))


def _serving(tables: Sequence[RouteTable], subnet: str) -> RouteTable | None:
    """Return the table that routes what leaves a subnet: its own or else the main one."""
    main = next((table for table in tables if table.main), None)
    return next((table for table in tables if subnet in table.subnets), main)
