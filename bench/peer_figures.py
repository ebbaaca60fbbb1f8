"""The race as rows: a table and a plot for each number of tables, and what was aimed at."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from bench.figure import Figure, Grid, Plot
from bench.movers import AGENT, DIRECT, MOVE_IP
from bench.race import Outcome, Results, Setting

FIRST_ROW = 30
AIMS = {(1, 1): 60.0, (1, 3): 200.0}
"""How many times faster than aws-vpc-move-ip, by addresses and tables, where EC2 answers at once."""

OURS = (AGENT, DIRECT)
CALLS = """\
Once a minute an ADD also asks EC2 for the ENI's source/dest check, which no peer looks at.
It does so beside DescribeRouteTables, which costs a call and no time."""

COLUMNS = (
    "EC2 in",
    "mover",
    "last table moved, s",
    "times the agent's",
    "CPU, s",
    "times the agent's",
    "EC2 calls",
    "memory, MiB",
)
Outcomes = Mapping[Setting, Mapping[str, Outcome]]


def figures(results: Results) -> list[Figure]:
    """Return a row for each thing that was moved, with every latency of EC2."""
    by_what = itertools.groupby(results.items(), lambda item: (item[0].addresses, item[0].tables))
    return [_figure(number, dict(group)) for number, (_, group) in enumerate(by_what, FIRST_ROW)]


def _figure(number: int, outcomes: Outcomes) -> Figure:
    at_once = min(outcomes, key=lambda setting: setting.latency)
    aim = AIMS.get((at_once.addresses, at_once.tables))
    ratio = _ratio(outcomes[at_once][MOVE_IP], outcomes[at_once][AGENT])
    behind = [complaint for setting, of_all in outcomes.items() for complaint in _behind(setting, of_all)]
    measured = all(comparable(outcome) for of_all in outcomes.values() for outcome in of_all.values())
    bound = outcomes[at_once][MOVE_IP].late
    fast = aim is None or (ratio is not None and ratio >= aim)
    return Figure(
        number,
        f"{at_once}: aws-vpc-move-ip's time / the agent's",
        _times(outcomes[at_once][MOVE_IP], ratio),
        f"{f'>= {aim:g}, and ' if aim else ''}the agent ahead of each peer in every column",
        fast and not behind if measured and (fast or not bound) else None,
        {"the agent": "; ".join(behind) or "ahead of each peer in every column"},
        limit="\n".join(_limits(outcomes[at_once], aim, ratio, behind)),
        grid=Grid(COLUMNS, [row for setting, of_all in outcomes.items() for row in _rows(setting, of_all)]),
        plots=[_plot(outcomes)],
    )


def comparable(outcome: Outcome) -> bool:
    """Say whether an outcome has a time, or a bound of it."""
    return outcome.late or not outcome.problem


def _ratio(outcome: Outcome, agent: Outcome) -> float | None:
    if agent.problem or not comparable(outcome):
        return None
    return outcome.seconds / agent.seconds


def _times(outcome: Outcome, ratio: float | None) -> str:
    if ratio is None:
        return "not measured"
    return f"{'> ' if outcome.late else ''}{_number(ratio)}"


def _number(value: float) -> str:
    """Return a ratio in three digits, and none of them behind the point from 100 on."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _behind(setting: Setting, outcomes: Mapping[str, Outcome]) -> Iterator[str]:
    """Say where the agent is not ahead of a peer: in time, CPU, calls or memory."""
    agent = outcomes[AGENT]
    for name, outcome in outcomes.items():
        if name in OURS or outcome.problem or agent.problem:
            continue
        worse = {
            "time": agent.seconds >= outcome.seconds,
            "CPU": agent.cpu >= outcome.cpu,
            "calls": agent.calls > outcome.calls,
            "memory": agent.memory >= outcome.memory,
        }
        if columns := [column for column, is_worse in worse.items() if is_worse]:
            yield f"not ahead of {name} in {', '.join(columns)} (EC2 in {setting.ec2})"


def _limits(
    outcomes: Mapping[str, Outcome], aim: float | None, ratio: float | None, behind: Sequence[str]
) -> Iterator[str]:
    """Say what keeps the row from its aim, one sentence a line."""
    if aim is not None and ratio is not None and ratio < aim:
        peer, agent = outcomes[MOVE_IP].seconds, outcomes[AGENT].seconds
        yield (
            f"aws-vpc-move-ip took {peer:.3g} s and the agent {1000 * agent:.0f} ms; the aim is the agent"
            f" below {1000 * peer / aim:.0f} ms."
        )
    yield from (f"The agent is {complaint}." for complaint in behind)
    if any("calls" in complaint for complaint in behind):
        yield CALLS


def _rows(setting: Setting, outcomes: Mapping[str, Outcome]) -> Iterator[list[str | float]]:
    agent = outcomes[AGENT]
    for name, outcome in outcomes.items():
        ratio = _ratio(outcome, agent)
        if not comparable(outcome):
            yield [setting.ec2, name, outcome.problem, "", "", "", "", ""]
        elif outcome.late:
            yield [setting.ec2, name, f"> {outcome.seconds:g}", _times(outcome, ratio), "", "", "", ""]
        else:
            cpu = "" if agent.problem else _number(outcome.cpu / agent.cpu)
            seconds, spent = f"{outcome.seconds:.3f}", f"{outcome.cpu:.3f}"
            calls, memory = f"{outcome.calls:g}", f"{outcome.memory:.0f}"
            times = "" if agent.problem else _times(outcome, ratio)
            yield [setting.ec2, name, seconds, times, spent, cpu, calls, memory]


def _plot(outcomes: Outcomes) -> Plot:
    """Draw the times of all that have one; what was stopped in time is drawn at its bound."""
    series = {
        f"EC2 in {setting.ec2}": [
            (name, round(outcome.seconds, 4)) for name, outcome in of_all.items() if comparable(outcome)
        ]
        for setting, of_all in outcomes.items()
    }
    title = f"{next(iter(outcomes))}: from the trigger to the last table"
    return Plot("bars", title, "seconds", series, scale="log")
