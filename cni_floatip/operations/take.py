"""Does what an election asks for: records a pod's role, writes its routes, and releases them for good.

The election decides which pod holds a group, when its routes are written, and how often; nothing here does.
Each write is sent before the moment until which the election's proof is good: 1.5 s after the start of a GET
of the group's Lease, or of our own swap, that shows the pod as holder. The election has that GET sent after
``await_turns`` has returned, because a turn may be waited for longer than a proof is good.

There is no read before a write: ReplaceRoute, and CreateRoute where there is no route. So what the last look
showed as no ENI's is left alone, and what came between the two calls is read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from ..model.claim import Claim
from ..model.claim_state import ClaimedRoute, State
from ..model.errors import CniError, Ec2Error, Ec2Fault, IoFailure, RouteConflict, TryAgain, raise_any
from ..model.route_write import RouteWrite, WriteOutcome
from ..model.values import Attachment, RouteKey
from ..rules import destinations
from .release import attachment_lock, release_routes
from .world import Vpc, World
from .write_routes import FOR_THE_TABLE, place_lock, table_at

ENI = "eni-"
"""What the id of every network interface begins with (EC2 API reference, NetworkInterfaceId)."""
AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Routes:
    """Routes of one pod's elected claims. ``vpc``: EC2 for this pod, which ranks with ADDs.

    ``withheld``: the tables that policy does not give, as the last look showed (``ElectedLook``).
    """

    attachments: Collection[Attachment]
    keys: Collection[RouteKey]
    vpc: Vpc
    withheld: Collection[str] = frozenset()


def record_role(world: World, attachments: Collection[Attachment], *, active: bool) -> bool:
    """Record that a pod's claims are active, or standby; false where one is not so now.

    An active role is on disk before the first write, because after a crash the record says which routes may
    be ours.
    """
    now = world.now()

    def change(claim: Claim) -> Claim:
        if not active:
            return claim.depose()
        elected = claim.elect(now) if claim.elected else claim
        return claim if elected is claim else replace(elected, last_write_at=now)

    try:
        claims = [world.claims.update(attachment, change) for attachment in attachments]
    except IoFailure as e:
        world.log(str(e), "warning")
        return False
    return not active or all(claim is not None and claim.state is State.ACTIVE for claim in claims)


def await_turns(world: World, routes: Routes, deadline: float) -> None:
    """Wait until EC2's request rate has room for writes of ``routes``. Raises CniError, Ec2Error."""
    claimed = _active(world, routes)
    waits = [
        partial(routes.vpc.wait_turn, "ReplaceRoute", key, route.account, deadline)
        for key, (_, route) in claimed.items()
    ]
    raise_any(world.run_all(*waits))


def write(world: World, routes: Routes, until: float) -> tuple[RouteWrite, ...]:
    """Make each route lead to its claim's ENI, in parallel; return the outcome of every key, in order.

    No request is sent after ``until``, a time of ``World.clock``, and none is under way when this returns.
    Raises no error that EC2 or a pod can cause.
    """
    claimed = _active(world, routes)
    job = _Job(world, routes, until)

    def write_one(key: RouteKey) -> RouteWrite:
        if key not in claimed:
            return RouteWrite(key, WriteOutcome.NOT_SENT, f"{key}: no active claim has it")
        claim, route = claimed[key]
        return _refused_here(job, claim, route) or _write(job, claim, route)

    results = world.run_all(*(partial(write_one, key) for key in routes.keys), at_once=AT_ONCE)
    writes = tuple(result for result in results if isinstance(result, RouteWrite))
    _record_writes(world, claimed, writes)
    return writes


