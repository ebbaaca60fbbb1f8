"""The driver's promises to members: what is sent, when they learn of it, and that each gets its answer.

Members are scripted, threads are a list of calls that the test runs, and the clock is the test's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

import pytest

from cni_floatip.agent.election.driver import LOOK_SECONDS, CallAnswer, Driver, DriverHooks
from cni_floatip.agent.election.lanes import CallKind, Lanes
from cni_floatip.election.events import (
    GroupRead,
    GroupSwapped,
    LookAtRoutes,
    ReadGroup,
    ReadNodeLease,
    RoutesSeen,
    Sent,
    SurroundingsChanged,
    Swap,
    SwapGroup,
    Time,
    Wish,
    WriteRoutes,
)
from cni_floatip.election.lease import GroupLease
from cni_floatip.election.node import ApiAnswered, CordonSeen, Surroundings
from cni_floatip.model.values import RouteKey

KEY = RouteKey("rtb-a", ip_network("192.168.0.5/32"))
SWAP = SwapGroup(GroupLease("core/a"), "test")
WRITE = WriteRoutes("uid-1", (KEY,), 10.0)


@dataclass
class Scripted:
    """A member that wants what the test says, and remembers what happened."""

    group: str
    surroundings: Surroundings
    wishes: Sequence[Wish] = ()
    renews: bool = False
    follows: str | None = None
    finished: bool = False
    due: float = 1e9
    events: list[Any] = field(default_factory=list)
    questions: int = 0
    on_ask: Callable[[Scripted], None] = lambda _: None
    broken: bool = False

    def on(self, event: Any) -> Scripted:
        if isinstance(event, SurroundingsChanged):
            self.surroundings = event.surroundings
        elif not isinstance(event, Time):
            if self.broken:
                raise ValueError("planted")
            self.events.append(event)
        return self

    def wants(self, now: float) -> tuple[Wish, ...]:
        self.questions += 1
        self.on_ask(self)
        return tuple(self.wishes)

    def next_at(self, now: float) -> float:
        return self.due


class Stage:
    """A driver with its members; ``calls`` are those that were begun and have not ended."""

    def __init__(self, limits: dict[CallKind, int] | None = None) -> None:
        self.now = 100.0
        self.calls: list[Callable[[], None]] = []
        self.sent: list[tuple[str, Wish]] = []
        self.answers: dict[type, CallAnswer] = {}
        self.failures: list[str] = []
        self.renewing: list[bool] = []
        self.looks = 0
        self.breaks = False
        self.has_threads = True
        self.on_begin: Callable[[], None] = lambda: None
        self.driver = Driver(
            Surroundings("n"),
            Lanes(self._begin, limits or dict.fromkeys(CallKind, 16)),
            lambda: self.now,
            DriverHooks(
                call=self._call,
                look=self._look,
                failed_call=lambda *_: CallAnswer(GroupSwapped(self.now, self.now, Swap.UNKNOWN), rest=1.0),
                changed=lambda *_: None,
                renew=self.renewing.append,
                failed=lambda what, _: self.failures.append(what),
            ),
        )

    def member(self, group: str, *wishes: Wish, **fields: Any) -> Scripted:
        member = Scripted(group, self.driver.surroundings, wishes, **fields)
        self.driver.put(member)  # type: ignore[arg-type]
        return member

    def run(self, number: int = 0) -> None:
        """Run a call that was begun, to its end."""
        self.calls.pop(number)()
        self.driver.turn()

    def _begin(self, call: Callable[[], None]) -> None:
        if not self.has_threads:
            raise RuntimeError("can't start new thread")
        self.on_begin()
        self.calls.append(call)

    def _call(self, group: str, wish: Wish) -> Callable[[], CallAnswer]:
        def call() -> CallAnswer:
            if self.breaks:
                raise ValueError("planted")
            return self.answers.get(type(wish), CallAnswer())

        self.sent.append((group, wish))
        return call

    def _look(self) -> None:
        self.looks += 1


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_of_equal_requests_one_is_under_way(stage: Stage) -> None:
    stage.member("core/a", ReadGroup("core/a"))
    for _ in range(3):
        stage.driver.tell_all(CordonSeen(stage.now, cordoned=True))
        stage.driver.tell("core/a", GroupRead(stage.now, stage.now, None))
        stage.driver.turn()
    assert len(stage.calls) == 1
    stage.run()
    assert len(stage.calls) == 1  # it is wanted still, and sent again
    assert len(stage.sent) == 2


@pytest.mark.parametrize("wish", [SWAP, WRITE], ids=["swap", "write"])
def test_a_member_learns_of_a_swap_or_write_before_it_is_sent(stage: Stage, wish: Wish) -> None:
    member = stage.member("core/a", wish)
    learnt: list[list[Any]] = []
    stage.on_begin = lambda: learnt.append(list(member.events))
    stage.driver.turn()
    [[sent]] = learnt
    assert (type(sent), sent.request) == (Sent, wish)


def test_what_is_wanted_no_more_right_before_is_not_sent(stage: Stage) -> None:
    """An answer that came for another wish of the same member may have ended this one."""

    def ask(member: Scripted) -> None:
        member.wishes = [ReadGroup("core/a"), SWAP] if member.questions == 1 else [ReadGroup("core/a")]

    member = stage.member("core/a", on_ask=ask)
    stage.driver.turn()
    assert stage.sent == [("core/a", ReadGroup("core/a"))]
    assert not [event for event in member.events if isinstance(event, Sent)]


@pytest.mark.parametrize("wish", [SWAP, WRITE], ids=["swap", "write"])
def test_what_was_sent_gets_an_answer_whatever_happens(stage: Stage, wish: Wish) -> None:
    member = stage.member("core/a", wish)
    stage.breaks = True
    stage.driver.turn()
    member.wishes = []
    stage.run()
    assert [type(event) for event in member.events] == [Sent, GroupSwapped]
    assert len(stage.failures) == 1


def test_without_a_thread_what_was_announced_gets_an_answer_too(stage: Stage) -> None:
    member = stage.member("core/a", SWAP)
    stage.has_threads = False
    stage.driver.turn()
    assert [type(event) for event in member.events] == [Sent, GroupSwapped]
    stage.has_threads = True
    stage.now += 1.0
    stage.driver.turn()
    assert len(stage.calls) == 1  # and is sent later


def test_a_slow_call_of_one_group_delays_no_other(stage: Stage) -> None:
    stage.member("core/slow", ReadGroup("core/slow"))
    stage.driver.turn()
    other = stage.member("core/quick", ReadGroup("core/quick"))
    stage.driver.turn()
    stage.answers[ReadGroup] = CallAnswer(GroupRead(stage.now, stage.now, None))
    other.wishes = []
    stage.run(1)
    assert [type(event) for event in other.events] == [GroupRead]
    assert len(stage.calls) == 1  # the slow one


def test_what_finds_no_room_is_asked_for_again_when_there_is(stage: Stage) -> None:
    stage = Stage(dict.fromkeys(CallKind, 1))
    first = stage.member("core/a", ReadGroup("core/a"))
    second = stage.member("core/b", ReadGroup("core/b"))
    third = stage.member("core/c", ReadGroup("core/c"))
    stage.driver.turn()
    assert len(stage.calls) == 1
    sent = stage.sent[0][0]
    for member in (first, second, third):
        if member.group == sent:
            member.wishes = []
    waiting = [member for member in (first, second, third) if member.group != sent]
    waiting[0].wishes = []  # meanwhile it wants nothing any more
    stage.run()
    assert [group for group, _ in stage.sent] == [sent, waiting[1].group]


def test_the_pod_of_higher_priority_is_first(stage: Stage) -> None:
    stage = Stage(dict.fromkeys(CallKind, 1))
    low, high = (SwapGroup(GroupLease(f"core/{name}"), "x", priority=n) for n, name in enumerate("lh"))
    stage.member("core/l", low)
    stage.member("core/h", high)
    stage.driver.turn()
    assert stage.sent == [("core/h", high)]


def test_a_call_that_came_to_nothing_rests(stage: Stage) -> None:
    stage.member("core/a", ReadGroup("core/a"))
    stage.answers[ReadGroup] = CallAnswer(rest=0.5)
    stage.driver.turn()
    stage.run()
    for _ in range(3):
        stage.driver.tell_all(CordonSeen(stage.now, cordoned=True))
        stage.driver.turn()
    assert (len(stage.sent), stage.calls) == (1, [])
    stage.now += 0.5
    stage.driver.turn()
    assert len(stage.sent) == 2


def test_one_read_of_a_node_serves_all_who_follow_it(stage: Stage) -> None:
    members = [stage.member(f"core/{n}", ReadNodeLease("x"), follows="x") for n in "ab"]
    stage.driver.turn()
    assert len(stage.calls) == 1
    for member in members:
        member.wishes, member.questions = [], 0
    stage.run()
    assert [member.questions for member in members] == [1, 1]


def test_a_member_that_breaks_stops_no_other(stage: Stage) -> None:
    broken = stage.member("core/a", broken=True)
    sound = stage.member("core/b")
    read = GroupRead(stage.now, stage.now, None)

    def both() -> None:  # as a list of all Leases does
        stage.driver.tell("core/a", read)
        stage.driver.tell("core/b", read)

    stage.driver.post(both)
    stage.driver.turn()
    assert (broken.events, sound.events) == ([], [read])
    assert len(stage.failures) == 1


def test_a_message_that_breaks_loses_no_other(stage: Stage) -> None:
    member = stage.member("core/a")
    read = GroupRead(stage.now, stage.now, None)

    def broken() -> None:
        raise ValueError("planted")

    stage.driver.post(broken)
    stage.driver.post(lambda: stage.driver.tell("core/a", read))
    stage.driver.turn()
    assert member.events == [read]


def test_a_member_decides_by_what_all_share_now(stage: Stage) -> None:
    member = stage.member("core/a")
    stage.driver.turn()
    stage.driver.tell_all(ApiAnswered(stage.now))
    assert member.surroundings.answers.last < stage.now
    stage.driver.tell("core/a", GroupRead(stage.now, stage.now, None))
    assert member.surroundings.answers.last == stage.now


def test_a_member_is_asked_when_its_time_has_come(stage: Stage) -> None:
    member = stage.member("core/a", due=103.0)
    stage.driver.turn()
    questions = member.questions
    stage.now = 102.9
    stage.driver.turn()
    assert member.questions == questions
    stage.now, member.due = 103.0, 200.0
    stage.driver.turn()
    assert member.questions == questions + 1


def test_only_a_look_that_began_after_it_was_wanted_answers(stage: Stage) -> None:
    member = stage.member("core/a", LookAtRoutes("uid-1"))
    stage.driver.turn()
    assert stage.looks == 1
    early = RoutesSeen(stage.now, stage.now - 1, ())
    stage.driver.looked("core/a", early)
    stage.driver.turn()
    assert (stage.looks, member.events) == (1, [early])
    late = RoutesSeen(stage.now, stage.now, ())
    stage.driver.looked("core/a", late)
    stage.driver.turn()
    assert stage.looks == 2  # it is wanted still


def test_a_look_that_never_comes_is_wanted_again(stage: Stage) -> None:
    stage.member("core/a", LookAtRoutes("uid-1"))
    stage.driver.turn()
    stage.now += LOOK_SECONDS
    stage.driver.turn()
    assert stage.looks == 2


def test_it_renews_while_a_member_must(stage: Stage) -> None:
    member = stage.member("core/a", renews=True)
    stage.driver.turn()
    assert stage.renewing[-1]
    member.finished = True
    stage.driver.tell_all(CordonSeen(stage.now, cordoned=True))
    stage.driver.turn()
    stage.driver.turn()
    assert not stage.renewing[-1]
    assert stage.driver.members == {}
