"""Judging addresses that an attachment is to claim: all by one look, and each alone where any is refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from ..config.netconf import NetConf
from ..model.claim import Claim
from ..model.errors import CniError, InvalidConfig, PodNetworkFailure, TryAgain
from ..model.values import MAIN_TABLE, Address, Interface, Place, Target, host_route
from ..protocol.result import PrevResult
from ..rules import destinations, pod_routes
from ..rules.pod_routes import PodPlan
from .locate import Site, View, look, site_of
from .plan import refuse_source_check
from .world import Vpc, World


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
class Wanted:
    """An address that nothing stands against, and where its routes lead now."""

    interface: Interface
    places: Mapping[Place, Target | None]
    view: View
    given: PodPlan
    passive: bool


def site_of_claim(world: World, claim: Claim, conf: NetConf, deadline: float, *, again: bool = False) -> Site:
    """Return where a claim that is there already is; ``again``: as metadata shows it now. Raises CniError."""
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


def judged(
    world: World,
    vpc: Vpc,
    conf: NetConf,
    claim: Claim,
    site: Site,
    addresses: Sequence[Interface],
    appeared: Collection[Address],
    deadline: float,
    taken: Taken,
) -> list[Wanted]:
    """Return the addresses that nothing stands against: all judged by one look, each alone if any is not."""
    judge = partial(judged, world, vpc, conf, claim, site)
    try:
        view = look(world, vpc, conf, PrevResult({}, tuple(addresses)), site, deadline)
        namespace = claim.pod.namespace
        destinations.refuse_destinations(view.wants, site.eni, world.policy, namespace, view.occupants)
        destinations.refuse_tables(view.tables, view.wants, world.policy)
        refuse_source_check(world, site, view)
        return [_wanted(conf, claim, site, view, each, each.ip in appeared) for each in addresses]
    except CniError as e:
        if len(addresses) > 1 and not isinstance(e, TryAgain):
            return [w for each in addresses for w in judge([each], appeared, deadline, taken)]
        for each in addresses:
            taken.no(each, e)
        return []


def _wanted(conf: NetConf, claim: Claim, site: Site, view: View, each: Interface, appeared: bool) -> Wanted:
    wants = [want for want in view.wants if destinations.inside(host_route(each.ip), [want.destination])]
    ifname = claim.attachment.ifname
    given = pod_routes.pod_plan(conf, [each], wants, site.eni, claim.table or MAIN_TABLE, ifname)
    places = {
        Place(table.id, want.destination): table.routes.get(want.destination)
        for table in view.tables
        for want in wants
    }
    works = [target for target in places.values() if target and target.active and target.id != claim.eni]
    return Wanted(each, places, view, given, passive=bool(works) and not appeared)
