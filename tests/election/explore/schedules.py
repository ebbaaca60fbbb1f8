"""Random schedules: where a system is too large for a search, walks of it, each until it comes to rest.

A walk takes ``length`` steps of any kind, then only the system's own. It says less than a search: it finds
what is likely, its trace is not a shortest one, and "rest" is that nothing is wrong any more and nothing was
written or swapped for as long as the system's longest period.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from tests.election.explore.search import ENDLESS, State, Step


class Walkable(Protocol):
    """A system that can be walked: a step is computed when it is taken."""

    def start(self) -> State:
        """Return the beginning."""

    def sources(self, state: State) -> Iterable[Callable[[], Iterable[Step]]]:
        """Return where the system's own steps come from."""

    def happenings(self, state: State) -> Iterable[Step]:
        """Return the steps of the environment."""

    def judge_rest(self, state: State) -> str | None:
        """Say what is wrong with a state at rest."""


@dataclass(frozen=True)
class Walked:
    """A walk that went wrong: ``seed`` repeats it."""

    seed: int
    what: str
    trace: tuple[str, ...]
    state: State


@dataclass(frozen=True)
class Plan:
    """How long walks are: steps of any kind, then ticks of the system alone, the last ones without cost."""

    length: int = 150
    ticks: int = 40
    quiet: int = 12
    eagerness: float = 0.15
    """The share of steps of the environment among those that are taken while faults may happen."""


class Walk:
    """One walk of a system, by a seed."""

    def __init__(self, system: Walkable, seed: int, plan: Plan) -> None:
        self._system = system
        self._seed = seed
        self._plan = plan
        self._choose = random.Random(seed)  # noqa: S311 - a seed repeats a walk
        self._trace: list[str] = []
        self._state = system.start()
        self._costly = False

    def run(self) -> Walked | None:
        """Walk; return what went wrong, ``None`` for nothing."""
        plan = self._plan
        for _ in range(plan.length):
            foreign = self._choose.random() < plan.eagerness
            if (wrong := self._go(foreign=foreign)) is not None:
                return self._walked(wrong)
        last_cost = ticks = 0
        while ticks < plan.ticks:
            if (wrong := self._go(foreign=False)) is not None:
                return self._walked(wrong)
            ticks += self._trace[-1] == "tick"
            last_cost = ticks if self._costly else last_cost
        if last_cost > plan.ticks - plan.quiet:
            return self._walked(ENDLESS)
        wrong = self._system.judge_rest(self._state)
        return None if wrong is None else self._walked(wrong)

    def _go(self, *, foreign: bool) -> str | None:
        """Take one step; return what is wrong with it."""
        step = self._one(foreign=foreign) or self._one(foreign=False)
        if step is None:
            raise AssertionError(f"no way on from {self._state}")
        self._trace.append(step.label)
        self._costly = step.cost
        self._state = step.after
        return step.wrong

    def _one(self, *, foreign: bool) -> Step | None:
        """Return a step of the environment or of the system, any of them."""
        if foreign:
            steps = list(self._system.happenings(self._state))
            return self._choose.choice(steps) if steps else None
        sources = list(self._system.sources(self._state))
        self._choose.shuffle(sources)
        for source in sources:
            if own := [step for step in source() if step.system]:
                return self._choose.choice(own)
        return None

    def _walked(self, what: str) -> Walked:
        return Walked(self._seed, what, tuple(self._trace), self._state)
