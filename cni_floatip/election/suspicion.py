"""What a member reads of Kubernetes: the group Lease, its own pods, and a holder that may be dead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from . import keeping, taking
from .events import ProbeHost, ReadGroup, ReadNodeLease, ReadPod
from .timing import PAST, Clock

if TYPE_CHECKING:
    from .events import Wish
    from .member import Member


def reads(member: Member, clock: Clock) -> Iterator[Wish]:
    """Yield what is to be read now. Watches are hints: everything is read again every few seconds."""
    timing = member.timing
    poll = clock.past(member.read_began + timing.poll)
    if member.swapping is None and (
        not member.known or member.stale or poll or keeping.proof_needed(member, clock)
    ):
        yield ReadGroup(member.group)
    since = member.surroundings.answers.since
    for pod in member.pods:
        # After a gap in the API's answers the own pod is read anew, before its Ready counts.
        if pod.live and (pod.read_began < since or clock.past(pod.read_began + timing.poll)):
            yield ReadPod(pod.claims.pod, pod.claims.uid)
    yield from _holder_reads(member, clock)


def _holder_reads(member: Member, clock: Clock) -> Iterator[Wish]:
    """Yield what tells whether the holder's node, and its pod, live."""
    node, holder = member.follows, member.lease.holder if member.lease else None
    if node is None or holder is None:
        return
    silence = member.surroundings.silence(node, member.learned_at)
    if silence.probe_due(clock):
        yield ProbeHost(node)
    if not silence.suspected(clock):
        if silence.node.read_began == PAST:
            yield ReadNodeLease(node)
        return
    if silence.read_due(silence.lapsed_at, silence.expires_at + taking.rank_delay(member), clock):
        yield ReadNodeLease(node)
    peer = member.peer(holder.uid)
    began = peer.read_began if peer else PAST
    if began < silence.since or clock.past(began + member.timing.suspected_pod):
        yield ReadPod(holder.pod, holder.uid)
