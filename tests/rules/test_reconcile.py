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
from cni_floatip.model.values import Place, Target
from cni_floatip.rules.reconcile import (
    HELD_PATIENCE,
    LOOKS_AFTER_ADD,
    STALE_SECONDS,
    Act,
    Sight,
    Sighting,
    Stake,
    Verdict,
    judge,
    patience,
    sight,
    stakes_of,
)
from tests.support.claims import a_claim

PLACE = Place("rtb-a", ip_network("192.168.0.2/32"))
NOW = 1_000_000.0
RECONCILE = 60.0
MINE, ALSO_MINE, FORMER, OTHER = "eni-mine", "eni-also-mine", "eni-former", "eni-other"
PRESENT = frozenset({MINE, ALSO_MINE})


def GIVEN(claim: Claim) -> bool:  # noqa: N802 (a constant, as the others)
    return True


def stake(state: State, eni: str = MINE, age: float = 3600, after: float = 0, who: str = "c1") -> Stake:
    route = ClaimedRoute(PLACE, state, since=NOW - age, after=after)
    return Stake(a_claim(route, container=who, eni=eni), route)


def after(verdict: Verdict, owner: Stake) -> State:
    """Return the state of the route of ``owner`` once the verdict is recorded."""
    event = verdict.events.get(owner.claim.attachment)
    return owner.route.observe(event).state if event else owner.route.state


def eni(name: str, *, active: bool = True) -> Target:
    return Target(name, is_eni=True, active=active)


def seen(target: Target | None, broken_for: float | None = 10_000) -> Sighting:
    broken = target is None or not target.active
    return Sighting(
        target, 50_000.0, 0.0, 50_000.0 - broken_for if broken and broken_for is not None else None
    )


GATEWAY = Target("igw-1", is_eni=False)
PROPAGATED = Target(MINE, is_eni=True, propagated=True)

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
    "absent": (Act.CREATE, State.HELD, False),
    "our ENI, active": (Act.NOTHING, State.HELD, False),
    "our present ENI, blackhole": (Act.NOTHING, State.HELD, True),
    "our former ENI, blackhole": (Act.NOTHING, State.HELD, True),
    "another's, blackhole": (Act.DELETE, State.HELD, False),
    "other ENI, active": (Act.NOTHING, State.SUPERSEDED, False),
    "not an ENI": (Act.NOTHING, State.HELD, True),
    "propagated": (Act.NOTHING, State.HELD, True),
}

ENDED = {  # observed: (act, what a releasing claim becomes)
    "absent": (Act.NOTHING, State.GONE),
    "our ENI, active": (Act.RELEASE, State.RELEASING),
    "our present ENI, blackhole": (Act.RELEASE, State.RELEASING),
    "our former ENI, blackhole": (Act.RELEASE, State.RELEASING),
    "another's, blackhole": (Act.NOTHING, State.GONE),
    "other ENI, active": (Act.NOTHING, State.GONE),
    "not an ENI": (Act.NOTHING, State.GONE),
    "propagated": (Act.NOTHING, State.GONE),
}


@pytest.mark.parametrize("what", OBSERVED)
def test_a_live_claim(what: Any) -> None:
    owner = stake(State.HELD, eni=FORMER if "former" in what else MINE)
    verdict = judge([owner], seen(OBSERVED[what]), PRESENT, NOW, RECONCILE, GIVEN)
    act, becomes, reported = LIVE[what]
    assert verdict.act is act
    assert after(verdict, owner) is becomes
    assert bool(verdict.reports) is reported


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
    verdict = judge([owner], seen(target), PRESENT, NOW, RECONCILE, GIVEN)
    assert (verdict.act, verdict.due) == (Act.NOTHING, None)
    assert after(verdict, owner) is CUT_OFF[what]
    report = verdict.reports[owner.claim.attachment]
    assert what == "not an ENI" or "delete the pod, or attach it again" in report


def test_a_route_through_what_was_our_eni_and_works_is_another_nodes() -> None:
    past = stake(State.RELEASING, eni=FORMER)
    verdict = judge([past], seen(LEFT), PRESENT, NOW, RECONCILE, GIVEN)
    assert (verdict.act, verdict.events) == (Act.NOTHING, {past.claim.attachment: Event.RELEASED})


