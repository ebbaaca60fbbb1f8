"""What was asked of the simulated EC2 and what came of it, in the order of arrival."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """One call over HTTP. ``outcome``: ``ok``, an error code, or in angle brackets what the lab did to it.

    ``program``: what the caller says it is (User-Agent). ``answered``: time.monotonic() just before the
    answer is sent, or the connection closed. All processes of a machine share that clock.
    """

    at: float
    caller: str
    action: str
    params: Mapping[str, Any]
    outcome: str
    seconds: float = 0.0
    account: str = ""
    program: str = ""
    answered: float = 0.0

    def __str__(self) -> str:
        where = " ".join(str(value) for value in self.params.values())
        return f"{self.caller} {self.action} {where}: {self.outcome}"


class Journal:
    """A list of calls that may be read while it grows. ``at`` is time.time() of arrival."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Call] = []

    def add(self, call: Call) -> None:
        """Write one call down."""
        with self._lock:
            self._calls.append(call)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._calls.clear()

    def of(self, action: str | None = None, caller: str | None = None) -> list[Call]:
        """Return the calls of one action, of one caller, or of one caller's one action."""
        return [
            call
            for call in self
            if (action is None or call.action == action) and (caller is None or call.caller == caller)
        ]

    def __iter__(self) -> Iterator[Call]:
        with self._lock:
            return iter(list(self._calls))

    def __len__(self) -> int:
        return len(self._calls)

    def __str__(self) -> str:
        return "\n".join(str(call) for call in self)
