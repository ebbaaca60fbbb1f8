"""What all members of one node share: the surroundings that they see, and the renewal of the node's Lease."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from math import ceil
from typing import assert_never

from ..model.values import Network
from .lease import GroupLease, NodeLease
from .timing import PAST, Clock, Instant, Timing, WallTime
from .verdict import ApiAnswers, FollowedNode, Silence


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

    def age(self) -> tuple[WallTime, str]:
        """Return the order of groups that claim one destination: the first writes."""
        return self.created, self.group


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
        """Return the surroundings after an event. What a GET or a watch brought is an answer of the API."""
        at = event.at
        match event:
            case ApiAnswered():
                return self._answered(at)
            case ApiFailed():
                return replace(self, answers=self.answers.failed(at))
            case NodeLeaseRead(node=node):
                after = self._answered(at)
                return after._put(after.node_of(node), lambda it: it.read(event.lease, event.began, at))
            case NodeLeaseSeen(node=node):
                after = self._answered(at)
                return after._put(after.node_of(node), lambda it: it.see(event.lease, at))
            case HostProbed(node=node):
                timing, answered = self.timing, event.answered
                return self._put(
                    self.node_of(node), lambda it: it.probed(event.began, at, timing, answered=answered)
                )
            case CordonSeen():
                return replace(self._answered(at), cordoned=event.cordoned)
            case GroupsListed():
                rivals = [
                    Rival(lease.created, lease.group, lease.destinations)
                    for lease in event.groups
                    if lease.holder or lease.members
                ]
                return replace(self._answered(at), rivals=tuple(sorted(rivals, key=Rival.age)))
            case _:
                assert_never(event)

    def follow(self, nodes: frozenset[str]) -> Surroundings:
        """Return the surroundings with exactly these nodes followed: what the members' ``follows`` name."""
        if nodes == {item.node for item in self.followed}:
            return self
        followed = tuple(self.node_of(node) or FollowedNode(node) for node in sorted(nodes))
        return replace(self, followed=followed)

    def node_of(self, node: str) -> FollowedNode | None:
        """Return what is known of a followed node."""
        return next((item for item in self.followed if item.node == node), None)

    def silence(self, node: str, learned: Instant) -> Silence:
        """Return the silence of a node for a member that learnt of its holding then."""
        return Silence.of(self.node_of(node) or FollowedNode(node), self.answers, learned, self.timing)

    def older_rival(self, created: WallTime, group: str, destinations: Collection[Network]) -> str | None:
        """Return the group that came first to one of these destinations, or None.

        ``created``: of the own group Lease; 0: it is not there yet, so any other came first.
        """
        for rival in self.rivals or ():
            first = not created or (rival.created, rival.group) < (created, group)
            if rival.group != group and first and set(rival.destinations) & set(destinations):
                return rival.group
        return None

    def _answered(self, at: Instant) -> Surroundings:
        return replace(self, answers=self.answers.answered(at, self.timing))

    def _put(
        self, before: FollowedNode | None, change: Callable[[FollowedNode], FollowedNode]
    ) -> Surroundings:
        """Return the surroundings with one followed node changed; one that is not followed is not kept."""
        if before is None:
            return self
        followed = tuple(change(item) if item is before else item for item in self.followed)
        return replace(self, followed=followed)


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
    """A renewal was answered. ``lease``: as the API answered it; None: it was not the newest (409)."""

    at: Instant
    began: Instant
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
        match event:
            case Renewed(lease=None):
                return replace(self, known=False)
            case Renewed():
                return replace(self, lease=event.lease, known=True, due=event.began + self.timing.renew)
            case OwnNodeLeaseRead():
                return replace(self, lease=event.lease, known=True)
            case RenewalFailed():
                return replace(self, due=event.at + self.timing.renew)
            case Holds():
                new = (event.holds and not self.holds) or (event.ending and not self.ending)
                due = PAST if new else self.due
                return replace(self, holds=event.holds, ending=event.ending, due=due)
            case _:
                assert_never(event)

    def wants(self, now: Instant) -> tuple[RenewNodeLease | ReadOwnNodeLease, ...]:
        """Return what is due now. An ending agent announces its absence in its last renewals."""
        return self._due(Clock(now))

    def next_at(self, now: Instant) -> Instant:
        """Return when ``wants`` may return more, if nothing happens before."""
        clock = Clock(now)
        self._due(clock)
        return clock.next_at

    def _due(self, clock: Clock) -> tuple[RenewNodeLease | ReadOwnNodeLease, ...]:
        if not self.holds or not clock.past(self.due):
            return ()
        if not self.known:
            return (ReadOwnNodeLease(self.node),)
        seconds = ceil(self.timing.veto if self.ending else self.timing.lease)
        lease = self.lease or NodeLease(self.node)
        lease = replace(lease, holder=self.identity, duration=seconds, owner=self.owner)
        return (RenewNodeLease(lease),)
