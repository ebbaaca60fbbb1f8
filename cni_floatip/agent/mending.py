"""One look of the keeper: read every route table that a claim of this node is in, judge, and mend.

``keeping`` says what is right; this is where it is done. Nothing here is decided by what the look showed
alone: each write comes after the same judgement, made again with the place locked and its table read anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial

from .. import decide
from ..claims import Claim, ClaimedRoute, State
from ..ec2writes import FRESH_SECONDS, route_at
from ..errors import CniError, Ec2Error, Ec2Fault
from ..keeping import FRESH_SECONDS as NEW_SECONDS
from ..keeping import Act, Sighting, Stake, Verdict, judge, stakes_of
from ..model import Attachment, Place, RouteTable, Target
from ..netconf import NetConf
from ..operations.release import attachment_lock, place_lock, release
from ..world import Vpc, World, together
from .counts import Counts

ACT_SECONDS = 20.0
"""How long the writes of one look may take; what is left is for the next."""
AT_ONCE = 8
UNMATCHED_SECONDS = 30.0
"""How long a table must not have matched (or not be there) before a claim leaves it: a read may be stale."""

Group = tuple[str, str, str]
"""(region, account of the tables, VPC): what one DescribeRouteTables can answer."""


class Mender:
    """Looks at routes and mends them. Used by one thread; ``sightings`` and ``errors`` may be read by others.

    ``present`` returns the ids of the network interfaces that this node has now. ``releasing`` holds whose
    routes the last look found to be there still although they have ended.
    """

    def __init__(self, world: World, counts: Counts, present: Callable[[], Collection[str]]) -> None:
        self.sightings: dict[Place, Sighting] = {}
        self.errors: dict[Place, str] = {}
        self.throttled = False
        self.releasing: set[Attachment] = set()
        self._world = world
        self._counts = counts
        self._present = present
        self._enis: Collection[str] = ()
        self._confs: dict[Attachment, tuple[object, NetConf]] = {}
        self._unmatched: dict[tuple[Attachment, Place], float] = {}
        self._told: dict[tuple[Attachment, Place], str] = {}

    def look(self, reconcile: float) -> bool:
        """Look at everything once; return whether all of it could be seen. Raises nothing of AWS's.

        ``reconcile`` is the gap between two ordinary looks, in seconds.
        """
        self.throttled = False
        self.releasing = set()
        claims = [claim for claim in self._world.claims.all()[0] if claim.routes]
        self._forget(claims)
        try:
            self._enis = self._present() if claims else ()
        except CniError as e:
            self._world.log(f"cannot see which network interfaces this node has: {e}")
        seen_all = True
        for group, ids in _groups(claims).items():
            try:
                self._look_at(group, ids, reconcile)
            except Ec2Error as e:
                seen_all = False
                self.throttled |= e.fault is Ec2Fault.THROTTLED
                self._world.log(f"cannot look at the route tables of {group[2] or ids}: {e}")
                for place in self._places(group):
                    self.errors[place] = str(e)
        return seen_all

    def _look_at(self, group: Group, ids: Collection[str], reconcile: float) -> None:
        region, account, vpc = group
        ec2 = self._world.vpc(region)
        at = self._world.clock()
        filters = {"vpc-id": [vpc]} if vpc else {"route-table-id": sorted(ids)}
        tables = {table.id: table for table in ec2.route_tables(filters, account)}
        if not tables:  # no VPC is without a main table: an answer that knows nothing says nothing
            raise Ec2Error(Ec2Fault.NO_TABLE, "DescribeRouteTables", "", f"no route tables at all in {vpc}")
        if vpc:
            for claim in self._claims(group):
                self._resolve_again(claim, account, tuple(tables.values()), at)
        acts: list[Callable[[], None]] = []
        releasing: dict[Attachment, Claim] = {}
        for place, stakes in stakes_of(self._claims(group)).items():
            table = tables.get(place.table)
            if table is None:
                continue  # gone, or not seen this time: no word about its routes
            sighting = self._sight(place, table.routes.get(place.destination), at)
            verdict = judge(stakes, sighting, self._enis, self._world.now(), reconcile)
            self._settle(place, verdict)
            self._report(place, stakes, verdict)
            if verdict.act is Act.RELEASE and verdict.by:
                releasing[verdict.by.claim.attachment] = verdict.by.claim
            elif verdict.act is not Act.NOTHING:
                account_of = next(stake.route.account for stake in stakes)
                acts.append(partial(self._mend, ec2, place, account_of, verdict.act, reconcile))
        self.releasing |= releasing.keys()
        deadline = self._world.clock() + ACT_SECONDS
        acts += [partial(self._release, ec2, claim, deadline) for claim in releasing.values()]
        together(*acts, at_once=AT_ONCE)

    # -- what was seen --------------------------------------------------------------------------------

    def _sight(self, place: Place, target: Target | None, at: float) -> Sighting:
        self.errors.pop(place, None)
        found = Sighting.next(self.sightings.get(place), target, at)
        self.sightings[place] = found
        return found

    def _settle(self, place: Place, verdict: Verdict) -> None:
        """Record what the claims are now. One whose own call is at work is left to that."""
        for attachment, state in verdict.states.items():
            self._change(attachment, lambda claim, state=state: _with_state(claim, place, state))  # type: ignore[misc]

    def _change(self, attachment: Attachment, change: Callable[[Claim], Claim]) -> None:
        claims = self._world.claims
        now = claims.get(attachment)
        if not isinstance(now, Claim) or change(now) == now:
            return
        with claims.lock(attachment_lock(attachment), 0) as free:
            now = claims.get(attachment)
            if not free or not isinstance(now, Claim):
                return
            changed = change(now)
            if changed == now:
                return
            try:
                claims.put(changed)
            except CniError as e:
                self._world.log(str(e))
                return
        before = {route.place for route in now.routes if route.state is State.SUPERSEDED}
        for route in changed.routes:
            if route.state is State.SUPERSEDED and route.place not in before:
                self._counts.superseded_live()
                target = self.sightings.get(route.place)
                self._world.log(
                    f"{attachment}: superseded: {route.place} leads to {target.target if target else '?'}"
                )

    def _report(self, place: Place, stakes: Sequence[Stake], verdict: Verdict) -> None:
        """Say once what is wrong and not ours to mend."""
        for stake in stakes:
            key = (stake.claim.attachment, place)
            report = verdict.reports.get(stake.claim.attachment, "")
            if report:
                self.errors[place] = f"{report}: {self.sightings[place].target}"
            if report and self._told.get(key) != report:
                self._world.log(f"{stake.claim.attachment}: {place} {report}: {self.sightings[place].target}")
            if report:
                self._told[key] = report
            else:
                self._told.pop(key, None)

    # -- what is done ---------------------------------------------------------------------------------

    def _mend(self, ec2: Vpc, place: Place, account: str, act: Act, reconcile: float) -> None:
        """Do ``act`` if it is still right: the place locked, claims and table read anew (DESIGN 6)."""
        world = self._world
        deadline = world.clock() + ACT_SECONDS
        action = "CreateRoute" if act is Act.CREATE else "DeleteRoute"
        try:
            ec2.turn(action, place, account, deadline)
            with world.claims.lock(place_lock(place), 0) as free:
                if not free:
                    return  # a call on this node is writing it
                at = world.clock()
                sighting = self._sight(place, route_at(ec2, place, account), at)
                stakes = stakes_of(world.claims.all()[0]).get(place, [])
                verdict = judge(stakes, sighting, self._enis, world.now(), reconcile)
                if verdict.act is not act or verdict.by is None or world.clock() - at > FRESH_SECONDS:
                    return
                if act is not Act.DELETE and not self._allowed(place, verdict.by):
                    return
                self._write(ec2, place, account, act, verdict.by)
        except Ec2Error as e:
            self.throttled |= e.fault is Ec2Fault.THROTTLED
            if e.fault not in (Ec2Fault.ROUTE_EXISTS, Ec2Fault.NO_ROUTE):  # those: somebody was quicker
                self.errors[place] = str(e)
                world.log(f"cannot mend {place}: {e}")
        except CniError as e:
            self.errors[place] = e.msg
            world.log(f"cannot mend {place}: {e}")

    def _write(self, ec2: Vpc, place: Place, account: str, act: Act, by: Stake) -> None:
        world, who = self._world, by.claim.attachment
        if act in (Act.DELETE, Act.MOVE):
            target = self.sightings[place].target
            ec2.delete(place, account)
            self._sight(place, None, world.clock())
            world.log(f"{who}: {place} led to {target}: deleted")
        if act in (Act.CREATE, Act.MOVE):
            age = world.now() - by.route.since
            ec2.create(place, by.claim.eni, account)
            if act is Act.CREATE and 0 <= age < NEW_SECONDS:
                self._counts.absent_fresh()
            self._sight(place, Target(by.claim.eni, is_eni=True), world.clock())
            self._change(who, lambda claim: _mended(claim, place, world.now()))
            world.log(f"{who}: {place} was absent: created, leads to {by.claim.eni} again")
        self._counts.repaired(act.name.lower())

    def _allowed(self, place: Place, by: Stake) -> bool:
        """Whether policy, which may have changed since the ADD, still gives the destination."""
        allowed = self._world.policy.allows_destination(place.destination, by.claim.pod.namespace)
        if not allowed:
            self.errors[place] = f"{place.destination} is not in allowedDestinations any more: not mended"
        return allowed

    def _release(self, ec2: Vpc, claim: Claim, deadline: float) -> None:
        world = self._world
        with world.claims.lock(attachment_lock(claim.attachment), 0) as free:
            now = world.claims.get(claim.attachment)
            if not free or not isinstance(now, Claim):
                return
            try:
                release(world, ec2, now, deadline)
            except CniError as e:
                for route in now.routes:
                    if not route.state.live:
                        self.errors[route.place] = e.msg
                world.log(f"{claim.attachment}: not released yet: {e}")

    def release_all(self, deadline: float) -> None:
        """Release whatever has ended, whose grace is over or not: this node may be gone soon."""
        todo = [claim for claim in self._world.claims.all()[0] if _has_ended_routes(claim)]
        together(*(partial(self._release_at_once, claim, deadline) for claim in todo), at_once=AT_ONCE)

    def _release_at_once(self, claim: Claim, deadline: float) -> None:
        if self._world.clock() < deadline:
            self._change(claim.attachment, _without_grace)
            self._release(self._world.vpc(claim.region), claim, deadline)

    # -- tables that come and go ----------------------------------------------------------------------

    def _resolve_again(self, claim: Claim, account: str, tables: Sequence[RouteTable], at: float) -> None:
        """Let a live claim join tables that match by now, and leave those that do not any more."""
        if not claim.live or claim.config is None or claim.state is State.CLAIMING:
            return
        selector = self._conf(claim).route_tables
        chosen = {table.id: table for table in decide.matching(selector, tables, claim.vpc)}
        allowed = {table.id for table in chosen.values() if self._world.policy.allows_table(table)}
        known = {table.id for table in tables}
        gone: set[Place] = set()
        leaving: set[Place] = set()
        for route in claim.routes:
            key = (claim.attachment, route.place)
            if route.account != account or not route.state.live or route.place.table in chosen:
                self._unmatched.pop(key, None)
            elif at - self._unmatched.setdefault(key, at) >= UNMATCHED_SECONDS:
                (leaving if route.place.table in known else gone).add(route.place)
        self._change(
            claim.attachment,
            lambda now: _rejoined(now, account, allowed, gone, leaving),
        )

    def _conf(self, claim: Claim) -> NetConf:
        known = self._confs.get(claim.attachment)
        if known is None or known[0] is not claim.config:
            known = (claim.config, NetConf.parse(claim.config or {}))
            self._confs[claim.attachment] = known
        return known[1]

    # -- claims ---------------------------------------------------------------------------------------

    def _claims(self, group: Group) -> list[Claim]:
        return [claim for claim in self._world.claims.all()[0] if group in _groups_of(claim)]

    def _places(self, group: Group) -> set[Place]:
        return {route.place for claim in self._claims(group) for route in claim.routes}

    def _forget(self, claims: Sequence[Claim]) -> None:
        """Keep nothing about what no claim is in any more."""
        places = {route.place for claim in claims for route in claim.routes}
        attachments = {claim.attachment for claim in claims}
        for known in (self.sightings, self.errors):
            for place in known.keys() - places:
                del known[place]
        for attachment in self._confs.keys() - attachments:
            del self._confs[attachment]
        for keyed in (self._unmatched, self._told):
            for key in [key for key in keyed if key[0] not in attachments or key[1] not in places]:
                del keyed[key]


def _groups_of(claim: Claim) -> set[Group]:
    return {(claim.region, route.account, claim.vpc) for route in claim.routes}


def _groups(claims: Iterable[Claim]) -> dict[Group, set[str]]:
    found: dict[Group, set[str]] = {}
    for claim in claims:
        for route in claim.routes:
            found.setdefault((claim.region, route.account, claim.vpc), set()).add(route.place.table)
    return found


def _with_state(claim: Claim, place: Place, state: State) -> Claim:
    """Return the claim with ``place`` in ``state``, unless a call has given it another meaning since."""

    def changed(route: ClaimedRoute) -> ClaimedRoute:
        same_side = route.state.live == state.live and route.state is not State.CLAIMING
        return replace(route, state=state) if route.place == place and same_side else route

    return replace(claim, routes=tuple(changed(route) for route in claim.routes))


def _mended(claim: Claim, place: Place, now: float) -> Claim:
    return replace(_with_state(claim, place, State.HELD), written=now)


def _without_grace(claim: Claim) -> Claim:
    routes = (route if route.state.live else replace(route, after=0.0) for route in claim.routes)
    return replace(claim, routes=tuple(routes))


def _has_ended_routes(claim: Claim) -> bool:
    return any(route.state is State.RELEASING for route in claim.routes)


def _rejoined(
    claim: Claim, account: str, tables: Collection[str], gone: Collection[Place], leaving: Collection[Place]
) -> Claim:
    """Return the claim in ``tables`` too; without what is ``gone``, releasing what it is ``leaving``."""
    if claim.state is State.CLAIMING or not claim.live:
        return claim
    kept = [
        replace(route, state=State.RELEASING, after=0.0)
        if route.place in leaving and route.state.live
        else route
        for route in claim.routes
        if route.place not in gone
    ]
    wanted = dict.fromkeys(route.place.destination for route in claim.routes if route.state.live)
    there = {route.place for route in kept if route.state.live}
    joined = {Place(table, destination) for destination in wanted for table in sorted(tables)} - there
    kept = [route for route in kept if route.place not in joined]
    new = [ClaimedRoute(place, State.HELD, account) for place in sorted(joined, key=str)]
    return replace(claim, routes=(*kept, *new))
