"""The two kinds of Lease that an election has, as Kubernetes keeps them (coordination.k8s.io/v1).

``group.NAMESPACE.GROUP`` says who holds a group, ``node.NODE`` that an agent lives. What somebody else wrote
is met here. A holder that cannot be read is a ``LeaseError``, because nobody may guess who holds. The
register and the offer only help those who take: what cannot be read of them is left out, and ``faults`` says
so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from ipaddress import ip_network
from typing import Any, Self

from ..model.errors import short
from ..model.values import Network
from .timing import Generation, Uid, Version, WallTime

LONGEST_NAME = 253
"""Characters of an object's name (RFC 1123 subdomain)."""
MOST_MEMBERS = 1000
"""Entries of a register that are read: an annotation holds no more (256 KiB)."""
PREFIX = "floatip.io/"
"""Of every annotation of ours."""


class LeaseError(ValueError):
    """A Lease holds what no agent of ours writes; the text says where and what."""


class Reason(StrEnum):
    """Why an active offers its group, as the annotation says it."""

    TERMINATING = "terminating"
    GONE = "gone"
    UNREADY = "unready"
    EC2_LOST = "ec2-lost"
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
    """An active's offer of its group. ``level``: the active's own, of ``LEVEL``. ``node``: of ``MOVE``."""

    reason: Reason
    level: int = 0
    node: str = ""

    @property
    def soft(self) -> bool:
        """Whether the active serves on, and only a member that stands better may take."""
        return self.reason in (Reason.LEVEL, Reason.ZONE, Reason.MOVE)

    @property
    def ending(self) -> bool:
        """Whether the active's pod ends."""
        return self.reason in (Reason.TERMINATING, Reason.GONE)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the annotation ``offered``. Raises ValueError."""
        word, _, rest = text.partition(" ")
        reason = Reason(word)
        if reason is Reason.LEVEL:
            return cls(reason, level=int(rest))
        if reason is Reason.MOVE:
            return cls(reason, node=rest)
        if rest:
            raise ValueError(f'"{short(rest)}" after {word}')
        return cls(reason)

    def __str__(self) -> str:
        rest = str(self.level) if self.reason is Reason.LEVEL else self.node
        return f"{self.reason} {rest}" if rest else str(self.reason)


@dataclass(frozen=True, slots=True)
class Entry:
    """One member in the register of a group Lease.

    ``fit_since``: since when it has been fit with this level or a lower one; 0: it is not fit. What decides
    is whether it changed. ``enis``: what its routes lead to, sorted. ``destinations``: of its claims, sorted.
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

    @property
    def standing(self) -> tuple[Uid, WallTime, int]:
        """Return what of the entry a soft offer was made to: after a change it is made again."""
        return self.uid, self.fit_since, self.level

    @classmethod
    def parse(cls, uid: str, document: Any) -> Self:
        """Read one entry of the annotation ``members``. Raises KeyError, TypeError or ValueError."""
        text, number, texts = (_reader(document, kind) for kind in (str, int, list))
        return cls(
            uid,
            text("pod"),
            text("node"),
            text("zone"),
            number("level"),
            number("fitSince"),
            number("created"),
            number("priority"),
            tuple(str(eni) for eni in texts("enis")),
            tuple(ip_network(str(cidr)) for cidr in texts("destinations")),
        )

    def document(self) -> dict[str, Any]:
        """Return the entry as it stands in the annotation."""
        return {
            "pod": self.pod,
            "node": self.node,
            "zone": self.zone,
            "level": int(self.level),
            "fitSince": self.fit_since,
            "created": self.created,
            "priority": self.priority,
            "enis": list(self.enis),
            "destinations": [str(network) for network in self.destinations],
        }


@dataclass(frozen=True, slots=True)
class GroupLease:
    """A group Lease. ``group`` is NAMESPACE/GROUP. ``uid`` and ``version`` are empty before it is created.

    ``move``: an operator asks for a move, to that node or ("") to any. ``faults``: what could not be read.
    """

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
    faults: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Read a Lease as the API sends it. Raises LeaseError."""
        meta, spec, notes = _parts(document)
        name = _string(meta, "name")
        kind, _, rest = name.partition(".")
        namespace, _, group = rest.partition(".")
        if kind != "group" or not namespace or not group:
            raise LeaseError(f'"{short(name)}" is not group.NAMESPACE.GROUP')
        holder = _string(spec, "holderIdentity")
        faults: list[str] = []

        def note(key: str, read: Callable[[str], Any], default: Any) -> Any:
            text = notes.get(PREFIX + key)
            if text is None:
                return default
            try:
                return read(text)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                faults.append(
                    f'{PREFIX}{key} of {name}: "{short(str(text))}" cannot be read: {short(str(error))}'
                )
                return default

        return cls(
            f"{namespace}/{group}",
            _string(meta, "uid"),
            _string(meta, "resourceVersion"),
            _seconds(meta.get("creationTimestamp")),
            Holder.parse(holder) if holder else None,
            _whole(spec, "leaseTransitions"),
            note("offered", Offer.parse, None),
            note("destinations", _networks, ()),
            note("members", _members, ()),
            note("move", str, None),
            _seconds(spec.get("acquireTime")),
            tuple(faults),
        )

    @property
    def name(self) -> str:
        """Return the object's name."""
        return _object_name("group", self.group.replace("/", ".", 1))

    def document(self, namespace: str) -> dict[str, Any]:
        """Return the body of a PUT (with uid and resourceVersion), or of a POST (without either)."""
        notes = {
            "offered": str(self.offer) if self.offer else None,
            "destinations": json.dumps([str(network) for network in self.destinations]),
            "members": json.dumps({entry.uid: entry.document() for entry in self.members}),
            "move": self.move,
        }
        spec: dict[str, Any] = {"leaseTransitions": self.transitions}
        if self.holder:
            spec["holderIdentity"] = str(self.holder)
            spec["acquireTime"] = datetime.fromtimestamp(self.acquired, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        meta = _meta(self.name, namespace, self.uid, self.version)
        meta["annotations"] = {PREFIX + key: text for key, text in notes.items() if text is not None}
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}

    def entry(self, uid: Uid) -> Entry | None:
        """Return the entry of a pod."""
        return next((entry for entry in self.members if entry.uid == uid), None)


