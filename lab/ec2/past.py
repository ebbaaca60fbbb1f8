"""Old views, for reads that answer with what was."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from lab.ec2.views import View

KEPT = 600.0  # seconds


class Past:
    """What EC2 held, by the time it began to. Not thread-safe: SimulatedEC2 holds its lock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._views: deque[tuple[float, View]] = deque()

    def remember(self, view: View) -> None:
        """Note that this is what EC2 holds from now on."""
        now = self._clock()
        self._views.append((now, view))
        while len(self._views) > 1 and self._views[1][0] < now - KEPT:
            self._views.popleft()

    def forget(self) -> None:
        """Begin anew."""
        self._views.clear()

    def ago(self, seconds: float) -> View | None:
        """Return what EC2 held then, or the oldest view there is."""
        then = self._clock() - seconds
        older = [view for at, view in self._views if at <= then]
        return older[-1] if older else self._views[0][1] if self._views else None

    def __bool__(self) -> bool:
        return bool(self._views)
