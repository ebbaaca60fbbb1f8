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
class _Flight:
    """One read and those who gathered for it. ``urgency``: of who is to fly, lowest first."""

    urgency: int
    changed: threading.Condition
    aboard: int = 0
    has_pilot: bool = False
    landed: bool = False
    answer: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class _Route:
    """All flights of one question: those that gather, those under way."""

    gathering: list[_Flight] = field(default_factory=list)
    under_way: list[_Flight] = field(default_factory=list)


class Flights:
    """Reads that are shared. For many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._routes: dict[Hashable, _Route] = {}

    def ask(
        self,
        question: Hashable,
        urgency: int,
        stop: Callable[[], str | None],
        turn: Callable[[], Any],
        read: Callable[[Any], Any],
        left: Callable[[], float] = lambda: waiting.STEP_SECONDS,
    ) -> Any:
        """Return what ``read`` returns to this caller or to another who asked the same in time.

        ``turn`` waits for leave to read, while others still join; ``read`` gets what it returned. A flight
        for less urgent callers is not joined: it would wait as they do. Raises what they raise, TryAgain when
        ``stop`` says why, TimeoutError when no time is ``left`` (in seconds) to wait for another's read.
        """
        with self._lock:
            flight = self._join(question, urgency)

        def attempt() -> bool | waiting.Later:
            """Say whether the flight has landed; else become its pilot, unless it has one."""
            if flight.landed:
                return True
            if flight.has_pilot:
                return waiting.Later()
            flight.has_pilot = True
            return False

        try:
            if waiting.wait_for(flight.changed, attempt, left, waiting.unless(stop)):
                return _landed(flight)
            token = self._take_off(question, flight, turn)
            try:
                flight.answer = read(token)
            except BaseException as e:
                flight.error = e
                raise
            finally:
                self._land(question, flight)
            return flight.answer
        finally:
            with self._lock:
                self._leave(question, flight)

    def wake(self) -> None:
        """Let everybody who waits ask again whether to give up."""
        with self._lock:
            for route in self._routes.values():
                for flight in [*route.gathering, *route.under_way]:
                    flight.changed.notify_all()

    def _join(self, question: Hashable, urgency: int) -> _Flight:
        route = self._routes.setdefault(question, _Route())
        joinable = (flight for flight in route.gathering if flight.urgency <= urgency)
        flight = next(joinable, None)
        if flight is None:
            flight = _Flight(urgency, threading.Condition(self._lock))
            route.gathering.append(flight)
        flight.aboard += 1
        return flight

    def _leave(self, question: Hashable, flight: _Flight) -> None:
        flight.aboard -= 1
        route = self._routes.get(question)
        if route and not flight.aboard and flight in route.gathering:
            route.gathering.remove(flight)
        if route and not route.gathering and not route.under_way:
            del self._routes[question]

    def __len__(self) -> int:
        return len(self._routes)

    def _take_off(self, question: Hashable, flight: _Flight, turn: Callable[[], Any]) -> Any:
        """Wait for leave to read and return it; from then on nobody joins."""
        try:
            with self._lock:
                self._let_others_land(question)
            token = turn()
        except BaseException:
            with self._lock:
                flight.has_pilot = False  # the others, if any, find another
                flight.changed.notify_all()
            raise
        with self._lock:
            route = self._routes[question]
            route.gathering.remove(flight)
            route.under_way.append(flight)
        return token

    def _land(self, question: Hashable, flight: _Flight) -> None:
        with self._lock:
            flight.landed = True
            flight.changed.notify_all()
            self._routes[question].under_way.remove(flight)

    def _let_others_land(self, question: Hashable) -> None:
        """Wait for the read under way, so that more callers gather; not for one that hangs."""
        under_way = list(self._routes[question].under_way)
        if under_way:
            under_way[-1].changed.wait_for(lambda: under_way[-1].landed, GATHER_SECONDS)


def _landed(flight: _Flight) -> Any:
    """Return or raise what the flight brought, each caller an exception of its own."""
    error = flight.error
    if error is None:
        return flight.answer
    if isinstance(error, Ec2Error):
        raise Ec2Error(error.fault, error.action, error.code, error.message) from error
    raise error
