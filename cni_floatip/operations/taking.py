"""Claiming addresses for an attachment that is there already: judged one by one, recorded, then written.

In the order of an ADD: nothing is written before everything that can be refused is, nor before the claim is
on disk. But each address stands alone: what is refused for one does not touch the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from .. import decide, podplan
from ..claims import Claim, ClaimedRoute, State
from ..ec2writes import Seen, repeated
from ..errors import CniError, Ec2Error, InvalidConfig, PodNetworkFailure, TryAgain
from ..model import MAIN_TABLE, Address, Interface, Place, PodRoute, PodRule, Target, host_route
from ..netconf import NetConf
from ..podplan import PodPlan
from ..result import PrevResult
from ..world import Vpc, World, together
from .add import point, stop_signal
from .plan import refuse_source_check
from .site import Site, View, look, site_of

T = TypeVar("T")

TAKE_SECONDS = 20.0
"""How long one attempt may take; what has not succeeded by then is tried again."""


@dataclass(slots=True)
class Taken:
    """What became of each address. ``elsewhere``: its route works for another, and is not ours to take."""

    held: list[Interface] = field(default_factory=list)
    elsewhere: list[Interface] = field(default_factory=list)
    refused: dict[Address, str] = field(default_factory=dict)
    failed: dict[Address, str] = field(default_factory=dict)

    def no(self, interface: Interface, error: CniError) -> None:
        """Note that an address could not be claimed."""
        if isinstance(error, (TryAgain, PodNetworkFailure)):
            if interface.ip not in self.refused:
                self.failed.setdefault(interface.ip, error.msg)
        else:
            self.refused.setdefault(interface.ip, error.msg)
            self.failed.pop(interface.ip, None)

    def said_no(self, interface: Interface) -> bool:
        """Whether that was noted."""
        return interface.ip in self.failed or interface.ip in self.refused


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An address that nothing stands against, and where its routes lead now."""

    interface: Interface
    places: Mapping[Place, Target | None]
    view: View
    given: PodPlan
    passive: bool


def take(
    world: World,
    conf: NetConf,
    claim: Claim,
    addresses: Sequence[Interface],
    appeared: Collection[Address],
    lost: Callable[[Address], bool],
) -> Taken:
    """Claim ``addresses`` for the attachment of ``claim``, whose lock the caller holds.

    One that has not just ``appeared`` takes no route that works for another: it is recorded as superseded,
    so that it gets the route when that one is given up. ``lost``: an address has been taken away meanwhile.
    Raises CniError where the claim cannot be written.
    """
    taken = Taken()
    deadline = world.clock() + TAKE_SECONDS
    try:
        site = _site(world, claim, conf, deadline)
        vpc = world.vpc(site.node.region)
    except CniError as e:
        for each in addresses:
            taken.no(each, e)
        return taken
    alone = replace(conf, extra_destinations=())  # an ADD has claimed those
    wanted = _judged(world, vpc, alone, claim, site, addresses, appeared, deadline, taken)
    if not wanted:
        return taken
    now = _recorded(world, claim, wanted)
    world.claims.put(now)
    written: set[Place] = set()
    vanished: set[Place] = set()
    try:
        _furnish(world, now, wanted, taken)
        _write(world, vpc, conf, now, wanted, lost, deadline, taken, written, vanished)
    finally:  # whatever happened: nobody else knows what was half done
        _settle(world, conf, claim, wanted, written, vanished, taken)
    return taken


def _site(world: World, claim: Claim, conf: NetConf, deadline: float) -> Site:
    if not claim.mac:
        raise InvalidConfig(
            f"{claim.attachment} was claimed by an older release: followed after its next ADD"
        )
    metadata = world.metadata(deadline)
    try:
        site = site_of(claim.mac, metadata, conf)
    finally:
        metadata.close()
    if site.eni.id != claim.eni:
        raise TryAgain(f"{claim.mac} is {site.eni} now, and {claim.attachment} was claimed for {claim.eni}")
    return site


# -- judging ------------------------------------------------------------------------------------------------


def _judged(
    world: World,
    vpc: Vpc,
    conf: NetConf,
    claim: Claim,
    site: Site,
    addresses: Sequence[Interface],
    appeared: Collection[Address],
    deadline: float,
    taken: Taken,
) -> list[_Wanted]:
    """Return the addresses that nothing stands against: all judged by one look, each alone if any is not."""
    judge = partial(_judged, world, vpc, conf, claim, site)
    try:
        view = look(world, vpc, conf, PrevResult({}, tuple(addresses)), site, deadline)
        namespace = claim.pod.namespace
        decide.refuse_destinations(view.wants, site.eni, world.policy, namespace, view.occupants)
        decide.refuse_tables(view.tables, view.wants, world.policy)
        refuse_source_check(world, site, view)
        return [_wanted(conf, claim, site, view, each, each.ip in appeared) for each in addresses]
    except CniError as e:
        if len(addresses) > 1 and not isinstance(e, TryAgain):
            return [w for each in addresses for w in judge([each], appeared, deadline, taken)]
        for each in addresses:
            taken.no(each, e)
        return []


def _wanted(conf: NetConf, claim: Claim, site: Site, view: View, each: Interface, appeared: bool) -> _Wanted:
    wants = [want for want in view.wants if decide.inside(host_route(each.ip), [want.destination])]
    given = podplan.pod_plan(conf, [each], wants, site.eni, claim.table or MAIN_TABLE)
    places = {
        Place(table.id, want.destination): table.routes.get(want.destination)
        for table in view.tables
        for want in wants
    }
    works = [target for target in places.values() if target and target.active and target.id != claim.eni]
    return _Wanted(each, places, view, given, passive=bool(works) and not appeared)


