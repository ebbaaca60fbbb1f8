"""Coalesces EC2 reads (singleflight). A caller that arrives during a read shares the next one.

A read must begin after it was asked for, because an ADD must not rest on data older than itself. So callers
wait for the running read. Then one of them reads for all; if it gives up, another takes over. Questions of
one scope are joined where one answer serves both (``Shareable.joined``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Protocol

from ...model import waiting
from ...model.errors import Ec2Error

GATHER_SECONDS = 0.5
"""A read that takes longer is not waited for: it may hang, on a connection into a zone that has failed."""


class Shareable(Protocol):
    """What a read asks for. ``scope``: only questions of the same scope may share a read."""

    @property
    def scope(self) -> Hashable: ...

    def joined(self, other: Any) -> Any:
        """Return the question whose answer serves both, None where there is none."""


@dataclass(frozen=True, slots=True)
class Same:
    """A question that is joined with itself alone."""

    scope: Hashable

    def joined(self, other: Same) -> Same:  # noqa: ARG002 (the same, as it has the same scope)
        """Return this question."""
        return self


@dataclass(slots=True, eq=False)
class _Call:
    """One read and the callers that share it. ``urgency``: of the caller that is to read, lowest first."""

    question: Any
    urgency: int
    changed: threading.Condition
    callers: int = 0
    has_reader: bool = False
    done: bool = False
    answer: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class _Calls:
    """All reads of one scope: those that callers may still join, and those that run."""

    gathering: list[_Call] = field(default_factory=list)
    under_way: list[_Call] = field(default_factory=list)


class SingleFlight:
    """Coalesces reads. For many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[Hashable, _Calls] = {}

    def do(
        self,
        question: Shareable,
        urgency: int,
        cancelled: Callable[[], str | None],
        turn: Callable[[], Any],
        read: Callable[[Any, Any], Any],
        left: Callable[[], float] = lambda: waiting.STEP_SECONDS,
    ) -> Any:
        """Return what ``read`` returns to this caller, or to another that asked in time.

        ``turn`` waits for permission to read, while others still join; ``read`` gets its result, and the
        question of all that joined. A read for less urgent callers is not joined, because it waits longer.
        Raises what they raise, TryAgain when ``cancelled`` gives a reason, TimeoutError when no time is
        ``left`` (in seconds) to wait for another's read.
        """
        with self._lock:
            flight = self._join(question, urgency)

        def attempt() -> bool | waiting.Later:
            """Say whether the read has ended; if nobody is to do it, become its reader."""
            if flight.done:
                return True
            if flight.has_reader:
                return waiting.Later()
            flight.has_reader = True
            return False

        try:
            if waiting.wait_for(flight.changed, attempt, left, waiting.unless(cancelled)):
                return _result_of(flight)
            token = self._begin_read(flight, turn)
            try:
                flight.answer = read(token, flight.question)
            except BaseException as e:  # whatever it is, the other callers get it too
                flight.error = e
                raise
            finally:
                self._finish_read(flight)
            return flight.answer
        finally:
            with self._lock:
                self._leave(flight)

    def wake(self) -> None:
        """Make every waiting caller check again whether to give up."""
        with self._lock:
            for route in self._calls.values():
                for flight in [*route.gathering, *route.under_way]:
                    flight.changed.notify_all()

    def _join(self, question: Shareable, urgency: int) -> _Call:
        """Join a read that has not begun, or start one. Less urgent callers join, but do not widen it."""
        route = self._calls.setdefault(question.scope, _Calls())
        for flight in route.gathering:
            both = flight.question.joined(question) if flight.urgency <= urgency else None
            if both is not None and (both == flight.question or flight.urgency == urgency):
                flight.question = both
                break
        else:
            flight = _Call(question, urgency, threading.Condition(self._lock))
            route.gathering.append(flight)
        flight.callers += 1
        return flight

    def _leave(self, flight: _Call) -> None:
        flight.callers -= 1
        scope = flight.question.scope
        route = self._calls.get(scope)
        if route and not flight.callers and flight in route.gathering:
            route.gathering.remove(flight)
        if route and not route.gathering and not route.under_way:
            del self._calls[scope]

    def __len__(self) -> int:
        return len(self._calls)

    def _begin_read(self, flight: _Call, turn: Callable[[], Any]) -> Any:
        """Wait for permission to read and return it; from then on nobody joins."""
        scope = flight.question.scope
        try:
            with self._lock:
                self._wait_for_running(scope)
            token = turn()
        except BaseException:  # whatever it is, it ends this caller's turn only
            with self._lock:
                flight.has_reader = False  # another caller, if any, becomes the reader
                flight.changed.notify_all()
            raise
        with self._lock:
            route = self._calls[scope]
            route.gathering.remove(flight)
            route.under_way.append(flight)
        return token

    def _finish_read(self, flight: _Call) -> None:
        with self._lock:
            flight.done = True
            flight.changed.notify_all()
            self._calls[flight.question.scope].under_way.remove(flight)

    def _wait_for_running(self, scope: Hashable) -> None:
        """Wait for the running read, so that more callers join the next; but not for a read that hangs."""
        under_way = list(self._calls[scope].under_way)
        if under_way:
            under_way[-1].changed.wait_for(lambda: under_way[-1].done, GATHER_SECONDS)


def _result_of(flight: _Call) -> Any:
    """Return the answer of the read, or raise its error: each caller gets an exception of its own."""
    error = flight.error
    if error is None:
        return flight.answer
    if isinstance(error, Ec2Error):
        raise Ec2Error(error.fault, error.action, error.code, error.message) from error
    raise error
