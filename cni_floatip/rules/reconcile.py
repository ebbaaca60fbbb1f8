"""What the keeper does about a route, given what was seen of it. Pure: no I/O, and time is an argument.

Theory of operation
-------------------

Every node keeps its own claims and knows nothing of the others'. What they share is EC2, which has exactly
one operation that two nodes cannot both win: CreateRoute on a destination that has no route. So the keeper
gains a route by Create and by nothing else, and the whole protocol follows from that:

* A route that works and leads elsewhere is somebody's. Whoever wrote it last is right ("last ADD wins"), and
  only an ADD may say otherwise. The claim is ``superseded``: last in line, never in the way.
* A route that does not work (absent, or a blackhole that leads to a network interface which is gone) is
  mended by the claims that wanted it, in order of age: the one whose ADD is seconds old at once, an older
  one that held it after half a minute, a superseded one after two looks' time. That order is the only thing
  that lets the newest owner win where several live pods want one address by mistake, and it needs no
  clock that two nodes agree on, only that reads are not older than 15 seconds.
* A blackhole is deleted, never replaced: between our look and our write its successor may have written, and
  a Replace would take a working route. After a Delete that hit one by bad luck, its owner finds the
  destination absent, is the newest, and creates it within seconds.
* A claim that has ended deletes the route only if it was seen to be its own, and then stays on disk as
  ``gone``: a request that timed out may be applied minutes later, and somebody must know whose that is.
  While another claim of the same ENI has its grace, the route stays for all of them.
* A claim whose ENI is not on this node any more is cut off: it writes nothing, because a route that it
  created would be a blackhole, and one that leads to that ENI and works is another node's. Neither does a
  claim to which policy does not give the destination or the table any more.

One look reads all route tables of a VPC in one call, and judges every claim by that. Before a write the same
judgement is made again, with the place locked, the claims as they are then, and a fresh read of its table.

docs/protocol.md holds the table, and what goes wrong without each rule. Keep when tuning: the largest gap of
``LOOKS_AFTER_ADD`` (15 s) + the staleness of a read (15 s) <= ``HELD_PATIENCE``; the longest gap between the
looks of a node that holds a route + ``HELD_PATIENCE`` + staleness <= the patience of a superseded claim.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum

from ..model.claim import Claim
from ..model.claim_state import ClaimedRoute, Event, State
from ..model.values import Attachment, Place, Target

LOOKS_AFTER_ADD = (1.0, 3.0, 7.0, 15.0, 30.0, 45.0)
"""When the keeper looks after an ADD, in seconds: the time in which another node's late delete may hit it."""
FRESH_SECONDS = 60.0
"""How long after its own ADD a claim mends at once."""
HELD_PATIENCE = 30.0
"""How long an older claim that holds its route sees it broken before it mends."""
STALE_SECONDS = 15.0
"""How old the answers of EC2 may be."""
LONGEST_GAP = 1.1
"""How many times ``reconcileSeconds`` may lie between two ordinary looks."""
CUT_OFF = "cut off: the ENI is not attached to this node: delete the pod, or attach it again"


class Sight(Enum):
    """What a route looks like to one claim of this node."""

    ABSENT = "there is no route"
    OURS = "our ENI, active"
    OURS_BLACKHOLE = "our present ENI, blackhole"
    DEAD = "another ENI, blackhole"
    OTHER = "another ENI, active"
    NOT_ENI = "not an ENI"
    CUT_OFF = "absent or another ENI's blackhole, our ENI not on this node"
    FORMER = "our ENI, blackhole, not on this node"
    TAKEN = "an ENI, active, ours not on this node"
    NOT_GIVEN = "absent or a blackhole, and policy does not give it any more"


class Outage(StrEnum):
    """Why a live claim's route does not serve it: what status, log and metrics say, in one word."""

    ABSENT = "absent"
    BLACKHOLE = "blackhole"
    SUPERSEDED = "superseded"
    NOT_ENI = "not an ENI"
    CUT_OFF = "cut off"
    CHECKED = "source/dest check"


