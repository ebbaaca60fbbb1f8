"""Claims addresses for an existing attachment: evaluates each, records the claim, then writes the routes.

The order is that of an ADD: refuse everything that can be refused, and record the claim, before any write.
Unlike in an ADD, a refusal of one address does not affect the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from ..config.netconf import NetConf
from ..model.claim import Claim
from ..model.claim_state import ClaimedRoute
from ..model.errors import CniError, TryAgain
from ..model.values import Address, Interface, RouteKey
from .evaluate import WantedAddress, evaluate, lasts, site_of_claim, with_errors
from .locate import EniSite
from .pod_repair import configure_pod
from .record_outcome import AddressOutcomes, record_outcomes
from .world import World
from .write_routes import Attempt, Written, disable_source_check, write_routes

T = TypeVar("T")

TAKE_SECONDS = 20.0
"""How long one attempt may take; addresses that have not succeeded by then are tried again."""


def claim_addresses(
    world: World,
    conf: NetConf,
    claim: Claim,
    addresses: Sequence[Interface],
    appeared: Collection[Address],
    lost: Callable[[Address], bool],
) -> AddressOutcomes:
    """Claim ``addresses`` for the attachment of ``claim``, whose lock the caller holds.

    Each step first looks for a DEL, and none follows one. An address that has not just ``appeared`` takes no
    route that works for another: it is recorded as superseded, and gets the route when the other gives it
    up. ``lost``: says whether an address has been removed meanwhile. Raises CniError where the claim cannot
    be written.
    """
    deadline = world.clock() + TAKE_SECONDS
    try:
        site = site_of_claim(world, claim, conf, deadline)
        vpc = world.vpc(site.node.region)
    except CniError as e:
        return AddressOutcomes.of(dict.fromkeys((interface.ip for interface in addresses), e))
    alone = replace(conf, extra_destinations=())  # an ADD has claimed those
    attempt = Attempt(world, vpc, alone, claim, deadline)
    judged = evaluate(attempt, site, addresses, appeared)
    refused = any(lasts(error) for error in judged.errors.values())
    if refused and (site_now := _site_now(attempt, site)) != site:
        judged = evaluate(attempt, site_now, addresses, appeared)
    wanted, errors = judged.wanted, judged.errors
    if not wanted:
        return AddressOutcomes.of(errors)
    now = world.claims.update(
        claim.attachment, lambda now: now if now.deleted_at else _with_wanted(world, now, wanted)
    )
    if now is None or now.deleted_at:
        deleted = TryAgain(f"stopped: {claim.attachment} was deleted meanwhile")
        return AddressOutcomes.of(
            with_errors(errors, ((address.interface.ip, deleted) for address in wanted))
        )
    attempt = replace(attempt, claim=now)
    written = Written()
    try:
        errors = with_errors(errors, _configure_pod(world, now, wanted))
        todo = [address for address in wanted if not address.passive and address.interface.ip not in errors]
        written = _write_routes(replace(attempt, cancelled=partial(_taken_away, todo, lost)), todo)
    finally:  # whatever happened: nobody else knows what was half done
        outcomes = record_outcomes(world, claim, wanted, written, errors)
    return outcomes


def _site_now(attempt: Attempt, site: EniSite) -> EniSite:
    """Return the site as metadata shows it now, because a refusal may rest on remembered metadata."""
    try:
        return site_of_claim(attempt.world, attempt.claim, attempt.conf, attempt.deadline, again=True)
    except CniError:
        return site


def _taken_away(todo: Sequence[WantedAddress], lost: Callable[[Address], bool], key: RouteKey) -> str | None:
    """Say why ``key`` is no longer wanted: no address that needs it is left."""
    whose = [address.interface.ip for address in todo if key in address.reads]
    return f"{whose[0]} was taken away meanwhile" if all(map(lost, whose)) else None


def _with_wanted(world: World, claim: Claim, wanted: Sequence[WantedAddress]) -> Claim:
    """Return the claim to record before anything is written.

    It keeps a route that it already has (for another address of the same subnet), whatever the outcome. A
    pod that had given up all its addresses may do so again.
    """
    routes = {route.key: route for route in claim.routes}
    for wanted_address in wanted:
        for key in wanted_address.reads:
            if key in routes and routes[key].state.live:
                continue
            begin = ClaimedRoute.begin_superseded if wanted_address.passive else ClaimedRoute.begin
            routes[key] = begin(key, wanted_address.view.account)
    given = {address.ip for address in claim.addresses}
    ips = {address.interface.ip for address in wanted}
    watched = [address for address in claim.watched if address.ip not in ips]
    watched += [address.interface for address in wanted if address.interface.ip not in given]
    return replace(
        claim,
        routes=tuple(routes.values()),
        pod_routes=_all(claim.pod_routes, (address.pod_plan.routes for address in wanted)),
        pod_rules=_all(claim.pod_rules, (address.pod_plan.rules for address in wanted)),
        connected=_all(claim.connected, (address.pod_plan.connected for address in wanted)),
        watched=tuple(watched),
        last_write_at=max(claim.last_write_at, world.now() + TAKE_SECONDS),
    )


def _all(first: Iterable[T], more: Iterable[Iterable[T]]) -> tuple[T, ...]:
    return tuple(dict.fromkeys([*first, *(item for some in more for item in some)]))


def _configure_pod(
    world: World, claim: Claim, wanted: Sequence[WantedAddress]
) -> Iterable[tuple[Address, CniError]]:
    """Configure the pod for its addresses; return the error of each that was refused.

    Adds the routes again too, because the kernel removes them with the last address of a family.
    """
    try:
        with world.kernel().open_pod(claim.netns, claim.attachment.ifname) as pod:
            refused = configure_pod(pod, claim)
    except CniError as e:
        return [(address.interface.ip, e) for address in wanted]
    return [
        (address.interface.ip, refused[rule])
        for address in wanted
        for rule in address.pod_plan.rules
        if rule in refused
    ]


def _write_routes(attempt: Attempt, todo: Sequence[WantedAddress]) -> Written:
    """Write the VPC routes as an ADD does; if the source/dest check stays on, every route has failed."""
    if any(address.view.checks_source for address in todo):  # somebody has turned it on since the ADD
        try:
            disable_source_check(attempt)
        except CniError as e:
            return Written(failed={key: e for address in todo for key in address.reads})
    return write_routes(attempt, *(address.reads for address in todo))
