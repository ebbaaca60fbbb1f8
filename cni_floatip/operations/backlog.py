"""Works off the backlog where no keeper runs: releases routes of ended claims, and erases finished claims.

A record of an earlier call is never erased without a read, because a timed-out write may have landed since.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ..config.netconf import NetConf
from ..model.claim import LATE_SECONDS, Claim
from ..model.claim_state import ClaimedRoute, State
from ..model.errors import CniError, Ec2Error, TryAgain
from ..model.values import Attachment, RouteKey, RouteTable
from ..protocol.result import PrevResult
from .locate import read_vpc, site_of
from .release import attachment_lock, release
from .world import World


def process_backlog(
    world: World, deadline: float, besides: Attachment | None = None
) -> dict[Attachment, CniError]:
    """Release routes of ended claims, and erase claims that are finished.

    Returns the error of each claim that could not be released. Raises nothing for a single claim.
    """
    claims, problems = world.claims.all()
    for problem in problems:
        world.log(str(problem), "warning")
    left: dict[Attachment, CniError] = {}
    todo = [claim for claim in claims if claim.attachment != besides and not claim.settled]
    gone = [claim for claim in todo if claim.state is State.GONE and not claim.elected]
    strays, unseen = _find_strays(world, gone, deadline)
    for claim in todo:
        if world.clock() >= deadline:
            break
        try:
            if claim.state is not State.GONE or claim.attachment in strays:
                work_off_one(world, claim.attachment, deadline)
            elif claim.attachment not in unseen:
                forget_ended(world, claim)
        except CniError as e:
            world.log(f"{claim.attachment}: {e}", "warning")
            left[claim.attachment] = e
    return left


def may_land(world: World, claim: Claim) -> bool:
    """Whether a write of ``claim`` may still be applied by EC2."""
    return world.now() < claim.last_write_at + LATE_SECONDS


def forget_ended(world: World, claim: Claim) -> None:
    """Erase an ended claim, unless a write of it may still land. The caller has seen its routes gone.

    A claim that ``awaits_address`` stays, because its pod still runs and may put an address back.
    """
    if claim.state is not State.GONE or claim.awaits_address or (claim.routes and may_land(world, claim)):
        return
    with world.claims.lock(attachment_lock(claim.attachment), 0) as free:
        if free and world.claims.get(claim.attachment) == claim:
            world.claims.delete(claim.attachment)


def _find_strays(world: World, gone: list[Claim], deadline: float) -> tuple[set[Attachment], set[Attachment]]:
    """Read the routes of all ``gone`` claims together.

    Returns the claims whose routes exist all the same, and those whose routes could not be read.
    """
    strays: set[Attachment] = set()
    unseen: set[Attachment] = set()
    for region, account in sorted(
        {(claim.region, route.account) for claim in gone for route in claim.routes}
    ):
        here = [
            (claim, route)
            for claim in gone
            for route in claim.routes
            if (claim.region, route.account) == (region, account)
        ]
        try:
            if world.clock() >= deadline:
                raise TryAgain("no time is left to check released routes")
            ids = sorted({route.key.table for _, route in here})
            tables = world.vpc(region).route_tables({"route-table-id": ids}, account)
            strays |= set(_present(here, tables))
        except (TryAgain, Ec2Error) as e:
            world.log(f"cannot check released routes now: {e}", "warning")
            unseen |= {claim.attachment for claim, _ in here}
            continue
    return strays, unseen


def _present(
    places: Iterable[tuple[Claim, ClaimedRoute]], tables: Iterable[RouteTable]
) -> Iterator[Attachment]:
    """Yield the claims of which one of the routes leads to their ENI."""
    routes = {table.id: table.routes for table in tables}
    for claim, route in places:
        target = routes.get(route.key.table, {}).get(route.key.destination)
        if target and target.id == claim.eni:
            yield claim.attachment


def work_off_one(world: World, attachment: Attachment, deadline: float) -> None:
    """Release the ended routes of one attachment's claim, if there is one. Raises CniError."""
    with world.claims.lock(attachment_lock(attachment), 0) as free:
        now = world.claims.get(attachment)
        if not free or not isinstance(now, Claim):
            return  # its own call is at work
        if now.lost_record is not None:
            resolved = resolve_or_give_up(world, now, deadline)
            if resolved is None:
                return
            now = resolved
        release(world, world.vpc(now.region), now, deadline)


def resolve_or_give_up(world: World, claim: Claim, deadline: float) -> Claim | None:
    """Call ``resolve``; None when the claim is erased, because no write of it can land any more.

    The caller holds the attachment's lock. Raises CniError as ``resolve`` does.
    """
    if may_land(world, claim):
        return resolve(world, claim, deadline)
    sentence = f"{claim.attachment}: its record was lost and its routes cannot be found"
    world.log(sentence, "warning", event="given up", **claim.subject())
    world.claims.delete(claim.attachment)
    return None


def resolve(world: World, claim: Claim, deadline: float) -> Claim:
    """Find the routes of a claim whose record was lost, from the configuration of its DEL.

    Raises CniError when metadata or EC2 does not answer; the claim then stays as it is.
    """
    document = claim.lost_record.document if claim.lost_record else {}
    conf = NetConf.parse(document)
    prev = PrevResult.parse(document, claim.attachment.ifname)
    metadata = world.metadata(deadline)
    try:
        site = site_of(prev.mac(claim.attachment.ifname), metadata, conf)
    finally:
        metadata.close()
    view = read_vpc(world, world.vpc(site.node.region), conf, prev, site, deadline)
    grace = world.policy.release_grace_seconds
    result = replace(
        claim,
        eni=site.eni.id,
        region=site.node.region,
        vpc=site.eni.vpc,
        mac=site.eni.mac,
        lost_record=None,
        routes=tuple(
            ClaimedRoute.recover(
                RouteKey(table.id, want.destination),
                view.account,
                after=claim.last_write_at + grace if grace else 0.0,
            )
            for table in view.tables
            for want in view.wants
            if world.policy.allows_table(table)
            and world.policy.allows_destination(want.destination, claim.pod.namespace)
        ),
    )
    world.claims.put(result)
    return result
