"""What a member learns from EC2: looks, writes and their refusals, and the marks that follow."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from ..model.route_write import WriteOutcome
from ..model.values import RouteKey, RouteTarget
from .events import (
    Ec2Called,
    NoticeKind,
    RoutesReleased,
    RoutesSeen,
    RoutesWritten,
    WritesTried,
)
from .fitness import LocalPod
from .holding import Holding
from .keeping import errand, serving, subject
from .learn import notice
from .routes import ALLOWED, DENIALS, Mark, RouteWork, is_foreign, is_ours, is_replaceable, marked
from .timing import NEVER, PAST, Clock, Instant

if TYPE_CHECKING:
    from .member import Member

SAID = {
    WriteOutcome.NOT_ENI: "a route that is not a network interface's is in its place",
    WriteOutcome.FULL: "the route table is full",
    WriteOutcome.DENIED: "EC2 denies the write",
    WriteOutcome.POLICY: "the node's policy does not give it",
}
"""Refusals of which a pod's Event tells."""


def answered(
    member: Member, event: RoutesWritten | RoutesSeen | WritesTried | RoutesReleased | Ec2Called
) -> Member:
    """Return the member after an answer of EC2, or after none."""
    match event:
        case RoutesSeen():
            return _seen(member, event)
        case RoutesWritten():
            return _written(member, event)
        case WritesTried():
            return _tried(member, event)
        case RoutesReleased():
            after = replace(member, writing=None)
            if not event.done:
                return after
            return after.hold(released=True) if after.holding else replace(after, leftover=None)
        case Ec2Called():
            return replace(member, ec2=member.ec2.call(event.began, answered=event.answered))
        case _:
            assert_never(event)


def granted(member: Member) -> Member:
    """Return the member after credentials or policy changed: what was denied is tried anew."""
    denials = [item.name for item in DENIALS]
    marks = tuple(mark for mark in member.marks if mark.cause not in denials)
    after = replace(member, marks=marks)
    if member.holding is None:
        return after
    routes = tuple(
        replace(work, due=PAST, tries=0) if work.refusal in DENIALS else work
        for work in member.holding.routes
    )
    return after.hold(routes=routes)


def settle(member: Member, clock: Clock) -> Member:
    """Return the member with what follows from its state by itself."""
    after = _mark_unanswered(member, clock)
    tables = {key.table for pod in after.pods for key in pod.claims.keys}
    marks = tuple(mark for mark in after.marks if mark.table in tables)
    if marks != after.marks:
        after = replace(after, marks=marks)
    held = after.holding
    if held:
        settled = held.settle(clock, after.timing)
        if settled.mending and not after.writing and not (serving(after) and settled.due(clock)):
            settled = replace(settled, mending=False)
        if settled is not held:
            after = replace(after, holding=settled)
    damping = after.damping.settle(clock.now)
    if damping != after.damping:
        after = replace(after, damping=damping)
    if after.leftover and after.pod(after.leftover.uid) is None:
        after = replace(after, leftover=None)
    after = _tell_rival(after)
    if after.turn is not None and errand(after, clock) is None:
        after = replace(after, turn=None)
    return after


def _tell_rival(member: Member) -> Member:
    """Return the member with an Event when an older group comes to claim a destination of a pod here."""
    rival, pod = member.rival, subject(member)
    if rival == member.contested_by:
        return member
    member = replace(member, contested_by=rival)
    if rival is None or pod is None:
        return member
    text = f"the older group {rival} has a destination of this one: nothing is written"
    return notice(member, NoticeKind.CONTESTED_GROUP, pod.claims.uid, text)


def _mark_unanswered(member: Member, clock: Clock) -> Member:
    """Return the member with marks on the tables whose writes are not answered while looks are."""
    held = member.holding
    if held is None or not member.ec2.only_reads(clock, member.timing):
        return member
    cause = WriteOutcome.UNANSWERED
    silent = {Mark(work.key.table, cause.name) for work in held.routes if work.refusal is cause}
    return _mark(member, silent, clock.now)


def _mark(member: Member, marks: set[Mark], now: Instant) -> Member:
    """Return the member with more marks: one for a table, the first."""
    new = {mark for mark in marks if not marked(member.marks, mark.table)}
    if not new:
        return member
    tried_at = member.tried_at if member.marks else now
    return replace(member, marks=tuple(sorted({*member.marks, *new})), tried_at=tried_at)


def _unmark(member: Member, outcomes: tuple[tuple[RouteKey, WriteOutcome], ...]) -> Member:
    """Return the member without marks on tables whose writes were answered and not denied."""
    denied = {key.table for key, outcome in outcomes if outcome not in ALLOWED}
    allowed = {key.table for key, outcome in outcomes if outcome in ALLOWED} - denied
    return replace(member, marks=tuple(mark for mark in member.marks if mark.table not in allowed))


