"""The document of ``floatipctl status``: the agent, its claims, and where each of their routes leads.

One JSON document, made from memory: neither EC2 nor the disk is asked.
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
from ...model.values import Attachment, Node, RouteKey
from ...rules.reconcile import Outage
from .outages import ClaimedAddress, Judgement, addresses_of

VERSION = 1
"""The version of the document. A reader ignores what it does not know of a newer one."""


class RouteReport(Protocol):
    """What this agent's last look at a route key showed: where its route led (None or "": there was none).

    ``at`` is 0 if this agent has not looked. ``since`` is when its looks first showed the same; ``error``
    says why the last look or repair failed, or "".
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
    """What a live pod lacks of the network that ADD made, and since when (seconds since the epoch)."""

    @property
    def what(self) -> Sequence[str]: ...
    @property
    def since(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Facts:
    """The agent itself. Times are seconds since the epoch; ``problems`` are those of ``/readyz``.

    ``warnings`` need a person, and do not keep pods away. ``waiting`` are the files of the ``spooled`` DELs.
    ``elections`` are the groups with pods here; None where there are no elections.
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
    elections: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class KeeperLooks:
    """The results of looks: where routes lead, and what pods lack of the network that ADD made.

    ``outage`` says why a route of a claim does not serve it.
    """

    reports: Mapping[RouteKey, RouteReport]
    outage: Judgement
    lost: Mapping[Attachment, Lost] = field(default_factory=dict)


def document(
    facts: Facts,
    claims: Sequence[Claim],
    records: Sequence[Problem],
    probe: KeeperLooks,
    *,
    now: float,
) -> dict[str, Any]:
    """Return the document.

    ``records`` are claim files that cannot be read. All times, also those of ``probe``, are seconds since
    the epoch.
    """
    addresses = {claim.attachment: addresses_of(claim, probe.outage) for claim in claims}
    unserved = {
        who: [address for address in addresses if address.outages] for who, addresses in addresses.items()
    }
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
            _claim(claim, probe)
            | {
                "unserved": [_unserved(address) for address in unserved[claim.attachment]],
                "spooled": files_of(claim, facts.waiting),
            }
            for claim in claims
        ],
        "records": [
            {"path": str(problem.path), "reason": problem.reason, "moved": problem.moved}
            for problem in records
        ],
        **({} if facts.elections is None else {"elections": list(facts.elections)}),
    }


def beyond_limits(claims: Iterable[Claim], limits: Limits) -> Iterator[str]:
    """Yield the live claims that have more than an ADD may claim now: they stay until their pods end."""
    for claim in claims:
        count = len(claim.addresses) + (claim.config.listed if claim.config else 0)
        if claim.live and count > limits.destinations:
            yield (
                f"{claim.attachment} of {claim.pod} has {count} destinations, and limits.destinations is"
                f" {limits.destinations}: the claim stays, but an ADD with as many is refused"
            )


def by_state(claims: Iterable[Claim]) -> Mapping[str, int]:
    """Return how many claims are in each state, for ``Recorder.claims``."""
    return collections.Counter(claim.state.value for claim in claims)


def routes_by_state(claims: Iterable[Claim], outage: Judgement) -> Mapping[str, int]:
    """Return how many routes have each outage, and how many others each state, for ``Metrics.routes``."""
    return collections.Counter(
        (outage(claim, route) or route.state).value for claim in claims for route in claim.routes
    )


def served(claims: Iterable[Claim], outage: Judgement) -> list[ClaimedAddress]:
    """Return the addresses of pods that are here, each with the outages of its routes."""
    return [address for claim in claims for address in addresses_of(claim, outage)]


def _claim(claim: Claim, probe: KeeperLooks) -> dict[str, Any]:
    lost, reports = probe.lost.get(claim.attachment), probe.reports
    routes = [(route, probe.outage(claim, route)) for route in claim.routes]
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
        "created": _date(claim.created_at),
        "addresses": [str(address) for address in claim.addresses],
        "watched": [str(address) for address in claim.watched],
        "routesUnknown": claim.lost_record is not None,
        "routes": [_route(route, why, reports.get(route.key)) for route, why in routes],
    }


def _unserved(address: ClaimedAddress) -> dict[str, Any]:
    return {"address": address.name, "tables": dict(address.outages), "of": len(address.tables)}


def _route(route: ClaimedRoute, why: Outage | None, observation: RouteReport | None) -> dict[str, Any]:
    gone = route.state is State.GONE  # no claim wants it: what EC2 says of its route key is no trouble
    return {
        "table": route.key.table,
        "destination": str(route.key.destination),
        "account": route.account,
        "state": route.state.value,
        "outage": why.value if why else None,
        "successor": route.successor,
        "notBefore": _date(route.not_before),
        "seen": _seen(route, observation),
        "error": observation.error if observation and not gone else "",
    }


def _seen(route: ClaimedRoute, observation: RouteReport | None) -> dict[str, Any] | None:
    """Return where the route leads: as the last look showed, else as is on record ("at" is null then).

    "since" is on record, because it must outlive the agent; what a full disk kept out of the record is new.
    """
    if observation is None or not observation.at:
        if route.target is None:
            return None
        return {"target": route.target or None, "at": None, "since": _date(route.changed_at)}
    target = str(observation.target or "")
    since = route.changed_at if route.target == target and route.changed_at else observation.since
    return {"target": target or None, "at": _date(observation.at), "since": _date(since)}


def _date(seconds: float) -> str | None:
    if not seconds:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
