"""ADD: point the VPC at this node for the pod's floating addresses, and give the pod its way out.

Everything that can be refused is refused before the first write; the claim is on disk before it too. From
then on whatever fails is undone at once, and what cannot be undone now stays recorded for DEL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import decide
from ..claims import Claim, ClaimedRoute, State
from ..ec2writes import Seen, repeated, take
from ..errors import (
    CniError,
    Ec2Error,
    Ec2Fault,
    InvalidConfig,
    IoFailure,
    PodNetworkFailure,
    PolicyRefused,
    TryAgain,
    raise_any,
)
from ..model import Network, Place, PodRoute, PodRule
from ..netconf import NetConf
from ..request import Request
from ..result import PrevResult
from ..world import PodNet, Vpc, World, together
from .release import attachment_lock, place_lock, release, work_off
from .site import Site, View, bring_up, cluster_subnets, locate, look

UNDO_SECONDS = 10.0
"""Kept back from an ADD's deadline: its last call takes up to five, undoing what was half done the rest."""
DAD_SECONDS = 5.0
"""How long duplicate address detection may take (RFC 4862: about two seconds)."""


def add(request: Request, world: World) -> dict[str, Any]:
    """Claim the addresses that ``prevResult`` gave to the interface; return the result document.

    Raises CniError; then nothing is left but what the claim on disk says.
    """
    conf = NetConf.parse(request.config)
    prev = PrevResult.parse(request.config, request.attachment.ifname)
    until = world.clock() + conf.timeout_seconds
    deadline = until - min(UNDO_SECONDS, conf.timeout_seconds / 2)
    with (
        world.kernel().open_pod(
            request.netns, request.attachment.ifname, override=request.netns_override
        ) as pod,
        world.claims.lock(attachment_lock(request.attachment), deadline - world.clock()) as mine,
    ):
        if not mine:
            raise TryAgain(f"another call for {request.attachment} is still at work")
        before = _before(request, world)
        metadata = world.metadata(deadline)
        try:
            site = locate(pod, metadata)
            cluster = cluster_subnets(conf, metadata)
        finally:
            metadata.close()
        vpc = world.vpc(site.node.region)
        bring_up(pod, world)
        view = look(world, vpc, conf, prev, site, deadline)
        claim = _plan(request, world, conf, prev, pod, site, view, cluster, before)
        if _before(request, world) != before:  # the mark of a DEL, which found nothing to cancel
            raise TryAgain(f"stopped: {request.attachment} was deleted meanwhile")
        world.claims.put(claim)
        vanished: set[Place] = set()
        try:
            raise_any(
                together(
                    lambda: _point_vpc(world, vpc, conf, claim, view, deadline, vanished),
                    lambda: _furnish(world, pod, claim, deadline),
                )
            )
            claim = _hold(world, claim, vanished)
        except BaseException:
            _undo(world, vpc, pod, claim, until)
            raise
        _drop_old_places(world, vpc, claim)
    work_off(world, world.clock() + 2, besides=request.attachment)
    return prev.with_routes(request.version, claim.pod_routes)


def _before(request: Request, world: World) -> Claim | None:
    """Return what an earlier call recorded. Raises IoFailure for a record that must not be written over."""
    found = world.claims.get(request.attachment)
    if found is None or isinstance(found, Claim):
        return found
    if not found.moved:
        raise IoFailure(f"cannot record the claim of {request.attachment}: {found}")
    return None


def _plan(
    request: Request,
    world: World,
    conf: NetConf,
    prev: PrevResult,
    pod: PodNet,
    site: Site,
    view: View,
    cluster: tuple[Network, ...],
    before: Claim | None,
) -> Claim:
    """Judge everything; return the claim to record. No write has happened when this raises."""
    errors: list[CniError] = []
    namespace, occupants = request.pod.namespace, view.occupants
    judges: tuple[Callable[[], None], ...] = (
        lambda: decide.refuse_destinations(view.wants, site.eni, world.policy, namespace, occupants),
        lambda: decide.refuse_tables(view.tables, view.wants, world.policy),
        lambda: decide.refuse_cluster_routes(conf, pod.other_addresses(), cluster),
        lambda: _refuse_source_check(world, site, view),
    )
    for judge in judges:
        try:
            judge()
        except CniError as e:
            errors.append(e)
    raise_any(errors)
    table = _table(conf, pod, before)
    plan = decide.pod_plan(conf, prev.addresses, view.wants, site.eni, table)
    routes = [
        ClaimedRoute(Place(table.id, want.destination), State.CLAIMING, view.account)
        for table in view.tables
        for want in view.wants
    ]
    places = {route.place for route in routes}
    if before and before.eni != site.eni.id:  # the interface was given another ENI, with no DEL between
        release(world, world.vpc(before.region), before.with_state(State.RELEASING), world.clock() + 5)
    elif before:
        routes += [replace(r, state=State.RELEASING) for r in before.routes if r.place not in places]
    return Claim(
        attachment=request.attachment,
        eni=site.eni.id,
        region=site.node.region,
        netns=request.netns,
        netns_inode=world.inode(request.netns),
        boot=world.boot(),
        pod=request.pod,
        on_delete=conf.on_delete or world.on_delete,
        routes=tuple(routes),
        pod_routes=plan.routes,
        pod_rules=plan.rules,
        connected=plan.connected,
        addresses=prev.addresses,
        table=plan.table,
        source_dest_check=world.policy.source_dest_check,
        created=world.now(),
        written=world.now() + conf.timeout_seconds,
    )


