"""The keeper's decisions, row by row: each expectation is copied by hand from docs/protocol.md."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_floatip.model.claim import Claim
from cni_floatip.model.claim_state import ClaimedRoute, Event, State
from cni_floatip.model.values import RouteKey, RouteTarget
from cni_floatip.rules.reconcile import (
    HELD_PATIENCE,
    LOOKS_AFTER_ADD,
    STALE_SECONDS,
    Action,
    Claimant,
    Decision,
    Observation,
    RouteState,
    claimants_by_route,
    decide,
    patience_seconds,
    route_state,
)
from tests.support.claims import a_claim

PLACE = RouteKey("rtb-a", ip_network("192.168.0.2/32"))
NOW = 1_000_000.0
RECONCILE = 60.0
MINE, ALSO_MINE, FORMER, OTHER = "eni-mine", "eni-also-mine", "eni-former", "eni-other"
PRESENT = frozenset({MINE, ALSO_MINE})


def GIVEN(claim: Claim) -> bool:  # noqa: N802 (a constant, as the others)
    return True


def stake(state: State, eni: str = MINE, age: float = 3600, after: float = 0, who: str = "c1") -> Claimant:
    route = ClaimedRoute(PLACE, state, held_since=NOW - age, not_before=after)
    return Claimant(a_claim(route, container=who, eni=eni), route)


def after(decision: Decision, owner: Claimant) -> State:
    """Return the state of the route of ``owner`` once the verdict is recorded."""
    event = decision.events.get(owner.claim.attachment)
    return owner.route.observe(event).state if event else owner.route.state


def eni(name: str, *, active: bool = True) -> RouteTarget:
    return RouteTarget(name, is_eni=True, active=active)


def seen(target: RouteTarget | None, broken_for: float | None = 10_000) -> Observation:
    broken = target is None or not target.active
    return Observation(
        target, 50_000.0, 0.0, 50_000.0 - broken_for if broken and broken_for is not None else None
    )


GATEWAY = RouteTarget("igw-1", is_eni=False)
PROPAGATED = RouteTarget(MINE, is_eni=True, propagated=True)

OBSERVED = {
    "absent": None,
    "our ENI, active": eni(MINE),
    "our present ENI, blackhole": eni(MINE, active=False),
    "our former ENI, blackhole": eni(FORMER, active=False),
    "another's, blackhole": eni(OTHER, active=False),
    "other ENI, active": eni(OTHER),
    "not an ENI": GATEWAY,
    "propagated": PROPAGATED,
}

LIVE = {  # observed: (act, what a held claim becomes, whether it is reported)
    "absent": (Action.CREATE, State.HELD, False),
    "our ENI, active": (Action.NOTHING, State.HELD, False),
    "our present ENI, blackhole": (Action.NOTHING, State.HELD, True),
    "our former ENI, blackhole": (Action.NOTHING, State.HELD, True),
    "another's, blackhole": (Action.DELETE, State.HELD, False),
    "other ENI, active": (Action.NOTHING, State.SUPERSEDED, False),
    "not an ENI": (Action.NOTHING, State.HELD, True),
    "propagated": (Action.NOTHING, State.HELD, True),
}

ENDED = {  # observed: (act, what a releasing claim becomes)
    "absent": (Action.NOTHING, State.GONE),
    "our ENI, active": (Action.RELEASE, State.RELEASING),
    "our present ENI, blackhole": (Action.RELEASE, State.RELEASING),
    "our former ENI, blackhole": (Action.RELEASE, State.RELEASING),
    "another's, blackhole": (Action.NOTHING, State.GONE),
    "other ENI, active": (Action.NOTHING, State.GONE),
    "not an ENI": (Action.NOTHING, State.GONE),
    "propagated": (Action.NOTHING, State.GONE),
}


@pytest.mark.parametrize("what", OBSERVED)
def test_a_live_claim(what: Any) -> None:
    owner = stake(State.HELD, eni=FORMER if "former" in what else MINE)
    decision = decide([owner], seen(OBSERVED[what]), PRESENT, NOW, RECONCILE, GIVEN)
    action, becomes, reported = LIVE[what]
    assert decision.action is action
    assert after(decision, owner) is becomes
    assert bool(decision.reports) is reported


CUT_OFF = {  # observed by a live claim whose ENI is not on this node: what it becomes
    "absent": State.HELD,
    "our former ENI, active": State.SUPERSEDED,  # another node has it
    "our former ENI, blackhole": State.HELD,
    "another's, blackhole": State.HELD,
    "other ENI, active": State.SUPERSEDED,
    "not an ENI": State.HELD,
}
LEFT = eni(FORMER)
"""What another node's route through the ENI that was ours looks like."""


