"""Retries reads and writes of VPC routes until they succeed, are refused, or time is up. No I/O of its own.

Every attempt decides anew: the SDK retries nothing, and a write relies on a read that is at most five seconds
old (docs/protocol.md, "The keeper's table"). EC2 API guide, "Request throttling" and "Eventual consistency".
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from ..config.netconf import NetConf
from ..model.claim import Claim
from ..model.claim_state import ClaimedRoute
from ..model.errors import CniError, Ec2Error, Ec2Fault, PodNetworkFailure, RouteConflict, TryAgain
from ..model.values import RouteKey, RouteTable, RouteTarget
from ..rules import destinations
from .world import Vpc, World

T = TypeVar("T")

FRESH_SECONDS = 5.0
"""How long a decision is good for."""
NEW_ENI_SECONDS = 10.0
"""How long an interface that EC2 does not know may simply be new (eventual consistency)."""
FOR_THE_TABLE = (Ec2Fault.QUOTA, Ec2Fault.DENIED)
"""Faults that concern every route of a table."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


def place_lock(key: RouteKey) -> str:
    """Return the name of the lock that is held while a route is read, decided on and written."""
    return f"place {key}"


class Waits(Protocol):
    """What a retry loop needs of the world."""

    @property
    def clock(self) -> Callable[[], float]: ...
    @property
    def sleep(self) -> Callable[[float], object]: ...
    @property
    def jitter(self) -> Callable[[], float]: ...


@dataclass(slots=True)
class Backoff:
    """Pauses between attempts: full jitter, doubling, ended by ``deadline`` (a time of ``world.clock``)."""

    world: Waits
    deadline: float
    pause: float = _FIRST_PAUSE

    def wait(self) -> bool:
        """Pause, and say whether there is time for another attempt."""
        length = self.pause * self.world.jitter()
        self.pause = min(self.pause * 2, _LONGEST_PAUSE)
        if self.world.clock() + length >= self.deadline:
            return False
        self.world.sleep(length)
        return self.world.clock() < self.deadline  # on a busy node a pause lasts longer than it was asked to


def retry(world: Waits, deadline: float, call: Callable[[], T]) -> T:
    """Return the result of ``call`` (a read, or idempotent); transient errors are retried until ``deadline``.

    Raises Ec2Error.
    """
    patience = Backoff(world, deadline)
    while True:
        try:
            return call()
        except Ec2Error as e:
            if not e.fault.is_transient or not patience.wait():
                raise


def table_at(vpc: Vpc, key: RouteKey, account: str) -> RouteTable:
    """Read the table of ``key``. Raises Ec2Error, NO_TABLE when there is none."""
    table = table_now(vpc, key.table, account)
    if table is None:
        raise Ec2Error(Ec2Fault.NO_TABLE, "DescribeRouteTables", "", f"{key.table} does not exist")
    return table


def table_now(vpc: Vpc, table: str, account: str) -> RouteTable | None:
    """Read one table by filter, because a request by ids fails for all when one is gone."""
    tables = vpc.route_tables({"route-table-id": [table]}, account)
    return tables[0] if tables else None


@dataclass(frozen=True, slots=True)
class RouteRead:
    """The target that was read at a route key, and when (``world.clock``)."""

    target: RouteTarget | None
    at: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at pointing the VPC at the ENI of ``claim``; no write begins after ``deadline``.

    ``cancelled`` says why a route is no longer wanted, None while it is.
    """

    world: World
    vpc: Vpc
    conf: NetConf
    claim: Claim
    deadline: float
    cancelled: Callable[[RouteKey], str | None] = lambda _: None

    def go_on(self, key: RouteKey | None = None) -> None:
        """Raise CniError once no write may follow: too late, the pod is gone, or a DEL has come."""
        world, claim = self.world, self.claim
        if world.clock() >= self.deadline:
            raise TryAgain(f"stopped: no time is left to claim what {claim.attachment} asks for")
        if world.inode(claim.netns) != claim.netns_inode:
            raise PodNetworkFailure(f"stopped: the pod's namespace {claim.netns} is gone")
        if why := world.cancelled():
            raise TryAgain(f"stopped: {why}")
        now = world.claims.get(claim.attachment)
        if not isinstance(now, Claim) or not now.live or now.deleted_at > now.created_at:
            raise TryAgain(f"stopped: {claim.attachment} was deleted meanwhile")
        if key and (reason := self.cancelled(key)):
            raise TryAgain(f"stopped: {reason}")


@dataclass(frozen=True, slots=True)
class Written:
    """The outcome of writes. ``vanished``: the table, not configured by id, is gone since it was selected."""

    written: Collection[RouteKey] = ()
    vanished: Collection[RouteKey] = ()
    failed: Mapping[RouteKey, CniError] = field(default_factory=dict)


def disable_source_check(attempt: Attempt) -> None:
    """Turn the source/destination check of the claim's ENI off. Raises CniError."""
    eni = attempt.claim.eni
    try:
        attempt.go_on()
        retry(attempt.world, attempt.deadline, partial(attempt.vpc.disable_source_dest_check, eni))
    except Ec2Error as e:
        raise e.to_cni_error(f"cannot turn the source/dest check of {eni} off") from e


