"""Route tables that come and go while a claim lives: it joins new matches, by CreateRoute, and leaves others.

A claim leaves a table only when the table has not matched for a while, because a read may be stale. It never
leaves its last one: that nothing matches any more is an error, as it is for an ADD, and no wish to leave.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ...config.netconf import NetConf, conf_of
from ...model.claim import Claim
from ...model.claim_state import ClaimedRoute, State
from ...model.errors import CniError
from ...model.values import Attachment, RouteKey, RouteTable
from ...operations.world import World
from ...rules import destinations

UNMATCHED_SECONDS = 30.0
"""How long a table must not have matched (or existed) before a claim leaves it."""


@dataclass(frozen=True, slots=True)
class _Selection:
    """The ids of the tables that a network selects now (``chosen``), and of those that policy allows.

    ``complaint``: why its claims stay in the tables they are in, or "".
    """

    conf: NetConf
    chosen: frozenset[str]
    allowed: frozenset[str]
    complaint: str


class TableMembership:
    """Tracks which tables match the selectors of claims. Used by one thread."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._unmatched: dict[Attachment, dict[RouteKey, float]] = {}
        self._reported: dict[Attachment, str] = {}

    def forget(self, keys: Collection[RouteKey], attachments: Collection[Attachment]) -> None:
        """Forget all other routes and attachments."""
        self._reported = {a: sentence for a, sentence in self._reported.items() if a in attachments}
        self._unmatched = {
            a: {key: since for key, since in unmatched.items() if key in keys}
            for a, unmatched in self._unmatched.items()
            if a in attachments
        }

    def changes(
        self, claims: Iterable[Claim], account: str, tables: Sequence[RouteTable], at: float
    ) -> Iterator[tuple[Claim, Callable[[Claim], Claim]]]:
        """Yield the changes that make ``claims`` join tables that match now, and leave the others.

        ``tables`` are all of ``account`` in the one VPC that the claims are in, read ``at`` on the clock.
        """
        known = frozenset(table.id for table in tables)
        selections: dict[int, _Selection] = {}  # by the network: its claims share one parsed configuration
        for claim in claims:
            if not claim.live or claim.config is None or claim.state is State.CLAIMING:
                continue
            conf = self._conf(claim)
            if conf is None:
                continue
            selection = selections.get(id(conf))
            if selection is None:
                selection = selections[id(conf)] = self._select(conf, tables, claim.vpc)
            if selection.complaint:
                self._tell(claim, selection.complaint)
            else:
                yield claim, self._change_for(claim, account, selection, known, at)

    def _select(self, conf: NetConf, tables: Sequence[RouteTable], vpc: str) -> _Selection:
        """Return which of ``tables`` a network selects now, and which of these policy allows."""
        chosen = {table.id: table for table in destinations.matching(conf.route_tables, tables, vpc)}
        allowed = frozenset(t.id for t in chosen.values() if self._world.policy.allows_table(t))
        complaint = ""
        if not chosen:  # as for an ADD, this is an error and no wish to leave
            complaint = f"$.routeTables: {conf.route_tables}: no route table of {vpc} matches now"
        elif not allowed:
            complaint = f"{', '.join(chosen)}: no longer in allowedRouteTables: left unchanged"
        return _Selection(conf, frozenset(chosen), allowed, complaint)

    def _change_for(
        self, claim: Claim, account: str, selection: _Selection, known: Collection[str], at: float
    ) -> Callable[[Claim], Claim]:
        """Return the change of one claim. ``known``: the tables that exist."""
        before = self._unmatched.pop(claim.attachment, {})
        unmatched = {
            route.key: before.get(route.key, at)
            for route in claim.routes
            if route.account == account and route.state.live and route.key.table not in selection.chosen
        }
        if unmatched:
            self._unmatched[claim.attachment] = unmatched
        due = {key for key, since in unmatched.items() if at - since >= UNMATCHED_SECONDS}
        standby = {route.key for route in claim.routes if route.state is State.STANDBY}  # deletes nothing
        leaving = {key for key in due if key.table in known and key not in standby}
        gone = due - leaving
        return lambda now: _with_tables(now, account, selection.allowed, gone, leaving)

    def _conf(self, claim: Claim) -> NetConf | None:
        """Return the claim's configuration; None for one that this release does not understand."""
        try:
            return conf_of(claim)
        except CniError as e:
            self._tell(claim, f"its route tables stay unchanged: {e}")
            return None

    def _tell(self, claim: Claim, sentence: str) -> None:
        """Log a sentence about a claim once."""
        if self._reported.get(claim.attachment) != sentence:
            self._reported[claim.attachment] = sentence
            message = f"{claim.attachment}: {sentence}"
            self._world.log(message, "warning", event="route tables", **claim.subject())


def _with_tables(
    claim: Claim,
    account: str,
    tables: Collection[str],
    gone: Collection[RouteKey],
    leaving: Collection[RouteKey],
) -> Claim:
    """Return the claim in ``tables`` too, without ``gone`` ones, releasing those that it is ``leaving``."""
    if claim.state is State.CLAIMING or not claim.live:
        return claim
    kept = [
        route.release(after=0.0) if route.key in leaving else route
        for route in claim.routes
        if route.key not in gone
    ]
    wanted = {route.key.key: route.key.destination for route in claim.routes if route.state.live}
    there = {(route.key.table, route.key.key) for route in kept if route.state.live}
    joined = {
        RouteKey(table, destination)
        for key, destination in wanted.items()
        for table in tables
        if (table, key) not in there
    }
    if not gone and not leaving and not joined:
        return claim
    kept = [route for route in kept if route.key not in joined]
    join = ClaimedRoute.join_elected if claim.elected else ClaimedRoute.join
    new = [join(key, account) for key in sorted(joined, key=str)]
    joining = replace(claim, routes=(*kept, *new))
    return joining.admit() if claim.elected else joining
