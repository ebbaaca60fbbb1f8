"""What a member remembers while a pod of its node holds the group, and of pods of other nodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ..model.route_write import WriteOutcome
from ..model.values import RouteKey
from .fitness import PodStatus
from .routes import RouteWork
from .timing import NEVER, PAST, Bucket, Clock, Instant, Timing, Uid, WallTime

Standing = tuple[Uid, WallTime, int]
"""A member as a soft offer saw it: uid, ``fit_since`` and level of its entry."""


@dataclass(frozen=True, slots=True)
class Holding:
    """A pod of this node holds the group. ``since``: when that was won, or learnt.

    ``swapped``: when the own swap began that shows the pod as holder, not offered; ``proved``: the same of
    the newest GET. ``writer``: the bucket of writes over another writer's route. ``offered_to``: whom the
    soft offer that stands was made to; ``untaken``: who left one untaken, and when that ended. ``mending``:
    an offer is withdrawn for the length of one write. ``released``: the routes of a pod that is gone are
    deleted. ``better``: members of the best zone, and since when they have been as they are. ``restores``: a
    look caused the write that is due.
    """

    uid: Uid
    since: Instant
    routes: tuple[RouteWork, ...] = ()
    swapped: Instant = PAST
    proved: Instant = PAST
    writer: Bucket = field(default_factory=Bucket)
    contested: bool = False
    offered_to: tuple[Standing, ...] = ()
    untaken: tuple[tuple[Standing, Instant], ...] = ()
    better: tuple[tuple[Standing, Instant], ...] = ()
    mending: bool = False
    released: bool = False
    restores: bool = False

    def due(self, clock: Clock) -> tuple[RouteKey, ...]:
        """Return the routes whose write is due."""
        return tuple(work.key for work in self.routes if work.due != NEVER and clock.past(work.due))

    @property
    def tried(self) -> bool:
        """Whether no write of this holding waits for its first try."""
        return not any(work.untried for work in self.routes)

    def with_keys(self, keys: Iterable[RouteKey], due: Instant) -> Holding:
        """Return the holding with exactly these routes, a new one due then."""
        known = {work.key: work for work in self.routes}
        routes = tuple(known.get(key) or RouteWork(key, due) for key in sorted(set(keys)))
        return self if routes == self.routes else replace(self, routes=routes)

    def written(
        self,
        outcomes: Iterable[tuple[RouteKey, WriteOutcome]],
        now: Instant,
        timing: Timing,
        *,
        patient: bool,
    ) -> Holding:
        """Return the holding after a write. It ends what was withdrawn for it, whatever became of it."""
        results = dict(outcomes)
        patient = patient or self.mending
        routes = tuple(
            work.after(results[work.key], now, timing, patient=patient) if work.key in results else work
            for work in self.routes
        )
        return replace(self, routes=routes, mending=False)

    def settle(self, clock: Clock, timing: Timing) -> Holding:
        """Return the holding without what matters no more."""
        untaken = tuple(item for item in self.untaken if not clock.past(item[1] + timing.soft_memory))
        routes = tuple(work.settle(clock.now) for work in self.routes)
        writer = self.writer.settle(clock.now)
        contested = self.contested and writer != Bucket()
        after = replace(self, untaken=untaken, routes=routes, writer=writer, contested=contested)
        return self if after == self else after


@dataclass(frozen=True, slots=True)
class PeerPod:
    """A pod of another node as the newest GET showed it. ``unready_since``: since when it is not Ready."""

    uid: Uid
    read_began: Instant
    gone: bool = False
    terminating: bool = False
    unready_since: Instant | None = None

    def read(self, status: PodStatus | None, began: Instant, at: Instant) -> PeerPod:
        """Return the pod after a GET."""
        unready = status is not None and not status.ready
        since = (at if self.unready_since is None else self.unready_since) if unready else None
        return PeerPod(self.uid, began, status is None, status is not None and status.terminating, since)


@dataclass(frozen=True, slots=True)
class Leftover:
    """Routes of a pod that lost the group to one with fewer destinations; deleted after their grace."""

    uid: Uid
    keys: tuple[RouteKey, ...]
    since: Instant
