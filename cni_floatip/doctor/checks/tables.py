"""The VPC's route tables and the allowed ranges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ...model.errors import Ec2Error
from ..finding import Finding, fine, list_names, not_read
from ..judge import addresses, ranges, tables
from ..probe import Probe


def allowed_tables(probe: Probe) -> Iterable[Finding]:
    chosen = probe.allowed
    wrong = list(tables.allowed(probe.tables, probe.policy.allowed_route_tables, chosen, probe.vpc))
    names = list_names([table.id for table in chosen])
    text = f"{len(chosen)} of {len(probe.tables)} may be written: {names}"
    # No finding: whether pods here are to call floating IPs is for those who run them to say.
    own = [eni.subnet for eni in probe.floating]
    if others := tables.not_written(own, probe.tables, probe.policy.allowed_route_tables):
        text += (
            f"; not {list_names(others)} of the ENIs' own subnets: pods there find no floating IP through it"
        )
    return wrong or [fine(probe.vpc, text)]


def quota(probe: Probe) -> Iterable[Finding]:
    fullest = max((tables.count_routes(t, v) for t in probe.allowed for v in (4, 6)), default=0)
    text = f"at most {fullest} routes of a family in a table; AWS's limit is 50 or 500 unless raised"
    return list(tables.quota(probe.allowed, probe.ranges)) or [fine("", text)]


def conflicts(probe: Probe) -> Iterable[Finding]:
    away = {claim.eni for claim in probe.claims_if_told} - {eni.id for eni in probe.enis}
    live = {key for claim in probe.claims_if_told for key in claim.routes}
    wrong = list(tables.conflicts(probe.allowed, probe.ranges, away, live))
    return wrong or [fine("", "nothing in the way, and no blackhole, in the allowed ranges")]


def served(probe: Probe) -> Iterable[Finding]:
    here = frozenset(eni.id for eni in probe.enis)
    wrong = list(addresses.cut_off(probe.claims, here))
    try:
        vpc = addresses.VpcState(probe.tables, here, _attached_to(probe))
        wrong += addresses.served(probe.claims, vpc)
        wrong += addresses.unclaimed(probe.allowed, probe.ranges, here, probe.known)
    except Ec2Error as e:
        return [*wrong, not_read("", e)]
    count = sum(len(claim.routes) for claim in probe.claims)
    return wrong or [fine("", f"{count} routes of this node's pods lead here, and no other does")]


def _attached_to(probe: Probe) -> Mapping[str, str]:
    try:
        return probe.attached_to
    except Ec2Error:  # the permissions' finding, or the endpoint's
        return {}


def transit(probe: Probe) -> Iterable[Finding]:
    try:
        attachments = probe.audit.attachments(probe.vpc, probe.owner)
    except Ec2Error as e:
        return [not_read("transit gateways", e, "ec2:DescribeTransitGatewayVpcAttachments")]
    if not attachments:
        return [fine("", "none attached to this VPC")]
    wrong = list(
        tables.transit(attachments, probe.tables, probe.policy.allowed_route_tables, probe.claims_if_told)
    )
    try:
        wrong += tables.zones(attachments, probe.subnets, probe.enis[0].subnet)
    except Ec2Error as e:  # the permissions' finding
        wrong.append(not_read("zones of the attachments", e))
    text = "the attachments' subnets use allowed tables, and one of each is in this node's zone"
    return wrong or [fine(", ".join(attachment.gateway for attachment in attachments), text)]


def allowed_ranges(probe: Probe) -> Iterable[Finding]:
    wrong = ranges.ranges(probe.ranges, probe.vpc_cidrs, probe.subnets, probe.occupants, probe.vpc)
    return list(wrong) or [fine("", f"{', '.join(map(str, probe.ranges))}: nobody lives there")]
