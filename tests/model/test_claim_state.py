"""The life of a claimed route: its table, and the one place that changes a state."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from cni_floatip.model.claim_state import STARTS, TRANSITIONS, ClaimedRoute, Event, State, of_claim
from cni_floatip.model.values import RouteKey
from tests.core.shape import ROOT

EXPECTED = """
                           claiming    held        superseded  standby     active      releasing   gone

    ADD_BEGINS             .           .           .           .           .           .           .
    FOUND_TAKEN            .           .           .           .           .           .           .
    TABLE_MATCHES          .           .           .           .           .           .           .
    TABLE_MATCHES_ELECTED  .           .           .           .           .           .           .
    RECORD_LOST            .           .           .           .           .           .           .
    WRITTEN                held        held        held        .           .           .           .
    ADD_FAILED             releasing   .           releasing   .           .           .           .
    ADD_DIED               releasing   .           .           .           .           .           .
    NOT_CLAIMED_AGAIN      releasing   releasing   releasing   gone        releasing   releasing   releasing
    ADMITTED               standby     .           .           .           .           .           .
    ELECTED                .           .           .           active      .           .           .
    DEPOSED                .           .           .           .           standby     .           .
    SEEN_OURS              .           held        held        .           .           .           .
    SEEN_ELSEWHERE         .           superseded  superseded  .           .           .           .
    ENDED                  releasing   releasing   releasing   gone        releasing   .           .
    RELEASED               .           .           .           .           .           gone        gone
"""
"""What becomes of a route in each state at each event, by hand; a dot: the event does not concern it."""

ASKED = {  # state: (live, wants its route, settled, rank)
    "claiming": (True, True, False, 0),
    "releasing": (False, False, False, 1),
    "superseded": (True, True, True, 2),
    "standby": (True, False, False, 3),
    "held": (True, True, True, 4),
    "active": (True, True, True, 5),
    "gone": (False, False, False, 6),
}

PLACE = RouteKey("rtb-a", ip_network("192.168.0.2/32"))


def expected() -> dict[tuple[str, str], str]:
    """Return what ``EXPECTED`` says: by state and name of the event."""
    heads, *rows = (line.split() for line in EXPECTED.splitlines() if line.strip())
    return {(state, row[0]): to for row in rows for state, to in zip(heads, row[1:], strict=True)}


def route(state: str) -> ClaimedRoute:
    return ClaimedRoute(PLACE, State(state), "1" * 12, "eni-heir", 5.0, 7.0)


def test_each_event_does_to_each_state_what_is_written_here() -> None:
    table = {
        (state.value, event.name): to.value if (to := TRANSITIONS.get((state, event))) else "."
        for state in State
        for event in Event
    }
    assert table == expected()


def test_a_route_begins_as_is_written_here() -> None:
    assert {event.name: state.value for event, state in STARTS.items()} == {
        "ADD_BEGINS": "claiming",
        "FOUND_TAKEN": "superseded",
        "TABLE_MATCHES": "held",
        "TABLE_MATCHES_ELECTED": "standby",
        "RECORD_LOST": "releasing",
    }


def test_each_question_has_an_answer_for_each_state() -> None:
    answers = {s.value: (s.live, s.wants_route, s.settled, s.rank) for s in State}
    assert answers == ASKED


def test_a_claim_is_in_the_state_of_its_least_settled_route() -> None:
    assert [of_claim(list(State)[: n + 1]).value for n in range(len(State))] == ["claiming"] * len(State)
    assert of_claim([State.GONE, State.HELD, State.SUPERSEDED]) is State.SUPERSEDED
    assert of_claim([State.HELD, State.RELEASING]) is State.RELEASING
    assert of_claim([State.GONE, State.HELD]) is State.HELD
    assert of_claim([State.ACTIVE, State.STANDBY]) is State.STANDBY
    assert of_claim([State.GONE, State.ACTIVE]) is State.ACTIVE
    assert of_claim([]) is State.GONE


@pytest.mark.parametrize("state", State)
def test_what_an_event_does_not_concern_keeps_its_times_too(state: State) -> None:
    before = route(state)
    held, elected, released = before.hold(9.0, "eni-a"), before.elect(9.0), before.release(after=9.0)
    assert (held != before) == (state in ("claiming", "held", "superseded")) == (held.held_since == 9.0)
    assert (elected != before) == (state == "standby") == (elected.held_since == 9.0)
    assert (released != before) == state.live == (released.not_before == 9.0)


@pytest.mark.parametrize("state", State)
def test_a_route_whose_end_a_full_disk_kept_from_the_record_is_finished_all_the_same(state: State) -> None:
    finished = route(state).finish()
    assert (finished.state, finished.successor) == (State.GONE, "")
    handed_over = route(state).hand_over("eni-b")
    assert (handed_over.state.live, handed_over.successor) == (False, "eni-b")


# -- nowhere else -------------------------------------------------------------------------------------------

ROOM = ROOT / "model" / "claim_state.py"


def changes(tree: ast.AST) -> Iterator[str]:
    """Yield what sets a state: one that is not compared, ``state=``, a call that makes one or a route."""
    compared: set[ast.AST] = set()
    for node in ast.walk(tree):
        operands = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        operands += [node.value] if isinstance(node, ast.MatchValue) else []
        for operand in operands:
            compared |= {
                operand,
                *(operand.elts if isinstance(operand, ast.Tuple | ast.Set | ast.List) else ()),
            }
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name("State") | ast.Attribute(attr="State")) if node not in compared:
                yield f"line {node.lineno}: {ast.unparse(node)}"
            case ast.Call(func=ast.Name(id="State" | "ClaimedRoute")):
                yield f"line {node.lineno}: {ast.unparse(node)}"
            case ast.keyword(arg="state"):
                yield f"line {node.value.lineno}: state={ast.unparse(node.value)}"
            case ast.alias(name="State" | "ClaimedRoute", asname=str(name)):
                yield f"line {node.lineno}: as {name}"


def test_nothing_but_the_room_of_states_sets_one() -> None:
    results = {str(path): list(changes(ast.parse(path.read_text()))) for path in ROOT.rglob("*.py")}
    assert results.pop(str(ROOM)), "the rule finds nothing where states are set"
    assert {path: lines for path, lines in results.items() if lines} == {}


def test_nothing_but_a_claim_says_that_it_awaits_an_address() -> None:
    keywords = {
        path.stem
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.keyword) and node.arg == "awaits_address"
    }
    assert keywords == {"claim"}


@pytest.mark.parametrize(
    "breach",
    [
        "replace(route, state=State.HELD)",
        "replace(route, state=other.state)",
        "to = State.GONE if empty else was",
        "Row(Act.NOTHING, State.HELD)",
        "known = {place: State.HELD}",
        "def start():\n    return State.CLAIMING",
        "lambda: claim_state.State.GONE",
        "ClaimedRoute(place, was)",
        'State("held")',
        "from ..model.claim_state import State as S",
        "if pick(State.HELD) == 1: pass",
    ],
)
def test_a_breach_is_found(breach: str) -> None:
    assert list(changes(ast.parse(breach)))


@pytest.mark.parametrize(
    "sound",
    [
        "route.state is State.HELD",
        "route.state in (State.HELD, State.GONE) or State.GONE != state",
        "match state:\n    case State.HELD | State.GONE: pass",
        "live = [state for state in State if state.live]",
        "route.hold(now, eni)",
    ],
)
def test_reading_a_state_is_no_breach(sound: str) -> None:
    assert not list(changes(ast.parse(sound)))
