"""Records the outcome of claiming addresses, and removes from the pod what could not be claimed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from ..model.claim import Claim
from ..model.claim_state import ClaimedRoute
from ..model.errors import CniError, IoFailure, TryAgain
from ..model.values import Address, Interface, PodRoute, PodRule, host_route
from .evaluate import Errors, WantedAddress, lasts, with_errors
from .world import World
from .write_routes import Written


@dataclass(frozen=True, slots=True)
class AddressOutcomes:
    """The outcome of each address. ``elsewhere``: its route works for another, and is not ours to take.

    ``refused`` is for good, ``failed`` may pass.
    """

    held: Sequence[Interface] = ()
    elsewhere: Sequence[Interface] = ()
    refused: Mapping[Address, str] = field(default_factory=dict)
    failed: Mapping[Address, str] = field(default_factory=dict)

    @classmethod
    def of(cls, errors: Errors, good: Sequence[WantedAddress] = ()) -> Self:
        """Return the outcomes of ``good`` addresses, and of those that ``errors`` name."""
        return cls(
            held=[address.interface for address in good if not address.passive],
            elsewhere=[address.interface for address in good if address.passive],
            refused={ip: error.msg for ip, error in errors.items() if lasts(error)},
            failed={ip: error.msg for ip, error in errors.items() if not lasts(error)},
        )


def record_outcomes(
    world: World, before: Claim, wanted: Sequence[WantedAddress], written: Written, errors: Errors
) -> AddressOutcomes:
    """Record each route as held, or as it was before. A mark that a DEL has set meanwhile stays."""
    todo = [address for address in wanted if not address.passive and address.interface.ip not in errors]
    failed = [(address.interface.ip, written.failed.get(key)) for address in todo for key in address.reads]
    errors = with_errors(errors, ((ip, error) for ip, error in failed if error))
    now = world.claims.get(before.attachment)
    if not isinstance(now, Claim):
        return AddressOutcomes.of(errors)
    errors = with_errors(errors, _find_unfinished(now, wanted, written))
    good = [address for address in wanted if address.interface.ip not in errors]
    settled = replace(
        now,
        routes=tuple(_settle_routes(now, before, good, wanted, written, world.now())),
        last_write_at=world.now(),
    )
    live = {route.key for route in settled.routes if route.state.live}
    no = [address for address in wanted if address not in good]
    lost = [address.interface for address in no if not live & set(address.reads)]
    settled = without_addresses(settled, lost)
    try:
        world.claims.put(settled.outlive(now))
    except IoFailure:  # a full disk: what nobody had before may not stay as if somebody were at work on it
        had = {route.key for route in before.routes if route.state.live}
        begun = {key for address in wanted for key in address.reads} - had
        world.claims.update(now.attachment, lambda now: now.give_up(begun).outlive(now))
        raise
    if lost:
        _unconfigure_pod(world, settled, [address for address in no if address.interface in lost])
    return AddressOutcomes.of(errors, good)


def _find_unfinished(
    now: Claim, wanted: Sequence[WantedAddress], written: Written
) -> Iterator[tuple[Address, CniError]]:
    """Yield the addresses that are not held although they have no error, and why."""
    for address in wanted:
        ip, keys = address.interface.ip, set(address.reads)
        if address.passive:
            continue
        if not now.live:
            yield ip, TryAgain(f"stopped: {now.attachment} was deleted meanwhile")
        elif not keys & set(written.written):
            yield ip, TryAgain(f"{ip}: no selected route table is left")
        elif keys - set(written.written) - set(written.vanished):
            yield ip, TryAgain(f"{ip}: not every route was written")


def _settle_routes(
    now: Claim,
    before: Claim,
    good: Sequence[WantedAddress],
    wanted: Sequence[WantedAddress],
    written: Written,
    at: float,
) -> Iterator[ClaimedRoute]:
    wrote = {key for address in wanted for key in address.reads}
    keep = {key for address in good for key in address.reads}
    former = {r.key: r for r in before.routes if r.state.settled}
    for route in now.routes:
        key = route.key
        if key not in wrote or not route.state.live:
            yield route
        elif key in written.written and (key in keep or key in former):
            yield route.hold(at, now.eni)
        elif key in keep and key not in written.vanished:
            yield route  # superseded, by one that works
        elif key in former:
            yield former[key]
        elif key not in written.vanished:
            yield route.give_up()


def _unconfigure_pod(world: World, claim: Claim, lost: Sequence[WantedAddress]) -> None:
    """Remove from the pod the configuration of addresses that could not be claimed."""
    try:
        with world.kernel().open_pod(claim.netns, claim.attachment.ifname) as pod:
            for wanted_address in lost:
                unwanted: list[PodRoute | PodRule] = [
                    *wanted_address.pod_plan.rules,
                    *wanted_address.pod_plan.routes,
                ]
                for given in unwanted:
                    if given not in claim.pod_rules and given not in claim.pod_routes:
                        pod.remove(given)
                for address in wanted_address.pod_plan.connected:
                    pod.restore_connected(address)
    except CniError as e:
        world.log(f"{claim.attachment}: cannot clear the pod: {e}", "warning")


def without_addresses(claim: Claim, gone: Iterable[Interface]) -> Claim:
    """Return the claim without the pod configuration that serves only the addresses ``gone``.

    Configuration of a whole family stays with the addresses of the ADD, which may come back.
    """
    gone = list(gone)
    ips = {interface.ip for interface in gone}
    sources = {host_route(ip) for ip in ips}
    shared = {interface.network for interface in gone}
    stay = [interface for interface in (*claim.addresses, *claim.watched) if interface.ip not in ips]
    shared -= {interface.network for interface in stay}
    versions = {interface.version for interface in (*claim.addresses, *stay)}
    return replace(
        claim,
        watched=tuple(interface for interface in claim.watched if interface.ip not in ips),
        connected=tuple(interface for interface in claim.connected if interface.ip not in ips),
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
