"""Makes agents equal that will always behave alike: what is long ago, or is decided, is not told apart.

Without this each moment that a member remembers multiplies the states by the length of the horizon. What
matters is read off the rules: an instant is compared with now after a duration (then it is kept no older than
that), or with another instant (then the order is kept). ``test_canonical`` walks both forms side by side, and
every step of theirs must be the same.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import Any

from cni_floatip.election.fitness import LocalPod
from cni_floatip.election.holding import Holding, PeerPod
from cni_floatip.election.member import Member
from cni_floatip.election.node import Renewal, Surroundings
from cni_floatip.election.routes import Ec2View
from cni_floatip.election.timing import PAST, Bucket, Timing
from cni_floatip.election.verdict import ApiAnswers, FollowedNode
from tests.election.explore.setting import HORIZON, LONG
from tests.election.explore.values import NOW

FLOOR = NOW - HORIZON
"""Long ago. ``PAST`` is never."""


def _kept(instant: float, seconds: float) -> float:
    """Return an instant no older than ``seconds``; one that never was stays so."""
    return instant if instant == PAST else max(instant, NOW - seconds)


def _long_ago(instant: float) -> float:
    """Return an instant that is compared with nothing any more."""
    return instant if instant == PAST else FLOOR


def _changed(value: Any, **changes: Any) -> Any:
    same = all(getattr(value, name) == new for name, new in changes.items())
    return value if same else replace(value, **changes)


Learned = tuple[tuple[str, float], ...]
"""For each member that follows a node: which one, and when it learnt of its holding."""


def surroundings(value: Surroundings, learned: Learned) -> Surroundings:
    """Return what members share. Of the moments at which a silence may begin only the latest counts."""
    answers = _answers(value, learned)
    followed = tuple(_followed(node, answers, value.timing, learned) for node in value.followed)
    return _changed(value, answers=answers, followed=followed)  # type: ignore[no-any-return]


def _answers(around: Surroundings, learned: Learned) -> ApiAnswers:
    """Return how the API answers. Where every clock began later, nobody asks for ``since``."""
    value, timing = around.answers, around.timing
    waits = value.long_gap and value.since + timing.long_gap_wait > NOW
    changes = {node.node: node.changed_at for node in around.followed}
    later = all(max(moment, changes.get(name, PAST)) >= value.since for name, moment in learned)
    since = _kept(value.since, max(timing.veto, timing.long_gap_wait) + 1)
    if not waits and value.since < NOW and later:
        since = FLOOR
    return _changed(  # type: ignore[no-any-return]
        value,
        last=_kept(value.last, max(timing.long_gap, timing.api_gap * timing.renew) + 1),
        since=since,
        long_gap=waits,
        failed_at=value.failed_at if value.failed_at == NOW else _long_ago(value.failed_at),
    )


def _followed(node: FollowedNode, answers: ApiAnswers, timing: Timing, learned: Learned) -> FollowedNode:
    """Return a followed node. Probes before the second half of the wait tell whether it ever answered."""
    begins = [answers.since if answers.since <= NOW else PAST]
    begins.append(min((moment for name, moment in learned if name == node.node), default=PAST))
    changed = _kept(node.changed_at, timing.veto + 1)
    if node.changed_at < max(begins):
        changed = _long_ago(changed)
    half = max(node.changed_at, *begins) + timing.lease / 2

    def probe(instant: float) -> float:
        return _kept(instant, 2.0) if instant >= half else _long_ago(instant)

    return _changed(  # type: ignore[no-any-return]
        node,
        changed_at=changed,
        read_began=node.read_began if node.read_began == NOW else _long_ago(node.read_began),
        read_at=node.read_at if node.read_at == NOW else _long_ago(node.read_at),
        answered_at=probe(node.answered_at),
        probed_at=probe(node.probed_at),
        silent=tuple(_kept(began, 2.0) for began in node.silent if began >= half),
    )


def renewal(value: Renewal) -> Renewal:
    """Return the renewal of a node's Lease: due is due."""
    due = PAST if value.due <= NOW or not value.holds else value.due
    return _changed(value, due=due)  # type: ignore[no-any-return]


