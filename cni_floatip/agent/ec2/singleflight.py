"""Folding equal reads into one: who asks while a read is under way shares the next one, never that one.

A read must have begun after it was asked for: what an ADD rests on may not be older than the ADD. So callers
gather until the read under way has come back, then one of them flies for all. Whoever was to fly and gives
up leaves the flight to another of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from ...model import waiting
from ...model.errors import Ec2Error

GATHER_SECONDS = 0.5
"""A read that takes longer is not waited for: it may hang, with a connection that an AZ took along."""


@dataclass(slots=True, eq=False)
class _Call:
    """One read and those who gathered for it. ``urgency``: of who is to fly, lowest first."""

    urgency: int
    changed: threading.Condition
    callers: int = 0
    has_reader: bool = False
    done: bool = False
    answer: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class _Calls:
    """All flights of one question: those that gather, those under way."""

    gathering: list[_Call] = field(default_factory=list)
    under_way: list[_Call] = field(default_factory=list)


class SingleFlight:
    """Reads that are shared. For many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[Hashable, _Calls] = {}

    def do(
        self,
        question: Hashable,
        urgency: int,
        cancelled: Callable[[], str | None],
        turn: Callable[[], Any],
        read: Callable[[Any], Any],
        left: Callable[[], float] = lambda: waiting.STEP_SECONDS,
    ) -> Any:
        """Return what ``read`` returns to this caller or to another who asked the same in time.

        ``turn`` waits for leave to read, while others still join; ``read`` gets what it returned. A flight
        for less urgent callers is not joined: it would wait as they do. Raises what they raise, TryAgain when
        ``cancelled`` says why, TimeoutError when no time is ``left`` (in seconds) to wait for another's read.
        """
        with self._lock:
            flight = self._join(question, urgency)

        def attempt() -> bool | waiting.Later:
            """Say whether the flight has landed; else become its pilot, unless it has one."""
            if flight.done:
                return True
            if flight.has_reader:
                return waiting.Later()
            flight.has_reader = True
            return False

        try:
            if waiting.wait_for(flight.changed, attempt, left, waiting.unless(cancelled)):
                return _result_of(flight)
            token = self._begin_read(question, flight, turn)
            try:
                flight.answer = read(token)
            except BaseException as e:
                flight.error = e
                raise
            finally:
                self._finish_read(question, flight)
            return flight.answer
        finally:
            with self._lock:
                self._leave(question, flight)

    def wake(self) -> None:
        """Let everybody who waits ask again whether to give up."""
        with self._lock:
            for route in self._calls.values():
                for flight in [*route.gathering, *route.under_way]:
                    flight.changed.notify_all()

    def _join(self, question: Hashable, urgency: int) -> _Call:
        route = self._calls.setdefault(question, _Calls())
        joinable = (flight for flight in route.gathering if flight.urgency <= urgency)
        flight = next(joinable, None)
        if flight is None:
            flight = _Call(urgency, threading.Condition(self._lock))
            route.gathering.append(flight)
        flight.callers += 1
        return flight

    def _leave(self, question: Hashable, flight: _Call) -> None:
        flight.callers -= 1
        route = self._calls.get(question)
        if route and not flight.callers and flight in route.gathering:
            route.gathering.remove(flight)
        if route and not route.gathering and not route.under_way:
            del self._calls[question]

    def __len__(self) -> int:
        return len(self._calls)

    def _begin_read(self, question: Hashable, flight: _Call, turn: Callable[[], Any]) -> Any:
        """Wait for leave to read and return it; from then on nobody joins."""
        try:
            with self._lock:
                self._wait_for_running(question)
            token = turn()
        except BaseException:
            with self._lock:
                flight.has_reader = False  # the others, if any, find another
                flight.changed.notify_all()
            raise
        with self._lock:
            route = self._calls[question]
            route.gathering.remove(flight)
            route.under_way.append(flight)
        return token

    def _finish_read(self, question: Hashable, flight: _Call) -> None:
        with self._lock:
            flight.done = True
            flight.changed.notify_all()
            self._calls[question].under_way.remove(flight)

    def _wait_for_running(self, question: Hashable) -> None:
        """Wait for the read under way, so that more callers gather; not for one that hangs."""
        under_way = list(self._calls[question].under_way)
        if under_way:
            under_way[-1].changed.wait_for(lambda: under_way[-1].done, GATHER_SECONDS)


def _result_of(flight: _Call) -> Any:
    """Return or raise what the flight brought, each caller an exception of its own."""
    error = flight.error
    if error is None:
        return flight.answer
    if isinstance(error, Ec2Error):
        raise Ec2Error(error.fault, error.action, error.code, error.message) from error
    raise error
