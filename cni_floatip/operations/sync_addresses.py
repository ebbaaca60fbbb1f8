"""Addresses that come to a pod's interface and leave it later: the pod's own failover, followed.

An application that moves an address between its pods (keepalived, VRRP) says so to nobody but its kernel.
``follow`` compares what the claim holds with what is on the interface now: an address that appeared is
claimed as by an ADD, with all that an ADD refuses; the route of one that vanished is released, with grace.

What counts as appeared is the kernel's to say: it dates each address. One that was there when we last looked
is no new appearance, and takes no route that works for another (a restart of ours must not steal).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from ..config.netconf import NetConf, conf_of
from ..model import cidr
from ..model.claim import Claim
from ..model.claim_state import ClaimedRoute
from ..model.values import Address, Attachment, Interface, Network, PodAddress, host_route
from ..rules import destinations
from .claim_addresses import claim_addresses
from .evidence import is_here
from .locate import site_of
from .record_outcome import AddressOutcomes, without
from .release import attachment_lock
from .world import World

METADATA_SECONDS = 5.0

Dates = Mapping[Address, float]
"""When the kernel says that each address was put there, as far as it has been dealt with."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One look at one interface. ``unplugged``: it is known to be gone, and its addresses with it.

    ``dealt``: the addresses of the last look; None when nobody knows. ``room`` says how many of so many
    addresses may be claimed now, ``lost`` whether one has been taken away since the look. ``resting``: those
    that were refused a short while ago, and are not judged again unless they appear again.
    """

    attachment: Attachment
    dealt: Dates | None
    room: Callable[[int], int]
    lost: Callable[[Address], bool]
    resting: Collection[Address] = ()
    unplugged: bool = False


@dataclass(frozen=True, slots=True)
class Followed:
    """What a look came to. ``busy``: the attachment's own call is at work; ``over``: the claim has ended.

    ``refused`` is for good, ``failed`` may pass; ``put_off`` waits for room, ``beyond`` is one too many.
    """

    busy: bool = False
    over: bool = False
    appeared: Sequence[Interface] = ()
    vanished: Sequence[Interface] = ()
    elsewhere: Sequence[Interface] = ()
    refused: Mapping[Address, str] = field(default_factory=dict)
    failed: Mapping[Address, str] = field(default_factory=dict)
    put_off: Sequence[Interface] = ()
    beyond: Sequence[Interface] = ()
    dealt: Dates = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Listed:
    """What the configuration claims whatever addresses there are. ``subnets``: whole subnets of the VPC."""

    all: Collection[Network]
    subnets: Collection[Network] = ()

    @classmethod
    def read(cls, world: World, conf: NetConf, claim: Claim) -> Self:
        """Ask instance metadata which destinations are the VPC's: there EC2 routes whole subnets only."""
        listed = conf.extra_destinations
        if not listed or not claim.mac:
            return cls(listed)
        metadata = world.metadata(world.clock() + METADATA_SECONDS)
        try:
            of_vpc = site_of(claim.mac, metadata, conf).eni.vpc_cidrs
        finally:
            metadata.close()
        return cls(listed, [each for each in listed if destinations.inside(each, of_vpc)])


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look rests on: the interface's addresses now, and what the configuration claims anyway."""

    world: World
    asked: Asked
    conf: NetConf
    present: Sequence[PodAddress]
    listed: _Listed


