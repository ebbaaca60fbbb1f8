"""One group on one node: the state machine that its driver feeds with events and asks what to do."""

from __future__ import annotations

from dataclasses import dataclass

from .events import Happening, Wish
from .fitness import LocalPod
from .lease import GroupLease
from .node import Surroundings
from .timing import Instant, Uid


@dataclass(frozen=True, slots=True)
class GroupRules:
    """What the pods of a group ask for (netconf ``election``)."""

    zones: tuple[str, ...] = ()
    failback: float = 0.0
    unready: float = 2.0


@dataclass(frozen=True, slots=True)
class Member:
    """One group on one node: it has a pod of the group here, or is named as its holder.

    Immutable and hashable. ``on`` returns the member after an event, ``wants`` what to do now.
    """

    group: str
    surroundings: Surroundings
    rules: GroupRules = GroupRules()
    pods: tuple[LocalPod, ...] = ()
    lease: GroupLease | None = None
    known: bool = False

    def on(self, event: Happening) -> Member:
        """Return the member after an event."""
        raise NotImplementedError

    def wants(self, now: Instant) -> tuple[Wish, ...]:
        """Return everything that is due now."""
        raise NotImplementedError

    def next_at(self, now: Instant) -> Instant:
        """Return when ``wants`` may return more, if nothing happens before."""
        raise NotImplementedError

    @property
    def renews(self) -> bool:
        """Whether this node must renew its Lease for this group."""
        raise NotImplementedError

    @property
    def follows(self) -> str | None:
        """Return the node whose Lease this member follows, or None."""
        raise NotImplementedError

    @property
    def active(self) -> Uid | None:
        """Return the pod of this node that holds the group, offered or not, or None."""
        raise NotImplementedError

    @property
    def finished(self) -> bool:
        """Whether a driver may forget the member: nothing of the group is here, or left to do."""
        raise NotImplementedError
