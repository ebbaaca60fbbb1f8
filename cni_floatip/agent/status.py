"""What the agent tells ``floatipctl status``: itself, its claims, and where each of their routes leads.

One JSON document, made from memory: nobody is asked for it, neither EC2 nor the disk.
"""

from __future__ import annotations

import collections
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from ..claims import Claim, ClaimedRoute
from ..model import Attachment, Node, Place
from ..nodeconf import Limits
from ..store import Problem

VERSION = 1
"""The format of the document. A reader takes what it knows of a newer one."""
CUT_OFF = "cut off"
"""What a live route is whose ENI this node does not have."""


class Sighting(Protocol):
    """What the last look at a place showed: where its route led (None or "": there was none).

    ``since`` when looks have shown the same; ``error`` is why the last look or repair failed, "" for none.
    """

    @property
    def target(self) -> object: ...
    @property
    def at(self) -> float: ...
    @property
    def since(self) -> float: ...
    @property
    def error(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Facts:
    """The agent itself. Times are seconds since the epoch; ``problems`` are those of ``/readyz``.

    ``warnings`` want a person, and do not keep pods away.
    """

    release: str
    pid: int
    since: float
    node: Node | None = None
    name: str = ""
    problems: Sequence[str] = ()
    warnings: Sequence[str] = ()
    spooled: int = 0


def document(
    facts: Facts,
    claims: Sequence[Claim],
    records: Sequence[Problem],
    sightings: Mapping[Place, Sighting],
    cut_off: Collection[Attachment],
    *,
    now: float,
    clock: float,
) -> dict[str, Any]:
    """Return the document.

    ``cut_off`` are the claims whose ENI this node does not have; ``records`` are claim files that cannot be
    read. ``now`` (since the epoch) and ``clock`` are one moment: sightings are dated by ``clock``, which
    does not jump when the date is set.
    """
    offset = now - clock
    return {
        "version": VERSION,
        "time": _date(now),
        "agent": {
            "release": facts.release,
            "pid": facts.pid,
            "since": _date(facts.since),
            "name": facts.name,
            "node": asdict(facts.node) if facts.node else None,
            "ready": not facts.problems,
            "problems": list(facts.problems),
            "warnings": list(facts.warnings),
            "spooled": facts.spooled,
        },
        "claims": [_claim(claim, sightings, cut_off, offset) for claim in claims],
        "records": [
            {"path": str(problem.path), "reason": problem.reason, "moved": problem.moved}
            for problem in records
        ],
    }


def beyond_limits(claims: Iterable[Claim], limits: Limits) -> Iterator[str]:
    """Say which live claims have more than an ADD may claim by now: they stay until their pods end."""
    for claim in claims:
        listed = (claim.config or {}).get("destination")
        count = len(claim.addresses) + (len(listed) if isinstance(listed, list) else 0)
        if claim.live and count > limits.destinations:
            yield (
                f"{claim.attachment} of {claim.pod} has {count} destinations, and limits.destinations is"
                f" {limits.destinations}: it stays, and the next ADD of its like is refused"
            )


def by_state(claims: Iterable[Claim]) -> Mapping[str, int]:
    """Return how many claims are in each state, for ``Counts.claims``."""
    return collections.Counter(claim.state.value for claim in claims)


def routes_by_state(claims: Iterable[Claim], cut_off: Collection[Attachment]) -> Mapping[str, int]:
    """Return how many routes are in each state, and how many ``cut off``, for ``Metrics.routes``."""
    return collections.Counter(
        CUT_OFF if claim.attachment in cut_off and route.state.live else route.state.value
        for claim in claims
        for route in claim.routes
    )


def _claim(
    claim: Claim, sightings: Mapping[Place, Sighting], cut_off: Collection[Attachment], offset: float
) -> dict[str, Any]:
    return {
        "network": claim.attachment.network,
        "containerId": claim.attachment.container,
        "ifname": claim.attachment.ifname,
        "pod": {"namespace": claim.pod.namespace, "name": claim.pod.name, "uid": claim.pod.uid},
        "eni": claim.eni,
        "region": claim.region,
        "netns": claim.netns,
        "state": claim.state.value,
        "cutOff": claim.attachment in cut_off,
        "created": _date(claim.created),
        "addresses": [str(address) for address in claim.addresses],
        "watched": [str(address) for address in claim.watched],
        "routesUnknown": claim.unresolved is not None,
        "routes": [_route(route, sightings.get(route.place), offset) for route in claim.routes],
    }


def _route(route: ClaimedRoute, seen: Sighting | None, offset: float) -> dict[str, Any]:
    return {
        "table": route.place.table,
        "destination": str(route.place.destination),
        "account": route.account,
        "state": route.state.value,
        "successor": route.successor,
        "notBefore": _date(route.after),
        "seen": None
        if seen is None
        else {
            "target": str(seen.target) if seen.target else None,
            "at": _date(seen.at + offset),
            "since": _date(seen.since + offset),
        },
        "error": seen.error if seen else "",
    }


def _date(seconds: float) -> str | None:
    if not seconds:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
