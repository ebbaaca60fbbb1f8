"""The steps of the environment: faults, each with a budget, and what ends them. None of them must happen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.election.explore.driver import Agents, node_version
from tests.election.explore.search import Step
from tests.election.explore.setting import Setting
from tests.election.explore.system import System
from tests.election.explore.world import (
    FAULT,
    Ec2,
    Phase,
    World,
    deleted,
    led,
    linked,
    notify,
    notify_all,
    place_set,
    pod_set,
    spent,
    swapped,
)

RUNNING = (Phase.UNREADY, Phase.READY)


class Environment:
    """What may happen to one setting's system."""

    def __init__(self, setting: Setting, agents: Agents, system: System) -> None:
        self.setting = setting
        self.agents = agents
        self.system = system

    def steps(self, world: World) -> Iterator[Step]:
        """Yield every step of the environment."""
        for label, after in self._happenings(world):
            yield Step(label, after, system=False)

    def _happenings(self, world: World) -> Iterator[tuple[str, World]]:
        for node, place in enumerate(world.places):
            if place.up:
                yield from self._of_node(world, node)
                yield from self._of_pods(world, node)
                if place.agent:
                    yield from self._of_agent(world, node)
            elif place.booting:
                yield from self._of_boot(world, node)
        yield from self._of_objects(world)
        yield from self._of_routes(world)
        if not world.api:
            slow = self.setting.reconnect
            places = tuple(place._replace(slow=slow if place.agent else 0) for place in world.places)
            yield "api-back", world._replace(api=True, places=places)
        elif may(world, "api"):
            places = tuple(place._replace(healthy=False) for place in world.places)
            yield "API-AWAY", spent(world, "api")._replace(api=False, places=places)

    def _of_node(self, world: World, node: int) -> Iterator[tuple[str, World]]:
        place = world.places[node]
        if may(world, "death"):
            yield f"NODE-DIES@{node}", self._down(spent(world, "death"), node, gone=True)
        if may(world, "replace"):
            yield f"NODE-REPLACED@{node}", self._down(spent(world, "replace"), node, gone=True, back=True)
        if may(world, "boot"):
            yield f"NODE-DOWN@{node}", self._down(spent(world, "boot"), node, back=True)
        if may(world, "cordon") and not place.cordoned:
            yield f"CORDON@{node}", place_set(spent(world, "cordon"), node, cordoned=True)
        if may(world, "uncordon") and place.cordoned:
            yield f"UNCORDON@{node}", place_set(spent(world, "uncordon"), node, cordoned=False)
        if place.ec2 is Ec2.ALL:
            if may(world, "ec2"):
                yield f"EC2-AWAY@{node}", place_set(spent(world, "ec2"), node, ec2=Ec2.NOTHING)
            if may(world, "readonly"):
                yield f"EC2-READ-ONLY@{node}", place_set(spent(world, "readonly"), node, ec2=Ec2.READS)
        else:
            yield f"ec2-back@{node}", place_set(world, node, ec2=Ec2.ALL)

    def _down(self, world: World, node: int, *, gone: bool = False, back: bool = False) -> World:
        """Take a node down. ``gone``: its disk too. Its pods stay in the API until somebody deletes them."""
        pods = tuple(
            pod._replace(
                shown=None,
                behind=False,
                disk=(),
                late=pod.late or pod.slow,
                slow=(),
                added=False,
                app=False,
                fresh=False,
                age=0,
            )
            for pod in world.places[node].pods
        )
        return place_set(
            world,
            node,
            up=False,
            agent=0,
            booting=back,
            pods=pods,
            slow=0,
            healthy=False,
            behind=0,
            granted=gone,
        )

    def _of_boot(self, world: World, node: int) -> Iterator[tuple[str, World]]:
        """Bring a node back. ``granted`` says meanwhile that its disk is empty, so its pods are gone."""
        place = world.places[node]
        empty = place.granted
        if empty and any(pod.phase is not Phase.GONE for pod in place.pods):
            pods = tuple(pod._replace(phase=Phase.GONE) for pod in place.pods)
            yield f"pods-collected@{node}", place_set(world, node, pods=pods)
        else:
            yield (
                f"NODE-BACK@{node}",
                place_set(world, node, up=True, booting=False, cut=False, stalled=False, granted=False),
            )
        yield from self._api_of_pods(world, node)

    def _api_of_pods(self, world: World, node: int) -> Iterator[tuple[str, World]]:
        """Let the API change its mind of pods whose kubelet is silent."""
        for group, pod in enumerate(world.places[node].pods):
            if pod.phase is Phase.READY:
                yield f"marked-not-ready@{node}", pod_set(world, node, group, phase=Phase.UNREADY, age=0)
            if pod.phase in RUNNING and may(world, "force"):
                after = pod_set(spent(world, "force"), node, group, phase=Phase.GONE, age=0)
                yield f"POD-DELETED-WHILE-DOWN@{node}", after

    def _of_agent(self, world: World, node: int) -> Iterator[tuple[str, World]]:
        place = world.places[node]
        if may(world, "crash"):
            yield f"AGENT-CRASHES@{node}", self.ended(spent(world, "crash"), node)
        if may(world, "stop"):
            after = notify(spent(world, "stop"), self.agents, node, "ending")
            for wished in self.agents.wishes(after.places[node].agent) if linked(world, node) else ():
                if wished.kind == "RenewNodeLease":
                    lease = self.agents.requests[wished.request].lease
                    announcing = lease.duration > self.setting.timing.lease
                    after = self.system.renewed(after, node, lease, announcing=announcing)
                    break
            yield f"AGENT-STOPS@{node}", self.ended(after, node)
        if place.cut:
            yield f"healed@{node}", place_set(world, node, cut=False, healthy=False)
        elif may(world, "iso"):
            yield f"CUT-OFF@{node}", place_set(spent(world, "iso"), node, cut=True, healthy=False)
        if not place.stalled and may(world, "stall"):
            yield f"WATCH-STALLS@{node}", place_set(spent(world, "stall"), node, stalled=True)
        if may(world, "grant") and self.setting.refused:
            after = notify(spent(world, "grant"), self.agents, node, "granted")
            yield f"GRANTED@{node}", place_set(after, node, granted=True)

    def ended(self, world: World, node: int) -> World:
        """End an agent: what is left of it is what its claims on disk say."""
        place = world.places[node]
        pods = tuple(
            pod._replace(
                late=pod.late or pod.slow,
                slow=(),
                disk=self.agents.claims(place.agent, group),
                shown=None,
                behind=False,
            )
            for group, pod in enumerate(place.pods)
        )
        return place_set(world, node, agent=0, pods=pods, behind=0, cordon_shown=None, healthy=False)

    def _of_pods(self, world: World, node: int) -> Iterator[tuple[str, World]]:
        for group, pod in enumerate(world.places[node].pods):
            if pod.phase is Phase.UNREADY and pod.app and pod.added:
                yield f"pod-ready@{node}", pod_set(world, node, group, phase=Phase.READY, age=0)
            if pod.phase is Phase.READY and pod.app and may(world, "unready"):
                yield (
                    f"POD-UNREADY@{node}",
                    pod_set(spent(world, "unready"), node, group, phase=Phase.UNREADY, age=0),
                )
            if pod.phase in RUNNING and may(world, "term"):
                yield (
                    f"POD-ENDS@{node}",
                    pod_set(spent(world, "term"), node, group, phase=Phase.ENDING, age=0),
                )
            if pod.phase in RUNNING and may(world, "force"):
                yield f"POD-DELETED@{node}", self._gone(spent(world, "force"), node, group)
            if pod.phase is Phase.ENDING and pod.age >= self.setting.grace:
                yield f"pod-gone@{node}", self._gone(world, node, group)
            if pod.phase is Phase.GONE and world.places[node].agent and may(world, "newpod"):
                fresh = {"number": pod.number + 1, "phase": Phase.UNREADY, "age": 0}
                after = pod_set(
                    spent(world, "newpod"), node, group, **fresh, added=True, app=True, fresh=True
                )
                yield f"POD-NEW@{node}", notify(after, self.agents, node, "added", group, pod.number + 1)

    def _gone(self, world: World, node: int, group: int) -> World:
        """End a pod: its DEL reaches the agent, or lies in the spool until one starts."""
        pod = world.places[node].pods[group]
        disk = tuple((number, True, active) for number, _, active in pod.disk)
        after = pod_set(world, node, group, phase=Phase.GONE, age=0, disk=disk)
        return notify(after, self.agents, node, "deleted", group, pod.number)

    def _of_objects(self, world: World) -> Iterator[tuple[str, World]]:
        if may(world, "unlease"):
            for group, lease in enumerate(world.leases):
                if lease:
                    yield f"LEASE-DELETED-{group}", deleted(spent(world, "unlease"), self.agents, group)
        if may(world, "unrenewed"):
            for node, place in enumerate(world.places):
                if place.lease:
                    yield f"NODE-LEASE-DELETED-{node}", self._unrenewed(spent(world, "unrenewed"), node)
        if may(world, "move"):
            for group, number in enumerate(world.leases):
                old = self.agents.leases[number]
                if old and old.holder and old.move is None:
                    for node in range(len(world.places)):
                        wanted = replace(old, move=f"n{node}")
                        after = swapped(spent(world, "move"), self.agents, node, group, wanted)
                        if after is not None:
                            yield f"MOVE-TO-{node}", after

    def _unrenewed(self, world: World, node: int) -> World:
        newest = node_version(node)
        world = notify_all(world, self.agents, "renamed", -1, "Version", ((str(newest), str(newest - 1)),))
        places = tuple(
            place._replace(behind=place.behind | 1 << node) if place.agent and number != node else place
            for number, place in enumerate(world.places)
        )
        return place_set(world._replace(places=places), node, lease=0)

    def _of_routes(self, world: World) -> Iterator[tuple[str, World]]:
        every = range(len(world.routes))
        if may(world, "wipe") and any(world.routes):
            yield "ROUTES-WIPED", led(spent(world, "wipe"), dict.fromkeys(every, ""))
        if may(world, "foreign"):
            yield "FOREIGN-WRITE", led(spent(world, "foreign"), dict.fromkeys(every, "eni-foreign"))
        if world.writer:
            yield "foreign-stops", world._replace(writer=False)


def may(world: World, fault: str) -> bool:
    """Return whether a fault has a budget left."""
    return world.left[FAULT[fault]] > 0
