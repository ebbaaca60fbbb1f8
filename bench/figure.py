"""A row of the table: what was measured, what was aimed at, and what else there is to say."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One row. ``met`` is None where nothing could be measured; ``detail`` is for people and machines."""

    row: int
    name: str
    shown: str
    aim: str
    met: bool | None
    detail: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return {
            "row": self.row,
            "figure": self.name,
            "value": self.shown,
            "aim": self.aim,
            "met": self.met,
            "detail": dict(self.detail),
        }


def say(sentence: str) -> None:
    """Tell how far it is."""
    print(sentence, file=sys.stderr, flush=True)


def table(figures: list[Figure]) -> str:
    """Return the figures for people."""
    words = {True: "met", False: "missed", None: "not measured"}
    rows = [(str(f.row), f.name, f.shown, f.aim, words[f.met]) for f in figures]
    head = ("", "figure", "value", "aim", "")
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(5)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    for f in figures:
        lines.append("")
        lines.append(f"{f.row}. {f.name}")
        lines.extend(f"   {name}: {_shown(value)}" for name, value in f.detail.items())
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.items())
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
