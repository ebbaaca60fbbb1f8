"""Equal reads are folded: never with one that began before it was asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from cni_floatip.agent.ec2.singleflight import GATHER_SECONDS, Same, SingleFlight
from cni_floatip.model.errors import Ec2Error, Ec2Fault, TryAgain
from tests.support.waiting import until

QUESTION = Same("question")


@dataclass(frozen=True)
class Some:
    """A question for some of a VPC's tables: two are joined if one asks for the other's, or both for two."""

    tables: frozenset[str]
    scope: str = QUESTION.scope  # type: ignore[assignment]

    def joined(self, other: Some) -> Some | None:
        both = Some(self.tables | other.tables)
        return both if len(both.tables) <= 2 or both in (self, other) else None


def some(tables: str) -> Some:
    return Some(frozenset(tables))


class Reader:
    """A read that takes until it is let go, and says the when of its begin."""

    def __init__(self) -> None:
        self.began: list[float] = []
        self.questions: list[object] = []
        self.free = threading.Event()
        self.error: Exception | None = None
        self._lock = threading.Lock()

    def __call__(self, _leave: object, question: object) -> float:
        with self._lock:
            began = time.monotonic()
            self.began.append(began)
            self.questions.append(question)
        self.free.wait(60)
        if self.error:
            raise self.error
        return began


@pytest.fixture
def flights() -> Iterator[SingleFlight]:
    flight = SingleFlight()
    yield flight
    assert not len(flight)


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks later has all the time to do so."""
    monkeypatch.setattr("cni_floatip.agent.ec2.singleflight.GATHER_SECONDS", 60)


class Asking(threading.Thread):
    """A thread that asks; when it did, and what came of it."""

    def __init__(self, ask: Callable[[], object]) -> None:
        super().__init__()
        self._ask = ask
        self.asked = 0.0
        self.answer: Any = None

    def run(self) -> None:
        self.asked = time.monotonic()
        try:
            self.answer = self._ask()
        except Exception as e:  # noqa: BLE001 (looked at by the test)
            self.answer = e


def going(
    flights: SingleFlight,
    reader: Reader,
    urgency: int = 0,
    stop: Callable[..., Any] = lambda: None,
    turn: Callable[..., Any] = lambda: None,
    question: Any = QUESTION,
) -> Asking:
    """Ask in a thread; return it."""
    thread = Asking(lambda: flights.do(question, urgency, stop, turn, reader))
    thread.start()
    return thread


def aboard(flights: SingleFlight) -> int:
    """Return how many have asked and have no answer yet."""
    route = flights._calls[QUESTION.scope]
    return sum(flight.callers for flight in (*route.gathering, *route.under_way))


def going_meanwhile(flights: SingleFlight, reader: Reader, number: int) -> tuple[Asking, list[Asking]]:
    """Ask once, then so often while that read is under way; return the threads, which have ended."""
    first = going(flights, reader)
    until(lambda: reader.began)
    later = [going(flights, reader) for _ in range(number)]
    until(lambda: aboard(flights) == 1 + number)
    reader.free.set()
    for thread in (first, *later):
        thread.join()
    return first, later


@pytest.mark.usefixtures("patient")
def test_who_asks_while_a_read_is_under_way_shares_the_next(flights: SingleFlight, reader: Reader) -> None:
    first, later = going_meanwhile(flights, reader, 20)
    assert len(reader.began) == 2
    assert first.answer == reader.began[0]
    assert all(thread.answer == reader.began[1] >= thread.asked for thread in later)


def test_read_that_hangs_is_not_waited_for(flights: SingleFlight, reader: Reader) -> None:
    first = going(flights, reader)
    until(lambda: reader.began)
    second = going(flights, reader)
    until(lambda: len(reader.began) == 2)
    assert reader.began[1] - reader.began[0] >= GATHER_SECONDS * 0.9
    reader.free.set()
    first.join()
    second.join()


