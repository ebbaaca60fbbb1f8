"""Liveness (``/healthz``) and readiness (``/readyz``), each as a list of problems.

The liveness answer takes no lock and asks no edge, because an agent that waits for AWS must not be restarted
for it. A problem is a sentence; each source of problems is a callable that returns one, or None.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from ...config.nodeconf import NodeConf, SocketAddress
from .http_server import Answer, Page

Problem = Callable[[], str | None]


class Milestone:
    """Something that must have happened once: a problem until it has."""

    def __init__(self, problem: str) -> None:
        self._problem: str | None = problem

    def because(self, problem: str) -> None:
        """Say why it has not happened yet."""
        self._problem = problem

    def reach(self) -> None:
        """Note that it has happened: there is no problem from now on."""
        self._problem = None

    def __call__(self) -> str | None:
        """Return the problem, or None."""
        return self._problem


class Heartbeat:
    """A loop that must come round: a problem when it has not for ``seconds``."""

    def __init__(self, name: str, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._seconds = seconds
        self._clock = clock
        self._last = clock()

    def beat(self) -> None:
        """Note that the loop has come round."""
        self._last = self._clock()

    def __call__(self) -> str | None:
        """Return the problem, or None."""
        gone = self._clock() - self._last
        return f"{self._name} has made no progress for {gone:.0f} s" if gone > self._seconds else None


class Health:
    """This agent's problems now. Both lists may grow while it starts."""

    def __init__(self, alive: Iterable[Problem] = (), ready: Iterable[Problem] = ()) -> None:
        self.alive = list(alive)
        self.ready = list(ready)

    def fatal_problems(self) -> list[str]:
        """Return the problems that only a restart mends."""
        return _texts(self.alive)

    def problems(self) -> list[str]:
        """Return why the agent is not ready, fatal problems first."""
        return list(dict.fromkeys(_texts([*self.alive, *self.ready])))  # some problems are in both

    def healthz(self) -> Answer:
        """Return the page of the liveness probe."""
        return _page(self.fatal_problems())

    def readyz(self) -> Answer:
        """Return the page of the readiness probe."""
        return _page(self.problems())


def pages(policy: NodeConf, health: Health, metrics: Page) -> dict[SocketAddress, dict[str, Page]]:
    """Return the pages of each address, for ``Pages``: an address may be unset, or serve both."""
    wanted: tuple[tuple[SocketAddress | None, Mapping[str, Page]], ...] = (
        (policy.metrics_address, {"/metrics": metrics}),
        (policy.health_address, {"/healthz": health.healthz, "/readyz": health.readyz}),
    )
    results: dict[SocketAddress, dict[str, Page]] = {}
    for address, here in wanted:
        if address is not None:
            results.setdefault(address, {}).update(here)
    return results


def _texts(problems: Iterable[Problem]) -> list[str]:
    return [text for problem in problems if (text := _ask(problem))]


def _ask(problem: Problem) -> str | None:
    try:
        return problem()
    except Exception as e:  # noqa: BLE001 (a source of problems that fails is a problem)
        return f"{type(e).__name__}: {e}"


def _page(problems: list[str]) -> Answer:
    text = "".join(f"{problem}\n" for problem in problems) or "ok\n"
    return Answer(503 if problems else 200, text.encode(errors="replace"))
