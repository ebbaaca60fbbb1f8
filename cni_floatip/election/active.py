"""What the active changes in the group Lease: it offers, withdraws, and ends the holding for good.

An offer ends the active's writes and nothing else: it stays holder and keeps the route until somebody takes.
So nobody hands over to nobody. It first waits for the answer of a write that is under way, because a write
that lands after the successor's would lead to a pod that ends.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from . import keeping, register
from .events import SwapGroup
from .fitness import LocalPod
from .holding import Holding
from .learn import eligible
from .lease import GroupLease, Offer, Reason
from .rank import zone_index
from .reasons import CURABLE, SEVERITY, gone_at, quiet, reason
from .timing import Clock

if TYPE_CHECKING:
    from .member import Member


def swap(member: Member, clock: Clock) -> SwapGroup | None:
    """Return what the active changes now, or None."""
    held, lease, pod = member.holding, member.lease, member.held_pod
    if held is None or lease is None:
        return None
    why = reason(member, clock)
    if why:
        return _hand_over(member, held, lease, why, clock)
    if pod is None:
        return None
    if lease.offer is None:
        return _offer_softly(member, held, lease, pod, clock)
    if not pod.serves:
        return None
    if not lease.offer.soft:
        return _withdraw(member, lease, "fit again")
    if clock.past(member.offer_at + member.timing.soft_offer):
        return _withdraw(member, lease, "nobody took")
    if lease.offer.reason is Reason.LEVEL and not pod.level:
        return _withdraw(member, lease, "level 0")
    return None


def _hand_over(
    member: Member, held: Holding, lease: GroupLease, why: Reason, clock: Clock
) -> SwapGroup | None:
    """Return the plain offer, or what follows one that nobody takes."""
    offer = lease.offer
    if offer is None or offer.soft or SEVERITY[why] > SEVERITY[offer.reason]:
        if (held.mending and why in CURABLE) or not quiet(member, clock):
            return None
        return _swap(member, replace(lease, offer=Offer(why)), f"offer: {why}")
    if why in CURABLE and keeping.may_mend(member, clock):
        after = replace(lease, offer=None, transitions=lease.transitions + 1)
        return _swap(member, after, "withdraw for one write", mends=True)
    if why is Reason.GONE and _released(member, held, clock):
        after = replace(lease, holder=None, offer=None, move=None, transitions=lease.transitions + 1)
        return _swap(member, after, "nobody took: for good")
    return None


def _released(member: Member, held: Holding, clock: Clock) -> bool:
    """Return whether nothing is left of a holding whose pod is gone.

    The routes of a pod whose claims are lost with the disk stay: nothing on record says which they are.
    """
    pod = member.held_pod
    if not clock.past(gone_at(member) + member.timing.release_grace):
        return False
    return pod is None or (not pod.live and (held.released or pod.claims.keep or not pod.claims.keys))


def _withdraw(member: Member, lease: GroupLease, why: str) -> SwapGroup:
    """Return the withdrawal of an offer: a new holding, because clocks ran against this one meanwhile."""
    move = None if lease.offer and lease.offer.reason is Reason.MOVE else lease.move
    after = replace(lease, offer=None, move=move, transitions=lease.transitions + 1)
    return _swap(member, after, f"withdraw: {why}")


def _offer_softly(
    member: Member, held: Holding, lease: GroupLease, pod: LocalPod, clock: Clock
) -> SwapGroup | None:
    """Return an offer to members that stand better, made only while this one has nothing left to write."""
    if not pod.serves or held.mending or member.writing or member.turn is not None or not held.tried:
        return None
    if lease.move is not None:
        offer = Offer(Reason.MOVE, node=lease.move)
        if lease.move == member.node or not eligible(member, lease, offer):
            return _swap(member, replace(lease, move=None), "nobody may take the move that was asked for")
        return _swap(member, replace(lease, offer=offer), f"offer: {offer}")
    offers = [Offer(Reason.LEVEL, level=pod.level)] if pod.level else []
    offers += [Offer(Reason.ZONE)] if _failback(member, held, clock) else []
    for offer in offers:
        if eligible(member, lease, offer):
            return _swap(member, replace(lease, offer=offer), f"offer: {offer}")
    return None


def _failback(member: Member, held: Holding, clock: Clock) -> bool:
    """Return whether a member of the best zone has been fit for as long as the group asks."""
    rules = member.rules
    if not rules.failback or zone_index(member.surroundings.zone, rules.zones) == 0:
        return False
    return any(clock.past(since + rules.failback) for _, since in held.better)


def _swap(member: Member, lease: GroupLease, why: str, *, mends: bool = False) -> SwapGroup:
    pod = member.held_pod
    priority = pod.status.priority if pod and pod.status else 0
    return SwapGroup(register.with_own_entries(member, lease), why, priority, mends=mends)
