"""The table of planted mistakes is up to date; ``make mutants`` plants them."""

import pytest

from tests.mutants import MUTANTS, ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_place_is_there_once_and_its_tests_exist(mutant):
    text = (ROOT / "cni_floatip" / f"{mutant.module}.py").read_text()
    assert text.count(mutant.there) == 1
    changed = text.replace(mutant.there, mutant.becomes)
    assert changed != text
    compile(changed, mutant.module, "exec")
    assert all((ROOT / test.partition("::")[0]).exists() for test in mutant.tests.split())


def test_names_are_unique():
    names = [mutant.name for mutant in MUTANTS]
    assert len(names) == len(set(names)) >= 80
