"""Failover as rows: the outage of each scenario, who spent it, and one drawing of all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from bench.failover_scenarios import Result, Results, Scenario
from bench.figure import Figure, Grid, Plot
from bench.timeline import PARTS

COLUMNS = ("address led by", *(f"{part}, s" for part in PARTS), "outage, s", "datagrams lost")
Rounds = Sequence[Results | str]
"""What each round of a scenario gave; a string says why it gave nothing."""


def figures(outcomes: Mapping[Scenario, Rounds]) -> list[Figure]:
    """Return a row for each scenario; the first one has the drawing."""
    rows = [_figure(scenario, rounds) for scenario, rounds in outcomes.items()]
    plot = _plot(outcomes)
    return [replace(rows[0], plots=[plot]), *rows[1:]] if plot else rows


def middle(results: Sequence[Result]) -> Result:
    """Return the result with the median outage, the lower of two.

    The parts of one round sum up to its outage, medians of parts do not.
    """
    ordered = sorted(results, key=lambda result: result.seconds)
    return ordered[(len(ordered) - 1) // 2]


def summary(results: Results) -> str:
    """Return what a round gave, in one line."""
    return "; ".join(
        f"{who} {result.seconds:.2f} s ("
        + ", ".join(f"{part} {seconds:.2f}" for part, seconds in result.parts.items() if seconds >= 0.005)
        + ")"
        for who, result in results.items()
    )


def _figure(scenario: Scenario, rounds: Rounds) -> Figure:
    by_who = _by_who(rounds)
    problems = [item for item in rounds if isinstance(item, str)]
    detail: dict[str, object] = {}
    for who, results in by_who.items():
        detail[f"{who}: each round, s"] = [f"{item.seconds:.3g}" for item in results]
        longest, seconds = max(middle(results).parts.items(), key=lambda part: part[1])
        detail[f"{who}: most of it"] = f"{longest}, {seconds:.3g} s"
    if problems:
        detail["failed"] = "; ".join(problems)
    shown = " / ".join(f"{middle(results).seconds:.3g} s" for results in by_who.values())
    grid = Grid(COLUMNS, [_row(who, middle(results)) for who, results in by_who.items()])
    return Figure(
        scenario.row,
        f"{scenario.name}: unanswered",
        shown or "not measured",
        "",
        None,
        detail,
        grid=grid if by_who else None,
    )


def _by_who(rounds: Rounds) -> dict[str, list[Result]]:
    by_who: dict[str, list[Result]] = {}
    for results in rounds:
        for who, result in results.items() if not isinstance(results, str) else ():
            by_who.setdefault(who, []).append(result)
    return by_who


def _row(who: str, result: Result) -> list[str | float]:
    parts = [f"{result.parts[part]:.3f}" for part in PARTS]
    return [who, *parts, f"{result.seconds:.3f}", f"{result.lost}"]


def _plot(outcomes: Mapping[Scenario, Rounds]) -> Plot | None:
    points = list(_points(outcomes))
    if not points:
        return None
    return Plot("bars", "Time that a client gets no answer", "seconds", {"outage": points}, scale="log")


def _points(outcomes: Mapping[Scenario, Rounds]) -> Iterator[tuple[str | float, float]]:
    for scenario, rounds in outcomes.items():
        by_who = _by_who(rounds)
        for who, results in by_who.items():
            name = f"{scenario.row} {who}" if len(by_who) > 1 else f"{scenario.row} {scenario.name}"
            yield name, round(middle(results).seconds, 3)