@pytest.mark.parametrize("what", CUT_OFF)
@pytest.mark.parametrize("age", [5, 3600])
def test_a_claim_whose_eni_is_not_here_writes_nothing_and_says_so(what: Any, age: int) -> None:
    owner = stake(State.HELD, eni=FORMER, age=age)
    target = LEFT if what == "our former ENI, active" else OBSERVED[what]
    decision = decide([owner], seen(target), PRESENT, NOW, RECONCILE, GIVEN)
    assert (decision.action, decision.due) == (Action.NOTHING, None)
    assert after(decision, owner) is CUT_OFF[what]
    report = decision.reports[owner.claim.attachment]
    assert what == "not an ENI" or "delete the pod, or attach it again" in report


def test_a_route_through_what_was_our_eni_and_works_is_another_nodes() -> None:
    past = stake(State.RELEASING, eni=FORMER)
    decision = decide([past], seen(LEFT), PRESENT, NOW, RECONCILE, GIVEN)
    assert (decision.action, decision.events) == (Action.NOTHING, {past.claim.attachment: Event.RELEASED})


def test_one_that_is_cut_off_leaves_the_mending_to_one_that_is_not() -> None:
    cut_off, other = stake(State.HELD, eni=FORMER, age=5), stake(State.HELD, who="other")
    decision = decide([cut_off, other], seen(eni(FORMER, active=False)), PRESENT, NOW, RECONCILE, GIVEN)
    assert (decision.action, decision.by) == (Action.DELETE, other)


def test_nor_does_it_keep_a_blackhole_that_an_ended_claim_left() -> None:
    cut_off, past = stake(State.HELD, eni=FORMER), stake(State.RELEASING, eni=OTHER, who="past")
    decision = decide([cut_off, past], seen(eni(OTHER, active=False)), PRESENT, NOW, RECONCILE, GIVEN)
    assert (decision.action, decision.by) == (Action.RELEASE, past)
    assert list(decision.reports) == [cut_off.claim.attachment]


NOT_GIVEN = {  # observed by a live claim whose place policy does not give: what it becomes, if it is reported
    "absent": (State.HELD, True),
    "our ENI, active": (State.HELD, False),
    "our present ENI, blackhole": (State.HELD, True),
    "another's, blackhole": (State.HELD, True),
    "other ENI, active": (State.SUPERSEDED, False),
    "not an ENI": (State.HELD, True),
}


@pytest.mark.parametrize("what", NOT_GIVEN)
@pytest.mark.parametrize("age", [5, 3600])
def test_what_policy_does_not_give_any_more_is_not_written(what: Any, age: int) -> None:
    owner = stake(State.HELD, age=age)
    decision = decide([owner], seen(OBSERVED[what]), PRESENT, NOW, RECONCILE, lambda _: False)
    becomes, reported = NOT_GIVEN[what]
    assert (decision.action, decision.due) == (Action.NOTHING, None)
    assert after(decision, owner) is becomes
    assert bool(decision.reports) is reported


def test_policy_is_asked_for_each_claim() -> None:
    """A destination may be given to the pods of one namespace alone."""
    no, yes = stake(State.HELD, age=5, who="no"), stake(State.HELD, who="yes")
    decision = decide([no, yes], seen(None), PRESENT, NOW, RECONCILE, lambda claim: claim is yes.claim)
    assert (decision.action, decision.by) == (Action.CREATE, yes)
    assert list(decision.reports) == [no.claim.attachment]


