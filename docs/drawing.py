"""Draw the numbers of a bench as SVG, with the standard library alone and always to the same bytes.

Each drawing has a ground and colours of its own for a light and for a dark reader, title, axis and unit, and
the numbers again as text for those who do not see it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape, quoteattr

WIDTH, MARGIN, CHARACTER, LINE = 760, 16, 7.0, 20
HEAD, FOOT = 40, 46
BAR, BETWEEN = 18, 12
PLOT_HEIGHT = 260
LIGHT = ("#ffffff", "#1f2328", "#d1d9e0", "#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#57606a")
DARK = ("#0d1117", "#f0f6fc", "#3d444d", "#4493f8", "#f0883e", "#3fb950", "#ab7df8", "#db61a2", "#9198a1")
"""Ground, text, lines of the grid, then a colour for each series."""
SERIES = len(LIGHT) - 3
MARKS = ("circle", "square")

Point = tuple[Any, float]


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps the values of an axis to pixels, from ``begin`` to ``end``."""

    ticks: Sequence[float]
    begin: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self._of(self.ticks[0]), self._of(self.ticks[-1])
        return self.begin + (self._of(value) - low) / (high - low) * (self.end - self.begin)

    def _of(self, value: float) -> float:
        return math.log10(value) if self.log else value


def drawing(plot: Mapping[str, Any]) -> str:
    """Return the SVG of one ``Plot.document``. Raises ValueError for one that cannot be drawn."""
    series: dict[str, list[Point]] = {
        name: [(first, float(value)) for first, value in points] for name, points in plot["series"].items()
    }
    if not series or not all(series.values()):
        raise ValueError(f"{plot['title']}: nothing to draw")
    if len(series) > SERIES:
        raise ValueError(f"{plot['title']}: {len(series)} series, and {SERIES} colours")
    if plot["scale"] == "log" and min(value for points in series.values() for _, value in points) <= 0:
        raise ValueError(f"{plot['title']}: a log scale has no place for 0")
    draw: Callable[[Mapping[str, Any], Mapping[str, list[Point]]], tuple[list[str], float]]
    draw = {"bars": _bars, "lines": _lines}[plot["kind"]]
    body, height = draw(plot, series)
    title = plot["title"]
    label = f"{title}: {plot['axis']}" + (f" by {plot['across']}" if plot["across"] else "")
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {_px(height)}" width="{WIDTH}"'
        f' height="{_px(height)}" role="img" aria-label={quoteattr(label)}>'
    )
    return "\n".join(
        [
            head,
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(_in_words(series))}</desc>",
            _style(),
            f'<rect class="ground" width="{WIDTH}" height="{_px(height)}"/>',
            _text(MARGIN, 26, title, "heading"),
            *body,
            "</svg>\n",
        ]
    )


def _bars(plot: Mapping[str, Any], series: Mapping[str, list[Point]]) -> tuple[list[str], float]:
    """Horizontal bars, grouped by label, each with its value at its end."""
    labels = list(dict.fromkeys(str(label) for points in series.values() for label, _ in points))
    left = MARGIN + CHARACTER * max(map(len, labels)) + 10
    values = [value for points in series.values() for _, value in points]
    room = CHARACTER * max(len(number(value)) for value in values) + 10
    log = plot["scale"] == "log"
    scale = Scale(_powers(values) if log else _ticks(0, max(values)), left, WIDTH - MARGIN - room, log)
    legend, top = _legend(series, HEAD)
    groups: list[str] = []
    y = top + 6.0
    for label in labels:
        mine = [(n, dict(points)) for n, points in enumerate(series.values()) if label in dict(points)]
        groups.append(_text(left - 8, y + BAR * len(mine) / 2 + 4, label, "end"))
        for n, points in mine:
            end = scale(points[label])
            groups.append(
                f'<rect class="c{n}" x="{_px(left)}" y="{_px(y)}" width="{_px(max(1.0, end - left))}"'
                f' height="{BAR - 2}"/>'
            )
            groups.append(_text(end + 5, y + 13, number(points[label]), "value"))
            y += BAR
        y += BETWEEN
    grid = [
        part
        for tick in scale.ticks
        for part in (
            _line(scale(tick), top, scale(tick), y),
            _text(scale(tick), y + 16, number(tick), "middle"),
        )
    ]
    axis = _text((left + scale.end) / 2, y + 36, plot["axis"] + (" (log scale)" if log else ""), "middle")
    return [*legend, *grid, *groups, axis], y + FOOT


