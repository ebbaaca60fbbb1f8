"""What the node agent and its client cost: the figures that the agent was built to reach.

Ratios are measured within one run, interleaved, and medians are compared, so that they mean the same on
another machine. The agent is the real process, the client the really installed one, every pod a network
namespace; EC2 is in memory, and answers as quickly as a row says; row 20 runs in the lab, with real packets.
Needs root; about a quarter of an hour, of which row 9 waits for a token bucket for one and a half minutes.

    python bench/agent.py [--only ROW]... [--rounds N] [--json] [--save]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator

from bench import document, rows_burst, rows_calls, rows_cgroup, rows_ipv6, rows_size
from bench.figure import Figure, say
from bench.running import Failed, interrupt_at_sigterm
from bench.scene import Scene, compile_package
from lab.errors import LabError

ALONE = frozenset({1, 2, 3, 4, 5, 6, 7})
"""The rows that share a scene."""
BY_SIZE = frozenset({15, 16, 17})
ROWS = ALONE | BY_SIZE | {8, 9, 10, 18, 19, 20, 21, 22}

ABOUT = """\
Each ratio is measured within one run, and what it compares is interleaved.
Values are medians; CPU is user and system time of that process alone.
"Bare" is a Python interpreter that starts, without the site module, and ends."""
SIMULATED = """\
EC2 and instance metadata are one process in memory, which answers as quickly as a row says, without TLS.
Routes are written as EC2 writes them, more than 400 bytes each.
For row 20 they are the lab's, and a router does what they say with real packets.
The agent, the installed client, network namespaces and cgroups are real."""


def main() -> int:
    """Measure, print the table, and return 0, or 1 if a row could not be measured.

    An aim that is missed is a figure, not a failure.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--only", type=int, action="append", metavar="ROW", help="measure this row (again: and that)"
    )
    parser.add_argument("--rounds", type=int, default=25, help="how often calls are repeated (default 25)")
    document.add_options(parser)
    options = parser.parse_args()
    wanted = frozenset(options.only or ROWS)
    document.check_save(parser, options, "agent", wanted)
    interrupt_at_sigterm()
    compile_package()
    begun = document.begin("agent", "The node agent and its client", about=ABOUT, simulated=SIMULATED)
    figures: list[Figure] = []
    try:
        for work in works(wanted, max(1, options.rounds)):
            try:
                figures += work()
            except (Failed, LabError) as e:  # the others count
                say(f"cannot measure: {e}")
    except KeyboardInterrupt:
        say("stopped")
        return 130
    figures = sorted((figure for figure in figures if figure.row in wanted), key=lambda figure: figure.row)
    return document.publish(begun, figures, options, wanted)


def works(wanted: frozenset[int], rounds: int) -> Iterator[Callable[[], Iterable[Figure]]]:
    """Yield what measures the wanted rows, in scenes of their own so that none disturbs the other."""
    if wanted & ALONE:
        yield lambda: _within(Scene(), lambda scene: alone(scene, wanted, rounds))
    if 8 in wanted:
        yield lambda: _within(Scene(unlimited=True), lambda scene: [rows_burst.memory(scene)])
    if 10 in wanted:
        yield lambda: _within(Scene(unlimited=True), lambda scene: [rows_burst.parallel(scene, rounds)])
    if 9 in wanted:
        yield lambda: _within(Scene(tables=1), lambda scene: [rows_burst.moves(scene)])
    if wanted & BY_SIZE:
        yield lambda: rows_size.by_size(rounds)
    if 18 in wanted:
        yield lambda: [rows_size.networks_at_once(rounds)]
    if 19 in wanted:
        yield lambda: [rows_size.claims(rounds)]
    if 20 in wanted:
        yield lambda: [rows_ipv6.first_answer(rounds)]
    if 21 in wanted:
        yield lambda: [rows_size.hour_of_looks(rounds)]
    if 22 in wanted:
        quiet = Scene(unlimited=True, looks="", policy=rows_size.RESTING)
        yield lambda: _within(quiet, lambda scene: [rows_burst.parallel_cpu(scene, rounds)])


def _within(scene: Scene, measure: Callable[[Scene], Iterable[Figure]]) -> list[Figure]:
    with scene:
        return list(measure(scene))


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


if __name__ == "__main__":
    sys.exit(main())
