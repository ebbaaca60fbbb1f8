"""The table of planted mistakes is up to date; ``make mutants`` plants them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants import MUTANTS, ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_place_is_there_once_and_its_tests_exist(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text()
    assert text.count(mutant.there) == 1
    changed = text.replace(mutant.there, mutant.becomes)
    assert changed != text
    if mutant.file.endswith(".py"):
        compile(changed, mutant.file, "exec")
    files = [word.partition("::")[0] for word in mutant.tests.split() if word.startswith("tests/")]
    assert files
    assert all((ROOT / file).exists() for file in files)


def test_no_mistake_is_an_undefined_name(tmp_path: Path) -> None:
    """Any test that comes by notices a NameError, so such a row says nothing of the tests that it names."""
    for mutant in MUTANTS:
        if mutant.file.endswith(".py"):
            changed = (ROOT / mutant.file).read_text().replace(mutant.there, mutant.becomes)
            (tmp_path / f"{mutant.name}.py").write_text(changed)
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "F821"]
    done = subprocess.run([*command, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_names_are_unique() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(names) == len(set(names)) >= 80
