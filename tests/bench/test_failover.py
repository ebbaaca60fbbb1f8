"""Failover's rows: the round they show, what failed, who was compared, what the client saw."""

from __future__ import annotations

from typing import Any

import pytest

from bench import failover, failover_figures
from bench.failover_figures import Rounds, middle
from bench.failover_lab import last_write, observe, span
from bench.failover_scenarios import OURS, SCENARIOS, SIDECAR, Result, Scenario
from bench.timeline import PARTS, Span
from lab.client import Datagram, Report
from lab.ec2.journal import Call
from lab.errors import LabError
from lab.kubernetes.cluster import QUICK

LOST = next(scenario for scenario in SCENARIOS if scenario.row == 47)
BESIDE = next(scenario for scenario in SCENARIOS if scenario.row == 48)


def a_result(seconds: float, **parts: float) -> Result:
    return Result(seconds, {**dict.fromkeys(PARTS, 0.0), **parts}, lost=7)


def a_call(answered: float, action: str = "ReplaceRoute", outcome: str = "ok", **params: Any) -> Call:
    named = {"DestinationCidrBlock": "192.168.0.2/32", **params}
    return Call(0.0, "a1", action, named, outcome, seconds=0.5, answered=answered)


def rows(figure: Any) -> Any:
    return [dict(zip(figure.grid.columns, row, strict=True)) for row in figure.grid.rows]


def test_each_scenario_has_a_row_of_its_own() -> None:
    assert [scenario.row for scenario in SCENARIOS] == list(range(40, 50))


def test_a_row_shows_the_round_with_the_median_outage() -> None:
    rounds = [{OURS: a_result(seconds, eviction=seconds)} for seconds in (9.0, 7.0, 8.0, 30.0)]
    (figure,) = failover_figures.figures({LOST: rounds})
    assert figure.shown == "8 s"
    (row,) = rows(figure)
    assert (row["eviction, s"], row["outage, s"], row["datagrams lost"]) == ("8.000", "8.000", "7")
    assert figure.detail["floatip: each round, s"] == ["9", "7", "8", "30"]
    assert figure.detail["floatip: most of it"] == "eviction, 8 s"


def test_of_two_rounds_the_shorter_outage_counts() -> None:
    assert middle([a_result(9.0), a_result(7.0)]).seconds == 7.0


def test_who_was_compared_has_a_line_each() -> None:
    (figure,) = failover_figures.figures({BESIDE: [{OURS: a_result(7.0), SIDECAR: a_result(9.0)}]})
    assert figure.shown == "7 s / 9 s"
    assert [row["address led by"] for row in rows(figure)] == [OURS, SIDECAR]
    assert [name for name, _ in figure.plots[0].series["outage"]] == [f"48 {OURS}", f"48 {SIDECAR}"]


def test_the_first_row_draws_all_of_them() -> None:
    outcomes: dict[Scenario, Rounds] = {LOST: [{OURS: a_result(7.0)}], BESIDE: ["failed: as the test says"]}
    first, second = failover_figures.figures(outcomes)
    assert (len(first.plots), len(second.plots)) == (1, 0)
    assert first.plots[0].series["outage"] == [(f"47 {LOST.name}", 7.0)]


def test_what_failed_says_why() -> None:
    (figure,) = failover_figures.figures({LOST: ["failed: no answer"]})
    assert (figure.shown, figure.grid, figure.plots) == ("not measured", None, ())
    assert figure.detail["failed"] == "failed: no answer"
    (figure,) = failover_figures.figures({LOST: ["failed: no answer", {OURS: a_result(7.0)}]})
    assert (figure.shown, figure.detail["failed"]) == ("7 s", "failed: no answer")


def test_no_row_has_an_aim() -> None:
    (figure,) = failover_figures.figures({LOST: [{OURS: a_result(7.0)}]})
    assert (figure.aim, figure.met) == ("", None)


def test_the_client_saw_the_longest_silence_and_who_answered_after_it() -> None:
    answers = [(0.0, 0.1, "old"), (1.0, 1.1, "old"), (2.0, None, None), (3.0, None, None), (4.0, 4.1, "new")]
    report = Report(tuple(Datagram(*item) for item in answers), 0.0, 9.0)
    what = observe(report, Span(0.5, 4.5))
    assert (what.outage, what.by, what.sent, what.lost) == (Span(1.1, 4.1), "new", 4, 2)


def test_a_call_begins_when_it_arrives() -> None:
    assert span(a_call(9.0)) == Span(8.5, 9.0)


def test_the_last_write_of_the_address_counts() -> None:
    calls = [
        a_call(1.0),
        a_call(2.0, "CreateRoute"),
        a_call(3.0, outcome="RequestLimitExceeded"),
        a_call(4.0, "DescribeRouteTables"),
        a_call(5.0, DestinationCidrBlock="192.168.0.3/32"),
    ]
    assert last_write(calls, "192.168.0.2/32") == 2.0
    with pytest.raises(LabError, match=r"nobody has written 192\.168\.0\.9/32"):
        last_write(calls, "192.168.0.9/32")


class World:
    """Stands for a cluster whose clean-up may fail."""

    def __init__(self, parts: object, settings: object) -> None:
        self.fails = settings is QUICK

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def clear(self) -> None:
        if self.fails:
            raise LabError("pods stay")


def test_what_fails_takes_no_measurement_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(_: object) -> Any:
        raise LabError("as the test says")

    def works(_: object) -> Any:
        return {OURS: a_result(1.0)}

    monkeypatch.setattr(failover, "FailoverLab", World)
    broken, good = Scenario(40, "broken", breaks), Scenario(41, "good", works)
    last, missing = Scenario(47, "last", works, QUICK), Scenario(48, "missing", works, QUICK)
    parts: Any = None
    outcomes = failover.measure(parts, [broken, good, last, missing], 1)
    assert outcomes[broken] == ["failed: as the test says"]
    assert outcomes[good] == outcomes[last] == [{OURS: a_result(1.0)}]
    assert outcomes[missing] == ["not measured: pods stay"]
