"""The clock of the rules: aliases of what is compared, every duration of the rules, and a token bucket.

Durations are seconds. A moment is an ``Instant``: seconds of one clock that goes on while a machine sleeps
(CLOCK_BOOTTIME). Two nodes never compare moments. Nothing here reads a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Self

from ..config.election import Elections

Instant = float
"""A moment of this node's CLOCK_BOOTTIME, in seconds."""
WallTime = int
"""Whole seconds since the epoch, by whichever node wrote them: compared for equality, and shown to people."""
Generation = int
"""``leaseTransitions`` of a group Lease: compared for equality alone."""
Version = str
"""``resourceVersion`` of an object: ordered within one object (``lease.is_newer``), else for equality."""
Uid = str
"""``uid`` of a Kubernetes object: compared for equality alone."""

NEVER: Instant = inf
"""A moment that does not come."""
PAST: Instant = -inf
"""A moment so long ago that it counts no more."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Every duration and count of the rules; the package says what to keep when tuning."""

    # The node configuration's.
    renew: float = 0.5
    lease: float = 2.0
    veto: float = 60.0
    reconcile: float = 60.0
    release_grace: float = 60.0

    # Reads of Kubernetes (rules 2, 7, 8, 9, 13, 15).
    proof: float = 1.5
    """How old the start of the GET (or of the own swap) may be when a route write is sent."""
    poll: float = 10.0
    """How often everything is read again beside the watches."""
    api_gap: float = 2.0
    """A gap in the API's answers is longer than this many renewals."""
    long_gap: float = 5.0
    long_gap_wait: float = 10.0
    """After a gap of more than ``long_gap`` seconds nobody is dead before this many seconds of answers."""
    suspicion: float = 1.2
    """How many renewals long a node Lease is silent when suspicion begins: one was missed. The first GET of
    suspicion must be answered within ``api_gap`` renewals, or the silence itself is a gap in the answers."""
    suspected_pod: float = 1.0
    """How often the holder's pod is read in suspicion."""
    probe_idle: float = 60.0
    probes: int = 3
    """How many probes of the holder's host the second half of the wait has."""
    probe_veto: float = 1.0
    """How often the host is probed while its answer vetoes the verdict."""
    entry_check: float = 60.0
    """How often the holder's agent reads the pod of each other entry of the register."""
    entry_gap: float = 2.0
    """An agent writes its own entry not more often than this."""
    empty_lease: float = 1200.0
    """How long an emptied group Lease without members stays."""

    # Looks and writes of routes (rules 3, 5, 10, 11).
    looks: tuple[float, ...] = (1.0, 3.0, 7.0, 15.0, 30.0, 45.0)
    """When the active looks, in seconds after it acquired the group."""
    late_look: float = 10.0
    late_writes: float = 1200.0
    """Until then it looks every ``late_look`` seconds, because writes of the former active may land late."""
    standby_look: float = 60.0
    """A standby looks at least this often: its list of tables is what it writes when it takes."""
    failed_look: float = 5.0
    """When a look is repeated whose call was not answered."""
    look_patience: float = 60.0
    write_patience: float = 5.0
    """EC2 is lost after looks, or writes, have not been answered for this long."""
    offer_wait: float = 5.0
    """How long an offer waits for the answers of the own writes."""
    quick_retry: float = 1.0
    """When a write is tried again that was throttled, or not answered for less than ``write_patience``."""
    retry: float = 10.0
    longest_retry: float = 600.0
    """A refused write, or one that was not answered, is tried again after 10, 20, 40, ... 600 seconds."""
    contested: int = 4
    contested_refill: float = 600.0
    """How often the active writes over a working route of no member, and when once more."""
    dry_run: float = 600.0
    """How often a marked standby asks EC2 whether its write would be allowed."""

    # Offers and taking (rules 5, 6, 14).
    rank_delay: float = 0.3
    soft_offer: float = 15.0
    soft_memory: float = 600.0
    """How long a member that left a soft offer untaken is not offered to again."""
    damping: int = 4
    damping_refill: float = 30.0
    unequal: float = 600.0
    """How long members' destinations are unequal before another workload is suspected in the group."""

    @classmethod
    def of(cls, elections: Elections, reconcile: float, release_grace: float) -> Self:
        """Return the durations for a node's policy."""
        return cls(
            renew=elections.renew_seconds,
            lease=float(elections.lease_seconds),
            veto=float(elections.veto_seconds),
            reconcile=reconcile,
            release_grace=release_grace,
        )

    @property
    def longest(self) -> float:
        """Return the longest duration of all: a moment that is older decides nothing."""
        return max(self.late_writes, self.empty_lease, self.longest_retry) + self.veto


class Clock:
    """One moment, and the next one at which a decision that asked it may turn out otherwise.

    Every comparison of the rules with the present is a call of ``past``. So until ``next_at`` all of them
    give what they gave, and a decision is the same.
    """

    def __init__(self, now: Instant) -> None:
        self.now = now
        self.next_at = NEVER

    def past(self, moment: Instant) -> bool:
        """Return whether ``moment`` has come."""
        if self.now >= moment:
            return True
        self.next_at = min(self.next_at, moment)
        return False


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket, as the moment when it is full again (generic cell rate algorithm, ITU-T I.371)."""

    full_at: Instant = PAST

    def free_at(self, size: int, refill: float) -> Instant:
        """Return when a token is there: ``size`` tokens, and one more each ``refill`` seconds."""
        return self.full_at - (size - 1) * refill

    def spend(self, now: Instant, refill: float) -> Self:
        """Return the bucket without one token."""
        return type(self)(max(now, self.full_at) + refill)

    def settle(self, now: Instant) -> Self:
        """Return the bucket as equal to every full one, if it is full."""
        return type(self)() if self.full_at <= now else self