def member(value: Member, around: Surroundings) -> Member:
    """Return a member, with surroundings that are canonical already."""
    timing, since = around.timing, around.answers.since
    offered = bool(value.lease and value.lease.offer)
    poll = timing.poll if timing.poll < LONG else None
    read = (
        _kept(value.read_began, poll or 2.0)
        if poll or value.turn is not None
        else _long_ago(value.read_began)
    )
    longest = max(timing.soft_offer, timing.release_grace, timing.lease) + 4 * timing.rank_delay + 1
    return _changed(  # type: ignore[no-any-return]
        value,
        surroundings=around,
        pods=tuple(_pod(pod, value, since) for pod in value.pods),
        viewed_at=PAST if timing.empty_lease >= LONG else value.viewed_at,
        read_began=read,
        learned_at=_learned(value, around),
        offer_at=_kept(value.offer_at, longest) if offered else PAST,
        writing_at=value.writing_at if value.writing else PAST,
        wrote_at=PAST,
        entry_written=_kept(value.entry_written, timing.entry_gap) if timing.entry_gap else PAST,
        unequal_since=None if value.unequal_since is None else FLOOR,
        tried_at=_long_ago(value.tried_at) if timing.dry_run >= LONG else value.tried_at,
        holding=value.holding and _holding(value.holding, value.ec2, timing),
        leftover=value.leftover
        and _changed(value.leftover, since=_kept(value.leftover.since, timing.release_grace)),
        peers=tuple(_peer(peer, value, around) for peer in value.peers),
        ec2=_ec2(value.ec2, timing, holds=value.holding is not None),
    )


def _learned(value: Member, around: Surroundings) -> float:
    """Return when the holding was learnt, as far as the silence of the holder may begin there."""
    timing = around.timing
    if value.follows is None:
        holder = value.lease.holder if value.lease else None
        wait = timing.lease + 4 * timing.rank_delay + 1
        return _long_ago(value.learned_at) if holder and value.pods else _kept(value.learned_at, wait)
    node = around.node_of(value.follows)
    later = max(node.changed_at if node else PAST, around.answers.since)
    if value.learned_at <= later <= NOW and not timing.entry_check < LONG:
        return _long_ago(value.learned_at)
    return _kept(value.learned_at, timing.veto + 1)


def _pod(pod: LocalPod, of: Member, since: float) -> LocalPod:
    """Return a pod. Its last GET is either pending, or good since the entry changed and the API answers."""
    pending = pod.read_began < max(pod.entry_at, since if since <= NOW else PAST)
    poll = of.timing.poll
    began = _long_ago(pod.read_began) if pending else _kept(pod.read_began, poll if poll < LONG else 1.0)
    entry = NOW - 1 if pending and pod.entry_at > pod.read_began else PAST
    unready = pod.unready_since
    ended = pod.claims.ended_at
    claims = pod.claims
    if ended is not None:
        claims = _changed(claims, ended_at=_kept(ended, of.timing.release_grace))
    return _changed(  # type: ignore[no-any-return]
        pod,
        claims=claims,
        added_at=FLOOR,
        read_began=began,
        entry_at=entry,
        unready_since=None if unready is None else _kept(unready, of.rules.unready),
    )


def _holding(held: Holding, ec2: Ec2View, timing: Timing) -> Holding:
    last = max(timing.looks, default=0.0)
    since = held.since
    if ec2.looked >= since + last and timing.late_writes >= LONG:
        since = FLOOR
    memory = timing.soft_memory
    return _changed(  # type: ignore[no-any-return]
        held,
        since=_kept(since, last + 1) if since != FLOOR else FLOOR,
        swapped=held.swapped if held.swapped + timing.proof > NOW else _long_ago(held.swapped),
        proved=held.proved if held.proved + timing.proof > NOW else _long_ago(held.proved),
        writer=_bucket(held.writer, timing.contested_refill),
        untaken=tuple((whom, FLOOR if memory >= LONG else at) for whom, at in held.untaken),
    )


def _bucket(bucket: Bucket, refill: float) -> Bucket:
    """Return a bucket that is never refilled, as if it had been emptied now."""
    if refill < LONG or bucket.full_at <= NOW:
        return bucket
    return Bucket(NOW + refill * ceil((bucket.full_at - NOW) / refill))


def _peer(peer: PeerPod, of: Member, around: Surroundings) -> PeerPod:
    node = around.node_of(of.follows) if of.follows else None
    since = max(of.learned_at, node.changed_at if node else PAST, around.answers.since)
    began = peer.read_began
    began = _kept(began, of.timing.suspected_pod) if since <= began else _long_ago(began)
    unready = peer.unready_since
    if unready is not None:
        unready = _kept(unready, of.rules.unready + 1) if unready > since else FLOOR
    return _changed(peer, read_began=began, unready_since=unready)  # type: ignore[no-any-return]


def _ec2(view: Ec2View, timing: Timing, *, holds: bool) -> Ec2View:
    fails = view.writes_fail
    looked = _kept(view.looked, max(2.0, timing.late_look, timing.failed_look))
    if (fails is not None and view.looked < fails) or (
        not holds
        and view.answered
        and view.look_answered
        and min(timing.reconcile, timing.standby_look) >= LONG
    ):
        looked = _long_ago(view.looked)
    return _changed(  # type: ignore[no-any-return]
        view,
        called=PAST,
        looked=looked,
        looks_fail=None if view.looks_fail is None else _kept(view.looks_fail, timing.look_patience),
        writes_fail=None if fails is None else _kept(fails, max(2.0, timing.write_patience)),
    )
