"""Decides what the keeper does about a route, from observations. Pure: no I/O, and time is an argument.

Theory of operation
-------------------

Every node keeps its own claims and knows nothing of the others'. What they share is EC2, which has exactly
one operation that two nodes cannot both win: CreateRoute on a destination that has no route. So the keeper
gains a route by Create and by nothing else, and the whole protocol follows from that:

* A route that works and leads elsewhere is somebody's. The last writer is right ("last ADD wins"), and only
  an ADD may replace its route. The claim is ``superseded``: last in line, never in the way.
* A route that does not work (absent, or a blackhole that leads to a network interface which is gone) is
  mended by the claims that wanted it, in order of age: the one whose ADD is seconds old at once, an older
  one that held it after half a minute, a superseded one after two looks' time. That order is the only thing
  that lets the newest owner win where several live pods want one address by mistake, and it needs no
  clock that two nodes agree on, only that reads are not older than 15 seconds.
* A blackhole is deleted, never replaced: between our look and our write its successor may have written, and
  a Replace would take a working route. After a Delete that hit one by bad luck, its owner finds the
  destination absent, is the newest, and creates it within seconds.
* A claim that has ended deletes the route only if it was seen to be its own, and then stays on disk as
  ``gone``, because a request that timed out may be applied minutes later and its owner must be on record.
  While another claim of the same ENI has its grace, the route stays for all of them.
* An elected claim (``activate: ready``) is the election's business. The agents agree through Kubernetes which
  pod has its routes, and have them written and released under proofs (``operations.take``). The keeper shows
  the election what it sees, keeps the list of tables, and writes nothing for such a claim; nor does it let a
  plain claim of this node write where an elected pod has the route.
* A claim whose ENI is not on this node any more is cut off: it writes nothing, because a route that it
  created would be a blackhole, and a working route to that ENI is another node's. A claim whose destination
  or table policy no longer allows writes nothing either.

One look reads all route tables of a VPC in one call, and decides for every claim. Before a write the keeper
decides again, with the route key locked, the claims as they are then, and a fresh read of the table.

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
from ..model.values import Attachment, RouteKey, RouteTarget

LOOKS_AFTER_ADD = (1.0, 3.0, 7.0, 15.0, 30.0, 45.0)
"""When the keeper looks after an ADD, in seconds, while another node's late delete may hit its routes."""
FRESH_SECONDS = 60.0
"""How long after its own ADD a claim repairs at once."""
HELD_PATIENCE = 30.0
"""How long an older claim that holds its route sees it broken before it repairs it."""
STALE_SECONDS = 15.0
"""How old the answers of EC2 may be."""
LONGEST_GAP = 1.1
"""How many times ``reconcileSeconds`` may lie between two ordinary looks."""
CUT_OFF = "cut off: the ENI is not attached to this node: delete the pod, or attach it again"


class RouteState(Enum):
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
    """Why a live claim's route does not serve its address, in one word for status, log and metrics."""

    ABSENT = "absent"
    BLACKHOLE = "blackhole"
    SUPERSEDED = "superseded"
    NOT_ENI = "not an ENI"
    CUT_OFF = "cut off"
    CHECKED = "source/dest check"