class Act(Enum):
    """What is to be done about one place."""

    NOTHING = "nothing"
    CREATE = "create the route"
    DELETE = "delete what leads nowhere"
    MOVE = "delete what leads to our other ENI and create the route"
    RELEASE = "delete what is ours and wanted by nobody"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the keeper's table (docs/protocol.md): what to do for a live claim, and without one.

    ``event``: what such a look is to the live claim. ``outage``: what its address suffers meanwhile.
    """

    live: Act
    event: Event | None
    ended: Act
    outage: Outage | None = None
    report: str = ""


TABLE: Mapping[Sight, Row] = {
    Sight.ABSENT: Row(Act.CREATE, None, Act.NOTHING, Outage.ABSENT),
    Sight.OURS: Row(Act.NOTHING, Event.SEEN_OURS, Act.RELEASE),
    Sight.OURS_BLACKHOLE: Row(
        Act.NOTHING, None, Act.RELEASE, Outage.BLACKHOLE, "leads to our ENI and is a blackhole"
    ),
    Sight.DEAD: Row(Act.DELETE, None, Act.NOTHING, Outage.BLACKHOLE),
    Sight.OTHER: Row(Act.NOTHING, Event.SEEN_ELSEWHERE, Act.NOTHING, Outage.SUPERSEDED),
    Sight.NOT_ENI: Row(
        Act.NOTHING, None, Act.NOTHING, Outage.NOT_ENI, "a route that is not ours to replace is in its place"
    ),
    Sight.CUT_OFF: Row(Act.NOTHING, None, Act.NOTHING, Outage.CUT_OFF, CUT_OFF),
    Sight.FORMER: Row(Act.NOTHING, None, Act.RELEASE, Outage.CUT_OFF, CUT_OFF),
    Sight.TAKEN: Row(Act.NOTHING, Event.SEEN_ELSEWHERE, Act.NOTHING, Outage.CUT_OFF, CUT_OFF),
    Sight.NOT_GIVEN: Row(
        Act.NOTHING, None, Act.NOTHING, None, "policy does not give it any more: not mended"
    ),
}
"""What ``ended`` has no act for is released. What policy gives no more suffers what is to be seen."""


def sight(target: Target | None, eni: str, present: Collection[str]) -> Sight:
    """Return what ``target`` is to a claim through ``eni``. ``present``: the ENIs that this node has now."""
    if target is not None and (not target.is_eni or target.propagated):
        return Sight.NOT_ENI
    if eni not in present:
        if target is None:
            return Sight.CUT_OFF
        if target.active:  # where it leads to ``eni``, another node has that now
            return Sight.TAKEN
        return Sight.FORMER if target.id == eni else Sight.CUT_OFF
    if target is None:
        return Sight.ABSENT
    if target.id == eni:
        return Sight.OURS if target.active else Sight.OURS_BLACKHOLE
    return Sight.OTHER if target.active else Sight.DEAD


@dataclass(frozen=True, slots=True)
class Sighting:
    """What is known of a place. ``broken``: since when it was seen broken, with no contrary look between.

    Times are those of the clock that ages decisions, in seconds.
    """

    target: Target | None
    at: float
    since: float
    broken: float | None = None

    @classmethod
    def next(cls, before: Sighting | None, target: Target | None, at: float, gap: float) -> Sighting:
        """Return what is known after a look at ``at`` that showed ``target``.

        When nobody has looked for more than ``gap`` seconds, patience begins anew: a newer owner may have
        had the route meanwhile.
        """
        since = before.since if before and before.target == target else at
        if target is not None and target.active:
            return cls(target, at, since)
        unbroken = before is not None and before.broken is not None
        # A blackhole of another interface: somebody claimed it in between, and worked for a while.
        same = before is not None and (target is None or target == before.target)
        same = same and before is not None and at - before.at <= gap
        return cls(target, at, since, before.broken if before and unbroken and same else at)


@dataclass(frozen=True, slots=True)
class Stake:
    """What one claim of this node has in a place."""

    claim: Claim
    route: ClaimedRoute

    @property
    def live(self) -> bool:
        return self.route.state.live


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done about a place, by whom, and what happened to the claims.

    ``outages``: whom the place as it is does not serve, and why; None where nothing is judged.
    ``due``: when there will be something to do if the place stays as it is (on the clock of sightings).
    """

    act: Act = Act.NOTHING
    by: Stake | None = None
    events: Mapping[Attachment, Event] = field(default_factory=dict)
    reports: Mapping[Attachment, str] = field(default_factory=dict)
    outages: Mapping[Attachment, Outage] | None = None
    due: float | None = None


