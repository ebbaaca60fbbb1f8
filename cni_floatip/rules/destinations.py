"""Decides which destinations to claim in which route tables, and how to release a route. Pure.

Two rules keep this safe. A route to anything but a network interface is a conflict, and is never changed.
Only ADD replaces a working route.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from ..config.netconf import NetConf, RouteTableSelector, tags_match
from ..config.nodeconf import NodeConf, needs_exact_entry
from ..model import cidr
from ..model.claim import Claim
from ..model.errors import CniError, InvalidConfig, PolicyRefused, RouteConflict, raise_any, short
from ..model.values import (
    Address,
    Eni,
    Interface,
    Network,
    RouteKey,
    RouteTable,
    RouteTarget,
    Subnet,
    host_route,
)


@dataclass(frozen=True, slots=True)
class WantedDestination:
    """A destination to claim, and the text that asked for it. ``subnet``: the whole subnet that it is."""

    destination: Network
    because: str
    subnet: Subnet | None = None


# -- destinations -------------------------------------------------------------------------------------------


def inside(network: Network, cidrs: Iterable[Network]) -> bool:
    """Whether ``network`` lies inside one of ``cidrs``."""
    return any(cidr.within(network, item) for item in cidrs)


def needs_subnets(conf: NetConf, addresses: Iterable[Interface], eni: Eni) -> bool:
    """Whether the claim depends on the VPC's subnets, so that they must be read."""
    networks = [*(host_route(address.ip) for address in addresses), *conf.extra_destinations]
    return bool(conf.route_tables.subnets) or any(inside(network, eni.vpc_cidrs) for network in networks)


def destinations(
    conf: NetConf, addresses: Sequence[Interface], eni: Eni, subnets: Sequence[Subnet]
) -> tuple[WantedDestination, ...]:
    """Return what to claim for ``addresses``; raises InvalidConfig or PolicyRefused with every complaint."""
    results: dict[Network, WantedDestination] = {}
    refused: list[CniError] = []
    for address in addresses:
        try:
            want = _for_address(conf.destination, address.ip, eni, subnets)
            results.setdefault(want.destination, want)
        except CniError as e:
            refused.append(e)
    for network in conf.extra_destinations:
        subnet = next((subnet for subnet in subnets if network in subnet.cidrs), None)
        results.setdefault(network, WantedDestination(network, f"destination {network}", subnet))
    raise_any(refused)
    return tuple(results.values())


def _for_address(
    how: Literal["auto", "address", "subnet"], address: Address, eni: Eni, subnets: Sequence[Subnet]
) -> WantedDestination:
    """Pattern 1 is the host route of a non-VPC address, pattern 2 the whole subnet of a VPC address."""
    alone = host_route(address)
    in_vpc = inside(alone, eni.vpc_cidrs)
    if how == "address" and in_vpc:
        raise InvalidConfig(
            f'$.destination: "address", but {address} is inside the VPC ({_join_networks(eni.vpc_cidrs)}),'
            ' where EC2 routes whole subnets only: use an address outside it, or "subnet"'
        )
    if how == "subnet" and not in_vpc:
        raise InvalidConfig(
            f'$.destination: "subnet", but {address} is outside the VPC ({_join_networks(eni.vpc_cidrs)}):'
            ' use an address of an empty subnet of the VPC, or "address"'
        )
    if not in_vpc:
        return WantedDestination(alone, f"address {address}")
    for subnet in subnets:
        for network in subnet.cidrs:
            if cidr.within(alone, network):
                return WantedDestination(network, f"address {address}", subnet)
    raise PolicyRefused(
        f"{address} is inside the VPC ({_join_networks(eni.vpc_cidrs)}) but in none of its subnets: EC2"
        " routes whole subnets only; make a subnet for it that stays empty, or use an address outside the VPC"
    )


def refuse_destinations(
    wants: Iterable[WantedDestination],
    eni: Eni,
    policy: NodeConf,
    namespace: str,
    occupants: Mapping[str, str],
) -> None:
    """Raise PolicyRefused for every destination that policy does not allow, or that no policy can allow.

    ``occupants`` names one network interface for each subnet that has any.
    """
    complaints = [
        f"{want.because}: {reason}"
        for want in wants
        if (reason := objection(want, eni.vpc_cidrs, policy, namespace, occupants))
    ]
    if complaints:
        raise PolicyRefused(" | ".join(complaints))


def objection(
    want: WantedDestination,
    vpc_cidrs: Sequence[Network],
    policy: NodeConf,
    namespace: str,
    occupants: Mapping[str, str],
    who: str = "",
) -> str | None:
    """Return why ``want`` may not be claimed, or None; ``who`` names the pods in the message."""
    network = want.destination
    if reason := cidr.never(network):
        return f"{reason}: never a destination"
    if inside(network, vpc_cidrs):
        if want.subnet is None:
            return f"{network} is inside the VPC and not a whole subnet: EC2 routes whole subnets only"
        if want.subnet.id in occupants:
            return (
                f"{network} is {want.subnet.id}, where {occupants[want.subnet.id]} lives: a claim would take"
                " its traffic; use a subnet without network interfaces"
            )
    entry = policy.entry_for(network, namespace)
    if entry is None:
        who = who or (f"namespace {short(namespace)}" if namespace else "a pod without a namespace")
        return f"{network} is not allowed for {who}: add it to allowedDestinations of the node configuration"
    if needs_exact_entry(network, vpc_cidrs) and not entry.exact(network):
        return (
            f"{network} is so wide (it contains the VPC, or is shorter than /16, IPv6 /48) that"
            f" allowedDestinations must name exactly {network}; {entry.cidr} is not enough"
        )
    return None


# -- route tables -------------------------------------------------------------------------------------------