def _tried(member: Member, event: WritesTried) -> Member:
    ec2 = member.ec2
    if any(outcome in (*ALLOWED, WriteOutcome.DENIED) for _, outcome in event.outcomes):
        ec2 = ec2.call(event.began, answered=True)
    return _unmark(replace(member, ec2=ec2, tried_at=event.at), event.outcomes)


def _written(member: Member, event: RoutesWritten) -> Member:
    """Return the member after its writes."""
    ec2 = member.ec2.write(event.began, (outcome for _, outcome in event.outcomes))
    after = replace(member, ec2=ec2, writing=None, wrote_at=event.at)
    after = _unmark(after, event.outcomes)
    denied = {Mark(key.table, outcome.name) for key, outcome in event.outcomes if outcome in DENIALS}
    after = _mark(after, denied, event.at)
    held = member.holding
    if held is None:
        return after
    clock, timing = Clock(event.at), member.timing
    patient = ec2.only_reads(clock, timing) or ec2.lost(clock, timing)
    after = after.hold(mending=False, restores=False)
    written = held.written(event.outcomes, event.at, timing, patient=patient)
    after = after.hold(routes=written.routes)
    return _tell(after, held, event)


def _tell(member: Member, before: Holding, event: RoutesWritten) -> Member:
    """Return the member with Events for what its writes mended, and for new refusals."""
    refusals = {work.key: work.refusal for work in before.routes}
    for key, outcome in event.outcomes:
        if outcome in SAID and refusals.get(key) is not outcome:
            member = notice(member, NoticeKind.REFUSED, before.uid, f"cannot write {key}: {SAID[outcome]}")
    restored = [str(key) for key, outcome in event.outcomes if outcome is WriteOutcome.WRITTEN]
    if before.restores and restored:
        text = f"the route was not this node's, and is again: {', '.join(restored)}"
        member = notice(member, NoticeKind.RESTORED, before.uid, text)
    return member


def _seen(member: Member, event: RoutesSeen) -> Member:
    """Return the member after a look."""
    if event.throttled:
        return replace(member, ec2=replace(member.ec2, looked=event.began))
    ec2 = member.ec2.look(event.began, answered=event.routes is not None)
    after, pod = replace(member, ec2=ec2), subject(member)
    if event.routes is None or pod is None:
        return after
    seen_now = {key: target for key, target in event.routes if pod.claims.eni(key)}
    claims = replace(pod.claims, keys=tuple(sorted(seen_now)))
    pods = tuple(replace(item, claims=claims) if item is pod else item for item in member.pods)
    after = replace(after, pods=pods)
    held = member.holding
    if held is None or held.uid != claims.uid or member.writing or event.began < member.wrote_at:
        return after  # a look begun before the own write ended shows what was there before it
    return _judge(after, pod, held.with_keys(claims.keys, PAST), seen_now, event.at)


def _judge(
    member: Member,
    pod: LocalPod,
    held: Holding,
    routes: dict[RouteKey, RouteTarget | None],
    now: Instant,
) -> Member:
    """Return the member with the writes that a look makes due: whatever is not ours becomes ours.

    Against another writer only as often as the bucket allows. That a look shows ours refills nothing, or two
    writers would fight for ever.
    """
    timing, own = member.timing, pod.claims
    enis = (*member.enis, *own.enis)
    fresh = {work.key for work in held.routes if work.due == NEVER}
    foreign = {key for key in fresh if not is_ours(own, key, routes[key]) and is_foreign(routes[key], enis)}
    free = held.writer.free_at(timing.contested, timing.contested_refill) <= now
    if foreign and free:
        held = replace(held, writer=held.writer.spend(now, timing.contested_refill))
    works = []
    for work in held.routes:
        target = routes[work.key]
        if is_ours(own, work.key, target):
            works.append(work if marked(member.marks, work.key.table) else work.rest())
        elif not is_replaceable(target):
            works.append(RouteWork(work.key, refusal=WriteOutcome.NOT_ENI))
        elif work.key in fresh and (free or work.key not in foreign):
            works.append(RouteWork(work.key, PAST))
        else:
            works.append(work)
    restores = held.restores or any(work.due == PAST and work.key in fresh for work in works)
    contested = held.contested or (bool(foreign) and not free)
    after = replace(
        member, holding=replace(held, routes=tuple(works), restores=restores, contested=contested)
    )
    if contested and not held.contested:
        text = f"another writer keeps its own route: {', '.join(str(key) for key in sorted(foreign))}"
        after = notice(after, NoticeKind.CONTESTED_WRITER, held.uid, text)
    return after
