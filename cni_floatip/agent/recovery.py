"""Recovery at start: ends claims that no call owns any more, and corrects timestamps in the future.

Records hold wall clock times, and an operator may set that clock. A process that owns the claims does not
read it again (``monotonic_wall_clock``), so its own times are sound. Times that it finds may come from a
clock that was ahead. So an event in the future is moved to now, and no grace is longer than its limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from ..model.claim import Claim
from ..model.claim_state import ClaimedRoute
from ..model.errors import IoFailure
from ..operations.world import World


def monotonic_wall_clock(wall: Callable[[], float], clock: Callable[[], float]) -> Callable[[], float]:
    """Return a clock that starts at ``wall``'s time and runs with ``clock``, even if ``wall`` is set."""
    ahead = wall() - clock()
    return lambda: ahead + clock()


def recover(world: World) -> int:
    """End claims of an earlier agent that no call owns any more; return how many it has ended.

    A running ADD of that agent was never answered, so its claim is released at once. A claim from before the
    last boot had a namespace that is gone; its pod may soon appear on another node, so the claim has its
    grace. A claim that a full disk keeps from being written is left to the next start, because only an agent
    that starts can end claims.
    """
    for problem in world.claims.all()[1]:
        world.log(str(problem), "warning")
    after = world.now() + world.policy.release_grace_seconds
    return _put_changed(world, lambda claim: end_by_restart(claim, world.boot(), after, world.now()))


def end_unanswered(world: World) -> int:
    """End claims of calls that were killed while they owned the directory; return how many it has ended.

    As ``recover``, but without claims from before the last boot: those have their DEL, and ``onDelete`` may
    keep their routes.
    """
    return _put_changed(world, Claim.abandon)


def _put_changed(world: World, change: Callable[[Claim], Claim]) -> int:
    """Apply ``change`` to every claim, and correct impossible times; return how many ``change`` changed."""
    ended = 0
    world.claims.remove_partial_files()
    for claim in world.claims.all()[0]:
        result = clamp_times(claim, world.now(), world.policy.release_grace_seconds)
        now = change(result)
        if now == claim:
            continue
        ended += now != result
        try:
            world.claims.put(now)
        except IoFailure as e:
            world.log(str(e), "warning")
    return ended


def end_by_restart(claim: Claim, boot: str, after: float, now: float = 0.0) -> Claim:
    """Return ``claim`` after a restart of the agent; one of another boot is released from ``after`` on."""
    if claim.has_pod and claim.boot != boot:
        return claim.release(after, now)
    return claim.abandon()


def clamp_times(claim: Claim, now: float, grace: float) -> Claim:
    """Return ``claim`` with every impossible time in the future corrected.

    ``not_before`` counts from the end of an ADD's last write, which may have been promised for a little later
    than the ADD ended. So up to two graces are believed.
    """

    def of_route(route: ClaimedRoute) -> ClaimedRoute:
        after = route.not_before if route.not_before <= now + 2 * grace else now + grace
        return replace(
            route,
            held_since=min(route.held_since, now),
            not_before=after,
            changed_at=min(route.changed_at, now),
        )

    return replace(
        claim,
        routes=tuple(map(of_route, claim.routes)),
        created_at=min(claim.created_at, now),
        last_write_at=min(claim.last_write_at, now),
        deleted_at=min(claim.deleted_at, math.nextafter(now, math.inf)),
        pod_lost_since=min(claim.pod_lost_since, now),
    )
