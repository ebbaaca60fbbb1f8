"""The two kinds of Lease that an election has, as Kubernetes keeps them (coordination.k8s.io/v1).

``group.NAMESPACE.GROUP`` says who holds a group, ``node.NODE`` that an agent lives. Text that somebody else
wrote is met here: what cannot be read is a ``LeaseError`` with a sentence, and never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from ..model.errors import short
from ..model.values import Network
from .timing import Generation, Uid, Version, WallTime

LONGEST_NAME = 253
"""Characters of an object's name (RFC 1123 subdomain)."""


class LeaseError(ValueError):
    """A Lease holds what no agent of ours writes; the text says where and what."""


class Reason(StrEnum):
    """Why an active offers its group, as the annotation says it."""

    TERMINATING = "terminating"
    GONE = "gone"
    UNREADY = "unready"
    EC2_LOST = "ec2 lost"
    LEVEL = "level"
    ZONE = "zone"
    MOVE = "move"


@dataclass(frozen=True, slots=True, order=True)
class Holder:
    """Who holds a group: one pod, by its uid, on one node. ``pod`` is the name alone."""

    pod: str
    node: str
    uid: Uid

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``POD/NODE/POD-UID``. Raises LeaseError."""
        parts = text.split("/")
        if len(parts) != 3 or not all(parts):
            raise LeaseError(f'holderIdentity "{short(text)}" is not POD/NODE/POD-UID')
        return cls(*parts)

    def __str__(self) -> str:
        return f"{self.pod}/{self.node}/{self.uid}"


@dataclass(frozen=True, slots=True)
class Offer:
    """An active's offer of its group. ``level``: of a soft offer, whom it excludes. ``node``: of a move."""

    reason: Reason
    level: int = 0
    node: str = ""

    @property
    def soft(self) -> bool:
        """Whether the holder serves on, and only a member that stands better may take."""
        return self.reason in (Reason.LEVEL, Reason.ZONE, Reason.MOVE)

    @property
    def ending(self) -> bool:
        """Whether the holder's pod ends: it never withdraws."""
        return self.reason in (Reason.TERMINATING, Reason.GONE)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the annotation ``offered``. Raises LeaseError."""
        raise NotImplementedError

    def __str__(self) -> str:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Entry:
    """One member in the register of a group Lease.

    ``fit_since``: since when it has been fit with this level or a lower one; 0: it is not fit. Only whether
    it changed decides. ``enis``: what its routes lead to. ``destinations``: those of its claims.
    """

    uid: Uid
    pod: str
    node: str
    zone: str = ""
    level: int = 0
    fit_since: WallTime = 0
    created: WallTime = 0
    priority: int = 0
    enis: tuple[str, ...] = ()
    destinations: tuple[Network, ...] = ()

    @property
    def fit(self) -> bool:
        """Whether its agent calls it fit."""
        return self.fit_since != 0


@dataclass(frozen=True, slots=True)
class GroupLease:
    """A group Lease. ``uid`` is empty before it is created; ``move`` is an operator's request."""

    group: str
    uid: Uid = ""
    version: Version = ""
    created: WallTime = 0
    holder: Holder | None = None
    transitions: Generation = 0
    offer: Offer | None = None
    destinations: tuple[Network, ...] = ()
    members: tuple[Entry, ...] = ()
    move: str | None = None
    acquired: WallTime = field(default=0, compare=False)

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Read a Lease as the API sends it. Raises LeaseError."""
        raise NotImplementedError

    def document(self, namespace: str) -> dict[str, Any]:
        """Return the body of a PUT (with uid and resourceVersion), or of a POST (without)."""
        raise NotImplementedError

    def entry(self, uid: Uid) -> Entry | None:
        """Return the entry of a pod."""
        return next((entry for entry in self.members if entry.uid == uid), None)


@dataclass(frozen=True, slots=True)
class NodeLease:
    """A node Lease. ``duration``: seconds of silence that its agent announces."""

    node: str
    uid: Uid = ""
    version: Version = ""
    holder: str = ""
    duration: int = 0
    owner: Uid = ""

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Read a Lease as the API sends it. Raises LeaseError."""
        raise NotImplementedError

    def document(self, namespace: str, renew_time: str) -> dict[str, Any]:
        """Return the body of a PUT or POST. ``renew_time`` (RFC 3339, microseconds) must always change."""
        raise NotImplementedError


def is_newer(version: Version, other: Version) -> bool:
    """Return whether ``version`` of one object is newer than ``other``: a watch may lag behind a GET."""
    raise NotImplementedError
