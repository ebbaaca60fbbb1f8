"""Route tables that come and go while a claim lives: it joins new matches, by CreateRoute, and leaves others.

A claim leaves a table only when the table has not matched for a while, because a read may be stale. It never
leaves its last one: that nothing matches any more is an error, as it is for an ADD, and no wish to leave.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from ...config.netconf import NetConf, conf_of
from ...model.claim import Claim
from ...model.claim_state import ClaimedRoute, State
from ...model.errors import CniError
from ...model.values import Attachment, RouteKey, RouteTable
from ...operations.world import World
from ...rules import destinations

UNMATCHED_SECONDS = 30.0
"""How long a table must not have matched (or existed) before a claim leaves it."""


class TableMembership:
    """Tracks which tables match the selectors of claims. Used by one thread."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._unmatched: dict[tuple[Attachment, RouteKey], float] = {}
        self._reported: dict[Attachment, str] = {}

    def forget(self, keys: Collection[RouteKey], attachments: Collection[Attachment]) -> None:
        """Forget all other routes and attachments."""
        self._reported = {a: sentence for a, sentence in self._reported.items() if a in attachments}
        self._unmatched = {
            (a, key): since for (a, key), since in self._unmatched.items() if a in attachments and key in keys
        }

    def change_for(
        self, claim: Claim, account: str, tables: Sequence[RouteTable], at: float
    ) -> Callable[[Claim], Claim] | None:
        """Return the change that makes the claim join tables that match now, and leave the others."""
        if not claim.live or claim.config is None or claim.state is State.CLAIMING:
            return None
        conf = self._conf(claim)
        if conf is None:
            return None
        chosen = {table.id: table for table in destinations.matching(conf.route_tables, tables, claim.vpc)}
        if not chosen:  # as for an ADD, this is an error and no wish to leave
            self._tell(
                claim, f"$.routeTables: {conf.route_tables}: no route table of {claim.vpc} matches now"
            )
            return None
        allowed = {table.id for table in chosen.values() if self._world.policy.allows_table(table)}
        if not allowed:
            self._tell(claim, f"{', '.join(chosen)}: no longer in allowedRouteTables: left unchanged")
            return None
        known = {table.id for table in tables}
        gone: set[RouteKey] = set()
        leaving: set[RouteKey] = set()
        for route in claim.routes:
            key = (claim.attachment, route.key)
            if route.account != account or not route.state.live or route.key.table in chosen:
                self._unmatched.pop(key, None)
            elif at - self._unmatched.setdefault(key, at) >= UNMATCHED_SECONDS:
                (leaving if route.key.table in known else gone).add(route.key)
        return lambda now: _with_tables(now, account, allowed, gone, leaving)

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
    wanted = dict.fromkeys(route.key.destination for route in claim.routes if route.state.live)
    there = {route.key for route in kept if route.state.live}
    joined = {RouteKey(table, destination) for destination in wanted for table in sorted(tables)} - there
    kept = [route for route in kept if route.key not in joined]
    new = [ClaimedRoute.join(key, account) for key in sorted(joined, key=str)]
    return replace(claim, routes=(*kept, *new))
