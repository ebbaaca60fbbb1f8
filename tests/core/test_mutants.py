"""The table of planted mistakes is up to date; ``make mutants`` plants them."""

from __future__ import annotations

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


def test_names_are_unique() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(names) == len(set(names)) >= 80