def test_what_has_ended_is_released_whatever_policy_says_now() -> None:
    past = stake(State.RELEASING)
    decision = decide([past], seen(eni(MINE)), PRESENT, NOW, RECONCILE, lambda _: False)
    assert (decision.action, decision.by) == (Action.RELEASE, past)


class TestAGraceThatIsNotOver:
    """The route stays for all ended claims of the same ENI."""

    RECENT = stake(State.RELEASING, who="recent", after=NOW + 5)

    @pytest.mark.parametrize("target", [eni(MINE), eni(MINE, active=False)], ids=["active", "blackhole"])
    @pytest.mark.parametrize("state", [State.RELEASING, State.GONE])
    def test_holds_for_an_older_claim(self, state: Any, target: RouteTarget) -> None:
        older = stake(state, who="older")
        decision = decide([older, self.RECENT], seen(target), PRESENT, NOW, RECONCILE, GIVEN)
        assert (decision.action, decision.events) == (Action.NOTHING, {})

    def test_of_another_eni_is_nothing_to_it(self) -> None:
        older = stake(State.RELEASING, eni=ALSO_MINE, who="older")
        decision = decide([older, self.RECENT], seen(eni(ALSO_MINE)), PRESENT, NOW, RECONCILE, GIVEN)
        assert (decision.action, decision.by) == (Action.RELEASE, older)

    def test_holds_against_a_live_claim_through_another_eni(self) -> None:
        older, owner = stake(State.GONE, who="older"), stake(State.HELD, eni=ALSO_MINE, who="owner")
        decision = decide([older, self.RECENT, owner], seen(eni(MINE)), PRESENT, NOW, RECONCILE, GIVEN)
        assert decision.action is Action.NOTHING


@pytest.mark.parametrize("what", OBSERVED)
@pytest.mark.parametrize("state", [State.RELEASING, State.GONE])
def test_a_claim_that_has_ended(what: Any, state: Any) -> None:
    past = stake(state, eni=FORMER if "former" in what else MINE)
    decision = decide([past], seen(OBSERVED[what]), PRESENT, NOW, RECONCILE, GIVEN)
    action, becomes = ENDED[what]
    assert decision.action is action
    if becomes is State.GONE:
        assert decision.events == {past.claim.attachment: Event.RELEASED}


@pytest.mark.parametrize("what", OBSERVED)
def test_nothing_is_done_for_a_claim_within_its_grace(what: Any) -> None:
    leaving = stake(State.RELEASING, after=NOW + 1)
    decision = decide([leaving], seen(OBSERVED[what]), PRESENT, NOW, RECONCILE, GIVEN)
    assert (decision.action, decision.events) == (Action.NOTHING, {})


@pytest.mark.parametrize("what", OBSERVED)
def test_an_add_under_way_decides_for_itself(what: Any) -> None:
    claimants = [stake(State.CLAIMING), stake(State.HELD, who="c2"), stake(State.GONE, who="c3")]
    decision = decide(claimants, seen(OBSERVED[what]), PRESENT, NOW, RECONCILE, GIVEN)
    assert (decision.action, decision.events) == (Action.NOTHING, {})


PATIENCE = {
    "its own ADD a moment ago": (State.HELD, 10, 0),
    "superseded a moment after its ADD": (State.SUPERSEDED, 10, 0),
    "held for long": (State.HELD, 61, 30),
    "superseded for long": (State.SUPERSEDED, 61, 120),
    "joined by a new table": (State.HELD, NOW, 30),
    "the clock was set back": (State.HELD, -100, 30),
}


@pytest.mark.parametrize("who", PATIENCE)
@pytest.mark.parametrize("target", [None, eni(OTHER, active=False)], ids=["absent", "blackhole"])
def test_patience_of_each_claimant(who: Any, target: RouteTarget | None) -> None:
    state, age, seconds = PATIENCE[who]
    waiting = stake(state, age=age)
    assert patience_seconds(waiting.route, NOW, RECONCILE) == seconds
    action = Action.CREATE if target is None else Action.DELETE
    assert decide([waiting], seen(target, seconds), PRESENT, NOW, RECONCILE, GIVEN).action is action
    if seconds:
        early = decide([waiting], seen(target, seconds - 0.1), PRESENT, NOW, RECONCILE, GIVEN)
        assert early.action is Action.NOTHING
        assert early.due == pytest.approx(50_000.1), "then its time has come"


