"""Turns what a member wants into a call for another thread, and a call that broke into an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from ...election.events import (
    AwaitTurn,
    DeleteGroup,
    GroupSwapped,
    Happening,
    LookAtRoutes,
    ProbeHost,
    Publish,
    Published,
    ReadGroup,
    ReadNodeLease,
    ReadPod,
    RecordRole,
    ReleaseRoutes,
    RoleRecorded,
    RoutesReleased,
    RoutesWritten,
    Swap,
    SwapGroup,
    TryWrites,
    TurnCame,
    Wish,
    WriteRoutes,
    WritesTried,
)
from ...model.route_write import WriteOutcome
from ...model.values import RouteKey
from .api_calls import ApiCalls
from .driver import CallAnswer
from .ec2_calls import Ec2Calls, ElectedPod
from .hosts import Hosts
from .notices import Notices
from .pods import PodBook


@dataclass(frozen=True, slots=True)
class WishCalls:
    """What makes the calls. ``call`` is for the driver's thread, what it returns for another.

    ``rest``: for how many seconds a call that broke is not made again.
    """

    api: ApiCalls
    ec2: Ec2Calls
    hosts: Hosts
    notices: Notices
    book: PodBook
    clock: Callable[[], float]
    rest: float

    def call(self, group: str, wish: Wish) -> Callable[[], CallAnswer]:
        """Return the call that a wish asks for."""
        namespace = group.partition("/")[0]
        match wish:
            case ReadGroup():
                return partial(self.api.read_group, wish)
            case ReadNodeLease():
                return partial(self.api.read_node_lease, wish)
            case ReadPod():
                return partial(self.api.read_pod, wish, namespace)
            case SwapGroup():
                return partial(self.api.swap, wish)
            case DeleteGroup():
                return partial(self.api.delete, wish)
            case ProbeHost():
                return partial(self.hosts.probe, wish)
            case Publish():
                _, pod = self.book.name_of(wish.notice.uid) or (namespace, "")
                return partial(self.notices.publish, wish.notice, namespace, pod)
            case AwaitTurn():
                return partial(self.ec2.await_turn, wish, self._pod(group, wish.keys))
            case WriteRoutes():
                return partial(self.ec2.write, wish, self._pod_of(group, wish.uid))
            case ReleaseRoutes():
                return partial(self.ec2.release, wish, self._pod_of(group, wish.uid))
            case RecordRole():
                return partial(self.ec2.record, wish, self._pod_of(group, wish.uid))
            case TryWrites():
                return partial(self.ec2.try_writes, wish, self._pod_of(group, wish.uid))
            case LookAtRoutes():
                raise TypeError("the keeper looks")

    def failed_call(self, _: str, wish: Wish) -> CallAnswer:
        """Return what a member learns of a call that broke: the worst that can have come of it."""
        return CallAnswer(self._worst(wish), rest=self.rest)

    def _worst(self, wish: Wish) -> Happening | None:
        now = self.clock()
        match wish:
            case SwapGroup() | DeleteGroup():
                return GroupSwapped(now, now, Swap.UNKNOWN)
            case WriteRoutes():
                return RoutesWritten(now, now, _unanswered(wish.keys))
            case TryWrites():
                return WritesTried(now, now, _unanswered(wish.keys))
            case ReleaseRoutes():
                return RoutesReleased(now, now, done=False)
            case RecordRole():
                return RoleRecorded(now, wish.uid, wish.active, done=False)
            case AwaitTurn():
                return TurnCame(now)
            case Publish():
                return Published(now, wish.notice)
            case _:
                return None

    def _pod(self, group: str, keys: Iterable[RouteKey]) -> ElectedPod:
        """Return the pod of a group that claims the first of ``keys``: those of one turn are one pod's."""
        first = next(iter(keys), None)
        uids = [pod.uid for pod in self.book.pods_of(group) if first in pod.keys]
        return self._pod_of(group, uids[-1] if uids else "")

    def _pod_of(self, group: str, uid: str) -> ElectedPod:
        claims = self.book.claims_of(group, uid)
        region = claims[-1].region if claims else ""
        return ElectedPod(uid, group.partition("/")[0], region, tuple(claim.attachment for claim in claims))


def _unanswered(keys: Iterable[RouteKey]) -> tuple[tuple[RouteKey, WriteOutcome], ...]:
    return tuple((key, WriteOutcome.UNANSWERED) for key in keys)