def _refuse_source_check(world: World, site: Site, view: View) -> None:
    if view.checks_source and world.policy.source_dest_check == "require":
        raise PolicyRefused(
            f"source/dest check of {site.eni} is on, so EC2 drops the traffic of a floating IP, and the node"
            ' configuration says "sourceDestCheck": "require": turn it off, or let us ("disable")'
        )


def _table(conf: NetConf, pod: PodNet, before: Claim | None) -> int:
    """The table for source routing: the one written, the one from the last ADD, or a free one."""
    if conf.pod_routes is None or conf.pod_routes.source_routing is False:
        return 0
    if conf.pod_routes.table is not None:
        others = pod.foreign_routes(conf.pod_routes.table)
        if others:
            raise InvalidConfig(
                f"$.podRoutes.sourceRouting: table {conf.pod_routes.table} is in use: {others[0]}; write"
                " another number, or true"
            )
        return conf.pod_routes.table
    if before and before.table and before.table != decide.MAIN_TABLE:
        return before.table
    return pod.free_table()


def _point_vpc(
    world: World,
    vpc: Vpc,
    conf: NetConf,
    claim: Claim,
    view: View,
    deadline: float,
    vanished: set[Place],
) -> None:
    """Write every VPC route of the claim: creates first (they can fail for a quota), then replaces.

    A table that was selected by tag or subnet and does not exist any more goes to ``vanished``.
    """
    go_on = _stop_signal(world, claim)
    if view.checks_source:
        try:
            go_on()
            repeated(world, deadline, lambda: vpc.disable_source_dest_check(claim.eni))
        except Ec2Error as e:
            raise e.answer(f"cannot turn the source/dest check of {claim.eni} off") from e
    seen = {
        Place(table.id, want.destination): table.routes.get(want.destination)
        for table in view.tables
        for want in view.wants
    }

    def write(place: Place) -> None:
        with world.claims.lock(place_lock(place), deadline - world.clock()) as free:
            if not free:
                raise TryAgain(f"{place}: another call on this node is writing it")
            try:
                last = Seen(seen[place], view.read_at)
                take(world, vpc, place, view.account, claim.eni, last, deadline, go_on)
            except Ec2Error as e:
                if e.fault is Ec2Fault.NO_TABLE and not conf.route_tables.ids:
                    world.log(f"{place.table} is gone since it was selected: left out")
                    vanished.add(place)
                    return
                raise e.answer(f"{place} -> {claim.eni}") from e

    for exists in (False, True):
        places = [place for place, target in seen.items() if (target is not None) is exists]
        raise_any(together(*(_bind(write, place) for place in places)))


def _bind(write: Callable[[Place], None], place: Place) -> Callable[[], None]:
    return lambda: write(place)


def _stop_signal(world: World, claim: Claim) -> Callable[[], None]:
    """Return what raises once this ADD is to write no more: its pod is gone, or a DEL has come."""

    def go_on() -> None:
        if claim.netns and not Path(claim.netns).exists():
            raise PodNetworkFailure(f"stopped: the pod's namespace {claim.netns} is gone")
        now = world.claims.get(claim.attachment)
        if not isinstance(now, Claim) or now.state is not State.CLAIMING:
            raise TryAgain(f"stopped: {claim.attachment} was deleted meanwhile")

    return go_on


def _furnish(world: World, pod: PodNet, claim: Claim, deadline: float) -> None:
    """Give the pod its routes and rules, and wait until every floating address can be used."""
    wanted: list[PodRoute | PodRule] = [*claim.pod_routes, *claim.pod_rules]
    present: list[PodRoute | PodRule] = [*pod.routes(), *pod.rules()]
    for found in present:
        if found.table == claim.table and found not in wanted:  # of an earlier ADD of this attachment
            pod.remove(found)
    for each in wanted:  # routes first: a rule makes them count
        pod.add(each)
    for address in claim.connected:
        pod.remove_connected(address.network)
    until = min(deadline, world.clock() + DAD_SECONDS)
    pod.wait_addresses([each.ip for each in claim.addresses], until, world.sleep, world.clock)


def _hold(world: World, claim: Claim, vanished: set[Place]) -> Claim:
    """Record success, unless a DEL has come in the last moment."""
    _stop_signal(world, claim)()
    claim = replace(claim, routes=tuple(r for r in claim.routes if r.place not in vanished))
    wanted = [route.place for route in claim.routes if route.state is State.CLAIMING]
    if not wanted:
        raise TryAgain("every selected route table is gone since it was selected")
    held = replace(claim.with_state(State.HELD, wanted), written=world.now())
    world.claims.put(held)
    return held


def _drop_old_places(world: World, vpc: Vpc, claim: Claim) -> None:
    """Release what an earlier ADD of this attachment claimed and this one does not."""
    if any(not route.state.live for route in claim.routes):
        try:
            release(world, vpc, claim, world.clock() + UNDO_SECONDS)
        except CniError as e:
            world.log(f"{claim.attachment}: left for the next call: {e}")


def _undo(world: World, vpc: Vpc, pod: PodNet, claim: Claim, until: float) -> None:
    """Take back what a failed ADD did. The record of it goes to disk first; DEL works off what is left."""
    ended = replace(claim.with_state(State.RELEASING), written=world.now())
    steps: Mapping[str, Callable[[], object]] = {
        "record the failed ADD": lambda: world.claims.put(ended),
        "clear the pod": lambda: _clear(pod, ended),
        "take the VPC routes back": lambda: release(world, vpc, ended, until - UNDO_SECONDS / 2),
    }
    for what, step in steps.items():
        try:
            step()
        except CniError as e:
            world.log(f"{claim.attachment}: cannot {what} now: {e}")


def _clear(pod: PodNet, claim: Claim) -> None:
    pod.remove_all(claim.table)
    for address in claim.connected:
        pod.restore_connected(address)