def _lines(plot: Mapping[str, Any], series: Mapping[str, list[Point]]) -> tuple[list[str], float]:
    """Values by a number, one line for each series, with a mark at each point."""
    values = [value for points in series.values() for _, value in points]
    firsts = [float(first) for points in series.values() for first, _ in points]
    log = plot["scale"] == "log"
    ticks = _powers(values) if log else _ticks(0, max(values))
    legend, top = _legend(series, HEAD + LINE)
    bottom = top + PLOT_HEIGHT
    left = MARGIN + CHARACTER * max(len(number(tick)) for tick in ticks) + 10
    up = Scale(ticks, bottom, top, log)
    along = Scale(_ticks(0, max(firsts)), left, WIDTH - MARGIN - 30)
    body = [_text(MARGIN, HEAD + 8, plot["axis"] + (" (log scale)" if log else ""), "")]
    for tick in ticks:
        body += [
            _line(left, up(tick), along.end, up(tick)),
            _text(left - 8, up(tick) + 4, number(tick), "end"),
        ]
    for tick in along.ticks:
        body.append(_text(along(tick), bottom + 18, number(tick), "middle"))
    for n, points in enumerate(series.values()):
        places = [(along(float(first)), up(value)) for first, value in sorted(points)]
        path = " ".join(f"{_px(x)},{_px(y)}" for x, y in places)
        body.append(f'<polyline class="l{n}" points="{path}"/>')
        body += [_mark(n, x, y) for x, y in places]
    body.append(_text((left + along.end) / 2, bottom + 38, plot["across"], "middle"))
    return [*legend, *body], bottom + FOOT


def _legend(series: Mapping[str, Any], top: float) -> tuple[list[str], float]:
    """Return the names of several series with their marks, and where the drawing begins below them."""
    if len(series) < 2:
        return [], top
    parts: list[str] = []
    x, y = float(MARGIN), top + 6
    for n, name in enumerate(series):
        width = CHARACTER * len(name) + 36
        if x > MARGIN and x + width > WIDTH - MARGIN:
            x, y = float(MARGIN), y + LINE
        parts += [_mark(n, x + 6, y), _text(x + 18, y + 4, name, "")]
        x += width
    return parts, y + LINE


def _mark(n: int, x: float, y: float) -> str:
    if MARKS[n % len(MARKS)] == "circle":
        return f'<circle class="c{n}" cx="{_px(x)}" cy="{_px(y)}" r="4.5"/>'
    return f'<rect class="c{n}" x="{_px(x - 4)}" y="{_px(y - 4)}" width="8" height="8"/>'


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="grid" x1="{_px(x1)}" y1="{_px(y1)}" x2="{_px(x2)}" y2="{_px(y2)}"/>'


def _text(x: float, y: float, content: str, kind: str) -> str:
    name = f' class="{kind}"' if kind else ""
    return f'<text{name} x="{_px(x)}" y="{_px(y)}">{escape(content)}</text>'


def _style() -> str:
    """Return the colours; a browser takes those that its reader prefers."""
    shape = (
        "text{font:12px sans-serif}.heading{font-size:15px;font-weight:bold}.middle{text-anchor:middle}"
        ".end{text-anchor:end}polyline{fill:none;stroke-width:2.5}.grid{stroke-width:1}"
    )
    return f"<style>{shape}{_colours(LIGHT)}@media (prefers-color-scheme:dark){{{_colours(DARK)}}}</style>"


def _colours(palette: Sequence[str]) -> str:
    ground, ink, grid, *series = palette
    parts = [f".ground{{fill:{ground}}}text{{fill:{ink}}}.grid{{stroke:{grid}}}"]
    parts += [f".c{n}{{fill:{colour}}}.l{n}{{stroke:{colour}}}" for n, colour in enumerate(series)]
    return "".join(parts)


def _in_words(series: Mapping[str, list[Point]]) -> str:
    def words() -> Iterator[str]:
        for name, points in series.items():
            shown = ", ".join(
                f"{first if isinstance(first, str) else number(first)} {number(value)}"
                for first, value in points
            )
            yield f"{name}: {shown}"

    return "; ".join(words())


def _ticks(low: float, high: float) -> list[float]:
    """Return four to eight round numbers from ``low`` to one that is not below ``high``."""
    if high <= low:
        high = low + 1
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    return [round(low + n * step, 10) for n in range(math.ceil((high - low) / step - 1e-9) + 1)]


def _powers(values: Sequence[float]) -> list[float]:
    """Return the powers of ten around the values, two at least."""
    low = math.floor(math.log10(min(values)))
    high = math.ceil(math.log10(max(values)))
    return [10.0**n for n in range(low, max(high, low + 1) + 1)]


def number(value: float) -> str:
    """Return a number for people: three digits, thousands in groups."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
