"""Running a program once, or many at once, and what that took: wall and CPU seconds of that process alone."""

from __future__ import annotations

import os
import select
import signal
import statistics
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import TypeVar

T = TypeVar("T")

AT_START = struct.Struct("dd")


class Failed(Exception):
    """What ran did not do what it was to be measured doing."""


@dataclass(frozen=True, slots=True)
class Command:
    """What to run."""

    argv: list[str]
    env: Mapping[str, str]
    stdin: bytes = b""


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of it. ``began`` and ``ended`` are times of ``time.monotonic``."""

    began: float
    ended: float
    cpu: float
    status: int
    stdout: bytes

    @property
    def wall(self) -> float:
        return self.ended - self.began

    def good(self, what: str) -> Ran:
        """Return itself, if the program succeeded: a call that fails is no measurement."""
        if self.status:
            raise Failed(f"{what}: exit status {self.status}: {self.stdout.decode(errors='replace')}")
        return self


@dataclass(slots=True)
class Running:
    """A process under way."""

    pid: int
    out: int
    began: float
    spent: float = 0.0
    ready: int = -1


def interrupt_at_sigterm() -> None:
    """Let SIGTERM end a bench as Ctrl-C does, which removes what the bench has made."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process that runs, by its CPU clock (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def run(command: Command, enter: Callable[[], None] | None = None) -> Ran:
    """Run once."""
    return finish([start(command, enter)])[0]


def run_all(commands: Iterable[Command]) -> list[Ran]:
    """Run all at once."""
    started: list[Running] = []
    try:
        started.extend(start(command) for command in commands)
    except BaseException:
        _kill(started)
        raise
    return finish(started)


def start(command: Command, enter: Callable[[], None] | None = None) -> Running:
    """Start a process. With ``enter`` it first does that, and then begins: that is not measured."""
    given, give = os.pipe()
    taken, take = os.pipe()
    try:
        if len(command.stdin) > 1 << 16:
            raise Failed("more than a pipe holds")
        os.write(give, command.stdin)
        if enter:
            return _forked(command, enter, given, take, taken)
        files = [(os.POSIX_SPAWN_DUP2, given, 0), (os.POSIX_SPAWN_DUP2, take, 1)]
        began = time.monotonic()
        pid = os.posix_spawn(command.argv[0], command.argv, command.env, file_actions=files)
        return Running(pid, taken, began)
    finally:
        for item in (given, give, take):
            os.close(item)


def _forked(command: Command, enter: Callable[[], None], given: int, take: int, taken: int) -> Running:
    raw, say = os.pipe()  # closed as the program begins
    pid = os.fork()
    if not pid:
        try:
            enter()
            os.dup2(given, 0)
            os.dup2(take, 1)
            spent = os.times()
            os.write(say, AT_START.pack(time.monotonic(), spent.user + spent.system))
            os.execve(command.argv[0], command.argv, dict(command.env))  # noqa: S606
        finally:
            os._exit(127)
    os.close(say)
    return Running(pid, taken, time.monotonic(), ready=raw)


def finish(running: Iterable[Running]) -> list[Ran]:
    """Wait for all; each one's time ends with it."""
    all_of_them = list(running)
    poll = select.epoll()
    alive = {os.pidfd_open(running.pid): running for running in all_of_them}
    for number in alive:
        poll.register(number, select.EPOLLIN)
    rans: dict[int, Ran] = {}
    try:
        while alive:
            for number, _ in poll.poll():
                ended = time.monotonic()
                item = alive.pop(number)
                os.close(number)
                rans[item.pid] = _reaped(item, ended)
    except BaseException:  # Ctrl-C: nobody is left behind
        _kill(alive.values())
        raise
    finally:
        poll.close()
    return [rans[running.pid] for running in all_of_them]


def _kill(running: Iterable[Running]) -> None:
    for item in running:
        os.kill(item.pid, signal.SIGKILL)
        os.waitpid(item.pid, 0)


def _reaped(running: Running, ended: float) -> Ran:
    _, status, usage = os.wait4(running.pid, 0)
    stdout = b"".join(iter(lambda: os.read(running.out, 1 << 16), b""))
    os.close(running.out)
    if running.ready >= 0:
        if message := os.read(running.ready, AT_START.size):
            running.began, running.spent = AT_START.unpack(message)
        os.close(running.ready)
    cpu = usage.ru_utime + usage.ru_stime - running.spent
    return Ran(running.began, ended, cpu, os.waitstatus_to_exitcode(status), stdout)


def interleaved(kinds: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Run every kind in turn, so that what else the machine does falls on all alike; first once for free."""
    for work in kinds.values():
        work()
    results: dict[str, list[T]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, work in kinds.items():
            results[kind].append(work())
    return results


def median_ms(runs: Iterable[Ran], of: str = "wall") -> float:
    """Return the median of wall or CPU time in milliseconds."""
    values: list[float] = [getattr(ran, of) for ran in runs]
    return 1000 * statistics.median(values)
