"""The core of elections in every order of events, within a budget of one fault or two: P1 to P9 hold.

``make explore`` goes on to every pair of faults, three nodes, and random schedules.
"""

from __future__ import annotations

import math
from dataclasses import fields

import pytest

from cni_floatip.election.timing import Timing
from tests.election.explore.__main__ import main
from tests.election.explore.configurations import ALL, SINGLE, WALKS
from tests.election.explore.exploration import Exploration
from tests.election.explore.schedules import Plan, Walk
from tests.election.explore.search import Bounds
from tests.election.explore.setting import DURATIONS

BOUNDS = Bounds(states=60_000, seconds=math.inf)
"""By states alone: a busy machine has fewer in a second."""
SMALL = (
    "none",
    "death",
    "api",
    "stall",
    "late",
    "lost",
    "unready",
    "term",
    "force",
    "ec2",
    "cordon",
    "unlease",
)


def test_every_duration_is_shrunk() -> None:
    assert [field.name for field in fields(Timing)] == list(DURATIONS)


def clean(name: str) -> None:
    outcome = Exploration(ALL[name]).search(BOUNDS)
    assert not outcome.violations, "\n".join(map(str, outcome.violations))
    assert outcome.complete, outcome


@pytest.mark.parametrize("name", SMALL)
def test_rules_hold(name: str) -> None:
    clean(name)


@pytest.mark.thorough(sample="test_rules_hold[term]")
@pytest.mark.parametrize("name", [name for name in SINGLE if name != "boot"])  # which has more states
def test_rules_hold_for_each_fault(name: str) -> None:
    clean(name)


@pytest.mark.parametrize("name", WALKS)
def test_rules_hold_on_random_ways(name: str) -> None:
    exploration = Exploration(WALKS[name])
    for seed in range(2):
        wrong = Walk(exploration, seed, Plan(length=60, ticks=30)).run()
        assert wrong is None, f"{wrong.what}, seed {seed}: {' '.join(wrong.trace)}"


def test_exit_status_tells_what_a_run_is_worth(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["none", "--jobs", "1"]) == 0
    assert "none: 9 states (complete)" in capsys.readouterr().out
    assert main(["short Lease", "--jobs", "1"]) == 1
    assert "VIOLATION P3" in capsys.readouterr().out
    assert main(["crash", "--jobs", "1", "--states", "100"]) == 3
    with pytest.raises(SystemExit, match="2"):
        main(["nothing of that name"])
    assert "no configuration" in capsys.readouterr().err
