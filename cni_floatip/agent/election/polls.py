"""Reads anew what watches may have missed: all groups, and this node. In a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

BUSY_SECONDS = 8.0
"""How often it reads while this node has a member, which is sooner than the ten seconds that members wait."""
IDLE_SECONDS = 60.0
"""How often it reads else: an ADD is refused what a group elects."""
RETRY_SECONDS = 1.0


class Polls:
    """``run`` is the thread's body. ``read`` reads everything; false: not everything was answered."""

    def __init__(self, read: Callable[[], bool], clock: Callable[[], float]) -> None:
        self._read = read
        self._clock = clock
        self._woken = threading.Event()
        self._seconds = IDLE_SECONDS

    def be_busy(self, busy: bool) -> None:
        """Read often from now on, the first time at once; or seldom."""
        seconds = BUSY_SECONDS if busy else IDLE_SECONDS
        if seconds != self._seconds:
            self._seconds = seconds
            self._woken.set()

    def run(self, stop: threading.Event) -> None:
        """Read until told to stop."""
        while not stop.is_set():
            self._woken.clear()
            is_whole = self._read()
            until = self._clock() + (self._seconds if is_whole else RETRY_SECONDS)
            while not stop.is_set() and self._clock() < until:
                if self._woken.wait(0.5):
                    break
