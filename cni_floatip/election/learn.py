"""What a member learns: the group Lease, whoever changed it, and pods."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .events import (
    ClaimsChanged,
    GroupRead,
    GroupSeen,
    GroupSwapped,
    Notice,
    NoticeKind,
    RoleRecorded,
    Swap,
    SwapGroup,
)
from .fitness import LocalPod, PodStatus
from .holding import Holding, Leftover, PeerPod, Standing
from .lease import GroupLease, Offer, is_newer
from .rank import may_take
from .reasons import DAMPED
from .timing import NEVER, PAST, Instant, Uid

if TYPE_CHECKING:
    from .member import Member

MOST_ENIS = 64
"""ENIs of members that are remembered: a late write of one who is gone is no other writer's."""


def claims(member: Member, event: ClaimsChanged) -> Member:
    """Return the member after its node's claims changed."""
    pods = []
    for item in sorted(event.pods, key=lambda pod: pod.uid):
        before = member.pod(item.uid)
        pods.append(before.claim(item, event.at) if before else LocalPod(item, event.at))
    after = replace(member, pods=tuple(pods), claims_known=True)
    pod = after.held_pod
    if after.holding and pod:
        after = replace(after, holding=after.holding.with_keys(pod.claims.keys, PAST))
    return after


def pod(member: Member, uid: Uid, status: PodStatus | None, at: Instant, began: Instant | None) -> Member:
    """Return the member after a pod was read (``began``) or watched. Another uid's status is none."""
    status = status if status is not None and status.uid == uid else None
    if (local := member.pod(uid)) is not None:
        if began is None and status is None and local.read_began == PAST:
            return member  # the watch has nothing of it yet: a GET tells
        after = local.see(status, at, began)
        return replace(member, pods=tuple(after if item is local else item for item in member.pods))
    if began is None:
        return member
    peer = (member.peer(uid) or PeerPod(uid, PAST)).read(status, began, at)
    others = tuple(item for item in member.peers if item.uid != uid)
    return replace(member, peers=tuple(sorted((*others, peer), key=lambda item: item.uid)))


def role(member: Member, event: RoleRecorded) -> Member:
    """Return the member after a role was written to disk. What could not be written is tried again."""
    if not event.done:
        return replace(member, record_failed=event.at)
    pods = tuple(
        replace(pod, claims=replace(pod.claims, active_on_disk=event.active))
        if pod.claims.uid == event.uid
        else pod
        for pod in member.pods
    )
    return replace(member, pods=pods)


def read(member: Member, event: GroupRead) -> Member:
    """Return the member after a GET of the group Lease. It proves who holds, as of its begin."""
    lease = event.lease
    after = replace(member, read_began=max(event.began, member.read_began), unreadable="")
    if event.began < member.viewed_at and _older(lease, member.lease):
        return replace(after, stale=True)  # the watch, or an own swap, was faster
    after = replace(_adopt(after, lease, event.at), stale=False, unsure=False)
    held = after.holding
    if held and lease and lease.offer is None:
        after = after.hold(proved=max(event.began, held.proved))
    return after


def watched(member: Member, event: GroupSeen) -> Member:
    """Return the member after an event of the watch: a hint that may be late, so never a step back."""
    lease = event.lease
    if not member.known or lease is None or member.lease is None:
        return replace(member, stale=True)
    if _older(lease, member.lease):
        return member
    return replace(_adopt(member, lease, event.at), unreadable="")


def swapped(member: Member, event: GroupSwapped) -> Member:
    """Return the member after a swap. One without an answer may have been made: the Lease tells."""
    request = member.swapping
    wins = isinstance(request, SwapGroup) and request.wins
    member = replace(member, swapping=None)
    match event.outcome:
        case Swap.CONFLICT:
            return replace(member, stale=True)
        case Swap.REFUSED:
            return replace(member, stale=True, refused_at=event.at)
        case Swap.UNKNOWN:
            return replace(member, stale=True, unsure=member.unsure or wins)
        case Swap.DONE:
            pass
    lease = event.lease
    member = replace(member, unsure=member.unsure or wins)
    if _older(lease, member.lease):
        return replace(member, stale=True)  # the watch was faster, and has seen a later change
    after = replace(_adopt(member, lease, event.at), unsure=False, entry_written=event.at)
    if after.holding and lease and lease.offer is None:
        after = after.hold(swapped=event.began)
    if isinstance(request, SwapGroup) and request.mends:
        after = after.hold(mending=True)
    return after


def _older(lease: GroupLease | None, view: GroupLease | None) -> bool:
    """Return whether a Lease, or its absence, may be older than the view."""
    return view is not None and (lease is None or is_newer(view.version, lease.version))


