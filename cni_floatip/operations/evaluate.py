"""Evaluates the addresses that an attachment is to claim: together, and one by one if any is refused."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..config.netconf import NetConf
from ..model.claim import Claim
from ..model.errors import CniError, InvalidConfig, PodNetworkFailure, TryAgain
from ..model.values import MAIN_TABLE, Address, Interface, RouteKey, host_route
from ..protocol.result import PrevResult
from ..rules import destinations, pod_routes
from ..rules.pod_routes import PodPlan
from .locate import EniSite, VpcView, read_vpc, site_of
from .plan import refuse_elected, refuse_source_check
from .world import World
from .write_routes import Attempt, RouteRead

Errors = Mapping[Address, CniError]
"""Why addresses cannot be claimed."""


@dataclass(frozen=True, slots=True)
class WantedAddress:
    """An address that may be claimed, and where its routes lead now."""

    interface: Interface
    reads: Mapping[RouteKey, RouteRead]
    view: VpcView
    pod_plan: PodPlan
    passive: bool


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The addresses that may be claimed, and the errors of the others."""

    wanted: tuple[WantedAddress, ...] = ()
    errors: Errors = field(default_factory=dict)


def lasts(error: CniError) -> bool:
    """Whether an address is refused for good; otherwise it is tried again soon."""
    return not isinstance(error, (TryAgain, PodNetworkFailure))


def with_errors(errors: Errors, more: Iterable[tuple[Address, CniError]]) -> Errors:
    """Return ``errors`` merged with ``more``: of each address the first lasting error, else the first."""
    merged = dict(errors)
    for ip, error in more:
        if ip not in merged or (lasts(error) and not lasts(merged[ip])):
            merged[ip] = error
    return merged


def site_of_claim(
    world: World, claim: Claim, conf: NetConf, deadline: float, *, again: bool = False
) -> EniSite:
    """Return the site of an existing claim; ``again``: as metadata shows it now. Raises CniError."""
    if not claim.mac:
        raise InvalidConfig(
            f"{claim.attachment} was claimed by an older release: followed after its next ADD"
        )
    metadata = world.metadata(deadline)
    try:
        if again:
            metadata.ask_again()
        site = site_of(claim.mac, metadata, conf)
    finally:
        metadata.close()
    if site.eni.id != claim.eni:
        raise TryAgain(f"{claim.mac} is {site.eni} now, and {claim.attachment} was claimed for {claim.eni}")
    return site


def evaluate(
    attempt: Attempt, site: EniSite, addresses: Sequence[Interface], appeared: Collection[Address]
) -> Evaluated:
    """Evaluate ``addresses`` together, and one by one if any is refused."""
    world, policy, namespace = attempt.world, attempt.world.policy, attempt.claim.pod.namespace
    try:
        prev = PrevResult({}, tuple(addresses))
        view = read_vpc(world, attempt.vpc, attempt.conf, prev, site, attempt.deadline)
        destinations.refuse_destinations(view.wants, site.eni, policy, namespace, view.occupants)
        destinations.refuse_tables(view.tables, view.wants, policy)
        refuse_elected(world, attempt.conf, view)
        refuse_source_check(world, site, view)
        return Evaluated(
            tuple(
                _evaluate_one(attempt, site, view, interface, interface.ip in appeared)
                for interface in addresses
            )
        )
    except CniError as e:
        if len(addresses) == 1 or isinstance(e, TryAgain):
            return Evaluated(errors=dict.fromkeys((interface.ip for interface in addresses), e))
    alone = [evaluate(attempt, site, [interface], appeared) for interface in addresses]
    return Evaluated(
        tuple(wanted for one in alone for wanted in one.wanted),
        {ip: error for one in alone for ip, error in one.errors.items()},
    )


def _evaluate_one(
    attempt: Attempt, site: EniSite, view: VpcView, interface: Interface, appeared: bool
) -> WantedAddress:
    claim = attempt.claim
    wants = [want for want in view.wants if destinations.inside(host_route(interface.ip), [want.destination])]
    table, ifname = claim.table or MAIN_TABLE, claim.attachment.ifname
    given = pod_routes.pod_plan(attempt.conf, [interface], wants, site.eni, table, ifname)
    keys = view.route_reads(wants)
    works = [
        read.target
        for read in keys.values()
        if read.target and read.target.active and read.target.id != claim.eni
    ]
    return WantedAddress(interface, keys, view, given, passive=bool(works) and not appeared)
