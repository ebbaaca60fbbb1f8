"""What the agent tells ``floatipctl status``: itself, its claims, and where each of their routes leads.

One JSON document, made from memory: nobody is asked for it, neither EC2 nor the disk.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from ...config.nodeconf import Limits
from ...edges.spool import Owner, files_of
from ...edges.store import Problem
from ...model.claim import Claim
from ...model.claim_state import ClaimedRoute, State
from ...model.values import Attachment, Node, Place
from ...rules.reconcile import Outage
from .outages import Address, Judgement, addresses_of

VERSION = 1
"""The format of the document. A reader takes what it knows of a newer one."""


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


class Lost(Protocol):
    """What a live pod lacks of what ADD gave it, and since when (seconds since the epoch)."""

    @property
    def what(self) -> Sequence[str]: ...
    @property
    def since(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Facts:
    """The agent itself. Times are seconds since the epoch; ``problems`` are those of ``/readyz``.

    ``warnings`` want a person, and do not keep pods away. ``waiting`` are the files of the ``spooled`` DELs.
    """

    release: str
    pid: int
    since: float
    node: Node | None = None
    name: str = ""
    problems: Sequence[str] = ()
    warnings: Sequence[str] = ()
    spooled: int = 0
    waiting: Mapping[Owner, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Looks:
    """What looks have shown: where routes lead, and what pods lack of what ADD gave them.

    ``outage`` says which routes of a claim serve nobody.
    """

    sightings: Mapping[Place, Sighting]
    outage: Judgement
    lost: Mapping[Attachment, Lost] = field(default_factory=dict)


def document(
    facts: Facts,
    claims: Sequence[Claim],
    records: Sequence[Problem],
    looks: Looks,
    *,
    now: float,
) -> dict[str, Any]:
    """Return the document.

    ``records`` are claim files that cannot be read. All times, also those of ``looks``, are seconds since
    the epoch.
    """
    addresses = {claim.attachment: addresses_of(claim, looks.outage) for claim in claims}
    unserved = {who: [each for each in found if each.outages] for who, found in addresses.items()}
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
            "addresses": sum(map(len, addresses.values())),
            "unserved": sum(map(len, unserved.values())),
        },
        "claims": [
            _claim(claim, looks)
            | {
                "unserved": [_unserved(each) for each in unserved[claim.attachment]],
                "spooled": files_of(claim, facts.waiting),
            }
            for claim in claims
        ],
        "records": [
            {"path": str(problem.path), "reason": problem.reason, "moved": problem.moved}
            for problem in records
        ],
    }


def beyond_limits(claims: Iterable[Claim], limits: Limits) -> Iterator[str]:
    """Say which live claims have more than an ADD may claim by now: they stay until their pods end."""
    for claim in claims:
        count = len(claim.addresses) + (claim.config.listed if claim.config else 0)
        if claim.live and count > limits.destinations:
            yield (
                f"{claim.attachment} of {claim.pod} has {count} destinations, and limits.destinations is"
                f" {limits.destinations}: the claim stays, but an ADD with as many is refused"
            )


def by_state(claims: Iterable[Claim]) -> Mapping[str, int]:
    """Return how many claims are in each state, for ``Counts.claims``."""
    return collections.Counter(claim.state.value for claim in claims)


def routes_by_state(claims: Iterable[Claim], outage: Judgement) -> Mapping[str, int]:
    """Return how many routes have each outage, and how many others each state, for ``Metrics.routes``."""
    return collections.Counter(
        (outage(claim, route) or route.state).value for claim in claims for route in claim.routes
    )


def served(claims: Iterable[Claim], outage: Judgement) -> list[Address]:
    """Return the addresses of pods that are here, each with what keeps it from being served."""
    return [address for claim in claims for address in addresses_of(claim, outage)]


def _claim(claim: Claim, looks: Looks) -> dict[str, Any]:
    lost, seen = looks.lost.get(claim.attachment), looks.sightings
    routes = [(route, looks.outage(claim, route)) for route in claim.routes]
    return {
        "network": claim.attachment.network,
        "containerId": claim.attachment.container,
        "ifname": claim.attachment.ifname,
        "pod": {"namespace": claim.pod.namespace, "name": claim.pod.name, "uid": claim.pod.uid},
        "eni": claim.eni,
        "region": claim.region,
        "netns": claim.netns,
        "state": claim.state.value,
        "cutOff": any(why is Outage.CUT_OFF for _, why in routes),
        "podLost": {"what": list(lost.what), "since": _date(lost.since)} if lost else None,
        "created": _date(claim.created),
        "addresses": [str(address) for address in claim.addresses],
        "watched": [str(address) for address in claim.watched],
        "routesUnknown": claim.unresolved is not None,
        "routes": [_route(route, why, seen.get(route.place)) for route, why in routes],
    }


def _unserved(address: Address) -> dict[str, Any]:
    return {"address": address.name, "tables": dict(address.outages), "of": len(address.tables)}


def _route(route: ClaimedRoute, why: Outage | None, seen: Sighting | None) -> dict[str, Any]:
    gone = route.state is State.GONE  # nobody wants it: what EC2 says of its place is no trouble
    return {
        "table": route.place.table,
        "destination": str(route.place.destination),
        "account": route.account,
        "state": route.state.value,
        "outage": why.value if why else None,
        "successor": route.successor,
        "notBefore": _date(route.after),
        "seen": None
        if seen is None
        else {
            "target": str(seen.target) if seen.target else None,
            "at": _date(seen.at),
            "since": _date(seen.since),
        },
        "error": seen.error if seen and not gone else "",
    }


def _date(seconds: float) -> str | None:
    if not seconds:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
