"""What happens to a member, and what it asks its driver for. Values only.

Every event has ``at``, the moment at which it is known here, and the answer to a question has ``began``, the
moment before the question was sent. A driver asks ``wants`` after every event and at ``next_at``, and sends
what is returned unless an equal request is under way. Just before it sends a ``SwapGroup``, a ``WriteRoutes``
or a ``ReleaseRoutes`` it asks again: what is no longer wanted is not sent; when it does send, it says so
first with ``Sent``, and answers later with exactly one event. A read that is not answered, or is refused, is
repeated after ``Timing.renew`` seconds. ``urgent`` requests are due before time passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from ..model.route_write import WriteOutcome
from ..model.values import RouteKey, RouteTarget
from .fitness import PodClaims, PodStatus
from .lease import GroupLease
from .timing import Instant, Uid, Version

if TYPE_CHECKING:
    from .node import Surroundings

# What a driver is asked for.


@dataclass(frozen=True, slots=True)
class ReadGroup:
    """GET the group Lease (a plain GET or a LIST without ``resourceVersion``); answer: ``GroupRead``."""

    group: str
    urgent: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class ReadNodeLease:
    """GET a node Lease, never from the watch cache; answer: ``NodeLeaseRead`` to the ``Surroundings``."""

    node: str
    urgent: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class ReadPod:
    """GET a pod by name; answer: ``PodRead``. ``uid``: whom it should be."""

    pod: str
    uid: Uid
    urgent: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class ProbeHost:
    """Connect to the kubelet's port of a node; answer: ``HostProbed`` to the ``Surroundings``."""

    node: str
    urgent: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class SwapGroup:
    """PUT this Lease (POST if it has no uid); answer: ``GroupSwapped``. ``why`` is for the log.

    ``wins``: it makes a pod of this node the holder. ``mends``: it withdraws an offer for one write.
    ``priority``: of the pod, where many groups move.
    """

    lease: GroupLease
    why: str
    priority: int = 0
    wins: bool = False
    mends: bool = False
    urgent: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class DeleteGroup:
    """DELETE the group Lease with uid and resourceVersion as preconditions; answer: ``GroupSwapped``."""

    group: str
    uid: Uid
    version: Version
    urgent: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class AwaitTurn:
    """Wait for the request rate of as many writes as ``keys`` has; answer: ``TurnCame``."""

    keys: tuple[RouteKey, ...]
    priority: int = 0
    urgent: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class WriteRoutes:
    """Make each route lead to its ENI, Replace allowed; answer: ``RoutesWritten``.

    None is sent after ``until``: such a key is ``NOT_SENT``.
    """

    uid: Uid
    keys: tuple[RouteKey, ...]
    until: Instant
    urgent: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class LookAtRoutes:
    """Read every route of the pod's claims, in every table that they select now; answer: ``RoutesSeen``."""

    uid: Uid
    urgent: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class TryWrites:
    """``DryRun`` the writes of these keys; answer: ``WritesTried``."""

    uid: Uid
    keys: tuple[RouteKey, ...]
    urgent: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class ReleaseRoutes:
    """Delete each route if a fresh read says that it is ours; answer: ``RoutesReleased``.

    None is sent after ``until``.
    """

    uid: Uid
    keys: tuple[RouteKey, ...]
    until: Instant
    urgent: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class RecordRole:
    """Write ``active`` or ``standby`` into the claims of a pod on disk; answer: ``RoleRecorded``."""

    uid: Uid
    active: bool
    urgent: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish an Event on a pod; answer: ``Published``."""

    notice: Notice
    urgent: ClassVar[bool] = False


Wish = (
    ReadGroup
    | ReadNodeLease
    | ReadPod
    | ProbeHost
    | SwapGroup
    | DeleteGroup
    | AwaitTurn
    | WriteRoutes
    | LookAtRoutes
    | TryWrites
    | ReleaseRoutes
    | RecordRole
    | Publish
)
"""What ``Member.wants`` returns."""


class NoticeKind(Enum):
    """What an Event on a pod is about."""

    MOVED = "Moved"
    LOST = "Lost"
    RESTORED = "Restored"
    STANDBY = "Standby"
    CONTESTED_GROUP = "ContestedByGroup"
    CONTESTED_WRITER = "ContestedByWriter"
    REFUSED = "RouteRefused"
    UNEQUAL = "UnequalDestinations"


@dataclass(frozen=True, slots=True)
class Notice:
    """One Event to publish on the pod of ``uid``; ``text`` is a sentence."""

    kind: NoticeKind
    uid: Uid
    text: str


# What happens.


class Swap(Enum):
    """What became of a PUT, POST or DELETE of a group Lease."""

    DONE = "200"
    CONFLICT = "409 (or 404 of a PUT)"
    UNKNOWN = "no answer"
    REFUSED = "any other answer: it was not applied"


@dataclass(frozen=True, slots=True)
class Time:
    """Nothing happened but time."""

    at: Instant


@dataclass(frozen=True, slots=True)
class Sent:
    """A swap, a write or a release is about to be sent."""

    at: Instant
    request: SwapGroup | DeleteGroup | WriteRoutes | ReleaseRoutes


@dataclass(frozen=True, slots=True)
class SurroundingsChanged:
    """What all members of this node share has changed."""

    at: Instant
    surroundings: Surroundings


@dataclass(frozen=True, slots=True)
class ClaimsChanged:
    """The pods of the group that this node has claims of, the whole list; ended ones stay for their grace."""

    at: Instant
    pods: tuple[PodClaims, ...]


@dataclass(frozen=True, slots=True)
class GroupRead:
    """A GET of the group Lease was answered; None: there is none (404)."""

    at: Instant
    began: Instant
    lease: GroupLease | None


@dataclass(frozen=True, slots=True)
class GroupSeen:
    """The watch delivered the group Lease; None: deleted. A hint: it proves nothing."""

    at: Instant
    lease: GroupLease | None


@dataclass(frozen=True, slots=True)
class GroupUnreadable:
    """The group Lease holds what cannot be read: nobody takes, and the holder writes nothing."""

    at: Instant
    error: str


@dataclass(frozen=True, slots=True)
class GroupSwapped:
    """A swap was answered, or was not. ``lease``: as the API answered it when done; None: deleted."""

    at: Instant
    began: Instant
    outcome: Swap
    lease: GroupLease | None = None


@dataclass(frozen=True, slots=True)
class PodRead:
    """A GET of a pod was answered. ``status`` None: not found, or another uid is there."""

    at: Instant
    began: Instant
    uid: Uid
    status: PodStatus | None


@dataclass(frozen=True, slots=True)
class PodSeen:
    """The watch delivered a pod of this node. ``status`` None: deleted."""

    at: Instant
    uid: Uid
    status: PodStatus | None


@dataclass(frozen=True, slots=True)
class TurnCame:
    """The request rate has room for the writes that were asked for."""

    at: Instant


@dataclass(frozen=True, slots=True)
class RoutesWritten:
    """Every write of a ``WriteRoutes`` has an outcome."""

    at: Instant
    began: Instant
    outcomes: tuple[tuple[RouteKey, WriteOutcome], ...]


@dataclass(frozen=True, slots=True)
class RoutesSeen:
    """A look was answered (``routes``: all that the claims select now), or was not (None).

    ``throttled``: EC2 throttled it, or no turn came; that is no loss of EC2.
    """

    at: Instant
    began: Instant
    routes: tuple[tuple[RouteKey, RouteTarget | None], ...] | None
    throttled: bool = False


@dataclass(frozen=True, slots=True)
class WritesTried:
    """``DryRun`` was answered for these keys."""

    at: Instant
    began: Instant
    outcomes: tuple[tuple[RouteKey, WriteOutcome], ...]


@dataclass(frozen=True, slots=True)
class RoutesReleased:
    """A ``ReleaseRoutes`` ended. ``done``: each is deleted or was not ours."""

    at: Instant
    began: Instant
    done: bool


@dataclass(frozen=True, slots=True)
class Ec2Called:
    """Another EC2 call of this agent, for the account of the group's tables, was answered or was not."""

    at: Instant
    began: Instant
    answered: bool


@dataclass(frozen=True, slots=True)
class GrantsChanged:
    """Credentials or policy of this node changed: marks for what was refused end."""

    at: Instant


@dataclass(frozen=True, slots=True)
class RoleRecorded:
    """The role on disk was written, or could not be."""

    at: Instant
    uid: Uid
    active: bool
    done: bool


@dataclass(frozen=True, slots=True)
class Published:
    """An Event was published, or was given up."""

    at: Instant
    notice: Notice


Happening = (
    Time
    | Sent
    | SurroundingsChanged
    | ClaimsChanged
    | GroupRead
    | GroupSeen
    | GroupUnreadable
    | GroupSwapped
    | PodRead
    | PodSeen
    | TurnCame
    | RoutesWritten
    | RoutesSeen
    | WritesTried
    | RoutesReleased
    | Ec2Called
    | GrantsChanged
    | RoleRecorded
    | Published
)
"""What ``Member.on`` takes."""