@pytest.mark.usefixtures("patient")
def test_failure_is_everybodys_and_each_has_its_own(flights: SingleFlight, reader: Reader) -> None:
    reader.error = Ec2Error(Ec2Fault.DENIED, "DescribeRouteTables", "UnauthorizedOperation", "no")
    _, later = going_meanwhile(flights, reader, 3)
    assert len(reader.began) == 2
    errors = [thread.answer for thread in later]
    assert [str(e) for e in errors] == [str(reader.error)] * 3
    assert all(e.fault is Ec2Fault.DENIED for e in errors)
    assert len({id(e) for e in errors}) == 3


def test_who_gives_up_leaves_the_flight_to_another(flights: SingleFlight, reader: Reader) -> None:
    reader.free.set()
    over, waits = threading.Event(), threading.Event()

    def turn_that_ends() -> None:
        waits.set()
        over.wait(60)
        raise TryAgain("stopped: gone")

    first = going(flights, reader, turn=turn_that_ends)
    waits.wait(60)
    others = [going(flights, reader) for _ in range(3)]
    until(lambda: aboard(flights) == 4)
    over.set()
    for thread in (first, *others):
        thread.join()
    assert str(first.answer) == "stopped: gone"
    assert len(reader.began) == 1
    assert [thread.answer for thread in others] == reader.began * 3


def test_urgent_one_does_not_wait_with_those_who_have_time(flights: SingleFlight, reader: Reader) -> None:
    reader.free.set()
    patient, waits = threading.Event(), threading.Event()

    def slow_turn() -> None:
        waits.set()
        patient.wait(60)

    keeper = going(flights, reader, urgency=1, turn=slow_turn)
    waits.wait(60)
    add = going(flights, reader, urgency=0)
    add.join(60)
    assert add.answer == reader.began[0]
    patient.set()
    keeper.join()
    assert len(reader.began) == 2


def test_who_waits_for_others_is_told_to_stop(flights: SingleFlight, reader: Reader) -> None:
    first = going(flights, reader)
    until(lambda: reader.began)
    second = going(flights, reader)
    until(lambda: len(reader.began) == 2)  # the second hangs too, and is the one to join no more
    over = threading.Event()
    blocked = going(flights, reader, turn=lambda: over.wait(60))
    until(lambda: aboard(flights) == 3)
    third = going(flights, reader, stop=lambda: "over" if over.is_set() else "")
    until(lambda: aboard(flights) == 4)
    over.set()
    flights.wake()
    third.join(60)
    assert isinstance(third.answer, TryAgain)
    reader.free.set()
    for thread in (first, second, blocked):
        thread.join()


@pytest.mark.usefixtures("patient")
def test_questions_that_one_answer_serves_share_the_next_read(flights: SingleFlight, reader: Reader) -> None:
    """Not the running one, also where its answer holds everything: it began before they were asked."""
    first = going(flights, reader, question=some("ab"))
    until(lambda: reader.began)
    later = [going(flights, reader, question=some(tables)) for tables in ("a", "b", "ab")]
    until(lambda: aboard(flights) == 4)
    apart = going(flights, reader, question=some("cd"))
    until(lambda: aboard(flights) == 5)
    reader.free.set()
    for thread in (first, *later, apart):
        thread.join()
    assert sorted(reader.questions[1:], key=str) == sorted((some("ab"), some("cd")), key=str)
    assert reader.questions[0] == some("ab")
    assert all(thread.answer > first.answer for thread in (*later, apart))
    assert len({thread.answer for thread in later}) == 1


@pytest.mark.parametrize(("tables", "reads"), [("b", ["a", "b"]), ("a", ["a"])])
def test_less_urgent_one_joins_and_does_not_widen(
    flights: SingleFlight, reader: Reader, tables: str, reads: list[str]
) -> None:
    """Else an ADD would read all tables of the VPC for a keeper that has time."""
    reader.free.set()
    gathering, waits = threading.Event(), threading.Event()

    def turn() -> None:
        waits.set()
        gathering.wait(60)

    add = going(flights, reader, urgency=0, turn=turn, question=some("a"))
    waits.wait(60)
    keeper = going(flights, reader, urgency=1, question=some(tables))
    if tables == "b":
        keeper.join(60)
    else:
        until(lambda: aboard(flights) == 2)
    gathering.set()
    for thread in (add, keeper):
        thread.join()
    assert sorted(reader.questions, key=str) == sorted(map(some, reads), key=str)
