"""The explorer bites: a rule of the core that is taken away shows as a violation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.election.explore.configurations import ALL
from tests.election.explore.planted import OPEN, ROWS, Row, changed

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("row", [*ROWS, *OPEN], ids=lambda row: row.name)
def test_edits_apply_once_and_compile(row: Row) -> None:
    assert row.setting in ALL
    for module in {module for module, _, _ in row.edits}:
        compile(changed(row, module), module, "exec")


def shows(row: Row) -> None:
    command = [sys.executable, "-m", "tests.election.explore.planted", row.name]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.one_in(6)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_rule_that_is_off_shows(row: Row) -> None:
    shows(row)
