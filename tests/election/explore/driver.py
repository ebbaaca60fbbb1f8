"""The agents: everything of one node that is the shipped core, and how its threads use it.

An agent here is a value (``Agent``) with a number. ``Agents.after`` says which agent it is after something
happened; the core is asked once for each pair. What needs nobody else (publish an Event, write the role to
disk, have a turn of the request rate) is done at once.

What only has to be told apart is renamed, so that states come back: resourceVersions (the newest, older
ones), uids of Leases, generations (distance to the newest), and ``fit since`` (newer than the register, in
the register, older).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from cni_floatip.election import events as e
from cni_floatip.election import node as n
from cni_floatip.election.fitness import ElectedInterface, PodClaims, PodStatus
from cni_floatip.election.lease import GroupLease, NodeLease
from cni_floatip.election.member import Member
from cni_floatip.model.route_write import WriteOutcome
from cni_floatip.model.values import RouteTarget
from tests.election.explore import canonical
from tests.election.explore.setting import HORIZON, Setting
from tests.election.explore.values import NOW, Change, Interned, past, rewrite

ADDED = 500
STARTED_BEFORE, STARTED_AFTER = 400, 600
"""Whole seconds of a node's clock: its pod's ADD, and the start of containers before it and after."""
GENERATION = 8
SECONDS_OF_NODE = 100_000
NAMESPACE = "floatip-elections"

Outcomes = tuple[tuple[int, str], ...]


class Agent(NamedTuple):
    """One agent: what its members share, its own Lease, a member of each group."""

    surroundings: n.Surroundings
    renewal: n.Renewal
    members: tuple[Member, ...]


class Wished(NamedTuple):
    """What an agent asks for. ``group`` -1: for the node. ``request``: its number in ``Agents.requests``."""

    kind: str
    group: int
    request: int
    urgent: bool


def node_name(node: int) -> str:
    return f"n{node}"


def pod_name(group: int, node: int) -> str:
    return f"p{group}{node}"


def pod_uid(group: int, node: int, number: int) -> str:
    return f"{pod_name(group, node)}.{number}"


def eni(node: int) -> str:
    return f"eni-{node}"


def group_version(group: int) -> int:
    return 100 * (group + 1) + 9


def node_version(node: int) -> int:
    return 10_000 * (node + 1) + 9


def node_lease(node: int, duration: float) -> NodeLease:
    """Return the newest Lease of a node, as the API has it."""
    name = node_name(node)
    return NodeLease(name, f"lease-{name}", str(node_version(node)), identity(node), int(duration), name)


def identity(node: int) -> str:
    return f"{node_name(node)}/boot"


class Agents:
    """The agents of one exploration. Agent 0 and Lease 0 are none."""

    def __init__(self, setting: Setting, *, exact: bool = False) -> None:
        self.setting = setting
        self._exact = exact
        self.timing = setting.timing
        self.keys = setting.places()
        self.agents: Interned[Agent | None] = Interned()
        self.leases: Interned[GroupLease | None] = Interned()
        self.requests: Interned[Any] = Interned()
        self.agents.number(None)
        self.leases.number(None)
        self._after: dict[tuple[Any, ...], int] = {}
        self._wishes: dict[int, tuple[Wished, ...]] = {}
        self._nodes = {node_name(node): node for node in range(setting.nodes)}

    # What an agent does.

    def after(self, agent: int, what: str, *arguments: Any) -> int:
        """Return the agent after ``what``: the name of a method below, without its underscore."""
        if not agent:
            return 0
        key = agent, what, arguments
        result = self._after.get(key)
        if result is None:
            value = self.agents[agent]
            assert value
            changed = getattr(self, f"_{what}")(value, *arguments)
            result = self._after[key] = agent if changed is value else self.agents.number(changed)
        return result

    def wishes(self, agent: int) -> tuple[Wished, ...]:
        """Return what an agent asks for now."""
        wishes = self._wishes.get(agent)
        if wishes is None:
            value = self.agents[agent]
            wishes = self._wishes[agent] = tuple(dict.fromkeys(self._wished(value))) if value else ()
        return wishes

    def _wished(self, agent: Agent) -> Iterable[Wished]:
        for own in agent.renewal.wants(NOW):
            yield Wished(type(own).__name__, -1, self.requests.number(own), urgent=True)
        for group, member in enumerate(agent.members):
            for request in member.wants(NOW):
                if not isinstance(request, _ALONE):
                    whose = -1 if isinstance(request, _OF_NODE) else group
                    kind = type(request).__name__
                    urgent = request.urgent or isinstance(request, e.ProbeHost)
                    yield Wished(kind, whose, self.requests.number(request), urgent)

    # How an agent begins.

    def started(self, node: int, claims: tuple[tuple[tuple[int, bool, bool], ...], ...]) -> int:
        """Return an agent that has just read its claims: of each group number, ended and active of pods."""
        zone = self.setting.zones[node] if self.setting.zones else ""
        epoch = SECONDS_OF_NODE * (node + 1) - int(NOW)
        name = node_name(node)
        surroundings = n.Surroundings(name, zone, epoch, self.timing)
        members = tuple(
            Member(group_name(group), surroundings, self.setting.rules)
            for group in range(self.setting.groups)
        )
        agent = Agent(surroundings, n.Renewal(name, identity(node), name, self.timing), members)
        for group, pods in enumerate(claims):
            agent = self._claims(agent, group, pods)
        return self.agents.number(self._settled(agent))

    def _claims(self, agent: Agent, group: int, pods: tuple[tuple[int, bool, bool], ...]) -> Agent:
        """Give an agent its claims of a group."""
        node = self._nodes[agent.surroundings.node]
        setting = self.setting
        interface = ElectedInterface(eni(node), setting.destinations(group, node))
        known = {pod.claims.uid: pod.claims.ended_at for pod in agent.members[group].pods}
        claims = tuple(
            PodClaims(
                uid := pod_uid(group, node, number),
                pod_name(group, node),
                ADDED,
                (interface,),
                setting.keys(group, node),
                keep=setting.keep,
                active_on_disk=active,
                ended_at=(known.get(uid) or NOW) if ended else None,
            )
            for number, ended, active in pods
        )
        return self._settled(self._tell(agent, group, e.ClaimsChanged(NOW, claims)))

    def claims(self, agent: int, group: int) -> tuple[tuple[int, bool, bool], ...]:
        """Return an agent's claims of a group: number, ended and active of each pod."""
        value = self.agents[agent]
        return _claimed(value, group) if value else ()

    def _added(self, agent: Agent, group: int, number: int) -> Agent:
        return self._claims(agent, group, (*_claimed(agent, group), (number, False, False)))

    def _deleted(self, agent: Agent, group: int, number: int) -> Agent:
        claims = tuple((pod, ended or pod == number, active) for pod, ended, active in _claimed(agent, group))
        return self._claims(agent, group, claims)

    # What happens to an agent.

    def _tell(self, agent: Agent, group: int, *events: Any) -> Agent:
        member = agent.members[group]
        for event in events:
            member = member.on(event)
        members = (*agent.members[:group], member, *agent.members[group + 1 :])
        return agent._replace(members=members)

    def _surrounded(self, agent: Agent, *events: Any) -> Agent:
        surroundings = agent.surroundings
        for event in events:
            surroundings = surroundings.on(event)
        return self._share(agent, surroundings)

    @staticmethod
    def _share(agent: Agent, surroundings: n.Surroundings) -> Agent:
        if surroundings == agent.surroundings:
            return agent
        event = e.SurroundingsChanged(NOW, surroundings)
        return agent._replace(surroundings=surroundings, members=tuple(m.on(event) for m in agent.members))

    def _settled(self, agent: Agent) -> Agent:
        """Do what the threads do after each event, until nothing is left that needs nobody else."""
        for _ in range(20):
            before = agent
            follows = frozenset(name for member in agent.members if (name := member.follows))
            agent = self._share(agent, agent.surroundings.follow(follows))
            holds = any(member.renews for member in agent.members)
            if holds != agent.renewal.holds:
                ending = agent.renewal.ending
                agent = agent._replace(renewal=agent.renewal.on(n.Holds(NOW, holds, ending)))
            for group in range(len(agent.members)):
                agent = self._alone(agent, group)
            if agent == before:
                agent = self._dated(agent)
                return agent if self._exact else _canonical(agent)
        raise AssertionError(f"the core never settles: {agent}")

    def _dated(self, agent: Agent) -> Agent:
        """Date what became fit since the register was written alike, how often that ever was."""
        now = SECONDS_OF_NODE * (self._nodes[agent.surroundings.node] + 1)

        def dated(old: Any) -> Any:
            return now if isinstance(old, int) and now < old < now + 100 else old

        return _rewritten(agent, "WallTime", dated)

    def _alone(self, agent: Agent, group: int) -> Agent:
        for request in agent.members[group].wants(NOW):
            if isinstance(request, e.Publish):
                agent = self._tell(agent, group, e.Published(NOW, request.notice))
            elif isinstance(request, e.AwaitTurn):
                agent = self._tell(agent, group, e.TurnCame(NOW))
            elif isinstance(request, e.RecordRole):
                agent = self._tell(agent, group, e.RoleRecorded(NOW, request.uid, request.active, True))
        return self._tell(agent, group, e.Time(NOW))

    def _answered(self, agent: Agent) -> Agent:
        return self._surrounded(agent, n.ApiAnswered(NOW))

    def _aged(self, agent: Agent, connected: bool) -> Agent:
        agent = _rewritten(agent, "Instant", past(1.0, HORIZON))
        if not connected:
            agent = self._surrounded(agent, n.ApiFailed(NOW))
        return self._settled(agent)

    def _renamed(self, agent: Agent, group: int, alias: str, names: tuple[tuple[Any, Any], ...]) -> Agent:
        """Rename what a group's member (-1: whoever) remembers; nothing happens by that."""
        changes = dict(names)
        change = lambda old: changes.get(old, old)  # noqa: E731
        if group < 0:
            return _rewritten(agent, alias, change)
        members = list(agent.members)
        members[group] = rewrite(members[group], alias, change)
        return agent._replace(members=tuple(members))

    def _group_read(self, agent: Agent, group: int, lease: int) -> Agent:
        return self._settled(
            self._tell(self._answered(agent), group, e.GroupRead(NOW, NOW, self.leases[lease]))
        )

    def _groups_seen(self, agent: Agent, leases: tuple[int, ...], groups: tuple[int, ...]) -> Agent:
        """Let the watch deliver the Leases of ``groups``, and all of them as the list."""
        agent = self._answered(agent)
        for group in groups:
            agent = self._tell(agent, group, e.GroupSeen(NOW, self.leases[leases[group]]))
        return self._groups_listed(agent, leases)

    def lists(self, agent: int, leases: tuple[int, ...]) -> bool:
        """Return whether an agent knows the groups of the cluster as they are."""
        return self._rivals(self.after(agent, "groups_listed", leases)) == self._rivals(agent)

    def _rivals(self, agent: int) -> object:
        value = self.agents[agent]
        return value and value.surroundings.rivals

    def _groups_listed(self, agent: Agent, leases: tuple[int, ...]) -> Agent:
        listed = tuple(lease for number in leases if (lease := self.leases[number]))
        return self._settled(self._surrounded(agent, n.GroupsListed(NOW, listed)))

    def _node_lease_read(self, agent: Agent, node: int, duration: float | None) -> Agent:
        lease = None if duration is None else node_lease(node, duration)
        return self._settled(
            self._surrounded(agent, n.ApiAnswered(NOW), n.NodeLeaseRead(NOW, NOW, node_name(node), lease))
        )

    def _node_lease_seen(self, agent: Agent, node: int, duration: float | None) -> Agent:
        lease = None if duration is None else node_lease(node, duration)
        return self._settled(
            self._surrounded(agent, n.ApiAnswered(NOW), n.NodeLeaseSeen(NOW, node_name(node), lease))
        )

    def _renewed(self, agent: Agent, node: int, duration: float | None) -> Agent:
        """Let a renewal be answered; None: it was refused because its version was old."""
        lease = None if duration is None else node_lease(node, duration)
        agent = self._answered(agent)
        return self._settled(agent._replace(renewal=agent.renewal.on(n.Renewed(NOW, NOW, lease))))

    def _own_lease_read(self, agent: Agent, node: int, duration: float | None) -> Agent:
        lease = None if duration is None else node_lease(node, duration)
        agent = self._answered(agent)
        return self._settled(agent._replace(renewal=agent.renewal.on(n.OwnNodeLeaseRead(NOW, lease))))

    def _renewal_failed(self, agent: Agent) -> Agent:
        agent = self._surrounded(agent, n.ApiFailed(NOW))
        return self._settled(agent._replace(renewal=agent.renewal.on(n.RenewalFailed(NOW))))

    def _ending(self, agent: Agent) -> Agent:
        holds = any(member.renews for member in agent.members)
        return agent._replace(renewal=agent.renewal.on(n.Holds(NOW, holds, True)))

    def _cordon_seen(self, agent: Agent, cordoned: bool) -> Agent:
        return self._settled(self._surrounded(agent, n.ApiAnswered(NOW), n.CordonSeen(NOW, cordoned)))

    def _probed(self, agent: Agent, node: int, answered: bool) -> Agent:
        return self._settled(self._surrounded(agent, n.HostProbed(NOW, NOW, node_name(node), answered)))

    def _pod_seen(self, agent: Agent, group: int, uid: str, status: PodStatus | None) -> Agent:
        return self._settled(self._tell(self._answered(agent), group, e.PodSeen(NOW, uid, status)))

    def _pod_read(self, agent: Agent, group: int, uid: str, status: PodStatus | None) -> Agent:
        return self._settled(self._tell(self._answered(agent), group, e.PodRead(NOW, NOW, uid, status)))

    def _sent(self, agent: Agent, group: int, request: int) -> Agent:
        return self._settled(self._tell(agent, group, e.Sent(NOW, self.requests[request])))

    def _swapped(self, agent: Agent, group: int, outcome: e.Swap, lease: int) -> Agent:
        if outcome is not e.Swap.UNKNOWN:
            agent = self._answered(agent)
        return self._settled(self._tell(agent, group, e.GroupSwapped(NOW, NOW, outcome, self.leases[lease])))

    def _written(self, agent: Agent, group: int, outcomes: Outcomes) -> Agent:
        return self._settled(self._tell(agent, group, e.RoutesWritten(NOW, NOW, self._outcomes(outcomes))))

    def _tried(self, agent: Agent, group: int, outcomes: Outcomes) -> Agent:
        return self._settled(self._tell(agent, group, e.WritesTried(NOW, NOW, self._outcomes(outcomes))))

    def _outcomes(self, outcomes: Outcomes) -> tuple[tuple[Any, WriteOutcome], ...]:
        return tuple((self.keys[key], WriteOutcome[name]) for key, name in outcomes)

    def _looked(self, agent: Agent, group: int, routes: tuple[tuple[int, str], ...] | None) -> Agent:
        """Let a look be answered: of each route the id of what it leads to, "" for nothing."""
        targets = (
            None if routes is None else tuple((self.keys[key], _target(target)) for key, target in routes)
        )
        return self._settled(self._tell(agent, group, e.RoutesSeen(NOW, NOW, targets)))

    def _released(self, agent: Agent, group: int, done: bool) -> Agent:
        return self._settled(self._tell(agent, group, e.RoutesReleased(NOW, NOW, done)))

    def _granted(self, agent: Agent) -> Agent:
        for group in range(len(agent.members)):
            agent = self._tell(agent, group, e.GrantsChanged(NOW))
        return self._settled(agent)


