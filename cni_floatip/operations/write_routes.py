"""Reading and writing VPC routes until it is done, refused, or too late. No I/O of its own.

Every attempt decides anew: the SDK repeats nothing, and what a write rests on was read at most five seconds
before it (DESIGN 6). EC2 API guide, "Request throttling" and "Eventual consistency".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ..model.errors import Ec2Error, Ec2Fault, RouteConflict
from ..model.values import Place, RouteTable, Target
from ..rules import destinations
from .world import Vpc

T = TypeVar("T")

FRESH_SECONDS = 5.0
"""How long a decision is good for."""
NEW_ENI_SECONDS = 10.0
"""How long a network interface that EC2 does not know may merely be new (eventual consistency)."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


class Waits(Protocol):
    """What a loop needs of the world."""

    @property
    def clock(self) -> Callable[[], float]: ...
    @property
    def sleep(self) -> Callable[[float], object]: ...
    @property
    def jitter(self) -> Callable[[], float]: ...


@dataclass(slots=True)
class Patience:
    """Pauses between attempts: full jitter, doubling, ended by ``deadline`` (a time of ``world.clock``)."""

    world: Waits
    deadline: float
    pause: float = _FIRST_PAUSE

    def again(self) -> bool:
        """Pause, and say whether there is time for another attempt."""
        length = self.pause * self.world.jitter()
        self.pause = min(self.pause * 2, _LONGEST_PAUSE)
        if self.world.clock() + length >= self.deadline:
            return False
        self.world.sleep(length)
        return True


def repeated(world: Waits, deadline: float, call: Callable[[], T]) -> T:
    """Return what ``call`` (a read, or idempotent) returns; what may pass is repeated until ``deadline``.

    Raises Ec2Error.
    """
    patience = Patience(world, deadline)
    while True:
        try:
            return call()
        except Ec2Error as e:
            if not e.fault.passes or not patience.again():
                raise


def table_at(vpc: Vpc, place: Place, account: str) -> RouteTable:
    """Read the table of ``place``. Raises Ec2Error, NO_TABLE when there is none."""
    table = table_now(vpc, place.table, account)
    if table is None:
        raise Ec2Error(Ec2Fault.NO_TABLE, "DescribeRouteTables", "", f"{place.table} does not exist")
    return table


def table_now(vpc: Vpc, table: str, account: str) -> RouteTable | None:
    """Read one table by filter: asking by id would fail for all when one is gone."""
    found = vpc.route_tables({"route-table-id": [table]}, account)
    return found[0] if found else None


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read of a place, and when (``world.clock``)."""

    target: Target | None
    at: float


def take(
    world: Waits,
    vpc: Vpc,
    place: Place,
    account: str,
    eni: str,
    seen: Seen,
    deadline: float,
    go_on: Callable[[], None],
) -> None:
    """Make ``place`` lead to ``eni``: ADD's write, the only one that replaces a working route.

    Always writes, also where the read said ours: it may be stale, and only a write that succeeded is proof.
    An answer that never came may have been applied, so the write is repeated. ``go_on`` raises when the ADD
    is to stop. Raises Ec2Error, or RouteConflict for a route that is not ours to replace.
    """
    patience = Patience(world, deadline)
    began = world.clock()
    exists = seen.target is not None
    switches = 0
    while True:
        try:
            vpc.turn("ReplaceRoute" if exists else "CreateRoute", place, account, deadline)
        except Ec2Error as e:  # no turn until the deadline, or no credentials now
            if not e.fault.passes or not patience.again():
                raise
            go_on()
            continue
        if world.clock() - seen.at > FRESH_SECONDS:
            seen = _look(world, vpc, place, account, deadline)
            if exists != (seen.target is not None):
                exists = not exists
                continue
        if seen.target is not None and not destinations.replaceable(seen.target):
            raise RouteConflict(destinations.conflict(place, seen.target))
        go_on()
        try:
            (vpc.replace if exists else vpc.create)(place, eni, account)
            return
        except Ec2Error as e:
            if e.fault is Ec2Fault.ROUTE_EXISTS:
                # Whose is it? A read that still shows none is stale: look until it shows the route.
                while (seen := _look(world, vpc, place, account, deadline)).target is None:
                    if not patience.again():
                        raise
                    go_on()
            elif e.fault is Ec2Fault.NO_ROUTE and exists:
                seen = Seen(None, world.clock())
            else:
                new = e.fault is Ec2Fault.NO_ENI and world.clock() - began < NEW_ENI_SECONDS
                if not (e.fault.passes or new) or not patience.again():
                    raise
                continue
            exists = seen.target is not None
            switches += 1
            if switches > 2 and not patience.again():  # somebody else creates and deletes it all the time
                raise


def _look(world: Waits, vpc: Vpc, place: Place, account: str, deadline: float) -> Seen:
    at = world.clock()
    table = repeated(world, deadline, lambda: table_at(vpc, place, account))
    return Seen(table.routes.get(place.destination), at)
