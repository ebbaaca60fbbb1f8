"""Does what an election asks for: records a pod's role, writes its routes, and releases them for good.

The election decides which pod holds a group, when its routes are written, and how often; nothing here does.
Each write is sent before the moment until which the election's proof is good: 1.5 s after the start of a GET
of the group's Lease, or of our own swap, that shows the pod as holder. The election asks for that GET after
``await_turns`` has returned, because a turn may be waited for longer than a proof is good.

There is no read before a write: ReplaceRoute, and CreateRoute where there is no route. So a route that the
last look showed as not an ENI's is left alone (promise 3).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ..model.route_write import RouteWrite
from ..model.values import Attachment, RouteKey
from .world import Vpc, World


@dataclass(frozen=True, slots=True)
class Proven:
    """What an election has proven: the pod with the claims of ``attachments`` holds its group.

    No request for ``keys`` is sent after ``until`` (``World.clock``). ``withheld``: the tables that policy
    does not give, as the last look showed. ``vpc``: EC2 for this pod, which ranks with ADDs.
    """

    attachments: Collection[Attachment]
    keys: Collection[RouteKey]
    until: float
    vpc: Vpc
    withheld: Collection[str] = frozenset()


def record_role(world: World, attachments: Collection[Attachment], *, active: bool) -> bool:
    """Record that a pod's claims are active, or standby; false where the disk refuses.

    It is on disk before the first write, because the record says after a crash which routes may be ours.
    """
    raise NotImplementedError


def await_turns(world: World, vpc: Vpc, claims: Collection[Attachment], keys: Collection[RouteKey]) -> None:
    """Wait until EC2's request rate has room for the writes of ``keys``. Raises CniError, Ec2Error."""
    raise NotImplementedError


def write(world: World, proven: Proven) -> tuple[RouteWrite, ...]:
    """Make each route lead to its claim's ENI, in parallel; return the outcome of every key, in order.

    Raises nothing that EC2 or a pod can cause. When this returns, no request of it is under way.
    """
    raise NotImplementedError


def release_for_good(world: World, proven: Proven) -> bool:
    """Delete each route that a fresh read shows as ours; whether all are released now (rule 11).

    ``proven``: the pod has ended and is named as holder still, and nobody takes its group; or the new holder
    does not want ``keys``.
    """
    raise NotImplementedError