def _target(name: str) -> RouteTarget | None:
    return RouteTarget(name, is_eni=name.startswith("eni")) if name else None


_OF_NODE = (e.ReadNodeLease, e.ProbeHost)
_ALONE = (e.Publish, e.AwaitTurn, e.RecordRole)


def group_name(group: int) -> str:
    return f"default/g{group}"


def _rewritten(agent: Agent, alias: str, change: Change) -> Agent:
    around = rewrite(agent.surroundings, alias, change)
    members = tuple(replace(rewrite(member, alias, change), surroundings=around) for member in agent.members)
    return Agent(around, rewrite(agent.renewal, alias, change), members)


def _canonical(agent: Agent) -> Agent:
    learned = tuple((name, member.learned_at) for member in agent.members if (name := member.follows))
    around = canonical.surroundings(agent.surroundings, learned)
    members = tuple(canonical.member(member, around) for member in agent.members)
    return Agent(around, canonical.renewal(agent.renewal), members)


def _claimed(agent: Agent, group: int) -> tuple[tuple[int, bool, bool], ...]:
    claims = (pod.claims for pod in agent.members[group].pods)
    return tuple(
        (int(claim.uid.partition(".")[2]), claim.ended_at is not None, claim.active_on_disk)
        for claim in claims
    )
