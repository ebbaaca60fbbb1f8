"""Everything outside the agents, as values: pods and kubelets, nodes, the API's objects, EC2's routes.

Counters of ticks are cut where they make no difference. Fields that no agent can see (``lost``, ``silent``,
``healthy``) are for the properties alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import IntEnum
from typing import Any, NamedTuple

from cni_floatip.election.fitness import PodStatus
from cni_floatip.election.lease import GroupLease
from tests.election.explore.driver import (
    GENERATION,
    NAMESPACE,
    SECONDS_OF_NODE,
    STARTED_AFTER,
    STARTED_BEFORE,
    Agents,
    group_version,
    node_name,
    pod_uid,
)
from tests.election.explore.setting import FAULTS

CAP = 7
"""Ticks that counters go up to."""
LOST = 2
"""Ticks after which a former holder has no proof any more."""
FAULT = {name: index for index, name in enumerate(FAULTS)}


class Phase(IntEnum):
    """What a pod is, to the API and in truth; ``GONE``: the API has no such pod."""

    UNREADY = 1
    READY = 2
    ENDING = 3
    GONE = 4


class Pod(NamedTuple):
    """The pod of one group on one node, and what belongs to the pair. ``age``: ticks in this phase.

    ``added``: the runtime made its ADD since the node booted. ``app``: its application runs. ``fresh``: its
    status is about containers that started after that ADD. ``shown``: what the watch delivered last.
    ``behind``: the group Lease has changed since the agent read or saw it. ``late``: route writes on
    the way whose caller was not answered, ``slow``: whose caller waits.
    ``disk``: claims while no agent runs. ``lost``: ticks since it was the holder.
    """

    number: int = 1
    phase: Phase = Phase.UNREADY
    age: int = 0
    added: bool = True
    app: bool = True
    fresh: bool = True
    shown: tuple[int, Phase, bool] | None = None
    behind: bool = True
    late: tuple[int, ...] = ()
    slow: tuple[int, ...] = ()
    deleting: tuple[int, ...] = ()
    disk: tuple[tuple[int, bool, bool], ...] = ()
    lost: int = LOST


class Ec2(IntEnum):
    """What of EC2 answers a node."""

    ALL = 0
    NOTHING = 1
    READS = 2


class Place(NamedTuple):
    """One node. ``agent`` 0: none runs. ``slow``: ticks until its connection works again after an outage.

    ``lease``: whether the API has its node Lease, and (2) whether that announces an absence. ``behind``:
    whose renewals its watch has not delivered yet. ``silent``: ticks since the one in which it last renewed.
    ``healthy``: for a tick nothing was wrong between it and the API. ``booting``: it is down and comes back.
    """

    up: bool = True
    agent: int = 0
    cut: bool = False
    slow: int = 0
    stalled: bool = False
    cordoned: bool = False
    cordon_shown: bool | None = None
    ec2: Ec2 = Ec2.ALL
    lease: int = 0
    behind: int = 0
    silent: int = CAP
    renewed: bool = False
    healthy: bool = False
    booting: bool = False
    granted: bool = False
    pods: tuple[Pod, ...] = ()


class World(NamedTuple):
    """Everything. ``leases``: numbers of Leases. ``routes``: what each leads to, "" for nothing."""

    api: bool
    leases: tuple[int, ...]
    routes: tuple[str, ...]
    before: tuple[str, ...]
    left: tuple[int, ...]
    writer: bool
    places: tuple[Place, ...]


def linked(world: World, node: int) -> bool:
    """Return whether a node's agent runs and the API answers it."""
    place = world.places[node]
    return bool(world.api and place.agent and not place.cut and not place.slow)


def place_set(world: World, node: int, **changes: Any) -> World:
    places = world.places
    place = places[node]._replace(**changes)
    return world._replace(places=(*places[:node], place, *places[node + 1 :]))


def pod_set(world: World, node: int, group: int, **changes: Any) -> World:
    pods = world.places[node].pods
    pod = pods[group]._replace(**changes)
    return place_set(world, node, pods=(*pods[:group], pod, *pods[group + 1 :]))


def spent(world: World, fault: str) -> World:
    index = FAULT[fault]
    left = world.left
    return world._replace(left=(*left[:index], left[index] - 1, *left[index + 1 :]))


def status(pod: Pod, group: int, node: int) -> PodStatus | None:
    """Return what the API says of a pod."""
    if pod.phase is Phase.GONE:
        return None
    started = (STARTED_AFTER if pod.fresh else STARTED_BEFORE,)
    ready = pod.phase in (Phase.READY, Phase.ENDING)
    return PodStatus(pod_uid(group, node, pod.number), ready, pod.phase is Phase.ENDING, started, pod.number)


