"""How a claim ends: look, and delete what is still ours and wanted by nobody; record what is left to do.

Used by DEL, by GC, by an ADD that failed, and by the next call on the node for what earlier ones left.
A claim whose routes are all gone stays on disk as ``gone`` until no request of ours can land any more: a
write that timed out may be applied minutes later, and somebody must know whose it was.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace

from .. import decide
from ..claims import LATE_SECONDS, Claim, ClaimedRoute, State
from ..ec2writes import FRESH_SECONDS, Patience, route_at
from ..errors import CniError, Ec2Error, Ec2Fault, TryAgain, raise_any
from ..model import Attachment, Place
from ..world import Vpc, World, together

AT_ONCE = 8
"""How many routes are looked at and deleted side by side."""


def attachment_lock(attachment: Attachment) -> str:
    """Return what a call locks that works on ``attachment``: free means that no such call is alive."""
    return f"attachment {attachment}"


def place_lock(place: Place) -> str:
    """Return what is locked while a route is looked at, decided on and written."""
    return f"place {place}"


def live_claims(world: World, besides: Attachment | None = None) -> list[Claim]:
    """Return the claims of this node that want their routes, without that of ``besides``.

    A ``claiming`` one counts only while its ADD lives: else nobody was told that it succeeded.
    """
    claims, problems = world.claims.all()
    for problem in problems:
        world.log(str(problem))
    return [
        claim
        for claim in claims
        if claim.live and claim.attachment != besides and not _abandoned(world, claim)
    ]


def _abandoned(world: World, claim: Claim) -> bool:
    return claim.state is State.CLAIMING and not world.claims.is_locked(attachment_lock(claim.attachment))


def release(world: World, vpc: Vpc, claim: Claim, deadline: float) -> Claim:
    """Take back every ``releasing`` or ``gone`` route of ``claim`` and record how far that came.

    Raises CniError when some could not be looked at or deleted; they stay ``releasing`` on disk.
    """
    todo = [route for route in claim.routes if not route.state.live]
    errors: list[CniError] = []
    record = _Record(world, claim)
    for start in range(0, len(todo), AT_ONCE):
        batch = todo[start : start + AT_ONCE]
        results: list[ClaimedRoute] = []
        errors += together(*(_bind(world, vpc, record, route, deadline, results) for route in batch))
        record.put(results, written=True)
    raise_any(errors)
    return record.claim


class _Record:
    """The claim that is being released: its routes change one by one, in threads side by side."""

    def __init__(self, world: World, claim: Claim) -> None:
        self.claim = claim
        self._world = world
        self._lock = threading.Lock()

    def put(self, changed: Iterable[ClaimedRoute], *, written: bool = False) -> None:
        """Put ``changed`` in the place of the claim's own routes, on disk too."""
        by_place = {route.place: route for route in changed}
        with self._lock:
            routes = tuple(by_place.get(route.place, route) for route in self.claim.routes)
            if routes == self.claim.routes:
                return
            at = self._world.now() if written else self.claim.written
            self.claim = replace(self.claim, routes=routes, written=at)
            self._world.claims.put(self.claim)


def _bind(
    world: World,
    vpc: Vpc,
    record: _Record,
    route: ClaimedRoute,
    deadline: float,
    results: list[ClaimedRoute],
) -> Callable[[], None]:
    return lambda: results.append(_release_route(world, vpc, record, route, deadline))


def _release_route(
    world: World, vpc: Vpc, record: _Record, route: ClaimedRoute, deadline: float
) -> ClaimedRoute:
    """Look at one route and delete it if it is ours and nobody's; each attempt decides anew."""
    claim, place, patience = record.claim, route.place, Patience(world, deadline)
    gone = replace(route, state=State.GONE, successor="")
    while True:
        with world.claims.lock(place_lock(place), max(0.0, deadline - world.clock())) as free:
            if not free:
                raise TryAgain(f"{place}: another call on this node is writing it")
            others = live_claims(world, besides=claim.attachment)
            try:
                read_at = world.clock()
                target = route_at(vpc, place, route.account)
                if world.clock() - read_at > FRESH_SECONDS:
                    raise TryAgain(f"{place}: what was read is too old to act on")
                if target is None and route.successor:
                    return _hand_over(vpc, claim, route, others)
                what = decide.release(target, claim, place, others)
                if what is decide.Release.LEAVE:
                    return gone
                if what is decide.Release.HAND_OVER:
                    heir = decide.heir(claim, place, others)
                    route = replace(route, successor=heir.eni if heir else "")
                    record.put([route])  # before the delete: a crash must not leave the heir without
                vpc.delete(place, route.account)
                return _hand_over(vpc, claim, route, others) if route.successor else gone
            except Ec2Error as e:
                if e.fault in (Ec2Fault.NO_TABLE, Ec2Fault.NO_ROUTE):
                    return gone
                error = e
        if not error.fault.passes or not patience.again():
            raise error.answer(f"cannot release {place}")


