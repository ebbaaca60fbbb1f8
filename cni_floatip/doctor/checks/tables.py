"""The VPC's route tables and the allowed ranges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...model.errors import Ec2Error
from ..finding import Finding, fine, listed, not_read
from ..judge import addresses, ranges, tables
from ..probe import Looks


def allowed_tables(looks: Looks) -> Iterable[Finding]:
    chosen = looks.allowed
    wrong = list(tables.allowed(looks.tables, looks.policy.allowed_route_tables, chosen, looks.vpc))
    names = listed([table.id for table in chosen])
    said = f"{len(chosen)} of {len(looks.tables)} may be written: {names}"
    # No finding: whether pods here are to call floating IPs is for those who run them to say.
    own = [eni.subnet for eni in looks.floating]
    if others := tables.not_written(own, looks.tables, looks.policy.allowed_route_tables):
        said += f"; not {listed(others)} of the ENIs' own subnets: pods there find no floating IP through it"
    return wrong or [fine(looks.vpc, said)]


def quota(looks: Looks) -> Iterable[Finding]:
    fullest = max((tables.counted(t, v) for t in looks.allowed for v in (4, 6)), default=0)
    said = f"at most {fullest} routes of a family in a table; AWS's limit is 50 or 500 unless raised"
    return list(tables.quota(looks.allowed, looks.ranges)) or [fine("", said)]


def conflicts(looks: Looks) -> Iterable[Finding]:
    away = {claim.eni for claim in looks.claims_if_told} - {eni.id for eni in looks.enis}
    live = {place for claim in looks.claims_if_told for place in claim.routes}
    wrong = list(tables.conflicts(looks.allowed, looks.ranges, away, live))
    return wrong or [fine("", "nothing in the way, and no blackhole, in the allowed ranges")]


def served(looks: Looks) -> Iterable[Finding]:
    here = frozenset(eni.id for eni in looks.enis)
    wrong = list(addresses.cut_off(looks.claims, here))
    try:
        vpc = addresses.Vpc(looks.tables, here, _attached_to(looks))
        wrong += addresses.served(looks.claims, vpc)
        wrong += addresses.unclaimed(looks.allowed, looks.ranges, here, looks.known)
    except Ec2Error as e:
        return [*wrong, not_read("", e)]
    count = sum(len(claim.routes) for claim in looks.claims)
    return wrong or [fine("", f"{count} routes of this node's pods lead here, and no other does")]


def _attached_to(looks: Looks) -> Mapping[str, str]:
    try:
        return looks.attached_to
    except Ec2Error:  # the permissions' finding, or the endpoint's
        return {}


def transit(looks: Looks) -> Iterable[Finding]:
    try:
        attachments = looks.audit.attachments(looks.vpc, looks.owner)
    except Ec2Error as e:
        return [not_read("transit gateways", e, "ec2:DescribeTransitGatewayVpcAttachments")]
    if not attachments:
        return [fine("", "none attached to this VPC")]
    wrong = list(
        tables.transit(attachments, looks.tables, looks.policy.allowed_route_tables, looks.claims_if_told)
    )
    try:
        wrong += tables.zones(attachments, looks.subnets, looks.enis[0].subnet)
    except Ec2Error as e:  # the permissions' finding
        wrong.append(not_read("zones of the attachments", e))
    said = "the attachments' subnets use allowed tables, and one of each is in this node's zone"
    return wrong or [fine(", ".join(each.gateway for each in attachments), said)]


def allowed_ranges(looks: Looks) -> Iterable[Finding]:
    wrong = ranges.ranges(looks.ranges, looks.vpc_cidrs, looks.subnets, looks.occupants, looks.vpc)
    return list(wrong) or [fine("", f"{', '.join(map(str, looks.ranges))}: nobody lives there")]