def write_routes(attempt: Attempt, *parts: Mapping[RouteKey, RouteRead]) -> Written:
    """Write the claim's routes at the keys of ``parts``, which were read before: creates, then replaces.

    Creates go first because they can fail for a quota. After a failed write a part gets no further one. The
    first create of each table goes alone, because a quota or a missing right concerns the whole table; after
    such a refusal that table gets no further request.
    """
    reads = {key: sight for part in parts for key, sight in part.items()}
    routes = [route for route in attempt.claim.routes if route.key in reads]
    refused: dict[str, CniError] = {}

    def write(route: ClaimedRoute) -> bool:
        def go_on() -> None:
            attempt.go_on(route.key)
            if error := refused.get(route.key.table):
                raise type(error)(f"{route.key.table}: stopped, because EC2 refuses routes there")

        try:
            go_on()
            return _write_route(attempt, route, reads[route.key], go_on)
        except CniError as e:
            if isinstance(e.__cause__, Ec2Error) and e.__cause__.fault in FOR_THE_TABLE:
                refused.setdefault(route.key.table, e)
            raise

    new = [route for route in routes if reads[route.key].target is None]
    there = [route for route in routes if reads[route.key].target is not None]
    first = {route.key.table: route for route in reversed(new)}
    others = [route for route in new if route is not first[route.key.table]]
    results: dict[RouteKey, bool | CniError] = {}
    for wave in (first.values(), others, there):
        failed = {key for key, result in results.items() if isinstance(result, CniError)}
        whole = [part for part in parts if failed.isdisjoint(part)]
        todo = [route for route in wave if any(route.key in part for part in whole)]
        done = attempt.world.run_all(*(partial(write, route) for route in todo))
        results |= {route.key: result for route, result in zip(todo, done, strict=True)}
    return Written(
        written={key for key, result in results.items() if result is True},
        vanished={key for key, result in results.items() if result is False},
        failed={key: result for key, result in results.items() if isinstance(result, CniError)},
    )


def _write_route(attempt: Attempt, route: ClaimedRoute, read: RouteRead, go_on: Callable[[], None]) -> bool:
    """Point one route at the claim's ENI; false: its table, not configured by id, has vanished."""
    world, key = attempt.world, route.key
    with world.claims.lock(place_lock(key), attempt.deadline - world.clock(), go_on) as free:
        if not free:
            raise TryAgain(f"{key}: another call on this node is writing it")
        try:
            write_until_done(attempt, route, read, go_on)
        except Ec2Error as e:
            if e.fault is Ec2Fault.NO_TABLE and not attempt.conf.route_tables.ids:
                world.log(f"{key.table} is gone since it was selected: left out", "warning")
                return False
            raise e.to_cni_error(f"{key} -> {attempt.claim.eni}") from e
    return True


def write_until_done(
    attempt: Attempt, route: ClaimedRoute, read: RouteRead, go_on: Callable[[], None]
) -> None:
    """Point the route at the claim's ENI: ADD's write, the only one that replaces a working route.

    Writes even if the read said ours, because the read may be stale and only a successful write is proof.
    Repeats a write without an answer, because EC2 may or may not have applied it. ``go_on`` raises when the
    ADD is to stop. Raises Ec2Error, or RouteConflict for a route that is not ours to replace.
    """
    world, vpc, deadline, eni = attempt.world, attempt.vpc, attempt.deadline, attempt.claim.eni
    key, account = route.key, route.account
    patience = Backoff(world, deadline)
    began = world.clock()
    exists = read.target is not None
    switches = 0
    while True:
        try:
            vpc.wait_turn("ReplaceRoute" if exists else "CreateRoute", key, account, deadline)
        except Ec2Error as e:  # no turn until the deadline, or no credentials now
            if not e.fault.is_transient or not patience.wait():
                raise
            go_on()
            continue
        if world.clock() - read.at > FRESH_SECONDS:
            read = _read_route(attempt, route)
            if exists != (read.target is not None):
                exists = not exists
                continue
        if read.target is not None and not destinations.replaceable(read.target):
            raise RouteConflict(destinations.conflict(key, read.target))
        go_on()
        try:
            (vpc.replace if exists else vpc.create)(key, eni, account)
            return
        except Ec2Error as e:
            if e.fault is Ec2Fault.ROUTE_EXISTS:
                # Whose is it? A read that still shows none is stale: look until it shows the route.
                while (read := _read_route(attempt, route)).target is None:
                    if not patience.wait():
                        raise
                    go_on()
            elif e.fault is Ec2Fault.NO_ROUTE and exists:
                read = RouteRead(None, world.clock())
            else:
                new = e.fault is Ec2Fault.NO_ENI and world.clock() - began < NEW_ENI_SECONDS
                if not (e.fault.is_transient or new) or not patience.wait():
                    raise
                continue
            exists = read.target is not None
            switches += 1
            if switches > 2 and not patience.wait():  # somebody else creates and deletes it all the time
                raise


def _read_route(attempt: Attempt, route: ClaimedRoute) -> RouteRead:
    at = attempt.world.clock()
    key = route.key

    def target() -> RouteTarget | None:
        return table_at(attempt.vpc, key, route.account).routes.get(key.destination)

    return RouteRead(retry(attempt.world, attempt.deadline, target), at)
