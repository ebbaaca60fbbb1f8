"""The register of members in the group Lease: each agent's own entry, and who removes those of pods that
ended.

An entry is written after a GET of the own pod that began when the change was known, because a watch may still
show a pod that is gone: its agent would write the entry, the holder's remove it, and so on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from .events import DeleteGroup, NoticeKind, ReadPod, SwapGroup
from .fitness import LocalPod
from .learn import notice
from .lease import Entry, GroupLease
from .rank import zone_index
from .timing import Clock, Uid

if TYPE_CHECKING:
    from .member import Member


def own_entry(member: Member, pod: LocalPod) -> Entry | None:
    """Return the entry of a pod of this node; None: it has none, because the pod ends for good."""
    if not pod.live or (pod.read and pod.status is None):
        return None
    claims, status = pod.claims, pod.status
    return Entry(
        claims.uid,
        claims.pod,
        member.node,
        member.surroundings.zone,
        pod.level,
        pod.fit_since,
        status.created if status else 0,
        status.priority if status else 0,
        claims.enis,
        claims.destinations,
    )


def with_own_entries(member: Member, lease: GroupLease) -> GroupLease:
    """Return a Lease with the entries of this node's pods, and without those of pods that are gone."""
    entries = {entry.uid: entry for entry in lease.members}
    for uid, entry in _changes(member, lease):
        entries.pop(uid, None)
        if entry:
            entries[uid] = entry
    return replace(lease, members=tuple(entries[uid] for uid in sorted(entries)))


def _changes(member: Member, lease: GroupLease) -> Iterator[tuple[Uid, Entry | None]]:
    """Yield the entries that this agent may write now, and (None) those that it may remove."""
    for pod in member.pods:
        entry, before = own_entry(member, pod), lease.entry(pod.claims.uid)
        if entry != before and _known(member, pod) and (before or (entry and entry.fit)):
            yield pod.claims.uid, entry
    for entry in lease.members:
        peer = member.peer(entry.uid)
        lost = entry.node == member.node and member.claims_known and not member.pod(entry.uid)
        if lost or (member.active and peer and peer.gone and not member.pod(entry.uid)):
            yield entry.uid, None


def _known(member: Member, pod: LocalPod) -> bool:
    """Return whether a GET of the own pod is as new as what its entry says."""
    return not pod.live or (pod.read_began >= max(pod.entry_at, member.surroundings.answers.since))


def swap(member: Member, clock: Clock) -> SwapGroup | None:
    """Return the change of the register alone that is due, or None."""
    lease = member.lease
    if lease is None or not any(_changes(member, lease)):
        return None
    if not clock.past(member.entry_written + member.timing.entry_gap):
        return None
    return SwapGroup(with_own_entries(member, lease), "register")


def delete(member: Member, clock: Clock) -> DeleteGroup | None:
    """Return the deletion of a group Lease that nobody has needed for long, or None."""
    lease = member.lease
    if lease is None or lease.holder or lease.members or any(pod.live for pod in member.pods):
        return None
    if not clock.past(member.viewed_at + member.timing.empty_lease):
        return None
    return DeleteGroup(lease.group, lease.uid, lease.version)


def reads(member: Member, clock: Clock) -> Iterator[ReadPod]:
    """Yield the pods to read: own ones whose entry changes, and an active's peers now and then."""
    lease, timing = member.lease, member.timing
    for pod in member.pods:
        claims = pod.claims
        entry = own_entry(member, pod)
        before = lease.entry(claims.uid) if lease else None
        changes = pod.live and entry != before and (before or (entry and entry.fit))
        if changes and not _known(member, pod):
            yield ReadPod(claims.pod, claims.uid)
    if not member.active or lease is None:
        return
    for entry in lease.members:
        if member.pod(entry.uid):
            continue
        peer = member.peer(entry.uid)
        since = peer.read_began if peer else member.learned_at
        if not (peer and peer.gone) and clock.past(since + timing.entry_check):
            yield ReadPod(entry.pod, entry.uid)


def settle(member: Member, clock: Clock) -> Member:
    """Return the member with the fitness of its pods as the register is to have it."""
    pods = tuple(_settle_pod(member, pod, clock) for pod in member.pods)
    if pods == member.pods:
        return _settle_peers(member, clock)
    after = replace(member, pods=pods)
    holder = member.lease.holder if member.lease else None
    for before, pod in zip(member.pods, pods, strict=True):
        if holder and holder.uid != pod.claims.uid and pod.fit_since and not before.last_fit:
            text = f"standby: {holder.pod} on {holder.node} is active"
            after = notice(after, NoticeKind.STANDBY, pod.claims.uid, text)
    return _settle_peers(after, clock)


def _settle_pod(member: Member, pod: LocalPod, clock: Clock) -> LocalPod:
    """Return a pod with its level and ``fit_since``, which starts anew when it stands better than before."""
    holds = member.holding is not None and member.holding.uid == pod.claims.uid
    ec2 = not member.ec2.lost(clock, member.timing) if holds else member.ec2.answered
    fit = pod.fit and ec2 and member.rival is None
    level = int(member.level)
    entry = member.lease.entry(pod.claims.uid) if member.lease else None
    if not fit:
        since = 0
    elif holds and not pod.last_fit and entry and entry.fit and entry.level <= level:
        since = entry.fit_since  # the agent of an active was restarted
    elif not pod.fit_since or level < pod.level:
        since = member.surroundings.epoch + int(clock.now)
        since = since + 1 if since <= pod.last_fit else since
    else:
        since = pod.fit_since
    if (since, level) == (pod.fit_since, pod.level):
        return pod
    return replace(pod, fit_since=since, last_fit=since or pod.last_fit, level=level, entry_at=clock.now)


def _settle_peers(member: Member, clock: Clock) -> Member:
    """Return the member with what an active counts of other members: fit in the best zone, and unequal."""
    lease, held = member.lease, member.holding
    if held is None or lease is None:
        return member if member.unequal_since is None else replace(member, unequal_since=None)
    known = dict(held.better)
    better = tuple(
        (entry.standing, known.get(entry.standing, clock.now))
        for entry in lease.members
        if member.rules.failback and entry.fit and zone_index(entry.zone, member.rules.zones) == 0
    )
    if better != held.better:
        member = member.hold(better=better)
    unequal = [entry.pod for entry in lease.members if entry.destinations != lease.destinations]
    if not unequal:
        return member if member.unequal_since is None else replace(member, unequal_since=None)
    if member.unequal_since is None:
        return replace(member, unequal_since=clock.now)
    if not clock.past(member.unequal_since + member.timing.unequal):
        return member
    text = f"{', '.join(unequal)} of the same group claim other destinations: another workload?"
    return notice(replace(member, unequal_since=clock.now), NoticeKind.UNEQUAL, held.uid, text)
