"""Brings a claim in line with the watched addresses of its pod's interface, for the pod's own failover.

An application that moves an address between its pods (keepalived, VRRP) tells only its kernel. So
``sync_addresses`` compares the claim with the addresses on the interface. It claims an address that appeared
as an ADD does, with every refusal of an ADD, and releases the route of one that vanished, with grace.

The kernel dates each address, and the date decides what has appeared. An address that was there at the last
look takes no route that works for another, because a restart of ours must not steal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from ..config.netconf import NetConf, conf_of
from ..model import cidr
from ..model.claim import Claim
from ..model.claim_state import ClaimedRoute
from ..model.errors import CniError
from ..model.values import Address, Attachment, Interface, Network, PodAddress, host_route
from ..rules import destinations
from .claim_addresses import claim_addresses
from .evidence import is_here
from .locate import site_of
from .record_outcome import AddressOutcomes, without_addresses
from .release import attachment_lock
from .world import World

METADATA_SECONDS = 5.0

Dates = Mapping[Address, float]
"""The kernel's date of each address that has been dealt with."""


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """One look at one interface. ``unplugged``: the interface is known to be gone, with its addresses.

    ``dates``: the addresses of the last look; None when unknown. ``room`` says how many of so many addresses
    may be claimed now, ``lost`` whether one has been removed since the look. ``resting``: addresses that
    were refused a short while ago; they are not evaluated again unless they appear again.
    """

    attachment: Attachment
    dates: Dates | None
    room: Callable[[int], int]
    lost: Callable[[Address], bool]
    resting: Collection[Address] = ()
    unplugged: bool = False


@dataclass(frozen=True, slots=True)
class SyncResult:
    """The result of a look. ``busy``: a call for the attachment runs; ``claim_ended``: the claim has ended.

    ``refused`` is for good, ``failed`` may pass; ``put_off`` waits for room, ``beyond`` is one too many.
    ``ready``: can be used since this look, which did not claim them.
    """

    busy: bool = False
    claim_ended: bool = False
    appeared: Sequence[Interface] = ()
    vanished: Sequence[Interface] = ()
    elsewhere: Sequence[Interface] = ()
    refused: Mapping[Address, str] = field(default_factory=dict)
    failed: Mapping[Address, str] = field(default_factory=dict)
    put_off: Sequence[Interface] = ()
    beyond: Sequence[Interface] = ()
    ready: Sequence[Interface] = ()
    dates: Dates = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _ConfiguredDestinations:
    """What the configuration claims whatever addresses the pod has. ``subnets``: whole subnets of the VPC."""

    all: Collection[Network]
    subnets: Collection[Network] = ()

    @classmethod
    def read(cls, world: World, conf: NetConf, claim: Claim) -> Self:
        """Ask metadata which destinations are the VPC's, because EC2 routes only whole subnets there."""
        listed = conf.extra_destinations
        if not listed or not claim.mac:
            return cls(listed)
        metadata = world.metadata(world.clock() + METADATA_SECONDS)
        try:
            of_vpc = site_of(claim.mac, metadata, conf).eni.vpc_cidrs
        finally:
            metadata.close()
        return cls(listed, [network for network in listed if destinations.inside(network, of_vpc)])


@dataclass(frozen=True, slots=True)
class _Look:
    """The input of one look: the interface's addresses now, and what the configuration claims anyway."""

    world: World
    request: WatchRequest
    conf: NetConf
    present: Sequence[PodAddress]
    listed: _ConfiguredDestinations


def sync_addresses(request: WatchRequest, world: World) -> SyncResult:
    """Bring the claim of an attachment in line with the addresses that its interface has now.

    Raises CniError when the claim or the interface could not be read. The result has the outcome of each
    address.
    """
    with world.claims.lock(attachment_lock(request.attachment), 0) as mine:
        if not mine:
            return SyncResult(busy=True)
        claim = world.claims.get(request.attachment)
        if not isinstance(claim, Claim) or not claim.watches or not is_here(claim, world):
            return SyncResult(claim_ended=True)
        conf = conf_of(claim)
        present = () if request.unplugged else _read_addresses(world, claim)
        look = _Look(world, request, conf, present, _ConfiguredDestinations.read(world, conf, claim))
        ready, not_ready = _skip_detection(look, claim)
        left, vanished = _release_vanished(look, claim)
        chosen = _choose(look, left)
        outcomes = _claim_chosen(look, left, chosen.todo) if chosen.todo else AddressOutcomes()
    again = {*(interface.ip for interface in (*chosen.put_off, *chosen.beyond)), *outcomes.failed}
    if outcomes.held or vanished or outcomes.elsewhere or outcomes.failed:
        world.wake_keeper()
    return SyncResult(
        appeared=outcomes.held,
        vanished=vanished,
        elsewhere=outcomes.elsewhere,
        refused={**chosen.refused, **outcomes.refused},
        failed={**not_ready, **outcomes.failed},
        put_off=chosen.put_off,
        beyond=chosen.beyond,
        ready=ready,
        dates=_merge_dates(chosen.dates, request.dates or {}, again),
    )