def test_one_that_is_cut_off_leaves_the_mending_to_one_that_is_not() -> None:
    cut_off, other = stake(State.HELD, eni=FORMER, age=5), stake(State.HELD, who="other")
    verdict = judge([cut_off, other], seen(eni(FORMER, active=False)), PRESENT, NOW, RECONCILE, GIVEN)
    assert (verdict.act, verdict.by) == (Act.DELETE, other)


def test_nor_does_it_keep_a_blackhole_that_an_ended_claim_left() -> None:
    cut_off, past = stake(State.HELD, eni=FORMER), stake(State.RELEASING, eni=OTHER, who="past")
    verdict = judge([cut_off, past], seen(eni(OTHER, active=False)), PRESENT, NOW, RECONCILE, GIVEN)
    assert (verdict.act, verdict.by) == (Act.RELEASE, past)
    assert list(verdict.reports) == [cut_off.claim.attachment]


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
    verdict = judge([owner], seen(OBSERVED[what]), PRESENT, NOW, RECONCILE, lambda _: False)
    becomes, reported = NOT_GIVEN[what]
    assert (verdict.act, verdict.due) == (Act.NOTHING, None)
    assert after(verdict, owner) is becomes
    assert bool(verdict.reports) is reported


def test_policy_is_asked_for_each_claim() -> None:
    """A destination may be given to the pods of one namespace alone."""
    no, yes = stake(State.HELD, age=5, who="no"), stake(State.HELD, who="yes")
    verdict = judge([no, yes], seen(None), PRESENT, NOW, RECONCILE, lambda claim: claim is yes.claim)
    assert (verdict.act, verdict.by) == (Act.CREATE, yes)
    assert list(verdict.reports) == [no.claim.attachment]


def test_what_has_ended_is_released_whatever_policy_says_now() -> None:
    past = stake(State.RELEASING)
    verdict = judge([past], seen(eni(MINE)), PRESENT, NOW, RECONCILE, lambda _: False)
    assert (verdict.act, verdict.by) == (Act.RELEASE, past)


class TestAGraceThatIsNotOver:
    """The route stays for all ended claims of the same ENI."""

    RECENT = stake(State.RELEASING, who="recent", after=NOW + 5)

    @pytest.mark.parametrize("target", [eni(MINE), eni(MINE, active=False)], ids=["active", "blackhole"])
    @pytest.mark.parametrize("state", [State.RELEASING, State.GONE])
    def test_holds_for_an_older_claim(self, state: Any, target: Target) -> None:
        older = stake(state, who="older")
        verdict = judge([older, self.RECENT], seen(target), PRESENT, NOW, RECONCILE, GIVEN)
        assert (verdict.act, verdict.events) == (Act.NOTHING, {})

    def test_of_another_eni_is_nothing_to_it(self) -> None:
        older = stake(State.RELEASING, eni=ALSO_MINE, who="older")
        verdict = judge([older, self.RECENT], seen(eni(ALSO_MINE)), PRESENT, NOW, RECONCILE, GIVEN)
        assert (verdict.act, verdict.by) == (Act.RELEASE, older)

    def test_holds_against_a_live_claim_through_another_eni(self) -> None:
        older, owner = stake(State.GONE, who="older"), stake(State.HELD, eni=ALSO_MINE, who="owner")
        verdict = judge([older, self.RECENT, owner], seen(eni(MINE)), PRESENT, NOW, RECONCILE, GIVEN)
        assert verdict.act is Act.NOTHING


@pytest.mark.parametrize("what", OBSERVED)
@pytest.mark.parametrize("state", [State.RELEASING, State.GONE])
def test_a_claim_that_has_ended(what: Any, state: Any) -> None:
    past = stake(state, eni=FORMER if "former" in what else MINE)
    verdict = judge([past], seen(OBSERVED[what]), PRESENT, NOW, RECONCILE, GIVEN)
    act, becomes = ENDED[what]
    assert verdict.act is act
    if becomes is State.GONE:
        assert verdict.events == {past.claim.attachment: Event.RELEASED}


