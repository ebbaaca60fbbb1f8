"""A program of the cluster: started inside namespaces, noted for a later sweep, ended by its own id."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab import cgroups, leftovers, netns
from lab.errors import LabError
from lab.node import PATH


class Process:
    """One program at a time; ``start`` after ``kill`` is a restart.

    ``start`` it in a thread that lives as long as the program is to: the kernel ends the program with that
    thread (PR_SET_PDEATHSIG), so that a lab that is killed leaves nothing running.
    """

    def __init__(self, name: str, namespace: str, argv: Sequence[str], state: Path) -> None:
        """``namespace``: the network namespace's name. ``state``: the lab's directory, for log and note."""
        self.name = name
        self._enter = [f"--net={netns.path(namespace)}"]
        self._groups: list[str] = []
        self._forks = False
        self._argv = list(argv)
        self._noted = state / leftovers.PROCESSES / f"{name}.json"
        self.log_file = state / "logs" / f"{name}.log"
        self.process: subprocess.Popen[Any] | None = None

    def inside(self, leader: int, groups: Sequence[Path]) -> Process:
        """Let it live in these cgroups and in all namespaces of a process, one of which is for processes."""
        self._enter = ["--target", str(leader), "--mount", "--pid", "--net"]
        self._groups = cgroups.command(groups)
        self._forks = True
        return self

    def start(self, env: Mapping[str, str] | None = None, **options: Any) -> None:
        """Start it; what it prints is appended to its log."""
        for place in (self._noted.parent, self.log_file.parent):
            place.mkdir(parents=True, exist_ok=True)
        die = ["setpriv", "--pdeathsig", "KILL"]
        command = [*self._groups, *die, "nsenter", *self._enter, *(die if self._forks else []), *self._argv]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env={"PATH": PATH, "LANG": "C.UTF-8", **(env or {})},
                cwd="/",
                start_new_session=True,  # Ctrl-C is for the lab, which then ends this
                **{"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, **options},
            )
        leftovers.note_process(self._noted, self.process.pid)

    def start_and_wait(self, **options: Any) -> None:
        """Start it and wait until it prints ``ready``. Raises ``LabError`` with its log if it ends."""
        self.start(stdout=subprocess.PIPE, **options)
        assert self.process is not None
        assert self.process.stdout is not None
        if self.process.stdout.readline() != b"ready\n":
            raise LabError(f"{self.name} does not start:\n{self}")

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """The program's own process id on the machine. Raises ``LabError`` if it has ended."""
        if self.process is None or self.process.poll() is not None:
            raise LabError(f"{self.name} has ended:\n{self}")
        return child_of(self.process.pid) if self._forks else self.process.pid

    def kill(self) -> None:
        """End it at once, and wait until it is gone. Nothing happens if it does not run."""
        if self.process is None:
            return
        with contextlib.suppress(LabError, ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.process.kill()
        self.process.communicate()
        self.process = None
        self._noted.unlink(missing_ok=True)

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def __str__(self) -> str:
        return "\n".join(self.log.splitlines()[-30:]) or "(it has written nothing)"


def child_of(pid: int) -> int:
    """Return the only child of a process, as soon as there is one. Raises ``LabError`` if it ends."""
    while leftovers.Owner.of(pid).started:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                return int(children[0])
        time.sleep(0.01)
    raise LabError(f"process {pid} has ended")
