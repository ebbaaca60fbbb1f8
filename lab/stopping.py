"""Stopping a process so that it stands still before anything else happens."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from lab.errors import LabError

STANDS_WITHIN = 60.0
STOPPED, ENDED = "T", {"Z", "X"}


def stop_process(pid: int) -> None:
    """Send SIGSTOP and wait until every thread stands still.

    The signal alone does not wait: on a busy machine a thread answers one more request. Raises ``LabError``
    if one runs on.
    """
    os.kill(pid, signal.SIGSTOP)
    end = time.monotonic() + STANDS_WITHIN
    while not _states(pid) <= {STOPPED, *ENDED}:
        if time.monotonic() > end:
            raise LabError(f"process {pid} does not stop: its threads are {_states(pid)}")
        time.sleep(0.001)


def _states(pid: int) -> set[str]:
    """Return the states of a process's threads: the third field of ``stat`` in proc_pid_stat(5)."""
    states = set()
    for path in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
            states.add(path.read_text().rpartition(") ")[2][0])
    return states