def _merge_dates(dealt: Dates, before: Dates, again: Collection[Address]) -> Dates:
    """Return ``dates`` such that the next look classifies the addresses ``again`` as this one did."""
    return {ip: at for ip, at in dealt.items() if ip not in again} | {
        ip: before[ip] for ip in again if ip in before
    }


def _read_addresses(world: World, claim: Claim) -> tuple[PodAddress, ...]:
    """Read the interface's addresses. Holds the namespace only for that, because its pod may be ending."""
    with world.kernel().open_pod(claim.netns, claim.attachment.ifname) as pod:
        return pod.addresses()


def _skip_detection(look: _Look, claim: Claim) -> tuple[Sequence[Interface], Mapping[Address, str]]:
    """Make tentative addresses usable at once; return them, or why they cannot be.

    Only those that have appeared since the last look: an address that is added again has a new date, and one
    that was there must not become new by it. The kernel's events bring about the look that claims them.
    """
    if look.conf.duplicate_address_detection:
        return (), {}
    request, given, claimed = look.request, _given(claim), _claimed(look, claim)
    wanted = [
        address.interface
        for address in look.present
        if address.tentative and not address.duplicate
        if (ip := address.interface.ip) in given or _may_be_watched(address, look.conf)
        if _has_appeared(address, ip in claimed, request.dates) and ip not in request.resting
        if _may_be_allowed(look.world, claim, ip)
    ][: look.world.policy.watch_limits.addresses]
    ips = [interface.ip for interface in wanted]
    if not ips:
        return (), {}
    try:
        with look.world.kernel().open_pod(claim.netns, claim.attachment.ifname) as pod:
            pod.skip_detection(ips)
            tentative = {address.interface for address in pod.addresses() if address.tentative}
    except CniError as e:
        return (), dict.fromkeys(ips, e.msg)
    return [interface for interface in wanted if interface not in tentative], {}


# -- what vanished ------------------------------------------------------------------------------------------


def _release_vanished(look: _Look, claim: Claim) -> tuple[Claim, Sequence[Interface]]:
    """Record that vanished addresses are no longer wanted; return the new claim, and those addresses.

    A tentative address is neither present nor gone, because the kernel probes it again after a carrier loss.
    """
    world, listed = look.world, look.listed
    here = {address.interface.ip for address in look.present}
    known = _routed_addresses(listed, claim, [route for route in claim.routes if route.state.live])
    gone = [interface for interface in known if interface.ip not in here]
    if not gone:
        return claim, ()
    stay = [interface for interface in known if interface.ip in here]
    after = max(world.now(), claim.last_write_at) + world.policy.release_grace_seconds

    def routes() -> Iterator[ClaimedRoute]:
        for route in claim.routes:
            destination = route.key.destination
            wanted = destination in listed.all or any(
                _is_for(listed, route, interface.ip) for interface in stay
            )
            if (
                not route.state.live
                or wanted
                or not any(_is_for(listed, route, interface.ip) for interface in gone)
            ):
                yield route
            elif claim.on_delete == "release":
                yield route.release(after)

    left = without_addresses(replace(claim, routes=tuple(routes())), gone).outlive(claim)
    if left == claim:  # what is listed stays claimed without its address
        return claim, ()
    world.claims.put(left)
    if look.request.unplugged:
        world.kernel().clear_pod(claim.netns, claim.table, claim.pod_routes, claim.pod_rules)
        return left, gone
    with world.kernel().open_pod(claim.netns, claim.attachment.ifname) as pod:
        for rule in set(claim.pod_rules) - set(left.pod_rules):
            pod.remove(rule)
        for route in set(claim.pod_routes) - set(left.pod_routes):
            pod.remove(route)
    return left, gone


def _routed_addresses(
    listed: _ConfiguredDestinations, claim: Claim, routes: Sequence[ClaimedRoute]
) -> list[Interface]:
    """Return the addresses of the claim that have a route among ``routes``."""
    every = (*claim.addresses, *claim.watched)
    return [interface for interface in every if any(_is_for(listed, route, interface.ip) for route in routes)]


def _is_for(listed: _ConfiguredDestinations, route: ClaimedRoute, ip: Address) -> bool:
    """Whether ``route`` is the one that ``ip`` needs, and not a wider one that the configuration lists."""
    destination, alone = route.key.destination, host_route(ip)
    if destination in listed.all and destination not in listed.subnets:
        return destination == alone
    return cidr.within(alone, destination)