@dataclass(frozen=True, slots=True)
class NodeLease:
    """A node Lease. ``duration``: seconds of silence that its agent announces. ``owner``: the Node's uid."""

    node: str
    uid: Uid = ""
    version: Version = ""
    holder: str = ""
    duration: int = 0
    owner: Uid = ""

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Read a Lease as the API sends it. Raises LeaseError."""
        meta, spec, notes = _parts(document)
        name = _string(meta, "name")
        kind, _, rest = name.partition(".")
        if kind != "node" or not rest:
            raise LeaseError(f'"{short(name)}" is not node.NODE')
        owners = meta.get("ownerReferences") or ()
        owner = owners[0] if isinstance(owners, list) and owners and isinstance(owners[0], Mapping) else {}
        return cls(
            str(notes.get(PREFIX + "node", rest)),
            _string(meta, "uid"),
            _string(meta, "resourceVersion"),
            _string(spec, "holderIdentity"),
            _whole(spec, "leaseDurationSeconds"),
            _string(owner, "uid"),
        )

    @property
    def name(self) -> str:
        """Return the object's name."""
        return _object_name("node", self.node)

    def document(self, namespace: str, renew_time: str) -> dict[str, Any]:
        """Return the body of a PUT or POST.

        ``renew_time`` (RFC 3339 with microseconds) must differ from the last: what changes nothing leaves the
        resourceVersion as it is, so followers would see silence.
        """
        meta = _meta(self.name, namespace, self.uid, self.version)
        meta["annotations"] = {PREFIX + "node": self.node}
        if self.owner:
            owner = {"apiVersion": "v1", "kind": "Node", "name": self.node, "uid": self.owner}
            meta["ownerReferences"] = [owner]
        spec = {
            "holderIdentity": self.holder,
            "leaseDurationSeconds": self.duration,
            "renewTime": renew_time,
        }
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec}


def is_newer(version: Version, other: Version) -> bool:
    """Return whether ``version`` of an object is newer than ``other``: a watch may lag behind a GET.

    Kubernetes' versions are decimal numbers that grow; where one is not, any other version counts as newer.
    """
    if version.isascii() and version.isdigit() and other.isascii() and other.isdigit():
        return (len(version), version) > (len(other), other)
    return version != other


def _object_name(kind: str, rest: str) -> str:
    """Return ``KIND.REST``, or, where that is too long for a name, ``KIND.`` and a hash of the rest."""
    name = f"{kind}.{rest}"
    return name if len(name) <= LONGEST_NAME else f"{kind}.{hashlib.sha256(rest.encode()).hexdigest()}"


def _meta(name: str, namespace: str, uid: Uid, version: Version) -> dict[str, Any]:
    """Return metadata. Without the uid a PUT would create a deleted Lease anew."""
    meta: dict[str, Any] = {"name": name, "namespace": namespace}
    return meta | ({"uid": uid, "resourceVersion": version} if uid else {})


def _parts(document: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]:
    """Return metadata, spec and annotations."""
    meta = document.get("metadata") if isinstance(document, Mapping) else None
    if not isinstance(meta, Mapping):
        raise LeaseError("the answer is no Lease: it has no metadata")
    spec, notes = document.get("spec") or {}, meta.get("annotations") or {}
    if not isinstance(spec, Mapping) or not isinstance(notes, Mapping):
        raise LeaseError(f'"{short(str(meta.get("name")))}" is no Lease: spec or annotations are no object')
    return meta, spec, notes


def _string(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key) or ""
    if not isinstance(value, str):
        raise LeaseError(f"{key} is not a string: {short(str(value))}")
    return value


def _whole(record: Mapping[str, Any], key: str) -> int:
    value = record.get(key) or 0
    if not isinstance(value, int) or isinstance(value, bool):
        raise LeaseError(f"{key} is not a whole number: {short(str(value))}")
    return value


def _seconds(text: Any) -> WallTime:
    """Return a time of Kubernetes (RFC 3339) as seconds since the epoch; 0 where there is none."""
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except (TypeError, ValueError, OverflowError):
        return 0


def _networks(text: str) -> tuple[Network, ...]:
    cidrs = json.loads(text)
    if not isinstance(cidrs, list):
        raise TypeError("not a list")
    return tuple(ip_network(str(cidr)) for cidr in cidrs)


def _members(text: str) -> tuple[Entry, ...]:
    document = json.loads(text)
    if not isinstance(document, dict) or len(document) > MOST_MEMBERS:
        raise TypeError(f"not an object of at most {MOST_MEMBERS} entries")
    return tuple(Entry.parse(uid, entry) for uid, entry in sorted(document.items()))


def _reader(document: Any, kind: type) -> Callable[[str], Any]:
    """Return what reads one key of an entry, which must be of that kind."""
    if not isinstance(document, dict):
        raise TypeError("an entry is not an object")

    def read(key: str) -> Any:
        value = document[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise TypeError(f"{key} is not of type {kind.__name__}")
        return value

    return read
