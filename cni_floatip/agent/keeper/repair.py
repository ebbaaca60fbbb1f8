"""One look of the keeper: reads every route table that a claim of this node is in, decides, and repairs.

``rules.reconcile`` decides; this module acts. No write rests on the look alone: before each write the same
decision is made again, with the route key locked and its table read anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from typing import Any

from ...model.claim import Claim
from ...model.claim_state import Event, State
from ...model.errors import CniError, Ec2Error, Ec2Fault
from ...model.values import Attachment, RouteKey, RouteTable, RouteTarget
from ...operations.release import abandoned, attachment_lock, release
from ...operations.world import Vpc, World
from ...operations.write_routes import FRESH_SECONDS, place_lock, table_at
from ...rules.reconcile import (
    CUT_OFF,
    Action,
    Claimant,
    Decision,
    Observation,
    Outage,
    claimants_by_route,
    decide,
)
from ...rules.reconcile import FRESH_SECONDS as NEW_SECONDS
from ..observe.outages import Outages
from ..observe.recorder import Recorder
from . import table_membership
from .table_membership import TableMembership

ACT_SECONDS = 20.0
"""How long one look may begin writes; the rest is left to the next look."""
GAP = 1.5
"""How many ordinary gaps may lie between two looks for an observation to count as unbroken."""
AT_ONCE = 8

Group = tuple[str, str, str]
"""(region, account of the tables, VPC): the scope of one DescribeRouteTables."""


@dataclass(frozen=True, slots=True)
class Look:
    """The result of one look.

    ``whole``: all groups could be read, and no repair met an unexpected error. ``groups`` are those of which
    this is true, ``pending`` the ended claims whose routes still exist, ``progress`` counts repairs and
    releases, ``due`` is when a route that was seen broken is to be repaired. ``throttled``: EC2 refused for
    its request rate; ``broken``: an unexpected error.
    """

    whole: bool = True
    groups: frozenset[Group] = frozenset()
    pending: frozenset[Attachment] = frozenset()
    progress: int = 0
    due: frozenset[float] = frozenset()
    throttled: bool = False
    broken: str | None = None

    def __or__(self, other: Look) -> Look:
        return Look(
            self.whole and other.whole,
            self.groups | other.groups,
            self.pending | other.pending,
            self.progress + other.progress,
            self.due | other.due,
            self.throttled or other.throttled,
            other.broken or self.broken,
        )


@dataclass(frozen=True, slots=True)
class _Done:
    """The result of one repair. ``released``: the claim that has no route left to release.

    ``broken``: the unexpected error.
    """

    progress: int = 0
    throttled: bool = False
    released: Attachment | None = None
    broken: str | None = None


class RouteRepairer:
    """Looks at routes and repairs them. Used by one thread; others may read ``observations`` and ``errors``.

    ``present`` returns the ids of the network interfaces that this node has now, or raises CniError;
    ``urgent`` returns EC2 in a region for reads that must not wait. ``cut_off`` are the claims whose ENI this
    node did not have at the last look. ``failed`` gets every unexpected error.
    """

    def __init__(
        self,
        world: World,
        recorder: Recorder,
        present: Callable[[], Collection[str]],
        urgent: Callable[[str], Vpc] | None = None,
        failed: Callable[[str, Exception], object] | None = None,
    ) -> None:
        self.observations: dict[RouteKey, Observation] = {}
        self.errors: dict[RouteKey, str] = {}
        self.cut_off: Collection[Attachment] = frozenset()
        self.outages = Outages(world, recorder)
        self._world = world
        self._counts = recorder
        self._present = present
        self._urgent = urgent or world.vpc
        self._failed = failed or (lambda sentence, e: world.log(f"{sentence}: {e!r}", "error"))
        self._enis: frozenset[str] = frozenset()
        self._enis_at = 0.0
        self._membership = TableMembership(world)
        self._unseen: dict[str, float] = {}
        self._gap = 0.0
        self._claims: list[Claim] = []

    def check_routes(self, reconcile: float) -> Look:
        """Look at all routes once. AWS's errors are recorded, not raised.

        ``reconcile`` is the gap between two ordinary looks, in seconds.
        """
        claims = [claim for claim in self._world.claims.all()[0] if claim.routes]
        if claims != self._claims:
            self._claims = claims
            self._forget(claims)
        self._refresh_enis(claims)
        self._gap = GAP * reconcile
        deadline = self._world.clock() + ACT_SECONDS
        look = Look()
        for group, members in _groups(claims).items():
            look |= self._try_to_look_at(group, members, reconcile, deadline)
        return look

    def _try_to_look_at(
        self, group: Group, claims: Sequence[Claim], reconcile: float, deadline: float
    ) -> Look:
        where = group[2] or "an older claim"
        try:
            return self._look_at(group, claims, reconcile, deadline)
        except Ec2Error as e:
            self._world.log(f"cannot read the route tables of {where}: {e}", "warning")
            self.errors |= {route.key: str(e) for claim in claims for route in claim.routes}
            return Look(whole=False, throttled=e.fault is Ec2Fault.THROTTLED)
        except Exception as e:  # noqa: BLE001 (the other groups' routes must be looked after all the same)
            self._failed("a read of route tables failed unexpectedly", e)
            self.errors |= {route.key: repr(e) for claim in claims for route in claim.routes}
            return Look(whole=False, broken=f"cannot maintain the routes in the tables of {where}: {e!r}")

    def _refresh_enis(self, claims: Sequence[Claim]) -> None:
        """Read which ENIs this node has, and log once which live claims are cut off.

        If the read fails, the last answer counts, and the ENIs of claims that were added since.
        """
        live = [claim for claim in claims if claim.live and claim.state is not State.CLAIMING]
        now = self._world.now()
        try:
            if claims:
                self._enis, self._enis_at = frozenset(self._present()), now
        except CniError as e:
            self._world.log(f"cannot list the network interfaces of this node: {e}", "warning")
            self._enis |= {claim.eni for claim in live if claim.created_at >= self._enis_at}
        cut_off = frozenset(claim.attachment for claim in live if claim.eni not in self._enis)
        for claim in live:
            who = claim.attachment
            if who in cut_off and who not in self.cut_off:
                sentence = f"{who}: {claim.eni}: {CUT_OFF}"
                self._world.log(sentence, "warning", event=Outage.CUT_OFF.value, **claim.subject())
            elif who in self.cut_off and who not in cut_off:
                sentence = f"{who}: {claim.eni} is attached to this node again"
                self._world.log(sentence, event="attached", **claim.subject())
        self.cut_off = cut_off

    @property
    def knows_interfaces(self) -> bool:
        """Whether this node's network interfaces were ever read."""
        return self._enis_at > 0

    def _look_at(self, group: Group, claims: Sequence[Claim], reconcile: float, deadline: float) -> Look:
        region, account, vpc = group
        ec2 = self._world.vpc(region)
        at = self._world.clock()
        ids = {route.key.table for claim in claims for route in claim.routes}
        filters = {"vpc-id": [vpc]} if vpc else {"route-table-id": sorted(ids)}
        tables = {table.id: table for table in ec2.route_tables(filters, account)}
        if not tables:  # every VPC has a main table, so an empty answer says nothing
            raise Ec2Error(Ec2Fault.NO_TABLE, "DescribeRouteTables", "", f"no route tables at all in {vpc}")
        for claim, change in self._membership.changes(
            claims if vpc else (), account, tuple(tables.values()), at
        ):
            self.change(claim.attachment, change)
        mends: list[Callable[[], _Done]] = []
        releases: dict[Attachment, Callable[[], _Done]] = {}
        due: set[float] = set()
        claimants_of = self._claimants(self._world.claims.all()[0])
        events: dict[Attachment, dict[RouteKey, Event]] = {}
        for key in {r.key: None for claim in claims for r in claim.routes if r.account == account}:
            table = tables.get(key.table)
            if table is None and not self._is_gone(key.table, at):
                continue  # not seen this time: its routes are not judged
            self._unseen.pop(key.table, None) if table else None
            claimants = claimants_of.get(key, [])
            observation = self._observe(key, table.routes.get(key.destination) if table else None, at)
            decision = self._decide(claimants, observation, key, table, reconcile)
            for attachment, event in _state_changes(claimants, decision):
                events.setdefault(attachment, {})[key] = event
            self.outages.look(key, claimants, observation, decision)
            self._report(key, claimants, decision)
            if decision.due is not None:
                due.add(decision.due)
            if decision.action is Action.RELEASE and decision.by:
                claim = decision.by.claim
                act = partial(self._release, region, claim, deadline)
                releases[claim.attachment] = partial(self._attempt, act, [r.key for r in claim.routes])
            elif decision.action is not Action.NOTHING and table:
                act = partial(self._repair, region, key, account, decision.action, reconcile, deadline)
                mends.append(partial(self._attempt, act, [key]))
        for attachment, by_key in events.items():  # a claim whose own call is at work is left to that call
            self.change(attachment, partial(Claim.observe, events=by_key))
        both = (act for pair in zip_longest(mends, releases.values()) for act in pair if act)
        results = self._world.run_all(*both, at_once=AT_ONCE)
        done = [result for result in results if isinstance(result, _Done)]
        broken = next((result.broken for result in done if result.broken), None)
        return Look(
            whole=broken is None,
            groups=frozenset() if broken else frozenset([group]),
            pending=frozenset(releases.keys() - {done.released for done in done}),
            progress=sum(done.progress for done in done),
            due=frozenset(due),
            throttled=any(done.throttled for done in done),
            broken=broken,
        )

    def _is_gone(self, table: str, at: float) -> bool:
        """Whether a table has not been seen for so long that it does not exist any more."""
        return at - self._unseen.setdefault(table, at) >= table_membership.UNMATCHED_SECONDS

    def _claimants(self, claims: Iterable[Claim]) -> dict[RouteKey, list[Claimant]]:
        """Return the claimants of each route of ``claims``. An ADD that nobody runs counts as ended."""
        ended = (claim.abandon() if abandoned(self._world, claim) else claim for claim in claims)
        return claimants_by_route(ended)

    # -- what was seen --------------------------------------------------------------------------------

    def _observe(self, key: RouteKey, target: RouteTarget | None, at: float) -> Observation:
        self.errors.pop(key, None)
        observation = Observation.next(self.observations.get(key), target, at, self._gap)
        self.observations[key] = observation
        return observation

    def _decide(
        self,
        claimants: Sequence[Claimant],
        observation: Observation,
        key: RouteKey,
        table: RouteTable | None,
        reconcile: float,
    ) -> Decision:
        policy = self._world.policy

        def given(claim: Claim) -> bool:
            allowed = policy.allows_destination(key.destination, claim.pod.namespace)
            return allowed and table is not None and policy.allows_table(table)

        return decide(claimants, observation, self._enis, self._world.now(), reconcile, given)

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

    def _report(self, key: RouteKey, claimants: Sequence[Claimant], decision: Decision) -> None:
        """Remember faults that are not ours to repair."""
        for claimant in claimants:
            if report := decision.reports.get(claimant.claim.attachment, ""):
                self.errors[key] = f"{report}: {self.observations[key].target}"

    # -- what is done ---------------------------------------------------------------------------------

    def _attempt(self, act: Callable[[], _Done], keys: Sequence[RouteKey]) -> _Done:
        """Do one repair or release of the routes at ``keys``."""
        try:
            return act()
        except Exception as e:  # noqa: BLE001 (what the look showed of the other routes must not be lost)
            self._failed("a repair failed unexpectedly", e)
            self.errors |= dict.fromkeys(keys, repr(e))
            return _Done(broken=f"cannot maintain {keys[0]}: {e!r}")

    def _repair(
        self, region: str, key: RouteKey, account: str, step: Action, reconcile: float, deadline: float
    ) -> _Done:
        """Do ``step`` if it is still right, with the route key locked, and claims and table read anew."""
        world = self._world
        action = "CreateRoute" if step is Action.CREATE else "DeleteRoute"
        try:
            ec2 = self._ec2(region)
            ec2.wait_turn(action, key, account, deadline)
            with world.claims.lock(place_lock(key), 0) as free:
                if not free:
                    return _Done()  # a call on this node is writing it
                at = world.clock()
                table = table_at(ec2, key, account)
                observation = self._observe(key, table.routes.get(key.destination), at)
                claimants = self._claimants(world.claims.for_route(key)).get(key, [])
                decision = self._decide(claimants, observation, key, table, reconcile)
                if decision.action is not step or decision.by is None or world.clock() - at > FRESH_SECONDS:
                    return _Done()
                return _Done(progress=self._write(ec2, key, account, step, decision.by))
        except Ec2Error as e:
            if e.fault not in (Ec2Fault.ROUTE_EXISTS, Ec2Fault.NO_ROUTE):  # else another writer was quicker
                self.errors[key] = str(e)
                world.log(f"cannot mend {key}: {e}", "warning")
            return _Done(throttled=e.fault is Ec2Fault.THROTTLED)
        except CniError as e:
            self.errors[key] = e.msg
            world.log(f"cannot mend {key}: {e}", "warning")
            return _Done()

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
            self._observe(key, None, world.clock())
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
            self._observe(key, RouteTarget(by.claim.eni, is_eni=True), world.clock())
            self.change(who, lambda claim: claim.observe({key: Event.SEEN_OURS}))
            self.outages.wrote(key, who)
            sentence = f"{who}: {key} was absent: created, leads to {by.claim.eni} again"
            world.log(sentence, event="created", target=by.claim.eni, **by.claim.subject(key))
        self._counts.repaired(action.name.lower())
        return 1

    def _release(self, region: str, claim: Claim, deadline: float) -> _Done:
        world = self._world
        if world.clock() >= deadline:
            return _Done()  # the next look does it
        with world.claims.lock(attachment_lock(claim.attachment), 0) as free:
            now = world.claims.get(claim.attachment)
            if not free or not isinstance(now, Claim):
                return _Done()
            try:
                release(world, self._ec2(region), now, deadline, self._enis)
                return _Done(progress=1, released=claim.attachment)
            except CniError as e:
                for route in now.abandon().routes:
                    if not route.state.live:
                        self.errors[route.key] = e.msg
                world.log(f"{claim.attachment}: not released yet: {e}", "warning")
                return _Done()

    def release_all(self, deadline: float) -> None:
        """Release every ended claim, even within its grace, because this node may be gone soon."""
        claims = self._world.claims.all()[0]
        self._refresh_enis(claims)
        todo = [claim for claim in claims if _has_ended_routes(claim)]
        self._world.run_all(
            *(partial(self._release_at_once, claim, deadline) for claim in todo), at_once=AT_ONCE
        )

    def _release_at_once(self, claim: Claim, deadline: float) -> None:
        if self._world.clock() < deadline:
            self.change(claim.attachment, Claim.end_grace)
            self._release(claim.region, claim, deadline)

    # -- claims ---------------------------------------------------------------------------------------

    def _ec2(self, region: str) -> Vpc:
        """Return EC2 for a read under a lock: that read must not queue behind ADDs."""
        return _Urgent(self._world.vpc(region), self._urgent(region))

    def _forget(self, claims: Sequence[Claim]) -> None:
        """Forget observations of routes that no claim has any more."""
        keys = {route.key for claim in claims for route in claim.routes}
        attachments = {claim.attachment for claim in claims}
        for known in (self.observations, self.errors):
            for key in known.keys() - keys:
                del known[key]
        self._membership.forget(keys, attachments)
        for table in self._unseen.keys() - {key.table for key in keys}:
            del self._unseen[table]
        self.outages.forget(claims)


