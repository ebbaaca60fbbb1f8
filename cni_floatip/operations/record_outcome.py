"""The outcome of claiming addresses: what is recorded of each, and taken out of the pod again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from ..model.claim import Claim
from ..model.claim_state import ClaimedRoute
from ..model.errors import CniError, IoFailure, TryAgain
from ..model.values import Address, Interface, PodRoute, PodRule, host_route
from .evaluate import Errors, Wanted, lasts, with_errors
from .world import World
from .write_routes import Written


@dataclass(frozen=True, slots=True)
class AddressOutcomes:
    """What became of each address. ``elsewhere``: its route works for another, and is not ours to take.

    ``refused`` is for good, ``failed`` may pass.
    """

    held: Sequence[Interface] = ()
    elsewhere: Sequence[Interface] = ()
    refused: Mapping[Address, str] = field(default_factory=dict)
    failed: Mapping[Address, str] = field(default_factory=dict)

    @classmethod
    def of(cls, errors: Errors, good: Sequence[Wanted] = ()) -> Self:
        """Return the outcomes of ``good`` addresses, and of those that ``errors`` stand against."""
        return cls(
            held=[each.interface for each in good if not each.passive],
            elsewhere=[each.interface for each in good if each.passive],
            refused={ip: error.msg for ip, error in errors.items() if lasts(error)},
            failed={ip: error.msg for ip, error in errors.items() if not lasts(error)},
        )


def record_outcomes(
    world: World, before: Claim, wanted: Sequence[Wanted], written: Written, errors: Errors
) -> AddressOutcomes:
    """Record what came of it: held, or as it was before; what a DEL has marked meanwhile stays marked."""
    todo = [each for each in wanted if not each.passive and each.interface.ip not in errors]
    failed = [(each.interface.ip, written.failed.get(place)) for each in todo for place in each.places]
    errors = with_errors(errors, ((ip, error) for ip, error in failed if error))
    now = world.claims.get(before.attachment)
    if not isinstance(now, Claim):
        return AddressOutcomes.of(errors)
    errors = with_errors(errors, _unfinished(now, wanted, written))
    good = [each for each in wanted if each.interface.ip not in errors]
    settled = replace(
        now,
        routes=tuple(_settled(now, before, good, wanted, written, world.now())),
        written=world.now(),
    )
    live = {route.place for route in settled.routes if route.state.live}
    no = [each for each in wanted if each not in good]
    lost = [each.interface for each in no if not live & set(each.places)]
    settled = without(settled, lost)
    try:
        world.claims.put(settled.outlive(now))
    except IoFailure:  # a full disk: what nobody had before may not stay as if somebody were at work on it
        had = {route.place for route in before.routes if route.state.live}
        begun = {place for each in wanted for place in each.places} - had
        world.claims.change(now.attachment, lambda now: now.give_up(begun).outlive(now))
        raise
    if lost:
        _take_back(world, settled, [each for each in no if each.interface in lost])
    return AddressOutcomes.of(errors, good)


def _unfinished(now: Claim, wanted: Sequence[Wanted], written: Written) -> Iterator[tuple[Address, CniError]]:
    """Yield the addresses that are not held although nothing was said against them, and why."""
    for each in wanted:
        ip, places = each.interface.ip, set(each.places)
        if each.passive:
            continue
        if not now.live:
            yield ip, TryAgain(f"stopped: {now.attachment} was deleted meanwhile")
        elif not places & set(written.written):
            yield ip, TryAgain(f"{ip}: no selected route table is left")
        elif places - set(written.written) - set(written.vanished):
            yield ip, TryAgain(f"{ip}: not every route was written")


def _settled(
    now: Claim,
    before: Claim,
    good: Sequence[Wanted],
    wanted: Sequence[Wanted],
    written: Written,
    at: float,
) -> Iterator[ClaimedRoute]:
    wrote = {place for each in wanted for place in each.places}
    keep = {place for each in good for place in each.places}
    former = {r.place: r for r in before.routes if r.state.settled}
    for route in now.routes:
        place = route.place
        if place not in wrote or not route.state.live:
            yield route
        elif place in written.written and (place in keep or place in former):
            yield route.hold(at)
        elif place in keep and place not in written.vanished:
            yield route  # superseded, by one that works
        elif place in former:
            yield former[place]
        elif place not in written.vanished:
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
        world.log(f"{claim.attachment}: cannot clear the pod: {e}", "warning")


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
