"""Names the cases of a test that ``make test`` runs, where it matters which; else mark it ``one_in``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from _pytest.mark import ParameterSet


def sampled(test: str, cases: Iterable[str], sample: Sequence[str]) -> list[ParameterSet]:
    """Return every case of ``test`` as a parameter with its own id.

    What is not in ``sample`` is thorough, and the first of ``sample`` stands for it.
    """
    thorough = pytest.mark.thorough(sample=f"{test}[{sample[0]}]")
    cases = list(cases)
    assert set(sample) <= set(cases), f"{test} has no such case: {set(sample) - set(cases)}"
    return [pytest.param(case, id=str(case), marks=() if case in sample else thorough) for case in cases]
