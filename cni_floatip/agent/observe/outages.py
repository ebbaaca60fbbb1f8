"""Tracks which addresses of this node's pods are not served, route by route, and logs each change.

``rules.reconcile`` judges one look; this module remembers all looks. Status, metrics and STATUS answer from
it, and the log gets one line when an outage begins, changes or ends. Only the keeper changes it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...model.claim import Claim
from ...model.claim_state import ClaimedRoute, State
from ...model.values import Attachment, Network, RouteKey
from ...operations.world import World
from ...rules.reconcile import STALE_SECONDS, Claimant, Decision, Observation, Outage
from .recorder import Recorder

JOINED_SECONDS = 60.0
"""How long a table that a claim has just joined may lack its route, because nobody has written it yet."""

Key = tuple[Attachment, RouteKey]
Judgement = Callable[[Claim, ClaimedRoute], Outage | None]
"""Returns why a route does not serve its claim, None if nothing is known: ``Keeper.outage``."""


@dataclass(frozen=True, slots=True)
class OpenOutage:
    """One outage: the last look that showed it was at ``at`` (since the epoch)."""

    outage: Outage
    report: str
    at: float


class Outages:
    """Remembers outages and logs them."""

    def __init__(self, world: World, recorder: Recorder) -> None:
        self._world = world
        self._counts = recorder
        self._began = world.now()
        self._known: dict[Key, OpenOutage] = {}
        self._doubtful: set[Key] = set()
        self._served: set[Key] = set()
        self._wrote: dict[RouteKey, float] = {}

    def of_route(
        self,
        claim: Claim,
        route: ClaimedRoute,
        cut_off: Collection[Attachment],
        checked: Collection[str],
    ) -> Outage | None:
        """Return why ``route`` does not serve its claim, as far as looks have shown; None: no look shows it.

        ``checked`` are the ENIs whose source/dest check is on. A route of a running ADD serves nobody yet,
        and an ended one nobody any more: neither has an outage.
        """
        if not route.state.settled:
            return None
        if claim.attachment in cut_off:
            return Outage.CUT_OFF
        known = self._known.get((claim.attachment, route.key))
        if known and known.at >= route.held_since:
            return known.outage
        if known is None and self._is_on_record(claim, route):
            return Outage.SUPERSEDED
        return Outage.CHECKED if claim.eni in checked else None

    def look(
        self, route_key: RouteKey, claimants: Sequence[Claimant], observation: Observation, decision: Decision
    ) -> None:
        """Learn the result of a look. ``claimants`` are as they were before it; without a judgement
        nothing changes.
        """
        if decision.outages is None:
            return
        now = self._world.now()
        for claimant in claimants:
            key = (claimant.claim.attachment, route_key)
            known = self._known.get(key)
            wanted = claimant.route.state.wants_route
            if known and (not wanted or known.at < claimant.route.held_since):  # an ADD has written it since
                del self._known[key]
                known = None
            if not wanted:
                continue
            outage = decision.outages.get(claimant.claim.attachment)
            if outage is None:
                self._end(key, claimant, known)
            elif not known and self._is_doubtful(claimant, observation, now):
                self._doubtful.add(key)
            else:
                open_outage = OpenOutage(outage, decision.reports.get(claimant.claim.attachment, ""), now)
                self._known[key] = open_outage
                self._tell(key, claimant, observation, known, open_outage)

    def wrote(self, key: RouteKey, who: Attachment) -> None:
        """Learn that this node has created the route: a read within moments may be older."""
        self._wrote[key] = self._world.now()
        self._known.pop((who, key), None)

    def forget(self, claims: Iterable[Claim]) -> None:
        """Forget the outages of all other claims."""
        keys = {(claim.attachment, route.key) for claim in claims for route in claim.routes}
        for key in self._known.keys() - keys:
            del self._known[key]
        self._doubtful &= keys
        self._served &= keys
        for route_key in self._wrote.keys() - {key for _, key in keys}:
            del self._wrote[route_key]

    def _is_on_record(self, claim: Claim, route: ClaimedRoute) -> bool:
        """Whether an earlier look, maybe of an earlier agent, was sure that another writer has the route."""
        key = (claim.attachment, route.key)
        return route.state is State.SUPERSEDED and key not in self._doubtful

    def _is_doubtful(self, claimant: Claimant, observation: Observation, now: float) -> bool:
        """Whether an answer may be older than our own write of the route."""
        route, earlier = claimant.route, claimant.claim.last_write_at
        if not route.held_since and (claimant.claim.attachment, route.key) not in self._served:
            return self._world.clock() - observation.since < JOINED_SECONDS  # no ADD has written it
        wrote = self._wrote.get(route.key, earlier if earlier <= self._began else 0.0)
        return now - max(route.held_since, wrote) < STALE_SECONDS

    def _end(self, key: Key, claimant: Claimant, known: OpenOutage | None) -> None:
        self._doubtful.discard(key)
        self._served.add(key)
        if known is None:
            return
        del self._known[key]
        claim, route_key = claimant.claim, key[1]
        self._world.log(
            f"{claim.attachment}: held: {route_key} leads to {claim.eni} again",
            event="held",
            target=claim.eni,
            **claim.subject(route_key),
        )

    def _tell(
        self,
        key: Key,
        claimant: Claimant,
        observation: Observation,
        known: OpenOutage | None,
        outage: OpenOutage,
    ) -> None:
        """Log an outage that begins or changes. ``keeper.look`` logs that of a whole claim."""
        if known and (known.outage, known.report) == (outage.outage, outage.report):
            return
        new = known is None or known.outage is not outage.outage
        if (
            outage.outage is Outage.SUPERSEDED
            and new
            and not self._is_on_record(claimant.claim, claimant.route)
        ):
            self._counts.superseded_live()
        self._doubtful.discard(key)
        if outage.outage is Outage.CUT_OFF:
            return
        claim, route_key = claimant.claim, key[1]
        self._world.log(
            f"{claim.attachment}: {outage.outage}: {route_key} leads to {observation.target or 'nothing'}"
            + (f": {outage.report}" if outage.report else ""),
            "warning",
            event=outage.outage.value,
            target=str(observation.target or ""),
            **claim.subject(route_key),
        )


@dataclass(frozen=True, slots=True)
class ClaimedAddress:
    """One address of a pod, or a destination that holds no address of it. ``outages``: by table, if any."""

    name: str
    claim: Claim
    tables: tuple[str, ...]
    outages: Mapping[str, Outage]


def addresses_of(claim: Claim, outage: Judgement) -> list[ClaimedAddress]:
    """Return the addresses of a live claim. An address is served where no route of it has an outage.

    An address belongs to the narrowest destination that holds it: its own, or its subnet's.
    """
    routes: dict[Network, list[ClaimedRoute]] = {}
    for route in claim.routes:
        if route.state.settled:
            routes.setdefault(route.key.destination, []).append(route)
    by_width = sorted(routes, key=lambda net: net.prefixlen, reverse=True)
    named: dict[Network, list[str]] = {net: [] for net in routes}
    for item in dict.fromkeys(address.ip for address in (*claim.addresses, *claim.watched)):
        narrowest = next((net for net in by_width if item in net), None)
        if narrowest is not None:
            named[narrowest].append(str(item))
    addresses = []
    for net, names in named.items():
        tables = tuple(route.key.table for route in routes[net])
        suffered = {route.key.table: why for route in routes[net] if (why := outage(claim, route))}
        addresses += [ClaimedAddress(name, claim, tables, suffered) for name in names or [str(net)]]
    return addresses
