"""What must hold: P1 to P8 of the rules' exploration, each with what is wrong in words.

P1  At rest, if a connected fit member lives, the holder is Ready, alive and the present pod of its node, and
    every route that can be written leads to it.
P2  No write is sent by a former holder more than the proof's age after it was deposed, nor a delete.
P3  A healthy holder is never robbed; P3b nor a living one before its silence was long enough.
P4  Without crashes no route leads to a pod that has gone while another was Ready in time.
P5  Nothing is written or swapped for ever (``search``).
P6  At rest no cordoned or marked node, nor one outside the best zone, holds while a better member lives.
P7  Nobody becomes active whose application does not run.
P8  At rest an untaken offer of a pod that runs has its route.
P9  A group Lease is never created anew by a swap that knew an older one, and names a pod that exists.
"""

from __future__ import annotations

from cni_floatip.election.events import SwapGroup
from cni_floatip.election.lease import GroupLease, Holder
from tests.election.explore.driver import Agents, eni, node_name, pod_uid
from tests.election.explore.setting import Setting
from tests.election.explore.world import Ec2, Phase, Place, Pod, World, linked

NOT_RUNNING = "P7 a pod whose application does not run is made active"


def _where(setting: Setting, holder: Holder) -> int:
    return int(holder.node[1:])


def _serves(place: Place, pod: Pod) -> bool:
    """Return whether packets that reach the node are answered, and the API says so."""
    return place.up and pod.phase is Phase.READY and pod.app and pod.added


def of_swap(
    setting: Setting, agents: Agents, world: World, node: int, group: int, request: SwapGroup
) -> str | None:
    """Say what is wrong with a swap that is about to be sent."""
    lease = agents.leases[world.leases[group]]
    new = request.lease.holder
    pod = world.places[node].pods[group]
    if new is None or (lease and lease.holder == new):
        withdrawn = lease is not None and lease.offer and not (request.lease.offer or request.mends)
        return NOT_RUNNING if new and withdrawn and not pod.app else None
    if new.node != node_name(node) or new.uid != pod_uid(group, node, pod.number):
        return "P9 a swap names another pod than the present one of its node"
    if not pod.app:
        return NOT_RUNNING
    return _robbed(setting, world, node, group, lease) if lease and lease.holder and not lease.offer else None


def _robbed(setting: Setting, world: World, node: int, group: int, lease: GroupLease) -> str | None:
    """Say whether the holder that a swap of its Lease deposes had deserved it. It has not offered."""
    assert lease.holder
    there = _where(setting, lease.holder)
    place, pod = world.places[there], world.places[there].pods[group]
    if there == node or not _serves(place, pod) or lease.holder.uid != pod_uid(group, there, pod.number):
        return None
    if linked(world, there) and place.healthy:
        return "P3 a healthy holder is robbed"
    timing = setting.timing
    enough = timing.veto if setting.probe else timing.lease
    return "P3b a living holder is declared dead too early" if place.silent < enough else None


def of_write(setting: Setting, agents: Agents, world: World, node: int, group: int) -> str | None:
    """Say what is wrong with a write of routes that is about to be sent."""
    lease = agents.leases[world.leases[group]]
    if lease and lease.holder and lease.holder.node == node_name(node):
        return None
    if world.places[node].pods[group].lost > setting.timing.proof:
        return "P2 a write is sent by a former holder after the bound"
    return None


def of_release(setting: Setting, agents: Agents, world: World, node: int, group: int) -> str | None:
    """Say what is wrong with a delete that is about to be sent."""
    lease = agents.leases[world.leases[group]]
    if lease and lease.holder and lease.holder.node != node_name(node):
        keys = [
            index
            for index, key in enumerate(agents.keys)
            if key in setting.keys(group, _where(setting, lease.holder))
        ]
        if (
            any(world.routes[key] == eni(node) for key in keys)
            and world.places[node].pods[group].lost > setting.timing.proof
        ):
            return "P2 a delete is sent by a former holder"
    return None


def of_state(setting: Setting, world: World) -> str | None:
    """Say what is wrong with a state: P4, in settings that are graceful."""
    if not setting.graceful:
        return None
    for index, target in enumerate(world.routes):
        if not target.startswith("eni-") or target == "eni-foreign":
            continue
        node = int(target[4:])
        for group in range(setting.groups):
            if setting.groups > 1 and index != group * setting.tables:
                continue
            if world.places[node].pods[group].phase is Phase.GONE:
                others = (place for number, place in enumerate(world.places) if number != node)
                if any(
                    _serves(place, place.pods[group]) and place.pods[group].age >= setting.grace
                    for place in others
                ):
                    return "P4 a route leads to a pod that has gone while another was Ready in time"
    return None


