"""ADD: point the VPC at this node for the pod's floating addresses, and give the pod its way out.

Everything that can be refused is refused before the first write; the claim is on disk before it too. From
then on whatever fails is undone at once, and what cannot be undone now stays recorded for DEL.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ..config.netconf import NetConf
from ..model.claim import Claim
from ..model.claim_state import State
from ..model.errors import CniError, Ec2Error, Ec2Fault, IoFailure, PodNetworkFailure, TryAgain, raise_any
from ..model.values import Place, PodRoute, PodRule
from ..model.waiting import unless
from ..protocol.request import Request
from .backlog import work_off
from .locate import Site, View, bring_up, judge_site, locate, look
from .plan import Asked, plan
from .release import attachment_lock, place_lock, release
from .world import PodNet, Vpc, World
from .write_routes import Seen, repeated, take

UNDO_SECONDS = 10.0
"""Kept back from an ADD's deadline: its last call takes up to five, undoing what was half done the rest."""
FOR_THE_TABLE = (Ec2Fault.QUOTA, Ec2Fault.DENIED)
"""What is true of every route of a table when it is of one."""
DAD_SECONDS = 5.0
"""How long duplicate address detection may take (RFC 4862: about two seconds)."""


def add(request: Request, world: World) -> dict[str, Any]:
    """Claim the addresses that ``prevResult`` gave to the interface; return the result document.

    Raises CniError; then nothing is left but what the claim on disk says.
    """
    asked = Asked.read(request, world)
    kept_back = min(UNDO_SECONDS, asked.conf.timeout_seconds / 2)
    until = world.clock() + asked.conf.timeout_seconds - kept_back / 2
    deadline = until - kept_back / 2
    netns, ifname = request.netns, request.attachment.ifname
    with (
        world.kernel().open_pod(netns, ifname, override=request.netns_override) as pod,
        world.claims.lock(
            attachment_lock(request.attachment), deadline - world.clock(), unless(world.stop)
        ) as mine,
    ):
        if not mine:
            raise TryAgain(f"another call for {request.attachment} is still at work")
        answer = _claim(asked, world, pod, deadline, until)
    if world.later:
        world.later()
    else:
        work_off(world, min(until, world.clock() + 2), besides=request.attachment)
    return answer


def _claim(asked: Asked, world: World, pod: PodNet, deadline: float, until: float) -> dict[str, Any]:
    """Judge, record, write, in this order. No write begins after ``deadline``, no undoing after ``until``."""
    before = _before(asked.request, world)
    metadata = world.metadata(deadline)

    def judge(site: Site) -> tuple[Vpc, View, Claim]:
        vpc = world.vpc(site.node.region)
        view = look(world, vpc, asked.conf, asked.prev, site, deadline)
        return vpc, view, plan(asked, world, pod, site, view, before)

    try:
        vpc, view, claim = judge_site(metadata, lambda: locate(pod, metadata, asked.conf), judge)
    finally:
        metadata.close()
    answer = asked.prev.with_routes(asked.request.version, claim.pod_routes)

    bring_up(pod, world)
    if _before(asked.request, world) != before:  # a DEL has left its mark, and answered without us
        if before:
            _clear(pod, before)
        raise TryAgain(f"stopped: {claim.attachment} was deleted meanwhile")
    if before and before.eni and before.eni != claim.eni:
        _leave(world, before)
    world.claims.put(claim)
    vanished: set[Place] = set()
    try:
        _furnish(pod, claim, before)
        work: list[Callable[[], None]] = [
            lambda: _point_vpc(world, vpc, asked.conf, claim, view, deadline, vanished)
        ]
        if any(address.version == 6 for address in claim.addresses):  # IPv4 has no such detection
            work.append(lambda: _wait(world, pod, claim, deadline))
        raise_any(world.together(*work))
        held = _hold(world, claim, vanished)
    except BaseException:  # also when the process is told to end: nobody else knows what was half done
        _undo(world, vpc, pod, claim, until)
        raise
    if not held.settled:  # what an earlier ADD of this attachment claimed and this one does not
        _release_now(world, held)
    return answer


