"""Rules taken away: each row breaks one rule of the core, and names the setting in which that must show.

A process plants a row before it imports the core, so nothing on disk changes:
``python -m tests.election.explore.planted NAME`` explores the row's setting until the first violation, and
prints it. Exit status 1: a violation, as it should be; 0: none, so the explorer is blind for the rule.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

PACKAGE = Path(__file__).parents[3] / "cni_floatip" / "election"


@dataclass(frozen=True)
class Row:
    """One rule off. ``there`` is in ``module`` exactly once. ``shows``: how the violation begins."""

    name: str
    module: str
    there: str
    becomes: str
    setting: str
    shows: str


ROWS: tuple[Row, ...] = ()


class Planted(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module of the core with a rule taken away."""

    def __init__(self, row: Row) -> None:
        self._row = row
        self._name = f"cni_floatip.election.{row.module}"

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Claim the row's module."""
        if fullname != self._name:
            return None
        return importlib.util.spec_from_loader(fullname, self, origin=str(PACKAGE / f"{self._row.module}.py"))

    def exec_module(self, module: ModuleType) -> None:
        """Run the changed text."""
        text = (PACKAGE / f"{self._row.module}.py").read_text()
        if text.count(self._row.there) != 1:
            raise ValueError(
                f"{self._row.name}: the text is {text.count(self._row.there)} times in the module"
            )
        code = compile(text.replace(self._row.there, self._row.becomes), f"{self._row.module}.py", "exec")
        exec(code, module.__dict__)  # noqa: S102 - the core with a rule taken away


def main(name: str, seconds: float = 120.0) -> int:
    """Explore a row's setting with its rule off; return whether a violation showed."""
    row = next(row for row in ROWS if row.name == name)
    sys.meta_path.insert(0, Planted(row))
    from tests.election.explore.configurations import ALL
    from tests.election.explore.exploration import Exploration
    from tests.election.explore.search import Bounds

    outcome = Exploration(ALL[row.setting]).search(Bounds(seconds=seconds), stop_at=row.shows)
    print(f"{row.name} in {row.setting}: {outcome}", *outcome.violations, sep="\n")  # noqa: T201
    return int(any(violation.what.startswith(row.shows) for violation in outcome.violations))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
