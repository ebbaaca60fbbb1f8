"""What an earlier process left: whose claims are nobody's by now, and times that cannot be.

Times in records are the wall clock's, which somebody may set. While a process has the claims it does not look
at that clock again (``monotonic_wall_clock``), so its own times are sound. Those that it finds may be of a
clock that went ahead: what happened did so before now, and no grace is longer than a grace.
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
    """Return a clock that shows ``wall``'s time now and goes on with ``clock``, wherever ``wall`` is set."""
    ahead = wall() - clock()
    return lambda: ahead + clock()


def recover(world: World) -> int:
    """End what an earlier agent left that is nobody's any more; return how many claims that are.

    An ADD that was under way answered nobody, so its claim is released at once. A claim from before the last
    boot had a namespace that is gone; its pod may be about to appear elsewhere, so it has its grace. What
    cannot be written for a full disk is left to the next start: an agent that does not start ends nothing.
    """
    for problem in world.claims.all()[1]:
        world.log(str(problem), "warning")
    after = world.now() + world.policy.release_grace_seconds
    return _put_changed(world, lambda claim: end_by_restart(claim, world.boot(), after, world.now()))


def end_unanswered(world: World) -> int:
    """End what calls left that were killed while they had the directory; return how many claims that are.

    As ``recover``, but for claims from before the last boot: those have their DEL, and ``onDelete`` may
    let their routes stay.
    """
    return _put_changed(world, Claim.abandon)


def _put_changed(world: World, change: Callable[[Claim], Claim]) -> int:
    """Put what ``change`` makes of every claim, with times that can be; return how many it has changed."""
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
    """Return what a restart of the agent makes of ``claim``; one of another boot is released
    ``not_before``.
    """
    if claim.has_pod and claim.boot != boot:
        return claim.release(after, now)
    return claim.abandon()


def clamp_times(claim: Claim, now: float, grace: float) -> Claim:
    """Return ``claim`` with no time in it that lies further ahead than it can.

    ``not_before`` counts from the end of an ADD's last write, which may have been promised for a little later
    than the ADD ended: up to two graces are believed.
    """

    def of_route(route: ClaimedRoute) -> ClaimedRoute:
        after = route.not_before if route.not_before <= now + 2 * grace else now + grace
        return replace(route, held_since=min(route.held_since, now), not_before=after)

    return replace(
        claim,
        routes=tuple(map(of_route, claim.routes)),
        created_at=min(claim.created_at, now),
        last_write_at=min(claim.last_write_at, now),
        deleted_at=min(claim.deleted_at, math.nextafter(now, math.inf)),
    )
