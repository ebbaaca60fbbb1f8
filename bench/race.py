"""Runs the movers in turn, and says what each move took."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.figure import say
from bench.movers import Mover
from bench.peer_lab import PeerLab, Process
from lab.ec2.journal import Call

ADDRESSES = 50
WRITES = ("ReplaceRoute", "CreateRoute")


@dataclass(frozen=True, slots=True)
class Setting:
    """What is moved, and how much later EC2 answers."""

    addresses: int
    tables: int
    latency: float

    def __str__(self) -> str:
        tables = "1 table" if self.tables == 1 else f"{self.tables} tables"
        what = "1 address" if self.addresses == 1 else f"{self.addresses} addresses at once"
        return f"{what} in {tables}"

    @property
    def ec2(self) -> str:
        return f"{self.latency * 1000:g} ms"


SETTINGS = [
    Setting(addresses, tables, latency)
    for addresses, tables in ((1, 1), (1, 3), (1, 10), (ADDRESSES, 1))
    for latency in (0.0, 0.05)
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one round took: seconds to the last table, CPU seconds, EC2 calls, MiB.

    ``problem`` says why the rest means nothing; ``late``: it was stopped after ``seconds``.
    """

    seconds: float = 0.0
    cpu: float = 0.0
    calls: float = 0.0
    memory: float = 0.0
    problem: str = ""
    late: bool = False


Results = dict[Setting, dict[str, Outcome]]
"""By setting and by the mover's name."""


@dataclass(frozen=True, slots=True)
class Race:
    """``seconds``: what takes longer is stopped. ``side_by_side``: so many of many moves run at a time."""

    world: PeerLab
    movers: Sequence[Mover]
    seconds: float
    side_by_side: int = ADDRESSES

    def run(self, rounds: int, settings: Sequence[Setting] = SETTINGS) -> Results:
        """Return the medians. Each mover moves one address first, which is not measured."""
        known = {
            mover.name: Outcome(problem=f"not measured: {mover.missing}")
            for mover in self.movers
            if mover.missing
        }
        able = [mover for mover in self.movers if mover.name not in known]
        for mover in able:
            say(f"{mover.name}: a first move")
            self.move(mover, Setting(1, 1, 0.0))
        results: Results = {}
        for setting in settings:
            outcomes: dict[str, list[Outcome]] = {mover.name: [] for mover in able}
            for number in range(rounds):
                for mover in able:
                    say(f"{setting}, EC2 in {setting.ec2}, round {number + 1} of {rounds}: {mover.name}")
                    outcomes[mover.name].append(self.move(mover, setting))
            middle = {name: median(of_one) for name, of_one in outcomes.items()}
            results[setting] = {mover.name: (known | middle)[mover.name] for mover in self.movers}
        return results

    def move(self, mover: Mover, setting: Setting) -> Outcome:
        """Let a mover move once, and clean up."""
        world = self.world
        moves = world.moves(setting.addresses, setting.tables)
        commands = [mover.command(move) for move in moves]
        if mover.resident:
            world.forget_peak()
        world.forget_calls()
        cpu = world.agent_cpu() if mover.resident else 0.0
        with world.latency(setting.latency):
            processes = world.run(commands, self.side_by_side, self.seconds)
        cpu = world.agent_cpu() - cpu if mover.resident else 0.0
        peak = world.agent_peak() if mover.resident else 0
        calls, unmoved = world.calls(), world.unmoved(moves)
        mover.clean(moves)
        if problem := problem_of(processes, unmoved, setting):
            late = any(process.status is None for process in processes)
            return Outcome(seconds=self.seconds, problem=problem, late=late)
        return Outcome(
            seconds=moved_at(calls) - min(process.began for process in processes),
            cpu=cpu + sum(process.cpu for process in processes),
            calls=len(calls),
            memory=(peak + largest(processes, self.side_by_side)) / 1024,
        )


def moved_at(calls: Iterable[Call]) -> float:
    """Return when EC2 had answered the last write that it carried out (time.monotonic)."""
    return max(call.answered for call in calls if call.action in WRITES and call.outcome == "ok")


def largest(processes: Sequence[Process], side_by_side: int) -> int:
    """Return the highest resident sets of the largest moves that may run at one time, in KiB."""
    return sum(sorted((process.rss for process in processes), reverse=True)[:side_by_side])


def problem_of(processes: Sequence[Process], unmoved: int, setting: Setting) -> str:
    """Say why a round is no measurement; "" if it is one."""
    failed = [process for process in processes if process.status]
    late = sum(process.status is None for process in processes)
    of_all = f"{len(processes)} moves"
    if late:
        return f"failed: {late} of {of_all} not ended in time"
    if failed:
        last = failed[0].output.strip().splitlines()[-1:]
        return f"failed: {len(failed)} of {of_all} ended with status {failed[0].status}: {''.join(last)}"
    if unmoved:
        return f"failed: {unmoved} of {setting.addresses * setting.tables} routes lead elsewhere"
    return ""


def median(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the median of each figure; a round that is no measurement is the whole result."""
    for outcome in outcomes:
        if outcome.problem:
            return outcome
    return Outcome(
        seconds=statistics.median(outcome.seconds for outcome in outcomes),
        cpu=statistics.median(outcome.cpu for outcome in outcomes),
        calls=statistics.median(outcome.calls for outcome in outcomes),
        memory=statistics.median(outcome.memory for outcome in outcomes),
    )
