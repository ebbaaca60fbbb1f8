"""Releases the routes of an ended claim: reads each, deletes it if it is ours and unwanted, records the rest.

DEL, GC and a failed ADD use this, and so does the next call on the node for the backlog.
A claim whose routes are all gone stays on disk as ``gone`` until no request of ours can land any more: a
write that timed out may be applied minutes later, and its owner must be on record.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial

from ..config.nodeconf import NodeConf
from ..model.claim import Claim
from ..model.claim_state import ClaimedRoute, State
from ..model.errors import Ec2Error, Ec2Fault, TryAgain, raise_any
from ..model.values import Attachment, RouteKey, RouteTable
from ..model.waiting import always, unless
from ..rules import destinations
from .world import Vpc, World
from .write_routes import FRESH_SECONDS, Backoff, place_lock, table_at

AT_ONCE = 8
"""How many routes are read and deleted in parallel."""


def attachment_lock(attachment: Attachment) -> str:
    """Return the name of the lock that a call on ``attachment`` holds; if free, no such call is alive."""
    return f"attachment {attachment}"


def live_claims(
    world: World, besides: Attachment | None = None, *, key: RouteKey | None = None
) -> list[Claim]:
    """Return this node's claims that want their routes (or ``key``), except the claim of ``besides``.

    A ``claiming`` claim counts only while its ADD lives, because a dead ADD never answered. A claim from
    before a reboot does not count.
    """
    claims = world.claims.for_route(key) if key else world.claims.all()[0]
    return [
        claim
        for claim in claims
        if claim.live and claim.attachment != besides and not abandoned(world, claim)
    ]


def abandoned(world: World, claim: Claim) -> bool:
    """Whether a live claim has no owner: its ADD died, or its namespace went with a reboot."""
    if claim.boot != world.boot():
        return True  # its namespace went with the reboot
    return claim.state is State.CLAIMING and not world.claims.is_locked(attachment_lock(claim.attachment))


def release(
    world: World, vpc: Vpc, claim: Claim, deadline: float, present: Collection[str] | None = None
) -> Claim:
    """Release every ``releasing`` or ``gone`` route of ``claim`` that is due; record the progress.

    The caller holds the attachment's lock, so a ``claiming`` route is of a dead ADD and is released too.
    ``present`` are the ENIs of this node, where the caller knows them; else metadata is read. The election
    has the routes of an ended elected claim released (``take.release_for_good``). Raises CniError when some
    routes could not be read or deleted; they stay ``releasing`` on disk.
    """
    if claim.state is State.CLAIMING:
        claim = claim.abandon()
        world.claims.put(claim)
    if claim.elected and not (claim.live and world.election.holds(claim)):
        return forget_taken(world, claim)
    now = world.now()
    todo = [route for route in claim.routes if not route.state.live and route.not_before <= now]
    return release_routes(world, vpc, claim, todo, deadline, present)


def release_routes(
    world: World,
    vpc: Vpc,
    claim: Claim,
    todo: Sequence[ClaimedRoute],
    deadline: float,
    present: Collection[str] | None = None,
) -> Claim:
    """Release the routes ``todo`` of ``claim``, as ``release`` does; no delete is sent after ``deadline``.

    The route of a live claim is deleted if it is ours, and stays on record.
    """
    record = _Record(world, claim)
    here = _EniPresence(world, present, deadline)
    ends = (partial(_release_route, world, vpc, record, route, deadline, here) for route in todo)
    results = world.run_all(*ends, at_once=AT_ONCE)
    done = [route for route, result in zip(todo, results, strict=True) if result is None]
    record.finish([route.key for route in done if not route.state.live])
    raise_any(results)
    return record.claim


def forget_taken(world: World, claim: Claim) -> Claim:
    """Return an elected claim as the record is then: what its pod had counts as released, if others have it.

    Writes nothing to EC2, because the node of the next elected pod writes the routes.
    """
    if not claim.live and world.election.keeps(claim):
        return claim
    ended = [route.key for route in claim.routes if route.state is State.RELEASING]
    return world.claims.update(claim.attachment, lambda now: now.finish(ended)) or claim


class _Record:
    """The claim that is being released: parallel threads change its routes one by one.

    A DEL may mark the record meanwhile. So each write takes the record as it is then, and changes only the
    routes that were released.
    """

    def __init__(self, world: World, claim: Claim) -> None:
        self.claim = claim
        self._world = world
        self._lock = threading.Lock()

    def finish(self, keys: Collection[RouteKey]) -> None:
        """Record that ``keys`` are released."""

        def finished(claim: Claim) -> Claim:
            finished = claim.finish(keys)
            return claim if finished == claim else replace(finished, last_write_at=self._world.now())

        self._change(finished)

    def hand_over(self, key: RouteKey, successor: str) -> None:
        """Record which ENI gets the route at ``key`` next."""
        self._change(lambda claim: claim.hand_over(key, successor))

    def _change(self, change: Callable[[Claim], Claim]) -> None:
        def done(now: Claim) -> Claim:
            return change(now) if now.created_at == self.claim.created_at else now

        with self._lock:
            now = self._world.claims.update(self.claim.attachment, done)
            self.claim = now or done(self.claim)


def _release_route(
    world: World, vpc: Vpc, record: _Record, route: ClaimedRoute, deadline: float, here: _EniPresence
) -> None:
    """Read one route and delete it if it is ours and no claim wants it; each attempt decides anew."""
    claim, key, patience = record.claim, route.key, Backoff(world, deadline)

    def in_time() -> None:
        if world.clock() >= deadline:
            raise TryAgain(f"{key}: no time is left to release it")

    queued = False
    while True:
        in_time()
        # A call that is over takes what is free, and waits for nothing: the keeper does the rest.
        seconds, go_on = (
            (0.0, always) if world.cancelled() else (deadline - world.clock(), unless(world.cancelled))
        )
        with world.claims.lock(place_lock(key), max(0.0, seconds), go_on) as free:
            if not free:
                raise TryAgain(f"{key}: another call on this node is writing it")
            others = live_claims(world, besides=claim.attachment, key=key)
            try:
                read_at = world.clock()
                table = table_at(vpc, key, route.account)
                target = table.routes.get(key.destination)
                able = partial(_is_able, world.policy, table, key, here)
                if target is None and route.successor:
                    heir = destinations.heir(claim, key, others, able)
                    _hand_over(world, vpc, key, route.account, heir)
                    return
                what = destinations.decide_release(target, claim, key, others, here, able)
                if what is destinations.Release.LEAVE or _is_kept(world, claim, key):
                    return
                heir = destinations.heir(claim, key, others, able)
                in_time()
                _is_fresh(world, key, read_at)
                if not queued:  # never waited for with the place locked: an ADD may want it
                    vpc.wait_turn("DeleteRoute", key, route.account, world.clock())
                    _is_fresh(world, key, read_at)
                    in_time()
                if what is destinations.Release.HAND_OVER:
                    route = route.hand_over(heir.eni if heir else "")
                    # Before the delete: a crash must not leave the heir without.
                    record.hand_over(key, route.successor)
                vpc.delete(key, route.account)
                sentence = f"{claim.attachment}: {key} led to {target}: released"
                world.log(sentence, event="released", target=str(target), **claim.subject(key))
                if route.successor:
                    in_time()  # else the next call creates it: the successor is recorded
                    _hand_over(world, vpc, key, route.account, heir)
                return
            except Ec2Error as e:
                if e.fault in (Ec2Fault.NO_TABLE, Ec2Fault.NO_ROUTE):
                    return
                error = e
        if not error.fault.is_transient or not patience.wait():
            raise error.to_cni_error(f"cannot release {key}")
        queued = error.fault is Ec2Fault.THROTTLED
        if queued:
            _stand_in_line(vpc, route, deadline)


def _is_fresh(world: World, key: RouteKey, read_at: float) -> None:
    if world.clock() - read_at > FRESH_SECONDS:
        raise TryAgain(f"{key}: the last read is too old to act on")


def _stand_in_line(vpc: Vpc, route: ClaimedRoute, deadline: float) -> None:
    try:
        vpc.wait_turn("DeleteRoute", route.key, route.account, deadline)
    except Ec2Error as e:
        raise e.to_cni_error(f"cannot release {route.key}") from e


def _hand_over(world: World, vpc: Vpc, key: RouteKey, account: str, heir: Claim | None) -> None:
    """Create the route, now absent, for the other claim of this node that wants it through another ENI."""
    if heir is None:
        return
    try:
        vpc.create(key, heir.eni, account)
    except Ec2Error as e:
        if e.fault is not Ec2Fault.ROUTE_EXISTS:  # somebody was quicker: theirs
            raise
    else:
        sentence = f"{heir.attachment}: {key} was left to it: created, leads to {heir.eni}"
        world.log(sentence, event="created", target=heir.eni, **heir.subject(key))


class _EniPresence:
    """Which claims' ENIs are on this node: from the caller, else from metadata, read once for each ENI."""

    def __init__(self, world: World, present: Collection[str] | None, deadline: float) -> None:
        self._world, self._present, self._deadline = world, present, deadline
        self._known: dict[str, bool] = {}
        self._asking = threading.Lock()

    def __call__(self, claim: Claim) -> bool:
        """Return whether the claim's ENI is here. Raises CniError when metadata does not say."""
        if self._present is not None:
            return claim.eni in self._present
        if not claim.mac:
            return True  # a record of a release that did not say
        with self._asking:
            if claim.mac not in self._known:
                metadata = self._world.metadata(self._deadline)
                try:
                    self._known[claim.mac] = metadata.knows(claim.mac)
                finally:
                    metadata.close()
            return self._known[claim.mac]


def _is_able(
    policy: NodeConf, table: RouteTable, key: RouteKey, here: Callable[[Claim], bool], claim: Claim
) -> bool:
    """Whether ``claim`` may get the route at ``key``: policy allows it, and the claim's ENI is here."""
    given = policy.allows_table(table) and policy.allows_destination(key.destination, claim.pod.namespace)
    return given and here(claim)


def _is_kept(world: World, claim: Claim, key: RouteKey) -> bool:
    """Whether the grace of another ended claim keeps the route of ``claim``."""
    now = world.now()
    return any(
        route.key == key and not route.state.live and route.not_before > now
        for other in world.claims.for_route(key)
        if other.eni == claim.eni and other.attachment != claim.attachment
        for route in other.routes
    )
