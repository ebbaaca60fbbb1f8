"""Claiming addresses for an attachment that is there already: judged one by one, recorded, then written.

In the order of an ADD: nothing is written before everything that can be refused is, nor before the claim is
on disk. But each address stands alone: what is refused for one does not touch the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from ..config.netconf import NetConf
from ..model.claim import Claim
from ..model.claim_state import ClaimedRoute
from ..model.errors import CniError, Ec2Error, TryAgain
from ..model.values import Address, Interface, Place, Target
from .add import point, stop_signal
from .evaluate import Taken, Wanted, judged, site_of_claim
from .locate import Site, View
from .record_outcome import settle
from .world import Vpc, World
from .write_routes import Seen, repeated

T = TypeVar("T")

TAKE_SECONDS = 20.0
"""How long one attempt may take; what has not succeeded by then is tried again."""


def take(
    world: World,
    conf: NetConf,
    claim: Claim,
    addresses: Sequence[Interface],
    appeared: Collection[Address],
    lost: Callable[[Address], bool],
) -> Taken:
    """Claim ``addresses`` for the attachment of ``claim``, whose lock the caller holds.

    A DEL that comes meanwhile ends it: that is looked for before each step, so that no step follows it. One
    that has not just ``appeared`` takes no route that works for another: it is recorded as superseded,
    so that it gets the route when that one is given up. ``lost``: an address has been taken away meanwhile.
    Raises CniError where the claim cannot be written.
    """
    taken = Taken()
    deadline = world.clock() + TAKE_SECONDS
    try:
        site = site_of_claim(world, claim, conf, deadline)
        vpc = world.vpc(site.node.region)
    except CniError as e:
        for each in addresses:
            taken.no(each, e)
        return taken
    alone = replace(conf, extra_destinations=())  # an ADD has claimed those
    wanted = judged(world, vpc, alone, claim, site, addresses, appeared, deadline, taken)
    if taken.refused and (now_at := _site_now(world, claim, conf, deadline, site)) != site:
        taken = Taken()
        wanted = judged(world, vpc, alone, claim, now_at, addresses, appeared, deadline, taken)
    if not wanted:
        return taken
    now = world.claims.change(
        claim.attachment, lambda now: now if now.deleted else _recorded(world, now, wanted)
    )
    if now is None or now.deleted:
        for one in wanted:
            taken.no(one.interface, TryAgain(f"stopped: {claim.attachment} was deleted meanwhile"))
        return taken
    written: set[Place] = set()
    vanished: set[Place] = set()
    try:
        _furnish(world, now, wanted, taken)
        _write(world, vpc, conf, now, wanted, lost, deadline, taken, written, vanished)
    finally:  # whatever happened: nobody else knows what was half done
        settle(world, claim, wanted, written, vanished, taken)
    return taken


def _site_now(world: World, claim: Claim, conf: NetConf, deadline: float, site: Site) -> Site:
    """Return the site as metadata shows it now: the refusal of an address may rest on what is remembered."""
    try:
        return site_of_claim(world, claim, conf, deadline, again=True)
    except CniError:
        return site


def _recorded(world: World, claim: Claim, wanted: Sequence[Wanted]) -> Claim:
    """Return the claim as it is to be on disk before anything is written.

    What it has already (another address of the same subnet) it keeps whatever becomes of this; a pod that
    had given up all its addresses may do so again.
    """
    routes = {route.place: route for route in claim.routes}
    for each in wanted:
        for place in each.places:
            if place in routes and routes[place].state.live:
                continue
            begin = ClaimedRoute.begin_superseded if each.passive else ClaimedRoute.begin
            routes[place] = begin(place, each.view.account)
    given = {address.ip for address in claim.addresses}
    ips = {each.interface.ip for each in wanted}
    watched = [address for address in claim.watched if address.ip not in ips]
    watched += [each.interface for each in wanted if each.interface.ip not in given]
    return replace(
        claim,
        routes=tuple(routes.values()),
        pod_routes=_all(claim.pod_routes, (each.given.routes for each in wanted)),
        pod_rules=_all(claim.pod_rules, (each.given.rules for each in wanted)),
        connected=_all(claim.connected, (each.given.connected for each in wanted)),
        watched=tuple(watched),
        written=max(claim.written, world.now() + TAKE_SECONDS),
    )


def _all(first: Iterable[T], more: Iterable[Iterable[T]]) -> tuple[T, ...]:
    return tuple(dict.fromkeys([*first, *(each for some in more for each in some)]))


def _furnish(world: World, claim: Claim, wanted: Sequence[Wanted], taken: Taken) -> None:
    """Give the pod what its addresses need; the routes too, which go with the last address of a family."""
    try:
        with world.kernel().open_pod(claim.netns, claim.attachment.ifname) as pod:
            for route in claim.pod_routes:
                pod.add(route)
            for each in wanted:
                try:
                    for rule in each.given.rules:
                        pod.add(rule)
                except CniError as e:
                    taken.no(each.interface, e)
            for address in claim.connected:
                pod.remove_connected(address.network)
    except CniError as e:
        for each in wanted:
            taken.no(each.interface, e)


def _write(
    world: World,
    vpc: Vpc,
    conf: NetConf,
    claim: Claim,
    wanted: Sequence[Wanted],
    lost: Callable[[Address], bool],
    deadline: float,
    taken: Taken,
    written: set[Place],
    vanished: set[Place],
) -> None:
    """Write the VPC routes as an ADD does: to ``written``, or to ``vanished`` where the table is gone."""
    signal = stop_signal(world, claim, deadline)
    todo = [each for each in wanted if not each.passive and not taken.said_no(each.interface)]

    def write(place: Place, view: View, target: Target | None) -> None:
        whose = [each.interface for each in todo if place in each.places]

        def go_on() -> None:
            signal()
            if all(lost(each.ip) for each in whose):
                raise TryAgain(f"stopped: {whose[0].ip} was taken away meanwhile")

        try:
            last = Seen(target, view.read_at)
            there = point(world, vpc, conf, place, view.account, claim.eni, last, deadline, go_on)
            (written if there else vanished).add(place)
        except CniError as e:
            for each in whose:
                taken.no(each, e)

    if any(each.view.checks_source for each in todo) and not _sourceless(
        world, vpc, claim, todo, deadline, taken, signal
    ):
        return
    for exists in (False, True):  # creates first: they can fail for a quota
        now = {
            place: partial(write, place, each.view, target)
            for each in todo
            if not taken.said_no(each.interface)
            for place, target in each.places.items()
            if (target is not None) is exists
        }
        world.together(*now.values())


def _sourceless(
    world: World,
    vpc: Vpc,
    claim: Claim,
    todo: Sequence[Wanted],
    deadline: float,
    taken: Taken,
    signal: Callable[[], None],
) -> bool:
    """Turn the source/dest check off, which somebody has turned on since the ADD; false: it stays on."""
    error: CniError
    try:
        signal()
        repeated(world, deadline, lambda: vpc.disable_source_dest_check(claim.eni))
    except Ec2Error as e:
        error = e.answer(f"cannot turn the source/dest check of {claim.eni} off")
    except CniError as e:
        error = e
    else:
        return True
    for each in todo:
        taken.no(each.interface, error)
    return False
