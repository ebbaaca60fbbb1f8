"""Starts programs and says what they cost: a small process in a node's namespace.

The benches must not start themselves what they measure here. The kernel counts in a process's highest
resident set what it had before its exec (``ru_maxrss``, getrusage(2)), which would be the bench's own with
the simulated EC2 in it; and a start would wait for the threads that answer as EC2. Standard library only:
started as ``python -I -S``.

One line of JSON in, ``{"commands": [{"argv": [...], "env": {...}, "stdin": "..."}], "at_once": 50,
"seconds": 120}``, one line out: for each command ``began`` and ``ended`` (time.monotonic), ``cpu`` seconds
and ``rss`` (KiB, of the largest process) of it and of all that it waited for, ``status``, and ``output``, the
end of what it wrote. After ``seconds`` what runs is killed with its process group; its ``status``, and that
of what has not begun, is null. The launcher ends at the end of its input, and so does what it has started:
a bench that is killed leaves nothing running.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

OUTPUT = 4000
"""Bytes of a program's output that its result has, the last ones."""

INPUT = 0
NOT_BEGUN: Mapping[str, Any] = {
    "began": 0.0,
    "ended": 0.0,
    "cpu": 0.0,
    "rss": 0,
    "status": None,
    "output": "",
}


class Program:
    """One program under way, in a session of its own."""

    def __init__(self, command: Mapping[str, Any]) -> None:
        given, self._written = os.memfd_create("stdin"), os.memfd_create("output")
        self.stopped = False
        try:
            os.write(given, command["stdin"].encode())
            os.lseek(given, 0, os.SEEK_SET)
            files = [
                (os.POSIX_SPAWN_DUP2, given, 0),
                *((os.POSIX_SPAWN_DUP2, self._written, n) for n in (1, 2)),
            ]
            argv = command["argv"]
            self.began = time.monotonic()
            self.pid = os.posix_spawn(
                argv[0], argv, command["env"], file_actions=files, setsid=True, setsigmask=()
            )
        finally:
            os.close(given)
        self.ends = os.pidfd_open(self.pid)

    def kill(self) -> None:
        """End it and the processes of its session's first group."""
        self.stopped = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> dict[str, Any]:
        """Wait for it; return what it cost."""
        _, status, usage = os.wait4(self.pid, 0)
        ended = time.monotonic()
        os.close(self.ends)
        size = os.lseek(self._written, 0, os.SEEK_END)
        output = os.pread(self._written, OUTPUT, max(0, size - OUTPUT))
        os.close(self._written)
        return {
            "began": self.began,
            "ended": ended,
            "cpu": usage.ru_utime + usage.ru_stime,
            "rss": usage.ru_maxrss,
            "status": None if self.stopped else os.waitstatus_to_exitcode(status),
            "output": output.decode(errors="replace"),
        }


def run(batch: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Run the commands, ``at_once`` side by side; return what each cost."""
    results: list[dict[str, Any]] = [dict(NOT_BEGUN) for _ in batch["commands"]]
    waiting = list(enumerate(batch["commands"]))[::-1]
    running: dict[int, tuple[int, Program]] = {}
    poll = select.epoll()
    poll.register(INPUT, 0)  # epoll always reports its end
    until = time.monotonic() + batch["seconds"]
    try:
        while waiting or running:
            while waiting and len(running) < batch["at_once"]:
                number, command = waiting.pop()
                with _no_end():  # else what has begun would not be known, and would go on
                    program = Program(command)
                    running[program.ends] = number, program
                poll.register(program.ends, select.EPOLLIN)
            for ends, _ in poll.poll(max(0.0, until - time.monotonic())):
                if ends == INPUT:
                    raise SystemExit
                number, program = running.pop(ends)
                poll.unregister(ends)
                results[number] = program.reap()
            if time.monotonic() >= until:
                break
    finally:
        for _, program in running.values():
            program.kill()
        for number, program in running.values():
            results[number] = program.reap()
        poll.close()
    return results


@contextlib.contextmanager
def _no_end() -> Iterator[None]:
    """Let SIGTERM wait."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def _end(_: int, __: FrameType | None) -> None:
    raise SystemExit


def main() -> None:
    """Run batch after batch. SIGTERM ends it, and what it has started."""
    signal.signal(signal.SIGTERM, _end)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