def view(pod: Pod) -> tuple[int, Phase, bool]:
    """Return what of a pod an agent is told."""
    return pod.number, pod.phase, pod.fresh


def notify(world: World, agents: Agents, node: int, what: str, *arguments: object) -> World:
    """Let something happen to a node's agent."""
    return place_set(world, node, agent=agents.after(world.places[node].agent, what, *arguments))


def notify_all(world: World, agents: Agents, what: str, *arguments: object) -> World:
    """Let something happen to every agent."""
    places = tuple(
        place._replace(agent=agents.after(place.agent, what, *arguments)) if place.agent else place
        for place in world.places
    )
    return world._replace(places=places)


def swapped(world: World, agents: Agents, node: int, group: int, wanted: GroupLease) -> World | None:
    """Return the world after a PUT (POST without uid) of a group Lease; None: 409.

    As kube-apiserver 1.34 does: a PUT without uid in its body creates a Lease that is not there.
    """
    metadata = wanted.document(NAMESPACE)["metadata"]
    uid, version = metadata.get("uid", ""), metadata.get("resourceVersion", "")
    old = agents.leases[world.leases[group]]
    if old is None:
        return None if uid else _stored(world, agents, node, group, old, wanted)
    if (uid and uid != old.uid) or version != old.version:
        return None
    if old == replace(wanted, uid=old.uid, version=old.version, created=old.created):
        return world
    return _stored(world, agents, node, group, old, wanted)


def _stored(
    world: World, agents: Agents, node: int, group: int, old: GroupLease | None, wanted: GroupLease
) -> World:
    """Store a group Lease, rename what everybody remembers of the one before, and let the watches know."""
    newest = group_version(group)
    generation = wanted.transitions
    if old is None or generation != old.transitions:
        names = {GENERATION: GENERATION - 1, GENERATION - 1: GENERATION - 2, generation: GENERATION}
        world = notify_all(world, agents, "renamed", group, "Generation", tuple(names.items()))
    world = notify_all(world, agents, "renamed", group, "Version", ((str(newest), str(newest - 1)),))
    fresh = SECONDS_OF_NODE * (node + 1)
    if any(entry.fit_since == fresh for entry in wanted.members):
        names = {fresh - 1: fresh - 2, fresh: fresh - 1}
        world = notify_all(world, agents, "renamed", group, "WallTime", tuple(names.items()))
        wanted = replace(
            wanted,
            members=tuple(
                replace(entry, fit_since=fresh - 1) if entry.fit_since == fresh else entry
                for entry in wanted.members
            ),
        )
    created = (
        old.created if old else 1 + max((lease.created for lease in _existing(world, agents)), default=0)
    )
    lease = replace(
        wanted, uid=f"lease-{group}", version=str(newest), created=created, transitions=GENERATION
    )
    anew = old is None or old.holder != lease.holder or generation != old.transitions
    return changed(world, agents, group, agents.leases.number(lease), anew=anew)


def _existing(world: World, agents: Agents) -> list[GroupLease]:
    return [lease for number in world.leases if (lease := agents.leases[number])]


def deleted(world: World, agents: Agents, group: int) -> World:
    """Delete a group Lease."""
    newest = group_version(group)
    world = notify_all(world, agents, "renamed", group, "Version", ((str(newest), str(newest - 1)),))
    world = notify_all(world, agents, "renamed", group, "Uid", ((f"lease-{group}", f"lease-{group}-old"),))
    return changed(world, agents, group, 0)


def changed(world: World, agents: Agents, group: int, lease: int, *, anew: bool = False) -> World:
    """Put a Lease in its place, and let every watch have an event of it. ``anew``: a new holding begins."""
    new = agents.leases[lease]
    holder = new.holder.node if new and new.holder else ""
    leases = (*world.leases[:group], lease, *world.leases[group + 1 :])
    places = []
    for node, place in enumerate(world.places):
        pod = place.pods[group]
        pod = pod._replace(behind=bool(place.agent), lost=0 if holder == node_name(node) else pod.lost)
        pods = (*place.pods[:group], pod, *place.pods[group + 1 :])
        silent = 0 if anew and holder == node_name(node) else place.silent
        places.append(place._replace(pods=pods, silent=silent))
    return world._replace(leases=leases, places=tuple(places))


def led(world: World, targets: Mapping[int, str]) -> World:
    """Let routes lead elsewhere."""
    routes = tuple(targets.get(index, target) for index, target in enumerate(world.routes))
    if not world.left[FAULT["stale"]]:
        return world._replace(routes=routes, before=routes)
    pairs = enumerate(zip(world.routes, world.before, strict=True))
    before = tuple(old if index in targets else known for index, (old, known) in pairs)
    return world._replace(routes=routes, before=before)
