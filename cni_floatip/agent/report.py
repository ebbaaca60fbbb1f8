"""Reports the agent's state: for STATUS, for the metrics page, and for ``floatipctl status``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..model.claim import Claim
from .keeper.loop import Keeper
from .observe import status
from .observe.metrics import Metrics

if TYPE_CHECKING:
    from .main import Agent

SHOWN = 3
"""How many broken routes an answer to STATUS names."""


class Report:
    """Combines the state of the agent's parts."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def not_ready(self) -> str | None:
        """Return why this node should get no more pods."""
        return " | ".join(self._agent.health.problems()) or None

    def broken(self) -> str | None:
        """Say which routes of pods that are here lead elsewhere, or nowhere, as looks have shown."""
        keeper = self._agent.keeper
        reports = keeper.route_reports()
        results = [
            f"{route.key} leads to {reports[route.key].target or 'nothing'}"
            for claim in self._agent.claims.all()[0]
            for route in claim.routes
            if route.key in reports and keeper.outage(claim, route)
        ]
        more = f" and {len(results) - SHOWN} more" if len(results) > SHOWN else ""
        return ", ".join(results[:SHOWN]) + more or None

    def show(self) -> None:
        """Bring the gauges up to date."""
        agent = self._agent
        show(agent.metrics, agent.keeper, agent.claims.all()[0])
        agent.metrics.ready(not agent.health.problems())
        agent.metrics.unguarded(len(agent.guard.problems))
        agent.metrics.incomplete_pods(len(agent.pods.lost()))
        if agent.elections:
            agent.metrics.groups(*agent.elections.summary())

    def status(self) -> Mapping[str, Any]:
        """Return the document of ``floatipctl status``."""
        agent = self._agent
        claims, records = agent.claims.all()
        facts = status.Facts(
            release=__version__,
            pid=os.getpid(),
            since=agent.since,
            node=agent.preparation.node,
            name=os.environ.get("NODE_NAME", ""),
            problems=agent.health.problems(),
            warnings=[
                *(f"ENI {mac}: {problem}" for mac, problem in agent.guard.problems.items()),
                *(f"ENI {mac}: {use}" for mac, use in agent.guard.uses.items()),
                *status.beyond_limits(claims, agent.policy.limits),
            ],
            spooled=agent.spool.length(),
            waiting=agent.spool.waiting(),
            elections=agent.elections.status() if agent.elections else None,
        )
        probe = status.KeeperLooks(agent.keeper.route_reports(), agent.keeper.outage, agent.pods.lost())
        return status.document(facts, claims, records, probe, now=agent.world.now())


def show(metrics: Metrics, keeper: Keeper, claims: Sequence[Claim]) -> None:
    """Set the gauges of ``claims``."""
    metrics.claims(status.by_state(claims))
    metrics.routes(status.routes_by_state(claims, keeper.outage))
    metrics.addresses(status.served(claims, keeper.outage))
    metrics.looked(keeper.last_look())
