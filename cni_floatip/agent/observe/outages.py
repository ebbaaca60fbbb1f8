"""Which addresses of this node's pods are not served, route by route, and since when the log says so.

``rules.reconcile`` judges what a look shows. Here is what is known from all looks: status, metrics and STATUS
answer from it, and the log gets one line when an outage begins, changes or ends. Only the keeper changes it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...model.claim import Claim
from ...model.claim_state import ClaimedRoute, State
from ...model.values import Attachment, Network, Place
from ...operations.world import World
from ...rules.reconcile import STALE_SECONDS, Outage, Sighting, Stake, Verdict
from .recorder import Counts

JOINED_SECONDS = 60.0
"""How long a table that the claim has just joined may be without its route: nobody has written it yet."""

Key = tuple[Attachment, Place]
Judgement = Callable[[Claim, ClaimedRoute], Outage | None]
"""Says why a route does not serve its claim, None for nothing that is known: ``Keeper.outage``."""


@dataclass(frozen=True, slots=True)
class Known:
    """One outage: the last look that showed it was at ``at`` (since the epoch)."""

    outage: Outage
    report: str
    at: float


class Outages:
    """Remembers outages and says them."""

    def __init__(self, world: World, counts: Counts) -> None:
        self._world = world
        self._counts = counts
        self._began = world.now()
        self._known: dict[Key, Known] = {}
        self._doubtful: set[Key] = set()
        self._served: set[Key] = set()
        self._wrote: dict[Place, float] = {}

    def of(
        self,
        claim: Claim,
        route: ClaimedRoute,
        cut_off: Collection[Attachment],
        checked: Collection[str],
    ) -> Outage | None:
        """Return why ``route`` does not serve its claim, as far as looks have shown; None: nothing says so.

        ``checked`` are the ENIs whose source/dest check is on. An ADD that is under way, and what has ended,
        is nobody's address yet or any more.
        """
        if not route.state.settled:
            return None
        if claim.attachment in cut_off:
            return Outage.CUT_OFF
        known = self._known.get((claim.attachment, route.place))
        if known and known.at >= route.since:
            return known.outage
        if known is None and self._is_on_record(claim, route):
            return Outage.SUPERSEDED
        return Outage.CHECKED if claim.eni in checked else None

    def look(self, place: Place, stakes: Sequence[Stake], seen: Sighting, verdict: Verdict) -> None:
        """Learn what a look showed. ``stakes`` are as they were before it; nothing judged changes nothing."""
        if verdict.outages is None:
            return
        now = self._world.now()
        for stake in stakes:
            key = (stake.claim.attachment, place)
            known = self._known.get(key)
            if known and (not stake.live or known.at < stake.route.since):  # an ADD has written since
                del self._known[key]
                known = None
            if not stake.live:
                continue
            outage = verdict.outages.get(stake.claim.attachment)
            if outage is None:
                self._end(key, stake, known)
            elif not known and self._is_doubtful(stake, seen, now):
                self._doubtful.add(key)
            else:
                found = Known(outage, verdict.reports.get(stake.claim.attachment, ""), now)
                self._known[key] = found
                self._tell(key, stake, seen, known, found)

    def wrote(self, place: Place, who: Attachment) -> None:
        """Learn that this node has created the route: what is read within moments may be older."""
        self._wrote[place] = self._world.now()
        self._known.pop((who, place), None)

    def forget(self, claims: Iterable[Claim]) -> None:
        """Keep nothing about what is in none of ``claims``."""
        keys = {(claim.attachment, route.place) for claim in claims for route in claim.routes}
        for key in self._known.keys() - keys:
            del self._known[key]
        self._doubtful &= keys
        self._served &= keys
        for place in self._wrote.keys() - {place for _, place in keys}:
            del self._wrote[place]

    def _is_on_record(self, claim: Claim, route: ClaimedRoute) -> bool:
        """Whether an earlier look, perhaps of an earlier agent, was sure that another writer has it."""
        key = (claim.attachment, route.place)
        return route.state is State.SUPERSEDED and key not in self._doubtful

    def _is_doubtful(self, stake: Stake, seen: Sighting, now: float) -> bool:
        """Whether an answer may be older than our own write of the route."""
        route, earlier = stake.route, stake.claim.written
        if not route.since and (stake.claim.attachment, route.place) not in self._served:
            return self._world.clock() - seen.since < JOINED_SECONDS  # no ADD has written it
        wrote = self._wrote.get(route.place, earlier if earlier <= self._began else 0.0)
        return now - max(route.since, wrote) < STALE_SECONDS

    def _end(self, key: Key, stake: Stake, known: Known | None) -> None:
        self._doubtful.discard(key)
        self._served.add(key)
        if known is None:
            return
        del self._known[key]
        claim, place = stake.claim, key[1]
        self._world.log(
            f"{claim.attachment}: held: {place} leads to {claim.eni} again",
            event="held",
            target=claim.eni,
            **claim.subject(place),
        )

    def _tell(self, key: Key, stake: Stake, seen: Sighting, known: Known | None, found: Known) -> None:
        """Say an outage when it begins or becomes another. ``keeper.repair`` says that of a whole claim."""
        if known and (known.outage, known.report) == (found.outage, found.report):
            return
        new = known is None or known.outage is not found.outage
        if found.outage is Outage.SUPERSEDED and new and not self._is_on_record(stake.claim, stake.route):
            self._counts.superseded_live()
        self._doubtful.discard(key)
        if found.outage is Outage.CUT_OFF:
            return
        claim, place = stake.claim, key[1]
        self._world.log(
            f"{claim.attachment}: {found.outage}: {place} leads to {seen.target or 'nothing'}"
            + (f": {found.report}" if found.report else ""),
            "warning",
            event=found.outage.value,
            target=str(seen.target or ""),
            **claim.subject(place),
        )


@dataclass(frozen=True, slots=True)
class Address:
    """One address of a pod, or a destination that holds none of its own. ``outages``: by table, if any."""

    name: str
    claim: Claim
    tables: tuple[str, ...]
    outages: Mapping[str, Outage]


def addresses_of(claim: Claim, outage: Judgement) -> list[Address]:
    """Return what the live claim is to be reached by. It is served where no route of it has an outage.

    An address belongs to the narrowest destination that holds it: its own, or its subnet's.
    """
    routes: dict[Network, list[ClaimedRoute]] = {}
    for route in claim.routes:
        if route.state.settled:
            routes.setdefault(route.place.destination, []).append(route)
    by_width = sorted(routes, key=lambda net: net.prefixlen, reverse=True)
    named: dict[Network, list[str]] = {net: [] for net in routes}
    for each in dict.fromkeys(address.ip for address in (*claim.addresses, *claim.watched)):
        narrowest = next((net for net in by_width if each in net), None)
        if narrowest is not None:
            named[narrowest].append(str(each))
    found = []
    for net, names in named.items():
        tables = tuple(route.place.table for route in routes[net])
        suffered = {route.place.table: why for route in routes[net] if (why := outage(claim, route))}
        found += [Address(name, claim, tables, suffered) for name in names or [str(net)]]
    return found