def _level(agents: Agents, world: World, node: int, group: int) -> int:
    """Return how well a member stands: its marks are what its agent knows, a cordon is what the node is."""
    place = world.places[node]
    agent = agents.agents[place.agent]
    return 2 if agent and agent.members[group].marks else int(place.cordoned)


def _able(setting: Setting, world: World, node: int, group: int) -> bool:
    """Return whether a member is connected and fit."""
    place = world.places[node]
    pod = place.pods[group]
    return linked(world, node) and _serves(place, pod) and pod.fresh and place.ec2 is not Ec2.NOTHING


def of_rest(setting: Setting, agents: Agents, world: World) -> str | None:
    """Say what is wrong with a state at rest: P1, P6, P8."""
    for group in range(setting.groups):
        if setting.shared and group != _oldest(agents, world):
            continue  # its members are contested
        if (wrong := _rest_of_group(setting, agents, world, group)) is not None:
            return wrong
    return None


def _oldest(agents: Agents, world: World) -> int:
    """Return the group whose Lease is the oldest, the first if there is none."""
    leases = [
        (lease.created, group)
        for group, number in enumerate(world.leases)
        if (lease := agents.leases[number])
    ]
    return min(leases, default=(0, 0))[1]


def _rest_of_group(setting: Setting, agents: Agents, world: World, group: int) -> str | None:
    lease = agents.leases[world.leases[group]]
    holder = lease.holder if lease else None
    able = [node for node in range(setting.nodes) if _able(setting, world, node, group)]
    if able and holder is None:
        return "P1 at rest nobody holds although a fit member lives"
    if holder is None:
        return None
    node = _where(setting, holder)
    place, pod = world.places[node], world.places[node].pods[group]
    present = holder.uid == pod_uid(group, node, pod.number)
    served = all(
        _leads(setting, agents, world, node, key) for key in _writable(setting, agents, world, group, node)
    )
    if place.up and present and pod.phase in (Phase.UNREADY, Phase.READY):
        # A member with other destinations takes from one that ends, or is gone or dead.
        equal = setting.destinations(group, node)
        able = [other for other in able if setting.destinations(group, other) == equal]
    if not able:
        running = pod.phase is Phase.UNREADY and present and pod.added and pod.app
        if linked(world, node) and running and place.ec2 is Ec2.ALL and not served:
            return "P8 at rest an untaken offer of a pod that runs has no route"
        return None
    if not place.up:
        return "P1 at rest a dead node holds"
    if pod.phase is not Phase.READY or not present:
        return "P1 at rest the holder is not Ready"
    alone = able == [node] or place.ec2 is Ec2.READS
    if not served and (place.ec2 is Ec2.ALL or not alone):
        return "P1 at rest a route does not lead to the holder"
    if setting.soft and linked(world, node) and (wrong := _better(setting, agents, world, group, node)):
        return wrong
    return None


def _writable(setting: Setting, agents: Agents, world: World, group: int, node: int) -> list[int]:
    refused = {
        table for number, table in setting.refused if number == node and not world.places[node].granted
    }
    return [
        agents.keys.index(key)
        for key in setting.keys(group, node)
        if (table := int(key.table.partition("-")[2])) not in refused and table not in setting.full
    ]


def _leads(setting: Setting, agents: Agents, world: World, node: int, key: int) -> bool:
    """Return whether a route leads to a node. That of another writer may stay: the fight has a bound."""
    return world.routes[key] == eni(node) or (setting.rivals and world.routes[key] == "eni-foreign")


def _better(setting: Setting, agents: Agents, world: World, group: int, node: int) -> str | None:
    """Say whether the group should have moved of itself: to a lower level, or to the best zone."""
    own = _level(agents, world, node, group)
    zones = setting.rules.zones
    order = [zones.index(zone) if zone in zones else len(zones) for zone in setting.zones]
    for other in range(setting.nodes):
        stalled = world.places[other].stalled or world.places[node].stalled
        if other == node or stalled or not _able(setting, world, other, group):
            continue
        level = _level(agents, world, other, group)
        if level < own:
            return "P6 at rest a cordoned or marked node holds although a better member lives"
        if setting.rules.failback and level == 0 and order[other] == 0 < order[node]:
            return "P6 at rest the holder is outside the best zone although a fit member is in it"
    return None
