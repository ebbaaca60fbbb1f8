"""docs/performance.md and its drawings: what ``docs/generate_performance.py`` makes of ``bench/results/``."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench import agent, document
from bench.figure import Figure, Grid, Plot
from docs import generate_performance
from docs.drawing import DARK, LIGHT, drawing
from tests.docs.pages import ROOT, pages

SVG = "{http://www.w3.org/2000/svg}"
RESULTS = sorted(document.RESULTS.glob("*.json"))


def test_page_and_drawings_are_what_the_results_say() -> None:
    for path, text in generate_performance.documents().items():
        assert path.read_text() == text, f"{path.name}: run make docs"
    assert generate_performance.stale() == []


def test_the_page_shows_each_value_of_the_results() -> None:
    page = " ".join(generate_performance.PAGE.read_text().split())
    for path in RESULTS:
        result = json.loads(path.read_text())
        for row in result["rows"]:
            cells = (row["row"], row["figure"], row["value"], row["aim"])
            assert " ".join(f"| {' | '.join(map(str, cells))} |".split()) in page
        for needed in (result["command"], result["date"], result["machine"]["kernel"]):
            assert needed in page
        for sentence in result["simulated"].splitlines():
            assert sentence in page


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_has_the_shape_that_is_described(path: Path) -> None:
    result = json.loads(path.read_text())
    assert result["bench"] == path.stem
    model = document.document(document.begin("x", "X", about=""), [Figure(1, "", "", "", None)])
    assert list(result) == list(model)
    assert list(result["machine"]) == list(model["machine"])
    assert "simulated" in result["simulated"] or "in memory" in result["simulated"]
    for row in result["rows"]:
        assert list(row) == list(model["rows"][0])
        assert row["met"] is not False or row["limit"], f"row {row['row']} misses its aim: say what limits it"


def test_each_bench_has_a_result_that_is_kept() -> None:
    recipe = re.search(r"^bench:.*?\n\n", (ROOT / "Makefile").read_text(), re.MULTILINE | re.DOTALL)
    assert recipe
    assert set(re.findall(r"bench/(\w+)\.py", recipe[0])) == {path.stem for path in RESULTS}


def test_row_numbers_mean_one_row() -> None:
    numbers = [row["row"] for path in RESULTS for row in json.loads(path.read_text())["rows"]]
    assert len(numbers) == len(set(numbers))


def cited(text: str) -> set[int]:
    """Return the numbers of rows that a page cites: in a table's column "row", or as "Row 9 of [...]"."""
    numbers = [match[1] for match in re.finditer(r"\bRow (\d+) of \[performance", text)]
    for table in re.findall(r"^\|.*\| row \|\n\|[-| ]+\|\n((?:\|.*\n)+)", text, re.MULTILINE):
        numbers += [line.rstrip("| ").rpartition("|")[2] for line in table.splitlines()]
    bare = (re.sub(r"\(.*?\)", "", cell) for cell in numbers)
    parts = [part for cell in bare for part in re.split(",|and", cell)]
    ends = [tuple(map(int, part.split(" to "))) for part in parts]
    return {number for pair in ends for number in range(pair[0], pair[-1] + 1)}


def test_rows_that_other_pages_cite_are_there() -> None:
    """A row need not be in a result that is kept; then the page says that the run did not measure it."""
    kept = {row["row"] for path in RESULTS for row in json.loads(path.read_text())["rows"]}
    rows = kept | agent.ROWS
    pages_ = {path.name: cited(path.read_text()) for path in (ROOT / "docs").glob("*.md")}
    assert {name: numbers - rows for name, numbers in pages_.items() if numbers - rows} == {}
    assert pages_["sizing.md"] >= {8, 9, 15, 16, 17, 21}
    assert cited("| what | row |\n|---|---|\n| a | 5 (x, y), 13 and 14 (z) |\n| b | 1 to 3 |\n") == {
        5,
        13,
        14,
        1,
        2,
        3,
    }


@pytest.mark.parametrize("file", ["helm/cni-floatip/values.yaml", "README.md"])
def test_the_chart_cites_rows_for_the_agents_memory(file: str) -> None:
    """A figure that somebody typed goes stale with the next run of the benches."""
    (line,) = (line for line in (ROOT / "install" / file).read_text().splitlines() if "No CPU limit" in line)
    (rows,) = re.findall(r"rows ([\d, and]+) of docs/performance.md", line)
    assert {int(number) for number in re.findall(r"\d+", rows)} == {8, 18, 21} & agent.ROWS
    assert "MiB" not in line


