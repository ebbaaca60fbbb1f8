"""Agents that the explorer does not tell apart behave alike: both forms are walked side by side."""

from __future__ import annotations

import random

import pytest

from tests.election.explore.configurations import WALKS
from tests.election.explore.exploration import Exploration
from tests.election.explore.search import Step


def labels(steps: list[Step]) -> list[str]:
    return [step.label for step in steps]


@pytest.mark.parametrize("seed", range(1))
@pytest.mark.parametrize("name", WALKS)
def test_both_forms_have_the_same_steps(name: str, seed: int) -> None:
    """Walk a hundred steps; with the exact form every moment is kept as it was."""
    choose = random.Random(seed)  # noqa: S311 - a seed repeats a walk
    short, exact = Exploration(WALKS[name]), Exploration(WALKS[name], exact=True)
    here, there = short.start(), exact.start()
    trace: list[str] = []
    for _ in range(100):
        steps, others = list(short.steps(here)), list(exact.steps(there))
        assert labels(steps) == labels(others), trace
        own = [number for number, step in enumerate(steps) if step.system]
        foreign = [number for number, step in enumerate(steps) if not step.system]
        number = choose.choice(foreign if foreign and choose.random() < 0.1 else own)
        trace.append(steps[number].label)
        here, there = steps[number].after, others[number].after  # type: ignore[assignment]
