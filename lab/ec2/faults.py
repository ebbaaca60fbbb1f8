"""What can go wrong between a node and EC2, switchable at any time; everything is off at first."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from lab.ec2.refusal import Refusal
from lab.ec2.throttle import Buckets

DEFAULT_QUOTA = 50
"""Routes per table and family ("Amazon VPC quotas", before AWS raised the default to 500 in June 2025)."""


SILENCE = 60.0
HELD_SECONDS = 600.0
"""A call that nobody lets go."""


@dataclass
class Armed:
    """One fault that waits for its call."""

    kind: str
    action: str
    caller: str | None
    left: int | None
    seconds: float = 0.0
    refusal: Refusal | None = None
    late: bool = False

    def meets(self, kind: str, action: str, caller: str) -> bool:
        """Say whether this is the call."""
        mine = self.caller is None or self.caller == caller
        return self.kind == kind and mine and self.left != 0 and fnmatchcase(action, self.action)


@dataclass(frozen=True, slots=True)
class Switches:
    """What is on: which callers are throttled, and how old reads may be."""

    throttled: frozenset[str | None] = frozenset()
    stale_seconds: float = 0.0
    stale_probability: float = 1.0
    stale_caller: str | None = None
    route_quota: int = DEFAULT_QUOTA
    clock_ahead: float = 0.0


class Faults:
    """The switches. ``caller=None`` means every caller; an ``action`` may hold wildcards ("*Route")."""

    def __init__(self, seed: int = 0, changed: Callable[[], None] = lambda: None) -> None:
        self._lock = threading.Lock()
        self._changed = changed
        self._random = random.Random(seed)  # noqa: S311 - which read is stale is no secret
        self._wake = threading.Event()
        self._waiting = 0
        self._armed: list[Armed] = []
        self._cut: dict[str, bool] = {}
        self.switches = Switches()
        self.buckets = Buckets()

    def clear(self) -> None:
        """Switch everything off, heal every cut, fill the buckets, let go of what hangs."""
        with self._lock:
            self._armed = []
            self._cut = {}
            self.switches = Switches()
            self.buckets = Buckets()
        self._let_go()
        self._changed()

    def throttle(self, on: bool = True, *, caller: str | None = None) -> None:
        """Hold calls to AWS's published rates: RequestLimitExceeded, HTTP 503."""
        throttled = self.switches.throttled
        self._switch(throttled=throttled | {caller} if on else throttled - {caller})

    def stale_reads(self, seconds: float, probability: float = 1.0, *, caller: str | None = None) -> None:
        """Let reads show a state up to ``seconds`` old, each of its own age: EC2 is eventually consistent
        ("Eventual consistency", Amazon EC2 Developer Guide)."""
        self._switch(stale_seconds=seconds, stale_probability=probability, stale_caller=caller)
        self._changed()

    def route_quota(self, n: int) -> None:
        """Set how many routes of a family a route table takes."""
        self._switch(route_quota=n)

    def clock(self, ahead: float) -> None:
        """Put EC2's clock ahead of the nodes' (or behind): the Date of its answers shows it. From 5 minutes
        on it refuses what they sign (RequestExpired; "Error codes", Amazon EC2 API Reference)."""
        self._switch(clock_ahead=ahead)

    def latency(self, seconds: float, action: str = "*", *, caller: str | None = None) -> None:
        """Make calls take longer; a later setting for the same action and caller replaces it, 0 ends it."""
        with self._lock:
            self._armed = [
                a for a in self._armed if (a.kind, a.action, a.caller) != ("latency", action, caller)
            ]
            self._armed[:0] = [Armed("latency", action, caller, None, seconds)] if seconds else []

    def hold(self, action: str = "*", *, caller: str | None = None) -> None:
        """Keep calls waiting until ``clear``; then they are carried out."""
        self.latency(HELD_SECONDS, action, caller=caller)

    @property
    def held(self) -> int:
        """How many calls wait now: for the end of a latency, of a hang, or of being held."""
        with self._lock:
            return self._waiting

    def error(
        self,
        action: str,
        code: str,
        message: str = "",
        times: int | None = 1,
        status: int | None = None,
        *,
        caller: str | None = None,
    ) -> None:
        """Refuse calls before they are applied; ``times=None``: until cleared. The code sets the status."""
        self._arm(Armed("error", action, caller, times, refusal=Refusal(code, message, status)))

    def lose_answer(self, action: str, times: int | None = 1, *, caller: str | None = None) -> None:
        """Apply calls, then close the connection with no answer."""
        self._arm(Armed("lose_answer", action, caller, times))

    def lose_request(self, action: str, times: int | None = 1, *, caller: str | None = None) -> None:
        """Close the connection; nothing is applied."""
        self._arm(Armed("lose_request", action, caller, times))

    def hang(
        self,
        action: str,
        seconds: float,
        times: int | None = 1,
        *,
        late: bool = False,
        caller: str | None = None,
    ) -> None:
        """Hold connections open for ``seconds``, then close them. ``late``: the call is applied at the end,
        when the client has long given up."""
        self._arm(Armed("hang", action, caller, times, seconds, late=late))

    def cut(self, caller: str, *, silent: bool = False) -> None:
        """Cut a node off: its connections break, new ones are refused (``silent``: are never answered)."""
        with self._lock:
            self._cut[caller] = silent
        self._changed()

    def heal(self, caller: str) -> None:
        """Undo ``cut``."""
        with self._lock:
            self._cut.pop(caller, None)
        self._let_go()
        self._changed()

    def spent(self, kind: str) -> bool:
        """Say whether calls have met every fault of a kind that was armed for a number of them."""
        with self._lock:
            return not any(armed.left for armed in self._armed if armed.kind == kind)

    # What the server asks.

    def cut_off(self, caller: str) -> bool:
        """Say whether a caller is cut off."""
        return caller in self._cut

    def refuses(self, caller: str) -> bool:
        """Say whether a caller's connections are refused, not only left without an answer."""
        return self._cut.get(caller) is False

    def take(self, kind: str, action: str, caller: str) -> Armed | None:
        """Return the first armed fault of a kind that meets this call, and count it down."""
        with self._lock:
            for armed in self._armed:
                if armed.meets(kind, action, caller):
                    if armed.left is not None:
                        armed.left -= 1
                    return armed
        return None

    def wait(self, seconds: float) -> None:
        """Sleep, but not past ``clear`` or ``heal``."""
        with self._lock:
            wake = self._wake
            self._waiting += 1
        wake.wait(seconds)
        with self._lock:
            self._waiting -= 1

    def wait_while_cut(self, caller: str) -> None:
        """Keep a call waiting while its caller is cut off in silence, for a minute at most."""
        until = time.monotonic() + SILENCE
        while self._cut.get(caller) and time.monotonic() < until:
            self._wake.wait(max(0.0, until - time.monotonic()))

    def throttles(self, caller: str, account: str, action: str, params: Mapping[str, Any]) -> bool:
        """Take a token, if this caller is throttled at all; true when there is none."""
        if not self.switches.throttled & {None, caller}:
            return False
        return not self.buckets.take(account, action, params)

    def age(self, caller: str) -> float:
        """Return how old a state this read is to show."""
        now = self.switches
        if not now.stale_seconds or now.stale_caller not in (None, caller):
            return 0.0
        with self._lock:
            if self._random.random() >= now.stale_probability:
                return 0.0
            return self._random.uniform(0, now.stale_seconds)

    def _arm(self, armed: Armed) -> None:
        with self._lock:
            self._armed.append(armed)

    def _let_go(self) -> None:
        """Wake every call that waits."""
        with self._lock:
            held, self._wake = self._wake, threading.Event()
        held.set()

    def _switch(self, **changes: Any) -> None:
        with self._lock:
            kept = {name: getattr(self.switches, name) for name in Switches.__slots__}
            self.switches = Switches(**{**kept, **changes})
