"""What each test costs, in wall and in CPU seconds: where the cores are shared, CPU is what counts.

A pytest plugin. The CPU of a test is that of the process that runs it and of what it has reaped.
A worker's own start, with its imports, is in the total alone, which is everything that this run has reaped.
"""

from __future__ import annotations

import os
import resource
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePath

import pytest

SLOWEST = 30


def _cpu() -> float:
    """User and system seconds of this process and of what it has reaped."""
    status = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in status)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Put the CPU that a phase took beside its duration. It reaches the terminal from a worker, too."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    now = _cpu()
    report.user_properties.append((f"cpu-{call.when}", now - item.config.stash.get(_before, now)))
    item.config.stash[_before] = now
    return report  # type: ignore[return-value]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.config.stash[_before] = _cpu()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the tests and the directories that took longest, and the CPU of the whole run."""
    costs: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                cost = costs[report.nodeid]
                cost[0] += report.duration
                used = [value for name, value in report.user_properties if name == f"cpu-{report.when}"]
                cost[1] += sum(value for value in used if isinstance(value, float))
    if len(costs) < SLOWEST:
        return
    places: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0])
    for nodeid, (wall, cpu) in costs.items():
        place = places[str(PurePath(nodeid.partition("::")[0]).parent)]
        place[:] = place[0] + wall, place[1] + cpu, place[2] + 1
    say = terminalreporter.write_line
    terminalreporter.section(f"slowest {SLOWEST} tests")
    say("  wall s   CPU s")
    for nodeid, (wall, cpu) in sorted(costs.items(), key=lambda item: -item[1][0])[:SLOWEST]:
        say(f"{wall:8.1f}{cpu:8.1f}  {nodeid}")
    terminalreporter.section("by directory")
    say("  wall s   CPU s   tests")
    for name, (wall, cpu, tests) in sorted(places.items(), key=lambda item: -item[1][1]):
        say(f"{wall:8.1f}{cpu:8.1f}{tests:8.0f}  {name}")
    say(f"{_cpu():16.1f}          CPU seconds of the whole run, on {os.cpu_count()} cores")


_before: pytest.StashKey[float] = pytest.StashKey()
