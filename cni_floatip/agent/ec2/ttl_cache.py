"""A bounded cache of EC2's answers, with the times at which they were asked for."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Any

MOST_KEPT = 1024


class TtlCache:
    """At most ``MOST_KEPT`` answers. For many threads."""

    def __init__(self) -> None:
        self._answers: dict[Hashable, tuple[Any, float]] = {}
        self._lock = threading.Lock()

    def get(self, question: Hashable, since: float) -> tuple[Any, float] | None:
        """Return the answer and when it was asked for, unless that was before ``since``."""
        with self._lock:
            known = self._answers.get(question)
            if known and known[1] < since:
                del self._answers[question]
                return None
            return known

    def put(self, question: Hashable, answer: Any, asked_at: float) -> None:
        """Keep ``answer``, unless a newer one is there; the oldest makes room for it."""
        with self._lock:
            known = self._answers.pop(question, None)
            if known and known[1] > asked_at:
                answer, asked_at = known
            if len(self._answers) >= MOST_KEPT:
                del self._answers[next(iter(self._answers))]
            self._answers[question] = answer, asked_at

    def forget(self, question: Hashable) -> None:
        """Keep no answer to ``question``."""
        with self._lock:
            self._answers.pop(question, None)