def test_the_newest_of_those_who_need_not_wait_mends() -> None:
    claimants = [stake(State.HELD, age=900, who="old"), stake(State.HELD, age=5, who="new")]
    claimants.append(stake(State.SUPERSEDED, age=8, who="robbed"))
    decision = decide(claimants, seen(None, 0), PRESENT, NOW, RECONCILE, GIVEN)
    assert decision.action is Action.CREATE
    assert decision.by is claimants[1]


def test_a_superseded_claim_holds_again_when_the_route_is_ours() -> None:
    robbed = stake(State.SUPERSEDED)
    decision = decide([robbed], seen(eni(MINE)), PRESENT, NOW, RECONCILE, GIVEN)
    assert decision.events == {robbed.claim.attachment: Event.SEEN_OURS}


def test_a_claim_that_has_ended_is_forgotten_beside_a_live_one_through_the_same_eni() -> None:
    past, owner = stake(State.RELEASING, who="past"), stake(State.HELD, who="owner")
    decision = decide([past, owner], seen(eni(MINE)), PRESENT, NOW, RECONCILE, GIVEN)
    assert decision.action is Action.NOTHING
    assert decision.events == {
        past.claim.attachment: Event.RELEASED,
        owner.claim.attachment: Event.SEEN_OURS,
    }


class TestTwoEnisOfOneNode:
    OWNER = stake(State.SUPERSEDED, eni=MINE, who="owner")

    def test_the_route_stays_where_another_live_claim_holds_it(self) -> None:
        holder = stake(State.HELD, eni=ALSO_MINE, who="holder")
        decision = decide([self.OWNER, holder], seen(eni(ALSO_MINE)), PRESENT, NOW, RECONCILE, GIVEN)
        assert decision.action is Action.NOTHING
        assert decision.events[self.OWNER.claim.attachment] is Event.SEEN_ELSEWHERE

    def test_who_has_ended_there_releases_and_so_hands_over(self) -> None:
        past = stake(State.RELEASING, eni=ALSO_MINE, who="past")
        decision = decide([self.OWNER, past], seen(eni(ALSO_MINE)), PRESENT, NOW, RECONCILE, GIVEN)
        assert (decision.action, decision.by) == (Action.RELEASE, past)

    def test_not_before_its_grace_is_over(self) -> None:
        past = stake(State.RELEASING, eni=ALSO_MINE, who="past", after=NOW + 5)
        decision = decide([self.OWNER, past], seen(eni(ALSO_MINE)), PRESENT, NOW, RECONCILE, GIVEN)
        assert decision.action is Action.NOTHING

    def test_what_nobody_claimed_there_is_moved(self) -> None:
        decision = decide([self.OWNER], seen(eni(ALSO_MINE)), PRESENT, NOW, RECONCILE, GIVEN)
        assert (decision.action, decision.by) == (Action.MOVE, self.OWNER)


class TestHowLongARouteWasBroken:
    def look(self, *targets: RouteTarget | None) -> Observation:
        observation = None
        for at, target in enumerate(targets):
            observation = Observation.next(observation, target, float(at), 90.0)
        assert observation is not None
        return observation

    def test_counts_from_the_first_look_that_showed_it(self) -> None:
        assert self.look(eni(MINE), None, None, None).broken == 1

    def test_ends_with_one_look_that_shows_it_working(self) -> None:
        assert self.look(None, eni(OTHER), None).broken == 2
        assert self.look(None, eni(OTHER)).broken is None

    def test_goes_on_when_a_blackhole_was_deleted(self) -> None:
        assert self.look(eni(OTHER, active=False), None).broken == 0

    def test_begins_anew_with_a_blackhole_that_was_not_there_before(self) -> None:
        assert self.look(None, eni(OTHER, active=False)).broken == 1
        assert self.look(eni(FORMER, active=False), eni(OTHER, active=False)).broken == 1

    def test_begins_anew_when_nobody_has_looked_for_long(self) -> None:
        before = Observation.next(None, None, 0.0, 90.0)
        assert Observation.next(before, None, 90.0, 90.0).broken == 0
        assert Observation.next(before, None, 90.1, 90.0).broken == 90.1

    def test_says_since_when_it_is_as_it_is(self) -> None:
        assert self.look(None, eni(MINE), eni(MINE)).since == 1


