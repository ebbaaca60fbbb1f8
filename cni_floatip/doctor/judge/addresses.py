"""Judges the addresses of this node's pods: whether the route tables send them here, and unclaimed routes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...model import cidr
from ...model.values import Network, RouteKey, RouteTable, RouteTarget
from ..catalog import make_finding
from ..facts import ClaimedPod, KnownRoutes
from ..finding import Finding, list_names
from .tables import option_of


@dataclass(frozen=True, slots=True)
class VpcState:
    """The VPC around this node: its tables, this node's ENIs, and where those of others are.

    ``attached``: ENI -> instance, "" for none. EC2 does not show us a missing one.
    """

    tables: Sequence[RouteTable]
    here: frozenset[str]
    attached: Mapping[str, str]


def cut_off(claims: Sequence[ClaimedPod], enis: Collection[str]) -> Iterator[Finding]:
    """Judge whether the ENI of each live claim is among those of this node."""
    for claim in claims:
        if claim.eni not in enis:
            what = f"is cut off: its ENI {claim.eni} is not attached to this node"
            names = {"eni": claim.eni, "restart": claim.restart}
            yield make_finding("address-cut-off", f"{claim.pod} {claim.ifname}", what, **names)


def served(claims: Sequence[ClaimedPod], vpc: VpcState) -> Iterator[Finding]:
    """Judge where the routes of live claims lead: one finding for all tables that lead to the same."""
    routes = {table.id: table.routes for table in vpc.tables}
    for claim in claims:
        if claim.eni not in vpc.here:
            continue
        leads: dict[tuple[Network, RouteTarget | None], list[str]] = {}
        for key in claim.routes:
            if key.table not in routes:
                continue  # it has gone, or is of another VPC
            target = routes[key.table].get(key.destination)
            if target is None or target.id != claim.eni or not target.active:
                leads.setdefault((key.destination, target), []).append(key.table)
        for (destination, target), tables in leads.items():
            yield _elsewhere(claim, destination, target, tables, claims, vpc)


def _elsewhere(
    claim: ClaimedPod,
    destination: Network,
    target: RouteTarget | None,
    tables: Sequence[str],
    claims: Sequence[ClaimedPod],
    vpc: VpcState,
) -> Finding:
    subject, where = f"{claim.pod} {claim.ifname}", f"in {list_names(tables)}"
    if target is None:
        return make_finding("address-unserved", subject, f"{destination} has no route {where}", pod=claim.pod)
    if not target.is_eni or target.propagated or not target.active:
        what = f"{destination} leads to {target} {where}"
        return make_finding("address-unserved", subject, what, pod=claim.pod)
    key = RouteKey(tables[0], destination)
    others = [pod.pod for pod in claims if pod.eni == target.id and key in pod.routes]
    if target.id in vpc.here and not others:
        what = f"{destination} leads to {target.id} of this node {where}, which no pod has there"
        return make_finding("address-unserved", subject, what, pod=claim.pod)
    whose = f"of {list_names(others)} on this node" if others else _whose(target.id, vpc.attached)
    what = f"{destination} leads to {target.id} ({whose}) {where}"
    instance = vpc.attached.get(target.id) or "INSTANCE"
    return make_finding("address-superseded", subject, what, restart=claim.restart, instance=instance)


def _whose(eni: str, attached: Mapping[str, str]) -> str:
    if eni not in attached:
        return "EC2 does not show whose"
    return f"attached to {attached[eni]}" if attached[eni] else "attached to nothing"


def unclaimed(
    tables: Sequence[RouteTable], ranges: Sequence[Network], here: Collection[str], known: KnownRoutes
) -> Iterator[Finding]:
    """Judge the routes inside the allowed ranges that lead to this node: has the agent a record of each?"""
    leads: dict[tuple[Network, str], list[str]] = {}
    for table in tables:
        for net, target in table.routes.items():
            ours = target.is_eni and target.id in here and target.active and not target.propagated
            if not ours or known.has(RouteKey(table.id, net), target.id):
                continue
            if any(cidr.within(net, range_) for range_ in ranges):
                leads.setdefault((net, target.id), []).append(table.id)
    for (net, eni), ids in leads.items():
        more = f" ({known.waiting} DELs wait in the spool)" if known.waiting else ""
        what = f"leads to {eni} in {list_names(ids)}, and no pod of this node has it{more}"
        yield make_finding(
            "route-unclaimed", str(net), what, table=ids[0], option=option_of(net), destination=net
        )