def table_filters(selector: RouteTableSelector, vpc: str) -> dict[str, list[str]]:
    """Return the DescribeRouteTables filters that find (at least) the tables of ``selector``."""
    filters = {"vpc-id": [vpc]}
    if selector.ids:
        filters["route-table-id"] = list(selector.ids)
    for key, value in selector.tags.items():
        if value == "*":
            filters.setdefault("tag-key", [_literal(key)])  # EC2 matches any of several keys
        else:
            filters[f"tag:{key}"] = [_literal(value)]
    return filters


def _literal(text: str) -> str:
    r"""Escape EC2's wild cards (``*``, ``?``) and its escape character (``\``)."""
    return "".join(f"\\{char}" if char in "*?\\" else char for char in text)


def select_tables(
    selector: RouteTableSelector, tables: Sequence[RouteTable], subnets: Sequence[Subnet], eni: Eni
) -> tuple[RouteTable, ...]:
    """Return the tables that ``selector`` names among those of the ENI's VPC; none found is an error."""
    missing = set(selector.ids) - {table.id for table in tables if table.vpc == eni.vpc}
    if missing:
        raise InvalidConfig(
            f"$.routeTables.ids: {', '.join(sorted(missing))}: no such route table in {eni.vpc}"
        )
    missing = set(selector.subnets) - {subnet.id for subnet in subnets if subnet.vpc == eni.vpc}
    if missing:
        raise InvalidConfig(
            f"$.routeTables.subnets: {', '.join(sorted(missing))}: no such subnet in {eni.vpc}"
        )
    results = matching(selector, tables, eni.vpc)
    if not results:
        raise InvalidConfig(f"$.routeTables: {selector}: no route table of {eni.vpc} matches")
    return results


def matching(selector: RouteTableSelector, tables: Sequence[RouteTable], vpc: str) -> tuple[RouteTable, ...]:
    """Return those of ``tables`` (all tables of ``vpc``) that ``selector`` matches; maybe none."""
    own = [table for table in tables if table.vpc == vpc]
    if selector.ids:
        return tuple(table for table in own if table.id in selector.ids)
    own = [table for table in own if not table.is_gateway_table]
    if selector.subnets:
        return tuple(_serving(selector.subnets, own))
    return tuple(table for table in own if selector.all or tags_match(selector.tags, table.tags))


def _serving(ids: Sequence[str], tables: Sequence[RouteTable]) -> Iterator[RouteTable]:
    """The tables that serve the subnets ``ids``; one without an association is served by the main table."""
    explicit = {subnet for table in tables for subnet in table.subnets}
    for table in tables:
        if table.subnets & set(ids) or (table.main and set(ids) - explicit):
            yield table


def refuse_tables(tables: Iterable[RouteTable], wants: Sequence[WantedDestination], policy: NodeConf) -> None:
    """Raise for every table that may not be written, or holds a route that is not ours to replace."""
    tables = list(tables)
    forbidden = [table.id for table in tables if not policy.allows_table(table)]
    if forbidden:
        raise PolicyRefused(
            f"{', '.join(forbidden)}: not in allowedRouteTables of the node configuration: add the id or a"
            " tag of the table, or select fewer tables"
        )
    conflicts = [
        conflict(RouteKey(table.id, want.destination), target)
        for table in tables
        for want in wants
        if (target := table.routes.get(want.destination)) and not replaceable(target)
    ]
    if conflicts:
        raise RouteConflict(" | ".join(conflicts))


def replaceable(target: RouteTarget) -> bool:
    """Whether a route to ``target`` may be taken over by ADD: it leads to a network interface."""
    return target.is_eni and not target.propagated


def conflict(key: RouteKey, target: RouteTarget) -> str:
    """Return the error for a route at ``key`` that is not ours to replace."""
    how = "propagated, " if target.propagated else ""
    return (
        f"{key}: a route is there that is not ours to replace ({how}to {target}): remove it, or use another"
        " destination"
    )


# -- the end of a claim -------------------------------------------------------------------------------------


class Release(Enum):
    """What to do with a route whose claim has ended."""

    LEAVE = "leave it"
    DELETE = "delete it"
    HAND_OVER = "delete it and create it for another claim of this node"


def decide_release(
    target: RouteTarget | None,
    claim: Claim,
    key: RouteKey,
    others: Iterable[Claim],
    here: Callable[[Claim], bool],
    able: Callable[[Claim], bool],
) -> Release:
    """Return what to do with the route at ``key``, last read as ``target``, now that ``claim`` has ended.

    ``others`` are the other live claims of this node; ``able`` says which of them may be given the route,
    ``here`` whether a claim's ENI is still on this node. A route that now leads elsewhere is somebody else's;
    so is a working route through an ENI that another node has now. A route that an elected pod here is to
    have stays until its election has it written, which needs no delete.
    """
    if target is None or not replaceable(target) or target.id != claim.eni:
        return Release.LEAVE
    if target.active and not here(claim):
        return Release.LEAVE
    heirs = [other for other in others if other.wants(key)]
    if any(heir.eni == claim.eni or heir.elected for heir in heirs):
        return Release.LEAVE
    return Release.HAND_OVER if any(able(heir) for heir in heirs) else Release.DELETE


def heir(claim: Claim, key: RouteKey, others: Iterable[Claim], able: Callable[[Claim], bool]) -> Claim | None:
    """Return the claim that gets the route: the newest other that wants ``key`` and is ``able``.

    Never an elected one, whose routes its election has written.
    """
    wanting = [
        other
        for other in others
        if other.wants(key) and not other.elected and other.attachment != claim.attachment and able(other)
    ]
    return max(wanting, key=lambda other: other.created_at, default=None)


def _join_networks(networks: Iterable[Network]) -> str:
    return ", ".join(map(str, networks))
