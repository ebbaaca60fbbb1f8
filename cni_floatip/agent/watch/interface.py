"""One watched interface: the addresses already handled, the next look, and the messages already logged.

Nothing here waits or reads a clock: every method is told the time (seconds of one steady clock).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from ...config.nodeconf import WatchLimits
from ...model import cidr
from ...model.values import Address, Attachment, Network, host_route
from ...operations.sync_addresses import SyncResult, WatchRequest

BUSY_SECONDS = 0.2
"""When to look again while the attachment's own call, or the keeper, is at work."""
FIRST_FAILED_SECONDS, LONGEST_FAILED_SECONDS = 1.0, 60.0
"""When to retry a failure that may pass; doubles."""
IDLE_SECONDS = 0.25
"""The least pause after a look that found nothing to do, because events can be a flood."""
REFUSED_SECONDS = 300.0
"""When to judge a final refusal again, because an operator may have made room."""
TOLD_SECONDS = 60.0
"""How long a message about an address that is gone is remembered at least."""
MOST_TOLD = 16
"""For how many addresses of an interface messages are logged, until one of them is gone and forgotten."""
OVERRUN_SECONDS = 1.0
"""No two looks because of lost events are closer than this."""


class Allowance:
    """How many changes an interface may still make: a burst, then one per ``seconds_per_change``.

    A pod that flaps must not drain the account's request rate, nor wear out the disk.
    """

    def __init__(self, limits: WatchLimits, now: float) -> None:
        self._limits = limits
        self._changes = float(limits.burst)
        self._at = now

    def take(self, wanted: int, now: float) -> int:
        """Return how many of ``wanted`` changes may be made now."""
        self._settle(now)
        given = min(wanted, int(self._changes + 1e-9))
        self._changes -= given
        return given

    def due(self, now: float) -> float:
        """Return when there will be room for a change: ``now`` if there is."""
        self._settle(now)
        return now + max(0.0, 1 - 1e-9 - self._changes) * self._limits.seconds_per_change

    def full(self, now: float) -> bool:
        """Whether the interface has been quiet long enough to have its whole burst again."""
        self._settle(now)
        return self._changes >= self._limits.burst - 1e-9

    def _settle(self, now: float) -> None:
        passed = max(0.0, now - self._at)
        self._at = max(now, self._at)
        self._changes = min(
            float(self._limits.burst), self._changes + passed / self._limits.seconds_per_change
        )


@dataclass
class WatchedInterface:
    """An attachment whose addresses are followed.

    ``index`` is its interface's, ``given`` are the addresses of its ADD, ``networks`` its
    ``watchAddresses``; ``dates`` is as in ``WatchRequest``; ``who`` names the pod in EC2's queue;
    ``detects``: tentative addresses wait for duplicate address detection.
    """

    attachment: Attachment
    claimed_at: float
    netns: str
    inode: int
    index: int
    given: Collection[Address]
    networks: Collection[Network]
    dates: Mapping[Address, float] | None
    allowance: Allowance
    who: str = ""
    detects: bool = False
    due: float | None = None
    running: bool = False
    unplugged: bool = False
    lost: set[Address] = field(default_factory=set)
    _renewed: set[Address] = field(default_factory=set)
    _resting: dict[Address, float] = field(default_factory=dict)
    _again: bool = False
    _hurries: bool = False  # the last look made addresses ready for the next one
    _not_before: float = -math.inf
    _failures: int = 0
    _reported: dict[Address | str, tuple[str, float]] = field(default_factory=dict)
    _limited: bool = False

    # -- when to look ---------------------------------------------------------------------------------

    def look_at(self, when: float) -> None:
        """Look at ``when`` at the latest, but not before another change may be made."""
        if self.running:
            self._again = True
        elif self.due is None or when < self.due:
            self.due = when

    def on_appeared(self, ip: Address, now: float) -> None:
        """Note that an address was assigned."""
        self.lost.discard(ip)
        self._plan_look(now)

    def on_vanished(self, ip: Address, now: float) -> None:
        """Note that an address was removed. If it comes back, it is new, whatever its date."""
        self.lost.add(ip)
        self._renewed.add(ip)
        if self.dates is not None and ip in self.dates:
            self.dates = {**self.dates, ip: -1.0}
        self._plan_look(now)

    def _plan_look(self, now: float) -> None:
        self._failures = 0
        self.look_at(max(self.allowance.due(now), self._not_before))

    def concerns(self, ip: Address) -> bool:
        """Whether the claim may want, or have, a route for ``ip``."""
        alone = host_route(ip)
        return ip in self.given or any(cidr.within(alone, network) for network in self.networks)

    def begin(self, room: Callable[[int], int], now: float) -> WatchRequest:
        """Begin a look: only later events bring about another."""
        self._resting = {ip: at for ip, at in self._resting.items() if at > now}
        self.running, self._again, self.due = True, False, None
        self.lost.clear()
        self._renewed.clear()
        resting = frozenset(self._resting)
        return WatchRequest(
            self.attachment, self.dates, room, self.lost.__contains__, resting, self.unplugged
        )

    # -- the result ---------------------------------------------------------------------------------------

    def end(self, result: SyncResult | None, now: float) -> None:
        """End a look with ``result``; None: it failed as a whole."""
        self.running = False
        after: list[float] = []
        if result is None or result.failed:
            pause = min(FIRST_FAILED_SECONDS * 2**self._failures, LONGEST_FAILED_SECONDS)
            self._failures = min(self._failures + 1, 16)
            after.append(now + pause)
        else:
            self._failures = 0
        if result is not None:
            if result.busy:
                after.append(now + BUSY_SECONDS)
            else:
                self.dates = {ip: -1.0 if ip in self._renewed else at for ip, at in result.dates.items()}
                self._resting = {ip: at for ip, at in self._resting.items() if ip in result.dates}
            if result.put_off:
                after.append(self.allowance.due(now))
            self._resting |= dict.fromkeys(result.refused, now + REFUSED_SECONDS)
        after += self._resting.values()
        hurries = result is not None and bool(result.ready) and not self._hurries
        if result is not None and not (result.appeared or result.vanished or hurries):
            self._not_before = now + IDLE_SECONDS
        self._hurries = hurries
        if self._again:
            after.append(max(self.allowance.due(now), self._not_before))
        self.due = min(after, default=None)

    # -- messages, logged once --------------------------------------------------------------------------

    def is_news(self, key: Address | str, text: str, now: float) -> bool:
        """Whether to log ``text`` about ``key``: it was not, and not too many addresses have messages."""
        before = self._reported.get(key)
        if before is None and not isinstance(key, str) and self.silent:
            return False
        if new := before is None or before[0] != text:
            self._reported[key] = (text, now)
        return new

    @property
    def silent(self) -> bool:
        """Whether so many addresses have messages that further addresses get none."""
        return sum(not isinstance(key, str) for key in self._reported) >= MOST_TOLD

    def forget(self, present: Collection[Address | str], now: float) -> None:
        """Forget old messages about absent addresses; those about an address that flaps stay rare."""
        for key in self._reported.keys() - set(present):
            if now - self._reported[key][1] > TOLD_SECONDS:
                del self._reported[key]

    def begins_limit(self, held_back: bool, now: float) -> bool:
        """Whether an episode of too many changes begins. It ends when the burst is whole again."""
        if self.allowance.full(now):
            self._limited = False
        begins = held_back and not self._limited
        self._limited = self._limited or held_back
        return begins
