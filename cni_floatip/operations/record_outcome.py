"""The outcome of claiming addresses: what is recorded of each, and taken out of the pod again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from ..model.claim import Claim
from ..model.claim_state import ClaimedRoute
from ..model.errors import CniError, IoFailure, TryAgain
from ..model.values import Interface, Place, PodRoute, PodRule, host_route
from .evaluate import Taken, Wanted
from .world import World


def settle(
    world: World,
    before: Claim,
    wanted: Sequence[Wanted],
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
    live = {route.place for route in settled.routes if route.state.live}
    no = [each for each in wanted if each not in good]
    lost = [each.interface for each in no if not live & set(each.places)]
    settled = without(settled, lost)
    try:
        world.claims.put(replace(settled, standby=now.live and not settled.live))
    except IoFailure:  # a full disk: what nobody had before may not stay as if somebody were at work on it
        had = {route.place for route in before.routes if route.state.live}
        begun = {place for each in wanted for place in each.places} - had
        world.claims.change(now.attachment, lambda now: _not_begun(now, begun))
        raise
    if lost:
        _take_back(world, settled, [each for each in no if each.interface in lost])


def _not_begun(now: Claim, begun: Collection[Place]) -> Claim:
    left = now.give_up(begun)
    return replace(left, standby=now.live and not left.live)


def _settled(
    now: Claim,
    before: Claim,
    good: Sequence[Wanted],
    wanted: Sequence[Wanted],
    written: Collection[Place],
    vanished: Collection[Place],
    at: float,
) -> Iterator[ClaimedRoute]:
    wrote = {place for each in wanted for place in each.places}
    keep = {place for each in good for place in each.places}
    former = {r.place: r for r in before.routes if r.state.settled}
    for route in now.routes:
        place = route.place
        if place not in wrote or not route.state.live:
            yield route
        elif place in written and (place in keep or place in former):
            yield route.hold(at)
        elif place in keep and place not in vanished:
            yield route  # superseded, by one that works
        elif place in former:
            yield former[place]
        elif place not in vanished:
            yield route.give_up()


def _take_back(world: World, claim: Claim, lost: Sequence[Wanted]) -> None:
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
        world.log(f"{claim.attachment}: the pod is not cleared: {e}", "warning")


def without(claim: Claim, gone: Iterable[Interface]) -> Claim:
    """Return the claim without what its pod was given for the addresses ``gone``, and not for others too.

    What serves a whole family stays with the addresses of the ADD, which may come back.
    """
    gone = list(gone)
    ips = {each.ip for each in gone}
    sources = {host_route(ip) for ip in ips}
    shared = {each.network for each in gone}
    stay = [each for each in (*claim.addresses, *claim.watched) if each.ip not in ips]
    shared -= {each.network for each in stay}
    versions = {each.version for each in (*claim.addresses, *stay)}
    return replace(
        claim,
        watched=tuple(each for each in claim.watched if each.ip not in ips),
        connected=tuple(each for each in claim.connected if each.ip not in ips),
        pod_rules=tuple(
            rule for rule in claim.pod_rules if rule.source not in sources and rule.source.version in versions
        ),
        pod_routes=tuple(
            route
            for route in claim.pod_routes
            if route.destination.version in versions
            if route.gateway or route.kind != "unicast" or route.destination not in shared
        ),
    )
