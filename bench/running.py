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
        for each in (given, give, take):
            os.close(each)


def _forked(command: Command, enter: Callable[[], None], given: int, take: int, taken: int) -> Running:
    said, say = os.pipe()  # closed as the program begins
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
    return Running(pid, taken, time.monotonic(), ready=said)


def finish(running: Iterable[Running]) -> list[Ran]:
    """Wait for all; each one's time ends with it."""
    all_of_them = list(running)
    poll = select.epoll()
    alive = {os.pidfd_open(each.pid): each for each in all_of_them}
    for number in alive:
        poll.register(number, select.EPOLLIN)
    found: dict[int, Ran] = {}
    try:
        while alive:
            for number, _ in poll.poll():
                ended = time.monotonic()
                each = alive.pop(number)
                os.close(number)
                found[each.pid] = _reaped(each, ended)
    except BaseException:  # Ctrl-C: nobody is left behind
        _kill(alive.values())
        raise
    finally:
        poll.close()
    return [found[each.pid] for each in all_of_them]


def _kill(running: Iterable[Running]) -> None:
    for each in running:
        os.kill(each.pid, signal.SIGKILL)
        os.waitpid(each.pid, 0)


def _reaped(each: Running, ended: float) -> Ran:
    _, status, usage = os.wait4(each.pid, 0)
    stdout = b"".join(iter(lambda: os.read(each.out, 1 << 16), b""))
    os.close(each.out)
    if each.ready >= 0:
        if told := os.read(each.ready, AT_START.size):
            each.began, each.spent = AT_START.unpack(told)
        os.close(each.ready)
    cpu = usage.ru_utime + usage.ru_stime - each.spent
    return Ran(each.began, ended, cpu, os.waitstatus_to_exitcode(status), stdout)


def interleaved(kinds: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Run every kind in turn, so that what else the machine does falls on all alike; first once for free."""
    for work in kinds.values():
        work()
    found: dict[str, list[T]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, work in kinds.items():
            found[kind].append(work())
    return found


def median_ms(runs: Iterable[Ran], of: str = "wall") -> float:
    """Return the median of wall or CPU time in milliseconds."""
    values: list[float] = [getattr(each, of) for each in runs]
    return 1000 * statistics.median(values)
