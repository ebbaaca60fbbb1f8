"""When a member takes its group: a fit pod of this node becomes the holder, by one swap.

It takes what is offered or free, and what a dead node holds. The best of the register takes at once; each
rank after it waits a little longer, in case the better ones died too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from . import register
from .events import SwapGroup
from .fitness import LocalPod
from .lease import Entry, GroupLease, Holder, Reason
from .rank import may_take, order, rank
from .reasons import DAMPED, quiet, reason
from .timing import PAST, Clock, Instant

if TYPE_CHECKING:
    from .member import Member
    from .verdict import Silence


@dataclass(frozen=True, slots=True)
class Chance:
    """Why a member may take, since when. ``ending``: the active ends, is gone or dead, or there is none."""

    why: str
    since: Instant
    ending: bool = True
    damped: bool = False
    ranked: bool = True


def candidate(member: Member) -> LocalPod | None:
    """Return the pod of this node that may be made active: fit, by a GET since the API's newest gap."""
    since = member.surroundings.answers.since
    fit = [pod for pod in member.pods if pod.fit_since and pod.fit and pod.read_began >= since]
    if not fit:
        return None
    return max(fit, key=lambda pod: (pod.status.created if pod.status else 0, pod.claims.uid))


def swap(member: Member, clock: Clock) -> SwapGroup | None:
    """Return the swap that makes a pod of this node the holder, if that is due."""
    pod = candidate(member)
    chance = _chance(member, pod, clock) if pod else None
    entry = register.own_entry(member, pod) if pod and chance else None
    if chance is None or entry is None or not _allowed(member, entry, chance, clock):
        return None
    before = member.lease or GroupLease(member.group)
    after = replace(
        register.with_own_entries(member, before),
        holder=Holder(entry.pod, member.node, entry.uid),
        transitions=before.transitions + 1,
        offer=None,
        move=None,
        destinations=entry.destinations,
        acquired=member.surroundings.epoch + int(clock.now),
    )
    return SwapGroup(after, f"take: {chance.why}", entry.priority, wins=True)


def rank_delay(member: Member) -> float:
    """Return how long this member lets better ones go first when its holder's node is dead."""
    pod = candidate(member)
    entry = register.own_entry(member, pod) if pod else None
    return _delay(member, entry, soft=False) if entry else 0.0


def _allowed(member: Member, entry: Entry, chance: Chance, clock: Clock) -> bool:
    """Return whether the chance is this member's, now."""
    lease, timing = member.lease, member.timing
    unequal = bool(lease and lease.destinations and lease.destinations != entry.destinations)
    if unequal and not chance.ending:
        return False
    if chance.damped and not clock.past(member.damping.free_at(timing.damping, timing.damping_refill)):
        return False
    soft = bool(lease and lease.offer and lease.offer.soft)
    return not chance.ranked or clock.past(chance.since + _delay(member, entry, soft=soft))


def _delay(member: Member, entry: Entry, *, soft: bool) -> float:
    """Return how long this member waits for better ones of the register."""
    lease = member.lease
    if lease is None:
        return 0.0
    holder, zones = lease.holder, member.rules.zones
    offer = lease.offer if soft else None
    others = [
        other
        for other in lease.members
        if (holder is None or (other.uid != holder.uid and (offer is not None or other.node != holder.node)))
        and (offer is None or may_take(other, offer, zones))
    ]
    better = rank(entry, others, lambda other: order(other, zones, lease.destinations))
    return better * member.timing.rank_delay


def _chance(member: Member, pod: LocalPod, clock: Clock) -> Chance | None:
    """Return why this pod may become the holder, or None."""
    lease, timing = member.lease, member.timing
    if lease is None:
        if member.surroundings.rivals is None:
            return None  # an older group may have the destination
        former = member.former
        wait = timing.lease if former and former.node != member.node else 0.0
        return Chance("there is no Lease", member.learned_at + wait)
    holder, offer = lease.holder, lease.offer
    if holder is None:
        return Chance("nobody holds it", member.learned_at)
    if holder.uid == pod.claims.uid:
        return None
    if holder.node == member.node:
        return _inside(member, lease, clock)
    entry = register.own_entry(member, pod) if offer else None
    if offer and entry and may_take(entry, offer, member.rules.zones):
        return Chance(f"offered, {offer}", member.offer_at, offer.ending, offer.reason in DAMPED)
    return _dead(member, holder, clock)


def _inside(member: Member, lease: GroupLease, clock: Clock) -> Chance | None:
    """Return why a pod takes from another one of its node: at once, and without an offer before."""
    why = reason(member, clock)
    if why is None and lease.offer and not lease.offer.soft:
        why = lease.offer.reason
    if why is None or not quiet(member, clock):
        return None
    ending = why in (Reason.TERMINATING, Reason.GONE)
    return Chance(f"{why} on this node", PAST, ending, why in DAMPED, ranked=False)


def _dead(member: Member, holder: Holder, clock: Clock) -> Chance | None:
    """Return why the holder counts as dead, or its pod as offered, or None."""
    silence = member.surroundings.silence(holder.node, member.learned_at)
    if silence.confirmed(silence.expires_at, clock):
        return Chance(f"{holder.node} is dead", silence.expires_at)
    if silence.confirmed(silence.lapsed_at, clock) and (why := _bad(member, holder, silence, clock)):
        return Chance(f"{holder.node} is silent, its pod {why}", silence.lapsed_at, why != "is not Ready")
    return None


def _bad(member: Member, holder: Holder, silence: Silence, clock: Clock) -> str | None:
    """Return what a GET in this silence shows against the holder's pod, or None.

    Not Ready counts after as long as an active waits with its own offer, because a kubelet that is restarted
    shows it for a second.
    """
    peer = member.peer(holder.uid)
    if peer is None or peer.read_began < silence.since:
        return None
    if peer.gone:
        return "is gone"
    if peer.terminating:
        return "terminates"
    since = peer.unready_since
    unready = since is not None and clock.past(max(since, silence.since) + member.rules.unready)
    return "is not Ready" if unready else None