def test_the_schedule_keeps_the_invariants_of_the_exploration() -> None:
    gaps = [b - a for a, b in zip((0.0, *LOOKS_AFTER_ADD), LOOKS_AFTER_ADD, strict=False)]
    assert STALE_SECONDS == 15
    assert max(gaps) + STALE_SECONDS <= HELD_PATIENCE


@pytest.mark.parametrize("reconcile", [1, 5, 10, 20, 30, 50, 60, 300, 3600])
def test_a_superseded_claim_waits_longer_than_one_that_holds_the_route_needs(reconcile: int) -> None:
    robbed = patience_seconds(stake(State.SUPERSEDED).route, NOW, reconcile)
    assert robbed >= 1.1 * reconcile + HELD_PATIENCE + STALE_SECONDS
    assert robbed >= 2 * reconcile


states = st.sampled_from(list(State))
enis = st.sampled_from([MINE, ALSO_MINE, FORMER])
targets = st.sampled_from([*OBSERVED.values(), eni(ALSO_MINE), eni(ALSO_MINE, active=False)])


@given(
    st.lists(st.tuples(states, enis, st.sampled_from([5.0, 500.0]), st.sampled_from([0.0, NOW + 9]))),
    targets,
    st.sampled_from([0.0, 31.0, 200.0]),
)
def test_a_route_that_works_for_a_live_claim_or_leads_elsewhere_is_never_touched(
    drawn: Any, target: Any, broken_for: Any
) -> None:
    claimants = [
        stake(state, through, age, after if state is State.RELEASING else 0, who=f"c{i}")
        for i, (state, through, age, after) in enumerate(drawn)
    ]
    decision = decide(claimants, seen(target, broken_for), PRESENT, NOW, RECONCILE, GIVEN)
    if decision.action is Action.CREATE:
        assert target is None
    if decision.action in (Action.DELETE, Action.RELEASE, Action.MOVE):
        assert target is not None
        assert target.is_eni
        assert not target.propagated
        live = [s for s in claimants if s.live]
        assert not (target.active and target.id not in {s.claim.eni for s in claimants} | PRESENT)
        assert not any(s.claim.eni == target.id and target.active for s in live)
        assert not (target.active and target.id not in PRESENT), "it is another node's"
    if decision.action is not Action.NOTHING and decision.by and decision.by.live:
        assert decision.by.claim.eni in PRESENT
    for stake_ in claimants:
        if stake_.live:
            assert decision.events.get(stake_.claim.attachment) is not Event.RELEASED
        elif stake_.route.not_before > NOW:
            assert stake_.claim.attachment not in decision.events


def test_stakes_are_by_place() -> None:
    one, two = stake(State.HELD).claim, stake(State.GONE, who="c2").claim
    elsewhere = replace(two, routes=(replace(two.routes[0], key=RouteKey("rtb-b", PLACE.destination)),))
    claimants = claimants_by_route([one, elsewhere])
    assert [s.claim for s in claimants[PLACE]] == [one]
    assert len(claimants) == 2


def test_sight_of_every_row() -> None:
    expected = [
        RouteState.ABSENT,
        RouteState.OURS,
        RouteState.OURS_BLACKHOLE,
        RouteState.DEAD,
        RouteState.DEAD,
        RouteState.OTHER,
        RouteState.NOT_ENI,
        RouteState.NOT_ENI,
    ]
    assert [route_state(target, MINE, PRESENT) for target in OBSERVED.values()] == expected
    assert [route_state(target, FORMER, PRESENT) for target in (*OBSERVED.values(), LEFT)] == [
        RouteState.CUT_OFF,
        RouteState.TAKEN,
        RouteState.CUT_OFF,
        RouteState.FORMER,
        RouteState.CUT_OFF,
        RouteState.TAKEN,
        RouteState.NOT_ENI,
        RouteState.NOT_ENI,
        RouteState.TAKEN,
    ]
