"""A cluster that drives members of the core: Leases, pods, EC2 and hosts as values, time as a number.

Nothing here has a rule of its own. An answer takes ``API`` or ``EC2`` seconds, none ``TIMED_OUT``; a
test says what breaks, lets time pass, and asks who holds, where routes lead, and what was written.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from itertools import count

from cni_floatip.election.events import (
    AwaitTurn,
    ClaimsChanged,
    DeleteGroup,
    GroupRead,
    GroupSeen,
    GroupSwapped,
    LookAtRoutes,
    PodRead,
    PodSeen,
    ProbeHost,
    Publish,
    Published,
    ReadGroup,
    ReadNodeLease,
    ReadPod,
    RecordRole,
    ReleaseRoutes,
    RoleRecorded,
    RoutesReleased,
    RoutesSeen,
    RoutesWritten,
    Sent,
    SurroundingsChanged,
    Swap,
    SwapGroup,
    Time,
    TryWrites,
    TurnCame,
    Wish,
    WriteRoutes,
    WritesTried,
)
from cni_floatip.election.fitness import ElectedInterface, PodClaims, PodStatus
from cni_floatip.election.lease import GroupLease, NodeLease
from cni_floatip.election.member import GroupRules, Member
from cni_floatip.election.node import (
    ApiAnswered,
    ApiFailed,
    CordonSeen,
    Holds,
    HostProbed,
    NodeLeaseRead,
    NodeLeaseSeen,
    OwnNodeLeaseRead,
    ReadOwnNodeLease,
    Renewal,
    RenewalFailed,
    Renewed,
    RenewNodeLease,
    Surroundings,
)
from cni_floatip.election.timing import Timing
from cni_floatip.model.route_write import WriteOutcome
from cni_floatip.model.values import RouteKey, RouteTarget

API = 0.02
TIMED_OUT = 0.5
EC2 = 0.25
GROUP = "ns/web"
DESTINATION = ip_network("192.168.0.2/32")
KEYS = (RouteKey("rtb-1", DESTINATION), RouteKey("rtb-2", DESTINATION))
BEFORE_ALL = 1000


@dataclass
class Host:
    """One node: what its agent knows, and what is true of it."""

    name: str
    surroundings: Surroundings
    renewal: Renewal
    member: Member
    claims: dict[str, PodClaims] = field(default_factory=dict)
    statuses: dict[str, PodStatus] = field(default_factory=dict)
    up: bool = True
    agent: bool = True
    api: bool = True
    watching: bool = True
    answers_probes: bool = True
    ec2_reads: bool = True
    ec2_writes: bool = True
    outcome: WriteOutcome = WriteOutcome.WRITTEN
    busy: set[object] = field(default_factory=set)
    life: int = 0
    before: tuple[Member, Renewal] | None = None
    next_at: float = 0.0

    def is_settled(self, now: float) -> bool:
        """Whether nothing has happened, and no time has come, since its agent was asked what it wants."""
        known = self.before is not None and self.before[0] is self.member and self.before[1] is self.renewal
        return known and now < self.next_at


class Cluster:
    """Nodes ``a``, ``b``, ... in zones of the same names, each with one pod of the group, Ready."""

    def __init__(
        self, names: str = "ab", rules: GroupRules | None = None, timing: Timing | None = None
    ) -> None:
        self.now = 100.0
        self.rules, self.timing = rules or GroupRules(), Timing()
        self.group: GroupLease | None = None
        self.node_leases: dict[str, NodeLease] = {}
        self.routes: dict[RouteKey, RouteTarget | None] = dict.fromkeys(KEYS)
        self.pods: dict[str, PodStatus] = {}
        self.log: list[str] = []
        self.api_up = True
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = count(1)
        self.hosts = {name: self._host(name) for name in names}
        for name in names:
            self.add_pod(name)

    # What a test does.

    def add_pod(self, name: str, pod: str = "", *, ready: bool = True) -> None:
        """Put a pod of the group on a node: its ADD, then its containers."""
        host, uid = self.hosts[name], f"uid-{pod or name}"
        host.claims[uid] = PodClaims(
            uid,
            f"web-{pod or name}",
            BEFORE_ALL + int(self.now),
            (ElectedInterface(f"eni-{name}", (DESTINATION,)),),
            KEYS,
        )
        status = PodStatus(uid, ready, started=(BEFORE_ALL + int(self.now),), created=int(self.now))
        self.set_claims(name)
        self.set_pod(uid, status)

    def set_claims(self, name: str) -> None:
        host = self.hosts[name]
        self._tell(host, ClaimsChanged(self.now, tuple(host.claims.values())))

    def set_pod(self, uid: str, status: PodStatus | None) -> None:
        """Change what Kubernetes says of a pod; the agents of its node see it by the watch."""
        if status is None:
            self.pods.pop(uid, None)
        else:
            self.pods[uid] = status
        for host in self.hosts.values():
            if uid in host.claims and host.watching:
                self._deliver(host, PodSeen(self.now + API, uid, status))

    def change_pod(self, uid: str, **changes: object) -> None:
        self.set_pod(uid, replace(self.pods[uid], **changes))  # type: ignore[arg-type]

    def end_pod(self, name: str, uid: str) -> None:
        """The pod is gone: its DEL, and no object of it."""
        host = self.hosts[name]
        host.claims[uid] = replace(host.claims[uid], ended_at=self.now)
        self.set_claims(name)
        self.set_pod(uid, None)

    def kill(self, name: str) -> None:
        """The node dies."""
        host = self.hosts[name]
        host.up = host.agent = host.answers_probes = False
        host.life += 1

    def crash(self, name: str) -> None:
        """The agent dies; the node lives."""
        self.hosts[name].agent = False
        self.hosts[name].life += 1

    def start(self, name: str) -> None:
        """An agent starts anew and reads its claims."""
        old = self.hosts[name]
        host = self._host(name)
        host.claims, host.life = old.claims, old.life + 1
        for uid, claims in host.claims.items():
            pod = old.member.pod(uid)
            host.claims[uid] = replace(claims, active_on_disk=bool(pod and pod.claims.active_on_disk))
        self.hosts[name] = host
        self.set_claims(name)

    def cordon(self, name: str, *, cordoned: bool = True) -> None:
        host = self.hosts[name]
        self._later(API, lambda: self._tell_node(host, CordonSeen(self.now, cordoned)))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        for _ in range(200_000):
            self._drive()
            at = self._queue[0][0] if self._queue else end
            step = min([at, *(host.next_at for host in self._agents()), end])
            if step >= end and at > end:
                self.now = end
                return
            self.now = max(self.now, step)
            while self._queue and self._queue[0][0] <= self.now:
                heapq.heappop(self._queue)[2]()
            if self.now >= end:
                return
            for host in self._agents():
                if host.next_at <= self.now:
                    host.member = host.member.on(Time(self.now))
        raise AssertionError(f"endless at {self.now}: {self.log[-20:]}")

    def until(self, true: Callable[[], bool], seconds: float, step: float = 0.05) -> float:
        """Let time pass until something is true, asked each ``step``; return how long that took."""
        began = self.now
        while not true():
            assert self.now < began + seconds, f"not in {seconds} s: {self}"
            self.run(step)
        return self.now - began

    @property
    def holder(self) -> str | None:
        return self.group.holder.node if self.group and self.group.holder else None

    def leads_to(self, name: str) -> bool:
        return all(target and target.id == f"eni-{name}" for target in self.routes.values())

    def count(self, what: str) -> int:
        return sum(what in line for line in self.log)

    def __str__(self) -> str:
        offer = f" offered {self.group.offer}" if self.group and self.group.offer else ""
        routes = ", ".join(f"{key.table} -> {target}" for key, target in self.routes.items())
        return f"{self.now:.2f} {self.group.holder if self.group else None}{offer}; {routes}; {self.log[-8:]}"

    # What drives the members.

    def _host(self, name: str) -> Host:
        surroundings = Surroundings(name, zone=name, epoch=BEFORE_ALL, timing=self.timing, rivals=())
        renewal = Renewal(name, f"node-{name}", f"owner-{name}", self.timing)
        return Host(name, surroundings, renewal, Member(GROUP, surroundings, self.rules))

    def _agents(self) -> list[Host]:
        return [host for host in self.hosts.values() if host.up and host.agent]

    def _linked(self, host: Host) -> bool:
        return self.api_up and host.api and host.up and host.agent

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + seconds, next(self._count), act))

    def _tell(self, host: Host, event: object) -> None:
        host.member = host.member.on(event)  # type: ignore[arg-type]

    def _tell_node(self, host: Host, event: object) -> None:
        host.surroundings = host.surroundings.on(event)  # type: ignore[arg-type]
        self._tell(host, SurroundingsChanged(self.now, host.surroundings))

    def _drive(self) -> None:
        for host in self._agents():
            if host.is_settled(self.now):
                continue
            follows = frozenset([host.member.follows] if host.member.follows else [])
            followed = host.surroundings.follow(follows)
            if followed != host.surroundings:
                host.surroundings = followed
                self._tell(host, SurroundingsChanged(self.now, followed))
            if host.member.renews != host.renewal.holds:
                host.renewal = host.renewal.on(Holds(self.now, host.member.renews))
            for wish in (*host.member.wants(self.now), *host.renewal.wants(self.now)):
                if self._lane(wish) not in host.busy:
                    host.busy.add(self._lane(wish))
                    self._send(host, wish)
            host.next_at = min(host.member.next_at(self.now), host.renewal.next_at(self.now))
            host.before = (host.member, host.renewal)

    def _lane(self, wish: object) -> object:
        if isinstance(wish, ReadPod):
            return wish
        return type(wish)

    def _send(self, host: Host, wish: object) -> None:
        life, began = host.life, self.now
        if isinstance(wish, SwapGroup | DeleteGroup | WriteRoutes | ReleaseRoutes):
            self._tell(host, Sent(began, wish))
        answer = self._answer(host, wish, began)
        to_ec2 = isinstance(wish, WriteRoutes | ReleaseRoutes | LookAtRoutes | TryWrites)
        local = isinstance(wish, AwaitTurn | RecordRole | Publish)
        remote = API if self._linked(host) or isinstance(wish, ProbeHost) else TIMED_OUT
        seconds = EC2 if to_ec2 else 0.0 if local else remote

        def arrive() -> None:
            host.before = None  # a lane is free: what was not sent is asked for again
            host.busy.discard(self._lane(wish))
            if host.life == life and host.up and host.agent:
                answer()

        self._later(seconds, arrive)

    def _answer(self, host: Host, wish: object, began: float) -> Callable[[], None]:
        """Apply a request now; return what tells the member of it when its answer comes."""
        match wish:
            case AwaitTurn():
                return lambda: self._tell(host, TurnCame(self.now))
            case RecordRole():
                return lambda: self._tell(host, RoleRecorded(self.now, wish.uid, wish.active, done=True))
            case Publish():
                self.log.append(f"event {wish.notice.kind.value} {wish.notice.uid}")
                return lambda: self._tell(host, Published(self.now, wish.notice))
            case ProbeHost():
                answered = self.hosts[wish.node].answers_probes
                return lambda: self._tell_node(host, HostProbed(self.now, began, wish.node, answered))
            case WriteRoutes() | ReleaseRoutes() | LookAtRoutes() | TryWrites():
                return self._ec2(host, wish, began)
            case _:
                return self._kubernetes(host, wish, began)

    def _ec2(self, host: Host, wish: Wish, began: float) -> Callable[[], None]:
        match wish:
            case LookAtRoutes():
                routes = tuple(self.routes.items()) if host.ec2_reads else None
                return lambda: self._tell(host, RoutesSeen(self.now, began, routes))
            case WriteRoutes():
                assert began <= wish.until
                outcome = host.outcome if host.ec2_writes else WriteOutcome.UNANSWERED
                if outcome is WriteOutcome.WRITTEN:
                    self.routes |= dict.fromkeys(wish.keys, RouteTarget(f"eni-{host.name}", True))
                self.log.append(f"{host.name} writes {outcome.name}")
                outcomes = tuple((key, outcome) for key in wish.keys)
                return lambda: self._tell(host, RoutesWritten(self.now, began, outcomes))
            case TryWrites():
                outcome = host.outcome if host.ec2_writes else WriteOutcome.UNANSWERED
                outcomes = tuple((key, outcome) for key in wish.keys)
                return lambda: self._tell(host, WritesTried(self.now, began, outcomes))
            case ReleaseRoutes():
                for key in wish.keys:
                    target = self.routes[key]
                    if target and target.id == f"eni-{host.name}":
                        self.routes[key] = None
                self.log.append(f"{host.name} releases")
                return lambda: self._tell(host, RoutesReleased(self.now, began, done=True))
            case _:
                raise AssertionError(wish)

    def _kubernetes(self, host: Host, wish: object, began: float) -> Callable[[], None]:
        if not self._linked(host):
            return lambda: self._unanswered(host, wish)

        def answered(event: object) -> None:
            self._tell_node(host, ApiAnswered(self.now))
            self._tell(host, event)

        match wish:
            case ReadGroup():
                lease = self.group
                return lambda: answered(GroupRead(self.now, began, lease))
            case ReadPod():
                status = self.pods.get(wish.uid)
                return lambda: answered(PodRead(self.now, began, wish.uid, status))
            case ReadNodeLease():
                node_lease = self.node_leases.get(wish.node)
                return lambda: self._tell_node(host, NodeLeaseRead(self.now, began, wish.node, node_lease))
            case SwapGroup() | DeleteGroup():
                outcome, lease = self._swap(host, wish)
                return lambda: answered(GroupSwapped(self.now, began, outcome, lease))
            case ReadOwnNodeLease():
                own = self.node_leases.get(wish.node)
                return lambda: self._renewal(host, OwnNodeLeaseRead(self.now, own))
            case RenewNodeLease():
                kept = self._renew(host, wish.lease)
                return lambda: self._renewal(host, Renewed(self.now, began, kept))
            case _:
                raise AssertionError(wish)

    def _unanswered(self, host: Host, wish: object) -> None:
        self._tell_node(host, ApiFailed(self.now))
        match wish:
            case SwapGroup() | DeleteGroup():
                self._tell(host, GroupSwapped(self.now, self.now, Swap.UNKNOWN))
            case RenewNodeLease() | ReadOwnNodeLease():
                self._renewal(host, RenewalFailed(self.now))

    def _renewal(self, host: Host, event: object) -> None:
        host.renewal = host.renewal.on(event)  # type: ignore[arg-type]
        if not isinstance(event, RenewalFailed):
            self._tell_node(host, ApiAnswered(self.now))

    def _swap(self, host: Host, wish: SwapGroup | DeleteGroup) -> tuple[Swap, GroupLease | None]:
        before = self.group
        uid, version = (
            (wish.uid, wish.version)
            if isinstance(wish, DeleteGroup)
            else (wish.lease.uid, wish.lease.version)
        )
        if (uid, version) != ((before.uid, before.version) if before else ("", "")):
            self.log.append(f"{host.name} conflict")
            return Swap.CONFLICT, None
        if isinstance(wish, DeleteGroup):
            self.group = None
            self.log.append(f"{host.name} deletes the Lease")
        else:
            number = next(self._count)
            document = replace(wish.lease, version=str(number), uid=uid or f"lease-{number}")
            document = replace(document, created=document.created or BEFORE_ALL + int(self.now))
            body = document.document("floatip-elections")
            body["metadata"] |= {"creationTimestamp": "2026-11-30T00:00:00Z"}
            self.group = GroupLease.parse(body)
            assert self.group.faults == ()
            self.log.append(f"{host.name} {wish.why}")
        for other in self.hosts.values():
            if other is not host and other.watching:
                self._deliver(other, GroupSeen(self.now + API, self.group))
        return Swap.DONE, self.group

    def _renew(self, host: Host, lease: NodeLease) -> NodeLease | None:
        before = self.node_leases.get(host.name)
        if (lease.uid, lease.version) != ((before.uid, before.version) if before else ("", "")):
            return None
        number = next(self._count)
        kept = replace(lease, version=str(number), uid=lease.uid or f"lease-{number}")
        self.node_leases[host.name] = kept
        for other in self.hosts.values():
            if other is not host and other.watching:
                self._deliver(other, NodeLeaseSeen(self.now + API, host.name, kept))
        return kept

    def _deliver(self, host: Host, event: GroupSeen | NodeLeaseSeen | PodSeen) -> None:
        """Give an agent an event of its watch, if it is connected when that arrives."""

        def act() -> None:
            if not self._linked(host) or not host.watching:
                return
            if isinstance(event, NodeLeaseSeen):
                self._tell_node(host, event)
            else:
                self._tell_node(host, ApiAnswered(self.now))
                self._tell(host, event)

        self._later(API, act)
