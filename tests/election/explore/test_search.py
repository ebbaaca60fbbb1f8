"""The search itself: complete, shortest traces, what is at rest, what goes on for ever."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from tests.election.explore.search import Bounds, Outcome, Search, State, Step
from tests.election.explore.values import NOW, Interned, past, rewrite


def counting(state: State) -> Iterator[Step]:
    """Count to five and back to three; by an accident, spin for ever between ten and eleven."""
    assert isinstance(state, int)
    if state < 5:
        yield Step("counts", state + 1)
        yield Step("ACCIDENT", state + 10, system=False)
    elif state == 5:
        yield Step("falls back", 3)
    elif state in (10, 11):
        yield Step("spins", state ^ 1, cost=True)


def test_finds_each_state_and_a_shortest_way_to_what_is_wrong() -> None:
    def judge_rest(state: State) -> str | None:
        return "four" if state == 4 else None

    outcome = Search(counting, judge_rest=judge_rest).run(0)
    assert (outcome.states, outcome.complete) == (11, True)
    traces = {violation.what: (violation.trace, violation.loop) for violation in outcome.violations}
    assert traces == {
        "P5 endless writes or swaps": (("ACCIDENT",), ("spins", "spins")),
        "four": (("counts",) * 4, ()),
    }


def test_a_search_that_is_cut_claims_nothing_of_what_it_did_not_expand() -> None:
    outcome = Search(lambda state: [Step("on", state + 1)], judge_rest=lambda _: "rests").run(  # type: ignore[operator]
        0, Bounds(states=5000)
    )
    assert not outcome.complete
    assert outcome.resting == 0
    assert outcome.violations == ()


def test_stops_at_the_first_violation_that_is_asked_for() -> None:
    def steps(state: State) -> Iterator[Step]:
        assert isinstance(state, int)
        yield Step("on", state + 1, wrong="P2 too far" if state == 7 else None)

    outcome = Search(steps).run(0, stop_at="P2")
    assert outcome.states == 9
    assert [violation.trace for violation in outcome.violations] == [("on",) * 8]


@given(st.dictionaries(st.integers(0, 8), st.lists(st.integers(0, 8), max_size=3)))
def test_at_rest_is_what_every_way_leads_back_to(ways: Mapping[int, list[int]]) -> None:
    def reached(state: int) -> set[int]:
        reachable, todo = {state}, [state]
        while todo:
            fresh = set(ways.get(todo.pop(), ())) - reachable
            reachable |= fresh
            todo += fresh
        return reachable

    outcome: Outcome = Search(lambda state: [Step("", to) for to in ways.get(state, ())]).run(0)  # type: ignore[call-overload]
    states = reached(0)
    assert outcome.states == len(states)
    assert outcome.resting == sum(
        all(state in reached(other) for other in reached(state)) for state in states
    )


Instant = float


@dataclass(frozen=True)
class Watched:
    """A value with a moment, a duration and another value."""

    at: Instant
    seconds: float
    inner: tuple[Watched, ...] = ()
    moments: tuple[tuple[str, Instant], ...] = ()
    never: Instant | None = None


def test_time_passes_by_moving_instants_into_the_past() -> None:
    value = Watched(NOW, 5.0, (Watched(NOW - 7, 1.0, never=float("inf")),), (("a", NOW + 3),))
    after = rewrite(value, "Instant", past(2.0, horizon=8.0))
    assert after == Watched(NOW - 2, 5.0, (Watched(NOW - 8, 1.0, never=float("inf")),), (("a", NOW + 1),))
    assert rewrite(after, "Version", past(2.0, 8.0)) is after


def test_equal_values_have_one_number() -> None:
    numbers: Interned[Watched] = Interned()
    assert [numbers.number(Watched(NOW, 1.0)), numbers.number(Watched(NOW, 1.0))] == [0, 0]
    assert numbers[0] == Watched(NOW, 1.0)