@pytest.mark.parametrize("what", OBSERVED)
def test_nothing_is_done_for_a_claim_within_its_grace(what: Any) -> None:
    leaving = stake(State.RELEASING, after=NOW + 1)
    verdict = judge([leaving], seen(OBSERVED[what]), PRESENT, NOW, RECONCILE, GIVEN)
    assert (verdict.act, verdict.events) == (Act.NOTHING, {})


@pytest.mark.parametrize("what", OBSERVED)
def test_an_add_under_way_decides_for_itself(what: Any) -> None:
    stakes = [stake(State.CLAIMING), stake(State.HELD, who="c2"), stake(State.GONE, who="c3")]
    verdict = judge(stakes, seen(OBSERVED[what]), PRESENT, NOW, RECONCILE, GIVEN)
    assert (verdict.act, verdict.events) == (Act.NOTHING, {})


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
def test_patience_of_each_claimant(who: Any, target: Target | None) -> None:
    state, age, seconds = PATIENCE[who]
    waiting = stake(state, age=age)
    assert patience(waiting.route, NOW, RECONCILE) == seconds
    act = Act.CREATE if target is None else Act.DELETE
    assert judge([waiting], seen(target, seconds), PRESENT, NOW, RECONCILE, GIVEN).act is act
    if seconds:
        early = judge([waiting], seen(target, seconds - 0.1), PRESENT, NOW, RECONCILE, GIVEN)
        assert early.act is Act.NOTHING
        assert early.due == pytest.approx(50_000.1), "then its time has come"


def test_the_newest_of_those_who_need_not_wait_mends() -> None:
    stakes = [stake(State.HELD, age=900, who="old"), stake(State.HELD, age=5, who="new")]
    stakes.append(stake(State.SUPERSEDED, age=8, who="robbed"))
    verdict = judge(stakes, seen(None, 0), PRESENT, NOW, RECONCILE, GIVEN)
    assert verdict.act is Act.CREATE
    assert verdict.by is stakes[1]


def test_a_superseded_claim_holds_again_when_the_route_is_ours() -> None:
    robbed = stake(State.SUPERSEDED)
    verdict = judge([robbed], seen(eni(MINE)), PRESENT, NOW, RECONCILE, GIVEN)
    assert verdict.events == {robbed.claim.attachment: Event.SEEN_OURS}


def test_a_claim_that_has_ended_is_forgotten_beside_a_live_one_through_the_same_eni() -> None:
    past, owner = stake(State.RELEASING, who="past"), stake(State.HELD, who="owner")
    verdict = judge([past, owner], seen(eni(MINE)), PRESENT, NOW, RECONCILE, GIVEN)
    assert verdict.act is Act.NOTHING
    assert verdict.events == {
        past.claim.attachment: Event.RELEASED,
        owner.claim.attachment: Event.SEEN_OURS,
    }


class TestTwoEnisOfOneNode:
    OWNER = stake(State.SUPERSEDED, eni=MINE, who="owner")

    def test_the_route_stays_where_another_live_claim_holds_it(self) -> None:
        holder = stake(State.HELD, eni=ALSO_MINE, who="holder")
        verdict = judge([self.OWNER, holder], seen(eni(ALSO_MINE)), PRESENT, NOW, RECONCILE, GIVEN)
        assert verdict.act is Act.NOTHING
        assert verdict.events[self.OWNER.claim.attachment] is Event.SEEN_ELSEWHERE

    def test_who_has_ended_there_releases_and_so_hands_over(self) -> None:
        past = stake(State.RELEASING, eni=ALSO_MINE, who="past")
        verdict = judge([self.OWNER, past], seen(eni(ALSO_MINE)), PRESENT, NOW, RECONCILE, GIVEN)
        assert (verdict.act, verdict.by) == (Act.RELEASE, past)

    def test_not_before_its_grace_is_over(self) -> None:
        past = stake(State.RELEASING, eni=ALSO_MINE, who="past", after=NOW + 5)
        verdict = judge([self.OWNER, past], seen(eni(ALSO_MINE)), PRESENT, NOW, RECONCILE, GIVEN)
        assert verdict.act is Act.NOTHING

    def test_what_nobody_claimed_there_is_moved(self) -> None:
        verdict = judge([self.OWNER], seen(eni(ALSO_MINE)), PRESENT, NOW, RECONCILE, GIVEN)
        assert (verdict.act, verdict.by) == (Act.MOVE, self.OWNER)


