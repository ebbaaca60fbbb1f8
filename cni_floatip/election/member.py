"""One group on one node: the state machine that its driver feeds with events and asks what to do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import assert_never

from . import active, keeping, learn, outcomes, register, suspicion, taking
from .events import (
    ClaimsChanged,
    DeleteGroup,
    Ec2Called,
    GrantsChanged,
    GroupRead,
    GroupSeen,
    GroupSwapped,
    GroupUnreadable,
    Happening,
    Notice,
    PodRead,
    PodSeen,
    Publish,
    Published,
    ReleaseRoutes,
    RoleRecorded,
    RoutesReleased,
    RoutesSeen,
    RoutesWritten,
    Sent,
    SurroundingsChanged,
    SwapGroup,
    Time,
    TurnCame,
    Wish,
    WriteRoutes,
    WritesTried,
)
from .fitness import Level, LocalPod
from .holding import Holding, Leftover, PeerPod
from .lease import GroupLease, Holder
from .node import Surroundings
from .routes import Ec2View, Mark
from .timing import PAST, Bucket, Clock, Instant, Timing, Uid


@dataclass(frozen=True, slots=True)
class GroupRules:
    """What the pods of a group ask for (netconf ``election``). ``failback`` 0: never."""

    zones: tuple[str, ...] = ()
    failback: float = 0.0
    unready: float = 2.0


@dataclass(frozen=True, slots=True)
class Member:
    """One group on one node: it has a pod of the group here, or is named as its holder.

    Immutable and hashable. A driver gives every event to ``on``, and ``Time`` when ``next_at`` has come; then
    it does what ``wants`` returns.

    ``known``: the group Lease was read (``lease`` None: there is none). ``stale``: it must be read anew.
    ``unreadable``: it cannot be read. ``viewed_at``: when the view last changed; ``read_began``: of the
    newest GET. ``learned_at``: when this holding was learnt; ``offer_at``: when the offer that stands was.
    ``former``: who held a Lease that has vanished. ``unsure``: a swap that would have won has no answer.
    ``refused_at``: when the API last refused a swap. ``swapping``, ``writing``: what is under way,
    ``writing_at`` since when; ``wrote_at``: when the newest write ended. ``turn``: when the request rate had
    room for the writes that are due.
    """

    group: str
    surroundings: Surroundings
    rules: GroupRules = field(default_factory=GroupRules)

    pods: tuple[LocalPod, ...] = ()
    claims_known: bool = False
    lease: GroupLease | None = None
    known: bool = False
    stale: bool = False
    unreadable: str = ""
    viewed_at: Instant = PAST
    read_began: Instant = PAST
    learned_at: Instant = PAST
    offer_at: Instant = PAST
    former: Holder | None = None
    unsure: bool = False
    refused_at: Instant = PAST

    holding: Holding | None = None
    leftover: Leftover | None = None
    swapping: SwapGroup | DeleteGroup | None = None
    writing: WriteRoutes | ReleaseRoutes | None = None
    writing_at: Instant = PAST
    wrote_at: Instant = PAST
    turn: Instant | None = None

    ec2: Ec2View = field(default_factory=Ec2View)
    marks: tuple[Mark, ...] = ()
    tried_at: Instant = PAST
    damping: Bucket = field(default_factory=Bucket)
    peers: tuple[PeerPod, ...] = ()
    enis: tuple[str, ...] = ()
    entry_written: Instant = PAST
    unequal_since: Instant | None = None
    contested_by: str | None = None
    record_failed: Instant = PAST
    notices: tuple[Notice, ...] = ()

    def on(self, event: Happening) -> Member:
        """Return the member after an event."""
        return self._on(event)._settle(Clock(event.at))

    def _on(self, event: Happening) -> Member:
        match event:
            case Time() | TurnCame() | Sent() | RoleRecorded() | Published() | GrantsChanged():
                return self._on_driver(event)
            case SurroundingsChanged():
                return replace(self, surroundings=event.surroundings)
            case ClaimsChanged():
                return learn.claims(self, event)
            case GroupRead():
                return learn.read(self, event)
            case GroupSeen():
                return learn.watched(self, event)
            case GroupUnreadable():
                return replace(self, unreadable=event.error)
            case GroupSwapped():
                return learn.swapped(self, event)
            case PodRead():
                return learn.pod(self, event.uid, event.status, event.at, event.began)
            case PodSeen():
                return learn.pod(self, event.uid, event.status, event.at, None)
            case RoutesWritten() | RoutesSeen() | WritesTried() | RoutesReleased() | Ec2Called():
                return outcomes.answered(self, event)
            case _:
                assert_never(event)

    def _on_driver(self, event: Time | TurnCame | Sent | RoleRecorded | Published | GrantsChanged) -> Member:
        match event:
            case Time():
                return self
            case TurnCame():
                return replace(self, turn=event.at)
            case Sent():
                request = event.request
                if isinstance(request, SwapGroup | DeleteGroup):
                    return replace(self, swapping=request)
                return replace(self, writing=request, writing_at=event.at, turn=None)
            case RoleRecorded():
                return learn.role(self, event)
            case Published():
                return replace(self, notices=tuple(item for item in self.notices if item != event.notice))
            case GrantsChanged():
                return outcomes.granted(self)
            case _:
                assert_never(event)

    def wants(self, now: Instant) -> tuple[Wish, ...]:
        """Return everything that is due now."""
        return self._wants(Clock(now))

    def next_at(self, now: Instant) -> Instant:
        """Return when the driver must give ``Time`` and ask again, if nothing happens before."""
        clock = Clock(now)
        self._settle(clock)._wants(clock)
        return clock.next_at

    def _wants(self, clock: Clock) -> tuple[Wish, ...]:
        wishes: list[Wish] = [*suspicion.reads(self, clock), *register.reads(self, clock)]
        swap = self._swap(clock)
        wishes += [swap] if swap else []
        wishes += keeping.wishes(self, clock)
        wishes += [Publish(notice) for notice in self.notices]
        return tuple(dict.fromkeys(wishes))

    def _swap(self, clock: Clock) -> SwapGroup | DeleteGroup | None:
        """Return the one change of the group Lease that is due, or None."""
        if not self.known or self.stale or self.unreadable or self.swapping:
            return None
        if not clock.past(self.refused_at + self.timing.failed_look):
            return None
        return (
            taking.swap(self, clock)
            or active.swap(self, clock)
            or register.swap(self, clock)
            or register.delete(self, clock)
        )

    def _settle(self, clock: Clock) -> Member:
        """Return the member after what follows from its state by itself."""
        after = outcomes.settle(self, clock)
        return register.settle(after, clock)

    @property
    def timing(self) -> Timing:
        """Return the durations of the rules."""
        return self.surroundings.timing

    @property
    def node(self) -> str:
        """Return this node's name."""
        return self.surroundings.node

    def pod(self, uid: Uid) -> LocalPod | None:
        """Return a pod of the group on this node."""
        return next((pod for pod in self.pods if pod.claims.uid == uid), None)

    def peer(self, uid: Uid) -> PeerPod | None:
        """Return what is known of a pod of another node."""
        return next((peer for peer in self.peers if peer.uid == uid), None)

    def hold(self, **changes: object) -> Member:
        """Return the member with its holding changed, if it has one."""
        if self.holding is None:
            return self
        return replace(self, holding=replace(self.holding, **changes))  # type: ignore[arg-type]

    @property
    def held_pod(self) -> LocalPod | None:
        """Return the pod of this node that holds the group, if its claims are on record here."""
        return self.pod(self.holding.uid) if self.holding else None

    @property
    def level(self) -> Level:
        """Return how well members of this node stand."""
        if self.marks:
            return Level.MARKED
        return Level.CORDONED if self.surroundings.cordoned else Level.NONE

    @property
    def rival(self) -> str | None:
        """Return the older group that claims a destination of a pod here, or None."""
        if not self.surroundings.rivals:
            return None
        networks = {network for pod in self.pods if pod.live for network in pod.claims.destinations}
        created = self.lease.created if self.lease else 0
        return self.surroundings.older_rival(created, self.group, networks)

    @property
    def renews(self) -> bool:
        """Whether this node must renew its Lease for this group: it holds it with a live claim.

        Until the Lease is read, the role on disk tells.
        """
        if not self.known:
            return any(pod.live and pod.claims.active_on_disk for pod in self.pods)
        pod = self.held_pod
        return pod is not None and pod.live

    @property
    def follows(self) -> str | None:
        """Return the node whose Lease this member follows, or None."""
        holder = self.lease.holder if self.lease else None
        return holder.node if holder and holder.node != self.node and self.pods else None

    @property
    def active(self) -> Uid | None:
        """Return the pod of this node that holds the group, offered or not, or None."""
        return self.holding.uid if self.holding and self.held_pod else None

    @property
    def contested(self) -> bool:
        """Whether another writer keeps putting its own route in place of the active's."""
        return self.holding is not None and self.holding.contested

    @property
    def finished(self) -> bool:
        """Whether a driver may forget the member: nothing of the group is here, or left to do."""
        if self.pods or self.holding or self.leftover or not self.known or self.swapping or self.writing:
            return False
        lease = self.lease
        mine = lease is not None and any(entry.node == self.node for entry in lease.members)
        return not mine and not (lease and lease.holder is None and not lease.members)