def test_pictures_of_all_pages_are_there() -> None:
    shown = {
        (Path(page.name).parent / target, page.name)
        for page in pages().values()
        for _, line in page.prose
        for target in re.findall(r"!\[[^\]]+\]\(([^)\s]+)\)", line)
    }
    assert [str(path) for path, _ in shown if not (ROOT / path).exists()] == []
    drawn = {path.relative_to(ROOT) for path in generate_performance.DRAWINGS.iterdir()}
    assert drawn == {path for path, name in shown if name == "docs/performance.md"}


# -- what a bench writes ------------------------------------------------------------------------------------

FIGURES = [
    Figure(1, "ADD | bare", "1.02", "<= 1.3", True, {"wall ms": {"bare": 9.0, "ADD": 9.2}}, limit="Nothing."),
    Figure(2, "memory", "90 MiB", "<= 60", False, limit="The answer of EC2 itself is 40 MiB."),
    Figure(3, "time", "2 s", "", None, grid=Grid(("who", "s"), [("agent", 0.035)])),
    Figure(4, "rest", "", "<= 1", None),
]


def written(monkeypatch: pytest.MonkeyPatch, place: Path, *options: str) -> document.Begun:
    """Run what every bench runs; return what it began with."""
    monkeypatch.setattr(document, "RESULTS", place)
    monkeypatch.setattr(sys, "argv", ["/somewhere/bench/agent.py", "--rounds", "3", *options])
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int)
    document.add_options(parser)
    begun = document.begin("agent", "The agent", about="How.", simulated="EC2 is simulated.")
    document.publish(begun, FIGURES, parser.parse_args())
    return begun


def test_json_is_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(monkeypatch, tmp_path, "--json")
    result = json.loads(capsys.readouterr().out)
    assert (result["bench"], result["command"]) == ("agent", "python bench/agent.py --rounds 3")
    assert [row["value"] for row in result["rows"]] == ["1.02", "90 MiB", "2 s", ""]
    assert list(tmp_path.iterdir()) == []


