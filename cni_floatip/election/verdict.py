"""Whether the node that holds a group is dead: its Lease, and its host as second witness."""

from __future__ import annotations

from dataclasses import dataclass

from .lease import NodeLease
from .timing import PAST, Instant


@dataclass(frozen=True, slots=True)
class ApiAnswers:
    """How the API answers this agent. ``since``: from then on it answered without a gap."""

    last: Instant = PAST
    since: Instant = PAST
    long_gap: bool = False
    failed_at: Instant = PAST


@dataclass(frozen=True, slots=True)
class FollowedNode:
    """What this agent knows of a node that holds a group which one of its members follows.

    ``lease`` None: there is none. ``changed_at``: when it was last seen to change, or first looked for.
    ``read_began``, ``read_at``: of the newest GET that was answered. ``answered_at``: the newest probe that
    the host answered; ``silent``: when each of the last probes began that it did not answer since.
    """

    node: str
    lease: NodeLease | None = None
    changed_at: Instant = PAST
    read_began: Instant = PAST
    read_at: Instant = PAST
    answered_at: Instant = PAST
    probed_at: Instant = PAST
    silent: tuple[Instant, ...] = ()