# -- recording ----------------------------------------------------------------------------------------------


def _recorded(world: World, claim: Claim, wanted: Sequence[_Wanted]) -> Claim:
    """Return the claim as it is to be on disk before anything is written."""
    routes = {route.place: route for route in claim.routes}
    for each in wanted:
        for place in each.places:
            if each.passive and place in routes and routes[place].state.live:
                continue
            state = State.SUPERSEDED if each.passive else State.CLAIMING
            routes[place] = ClaimedRoute(place, state, each.view.account)
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
        standby=False,
        written=max(claim.written, world.now() + TAKE_SECONDS),
    )


def _all(first: Iterable[T], more: Iterable[Iterable[T]]) -> tuple[T, ...]:
    return tuple(dict.fromkeys([*first, *(each for some in more for each in some)]))


def without(claim: Claim, gone: Iterable[Interface]) -> Claim:
    """Return the claim without what its pod was given for the addresses ``gone``, and not for others too."""
    gone = list(gone)
    ips = {each.ip for each in gone}
    sources = {host_route(ip) for ip in ips}
    shared = {each.network for each in gone}
    shared -= {each.network for each in (*claim.addresses, *claim.watched) if each.ip not in ips}
    return replace(
        claim,
        watched=tuple(each for each in claim.watched if each.ip not in ips),
        connected=tuple(each for each in claim.connected if each.ip not in ips),
        pod_rules=tuple(rule for rule in claim.pod_rules if rule.source not in sources),
        pod_routes=tuple(
            route
            for route in claim.pod_routes
            if route.gateway or route.kind != "unicast" or route.destination not in shared
        ),
    )


# -- doing --------------------------------------------------------------------------------------------------


def _furnish(world: World, claim: Claim, wanted: Sequence[_Wanted], taken: Taken) -> None:
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
    wanted: Sequence[_Wanted],
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
        world, vpc, claim, todo, deadline, taken
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
        together(*now.values())


def _sourceless(
    world: World, vpc: Vpc, claim: Claim, todo: Sequence[_Wanted], deadline: float, taken: Taken
) -> bool:
    """Turn the source/dest check off, which somebody has turned on since the ADD; false: it stays on."""
    try:
        repeated(world, deadline, lambda: vpc.disable_source_dest_check(claim.eni))
    except Ec2Error as e:
        for each in todo:
            taken.no(each.interface, e.answer(f"cannot turn the source/dest check of {claim.eni} off"))
        return False
    return True


# -- the outcome --------------------------------------------------------------------------------------------


def _settle(
    world: World,
    conf: NetConf,
    before: Claim,
    wanted: Sequence[_Wanted],
    written: Collection[Place],
    vanished: Collection[Place],
    taken: Taken,
) -> None:
    """Record what came of it: held, or as it was before; what a DEL has marked meanwhile stays marked."""
    now = world.claims.get(before.attachment)
    if not isinstance(now, Claim):
        return
    for each in wanted:
        places = set(each.places)
        if each.passive or taken.said_no(each.interface):
            continue
        if not now.live:
            taken.no(each.interface, TryAgain(f"stopped: {now.attachment} was deleted meanwhile"))
        elif not places & set(written):
            taken.no(each.interface, TryAgain(f"{each.interface.ip}: no selected route table is left"))
        elif places - set(written) - set(vanished):
            taken.no(each.interface, TryAgain(f"{each.interface.ip}: not every route was written"))
    good = [each for each in wanted if not taken.said_no(each.interface)]
    taken.held += [each.interface for each in good if not each.passive]
    taken.elsewhere += [each.interface for each in good if each.passive]
    settled = replace(
        now,
        routes=tuple(_settled(now, before, good, wanted, written, vanished, world.now())),
        written=world.now(),
    )
    live = {route.place.destination for route in settled.routes if route.state.live}
    live -= set(conf.extra_destinations)
    no = [each for each in wanted if each not in good]
    lost = [each.interface for each in no if not decide.inside(host_route(each.interface.ip), live)]
    settled = without(settled, lost)
    world.claims.put(replace(settled, standby=now.live and not settled.live))
    if lost:
        _take_back(world, settled, [each for each in no if each.interface in lost])


def _settled(
    now: Claim,
    before: Claim,
    good: Sequence[_Wanted],
    wanted: Sequence[_Wanted],
    written: Collection[Place],
    vanished: Collection[Place],
    at: float,
) -> Iterator[ClaimedRoute]:
    wrote = {place for each in wanted for place in each.places}
    keep = {place for each in good for place in each.places}
    former = {r.place: r for r in before.routes if r.state in (State.HELD, State.SUPERSEDED)}
    for route in now.routes:
        place = route.place
        if place not in wrote or not route.state.live:
            yield route
        elif place in written and (place in keep or place in former):
            yield replace(route, state=State.HELD, since=at)
        elif place in keep and place not in vanished:
            yield route  # superseded, by one that works
        elif place in former:
            yield former[place]
        elif place not in vanished:
            yield replace(route, state=State.RELEASING)


def _take_back(world: World, claim: Claim, lost: Sequence[_Wanted]) -> None:
    """Take what an address that could not be claimed was given out of the pod."""
    try:
        with world.kernel().open_pod(claim.netns, claim.attachment.ifname) as pod:
            for each in lost:
                unwanted: list[PodRoute | PodRule] = [*each.given.rules, *each.given.routes]
                for given in unwanted:
                    if given not in claim.pod_rules and given not in claim.pod_routes:
                        pod.remove(given)
                for address in each.given.connected:
                    pod.restore_connected(address)
    except CniError as e:
        world.log(f"{claim.attachment}: the pod is not cleared: {e}")
