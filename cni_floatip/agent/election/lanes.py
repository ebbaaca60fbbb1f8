"""Runs calls in threads, at most so many of a kind at once: a kind that is slow delays no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum


class CallKind(Enum):
    """What a call waits for."""

    API = "Kubernetes"
    TURN = "EC2's request rate"
    WRITE = "EC2"
    DISK = "the disk"
    PROBE = "another host"
    EVENT = "Events"


LIMITS: Mapping[CallKind, int] = {
    CallKind.API: 16,
    CallKind.TURN: 16,
    CallKind.WRITE: 16,
    CallKind.DISK: 4,
    CallKind.PROBE: 16,
    CallKind.EVENT: 2,
}
"""How many calls of a kind run at once. A call to Kubernetes takes a second at most, a probe less."""


class Lanes:
    """Counts the calls that run, for one thread. ``run_in_thread`` raises RuntimeError without a thread."""

    def __init__(
        self,
        run_in_thread: Callable[[Callable[[], None]], None],
        limits: Mapping[CallKind, int] = LIMITS,
    ) -> None:
        self._run_in_thread = run_in_thread
        self._free = dict(limits)
        self._waiting: dict[CallKind, set[str]] = {kind: set() for kind in limits}

    def has_room(self, kind: CallKind) -> bool:
        """Whether another call of a kind may begin."""
        return self._free[kind] > 0

    def await_room(self, kind: CallKind, group: str) -> None:
        """Remember who wants to begin a call as soon as one has ended."""
        self._waiting[kind].add(group)

    def begin(self, kind: CallKind, call: Callable[[], None]) -> None:
        """Run ``call`` in a thread; ``end`` must follow. Raises RuntimeError where no thread is to be had."""
        self._run_in_thread(call)
        self._free[kind] -= 1

    def end(self, kind: CallKind) -> set[str]:
        """Note that a call has ended; return who waits for room."""
        self._free[kind] += 1
        waiting, self._waiting[kind] = self._waiting[kind], set()
        return waiting
