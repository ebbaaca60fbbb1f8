"""The race: a move's end, what counts as its calls, and how what is no measurement is shown."""

from __future__ import annotations

from typing import Any

from bench import movers, peer_figures
from bench.movers import AGENT, CLI, MOVE_IP
from bench.peer_lab import Process, is_look
from bench.peer_tools import Unavailable
from bench.race import Outcome, Setting, largest, median, moved_at, problem_of
from lab.ec2.journal import Call

ONE = Setting(1, 1, 0.0)
AT_ONCE = Setting(1, 3, 0.0)


def a_call(action: str = "ReplaceRoute", answered: float = 0.0, outcome: str = "ok", **params: Any) -> Call:
    return Call(0.0, "a1", action, params, outcome, answered=answered)


def a_process(status: int | None = 0, output: str = "", rss: int = 1) -> Process:
    return Process(1.0, 2.0, 0.1, rss, status, output)


class TestMove:
    def test_it_ends_with_the_answer_to_the_last_write(self) -> None:
        calls = [
            a_call(answered=5.0),
            a_call(answered=7.0),
            a_call(answered=6.0),
            a_call("DescribeRouteTables", answered=9.0),
            a_call(answered=8.0, outcome="RequestLimitExceeded"),
        ]
        assert moved_at(calls) == 7.0

    def test_a_look_of_the_keeper_is_told_from_the_read_of_a_mover(self) -> None:
        vpc = {"Name": "vpc-id", "Values": ["vpc-1"]}
        tag = {"Name": "tag-key", "Values": ["race-1"]}
        assert is_look(a_call("DescribeRouteTables", Filters=[vpc]))
        assert not is_look(a_call("DescribeRouteTables", Filters=[vpc, tag]))
        assert not is_look(a_call("DescribeRouteTables", RouteTableIds=["rtb-1"]))
        assert not is_look(a_call("DescribeSubnets", Filters=[vpc]))

    def test_memory_is_that_of_the_largest_that_run_side_by_side(self) -> None:
        processes = [a_process(rss=rss) for rss in (10, 30, 20)]
        assert (largest(processes, 2), largest(processes, 50)) == (50, 60)


class TestNoMeasurement:
    def test_a_program_that_fails(self) -> None:
        processes = [a_process(), a_process(4, "so\nwhat\n")]
        assert problem_of(processes, 0, ONE) == "failed: 1 of 2 moves ended with status 4: what"

    def test_a_program_that_did_not_end(self) -> None:
        assert problem_of([a_process(None)], 1, ONE) == "failed: 1 of 1 moves not ended in time"

    def test_a_route_that_leads_elsewhere(self) -> None:
        assert problem_of([a_process()], 2, AT_ONCE) == "failed: 2 of 3 routes lead elsewhere"

    def test_one_such_round_is_the_whole_result(self) -> None:
        bad = Outcome(problem="failed: as the test says")
        assert median([Outcome(1), bad, Outcome(2)]) is bad
        assert median([Outcome(1), Outcome(9), Outcome(2)]).seconds == 2


class TestFigures:
    def figure(self, setting: Setting = ONE, **more: Outcome) -> Any:
        names = {"cli": CLI, "move_ip": MOVE_IP}
        outcomes = {
            AGENT: Outcome(0.1, 1.0, 2.0, 10.0),
            CLI: Outcome(2.0, 5.0, 2.0, 20.0),
            MOVE_IP: Outcome(9.0, 5.0, 3.0, 20.0),
        }
        (figure,) = peer_figures.figures(
            {setting: outcomes | {names[name]: outcome for name, outcome in more.items()}}
        )
        return figure

    def row(self, figure: Any, name: str) -> Any:
        return next(list(row) for row in figure.grid.rows if row[1] == name)

    def test_all_that_was_measured_has_its_ratio_to_the_agent(self) -> None:
        figure = self.figure()
        assert self.row(figure, MOVE_IP) == ["0 ms", MOVE_IP, "9.000", "90", "5.000", "5", "3", "20"]
        assert (figure.shown, figure.met) == ("90", True)

    def test_an_aim_that_is_missed_says_by_how_much(self) -> None:
        figure = self.figure(Setting(1, 3, 0.0))
        assert figure.met is False
        assert "below 45 ms" in figure.limit

    def test_who_is_ahead_of_the_agent_is_named(self) -> None:
        figure = self.figure(cli=Outcome(2.0, 5.0, 1.0, 5.0))
        assert figure.met is False
        assert "AWS CLI script in calls, memory" in str(figure.detail)
        assert figure.limit

    def test_what_was_stopped_is_a_bound(self) -> None:
        figure = self.figure(
            move_ip=Outcome(300, problem="failed: 1 of 1 moves not ended in time", late=True)
        )
        assert self.row(figure, MOVE_IP)[2:4] == ["> 300", "> 3000"]
        assert (figure.shown, figure.met) == ("> 3000", True)

    def test_a_bound_below_the_aim_decides_nothing(self) -> None:
        figure = self.figure(
            move_ip=Outcome(4.0, problem="failed: 1 of 1 moves not ended in time", late=True)
        )
        assert (figure.shown, figure.met) == ("> 40", None)

    def test_what_fails_is_shown_with_its_reason(self) -> None:
        figure = self.figure(move_ip=Outcome(problem="failed: 1 of 1 moves ended with status 1: no such ENI"))
        assert self.row(figure, MOVE_IP)[2] == "failed: 1 of 1 moves ended with status 1: no such ENI"
        assert (figure.shown, figure.met) == ("not measured", None)

    def test_what_cannot_be_had_is_shown_with_its_reason(self) -> None:
        mover = movers.absent(CLI, Unavailable("no index here"))
        figure = self.figure(cli=Outcome(problem=f"not measured: {mover.missing}"))
        assert self.row(figure, CLI)[2] == "not measured: no index here"
        assert figure.met is None

    def test_the_plot_has_all_that_have_a_time(self) -> None:
        figure = self.figure(cli=Outcome(problem="failed: x"), move_ip=Outcome(300, problem="x", late=True))
        (plot,) = figure.plots
        assert plot.scale == "log"
        assert plot.series == {"EC2 in 0 ms": [(AGENT, 0.1), (MOVE_IP, 300)]}
