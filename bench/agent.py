"""What the node agent and its client cost: the ten figures that the agent was built to reach.

Ratios are measured within one run, interleaved, and medians are compared, so that they mean the same on
another machine. The agent is the real process, the client the really installed one, every pod a network
namespace; EC2 is in memory, and answers as quickly as a row says. Needs root; about five minutes, of which
row 9 waits for a token bucket for one and a half.

    python bench/agent.py [--only ROW]... [--rounds N] [--json] [--save]
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterable
from types import FrameType

from bench import document, rows_burst, rows_calls, rows_cgroup
from bench.figure import Figure, say
from bench.running import Failed
from bench.scene import Scene, compile_package
from lab.errors import LabError

ALONE, CROWD, MOVES = frozenset({1, 2, 3, 4, 5, 6, 7}), frozenset({8, 10}), frozenset({9})
"""The rows that share a scene."""

ABOUT = """\
Each ratio is measured within one run, and what it compares is interleaved.
Values are medians; CPU is user and system time of that process alone.
"Bare" is a Python interpreter that starts, without the site module, and ends."""
SIMULATED = """\
EC2 and instance metadata are one process in memory, which answers as quickly as a row says, without TLS.
The agent, the installed client, network namespaces and cgroups are real."""


def main() -> int:
    """Measure, print the table, and return 0: an aim that is missed is a figure, not a failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--only", type=int, action="append", metavar="ROW", help="measure this row (again: and that)"
    )
    parser.add_argument("--rounds", type=int, default=25, help="how often calls are repeated (default 25)")
    document.add_options(parser)
    options = parser.parse_args()
    wanted = frozenset(options.only or range(1, 11))
    signal.signal(signal.SIGTERM, _told_to_end)
    compile_package()
    begun = document.begin("agent", "The node agent and its client", about=ABOUT, simulated=SIMULATED)
    try:
        figures = sorted(measure(wanted, max(1, options.rounds)), key=lambda figure: figure.row)
    except (Failed, LabError) as e:
        say(f"cannot measure: {e}")
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 130
    document.publish(begun, figures, options)
    return 0


def measure(wanted: frozenset[int], rounds: int) -> Iterable[Figure]:
    """Measure the wanted rows, in scenes of their own so that none disturbs the other."""
    figures: list[Figure] = []
    if wanted & ALONE:
        with Scene() as scene:
            figures += alone(scene, wanted, rounds)
    if wanted & CROWD:
        with Scene(unlimited=True) as scene:
            figures += crowd(scene, wanted, rounds)
    if wanted & MOVES:
        with Scene(tables=1) as scene:
            figures.append(rows_burst.moves(scene))
    return [figure for figure in figures if figure.row in wanted]


def alone(scene: Scene, wanted: frozenset[int], rounds: int) -> Iterable[Figure]:
    """One call at a time; last what uses up EC2's request rate."""
    if 1 in wanted:
        yield rows_calls.version(scene, 2 * rounds)
    if wanted & {2, 3, 6}:
        yield from rows_calls.add_and_delete(scene, rounds)
    if 7 in wanted:
        yield rows_calls.round_trips(scene, rounds)
    try:
        if 4 in wanted:
            yield rows_cgroup.in_cell(scene, rounds)
        if 5 in wanted:
            yield rows_cgroup.crowded(scene)
    except Failed as e:
        say(f"4, 5: {e}")


def crowd(scene: Scene, wanted: frozenset[int], rounds: int) -> Iterable[Figure]:
    """Memory before anything, then with all pods, then with as many claims as there will be."""
    idle = rows_burst.idle_memory(scene) if 8 in wanted else {}
    if 10 in wanted:
        yield rows_burst.parallel(scene, rounds)
    if 8 in wanted:
        yield rows_burst.memory(scene, idle)


def _told_to_end(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