def _hand_over(vpc: Vpc, claim: Claim, route: ClaimedRoute, others: list[Claim]) -> ClaimedRoute:
    """Create the route, now absent, for the other claim of this node that wants it through another ENI."""
    heir = decide.heir(claim, route.place, others)
    if heir:
        try:
            vpc.create(route.place, heir.eni, route.account)
        except Ec2Error as e:
            if e.fault is not Ec2Fault.ROUTE_EXISTS:  # somebody was quicker: theirs
                raise
    return replace(route, state=State.GONE, successor="")


def work_off(world: World, deadline: float, besides: Attachment | None = None) -> list[str]:
    """Do what earlier calls on this node could not: release, and forget what can no longer matter.

    Returns what is still left undone, one sentence each. Never raises for a single claim.
    """
    claims, problems = world.claims.all()
    left = [str(problem) for problem in problems]
    todo = [claim for claim in claims if claim.attachment != besides and not claim.settled]
    over = [claim for claim in todo if claim.state is State.GONE and not _may_matter(world, claim)]
    try:
        for claim in over:
            world.claims.erase(claim.attachment)
        todo = _without_quiet(world, [claim for claim in todo if claim not in over])
        for claim in todo:
            if world.clock() < deadline:
                left += _work_off(world, claim, deadline)
    except CniError as e:
        left.append(str(e))
    for sentence in left:
        world.log(sentence)
    return left


def _may_matter(world: World, claim: Claim) -> bool:
    """Whether a write of ``claim`` may still be applied."""
    return world.now() < claim.written + LATE_SECONDS


def _without_quiet(world: World, todo: list[Claim]) -> list[Claim]:
    """Leave out the ``gone`` claims whose routes are not there, by one look at all of them together."""
    gone = [claim for claim in todo if claim.state is State.GONE]
    strays: set[Attachment] = set()
    for region, account in {(claim.region, route.account) for claim in gone for route in claim.routes}:
        ids = {r.place.table for c in gone if c.region == region for r in c.routes if r.account == account}
        try:
            tables = world.vpc(region).route_tables({"route-table-id": sorted(ids)}, account)
        except Ec2Error as e:
            world.log(f"cannot look at released routes now: {e}")
            continue
        present = {
            (table.id, destination, target.id)
            for table in tables
            for destination, target in table.routes.items()
        }
        strays |= {
            claim.attachment
            for claim in gone
            for route in claim.routes
            if (route.place.table, route.place.destination, claim.eni) in present
        }
    return [claim for claim in todo if claim.state is not State.GONE or claim.attachment in strays]


def _work_off(world: World, claim: Claim, deadline: float) -> list[str]:
    try:
        with world.claims.lock(attachment_lock(claim.attachment), 0) as free:
            now = world.claims.get(claim.attachment)
            if not free or not isinstance(now, Claim):
                return []  # its own call is at work
            if now.unresolved is not None:
                now = resolve(world, now, deadline)
            if now.state is State.CLAIMING:  # its ADD died and answered nobody
                now = now.with_state(State.RELEASING)
                world.claims.put(now)
            release(world, world.vpc(now.region), now, deadline)
    except CniError as e:
        return [f"{claim.attachment}: {e}"]
    return []


def resolve(world: World, claim: Claim, deadline: float) -> Claim:
    """Find the routes of a claim whose record was lost, from the configuration of its DEL.

    Raises CniError when metadata or EC2 cannot be asked; the claim then stays as it is.
    """
    from ..netconf import NetConf
    from ..result import PrevResult
    from .site import look, site_of

    conf = NetConf.parse(claim.unresolved or {})
    prev = PrevResult.parse(claim.unresolved or {}, claim.attachment.ifname)
    metadata = world.metadata(deadline)
    try:
        site = site_of(prev.mac(claim.attachment.ifname), metadata)
    finally:
        metadata.close()
    view = look(world, world.vpc(site.node.region), conf, prev, site, deadline)
    found = replace(
        claim,
        eni=site.eni.id,
        region=site.node.region,
        unresolved=None,
        routes=tuple(
            ClaimedRoute(Place(table.id, want.destination), State.RELEASING, view.account)
            for table in view.tables
            for want in view.wants
            if world.policy.allows_table(table)
            and world.policy.allows_destination(want.destination, claim.pod.namespace)
        ),
    )
    world.claims.put(found)
    return found
