"""A row of a bench: what was measured, what was aimed at, and what else there is to say."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Plot:
    """A drawing of numbers of a row.

    ``bars``: each point is a label and a value, each series a colour. ``lines``: each point is a pair of
    numbers, and ``across`` says what the first one is. ``axis`` says what the values are, with their unit.
    A ``log`` scale goes in powers of ten, and needs values above 0.
    """

    kind: Literal["bars", "lines"]
    title: str
    axis: str
    series: Mapping[str, Sequence[tuple[str | float, float]]]
    across: str = ""
    scale: Literal["linear", "log"] = "linear"

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        series = {name: [list(point) for point in points] for name, points in self.series.items()}
        return {
            "kind": self.kind,
            "title": self.title,
            "axis": self.axis,
            "across": self.across,
            "scale": self.scale,
            "series": series,
        }


@dataclass(frozen=True)
class Grid:
    """Numbers of a row that want columns: ``columns`` are the headings, and each of ``rows`` is as long."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | float]]

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"columns": list(self.columns), "rows": [list(row) for row in self.rows]}


@dataclass(frozen=True)
class Figure:
    """One row. ``met`` is None where nothing could be measured, or where there is no ``aim`` ("").

    ``detail`` is for people and machines. ``limit`` says what would keep the row from its aim, one sentence a
    line; readers see it only where the aim is missed.
    """

    row: int
    name: str
    shown: str
    aim: str
    met: bool | None
    detail: Mapping[str, Any] = field(default_factory=dict)
    limit: str = ""
    grid: Grid | None = None
    plots: Sequence[Plot] = ()

    def document(self) -> dict[str, Any]:
        """Return it for JSON (``bench.document`` describes the whole)."""
        return {
            "row": self.row,
            "figure": self.name,
            "value": self.shown,
            "aim": self.aim,
            "met": self.met,
            "limit": self.limit if self.met is False else "",
            "detail": dict(self.detail),
            "grid": self.grid.document() if self.grid else None,
            "plots": [plot.document() for plot in self.plots],
        }

    @property
    def verdict(self) -> str:
        """Whether the aim is met, in words."""
        return verdict(self.aim, self.met)


def verdict(aim: str, met: bool | None) -> str:
    """Return whether an aim is met, in words; "" where there is none."""
    return {True: "met", False: "missed", None: "not measured" if aim else ""}[met]


def say(sentence: str) -> None:
    """Tell how far it is."""
    print(sentence, file=sys.stderr, flush=True)


def table(figures: Sequence[Figure]) -> str:
    """Return the figures for people."""
    rows = [(str(f.row), f.name, f.shown, f.aim, f.verdict) for f in figures]
    head = ("", "figure", "value", "aim", "")
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(5)]
    lines = [_aligned(row, widths) for row in (head, *rows)]
    for f in figures:
        lines.append("")
        lines.append(f"{f.row}. {f.name}")
        lines.extend(f"   {name}: {text(value)}" for name, value in f.detail.items())
        if f.grid:
            cells = [[text(cell) for cell in row] for row in (f.grid.columns, *f.grid.rows)]
            wide = [max(len(row[column]) for row in cells) for column in range(len(f.grid.columns))]
            lines.extend(f"   {_aligned(row, wide)}" for row in cells)
        if f.limit and f.met is False:
            lines.append(f"   limit: {f.limit}")
    return "\n".join(lines)


def text(value: Any) -> str:
    """Return a value of ``detail``, or of a grid, for people."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {text(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(text(item) for item in value)
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
