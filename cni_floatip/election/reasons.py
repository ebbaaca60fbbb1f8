"""Why an active must hand its group over, and when it may say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lease import Reason
from .timing import PAST, Clock, Instant

if TYPE_CHECKING:
    from .member import Member

SEVERITY = {Reason.UNREADY: 1, Reason.EC2_LOST: 1, Reason.TERMINATING: 2, Reason.GONE: 2}
"""A plain offer replaces another whose reason is less severe, and any soft one."""
CURABLE = (Reason.UNREADY, Reason.EC2_LOST)
"""Reasons of a pod that serves on: while its offer is untaken its route is mended."""
DAMPED = (Reason.UNREADY, Reason.EC2_LOST, Reason.LEVEL, Reason.ZONE)
"""Moves that a group makes only so often; deaths, ends and an operator's moves are not limited."""


def reason(member: Member, clock: Clock) -> Reason | None:
    """Return why the active must hand over, however the others stand; None: it need not."""
    held, pod = member.holding, member.held_pod
    if held is None or not member.claims_known:
        return None
    if pod is None:
        return Reason.GONE
    if pod.ending:
        return pod.ending
    if pod.unready_since is not None and clock.past(pod.unready_since + member.rules.unready):
        return Reason.UNREADY
    return Reason.EC2_LOST if member.ec2.lost(clock, member.timing) else None


def quiet(member: Member, clock: Clock) -> bool:
    """Return whether the own writes have ended, as long as an offer may wait for them."""
    return member.writing is None or clock.past(member.writing_at + member.timing.offer_wait)


def gone_at(member: Member) -> Instant:
    """Return when the grace of a holder that is gone began: its offer, its DEL or its last write."""
    pod = member.held_pod
    ended = pod.claims.ended_at if pod else None
    return max(member.offer_at, member.wrote_at, PAST if ended is None else ended)