def test_what_is_saved_is_the_same_document(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = written(monkeypatch, tmp_path / "results", "--save")
    assert "1  ADD | bare  1.02    <= 1.3  met" in capsys.readouterr().out
    result = json.loads((tmp_path / "results" / "agent.json").read_text())
    again = document.document(begun, FIGURES)
    again["machine"]["load"] = result["machine"]["load"]
    assert result == json.loads(json.dumps(again))


def test_the_machine_is_described_where_linux_names_no_model() -> None:
    assert document._cpu("processor\t: 0\nmodel name\t: Xeon\n\nmodel name\t: Other\n") == "Xeon"
    assert document._cpu("processor\t: 0\nCPU implementer\t: 0x41\n")


def test_the_page_says_which_aims_are_missed() -> None:
    result = {**document.document(document.begin("x", "X", about="How."), FIGURES)}
    page = generate_performance.page([result])
    assert "Of 3 aims 1 are met.\nMissed: 2.\nNot measured: 4.\n" in page
    assert "| 1 | ADD \\| bare | 1.02 | <= 1.3 | met |" in page
    assert "| wall ms | bare 9, ADD 9.2 |" in page
    assert "### 2. memory\n\nThe answer of EC2 itself is 40 MiB.\n" in page
    assert "| who | s |\n| --- | --- |\n| agent | 0.035 |\n" in page
    assert "### 4." not in page
    assert "Nothing." not in page, "what is met has no limit"


def test_the_page_says_which_rows_a_run_of_some_did_not_measure() -> None:
    """Other pages cite rows by number, and a reader must not look for one in vain."""
    begun = document.begin("agent", "Agent", about="How.")
    some = [Figure(row, "x", "1", "", None) for row in agent.ROWS - {9, 21}]
    assert "\n\nThis run did not measure the rows 9, 21.\n" in generate_performance.page(
        [document.document(begun, some)]
    )
    all_of_them = [Figure(row, "x", "1", "", None) for row in agent.ROWS]
    assert "did not measure" not in generate_performance.page([document.document(begun, all_of_them)])


# -- drawings ------------------------------------------------------------------------------------------------

BARS = Plot(
    "bars",
    "Moved <here>",
    "seconds to the last table",
    {
        "agent": [("1 table", 0.035), ("10 tables", 0.074)],
        'a "peer"': [("1 table", 2.4), ("10 tables", 42.0)],
    },
    scale="log",
)
LINES = Plot("lines", "A look", "CPU, ms", {"look": [(30, 6.5), (20000, 931.0)]}, across="routes")


def drawn(plot: Plot) -> tuple[ElementTree.Element, str]:
    text = drawing(json.loads(json.dumps(plot.document())))
    return ElementTree.fromstring(text), text  # noqa: S314 (made here)


@pytest.mark.parametrize("plot", [BARS, LINES], ids=lambda plot: plot.kind)
def test_a_drawing_tells_title_axis_unit_and_numbers(plot: Plot) -> None:
    root, text = drawn(plot)
    labels = [item.text or "" for item in root.iter(f"{SVG}text")]
    assert labels.count(plot.title) == 1
    assert any(label.startswith(plot.axis) for label in labels)
    assert plot.across in labels or plot.kind == "bars"
    assert root.get("role") == "img"
    assert root.get("aria-label", "").startswith(f"{plot.title}: {plot.axis}")
    words = root.findtext(f"{SVG}desc", "")
    assert all(name in words for name in plot.series)
    assert drawing(plot.document()) == text, "always the same"


@pytest.mark.parametrize("plot", [BARS, LINES], ids=lambda plot: plot.kind)
def test_a_drawing_is_legible_in_the_light_and_in_the_dark(plot: Plot) -> None:
    root, text = drawn(plot)
    light, _, dark = text.partition("@media (prefers-color-scheme:dark)")
    assert all(f".c{n}{{fill:{colour}}}" in light for n, colour in enumerate(LIGHT[3:]))
    assert all(f".c{n}{{fill:{colour}}}" in dark for n, colour in enumerate(DARK[3:]))
    assert f".ground{{fill:{LIGHT[0]}}}" in light
    assert f".ground{{fill:{DARK[0]}}}" in dark
    for ground, *colours in (LIGHT, DARK):
        assert all(contrast(ground, colour) >= 3 for n, colour in enumerate(colours) if n != 1), "WCAG 1.4.11"
        assert contrast(ground, colours[0]) >= 7
    (paper,) = [item for item in root.iter(f"{SVG}rect") if item.get("class") == "ground"]
    assert (paper.get("width"), paper.get("height")) == (root.get("width"), root.get("height"))


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, as WCAG 2.1 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        ]
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_bars_are_as_long_as_their_values() -> None:
    linear = Plot("bars", "t", "s", {"a": [("x", 1.0), ("y", 3.0)]})
    root, _ = drawn(linear)
    lengths = [float(item.get("width", 0)) for item in root.iter(f"{SVG}rect") if item.get("class") == "c0"]
    assert lengths[1] / lengths[0] == pytest.approx(3, rel=0.01)
    root, _ = drawn(BARS)
    (first, second), (third, fourth) = (
        [
            float(item.get("width", 0))
            for item in root.iter(f"{SVG}rect")
            if item.get("class") == name and item.get("height") == "16"
        ]
        for name in ("c0", "c1")
    )
    assert first < second < third < fourth


def test_points_of_a_line_stand_where_their_numbers_are() -> None:
    plot = Plot("lines", "t", "s", {"a": [(0, 0.0), (10, 5.0), (20, 10.0)]}, across="n")
    root, _ = drawn(plot)
    (path,) = [item.get("points", "") for item in root.iter(f"{SVG}polyline")]
    (x0, y0), (x1, y1), (x2, y2) = [tuple(map(float, point.split(","))) for point in path.split()]
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert y2 < y0, "more is higher"


@pytest.mark.parametrize(
    ("plot", "complaint"),
    [
        (Plot("bars", "t", "s", {"a": [("x", 0.0)]}, scale="log"), "no place for 0"),
        (Plot("bars", "t", "s", {}), "nothing to draw"),
        (Plot("lines", "t", "s", {"a": []}), "nothing to draw"),
        (Plot("bars", "t", "s", {str(n): [("x", 1.0)] for n in range(7)}), "7 series"),
    ],
    ids=["zero on a log scale", "no series", "an empty series", "too many series"],
)
def test_what_cannot_be_drawn_is_refused(plot: Plot, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        drawing(plot.document())


def test_one_value_alone_is_drawn() -> None:
    for kind in ("bars", "lines"):
        for value in (0.0, 7.0):
            points: list[Any] = [("x" if kind == "bars" else 0, value)]
            assert drawn(Plot(kind, "t", "s", {"a": points}, across="n"))
