"""Whether a pod on this node is fit to be active: its claims, the Ready that counts, EC2, and its level."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from ..model.values import Network, RouteKey
from .timing import PAST, Instant, Uid, WallTime


class Level(IntEnum):
    """How well a fit member stands: a lower level may take a soft offer of a higher one."""

    NONE = 0
    CORDONED = 1
    MARKED = 2


@dataclass(frozen=True, slots=True)
class ElectedInterface:
    """One interface of the group: its ENI, and what its addresses claim."""

    eni: str
    destinations: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class PodClaims:
    """What this node has on record of one pod of the group.

    ``added``: this node's clock when the first ADD of the pod's sandbox began, in whole seconds.
    ``complete``: every interface of the group is added and its ENI is here. ``allowed``: policy gives every
    destination. ``ended_at``: its DEL came, or its last write ended later; None while it lives.
    ``keys``: every route that it has when it is active, as the last look resolved them.
    ``active_on_disk``: the claims' state on disk is ``active``, not ``standby``.
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


@dataclass(frozen=True, slots=True)
class PodStatus:
    """What Kubernetes says of a pod. ``terminating``: it has a deletionTimestamp, or has ended by itself.

    ``started``: ``state.running.startedAt`` of each running container, in whole seconds.
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

    ``status`` is None where Kubernetes has no pod of that uid, or none was read yet (``read_began`` tells).
    """

    claims: PodClaims
    status: PodStatus | None = None
    read_began: Instant = PAST
    unready_since: Instant | None = None
    followed_unready: bool = False
    fit_since: WallTime = 0
