"""Has the routes of this node's active pods written, released and recorded, as members want.

``operations.take`` does it; here is what joins its calls: the turns that one call waited for are spent by the
next, so both are of one caller of EC2.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from ...election.events import (
    AwaitTurn,
    RecordRole,
    ReleaseRoutes,
    RoleRecorded,
    RoutesReleased,
    RoutesWritten,
    TryWrites,
    TurnCame,
    WriteRoutes,
    WritesTried,
)
from ...model.errors import CniError, Ec2Error
from ...model.route_write import RouteWrite, WriteOutcome
from ...model.values import Attachment, RouteKey
from ...operations import take
from ...operations.world import Vpc, World
from .driver import CallAnswer

TURN_SECONDS = 10.0
"""How long the request rate is awaited; then the write is tried, and says so itself."""


class ElectedVpc(Vpc, Protocol):
    """EC2 for one caller, which gives back the turns that it did not use."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ElectedPod:
    """A pod of a group on this node, as far as calls to EC2 need it."""

    uid: str
    namespace: str
    region: str
    attachments: tuple[Attachment, ...]


@dataclass(frozen=True, slots=True)
class Ec2Calls:
    """Calls for members. For many threads. ``caller`` returns EC2 for a pod, which ranks with ADDs.

    ``withheld`` returns the tables that policy does not give, as the last look showed.
    """

    world: World
    caller: Callable[[ElectedPod], ElectedVpc]
    withheld: Callable[[], Collection[str]]
    _turns: dict[str, ElectedVpc] = field(default_factory=dict)

    def await_turn(self, wish: AwaitTurn, pod: ElectedPod) -> CallAnswer:
        """Wait for the request rate. Whatever hinders that hinders the write too, which has an outcome."""
        vpc = self._turns.setdefault(pod.uid, self.caller(pod))
        clock = self.world.clock
        try:
            take.await_turns(self.world, self._routes(pod, wish.keys, vpc), clock() + TURN_SECONDS)
        except (CniError, Ec2Error) as e:
            self.world.log(f"the turn of a write for pod {pod.uid} did not come: {e}", "warning")
        return CallAnswer(TurnCame(clock()))

    def write(self, wish: WriteRoutes, pod: ElectedPod) -> CallAnswer:
        """Make routes lead here. No request is sent after ``until``, and none is under way afterwards."""
        began = self.world.clock()
        vpc = self._turns.pop(pod.uid, None) or self.caller(pod)
        try:
            writes = take.write(self.world, self._routes(pod, wish.keys, vpc), wish.until)
        finally:
            vpc.close()
        return CallAnswer(RoutesWritten(self.world.clock(), began, _outcomes(writes)))

    def release(self, wish: ReleaseRoutes, pod: ElectedPod) -> CallAnswer:
        """Delete routes that a fresh read shows as ours."""
        began = self.world.clock()
        vpc = self._turns.pop(pod.uid, None) or self.caller(pod)
        try:
            done = take.release_for_good(self.world, self._routes(pod, wish.keys, vpc), wish.until)
        finally:
            vpc.close()
        return CallAnswer(RoutesReleased(self.world.clock(), began, done))

    def record(self, wish: RecordRole, pod: ElectedPod) -> CallAnswer:
        """Record a role on disk."""
        done = take.record_role(self.world, pod.attachments, active=wish.active)
        return CallAnswer(RoleRecorded(self.world.clock(), wish.uid, wish.active, done))

    def try_writes(self, wish: TryWrites, pod: ElectedPod) -> CallAnswer:
        """Ask EC2 whether writes would be permitted; nothing is written."""
        began = self.world.clock()
        vpc = self.caller(pod)
        try:
            writes = take.try_writes(self.world, self._routes(pod, wish.keys, vpc))
        finally:
            vpc.close()
        return CallAnswer(WritesTried(self.world.clock(), began, _outcomes(writes)))

    def _routes(self, pod: ElectedPod, keys: Collection[RouteKey], vpc: Vpc) -> take.Routes:
        return take.Routes(pod.attachments, keys, vpc, self.withheld())


def _outcomes(writes: Iterable[RouteWrite]) -> tuple[tuple[RouteKey, WriteOutcome], ...]:
    return tuple((write.key, write.outcome) for write in writes)