class TestHowLongARouteWasBroken:
    def look(self, *targets: Target | None) -> Sighting:
        found = None
        for at, target in enumerate(targets):
            found = Sighting.next(found, target, float(at), 90.0)
        assert found is not None
        return found

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
        before = Sighting.next(None, None, 0.0, 90.0)
        assert Sighting.next(before, None, 90.0, 90.0).broken == 0
        assert Sighting.next(before, None, 90.1, 90.0).broken == 90.1

    def test_says_since_when_it_is_as_it_is(self) -> None:
        assert self.look(None, eni(MINE), eni(MINE)).since == 1


def test_the_schedule_keeps_the_invariants_of_the_exploration() -> None:
    gaps = [b - a for a, b in zip((0.0, *LOOKS_AFTER_ADD), LOOKS_AFTER_ADD, strict=False)]
    assert STALE_SECONDS == 15
    assert max(gaps) + STALE_SECONDS <= HELD_PATIENCE


@pytest.mark.parametrize("reconcile", [1, 5, 10, 20, 30, 50, 60, 300, 3600])
def test_a_superseded_claim_waits_longer_than_one_that_holds_the_route_needs(reconcile: int) -> None:
    robbed = patience(stake(State.SUPERSEDED).route, NOW, reconcile)
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
    stakes = [
        stake(state, through, age, after if state is State.RELEASING else 0, who=f"c{i}")
        for i, (state, through, age, after) in enumerate(drawn)
    ]
    verdict = judge(stakes, seen(target, broken_for), PRESENT, NOW, RECONCILE, GIVEN)
    if verdict.act is Act.CREATE:
        assert target is None
    if verdict.act in (Act.DELETE, Act.RELEASE, Act.MOVE):
        assert target is not None
        assert target.is_eni
        assert not target.propagated
        live = [s for s in stakes if s.live]
        assert not (target.active and target.id not in {s.claim.eni for s in stakes} | PRESENT)
        assert not any(s.claim.eni == target.id and target.active for s in live)
        assert not (target.active and target.id not in PRESENT), "it is another node's"
    if verdict.act is not Act.NOTHING and verdict.by and verdict.by.live:
        assert verdict.by.claim.eni in PRESENT
    for stake_ in stakes:
        if stake_.live:
            assert verdict.events.get(stake_.claim.attachment) is not Event.RELEASED
        elif stake_.route.after > NOW:
            assert stake_.claim.attachment not in verdict.events


def test_stakes_are_by_place() -> None:
    one, two = stake(State.HELD).claim, stake(State.GONE, who="c2").claim
    elsewhere = replace(two, routes=(replace(two.routes[0], place=Place("rtb-b", PLACE.destination)),))
    found = stakes_of([one, elsewhere])
    assert [s.claim for s in found[PLACE]] == [one]
    assert len(found) == 2


def test_sight_of_every_row() -> None:
    expected = [
        Sight.ABSENT,
        Sight.OURS,
        Sight.OURS_BLACKHOLE,
        Sight.DEAD,
        Sight.DEAD,
        Sight.OTHER,
        Sight.NOT_ENI,
        Sight.NOT_ENI,
    ]
    assert [sight(target, MINE, PRESENT) for target in OBSERVED.values()] == expected
    assert [sight(target, FORMER, PRESENT) for target in (*OBSERVED.values(), LEFT)] == [
        Sight.CUT_OFF,
        Sight.TAKEN,
        Sight.CUT_OFF,
        Sight.FORMER,
        Sight.CUT_OFF,
        Sight.TAKEN,
        Sight.NOT_ENI,
        Sight.NOT_ENI,
        Sight.TAKEN,
    ]