def judge(
    stakes: Sequence[Stake],
    seen: Sighting,
    present: Collection[str],
    now: float,
    reconcile: float,
    given: Callable[[Claim], bool],
) -> Verdict:
    """Return what the keeper's table (docs/protocol.md) says about one place.

    ``now`` is since the epoch. ``reconcile`` is the gap between two looks in seconds. ``given`` says whether
    policy still gives a claim this destination in this table. An ADD that is under way decides for itself,
    so nothing is done beside it.
    """
    if any(stake.route.state is State.CLAIMING for stake in stakes):
        return Verdict()
    live = [stake for stake in stakes if stake.live]
    ended = [stake for stake in stakes if not stake.live]
    if not live:
        return _for_ended(ended, seen, present, now)
    able = [stake for stake in live if stake.claim.eni in present and given(stake.claim)]
    events: dict[Attachment, Event] = {}
    reports: dict[Attachment, str] = {}
    outages: dict[Attachment, Outage] = {}
    elsewhere = _our_other_eni(live, seen.target, present)
    for stake in live:
        what = sight(seen.target, stake.claim.eni, present)
        if outage := TABLE[what].outage:
            outages[stake.claim.attachment] = outage
        if TABLE[what].live is not Act.NOTHING and stake not in able:
            what = Sight.NOT_GIVEN
        row = TABLE[what]
        if row.event and not elsewhere:
            events[stake.claim.attachment] = row.event
        if row.report:
            reports[stake.claim.attachment] = row.report
    act, by, due = Act.NOTHING, None, None
    if elsewhere:
        act, by = _take_over(able, ended, elsewhere, now, reconcile)
    elif able:
        by = _first(able, now, reconcile)
        act = TABLE[sight(seen.target, by.claim.eni, present)].live
        if act is not Act.NOTHING and seen.broken is not None:
            due = seen.broken + patience(by.route, now, reconcile)
            act, due = (act, None) if seen.at >= due else (Act.NOTHING, due)
    elif not any(seen.target and stake.claim.eni == seen.target.id for stake in live):
        past = _for_ended(ended, seen, present, now)  # nobody who could mend it wants what is there
        return replace(past, events={**events, **past.events}, reports=reports, outages=outages)
    events |= {
        stake.claim.attachment: Event.RELEASED
        for stake in ended
        if stake.route.after <= now and stake.claim.eni != elsewhere
    }
    return Verdict(act, None if act is Act.NOTHING else by, events, reports, outages, due)


def _our_other_eni(live: Sequence[Stake], target: Target | None, present: Collection[str]) -> str:
    """Return the ENI of this node that ``target`` leads to while no live claim wants that, or ""."""
    if target is None or not target.is_eni or target.propagated or target.id not in present:
        return ""
    return "" if any(stake.claim.eni == target.id for stake in live) else target.id


def _take_over(
    able: Sequence[Stake], ended: Sequence[Stake], eni: str, now: float, reconcile: float
) -> tuple[Act, Stake | None]:
    """Inside one node: who releases through ``eni`` hands over; what nobody claimed there is moved."""
    past = [stake for stake in ended if stake.claim.eni == eni]
    if any(stake.route.after > now for stake in past):
        return Act.NOTHING, None
    if past:
        return Act.RELEASE, past[0]
    return (Act.MOVE, _first(able, now, reconcile)) if able else (Act.NOTHING, None)


def _first(live: Sequence[Stake], now: float, reconcile: float) -> Stake:
    """Return who mends: the one that waits least, of several the newest."""
    return min(live, key=lambda stake: (patience(stake.route, now, reconcile), -stake.route.since))


def _for_ended(ended: Sequence[Stake], seen: Sighting, present: Collection[str], now: float) -> Verdict:
    events: dict[Attachment, Event] = {}
    waiting = {stake.claim.eni for stake in ended if stake.route.after > now}
    for stake in ended:
        if stake.route.after > now:
            continue
        if TABLE[sight(seen.target, stake.claim.eni, present)].ended is not Act.RELEASE:
            events[stake.claim.attachment] = Event.RELEASED
        elif stake.claim.eni not in waiting:
            return Verdict(Act.RELEASE, stake, events)
    return Verdict(events=events)


def patience(route: ClaimedRoute, now: float, reconcile: float) -> float:
    """Return for how many seconds a place must have been seen broken before ``route`` is mended.

    A superseded claim waits until one that holds the route must have seen it broken and mended it.
    """
    if 0 <= now - route.since < FRESH_SECONDS:
        return 0.0
    if route.state is not State.SUPERSEDED:
        return HELD_PATIENCE
    return max(2 * reconcile, HELD_PATIENCE + LONGEST_GAP * reconcile + STALE_SECONDS)


def stakes_of(claims: Iterable[Claim]) -> dict[Place, list[Stake]]:
    """Return what ``claims`` have in each place, oldest claim first."""
    found: dict[Place, list[Stake]] = {}
    for claim in claims:
        for route in claim.routes:
            found.setdefault(route.place, []).append(Stake(claim, route))
    return found
