"""One look of the keeper: reads every route table that a claim of this node is in, and judges every route.

``rules.reconcile`` decides. What is to be done is left to ``repair``, because no write rests on a look alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest

from ...model.claim import Claim
from ...model.claim_state import Event, State
from ...model.errors import CniError, Ec2Error, Ec2Fault
from ...model.values import Attachment, RouteKey, RouteTable
from ...operations.election import ElectedLook
from ...operations.world import World
from ...rules.reconcile import CUT_OFF, Action, Claimant, Decision, Outage
from . import table_membership
from .repair import Done, RouteRepairer
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


class Reconciler:
    """Looks at routes, and lets ``repairer`` repair and release them. Used by one thread.

    ``present`` returns the ids of the network interfaces that this node has now, or raises CniError.
    ``cut_off`` are the claims whose ENI this node did not have at the last look. ``failed`` gets every
    unexpected error. ``see`` returns a claim with what status shows of its routes: it is written with the
    state that a look changes.
    """

    def __init__(
        self,
        world: World,
        repairer: RouteRepairer,
        present: Callable[[], Collection[str]],
        failed: Callable[[str, Exception], object],
        see: Callable[[Claim], Claim],
    ) -> None:
        self.cut_off: Collection[Attachment] = frozenset()
        self._world = world
        self._repairer = repairer
        self._present = present
        self._failed = failed
        self._see = see
        self._enis_at = 0.0
        self._membership = TableMembership(world)
        self._unseen: dict[str, float] = {}
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
        self._repairer.gap = GAP * reconcile
        deadline = self._world.clock() + ACT_SECONDS
        look = Look()
        for group, members in _groups(claims).items():
            look |= self._try_to_look_at(group, members, reconcile, deadline)
        return look

    def _try_to_look_at(
        self, group: Group, claims: Sequence[Claim], reconcile: float, deadline: float
    ) -> Look:
        where, at = group[2] or "an older claim", self._world.clock()
        try:
            return self._look_at(group, claims, reconcile, deadline)
        except Ec2Error as e:
            self._world.log(f"cannot read the route tables of {where}: {e}", "warning")
            self._repairer.errors |= {route.key: str(e) for claim in claims for route in claim.routes}
            self._tell_election(group, claims, at, fault=e.fault)
            return Look(whole=False, throttled=e.fault is Ec2Fault.THROTTLED)
        except Exception as e:  # noqa: BLE001 (the other groups' routes must be looked after all the same)
            self._failed("a read of route tables failed unexpectedly", e)
            self._repairer.errors |= {route.key: repr(e) for claim in claims for route in claim.routes}
            return Look(whole=False, broken=f"cannot maintain the routes in the tables of {where}: {e!r}")

    def _refresh_enis(self, claims: Sequence[Claim]) -> None:
        """Read which ENIs this node has, and log once which live claims are cut off.

        If the read fails, the last answer counts, and the ENIs of claims that were added since.
        """
        live = [claim for claim in claims if claim.live and claim.state is not State.CLAIMING]
        now = self._world.now()
        try:
            if claims:
                self._repairer.enis, self._enis_at = frozenset(self._present()), now
        except CniError as e:
            self._world.log(f"cannot list the network interfaces of this node: {e}", "warning")
            self._repairer.enis |= {claim.eni for claim in live if claim.created_at >= self._enis_at}
        cut_off = frozenset(claim.attachment for claim in live if claim.eni not in self._repairer.enis)
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
        (region, account, vpc), repairer = group, self._repairer
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
            repairer.change(claim.attachment, change)
        self._tell_election(group, claims, at, tables)
        mends: list[Callable[[], Done]] = []
        releases: dict[Attachment, Callable[[], Done]] = {}
        due: set[float] = set()
        claimants_of = repairer.claimants(self._world.claims.all()[0])
        events: dict[Attachment, dict[RouteKey, Event]] = {}
        for key in {r.key: None for claim in claims for r in claim.routes if r.account == account}:
            table = tables.get(key.table)
            if table is None and not self._is_gone(key.table, at):
                continue  # not seen this time: its routes are not judged
            self._unseen.pop(key.table, None) if table else None
            claimants = claimants_of.get(key, [])
            observation = repairer.observe(key, table.routes.get(key.destination) if table else None, at)
            decision = repairer.decide(claimants, observation, key, table, reconcile)
            for attachment, event in _state_changes(claimants, decision):
                events.setdefault(attachment, {})[key] = event
            repairer.outages.look(key, claimants, observation, decision)
            self._report(key, claimants, decision)
            if decision.due is not None:
                due.add(decision.due)
            if decision.action is Action.RELEASE and decision.by:
                claim = decision.by.claim
                act = partial(repairer.release, region, claim, deadline)
                releases[claim.attachment] = partial(repairer.attempt, act, [r.key for r in claim.routes])
            elif decision.action is not Action.NOTHING and table:
                act = partial(repairer.repair, region, key, account, decision.action, reconcile, deadline)
                mends.append(partial(repairer.attempt, act, [key]))
        for attachment, by_key in events.items():  # a claim whose own call is at work is left to that call
            repairer.change(attachment, partial(self._observe, by_key))
        both = (act for pair in zip_longest(mends, releases.values()) for act in pair if act)
        results = self._world.run_all(*both, at_once=AT_ONCE)
        done = [result for result in results if isinstance(result, Done)]
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

    def _tell_election(
        self,
        group: Group,
        claims: Sequence[Claim],
        at: float,
        tables: Mapping[str, RouteTable] | None = None,
        fault: Ec2Fault | None = None,
    ) -> None:
        """Tell the election where the routes of elected claims lead. ``claims`` are as before the look."""
        now = [self._world.claims.get(claim.attachment) for claim in claims if claim.elected]
        if not now:
            return
        tables = tables or {}
        account, policy = group[1], self._world.policy
        keys = {r.key for c in now if isinstance(c, Claim) for r in c.routes if r.account == account}
        self._world.election.on_look(
            ElectedLook(
                *group,
                began=at,
                fault=fault,
                routes={k: tables[k.table].routes.get(k.destination) for k in keys if k.table in tables},
                withheld=frozenset(t.id for t in tables.values() if not policy.allows_table(t)),
            )
        )

    def _observe(self, events: Mapping[RouteKey, Event], claim: Claim) -> Claim:
        return self._see(claim.observe(events))

    def _is_gone(self, table: str, at: float) -> bool:
        """Whether a table has not been seen for so long that it does not exist any more."""
        return at - self._unseen.setdefault(table, at) >= table_membership.UNMATCHED_SECONDS

    def _report(self, key: RouteKey, claimants: Sequence[Claimant], decision: Decision) -> None:
        """Remember faults that are not ours to repair."""
        for claimant in claimants:
            if report := decision.reports.get(claimant.claim.attachment, ""):
                self._repairer.errors[key] = f"{report}: {self._repairer.observations[key].target}"

    def release_all(self, deadline: float) -> None:
        """Release every ended claim, even within its grace, because this node may be gone soon."""
        claims = self._world.claims.all()[0]
        self._refresh_enis(claims)
        todo = [claim for claim in claims if _has_ended_routes(claim)]
        self._world.run_all(
            *(partial(self._repairer.release_at_once, claim, deadline) for claim in todo), at_once=AT_ONCE
        )

    def _forget(self, claims: Sequence[Claim]) -> None:
        """Forget what concerns only routes that no claim has any more."""
        keys = {route.key for claim in claims for route in claim.routes}
        attachments = {claim.attachment for claim in claims}
        self._repairer.forget(claims)
        self._membership.forget(keys, attachments)
        for table in self._unseen.keys() - {key.table for key in keys}:
            del self._unseen[table]


def groups_of(claim: Claim) -> set[Group]:
    """Return the groups that the claim's routes are in."""
    return {(claim.region, account, claim.vpc) for account in {route.account for route in claim.routes}}


def _groups(claims: Iterable[Claim]) -> dict[Group, list[Claim]]:
    results: dict[Group, list[Claim]] = {}
    for claim in claims:
        for group in groups_of(claim):
            results.setdefault(group, []).append(claim)
    return results


def _state_changes(claimants: Sequence[Claimant], decision: Decision) -> Iterator[tuple[Attachment, Event]]:
    """Yield the events that change the state of a claimant's route: most looks show it as it was."""
    for claimant in claimants:
        event = decision.events.get(claimant.claim.attachment)
        if event and claimant.route.observe(event) is not claimant.route:
            yield claimant.claim.attachment, event


def _has_ended_routes(claim: Claim) -> bool:
    """Whether routes are to be released here. Those of an elected claim are its group's."""
    return not claim.elected and any(route.state is State.RELEASING for route in claim.routes)
