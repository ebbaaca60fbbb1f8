"""Names the cases of a test that ``make test`` runs, where it matters which; else mark it ``one_in``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import pytest
from _pytest.mark import ParameterSet

T = TypeVar("T")


def sampled(test: str, cases: Iterable[T], sample: Sequence[T]) -> list[ParameterSet]:
    """Return every case of ``test`` as a parameter with its own id.

    What is not in ``sample`` is thorough, and the first of ``sample`` stands for it.
    """
    thorough = pytest.mark.thorough(sample=f"{test}[{sample[0]}]")
    cases = list(cases)
    unknown = [case for case in sample if case not in cases]
    assert not unknown, f"{test} has no such case: {unknown}"
    return [pytest.param(case, id=str(case), marks=() if case in sample else thorough) for case in cases]
