"""What a member does in EC2: it looks, and while it is active it writes, under a proof.

A write needs, in this order: room in the request rate, a GET of the group Lease that shows the pod as holder
and not offered, and to be sent soon after that GET began. So a former active sends at most what it had in
hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..model.values import RouteKey
from .events import AwaitTurn, LookAtRoutes, RecordRole, ReleaseRoutes, TryWrites, Wish, WriteRoutes
from .fitness import LocalPod
from .holding import Holding
from .lease import Reason
from .reasons import gone_at, reason
from .routes import marked
from .timing import PAST, Clock, Instant, Timing, Uid

if TYPE_CHECKING:
    from .member import Member


@dataclass(frozen=True, slots=True)
class Errand:
    """Routes to write, or to delete, for a pod of this node."""

    uid: Uid
    keys: tuple[RouteKey, ...]
    priority: int = 0
    deletes: bool = False


def serving(member: Member) -> LocalPod | None:
    """Return the pod of this node whose routes an active may write, offered or not, or None.

    Its claims live, all its interfaces are here, it does not end, and no older group has a destination of it.
    """
    pod = member.held_pod
    if pod is None or pod.ending or not pod.claims.complete or member.rival or member.unreadable:
        return None
    return pod


def may_mend(member: Member, clock: Clock) -> bool:
    """Return whether an untaken offer is withdrawn for one write: a look found the route not ours."""
    held = member.holding
    return bool(held and serving(member) and member.ec2.answered and held.due(clock))


def errand(member: Member, clock: Clock) -> Errand | None:
    """Return what is to be written or deleted, given a turn and a proof, or None."""
    if member.writing or member.swapping or not member.known or member.unreadable or not member.lease:
        return None
    return _write(member, clock) or _release(member, clock) or _leftover(member, clock)


def _write(member: Member, clock: Clock) -> Errand | None:
    """Return the routes that the active writes now."""
    held, pod = member.holding, serving(member)
    if held is None or pod is None or member.lease is None or member.lease.offer:
        return None
    if not held.mending and reason(member, clock):
        return None  # it offers first
    recorded = pod.claims.active_on_disk or member.record_failed >= held.since
    keys = held.due(clock)
    if not keys or not recorded:
        return None
    return Errand(held.uid, keys, pod.status.priority if pod.status else 0)


def _release(member: Member, clock: Clock) -> Errand | None:
    """Return the routes of a holder that is gone for good."""
    held, pod = member.holding, member.held_pod
    if held is None or pod is None or pod.live or pod.claims.keep or held.released or not pod.claims.keys:
        return None
    offer = member.lease.offer if member.lease else None
    if offer is None or offer.soft or reason(member, clock) is not Reason.GONE:
        return None
    if not clock.past(gone_at(member) + member.timing.release_grace):
        return None
    return Errand(held.uid, pod.claims.keys, deletes=True)


def _leftover(member: Member, clock: Clock) -> Errand | None:
    """Return the routes that the group lost when a pod with fewer destinations took it."""
    left, lease = member.leftover, member.lease
    if left is None or lease is None or not clock.past(left.since + member.timing.release_grace):
        return None
    claimed = {network for rival in member.surroundings.rivals or () for network in rival.destinations}
    claimed |= set(lease.destinations)
    keys = tuple(key for key in left.keys if key.destination not in claimed)
    return Errand(left.uid, keys, deletes=True) if keys else None


def _proof(member: Member, task: Errand, clock: Clock) -> Instant | None:
    """Return when the proof began under which an errand may be done now, or None.

    A GET proves only if it began after the turn: before, it would age while the request rate is awaited. An
    own swap that won, or withdrew an offer, proves as well.
    """
    held, timing = member.holding, member.timing
    if held and not task.deletes and not clock.past(held.swapped + timing.proof):
        return held.swapped
    read = member.read_began if task.deletes or held is None else held.proved
    if member.turn is None or read < member.turn or clock.past(read + timing.proof):
        return None
    return read


def proof_needed(member: Member, clock: Clock) -> bool:
    """Return whether a turn has come, and the group Lease is to be read before the errand."""
    task = errand(member, clock)
    return bool(task and member.turn is not None and _proof(member, task, clock) is None)


def wishes(member: Member, clock: Clock) -> Iterator[Wish]:
    """Yield what is to be done in EC2, and on disk, now."""
    yield from _roles(member, clock)
    task = errand(member, clock)
    if task and member.turn is None:
        yield AwaitTurn(task.keys, task.priority)
    elif task and (proof := _proof(member, task, clock)) is not None:
        kind = ReleaseRoutes if task.deletes else WriteRoutes
        yield kind(task.uid, task.keys, proof + member.timing.proof)
    pod = subject(member)
    if pod is None:
        return
    if clock.past(_look_at(member)):
        yield LookAtRoutes(pod.claims.uid)
    if member.marks and member.holding is None and clock.past(member.tried_at + member.timing.dry_run):
        keys = tuple(key for key in pod.claims.keys if marked(member.marks, key.table))
        if keys:
            yield TryWrites(pod.claims.uid, keys)


def subject(member: Member) -> LocalPod | None:
    """Return the pod whose routes are looked at: the active, or the newest that lives."""
    pod = member.held_pod
    if pod and pod.live:
        return pod
    live = [pod for pod in member.pods if pod.live]
    return max(live, key=lambda pod: (pod.claims.added, pod.claims.uid), default=None)


def _roles(member: Member, clock: Clock) -> Iterator[RecordRole]:
    """Yield the roles that the disk does not have yet; a first write waits for its own."""
    if not member.known or not clock.past(member.record_failed + member.timing.poll):
        return
    for pod in member.pods:
        active = pod.claims.uid == member.active
        if pod.live and pod.claims.active_on_disk != active:
            yield RecordRole(pod.claims.uid, active)


def _look_at(member: Member) -> Instant:
    """Return when the next look is due."""
    ec2, timing = member.ec2, member.timing
    if ec2.writes_fail is not None and ec2.looked < ec2.writes_fail:
        return PAST
    if not ec2.answered or not ec2.look_answered:
        return ec2.looked + timing.failed_look
    if member.holding:
        return next_look(member.holding, ec2.looked, timing)
    return ec2.looked + min(timing.reconcile, timing.standby_look)


def next_look(held: Holding, looked: Instant, timing: Timing) -> Instant:
    """Return when an active looks after a look that began at ``looked``: often while late writes may land."""
    for offset in timing.looks:
        if held.since + offset > looked:
            return held.since + offset
    late = looked + timing.late_look
    return late if late <= held.since + timing.late_writes else looked + timing.reconcile
