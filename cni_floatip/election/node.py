"""What all members of one node share: the surroundings that they see, and the renewal of the node's Lease."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..model.values import Network
from .lease import GroupLease, NodeLease
from .timing import PAST, Instant, Timing, WallTime
from .verdict import ApiAnswers, FollowedNode


@dataclass(frozen=True, slots=True)
class NodeLeaseRead:
    """A GET of another node's Lease was answered; None: there is none."""

    at: Instant
    began: Instant
    node: str
    lease: NodeLease | None


@dataclass(frozen=True, slots=True)
class NodeLeaseSeen:
    """The watch delivered another node's Lease; None: deleted."""

    at: Instant
    node: str
    lease: NodeLease | None


@dataclass(frozen=True, slots=True)
class HostProbed:
    """A probe of a host ended. ``answered``: with anything, a refusal too."""

    at: Instant
    began: Instant
    node: str
    answered: bool


@dataclass(frozen=True, slots=True)
class ApiAnswered:
    """The API answered a call, whatever it said, or delivered an event."""

    at: Instant


@dataclass(frozen=True, slots=True)
class ApiFailed:
    """A call to the API was not answered."""

    at: Instant


@dataclass(frozen=True, slots=True)
class CordonSeen:
    """This node is, or is not, unschedulable (read or watched)."""

    at: Instant
    cordoned: bool


@dataclass(frozen=True, slots=True)
class GroupsListed:
    """All group Leases of the cluster that have a holder or a member."""

    at: Instant
    groups: tuple[GroupLease, ...]


NodeHappening = (
    NodeLeaseRead | NodeLeaseSeen | HostProbed | ApiAnswered | ApiFailed | CordonSeen | GroupsListed
)


@dataclass(frozen=True, slots=True)
class Rival:
    """A group of the cluster, by age, and what it claims."""

    created: WallTime
    group: str
    destinations: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every member of this node sees: give it to each by ``SurroundingsChanged``.

    ``epoch``: the wall clock at moment 0, to date entries of the register.
    ``rivals``: every group of the cluster; None: not listed yet.
    """

    node: str
    zone: str = ""
    epoch: WallTime = 0
    timing: Timing = field(default_factory=Timing)
    answers: ApiAnswers = field(default_factory=ApiAnswers)
    followed: tuple[FollowedNode, ...] = ()
    cordoned: bool = False
    rivals: tuple[Rival, ...] | None = None

    def on(self, event: NodeHappening) -> Surroundings:
        """Return the surroundings after an event."""
        raise NotImplementedError

    def follow(self, nodes: frozenset[str], now: Instant) -> Surroundings:
        """Return the surroundings with exactly these nodes followed: what the members' ``follows`` name."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class RenewNodeLease:
    """PUT (POST without uid) the own node Lease; answer: ``Renewed``."""

    lease: NodeLease


@dataclass(frozen=True, slots=True)
class ReadOwnNodeLease:
    """GET the own node Lease; answer: ``OwnNodeLeaseRead``."""

    node: str


@dataclass(frozen=True, slots=True)
class Renewed:
    """A renewal was answered. ``lease``: as the API answered it; None: refused because it was not newest."""

    at: Instant
    lease: NodeLease | None


@dataclass(frozen=True, slots=True)
class OwnNodeLeaseRead:
    """A GET of the own node Lease was answered; None: there is none."""

    at: Instant
    lease: NodeLease | None


@dataclass(frozen=True, slots=True)
class RenewalFailed:
    """A renewal, or the GET before it, was not answered."""

    at: Instant


@dataclass(frozen=True, slots=True)
class Holds:
    """Whether any member of this node ``renews``. ``ending``: the agent ends, and comes back."""

    at: Instant
    holds: bool
    ending: bool = False


@dataclass(frozen=True, slots=True)
class Renewal:
    """The node Lease of this node, and when it is renewed: only while this node holds a group.

    ``identity``: node uid and boot id. ``owner``: the Node's uid. ``known``: it was read or written.
    """

    node: str
    identity: str
    owner: str
    timing: Timing = field(default_factory=Timing)
    lease: NodeLease | None = None
    known: bool = False
    holds: bool = False
    ending: bool = False
    due: Instant = PAST

    def on(self, event: Renewed | OwnNodeLeaseRead | RenewalFailed | Holds) -> Renewal:
        """Return the renewal after an event."""
        raise NotImplementedError

    def wants(self, now: Instant) -> tuple[RenewNodeLease | ReadOwnNodeLease, ...]:
        """Return what is due now."""
        raise NotImplementedError

    def next_at(self, now: Instant) -> Instant:
        """Return when ``wants`` may return more, if nothing happens before."""
        raise NotImplementedError