def follow(asked: Asked, world: World) -> Followed:
    """Bring the claim of an attachment up to the addresses that its interface has now.

    Raises CniError when the claim or the interface could not be read; what became of each address is in the
    result.
    """
    with world.claims.lock(attachment_lock(asked.attachment), 0) as mine:
        if not mine:
            return Followed(busy=True)
        claim = world.claims.get(asked.attachment)
        if not isinstance(claim, Claim) or not claim.watches or not is_here(claim, world):
            return Followed(over=True)
        conf = conf_of(claim)
        present = () if asked.unplugged else _present(world, claim)
        look = _Look(world, asked, conf, present, _Listed.read(world, conf, claim))
        left, vanished = _let_go(look, claim)
        chosen = _choose(look, left)
        outcomes = _claim(look, left, chosen.todo) if chosen.todo else AddressOutcomes()
    again = {*(each.ip for each in (*chosen.put_off, *chosen.beyond)), *outcomes.failed}
    if outcomes.held or vanished or outcomes.elsewhere or outcomes.failed:
        world.later()
    return Followed(
        appeared=outcomes.held,
        vanished=vanished,
        elsewhere=outcomes.elsewhere,
        refused={**chosen.refused, **outcomes.refused},
        failed=outcomes.failed,
        put_off=chosen.put_off,
        beyond=chosen.beyond,
        dealt=_dealt(chosen.dealt, asked.dealt or {}, again),
    )


def _dealt(dealt: Dates, before: Dates, again: Collection[Address]) -> Dates:
    """Return ``dealt``, so that the next look takes those of ``again`` for what this one took them for."""
    return {ip: at for ip, at in dealt.items() if ip not in again} | {
        ip: before[ip] for ip in again if ip in before
    }


def _present(world: World, claim: Claim) -> tuple[PodAddress, ...]:
    """Read the interface's addresses. The namespace is held no longer than that: its pod may be ending."""
    with world.kernel().open_pod(claim.netns, claim.attachment.ifname) as pod:
        return pod.addresses()


# -- what vanished ------------------------------------------------------------------------------------------


def _let_go(look: _Look, claim: Claim) -> tuple[Claim, Sequence[Interface]]:
    """Record that vanished addresses are no longer wanted; return the claim as it then is, and those.

    A tentative address is neither there nor gone: after a carrier loss the kernel probes it again.
    """
    world, listed = look.world, look.listed
    here = {each.interface.ip for each in look.present}
    known = _followed(listed, claim, [route for route in claim.routes if route.state.live])
    gone = [each for each in known if each.ip not in here]
    if not gone:
        return claim, ()
    stay = [each for each in known if each.ip in here]
    after = max(world.now(), claim.written) + world.policy.release_grace_seconds

    def routes() -> Iterator[ClaimedRoute]:
        for route in claim.routes:
            destination = route.place.destination
            wanted = destination in listed.all or any(_is_for(listed, route, each.ip) for each in stay)
            if not route.state.live or wanted or not any(_is_for(listed, route, each.ip) for each in gone):
                yield route
            elif claim.on_delete == "release":
                yield route.release(after)

    left = without(replace(claim, routes=tuple(routes())), gone).outlive(claim)
    if left == claim:  # what is listed stays claimed without its address
        return claim, ()
    world.claims.put(left)
    if look.asked.unplugged:
        world.kernel().clear_pod(claim.netns, claim.table, claim.pod_routes, claim.pod_rules)
        return left, gone
    with world.kernel().open_pod(claim.netns, claim.attachment.ifname) as pod:
        for rule in set(claim.pod_rules) - set(left.pod_rules):
            pod.remove(rule)
        for route in set(claim.pod_routes) - set(left.pod_routes):
            pod.remove(route)
    return left, gone


def _followed(listed: _Listed, claim: Claim, routes: Sequence[ClaimedRoute]) -> list[Interface]:
    """The addresses of the claim for which there is a route among ``routes``."""
    every = (*claim.addresses, *claim.watched)
    return [each for each in every if any(_is_for(listed, route, each.ip) for route in routes)]


def _is_for(listed: _Listed, route: ClaimedRoute, ip: Address) -> bool:
    """Whether ``route`` is the one that ``ip`` needs, and not a wider one that the configuration lists."""
    destination, alone = route.place.destination, host_route(ip)
    if destination in listed.all and destination not in listed.subnets:
        return destination == alone
    return cidr.within(alone, destination)


# -- what appeared ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An address that the claim may want. ``appeared``: since we last looked."""

    interface: Interface
    made: float
    claimed: bool
    appeared: bool