def _adopt(member: Member, lease: GroupLease | None, at: Instant) -> Member:
    """Return the member with this as its view of the group Lease."""
    before = member.lease
    if member.known and before == lease:
        return member
    old, new = (before.holder if before else None), (lease.holder if lease else None)
    after = replace(member, lease=lease, known=True, viewed_at=at, enis=_enis(member, lease))
    if not member.known or _holding(before) != _holding(lease):
        after = replace(after, learned_at=at, offer_at=at)
    elif before and lease and before.offer != lease.offer:
        after = replace(after, offer_at=at)
    if old and new and old != new and before and before.offer and before.offer.reason in DAMPED:
        after = replace(after, damping=member.damping.spend(at, member.timing.damping_refill))
    after = replace(after, former=old if lease is None else None)
    return _forget_peers(_adopt_holding(after, member, at))


def _holding(lease: GroupLease | None) -> tuple[object, ...]:
    """Return what the clock of a follower belongs to: a holder, for this once."""
    return (lease.uid, lease.holder, lease.transitions) if lease else ()


def _adopt_holding(member: Member, old: Member, at: Instant) -> Member:
    """Return the member with a holding if the Lease names this node, and without one if not."""
    lease, held = member.lease, member.holding
    holder = lease.holder if lease else None
    if not holder or holder.node != member.node:
        return _lose(member, held, at) if held else member
    if held and held.uid == holder.uid:
        return _note_offer(member, old, at)
    swap = old.swapping
    won = old.unsure or (isinstance(swap, SwapGroup) and swap.wins and swap.lease.holder == holder)
    pod = member.pod(holder.uid)
    fresh = Holding(holder.uid, at).with_keys(pod.claims.keys if pod else (), PAST if won else NEVER)
    after = replace(member, holding=fresh, leftover=None, unsure=False)
    if won:
        after = notice(after, NoticeKind.MOVED, holder.uid, f"{holder.pod} on {holder.node} is active")
    return _note_offer(after, None, at)


def _lose(member: Member, held: Holding, at: Instant) -> Member:
    """Return the member after another holds the group, or nobody."""
    lease, pod = member.lease, member.pod(held.uid)
    after = replace(member, holding=None, ec2=replace(member.ec2, writes_fail=None))
    if not pod or not lease or not lease.holder:
        return after
    holder = lease.holder
    after = notice(after, NoticeKind.LOST, held.uid, f"{holder.pod} on {holder.node} is active")
    missing = tuple(key for key in pod.claims.keys if key.destination not in lease.destinations)
    if missing and lease.destinations and not pod.claims.keep:
        after = replace(after, leftover=Leftover(held.uid, missing, at))
    return after


def _note_offer(member: Member, old: Member | None, at: Instant) -> Member:
    """Return the member with whom a soft offer was made to, and who left one untaken."""
    lease, held = member.lease, member.holding
    former = old.lease.offer if old and old.lease else None
    if held is None or lease is None or (old is not None and former == lease.offer):
        return member
    if lease.offer and lease.offer.soft:
        return member.hold(offered_to=eligible(member, lease, lease.offer))
    untaken = held.untaken
    whole = old is not None and at >= old.offer_at + member.timing.soft_offer
    if whole and former and former.soft and not lease.offer:
        others = (item for item in untaken if item[0] not in held.offered_to)
        untaken = (*others, *((item, at) for item in held.offered_to))
    return member.hold(offered_to=(), untaken=untaken)


def eligible(member: Member, lease: GroupLease, offer: Offer) -> tuple[Standing, ...]:
    """Return the members that a soft offer is made to: fit, equal, better, and not offered to of late."""
    remembered = {item for item, _ in member.holding.untaken} if member.holding else set()
    return tuple(
        entry.standing
        for entry in lease.members
        if entry.fit and entry.node != member.node and may_take(entry, offer, member.rules.zones)
        if entry.destinations == lease.destinations and entry.standing not in remembered
    )


def notice(member: Member, kind: NoticeKind, uid: Uid, text: str) -> Member:
    """Return the member with an Event to publish: the newest of a kind and pod."""
    others = tuple(item for item in member.notices if (item.kind, item.uid) != (kind, uid))
    return replace(member, notices=(*others, Notice(kind, uid, text)))


def _enis(member: Member, lease: GroupLease | None) -> tuple[str, ...]:
    """Return the ENIs of members, present and former."""
    present = {eni for entry in (lease.members if lease else ()) for eni in entry.enis}
    known = present | set(member.enis)
    return tuple(sorted(known if len(known) <= MOST_ENIS else present))


def _forget_peers(member: Member) -> Member:
    """Return the member without pods of other nodes that the Lease no longer names."""
    lease = member.lease
    named = {entry.uid for entry in lease.members} if lease else set()
    named |= {lease.holder.uid} if lease and lease.holder else set()
    return replace(member, peers=tuple(peer for peer in member.peers if peer.uid in named))