class Action(Enum):
    """What the keeper does to one route."""

    NOTHING = "nothing"
    CREATE = "create the route"
    DELETE = "delete what leads nowhere"
    MOVE = "delete what leads to our other ENI and create the route"
    RELEASE = "delete what is ours and wanted by nobody"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the keeper's table (docs/protocol.md): what to do for a live claim, and without one.

    ``event``: what this route state means to the live claim. ``outage``: what its address suffers meanwhile.
    """

    live: Action
    event: Event | None
    ended: Action
    outage: Outage | None = None
    report: str = ""


TABLE: Mapping[RouteState, Row] = {
    RouteState.ABSENT: Row(Action.CREATE, None, Action.NOTHING, Outage.ABSENT),
    RouteState.OURS: Row(Action.NOTHING, Event.SEEN_OURS, Action.RELEASE),
    RouteState.OURS_BLACKHOLE: Row(
        Action.NOTHING, None, Action.RELEASE, Outage.BLACKHOLE, "leads to our ENI and is a blackhole"
    ),
    RouteState.DEAD: Row(Action.DELETE, None, Action.NOTHING, Outage.BLACKHOLE),
    RouteState.OTHER: Row(Action.NOTHING, Event.SEEN_ELSEWHERE, Action.NOTHING, Outage.SUPERSEDED),
    RouteState.NOT_ENI: Row(
        Action.NOTHING,
        None,
        Action.NOTHING,
        Outage.NOT_ENI,
        "a route that is not ours to replace is in its place",
    ),
    RouteState.CUT_OFF: Row(Action.NOTHING, None, Action.NOTHING, Outage.CUT_OFF, CUT_OFF),
    RouteState.FORMER: Row(Action.NOTHING, None, Action.RELEASE, Outage.CUT_OFF, CUT_OFF),
    RouteState.TAKEN: Row(Action.NOTHING, Event.SEEN_ELSEWHERE, Action.NOTHING, Outage.CUT_OFF, CUT_OFF),
    RouteState.NOT_GIVEN: Row(
        Action.NOTHING, None, Action.NOTHING, None, "policy does not give it any more: not mended"
    ),
}
"""Where ``ended`` is NOTHING, an ended claim's route counts as released. A claim that policy no longer allows
has the outage of the route state beneath."""


def route_state(target: RouteTarget | None, eni: str, present: Collection[str]) -> RouteState:
    """Return what ``target`` is to a claim through ``eni``. ``present``: the ENIs that this node has now."""
    if target is not None and (not target.is_eni or target.propagated):
        return RouteState.NOT_ENI
    if eni not in present:
        if target is None:
            return RouteState.CUT_OFF
        if target.active:  # where it leads to ``eni``, another node has that now
            return RouteState.TAKEN
        return RouteState.FORMER if target.id == eni else RouteState.CUT_OFF
    if target is None:
        return RouteState.ABSENT
    if target.id == eni:
        return RouteState.OURS if target.active else RouteState.OURS_BLACKHOLE
    return RouteState.OTHER if target.active else RouteState.DEAD


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of a route. ``broken``: since when every look has shown it broken.

    Times are those of the clock that ages decisions, in seconds.
    """

    target: RouteTarget | None
    at: float
    since: float
    broken: float | None = None

    @classmethod
    def next(
        cls, before: Observation | None, target: RouteTarget | None, at: float, gap: float
    ) -> Observation:
        """Return what is known after a look at ``at`` that showed ``target``.

        After more than ``gap`` seconds without a look, patience begins anew, because a newer owner may have
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
class Claimant:
    """One claim of this node that has, or had, a given route."""

    claim: Claim
    route: ClaimedRoute

    @property
    def live(self) -> bool:
        return self.route.state.live


@dataclass(frozen=True, slots=True)
class Decision:
    """The action for a route, who takes it, and what happened to each claim.

    ``outages``: which claims the route does not serve, and why; None where nothing is decided.
    ``due``: when there will be something to do if the route stays as it is (on the clock of observations).
    """

    action: Action = Action.NOTHING
    by: Claimant | None = None
    events: Mapping[Attachment, Event] = field(default_factory=dict)
    reports: Mapping[Attachment, str] = field(default_factory=dict)
    outages: Mapping[Attachment, Outage] | None = None
    due: float | None = None


def decide(
    claimants: Sequence[Claimant],
    observation: Observation,
    present: Collection[str],
    now: float,
    reconcile: float,
    given: Callable[[Claim], bool],
) -> Decision:
    """Return what the keeper's table (docs/protocol.md) says about one route.

    ``now`` is since the epoch, ``reconcile`` the gap between two looks in seconds. ``given``: whether policy
    still allows a claim this destination in this table. A running ADD decides for itself, without the keeper.
    """
    if any(claimant.route.state is State.CLAIMING for claimant in claimants):
        return Decision()
    if elected := [claimant for claimant in claimants if claimant.claim.elected]:
        others = [claimant for claimant in claimants if not claimant.claim.elected]
        beside = decide(others, observation, present, now, reconcile, given)
        return _decide_beside_elected(elected, others, beside, observation, present, now)
    live = [claimant for claimant in claimants if claimant.live]
    ended = [claimant for claimant in claimants if not claimant.live]
    if not live:
        return _decide_for_ended(ended, observation, present, now)
    states = [route_state(observation.target, claimant.claim.eni, present) for claimant in live]
    able: Sequence[Claimant] = ()  # a route that serves all of them is not written, so policy is not asked
    if any(what is not RouteState.OURS for what in states):
        able = [claimant for claimant in live if claimant.claim.eni in present and given(claimant.claim)]
    events: dict[Attachment, Event] = {}
    reports: dict[Attachment, str] = {}
    outages: dict[Attachment, Outage] = {}
    elsewhere = _our_other_eni(live, observation.target, present)
    for claimant, what in zip(live, states, strict=True):
        row = TABLE[what]
        if row.outage:
            outages[claimant.claim.attachment] = row.outage
        if row.live is not Action.NOTHING and claimant not in able:
            row = TABLE[RouteState.NOT_GIVEN]
        if row.event and not elsewhere:
            events[claimant.claim.attachment] = row.event
        if row.report:
            reports[claimant.claim.attachment] = row.report
    action, by, due = Action.NOTHING, None, None
    if elsewhere:
        action, by = _take_over(able, ended, elsewhere, now, reconcile)
    elif able:
        by = _first_to_repair(able, now, reconcile)
        action = TABLE[route_state(observation.target, by.claim.eni, present)].live
        if action is not Action.NOTHING and observation.broken is not None:
            due = observation.broken + patience_seconds(by.route, now, reconcile)
            action, due = (action, None) if observation.at >= due else (Action.NOTHING, due)
    elif not any(observation.target and claimant.claim.eni == observation.target.id for claimant in live):
        # No claim that could repair the route wants it where it leads now.
        past = _decide_for_ended(ended, observation, present, now)
        return replace(past, events={**events, **past.events}, reports=reports, outages=outages)
    events |= {
        claimant.claim.attachment: Event.RELEASED
        for claimant in ended
        if claimant.route.not_before <= now and claimant.claim.eni != elsewhere
    }
    return Decision(action, None if action is Action.NOTHING else by, events, reports, outages, due)


def _decide_beside_elected(
    elected: Sequence[Claimant],
    others: Sequence[Claimant],
    beside: Decision,
    observation: Observation,
    present: Collection[str],
    now: float,
) -> Decision:
    """Return what to do about a route that pods here are elected for, too; ``beside``: without them.

    The election writes and releases its routes (``operations.take``), and the keeper only looks. Nobody else
    here writes or deletes a route that an elected pod has, or that a group's next pod has not taken yet. A
    live claim leaves a table that no longer matches like any other.
    """
    active = [claimant for claimant in elected if claimant.route.state is State.ACTIVE]
    was_active = [c for c in elected if c.route.state is State.STANDBY and c.route.held_since]
    releasing = [claimant for claimant in elected if claimant.route.state is State.RELEASING]
    leaving = [claimant for claimant in releasing if claimant.claim.live]
    target = observation.target.id if observation.target else ""
    untaken = [c for c in releasing if not c.claim.live and c.claim.eni == target]
    events, reports, outages = dict(beside.events), dict(beside.reports), dict(beside.outages or {})
    for claimant in active:
        row = TABLE[route_state(observation.target, claimant.claim.eni, present)]
        if row.outage:
            outages[claimant.claim.attachment] = row.outage
        if row.report:
            reports[claimant.claim.attachment] = row.report
    if active or was_active:  # a plain claim that has ended deletes nothing: its route is the group's
        ended = [c for c in others if not c.live and c.route.not_before <= now]
        events |= {claimant.claim.attachment: Event.RELEASED for claimant in ended}
    if active or untaken or (was_active and beside.action is Action.RELEASE):
        beside = Decision(outages=beside.outages)
    elif leaving and beside.action is Action.NOTHING:
        beside = replace(_decide_for_ended(leaving, observation, present, now), outages=beside.outages)
        events |= beside.events
    judged = outages if active or beside.outages is not None else None
    return replace(beside, events=events, reports=reports, outages=judged)


def _our_other_eni(live: Sequence[Claimant], target: RouteTarget | None, present: Collection[str]) -> str:
    """Return the ENI of this node that ``target`` leads to although no live claim wants that, or ""."""
    if target is None or not target.is_eni or target.propagated or target.id not in present:
        return ""
    return "" if any(claimant.claim.eni == target.id for claimant in live) else target.id


def _take_over(
    able: Sequence[Claimant], ended: Sequence[Claimant], eni: str, now: float, reconcile: float
) -> tuple[Action, Claimant | None]:
    """Inside one node: a releasing claim of ``eni`` hands over; a route that nobody claimed is moved."""
    past = [claimant for claimant in ended if claimant.claim.eni == eni]
    if any(claimant.route.not_before > now for claimant in past):
        return Action.NOTHING, None
    if past:
        return Action.RELEASE, past[0]
    return (Action.MOVE, _first_to_repair(able, now, reconcile)) if able else (Action.NOTHING, None)


def _first_to_repair(live: Sequence[Claimant], now: float, reconcile: float) -> Claimant:
    """Return the claimant that repairs: the one with the least patience, of several the newest."""
    return min(
        live,
        key=lambda claimant: (patience_seconds(claimant.route, now, reconcile), -claimant.route.held_since),
    )


def _decide_for_ended(
    ended: Sequence[Claimant], observation: Observation, present: Collection[str], now: float
) -> Decision:
    events: dict[Attachment, Event] = {}
    waiting = {claimant.claim.eni for claimant in ended if claimant.route.not_before > now}
    for claimant in ended:
        if claimant.route.not_before > now:
            continue
        if TABLE[route_state(observation.target, claimant.claim.eni, present)].ended is not Action.RELEASE:
            events[claimant.claim.attachment] = Event.RELEASED
        elif claimant.claim.eni not in waiting:
            return Decision(Action.RELEASE, claimant, events)
    return Decision(events=events)


def patience_seconds(route: ClaimedRoute, now: float, reconcile: float) -> float:
    """Return for how many seconds a route must have been seen broken before ``route``'s claim repairs it.

    A superseded claim waits long enough for a claim that holds the route to see it broken and repair it.
    """
    if 0 <= now - route.held_since < FRESH_SECONDS:
        return 0.0
    if route.state is not State.SUPERSEDED:
        return HELD_PATIENCE
    return max(2 * reconcile, HELD_PATIENCE + LONGEST_GAP * reconcile + STALE_SECONDS)


def claimants_by_route(claims: Iterable[Claim]) -> dict[RouteKey, list[Claimant]]:
    """Return the claimants of each route key among ``claims``, oldest claim first."""
    claimants: dict[RouteKey, list[Claimant]] = {}
    for claim in claims:
        for route in claim.routes:
            claimants.setdefault(route.key, []).append(Claimant(claim, route))
    return claimants
