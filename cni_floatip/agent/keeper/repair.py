"""Repairs and releases routes, one at a time, and remembers what was seen of them.

``rules.reconcile`` decides, on behalf of ``look`` and again here: no write rests on a look alone. Before each
write the same decision is made with the route key locked, the claims as they are, and the table read anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...model.claim import Claim
from ...model.claim_state import Event
from ...model.errors import CniError, Ec2Error, Ec2Fault
from ...model.values import Attachment, RouteKey, RouteTable, RouteTarget
from ...operations.release import abandoned, attachment_lock, release
from ...operations.world import Vpc, World
from ...operations.write_routes import FRESH_SECONDS, place_lock, table_at
from ...rules.reconcile import FRESH_SECONDS as NEW_SECONDS
from ...rules.reconcile import Action, Claimant, Decision, Observation, claimants_by_route, decide
from ..observe.outages import Outages
from ..observe.recorder import Recorder


@dataclass(frozen=True, slots=True)
class Done:
    """The result of one repair. ``released``: the claim that has no route left to release.

    ``broken``: the unexpected error.
    """

    progress: int = 0
    throttled: bool = False
    released: Attachment | None = None
    broken: str | None = None


class RouteRepairer:
    """Repairs routes and knows their state. For several threads, one at a time for each route key.

    ``urgent`` returns EC2 in a region for reads that must not wait (None: as for others). ``failed`` gets
    every unexpected error. Others may read ``observations`` and ``errors``. ``look`` sets ``enis``, the ENIs
    that this node has now, and ``gap``, how many seconds may lie between two looks for an observation to
    count as unbroken.
    """

    def __init__(
        self,
        world: World,
        recorder: Recorder,
        urgent: Callable[[str], Vpc] | None,
        failed: Callable[[str, Exception], object],
    ) -> None:
        self.observations: dict[RouteKey, Observation] = {}
        self.errors: dict[RouteKey, str] = {}
        self.outages = Outages(world, recorder)
        self.enis: frozenset[str] = frozenset()
        self.gap = 0.0
        self._world = world
        self._counts = recorder
        self._urgent = urgent or world.vpc
        self._failed = failed

    # -- what is known --------------------------------------------------------------------------------

    def claimants(self, claims: Iterable[Claim]) -> dict[RouteKey, list[Claimant]]:
        """Return the claimants of each route of ``claims``. An ADD that nobody runs counts as ended."""
        ended = (claim.abandon() if abandoned(self._world, claim) else claim for claim in claims)
        return claimants_by_route(ended)

    def observe(self, key: RouteKey, target: RouteTarget | None, at: float) -> Observation:
        """Return what is known of the route at ``key`` after a read ``at`` that time showed ``target``."""
        self.errors.pop(key, None)
        observation = Observation.next(self.observations.get(key), target, at, self.gap)
        self.observations[key] = observation
        return observation

    def decide(
        self,
        claimants: Sequence[Claimant],
        observation: Observation,
        key: RouteKey,
        table: RouteTable | None,
        reconcile: float,
    ) -> Decision:
        """Return what to do about the route at ``key``. ``table``: as read with it; None: it is gone.

        ``reconcile`` is the gap between two ordinary looks, in seconds.
        """
        policy = self._world.policy

        def given(claim: Claim) -> bool:
            allowed = policy.allows_destination(key.destination, claim.pod.namespace)
            return allowed and table is not None and policy.allows_table(table)

        return decide(claimants, observation, self.enis, self._world.now(), reconcile, given)

    def change(self, attachment: Attachment, change: Callable[[Claim], Claim]) -> bool:
        """Record a change; false when the claim's own call is at work, or the disk refuses."""
        claims = self._world.claims
        now = claims.get(attachment)
        if not isinstance(now, Claim):
            return False
        if _same(change(now), now):
            return True
        with claims.lock(attachment_lock(attachment), 0) as free:
            now = claims.get(attachment)
            if not free or not isinstance(now, Claim):
                return False
            changed = change(now)
            try:
                if not _same(changed, now):
                    claims.put(changed)
            except CniError as e:
                self._world.log(str(e), "warning")
                return False
        return True

    def forget(self, claims: Sequence[Claim]) -> None:
        """Forget the routes of all other claims."""
        keys = {route.key for claim in claims for route in claim.routes}
        for known in (self.observations, self.errors):
            for key in known.keys() - keys:
                del known[key]
        self.outages.forget(claims)

    # -- what is done ---------------------------------------------------------------------------------

    def attempt(self, act: Callable[[], Done], keys: Sequence[RouteKey]) -> Done:
        """Do one repair or release of the routes at ``keys``."""
        try:
            return act()
        except Exception as e:  # noqa: BLE001 (what the look showed of the other routes must not be lost)
            self._failed("a repair failed unexpectedly", e)
            self.errors |= dict.fromkeys(keys, repr(e))
            return Done(broken=f"cannot maintain {keys[0]}: {e!r}")

    def repair(
        self, region: str, key: RouteKey, account: str, step: Action, reconcile: float, deadline: float
    ) -> Done:
        """Do ``step`` if it is still right, with the route key locked, and claims and table read anew."""
        world = self._world
        action = "CreateRoute" if step is Action.CREATE else "DeleteRoute"
        try:
            ec2 = self._ec2(region)
            ec2.wait_turn(action, key, account, deadline)
            with world.claims.lock(place_lock(key), 0) as free:
                if not free:
                    return Done()  # a call on this node is writing it
                at = world.clock()
                table = table_at(ec2, key, account)
                observation = self.observe(key, table.routes.get(key.destination), at)
                claimants = self.claimants(world.claims.for_route(key)).get(key, [])
                decision = self.decide(claimants, observation, key, table, reconcile)
                if decision.action is not step or decision.by is None or world.clock() - at > FRESH_SECONDS:
                    return Done()
                return Done(progress=self._write(ec2, key, account, step, decision.by))
        except Ec2Error as e:
            if e.fault not in (Ec2Fault.ROUTE_EXISTS, Ec2Fault.NO_ROUTE):  # else another writer was quicker
                self.errors[key] = str(e)
                world.log(f"cannot mend {key}: {e}", "warning")
            return Done(throttled=e.fault is Ec2Fault.THROTTLED)
        except CniError as e:
            self.errors[key] = e.msg
            world.log(f"cannot mend {key}: {e}", "warning")
            return Done()

    def _write(self, ec2: Vpc, key: RouteKey, account: str, action: Action, by: Claimant) -> int:
        """Do ``action``; return the number of repairs."""
        world, who = self._world, by.claim.attachment
        # Recorded before it is sent, because a request whose answer never comes may still make a route later.
        if action is not Action.DELETE and not self.change(
            who, lambda claim: replace(claim, last_write_at=world.now())
        ):
            return 0
        if action in (Action.DELETE, Action.MOVE):
            target = self.observations[key].target
            ec2.delete(key, account)
            self.observe(key, None, world.clock())
            subject = by.claim.subject(key)
            world.log(
                f"{who}: {key} led to {target}: deleted", event="deleted", target=str(target), **subject
            )
        if action in (Action.CREATE, Action.MOVE):
            fresh = 0 <= world.now() - by.route.held_since < NEW_SECONDS
            try:
                ec2.create(key, by.claim.eni, account)
            finally:
                self.change(who, lambda claim: replace(claim, last_write_at=world.now()))
            if action is Action.CREATE and fresh:
                self._counts.absent_fresh()
            self.observe(key, RouteTarget(by.claim.eni, is_eni=True), world.clock())
            self.change(who, lambda claim: claim.observe({key: Event.SEEN_OURS}))
            self.outages.wrote(key, who)
            sentence = f"{who}: {key} was absent: created, leads to {by.claim.eni} again"
            world.log(sentence, event="created", target=by.claim.eni, **by.claim.subject(key))
        self._counts.repaired(action.name.lower())
        return 1

    def release(self, region: str, claim: Claim, deadline: float) -> Done:
        world = self._world
        if world.clock() >= deadline:
            return Done()  # the next look does it
        with world.claims.lock(attachment_lock(claim.attachment), 0) as free:
            now = world.claims.get(claim.attachment)
            if not free or not isinstance(now, Claim):
                return Done()
            try:
                release(world, self._ec2(region), now, deadline, self.enis)
                return Done(progress=1, released=claim.attachment)
            except CniError as e:
                for route in now.abandon().routes:
                    if not route.state.live:
                        self.errors[route.key] = e.msg
                world.log(f"{claim.attachment}: not released yet: {e}", "warning")
                return Done()

    def release_at_once(self, claim: Claim, deadline: float) -> None:
        if self._world.clock() < deadline:
            self.change(claim.attachment, Claim.end_grace)
            self.release(claim.region, claim, deadline)

    def _ec2(self, region: str) -> Vpc:
        """Return EC2 for a read under a lock: that read must not queue behind ADDs."""
        return _Urgent(self._world.vpc(region), self._urgent(region))


class _Urgent:
    """``Vpc`` whose reads go before those of other looks; its writes keep their place."""

    def __init__(self, ec2: Vpc, urgent: Vpc) -> None:
        self._ec2 = ec2
        self.route_tables = urgent.route_tables

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ec2, name)


def _same(claim: Claim, other: Claim) -> bool:
    """Whether two claims are equal: most often they are one object, which spares comparing the fields."""
    return claim is other or claim == other
