"""Route tables that come and go while a claim lives: it joins those that match, by Create, and leaves others.

A claim leaves a table only when that has not matched for a while, since a read may be stale; and never its
last one: that nothing matches any more is an error, as it is for an ADD, and no wish to be nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from ...config.netconf import NetConf, conf_of
from ...model.claim import Claim
from ...model.claim_state import ClaimedRoute, State
from ...model.errors import CniError
from ...model.values import Attachment, Place, RouteTable
from ...operations.world import World
from ...rules import destinations

UNMATCHED_SECONDS = 30.0
"""How long a table must not have matched (or not be there) before a claim leaves it."""


class Joining:
    """What was seen of the tables that claims select. Used by one thread."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._unmatched: dict[tuple[Attachment, Place], float] = {}
        self._told_of: dict[Attachment, str] = {}

    def forget(self, places: Collection[Place], attachments: Collection[Attachment]) -> None:
        """Keep nothing about what is in neither."""
        self._told_of = {a: told for a, told in self._told_of.items() if a in attachments}
        self._unmatched = {
            (a, place): since
            for (a, place), since in self._unmatched.items()
            if a in attachments and place in places
        }

    def change(
        self, claim: Claim, account: str, tables: Sequence[RouteTable], at: float
    ) -> Callable[[Claim], Claim] | None:
        """Return what makes the claim join tables that match by now and leave those that do not any more."""
        if not claim.live or claim.config is None or claim.state is State.CLAIMING:
            return None
        conf = self._conf(claim)
        if conf is None:
            return None
        chosen = {table.id: table for table in destinations.matching(conf.route_tables, tables, claim.vpc)}
        if not chosen:  # as for an ADD, that is an error and no wish
            self._tell(
                claim, f"$.routeTables: {conf.route_tables}: no route table of {claim.vpc} matches now"
            )
            return None
        allowed = {table.id for table in chosen.values() if self._world.policy.allows_table(table)}
        if not allowed:
            self._tell(claim, f"{', '.join(chosen)}: no longer in allowedRouteTables: left unchanged")
            return None
        known = {table.id for table in tables}
        gone: set[Place] = set()
        leaving: set[Place] = set()
        for route in claim.routes:
            key = (claim.attachment, route.place)
            if route.account != account or not route.state.live or route.place.table in chosen:
                self._unmatched.pop(key, None)
            elif at - self._unmatched.setdefault(key, at) >= UNMATCHED_SECONDS:
                (leaving if route.place.table in known else gone).add(route.place)
        return lambda now: _rejoined(now, account, allowed, gone, leaving)

    def _conf(self, claim: Claim) -> NetConf | None:
        """Return the claim's configuration; None for one that this release does not understand."""
        try:
            return conf_of(claim)
        except CniError as e:
            self._tell(claim, f"its route tables stay unchanged: {e}")
            return None

    def _tell(self, claim: Claim, sentence: str) -> None:
        """Say something of a claim once."""
        if self._told_of.get(claim.attachment) != sentence:
            self._told_of[claim.attachment] = sentence
            told = f"{claim.attachment}: {sentence}"
            self._world.log(told, "warning", event="route tables", **claim.subject())


def _rejoined(
    claim: Claim, account: str, tables: Collection[str], gone: Collection[Place], leaving: Collection[Place]
) -> Claim:
    """Return the claim in ``tables`` too; without what is ``gone``, releasing what it is ``leaving``."""
    if claim.state is State.CLAIMING or not claim.live:
        return claim
    kept = [
        route.release(after=0.0) if route.place in leaving else route
        for route in claim.routes
        if route.place not in gone
    ]
    wanted = dict.fromkeys(route.place.destination for route in claim.routes if route.state.live)
    there = {route.place for route in kept if route.state.live}
    joined = {Place(table, destination) for destination in wanted for table in sorted(tables)} - there
    kept = [route for route in kept if route.place not in joined]
    new = [ClaimedRoute.join(place, account) for place in sorted(joined, key=str)]
    return replace(claim, routes=(*kept, *new))