def _before(request: Request, world: World) -> Claim | None:
    """Return what an earlier call recorded. Raises IoFailure for a record that must not be written over."""
    found = world.claims.get(request.attachment)
    if found is None or isinstance(found, Claim):
        return found
    if not found.moved:
        raise IoFailure(f"cannot record the claim of {request.attachment}: {found}")
    return None


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

    A table that was selected by tag or subnet and does not exist any more goes to ``vanished``. A quota or a
    missing right is the table's, not the route's: the first create of each table goes alone, and after such a
    refusal nothing more is asked for there.
    """
    go_on = stop_signal(world, claim, deadline)
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

    refused: set[str] = set()

    def write(place: Place) -> None:
        def wanted() -> None:
            go_on()
            if place.table in refused:
                raise TryAgain(f"stopped: EC2 refuses routes in {place.table}")

        last = Seen(seen[place], view.read_at)
        try:
            wanted()
            if not point(world, vpc, conf, place, view.account, claim.eni, last, deadline, wanted):
                vanished.add(place)
        except CniError as e:
            if isinstance(e.__cause__, Ec2Error) and e.__cause__.fault in FOR_THE_TABLE:
                refused.add(place.table)
            raise

    new = [place for place, target in seen.items() if target is None]
    first = list({place.table: place for place in reversed(new)}.values())
    others = [place for place in new if place not in first]
    for places in (first, others, [place for place, target in seen.items() if target is not None]):
        raise_any(world.together(*(partial(write, place) for place in places)))


def point(
    world: World,
    vpc: Vpc,
    conf: NetConf,
    place: Place,
    account: str,
    eni: str,
    last: Seen,
    deadline: float,
    go_on: Callable[[], None],
) -> bool:
    """Make one place lead to ``eni``; false: its table, which no id names, is gone since it was selected."""
    with world.claims.lock(place_lock(place), deadline - world.clock(), go_on) as free:
        if not free:
            raise TryAgain(f"{place}: another call on this node is writing it")
        try:
            take(world, vpc, place, account, eni, last, deadline, go_on)
        except Ec2Error as e:
            if e.fault is Ec2Fault.NO_TABLE and not conf.route_tables.ids:
                world.log(f"{place.table} is gone since it was selected: left out", "warning")
                return False
            raise e.answer(f"{place} -> {eni}") from e
    return True


def stop_signal(world: World, claim: Claim, deadline: float) -> Callable[[], None]:
    """Return what raises once this ADD is to write no more: too late, its pod is gone, or a DEL has come."""

    def go_on() -> None:
        if world.clock() >= deadline:
            raise TryAgain(f"stopped: no time is left to claim what {claim.attachment} asks for")
        if world.inode(claim.netns) != claim.netns_inode:
            raise PodNetworkFailure(f"stopped: the pod's namespace {claim.netns} is gone")
        if why := world.stop():
            raise TryAgain(f"stopped: {why}")
        now = world.claims.get(claim.attachment)
        if not isinstance(now, Claim) or not now.live or now.deleted > now.created:
            raise TryAgain(f"stopped: {claim.attachment} was deleted meanwhile")

    return go_on


def _furnish(pod: PodNet, claim: Claim, before: Claim | None) -> None:
    """Give the pod its routes and rules; what an earlier ADD gave it and this one does not goes."""
    wanted: list[PodRoute | PodRule] = [*claim.pod_routes, *claim.pod_rules]
    given: list[PodRoute | PodRule] = [*before.pod_routes, *before.pod_rules] if before else []
    for each in given:
        if each not in wanted:
            pod.remove(each)
    for each in wanted:  # routes first: a rule makes them count
        pod.add(each)
    for address in claim.connected:
        pod.remove_connected(address.network)


def _wait(world: World, pod: PodNet, claim: Claim, deadline: float) -> None:
    """Wait until every floating address can be used: a tentative one is not answered for."""
    until = min(deadline, world.clock() + DAD_SECONDS)
    pod.wait_addresses([each.ip for each in claim.addresses], until, world.sleep, world.clock)


def _hold(world: World, claim: Claim, vanished: set[Place]) -> Claim:
    """Record success, unless a DEL has come in the last moment."""
    stop_signal(world, claim, math.inf)()
    claim = replace(claim, routes=tuple(r for r in claim.routes if r.place not in vanished))
    wanted = [route.place for route in claim.routes if route.state is State.CLAIMING]
    if not wanted:
        raise TryAgain("every selected route table is gone since it was selected")
    held = claim.hold(wanted, world.now())
    world.claims.put(held)
    now = world.claims.get(claim.attachment)
    if not isinstance(now, Claim) or now.deleted:
        raise TryAgain(f"stopped: {claim.attachment} was deleted meanwhile")
    return held


def _leave(world: World, before: Claim) -> None:
    """Release what this attachment has through another ENI, with no DEL between. Raises TryAgain.

    A record knows one ENI: while the old routes may be there, it is not written over.
    """
    ended = before.drop().end_grace()
    world.claims.put(ended)
    _release_now(world, ended)
    left = world.claims.get(before.attachment)
    if isinstance(left, Claim) and left.state is not State.GONE:
        raise TryAgain(f"the routes of {before.attachment} through {before.eni} are not released yet")


def _release_now(world: World, claim: Claim) -> None:
    """Release what can be released at once; the rest is for the next call."""
    try:
        release(world, world.vpc(claim.region), claim, world.clock() + UNDO_SECONDS / 2)
    except CniError as e:
        world.log(f"{claim.attachment}: left for the next call: {e}", "warning")


def _undo(world: World, vpc: Vpc, pod: PodNet, claim: Claim, until: float) -> None:
    """Take back what a failed ADD did. The record of it goes to disk first; DEL works off what is left."""
    ended = replace(claim.give_up(), written=world.now())
    steps: Mapping[str, Callable[[], object]] = {
        "record the failed ADD": lambda: world.claims.put(ended),
        "clear the pod": lambda: _clear(pod, ended),
        "take the VPC routes back": lambda: release(world, vpc, ended, until),
    }
    for what, step in steps.items():
        try:
            step()
        except CniError as e:
            world.log(f"{claim.attachment}: cannot {what} now: {e}", "warning")


def _clear(pod: PodNet, claim: Claim) -> None:
    given: list[PodRoute | PodRule] = [*claim.pod_rules, *claim.pod_routes]
    for each in given:
        pod.remove(each)
    for address in claim.connected:
        pod.restore_connected(address)
