"""The steps of the system itself: calls of agents and their answers, watches, clocks, pods that start.

Each call and its answer are one step: others interleave between calls, not within them. A call that takes
long is a fault of its own (``lost``, ``late``, ``miss``). Nothing waits for the next tick that a connected
agent calls urgent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from cni_floatip.election.events import Swap
from tests.election.explore import properties
from tests.election.explore.driver import Agents, Wished, eni, node_name, node_version, pod_name, pod_uid
from tests.election.explore.search import Step
from tests.election.explore.setting import Setting
from tests.election.explore.world import (
    CAP,
    FAULT,
    LOST,
    Ec2,
    Phase,
    Pod,
    World,
    deleted,
    led,
    linked,
    notify,
    notify_all,
    place_set,
    pod_set,
    spent,
    status,
    swapped,
    view,
)

Source = Callable[[], Iterator[Step]]
WITHOUT_API = frozenset(("ProbeHost", "WriteRoutes", "LookAtRoutes", "TryWrites", "ReleaseRoutes"))
"""Calls that do not need the API."""


class System:
    """The steps of one setting's system."""

    def __init__(self, setting: Setting, agents: Agents) -> None:
        self.setting = setting
        self.agents = agents
        self.keys = agents.keys
        self._nodes = {node_name(node): node for node in range(setting.nodes)}
        self._own_keys = {
            (group, node): tuple(self.keys.index(key) for key in setting.keys(group, node))
            for group in range(setting.groups)
            for node in range(setting.nodes)
        }

    def steps(self, world: World) -> Iterator[Step]:
        """Yield every step of the system, the tick at last if nothing is urgent."""
        for source in self.sources(world):
            yield from source()

    def sources(self, world: World) -> Iterator[Source]:
        """Yield where steps come from, without taking them: a walk takes one of many."""
        waiting = renewals = 0
        for node, place in enumerate(world.places):
            if not place.agent:
                yield partial(self._starts, world, node)
                continue
            link = linked(world, node)
            for source in self._watches(world, node) if link else ():
                waiting += not place.stalled
                yield source
            for wished in self.agents.wishes(place.agent):
                if not link and wished.kind not in WITHOUT_API:
                    continue
                if link and wished.urgent:
                    waiting += 1
                    renewals += wished.kind == "RenewNodeLease"
                yield partial(getattr(self, f"_call_{wished.kind}"), world, node, wished)
            yield partial(self._slow, world, node)
        yield partial(self._landings, world)
        yield partial(self._pods, world)
        if not waiting:
            yield partial(self._ticks, world)
        elif waiting == renewals and world.left[FAULT["miss"]]:
            yield partial(self._misses, world)

    def _ticks(self, world: World) -> Iterator[Step]:
        yield Step("tick", self.tick(world))

    def _misses(self, world: World) -> Iterator[Step]:
        yield Step("TICK-RENEWAL-LOST", self.tick(self._missed(spent(world, "miss"))), system=False)

    # Agents.

    def _starts(self, world: World, node: int) -> Iterator[Step]:
        place = world.places[node]
        if not place.up:
            return
        agent = self.agents.started(node, tuple(pod.disk for pod in place.pods))
        pods = tuple(pod._replace(shown=None, behind=True, disk=()) for pod in place.pods)
        after = place_set(
            world, node, agent=agent, pods=pods, cordon_shown=None, behind=0, healthy=False, slow=0
        )
        yield Step(f"starts@{node}", self._listed(after, node) if linked(after, node) else after)

    def _listed(self, world: World, node: int) -> World:
        """Let an agent that starts read its node and its pods: a change before that came before the start."""
        place = world.places[node]
        world = notify(world, self.agents, node, "cordon_seen", place.cordoned)
        world = place_set(world, node, cordon_shown=place.cordoned)
        for group, pod in enumerate(place.pods):
            uid = pod_uid(group, node, pod.number)
            world = notify(world, self.agents, node, "pod_read", group, uid, status(pod, group, node))
            world = pod_set(world, node, group, shown=view(pod))
        return world

    def _watches(self, world: World, node: int) -> Iterator[Source]:
        """Yield what this node's watches have to deliver, one event after another."""
        place = world.places[node]
        if place.cordon_shown is not place.cordoned:
            yield partial(self._sees_node, world, node)
        groups = tuple(group for group, pod in enumerate(place.pods) if pod.behind)
        lists = self.agents.lists(place.agent, world.leases)
        if place.stalled and not lists:
            yield partial(self._sees_groups, world, node, ())  # the list that is read again beside the watch
        elif not place.stalled and (groups or not lists):
            yield partial(self._sees_groups, world, node, groups)
        for group, pod in enumerate(place.pods):
            if pod.shown != view(pod):
                yield partial(self._sees_pod, world, node, group)
        for other in range(len(world.places)):
            if place.behind >> other & 1 and not place.stalled:
                yield partial(self._sees_renewal, world, node, other)

    def _sees_node(self, world: World, node: int) -> Iterator[Step]:
        cordoned = world.places[node].cordoned
        after = notify(world, self.agents, node, "cordon_seen", cordoned)
        yield Step(f"sees-node@{node}", place_set(after, node, cordon_shown=cordoned))

    def _sees_groups(self, world: World, node: int, groups: tuple[int, ...]) -> Iterator[Step]:
        after = notify(world, self.agents, node, "groups_seen", world.leases, groups)
        for group in groups:
            after = pod_set(after, node, group, behind=False)
        yield Step(f"sees-groups@{node}", after)

    def _sees_pod(self, world: World, node: int, group: int) -> Iterator[Step]:
        pod, after = world.places[node].pods[group], world
        if pod.shown is not None and pod.shown[0] != pod.number:
            former = pod_uid(group, node, pod.shown[0])
            after = notify(after, self.agents, node, "pod_seen", group, former, None)
        uid, shown = pod_uid(group, node, pod.number), status(pod, group, node)
        after = notify(after, self.agents, node, "pod_seen", group, uid, shown)
        yield Step(f"sees-pod@{node}", pod_set(after, node, group, shown=view(pod)))

    def _sees_renewal(self, world: World, node: int, other: int) -> Iterator[Step]:
        after = notify(world, self.agents, node, "node_lease_seen", other, self._announced(world, other))
        behind = world.places[node].behind & ~(1 << other)
        yield Step(f"sees-renewal-of-{other}@{node}", place_set(after, node, behind=behind))

    def _announced(self, world: World, node: int) -> float | None:
        """Return the duration that a node Lease says; None: there is no such Lease."""
        timing = self.setting.timing
        return {0: None, 1: timing.lease, 2: timing.veto}[world.places[node].lease]

    def _call_ReadGroup(self, world: World, node: int, wished: Wished) -> Iterator[Step]:  # noqa: N802
        group = wished.group
        after = notify(world, self.agents, node, "group_read", group, world.leases[group])
        yield Step(f"reads-group@{node}", pod_set(after, node, group, behind=False))

    def _call_ReadNodeLease(self, world: World, node: int, wished: Wished) -> Iterator[Step]:  # noqa: N802
        other = self._nodes[self.agents.requests[wished.request].node]
        after = notify(world, self.agents, node, "node_lease_read", other, self._announced(world, other))
        behind = world.places[node].behind & ~(1 << other)
        yield Step(f"reads-lease-of-{other}@{node}", place_set(after, node, behind=behind))

    def _call_ReadPod(self, world: World, node: int, wished: Wished) -> Iterator[Step]:  # noqa: N802
        request = self.agents.requests[wished.request]
        for other, place in enumerate(world.places):
            for group, pod in enumerate(place.pods):
                if request.pod == pod_name(group, other):
                    shown = status(pod, group, other)
                    shown = shown if shown and shown.uid == request.uid else None
                    after = notify(world, self.agents, node, "pod_read", wished.group, request.uid, shown)
                    if other == node and pod.number == _number(request.uid):
                        after = pod_set(after, node, group, shown=view(pod))
                    yield Step(f"reads-pod-of-{other}@{node}", after)

    def _call_ProbeHost(self, world: World, node: int, wished: Wished) -> Iterator[Step]:  # noqa: N802
        other = self._nodes[self.agents.requests[wished.request].node]
        answers = self.setting.probe and world.places[other].up
        yield Step(f"probes-{other}@{node}", notify(world, self.agents, node, "probed", other, answers))
        if answers and world.left[FAULT["probeloss"]]:
            after = notify(spent(world, "probeloss"), self.agents, node, "probed", other, False)
            yield Step(f"PROBE-LOST-{other}@{node}", after, system=False)

    def _call_SwapGroup(self, world: World, node: int, wished: Wished) -> Iterator[Step]:  # noqa: N802
        group, request = wished.group, self.agents.requests[wished.request]
        wrong = properties.of_swap(self.setting, self.agents, world, node, group, request)
        sent = notify(world, self.agents, node, "sent", group, wished.request)
        label = f"swap({request.why})@{node}"
        after = swapped(sent, self.agents, node, group, request.lease)
        if after is None:
            yield Step(f"{label}-409", notify(sent, self.agents, node, "swapped", group, Swap.CONFLICT, 0))
            return
        done = notify(after, self.agents, node, "swapped", group, Swap.DONE, after.leases[group])
        # A node whose writes fail tries again and again, with back-off: that is not endless.
        old = self.agents.leases[world.leases[group]]
        moves = old is None or old.holder != request.lease.holder
        cost = moves or world.places[node].ec2 is Ec2.ALL
        yield Step(label, pod_set(done, node, group, behind=False), cost=cost, wrong=wrong)
        if world.left[FAULT["lost"]]:
            lost = notify(spent(after, "lost"), self.agents, node, "swapped", group, Swap.UNKNOWN, 0)
            yield Step(f"{label}-ANSWER-LOST", lost, system=False, cost=True, wrong=wrong)

    def _call_DeleteGroup(self, world: World, node: int, wished: Wished) -> Iterator[Step]:  # noqa: N802
        group, request = wished.group, self.agents.requests[wished.request]
        sent = notify(world, self.agents, node, "sent", group, wished.request)
        lease = self.agents.leases[world.leases[group]]
        if lease is None or (lease.uid, lease.version) != (request.uid, request.version):
            yield Step(
                f"delete-409@{node}", notify(sent, self.agents, node, "swapped", group, Swap.CONFLICT, 0)
            )
            return
        after = deleted(sent, self.agents, group)
        yield Step(
            f"delete-group@{node}",
            notify(after, self.agents, node, "swapped", group, Swap.DONE, 0),
            cost=True,
        )

    def _call_RenewNodeLease(self, world: World, node: int, wished: Wished) -> Iterator[Step]:  # noqa: N802
        yield Step(f"renews@{node}", self.renewed(world, node, self.agents.requests[wished.request].lease))

    def renewed(self, world: World, node: int, lease: object, *, announcing: bool = False) -> World:
        """Renew a node Lease, and rename what others remember of the version before."""
        place, newest = world.places[node], node_version(node)
        uid, version = getattr(lease, "uid", ""), getattr(lease, "version", "")
        if bool(uid) != bool(place.lease) or (uid and version != str(newest)):
            return notify(world, self.agents, node, "renewed", node, None)
        world = notify_all(world, self.agents, "renamed", -1, "Version", ((str(newest), str(newest - 1)),))
        state = 2 if announcing else 1
        world = place_set(world, node, lease=state, renewed=True)
        world = notify(world, self.agents, node, "renewed", node, self._announced(world, node))
        places = tuple(
            other._replace(behind=other.behind | 1 << node) if other.agent and number != node else other
            for number, other in enumerate(world.places)
        )
        return world._replace(places=places)

    def _call_ReadOwnNodeLease(self, world: World, node: int, wished: Wished) -> Iterator[Step]:  # noqa: N802
        after = notify(world, self.agents, node, "own_lease_read", node, self._announced(world, node))
        yield Step(f"reads-own-lease@{node}", after)

    # EC2.

    def _call_WriteRoutes(self, world: World, node: int, wished: Wished) -> Iterator[Step]:  # noqa: N802
        group, request = wished.group, self.agents.requests[wished.request]
        wrong = properties.of_write(self.setting, self.agents, world, node, group)
        place = world.places[node]
        sent = notify(world, self.agents, node, "sent", group, wished.request)
        keys = tuple(self.keys.index(key) for key in request.keys)
        outcomes = tuple((key, self._outcome(world, node, key)) for key in keys)
        written = {key: eni(node) for key, outcome in outcomes if outcome == "WRITTEN"}
        after = notify(led(sent, written), self.agents, node, "written", group, outcomes)
        label = f"writes@{node}" if written else f"write-fails@{node}"
        yield Step(label, after, cost=bool(written), wrong=wrong)
        if written and world.left[FAULT["late"]] and not place.pods[group].late:
            unanswered = tuple((key, "UNANSWERED") for key in keys)
            late = notify(spent(sent, "late"), self.agents, node, "written", group, unanswered)
            yield Step(f"WRITE-LATE@{node}", pod_set(late, node, group, late=keys), system=False, wrong=wrong)
        if written and world.left[FAULT["slow"]]:
            slow = pod_set(spent(sent, "slow"), node, group, slow=keys)
            yield Step(f"WRITE-SLOW@{node}", slow, system=False, wrong=wrong)

    def _outcome(self, world: World, node: int, key: int) -> str:
        table = int(self.keys[key].table.partition("-")[2])
        if world.places[node].ec2 is not Ec2.ALL:
            return "UNANSWERED"
        if (node, table) in self.setting.refused and not world.places[node].granted:
            return "DENIED"
        return "FULL" if table in self.setting.full else "WRITTEN"

    def _call_LookAtRoutes(self, world: World, node: int, wished: Wished) -> Iterator[Step]:  # noqa: N802
        group = wished.group
        if world.places[node].ec2 is Ec2.NOTHING:
            yield Step(f"look-fails@{node}", notify(world, self.agents, node, "looked", group, None))
            return
        keys = self._own_keys[group, node]
        now = tuple((key, world.routes[key]) for key in keys)
        yield Step(f"looks@{node}", notify(world, self.agents, node, "looked", group, now))
        old = tuple((key, world.before[key]) for key in keys)
        if old != now and world.left[FAULT["stale"]]:
            after = notify(spent(world, "stale"), self.agents, node, "looked", group, old)
            yield Step(f"LOOK-STALE@{node}", after, system=False)

    def _call_TryWrites(self, world: World, node: int, wished: Wished) -> Iterator[Step]:  # noqa: N802
        request = self.agents.requests[wished.request]
        keys = [self.keys.index(key) for key in request.keys]
        outcomes = tuple((key, self._outcome(world, node, key)) for key in keys)
        yield Step(f"dry-run@{node}", notify(world, self.agents, node, "tried", wished.group, outcomes))

    def _call_ReleaseRoutes(self, world: World, node: int, wished: Wished) -> Iterator[Step]:  # noqa: N802
        group, request = wished.group, self.agents.requests[wished.request]
        wrong = properties.of_release(self.setting, self.agents, world, node, group)
        sent = notify(world, self.agents, node, "sent", group, wished.request)
        if world.places[node].ec2 is not Ec2.ALL:
            yield Step(f"release-fails@{node}", notify(sent, self.agents, node, "released", group, False))
            return
        keys = tuple(self.keys.index(key) for key in request.keys)
        ours = {key: "" for key in keys if world.routes[key] == eni(node)}
        after = notify(led(sent, ours), self.agents, node, "released", group, True)
        yield Step(f"releases@{node}", after, cost=bool(ours), wrong=wrong if ours else None)
        if ours and world.left[FAULT["late"]] and not world.places[node].pods[group].deleting:
            late = notify(spent(sent, "late"), self.agents, node, "released", group, False)
            yield Step(
                f"DELETE-LATE@{node}",
                pod_set(late, node, group, deleting=tuple(ours)),
                system=False,
                wrong=wrong,
            )

    def _landings(self, world: World) -> Iterator[Step]:
        for node, place in enumerate(world.places):
            for group, pod in enumerate(place.pods):
                if pod.late:
                    landed = pod_set(world, node, group, late=())
                    yield Step(f"late-write-lands@{node}", led(landed, dict.fromkeys(pod.late, eni(node))))
                    yield Step(f"late-write-dropped@{node}", landed)
                if pod.slow:
                    ended = led(pod_set(world, node, group, slow=()), dict.fromkeys(pod.slow, eni(node)))
                    outcomes = tuple((key, "WRITTEN") for key in pod.slow)
                    after = notify(ended, self.agents, node, "written", group, outcomes)
                    yield Step(f"slow-write-ends@{node}", after)
                if pod.deleting:
                    landed = pod_set(world, node, group, deleting=())
                    yield Step(f"late-delete-lands@{node}", led(landed, dict.fromkeys(pod.deleting, "")))
        if world.writer and any(target != "eni-foreign" for target in world.routes):
            yield Step("FOREIGN-WRITES", led(world, dict.fromkeys(range(len(world.routes)), "eni-foreign")))

    # Pods, kubelets and clocks.

    def _slow(self, world: World, node: int) -> Iterator[Step]:
        if world.places[node].slow:
            yield Step(f"reconnects@{node}", place_set(world, node, slow=0))

    def _pods(self, world: World) -> Iterator[Step]:
        """Yield what kubelets do to pods whose node has booted: their ADD, a new container, its Ready."""
        for node, place in enumerate(world.places):
            if not place.up:
                continue
            for group, pod in enumerate(place.pods):
                if pod.phase in (Phase.ENDING, Phase.GONE):
                    continue
                if not pod.added and place.agent:
                    after = pod_set(world, node, group, added=True)
                    yield Step(f"ADD@{node}", notify(after, self.agents, node, "added", group, pod.number))
                if pod.added and not pod.app:
                    if pod.phase is Phase.READY:
                        yield Step(
                            f"kubelet-not-ready@{node}",
                            pod_set(world, node, group, phase=Phase.UNREADY, age=0),
                        )
                    yield Step(f"app-starts@{node}", pod_set(world, node, group, app=True, fresh=True))

    def _missed(self, world: World) -> World:
        """Let every renewal that is due go unanswered."""
        for node, place in enumerate(world.places):
            if any(wished.kind == "RenewNodeLease" for wished in self.agents.wishes(place.agent)):
                world = notify(world, self.agents, node, "renewal_failed")
                world = place_set(world, node, healthy=False)
        return world

    def tick(self, world: World) -> World:
        """Let one renewal's time pass."""
        places = []
        for node, place in enumerate(world.places):
            link = linked(world, node)
            agent = place.agent
            if agent and not link:
                agent = self._unanswered(agent)
            agent = self.agents.after(agent, "aged", link)
            pods = tuple(self._older(world, node, group) for group in range(len(place.pods)))
            places.append(
                place._replace(
                    agent=agent,
                    slow=max(0, place.slow - 1),
                    silent=self._silent(world, node),
                    renewed=False,
                    healthy=link,
                    pods=pods,
                )
            )
        return world._replace(places=tuple(places), before=world.routes)

    def _silent(self, world: World, node: int) -> int:
        """Return for how long a node that holds a group has not renewed, while it could have."""
        if not any(self._holds(world, node, group) for group in range(self.setting.groups)):
            return CAP
        place = world.places[node]
        if place.renewed:
            return 1
        return min(CAP, place.silent + 1) if world.api else place.silent

    def _holds(self, world: World, node: int, group: int) -> bool:
        lease = self.agents.leases[world.leases[group]]
        return lease is not None and lease.holder is not None and lease.holder.node == node_name(node)

    def _unanswered(self, agent: int) -> int:
        """Let the swaps and renewals that an agent sends while it is cut off go unanswered."""
        for wished in self.agents.wishes(agent):
            if wished.kind == "SwapGroup":
                agent = self.agents.after(agent, "sent", wished.group, wished.request)
                agent = self.agents.after(agent, "swapped", wished.group, Swap.UNKNOWN, 0)
            elif wished.kind in ("RenewNodeLease", "ReadOwnNodeLease"):
                agent = self.agents.after(agent, "renewal_failed")
        return agent

    def _older(self, world: World, node: int, group: int) -> Pod:
        pod = world.places[node].pods[group]
        holds = self._holds(world, node, group)
        counts = pod.phase is Phase.ENDING or (self.setting.graceful and pod.phase is not Phase.UNREADY)
        age = min(pod.age + 1, self.setting.grace) if counts else 0
        return pod._replace(age=age, lost=0 if holds else min(LOST, pod.lost + 1))


def _number(uid: str) -> int:
    return int(uid.partition(".")[2])