@dataclass(frozen=True, slots=True)
class _Choice:
    """The candidates of a look: those to claim now, in order of appearance, and what is said of others."""

    todo: Sequence[_Candidate]
    refused: Mapping[Address, str]
    put_off: Sequence[Interface]
    beyond: Sequence[Interface]
    dealt: Dates


def _choose(look: _Look, claim: Claim) -> _Choice:
    """Choose the addresses to claim now, as far as the limits allow."""
    world, asked, present = look.world, look.asked, look.present
    limits = world.policy.watch_limits
    given = {each.ip for each in claim.addresses}
    settled = [route for route in claim.routes if route.state.settled]
    claimed = {each.ip for each in _followed(look.listed, claim, settled)}
    candidates = [
        _Candidate(each.interface, each.made, ip in claimed, _appeared(each, ip in claimed, asked.dealt))
        for each in present
        if not each.tentative and not each.duplicate
        if (ip := each.interface.ip) in given or _may_be_watched(each, look.conf)
    ]
    never = {each.interface.ip for each in candidates if not _may_be_allowed(world, claim, each.interface.ip)}
    news = [
        each for each in candidates if each.interface.ip in never and each.interface.ip not in asked.resting
    ]
    candidates = [each for each in candidates if each.interface.ip not in never]
    candidates.sort(key=lambda each: (not each.claimed, each.made, str(each.interface)))
    away = claimed - {each.interface.ip for each in present}  # their routes are listed, and stay
    watched = [each for each in candidates if each.interface.ip not in given]
    beyond = watched[limits.addresses :]
    too_many = {each.interface.ip for each in beyond}
    # Recorded, and never dealt with to the end: an agent died in between, maybe before the pod had its rule.
    begun = {each.ip for each in claim.watched} - (claimed if asked.dealt is None else asked.dealt.keys())
    todo = [
        each
        for each in candidates
        if each.interface.ip not in too_many
        if each.appeared
        or each.interface.ip in begun
        or not (each.claimed or each.interface.ip in asked.resting)
    ]
    room = asked.room(len(todo)) if todo else 0
    return _Choice(
        todo=todo[:room],
        refused=_refused(claim, news[: limits.addresses]),
        put_off=[each.interface for each in todo[room:]],
        beyond=[each.interface for each in beyond],
        dealt=dict.fromkeys(away, -1.0) | {each.interface.ip: each.made for each in candidates},
    )


def _may_be_allowed(world: World, claim: Claim, ip: Address) -> bool:
    """Whether policy can give what ``ip`` needs, its host route or the subnet around it."""
    return world.policy.allows_destination(host_route(ip), claim.pod.namespace)


def _refused(claim: Claim, candidates: Sequence[_Candidate]) -> dict[Address, str]:
    """Say, without asking EC2, what policy cannot give; such addresses take nobody's place."""
    who = f"namespace {claim.pod.namespace}" if claim.pod.namespace else "a pod without a namespace"
    return {
        each.interface.ip: (
            f"{host_route(each.interface.ip)} is not allowed for {who}: add it to allowedDestinations of"
            " the node configuration"
        )
        for each in candidates
        if not each.claimed
    }


def _may_be_watched(each: PodAddress, conf: NetConf) -> bool:
    alone = host_route(each.interface.ip)
    return not each.temporary and not cidr.never(alone) and destinations.inside(alone, conf.watch_addresses)


def _appeared(each: PodAddress, claimed: bool, dealt: Dates | None) -> bool:
    """Whether the address was put there since the last look: it was not there then, or has another date."""
    dated = dealt.get(each.interface.ip) if dealt is not None else None
    if claimed and dated is None:  # by the ADD, which asks for no date
        return False
    return dealt is not None and dated != each.made


def _claim(look: _Look, claim: Claim, todo: Sequence[_Candidate]) -> AddressOutcomes:
    appeared = {each.interface.ip for each in todo if each.appeared}
    addresses = [each.interface for each in todo]
    return claim_addresses(look.world, look.conf, claim, addresses, appeared, look.asked.lost)
