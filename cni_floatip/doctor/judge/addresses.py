"""The addresses of this node's pods: do the route tables send them here, and what do they send besides?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...model import cidr
from ...model.values import Network, Place, RouteTable, Target
from ..catalog import found
from ..facts import Claimed, Known
from ..finding import Finding, listed
from .tables import option_of


@dataclass(frozen=True, slots=True)
class Vpc:
    """The VPC around this node: its tables, this node's ENIs, and where those of others are.

    ``attached``: ENI -> instance, "" for none. One that is missing is not shown to us.
    """

    tables: Sequence[RouteTable]
    here: frozenset[str]
    attached: Mapping[str, str]


def cut_off(claims: Sequence[Claimed], enis: Collection[str]) -> Iterator[Finding]:
    """Judge whether the ENI of each live claim is among those of this node."""
    for claim in claims:
        if claim.eni not in enis:
            what = f"is cut off: its ENI {claim.eni} is not attached to this node"
            names = {"eni": claim.eni, "restart": claim.restart}
            yield found("address-cut-off", f"{claim.pod} {claim.ifname}", what, **names)


def served(claims: Sequence[Claimed], vpc: Vpc) -> Iterator[Finding]:
    """Judge where the routes of live claims lead: one finding for all tables that lead to the same."""
    routes = {table.id: table.routes for table in vpc.tables}
    for claim in claims:
        if claim.eni not in vpc.here:
            continue
        leads: dict[tuple[Network, Target | None], list[str]] = {}
        for place in claim.routes:
            if place.table not in routes:
                continue  # it has gone, or is of another VPC
            target = routes[place.table].get(place.destination)
            if target is None or target.id != claim.eni or not target.active:
                leads.setdefault((place.destination, target), []).append(place.table)
        for (destination, target), tables in leads.items():
            yield _elsewhere(claim, destination, target, tables, claims, vpc)


def _elsewhere(
    claim: Claimed,
    destination: Network,
    target: Target | None,
    tables: Sequence[str],
    claims: Sequence[Claimed],
    vpc: Vpc,
) -> Finding:
    subject, where = f"{claim.pod} {claim.ifname}", f"in {listed(tables)}"
    if target is None:
        return found("address-unserved", subject, f"{destination} has no route {where}", pod=claim.pod)
    if not target.is_eni or target.propagated or not target.active:
        what = f"{destination} leads to {target} {where}"
        return found("address-unserved", subject, what, pod=claim.pod)
    place = Place(tables[0], destination)
    others = [each.pod for each in claims if each.eni == target.id and place in each.routes]
    if target.id in vpc.here and not others:
        what = f"{destination} leads to {target.id} of this node {where}, which no pod has there"
        return found("address-unserved", subject, what, pod=claim.pod)
    whose = f"of {listed(others)} on this node" if others else _whose(target.id, vpc.attached)
    what = f"{destination} leads to {target.id} ({whose}) {where}"
    instance = vpc.attached.get(target.id) or "INSTANCE"
    return found("address-superseded", subject, what, restart=claim.restart, instance=instance)


def _whose(eni: str, attached: Mapping[str, str]) -> str:
    if eni not in attached:
        return "EC2 does not show whose"
    return f"attached to {attached[eni]}" if attached[eni] else "attached to nothing"


def unclaimed(
    tables: Sequence[RouteTable], ranges: Sequence[Network], here: Collection[str], known: Known
) -> Iterator[Finding]:
    """Judge the routes inside the allowed ranges that lead to this node: has the agent a record of each?"""
    leads: dict[tuple[Network, str], list[str]] = {}
    for table in tables:
        for net, target in table.routes.items():
            ours = target.is_eni and target.id in here and target.active and not target.propagated
            if not ours or known.has(Place(table.id, net), target.id):
                continue
            if any(cidr.within(net, range_) for range_ in ranges):
                leads.setdefault((net, target.id), []).append(table.id)
    for (net, eni), ids in leads.items():
        more = f" ({known.waiting} DELs wait in the spool)" if known.waiting else ""
        what = f"leads to {eni} in {listed(ids)}, and no pod of this node has it{more}"
        yield found("route-unclaimed", str(net), what, table=ids[0], option=option_of(net), destination=net)
