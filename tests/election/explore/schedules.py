"""Random schedules: where a system is too large for a search, walks of it, each until it comes to rest.

A walk takes ``length`` steps of any kind, then only the system's own. It says less than a search: it finds
what is likely, its trace is not a shortest one, and "rest" is that nothing is wrong any more and nothing was
written or swapped for as long as the system's longest period.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.election.explore.search import ENDLESS, State, Step


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

    length: int = 120
    ticks: int = 120
    quiet: int = 40
    eagerness: float = 0.15
    """The share of steps of the environment among those that are taken while faults may happen."""


def walk(
    start: State,
    steps: Callable[[State], Sequence[Step]],
    judge_rest: Callable[[State], str | None],
    seed: int,
    plan: Plan = Plan(),
) -> Walked | None:
    """Walk once; return what went wrong, ``None`` for nothing."""
    choose = random.Random(seed)  # noqa: S311 - a seed repeats a walk
    state, trace = start, []

    def take(step: Step) -> Walked | None:
        nonlocal state
        trace.append(step.label)
        if step.wrong is not None:
            return Walked(seed, step.wrong, tuple(trace), state)
        state = step.after
        return None

    for _ in range(plan.length):
        all_steps = steps(state)
        own = [step for step in all_steps if step.system]
        foreign = [step for step in all_steps if not step.system]
        among = foreign if foreign and (not own or choose.random() < plan.eagerness) else own
        if not among:
            break
        if wrong := take(choose.choice(among)):
            return wrong
    last_cost = ticks = 0
    while ticks < plan.ticks:
        own = [step for step in steps(state) if step.system]
        if not own:
            break
        step = choose.choice(own)
        ticks += step.label == "tick"
        if step.cost:
            last_cost = ticks
        if wrong := take(step):
            return wrong
    if ticks >= plan.ticks and last_cost > plan.ticks - plan.quiet:
        return Walked(seed, ENDLESS, tuple(trace), state)
    if (what := judge_rest(state)) is not None:
        return Walked(seed, what, tuple(trace), state)
    return None