def release_for_good(world: World, routes: Routes, until: float) -> bool:
    """Delete each route that a fresh read shows as ours; whether nothing of ours is left then (rule 11).

    For a pod that has ended and is named as holder still, because nobody takes its group; and for what a pod
    had that the new holder does not have. A claim that is active keeps its routes. No request is sent after
    ``until``, a time of ``World.clock``.
    """
    done = True
    for attachment in routes.attachments:
        with world.claims.lock(attachment_lock(attachment), 0) as free:
            claim = world.claims.get(attachment)
            if not isinstance(claim, Claim):
                continue  # nothing is left of it
            todo = [route for route in claim.routes if route.key in routes.keys]
            if not free or any(route.state.wants_route for route in todo):
                done = False  # a call is at work, or the pod is elected
                continue
            try:
                release_routes(world, routes.vpc, claim, todo, until)
            except CniError as e:
                world.log(f"{attachment}: not released yet: {e}", "warning")
                done = False
    return done


def try_writes(world: World, routes: Routes) -> tuple[RouteWrite, ...]:
    """Ask EC2 whether it would let this node write ``routes``; return the outcome of every key, in order.

    Writes nothing, so a standby may do it: ``WRITTEN`` says that it would be allowed (rule 10), both where
    there is a route and where there is none, because a role may have one of the two rights alone. Raises no
    error that EC2 can cause.
    """
    claims = [world.claims.get(attachment) for attachment in routes.attachments]
    known = {r.key: (c, r) for c in claims if isinstance(c, Claim) for r in c.routes if r.state.live}

    def try_one(key: RouteKey) -> RouteWrite:
        if key not in known:
            return RouteWrite(key, WriteOutcome.NOT_SENT, f"{key}: no live claim has it")
        claim, route = known[key]
        if not _is_allowed(world, routes, claim, key):
            return _not_allowed(key)
        try:
            routes.vpc.try_replace(key, claim.eni, route.account)
            routes.vpc.try_create(key, claim.eni, route.account)
        except CniError as e:
            return RouteWrite(key, WriteOutcome.NOT_SENT, e.msg)
        except Ec2Error as e:
            return RouteWrite(key, WriteOutcome.of(e.fault), f"{key}: {e}")
        return RouteWrite(key, WriteOutcome.WRITTEN)

    return tuple(map(try_one, routes.keys))


@dataclass(frozen=True, slots=True)
class _Job:
    """One ``write``. ``refused``: why a table gets no further request: a quota or right concerns it whole."""

    world: World
    routes: Routes
    until: float
    refused: dict[str, RouteWrite] = field(default_factory=dict)

    def go_on(self, claim: Claim, key: RouteKey) -> None:
        """Raise TryAgain where no request may follow: right before it, the time last."""
        now = self.world.claims.get(claim.attachment)
        if not isinstance(now, Claim) or _route_of(now, key) is None:
            raise TryAgain(f"{key}: {claim.attachment} is not active any more")
        if self.world.clock() >= self.until:
            raise TryAgain(f"{key}: the proof that the pod is elected had become too old")


def _refused_here(job: _Job, claim: Claim, route: ClaimedRoute) -> RouteWrite | None:
    """Return the outcome of a write that this node does not even try."""
    key = route.key
    if known := job.refused.get(key.table):
        return replace(known, key=key)
    if not _is_allowed(job.world, job.routes, claim, key):
        return _not_allowed(key)
    if route.target and not route.target.startswith(ENI):
        return RouteWrite(key, WriteOutcome.NOT_ENI, f"{key}: a route to {route.target} is there")
    return None


def _is_allowed(world: World, routes: Routes, claim: Claim, key: RouteKey) -> bool:
    """Whether policy gives the destination to the claim's pod, and the table to this node."""
    allowed = world.policy.allows_destination(key.destination, claim.pod.namespace)
    return allowed and key.table not in routes.withheld


def _not_allowed(key: RouteKey) -> RouteWrite:
    return RouteWrite(key, WriteOutcome.POLICY, f"{key}: the node configuration does not allow it")