def groups_of(claim: Claim) -> set[Group]:
    """Return the groups that the claim's routes are in."""
    return {(claim.region, account, claim.vpc) for account in {route.account for route in claim.routes}}


def _groups(claims: Iterable[Claim]) -> dict[Group, list[Claim]]:
    results: dict[Group, list[Claim]] = {}
    for claim in claims:
        for group in groups_of(claim):
            results.setdefault(group, []).append(claim)
    return results


class _Urgent:
    """``Vpc`` whose reads go before those of other looks; its writes keep their place."""

    def __init__(self, ec2: Vpc, urgent: Vpc) -> None:
        self._ec2 = ec2
        self.route_tables = urgent.route_tables

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ec2, name)


def _state_changes(claimants: Sequence[Claimant], decision: Decision) -> Iterator[tuple[Attachment, Event]]:
    """Yield the events that change the state of a claimant's route: most looks show it as it was."""
    for claimant in claimants:
        event = decision.events.get(claimant.claim.attachment)
        if event and claimant.route.observe(event) is not claimant.route:
            yield claimant.claim.attachment, event


def _same(claim: Claim, other: Claim) -> bool:
    """Whether two claims are equal: most often they are one object, which spares comparing the fields."""
    return claim is other or claim == other


def _has_ended_routes(claim: Claim) -> bool:
    return any(route.state is State.RELEASING for route in claim.routes)
