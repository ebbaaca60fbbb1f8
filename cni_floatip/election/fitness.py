"""Whether a pod on this node is fit to be active: its claims, the Ready that counts, and its level."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache

from ..model.values import Network, RouteKey
from .lease import Reason
from .timing import PAST, Instant, Uid, WallTime


class Level(IntEnum):
    """How well a fit member stands: a member of a lower level may take a soft offer of a higher one."""

    NONE = 0
    CORDONED = 1
    MARKED = 2


@dataclass(frozen=True, slots=True)
class ElectedInterface:
    """One interface of the group: its ENI, and what its addresses claim."""

    eni: str
    destinations: tuple[Network, ...]


@lru_cache(maxsize=1024)
def _enis(interfaces: tuple[ElectedInterface, ...]) -> tuple[str, ...]:
    return tuple(sorted({interface.eni for interface in interfaces}))


@lru_cache(maxsize=1024)
def _destinations(interfaces: tuple[ElectedInterface, ...]) -> tuple[Network, ...]:
    networks = {network for interface in interfaces for network in interface.destinations}
    return tuple(sorted(networks, key=lambda network: (network.version, network)))


@dataclass(frozen=True, slots=True)
class PodClaims:
    """What this node has on record of one pod of the group.

    ``added``: this node's wall clock when the first ADD of the pod's sandbox began, in whole seconds.
    ``complete``: every interface of the group is added, and its ENI is here. ``allowed``: policy gives every
    destination. ``keep``: the network asks for ``onDelete: keep``. ``ended_at``: when its DEL came; None
    while it lives. ``keys``: every route that it has when it is active, as far as a look or its ADD resolved
    them. ``active_on_disk``: the claims' state on disk is ``active``, not ``standby``.
    """

    uid: Uid
    pod: str
    added: WallTime
    interfaces: tuple[ElectedInterface, ...] = ()
    keys: tuple[RouteKey, ...] = ()
    complete: bool = True
    allowed: bool = True
    keep: bool = False
    active_on_disk: bool = False
    ended_at: Instant | None = None

    @property
    def enis(self) -> tuple[str, ...]:
        """Return the ENIs, sorted."""
        return _enis(self.interfaces)

    @property
    def destinations(self) -> tuple[Network, ...]:
        """Return what all interfaces claim, sorted."""
        return _destinations(self.interfaces)

    def eni(self, key: RouteKey) -> str:
        """Return the ENI that a route of the pod leads to; "" where no interface claims the destination."""
        claiming = (item.eni for item in self.interfaces if key.destination in item.destinations)
        return next(claiming, "")


@dataclass(frozen=True, slots=True)
class PodStatus:
    """What Kubernetes says of a pod. ``terminating``: it has a deletionTimestamp, or has ended by itself.

    ``started``: ``state.running.startedAt`` of each running container, in whole seconds. ``terminating``
    counts phase Succeeded and Failed too.
    """

    uid: Uid
    ready: bool
    terminating: bool = False
    started: tuple[WallTime, ...] = ()
    created: WallTime = 0
    priority: int = 0


@dataclass(frozen=True, slots=True)
class LocalPod:
    """One pod of the group on this node: its claims, and what has been learnt of it.

    ``status`` None: Kubernetes has no pod of that uid, or none was read yet (``read``). ``added_at``: when
    this sandbox's claims were learnt. ``followed_unready``: a GET since then showed it not Ready.
    ``unready_since``: since when it does not serve, as far as is known. ``fit_since``: as the register has
    it; 0: not fit. ``last_fit``: the newest ``fit_since`` that was used. ``entry_at``: when its entry last
    changed.
    """

    claims: PodClaims
    added_at: Instant
    status: PodStatus | None = None
    read: bool = False
    read_began: Instant = PAST
    followed_unready: bool = False
    unready_since: Instant | None = None
    fit_since: WallTime = 0
    last_fit: WallTime = 0
    level: int = 0
    entry_at: Instant = PAST

    @property
    def live(self) -> bool:
        """Whether its claims live."""
        return self.claims.ended_at is None

    @property
    def ending(self) -> Reason | None:
        """Why it ends, or None."""
        if not self.live or (self.read and self.status is None):
            return Reason.GONE
        return Reason.TERMINATING if self.status and self.status.terminating else None

    @property
    def ready(self) -> bool:
        """Whether its Ready counts.

        A status may be older than the pod's sandbox: after a reboot it says Ready until the kubelet writes it
        anew. So its containers must have started since the ADD, or it must have been not Ready since then. No
        time-out makes it count.
        """
        status = self.status
        if status is None or not status.ready:
            return False
        started = bool(status.started) and min(status.started) >= self.claims.added
        return started or self.followed_unready

    @property
    def serves(self) -> bool:
        """Whether it can be active, as far as pod and claims are concerned."""
        return self.ending is None and self.ready and self.claims.complete

    @property
    def fit(self) -> bool:
        """Whether it may become active here, as far as pod, claims and policy are concerned."""
        return self.serves and self.claims.allowed

    def see(self, status: PodStatus | None, at: Instant, began: Instant | None = None) -> LocalPod:
        """Return the pod after its status was read (``began``: when the GET began) or watched."""
        after = replace(self, status=status, read=True)
        if began is not None:
            unready = began >= self.added_at and status is not None and not status.ready
            after = replace(
                after,
                read_began=max(began, self.read_began),
                followed_unready=self.followed_unready or unready,
            )
        return after.count(at)

    def claim(self, claims: PodClaims, at: Instant) -> LocalPod:
        """Return the pod after its claims changed. A new sandbox has yet to become Ready."""
        if claims.added == self.claims.added:
            return replace(self, claims=claims).count(at)
        return LocalPod(
            claims,
            at,
            self.status,
            self.read,
            last_fit=self.last_fit,
            level=self.level,
            entry_at=self.entry_at,
        ).count(at)

    def count(self, at: Instant) -> LocalPod:
        """Return the pod with the time since which it does not serve."""
        if self.serves or not self.read:
            return self if self.unready_since is None else replace(self, unready_since=None)
        return self if self.unready_since is not None else replace(self, unready_since=at)