# -- what appeared ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An address that the claim may want. ``appeared``: since the last look."""

    interface: Interface
    made: float
    claimed: bool
    appeared: bool


@dataclass(frozen=True, slots=True)
class _Choice:
    """The candidates of a look: those to claim now, in order of appearance, and remarks on the others."""

    todo: Sequence[_Candidate]
    refused: Mapping[Address, str]
    put_off: Sequence[Interface]
    beyond: Sequence[Interface]
    dates: Dates


def _choose(look: _Look, claim: Claim) -> _Choice:
    """Choose the addresses to claim now, as far as the limits allow."""
    world, request, present = look.world, look.request, look.present
    limits = world.policy.watch_limits
    given, claimed = _given(claim), _claimed(look, claim)
    candidates = [
        _Candidate(
            address.interface,
            address.made,
            ip in claimed,
            _has_appeared(address, ip in claimed, request.dates),
        )
        for address in present
        if not address.tentative and not address.duplicate
        if (ip := address.interface.ip) in given or _may_be_watched(address, look.conf)
    ]
    never = {
        candidate.interface.ip
        for candidate in candidates
        if not _may_be_allowed(world, claim, candidate.interface.ip)
    }
    news = [
        candidate
        for candidate in candidates
        if candidate.interface.ip in never and candidate.interface.ip not in request.resting
    ]
    candidates = [candidate for candidate in candidates if candidate.interface.ip not in never]
    candidates.sort(key=lambda candidate: (not candidate.claimed, candidate.made, str(candidate.interface)))
    away = claimed - {address.interface.ip for address in present}  # their routes are listed, and stay
    watched = [candidate for candidate in candidates if candidate.interface.ip not in given]
    beyond = watched[limits.addresses :]
    too_many = {candidate.interface.ip for candidate in beyond}
    # Recorded, and never dealt with to the end: an agent died in between, maybe before the pod had its rule.
    begun = {interface.ip for interface in claim.watched} - (
        claimed if request.dates is None else request.dates.keys()
    )
    todo = [
        candidate
        for candidate in candidates
        if candidate.interface.ip not in too_many
        if candidate.appeared
        or candidate.interface.ip in begun
        or not (candidate.claimed or candidate.interface.ip in request.resting)
    ]
    room = request.room(len(todo)) if todo else 0
    return _Choice(
        todo=todo[:room],
        refused=_refusals(claim, news[: limits.addresses]),
        put_off=[candidate.interface for candidate in todo[room:]],
        beyond=[candidate.interface for candidate in beyond],
        dates=dict.fromkeys(away, -1.0)
        | {candidate.interface.ip: candidate.made for candidate in candidates},
    )


def _given(claim: Claim) -> set[Address]:
    """Return the addresses of the ADD."""
    return {interface.ip for interface in claim.addresses}


def _claimed(look: _Look, claim: Claim) -> set[Address]:
    """Return the addresses whose routes have been dealt with to the end."""
    settled = [route for route in claim.routes if route.state.settled]
    return {interface.ip for interface in _routed_addresses(look.listed, claim, settled)}


def _may_be_allowed(world: World, claim: Claim, ip: Address) -> bool:
    """Whether policy can allow the destination of ``ip``: its host route or the subnet around it."""
    return world.policy.allows_destination(host_route(ip), claim.pod.namespace)


def _refusals(claim: Claim, candidates: Sequence[_Candidate]) -> dict[Address, str]:
    """Return, without asking EC2, the addresses that policy cannot allow; they use up no limit."""
    who = f"namespace {claim.pod.namespace}" if claim.pod.namespace else "a pod without a namespace"
    return {
        candidate.interface.ip: (
            f"{host_route(candidate.interface.ip)} is not allowed for {who}: add it to allowedDestinations of"
            " the node configuration"
        )
        for candidate in candidates
        if not candidate.claimed
    }


def _may_be_watched(address: PodAddress, conf: NetConf) -> bool:
    alone = host_route(address.interface.ip)
    return (
        not address.temporary and not cidr.never(alone) and destinations.inside(alone, conf.watch_addresses)
    )


def _has_appeared(address: PodAddress, claimed: bool, dealt: Dates | None) -> bool:
    """Whether the address was assigned since the last look: it is new, or has another date."""
    dated = dealt.get(address.interface.ip) if dealt is not None else None
    if claimed and dated is None:  # by the ADD, which asks for no date
        return False
    return dealt is not None and dated != address.made


def _claim_chosen(look: _Look, claim: Claim, todo: Sequence[_Candidate]) -> AddressOutcomes:
    appeared = {candidate.interface.ip for candidate in todo if candidate.appeared}
    addresses = [candidate.interface for candidate in todo]
    return claim_addresses(look.world, look.conf, claim, addresses, appeared, look.request.lost)
