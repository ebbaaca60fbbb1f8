"""The keeper's loop: decides when to look at the VPC, does the agent's chores, and survives failed looks.

The rules are in ``rules.reconcile``; ``look`` applies them, ``repair`` writes. A look is one
DescribeRouteTables per account and VPC, whatever the number of claims; at most one a second, and none while
there are no claims. When AWS does not answer, looks become rarer, and nothing is forgotten, because all
unfinished work is on disk.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from ...model.claim import Claim
from ...model.claim_state import ClaimedRoute, State
from ...model.errors import CniError, Ec2Error, IoFailure
from ...model.values import Attachment, RouteKey
from ...operations.backlog import forget_ended, may_land, resolve_or_give_up
from ...operations.delete import end_claim
from ...operations.evidence import evidence_among, none_visible
from ...operations.release import attachment_lock, forget_taken
from ...operations.world import Vpc, World
from ...rules.reconcile import LONGEST_GAP, LOOKS_AFTER_ADD, Outage
from ..observe.recorder import Recorder
from .interface_check import InterfaceCheck
from .look import Look, Reconciler, groups_of
from .repair import RouteRepairer

SPACING_SECONDS = 1.0
"""No two looks are closer than this."""
SLEEP_SECONDS = 1.0
"""The longest sleep between two rounds: so soon a stop is noticed."""
FAILED_SECONDS = 2.0
"""When to look again after a failed look; then after half the time that looks have failed for, up to
the ordinary gap: a node that holds a route must not be blind for long (``rules.reconcile``)."""
ELECTED_SECONDS, ELECTED_FAILED_SECONDS = 60.0, 5.0
"""The longest gaps between the looks of a node with elected claims, and after a failed look: its pods are fit
only while EC2 answers, and take their routes without a read."""
LONGEST_STRETCH = 8.0
"""How much rarer looks become while EC2 throttles them, on a node that holds no route."""
EVIDENCE_SECONDS = 60.0
"""Without a DEL at most one claim is released in this time."""
END_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class RouteReport:
    """Where a route leads, for people: ``target`` "" means nowhere. Times are seconds since the epoch."""

    target: str
    at: float
    since: float
    error: str = ""


class Keeper:
    """Reconciles the claims of this node. ``tick`` is one round, ``run`` a thread's body.

    ``chores`` are done after every ordinary look; their exceptions are logged. ``failed`` gets every
    unexpected error.
    """

    def __init__(
        self,
        world: World,
        recorder: Recorder,
        *,
        present: Callable[[], Collection[str]],
        urgent: Callable[[str], Vpc] | None = None,
        chores: Sequence[Callable[[], None]] = (),
        failed: Callable[[str, Exception], object] | None = None,
    ) -> None:
        self._world = world
        self._chores = tuple(chores)
        self._failed = failed or (lambda sentence, e: world.log(f"{sentence}: {e!r}", "error"))
        self._repairer = RouteRepairer(world, recorder, urgent, self._failed)
        self._reconciler = Reconciler(world, self._repairer, present, self._failed, self._see)
        self._interfaces = InterfaceCheck(world, recorder)
        self._last = Look()
        self._reconcile = world.policy.reconcile_seconds
        self._stretch = 1.0
        self._failing = math.inf
        self._seen_all = 0.0
        self._in_vain = 0
        self._again = math.inf
        self._due: set[float] = set()
        self._known: dict[Attachment, float] = {}
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._wakes_at = math.inf
        self._next = world.clock()
        self._last_look = -SPACING_SECONDS
        self._last_evidence = -EVIDENCE_SECONDS
        self._blind: str | None = None
        self._broken: dict[Callable[[], None], str] = {}

    # -- for the rest of the agent --------------------------------------------------------------------

    def wake(self) -> None:
        """Start the next round at once, because a call has changed something."""
        self._woken.set()

    def look_soon(self) -> None:
        """Look at all routes as soon as the spacing of looks allows: an election asks for it."""
        with self._lock:
            self._due.add(self._world.clock())
        self._woken.set()

    def on_claim_change(self, attachment: Attachment, claim: Claim | None) -> None:
        """Learn of a claim (``ClaimCache.listen``): look soon after an ADD, release soon after a grace."""
        if claim is None:
            self._known.pop(attachment, None)
            return
        now, clock = self._world.now(), self._world.clock()
        since = max((route.held_since for route in claim.routes if route.state is State.HELD), default=0.0)
        due: set[float] = set()
        if since > self._known.get(attachment, 0.0):
            self._known[attachment] = since
            due |= {clock + max(0.0, since + after - now) for after in LOOKS_AFTER_ADD}
        new = claim.state is State.STANDBY and attachment not in self._known
        if new:
            self._known[attachment] = 0.0
        if new or claim.lost_record is not None:
            due.add(clock)
        for route in claim.routes:
            if route.state is State.RELEASING:
                due.add(clock + max(0.0, route.not_before - now))
        with self._lock:
            self._due |= {_step(at) for at in due if at <= clock + 2 * self._reconcile}
            sooner = min(due, default=math.inf) < self._wakes_at
        if sooner:  # else a round for nothing would delay the call that changes the claim
            self._woken.set()

    def route_reports(self) -> Mapping[RouteKey, RouteReport]:
        """Return where each route of this node's claims was last seen to lead."""
        to_epoch = self._world.now() - self._world.clock()
        errors = dict(self._repairer.errors)
        reports = {
            key: RouteReport(
                str(observation.target or ""),
                observation.at + to_epoch,
                observation.since + to_epoch,
                errors.get(key, ""),
            )
            for key, observation in dict(self._repairer.observations).items()
        }
        unseen = errors.keys() - reports.keys()
        return reports | {key: RouteReport("", 0.0, 0.0, errors[key]) for key in unseen}

    def outage(self, claim: Claim, route: ClaimedRoute) -> Outage | None:
        """Return why ``route`` does not serve its claim, as looks have shown; None: no look shows one."""
        return self._repairer.outages.of_route(
            claim, route, self._reconciler.cut_off, self._interfaces.checked
        )

    def is_cut_off(self, attachment: Attachment) -> bool:
        """Return whether this node lacked the ENI of a claim at the last look."""
        return attachment in self._reconciler.cut_off

    def last_look(self) -> float:
        """Return when a look last was complete, in seconds since the epoch; 0: never yet."""
        return self._seen_all

    def ready_problem(self) -> str | None:
        """Return why this node should get no more pods, None for nothing."""
        return self._blind or next(iter(tuple(self._broken.values())), None) or self._last.broken

    def drain(self, deadline: float) -> None:
        """Release every ended claim, even within its grace, because the node may be gone seconds from now."""
        self._reconciler.release_all(deadline)

    # -- rounds ---------------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Do rounds until told to stop."""
        while not stop.is_set():
            self._wakes_at = math.inf  # this round may not have learned of what changes now
            pause = min(self.tick(), SLEEP_SECONDS)
            self._wakes_at = self._world.clock() + pause
            self._woken.wait(pause)
            self._woken.clear()

    def tick(self) -> float:
        """Do what is due; return the seconds until the next round."""
        clock = self._world.clock()
        ordinary = clock >= self._next
        with self._lock:
            early = self._again <= clock or any(at <= clock for at in self._due)
        if not ordinary and not early:
            return self._pause(clock)
        if clock - self._last_look < SPACING_SECONDS:
            return SPACING_SECONDS - (clock - self._last_look)
        with self._lock:
            self._due = {at for at in self._due if at > clock}
        self._again = math.inf
        self._last_look = clock
        if not self._try(self._look, "a look"):
            self._failing = min(self._failing, clock)
        if ordinary:
            self._do_chores()
        again = self._world.clock() + self._gap()
        if ordinary:
            self._next = again
        elif self._failing < math.inf:  # sooner, never later: the chores of an ordinary look must run
            self._next = min(self._next, again)
        return self._pause(self._world.clock())

    def _pause(self, clock: float) -> float:
        with self._lock:
            first = min(self._due, default=self._next)
        return max(0.05, min(first, self._next, self._again) - clock)

    def _gap(self) -> float:
        """The seconds to the next ordinary look: +-10 %, longer under throttling, shorter after a failure."""
        stretch = 1.0 if self._holds() else self._stretch
        gap = self._reconcile * stretch * (2 - LONGEST_GAP + 2 * (LONGEST_GAP - 1) * self._world.jitter())
        if self._failing < math.inf:
            gap = min(gap, max(FAILED_SECONDS, (self._world.clock() - self._failing) / 2))
        if any(claim.elected and claim.live for claim in self._world.claims.all()[0]):
            return min(gap, ELECTED_SECONDS if self._failing == math.inf else ELECTED_FAILED_SECONDS)
        return gap

    def _holds(self) -> bool:
        """Whether a pod here holds a route: if our looks were rarer, an older owner would repair first."""
        claims = self._world.claims.all()[0]
        return any(route.state is State.HELD for claim in claims for route in claim.routes)

    def _look(self) -> None:
        if unwritten := self._world.claims.flush():
            self._world.log(unwritten, "warning")
        self._resolve_lost_records()
        self._forget_what_others_took()
        look = self._last = self._reconciler.check_routes(self._reconcile * self._stretch)
        if look.whole:
            self._seen_all = self._world.now()
        self._failing = math.inf if look.whole else min(self._failing, self._world.clock())
        longer = min(self._stretch * 2, LONGEST_STRETCH)
        self._stretch = longer if look.throttled else max(1.0, self._stretch / 2)
        with self._lock:
            self._due |= {_step(at) for at in look.due}
        self._record_sightings()
        self._erase_what_cannot_matter()
        if look.progress or not look.pending:
            self._in_vain = 0
        else:
            self._in_vain += 1
        if look.progress or look.pending:  # more to do, or a repair to verify
            pause = min(SPACING_SECONDS * 2 ** min(self._in_vain, 16), self._reconcile)
            self._again = self._world.clock() + pause

    def _do_chores(self) -> None:
        self._try(self._look_for_pods_that_are_gone, "the search for pods that are gone")
        self._try(self._interfaces.look, "the check of network interfaces")
        for chore in self._chores:
            self._try(chore, "a chore")

    def _try(self, work: Callable[[], None], what: str) -> bool:
        """Do one part of a round; a part that fails does not keep the others from being done.

        An unexpected error makes the node not ready until the same part succeeds. The agent does not exit for
        it, because the cause may be on disk, where the next agent would meet it too.
        """
        well = False
        try:
            work()
            well = True
        except (CniError, Ec2Error) as e:
            self._world.log(str(e), "warning")
        except Exception as e:  # noqa: BLE001 (any error)
            self._broken[work] = f"{what} of the keeper failed: {e!r}"
            self._failed(f"{what} of the keeper failed unexpectedly", e)
            return False
        self._broken.pop(work, None)
        return well

    # -- records --------------------------------------------------------------------------------------

    def _resolve_lost_records(self) -> None:
        """Find the routes of claims whose record was unreadable when DEL came."""
        world = self._world
        for claim in world.claims.all()[0]:
            if claim.lost_record is None:
                continue
            with world.claims.lock(attachment_lock(claim.attachment), 0) as free:
                now = world.claims.get(claim.attachment)
                if not free or not isinstance(now, Claim) or now.lost_record is None:
                    continue
                try:
                    resolve_or_give_up(world, now, world.clock() + END_SECONDS)
                except CniError as e:
                    world.log(f"{claim.attachment}: {e}", "warning")

    def _forget_what_others_took(self) -> None:
        """Release ended elected claims without a write, once another pod has their routes."""
        for claim in self._world.claims.all()[0]:
            if claim.elected and not claim.live and claim.state is State.RELEASING:
                with self._world.claims.lock(attachment_lock(claim.attachment), 0) as free:
                    if free:
                        forget_taken(self._world, claim)

    def _record_sightings(self) -> None:
        """Record what looks have shown of each route, so that ``status`` tells since when across restarts."""
        for claim in self._world.claims.all()[0]:
            self._repairer.change(claim.attachment, self._see)

    def _see(self, claim: Claim) -> Claim:
        """Return the claim with where looks have shown its routes to lead, and why they do not serve it."""
        observations = self._repairer.observations

        def see(route: ClaimedRoute) -> ClaimedRoute:
            observation = observations.get(route.key)
            if observation is None:
                return route
            return route.see(str(observation.target or ""), str(self.outage(claim, route) or ""))

        return claim.see(see)

    def _erase_what_cannot_matter(self) -> None:
        """Erase claims that want nothing, once no request of ours can land any more."""
        known = self._reconciler.knows_interfaces  # else a route to an ENI of a claim may be this node's
        for claim in self._world.claims.all()[0]:
            if not known and not (claim.elected and not claim.routes):
                continue
            if claim.attachment in self._last.pending or not groups_of(claim) <= self._last.groups:
                continue  # its routes still exist, or could not be read
            if claim.live and not may_land(self._world, claim):
                self._forget_what_it_left(claim)
            forget_ended(self._world, claim)

    def _forget_what_it_left(self, claim: Claim) -> None:
        """Drop the ``gone`` routes of a live claim: those of tables that it has left for good."""
        routes = tuple(route for route in claim.routes if route.state is not State.GONE)
        if routes == claim.routes:
            return
        with self._world.claims.lock(attachment_lock(claim.attachment), 0) as free:
            if free and self._world.claims.get(claim.attachment) == claim:
                with contextlib.suppress(IoFailure):  # a full disk: later
                    self._world.claims.put(replace(claim, routes=routes))

    # -- pods -----------------------------------------------------------------------------------------

    def _look_for_pods_that_are_gone(self) -> None:
        world = self._world
        live = [claim for claim in world.claims.all()[0] if claim.has_pod]
        if none_visible(live, world):
            remedy = (
                "does the agent run with hostPID, which such paths need?"
                if live[0].netns.startswith("/proc/")
                else "is their directory mounted into the agent?"
            )
            blind = (
                f"the agent sees none of the namespaces of {len(live)} claims (the first: {live[0].netns}),"
                f" so it releases nothing without a DEL; {remedy}"
            )
            if blind != self._blind:
                world.log(blind, "warning", event="blind")
            self._blind = blind
            return
        self._blind = None
        if world.clock() - self._last_evidence < EVIDENCE_SECONDS:
            return
        evidence = evidence_among(live, world)
        for claim, why in [(claim, why) for claim in live if (why := evidence(claim))][:1]:
            self._last_evidence = world.clock()
            with world.claims.lock(attachment_lock(claim.attachment), 0) as free:
                if free and world.claims.get(claim.attachment) == claim:
                    sentence = f"{claim.attachment}: {why} and no DEL came: ended"
                    world.log(sentence, event="ended", **claim.subject())
                    try:
                        end_claim(world, claim, claim.netns)
                    except CniError as e:
                        world.log(f"{claim.attachment}: {e}", "warning")


def _step(at: float) -> float:
    """Round up to half a second, so that any number of claims makes few looks."""
    return math.ceil(at * 2) / 2
