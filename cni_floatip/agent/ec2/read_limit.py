"""Bounds how many answers with route tables are in memory at once, because one may be of ten megabytes."""

from __future__ import annotations

import threading
from bisect import insort
from collections.abc import Callable
from itertools import count

from ...model import waiting

AT_ONCE = 2
"""One may hang, on a connection into a zone that has failed; then the other goes on."""
ROUND = 5
"""Of so many reads the last is of the caller that has waited longest: else a stream of ADDs, of which one
always waits where reads last long, would keep the keeper from looking at all.
"""


class ReadLimit:
    """Lets ``at_once`` reads run, the most urgent first, then in the order of arrival. For many threads.

    Every ``ROUND``th is the first to arrive, however urgent others are.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._free = at_once
        self._begun = 0
        self._changed = threading.Condition()
        self._waiting: list[tuple[int, int]] = []
        self._numbers = count()

    def acquire(self, urgency: int, cancelled: Callable[[], str | None], left: Callable[[], float]) -> None:
        """Wait until a read may run. Raises TryAgain when ``cancelled`` gives a reason, TimeoutError when no
        time is ``left`` (in seconds).
        """
        place = urgency, next(self._numbers)
        with self._changed:
            insort(self._waiting, place)

        def attempt() -> waiting.Later | None:
            if not self._free or self._next() != place:
                return waiting.Later()
            self._free -= 1
            self._begun += 1
            return None

        try:
            waiting.wait_for(self._changed, attempt, left, waiting.unless(cancelled))
        finally:
            with self._changed:
                self._waiting.remove(place)
                self._changed.notify_all()

    def _next(self) -> tuple[int, int]:
        """Return the place of the caller that reads next."""
        longest = self._begun % ROUND == ROUND - 1
        return min(self._waiting, key=lambda place: place[1]) if longest else self._waiting[0]

    def release(self) -> None:
        """Let the next read run."""
        with self._changed:
            self._free += 1
            self._changed.notify_all()

    def wake(self) -> None:
        """Make every waiting caller check again whether to give up."""
        with self._changed:
            self._changed.notify_all()

    def __len__(self) -> int:
        """Return how many callers wait."""
        return len(self._waiting)
