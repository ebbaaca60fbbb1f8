"""Make performance.md and its drawings from the benches' results: ``python docs/generate_performance.py``.

Every number comes from ``bench/results/*.json`` (``bench/document.py`` describes them), and so do the words
about how it was measured. ``make docs`` runs this; a test fails when a file differs from what this makes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import agent
from bench.document import RESULTS
from bench.figure import text, verdict
from docs.drawing import drawing

DOCS = Path(__file__).parent
PAGE = DOCS / "performance.md"
DRAWINGS = DOCS / "performance"
ORDER = ("agent", "peers", "failover", "bundle", "startup")
"""How the page is ordered; other benches follow."""
ROWS = {"agent": agent.ROWS}
"""All rows of a bench that can measure some of them, where other pages cite rows that a run may lack."""
HEAD = """\
# Performance

For operators and developers: what each call costs, how that was measured, and which aims are met.

<!-- Made from bench/results/*.json by make docs: change a bench, not this page. -->

Nothing here was measured on AWS: EC2 and instance metadata are simulated, as each section says.
Ratios hold on other machines, because what they compare ran side by side; milliseconds do not.
`make bench ARGS=--save` measures again, and `make docs` makes this page of it.
A row keeps its number across releases.
"""


def documents() -> dict[Path, str]:
    """Return the page and its drawings, as they should be."""
    results = [json.loads(path.read_text()) for path in RESULTS.glob("*.json")]
    results.sort(key=lambda result: (_place(result["bench"]), result["bench"]))
    return {PAGE: page(results), **_drawings(results)}


def page(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the page about the documents of these benches."""
    parts = [HEAD, _overview(results)]
    for result in results:
        parts += _section(result)
    return "\n".join(parts)


def stale() -> list[Path]:
    """Return the drawings that no row has any more."""
    return sorted(set(DRAWINGS.glob("*")) - documents().keys())


def _place(bench: str) -> int:
    return ORDER.index(bench) if bench in ORDER else len(ORDER)


def _drawings(results: Sequence[Mapping[str, Any]]) -> dict[Path, str]:
    return {
        DRAWINGS / name: drawing(plot)
        for result in results
        for row in result["rows"]
        for name, plot in _plots(result, row)
    }


def _plots(result: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for n, plot in enumerate(row["plots"]):
        yield f"{result['bench']}-{row['row']}{'abcdefgh'[n] if n else ''}.svg", plot


def _overview(results: Sequence[Mapping[str, Any]]) -> str:
    rows = [row for result in results for row in result["rows"] if row["aim"]]
    missed = [f"{row['row']}" for row in rows if row["met"] is False]
    absent = [f"{row['row']}" for row in rows if row["met"] is None]
    lines = [f"Of {len(rows)} aims {sum(row['met'] is True for row in rows)} are met."]
    if missed:
        lines.append(f"Missed: {', '.join(missed)}.")
    if absent:
        lines.append(f"Not measured: {', '.join(absent)}.")
    return "\n".join(lines) + "\n"


def _section(result: Mapping[str, Any]) -> Iterator[str]:
    machine, load = result["machine"], result["machine"]["load"]
    yield f"## {result['title']}\n"
    yield f"{result['about']}\n"
    yield f"{result['simulated']}\n"
    name = f"{result['bench']}.json"
    yield _table(
        ("", ""),
        [
            ("command", f"`{result['command']}`"),
            ("date", result["date"]),
            ("machine", f"{machine['cores']} cores, {machine['cpu']}"),
            ("system", f"Linux {machine['kernel']}, Python {machine['python']}"),
            ("load, one minute", f"{text(load['before'])} before, {text(load['after'])} after"),
            ("numbers", f"[{name}](../bench/results/{name})"),
        ],
    )
    yield _table(
        ("row", "figure", "value", "aim", ""),
        [
            (row["row"], row["figure"], row["value"], row["aim"], verdict(row["aim"], row["met"]))
            for row in result["rows"]
        ],
    )
    if absent := ROWS.get(result["bench"], frozenset()) - {row["row"] for row in result["rows"]}:
        yield f"This run did not measure the rows {', '.join(map(str, sorted(absent)))}.\n"
    for row in result["rows"]:
        yield from _row(result, row)


def _row(result: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[str]:
    """Yield what there is to say of a row beside its value."""
    if not (row["detail"] or row["grid"] or row["plots"] or row["limit"]):
        return
    yield f"### {row['row']}. {row['figure']}\n"
    if row["limit"]:
        yield f"{row['limit']}\n"
    for name, plot in _plots(result, row):
        yield f"![{plot['title']}: {plot['axis']}]({DRAWINGS.name}/{name})\n"
    if row["grid"]:
        yield _table(row["grid"]["columns"], row["grid"]["rows"])
    if row["detail"]:
        yield _table(("", ""), [(name, text(value)) for name, value in row["detail"].items()])


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _cell(value: Any) -> str:
    return text(value).replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    DRAWINGS.mkdir(exist_ok=True)
    for path in stale():
        path.unlink()
    for path, content in documents().items():
        path.write_text(content)