def _write(job: _Job, claim: Claim, route: ClaimedRoute) -> RouteWrite:
    world, key = job.world, route.key
    try:
        with world.claims.lock(place_lock(key), max(0.0, job.until - world.clock())) as free:
            if not free:
                raise TryAgain(f"{key}: another call on this node is writing it")
            _point(job, claim, route)
    except RouteConflict as e:
        result = RouteWrite(key, WriteOutcome.NOT_ENI, e.msg)
    except CniError as e:
        result = RouteWrite(key, WriteOutcome.NOT_SENT, e.msg)
    except Ec2Error as e:
        result = RouteWrite(key, WriteOutcome.of(e.fault), f"{key}: {e}")
        if e.fault in FOR_THE_TABLE:
            job.refused.setdefault(key.table, result)
    else:
        sentence = f"{claim.attachment}: {key} leads to {claim.eni}: its pod is elected"
        world.log(sentence, event="taken", target=claim.eni, **claim.subject(key))
        return RouteWrite(key, WriteOutcome.WRITTEN)
    world.log(f"{claim.attachment}: elected, but its route is not written: {result.why}", "warning")
    return result


def _point(job: _Job, claim: Claim, route: ClaimedRoute) -> None:
    """Point one route at the claim's ENI. Raises Ec2Error or RouteConflict; TryAgain where it is not sent."""
    vpc, key, account = job.routes.vpc, route.key, route.account
    job.go_on(claim, key)
    try:
        return vpc.replace(key, claim.eni, account)
    except Ec2Error as e:
        if e.fault is not Ec2Fault.NO_ROUTE:
            raise
    job.go_on(claim, key)
    try:
        return vpc.create(key, claim.eni, account)
    except Ec2Error as exists:
        if exists.fault is not Ec2Fault.ROUTE_EXISTS:
            raise
        target = table_at(vpc, key, account).routes.get(key.destination)
        if target is None:  # a read that is older than that route: the next look shows whose it is
            raise
        if not destinations.replaceable(target):
            _record_target(job.world, claim.attachment, key, str(target))
            raise RouteConflict(destinations.conflict(key, target)) from exists
    job.go_on(claim, key)
    return vpc.replace(key, claim.eni, account)


def _active(world: World, routes: Routes) -> Mapping[RouteKey, tuple[Claim, ClaimedRoute]]:
    """Return the active routes among ``routes``, each with its claim."""
    claims = [world.claims.get(attachment) for attachment in routes.attachments]
    return {
        key: (claim, route)
        for claim in claims
        if isinstance(claim, Claim)
        for key in routes.keys
        if (route := _route_of(claim, key))
    }


def _route_of(claim: Claim, key: RouteKey) -> ClaimedRoute | None:
    """Return the active route of ``claim`` at ``key``."""
    return next((r for r in claim.routes if r.key == key and r.state is State.ACTIVE), None)


def _record_target(world: World, attachment: Attachment, key: RouteKey, target: str) -> None:
    """Record where a route leads, so that the next write knows."""

    def see(route: ClaimedRoute) -> ClaimedRoute:
        return route.see(target, route.outage) if route.key == key else route

    world.claims.update(attachment, lambda now: now.see(see))


def _record_writes(
    world: World, claimed: Mapping[RouteKey, tuple[Claim, ClaimedRoute]], writes: Collection[RouteWrite]
) -> None:
    """Record what was written, and when: a grace counts from the last write."""
    written = {write.key for write in writes if write.outcome is WriteOutcome.WRITTEN}
    sent = {write.key for write in writes if write.outcome is not WriteOutcome.NOT_SENT}

    def see(claim: Claim) -> Claim:
        def lead_here(route: ClaimedRoute) -> ClaimedRoute:
            here = route.key in written and route.state is State.ACTIVE
            return route.see(claim.eni, "") if here else route

        return replace(claim.see(lead_here), last_write_at=world.now())

    for attachment in {claim.attachment for key, (claim, _) in claimed.items() if key in sent}:
        world.claims.update(attachment, see)
