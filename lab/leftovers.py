"""What a lab leaves on the machine while it runs, who owns it, and how it goes when its owner is dead.

Everything a lab makes is found by its prefix ``fl-<pid>-``: namespaces, cgroups, and a state directory that
names the owning process and those that it started. A process is known by pid *and* start time, because pids
come again.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab import cgroups, netns

EXPECTED = Path("/run/floatip-lab")


def _place() -> Path:
    """Return where labs keep their state: where programs may be, which Debian's /run is not (noexec)."""
    here = os.environ.get("FLOATIP_LAB")
    noexec = Path("/run").is_dir() and os.statvfs("/run").f_flag & os.ST_NOEXEC
    return Path(here or ("/var/tmp/floatip-lab" if noexec else EXPECTED))  # noqa: S108 (root's)


STATE = _place()
"""Where labs keep their state. With another directory in ``FLOATIP_LAB``, another ``lab up`` can run."""


def show_place() -> None:
    """Let the place that documents name lead to the state, where that had to be elsewhere."""
    if not os.environ.get("FLOATIP_LAB") and STATE != EXPECTED and not EXPECTED.exists():
        EXPECTED.unlink(missing_ok=True)
        EXPECTED.symlink_to(STATE)


AGENT = "agent.json"
"""Notes the process of a node's agent, in the node's directory."""

PROCESSES = "processes"
"""The directory of a lab that has such a note for every other process."""

PREFIX = re.compile(r"fl-(\d+)-")


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that a lab belongs to."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Owner:
        """Return the process as it is now; its start time is empty if there is none."""
        return cls(pid, _started(pid))

    @property
    def alive(self) -> bool:
        return bool(self.started) and _started(self.pid) == self.started


def _started(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]  # field 22, counted behind the name; a zombie owns nothing


def register(prefix: str, pid: int) -> Path:
    """Make the state directory of a lab and note its owner; return it."""
    state = STATE / prefix.rstrip("-")
    state.mkdir(parents=True, exist_ok=True)
    note_process(state / "owner.json", pid)
    return state


def note_process(path: Path, pid: int) -> None:
    """Write down who a process is, atomically, because others read it as soon as it is there."""
    noted = Owner.of(pid)
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"pid": noted.pid, "started": noted.started}))
    new.replace(path)


def remove(prefix: str) -> None:
    """Remove a lab's processes, cgroups, namespaces and state directory."""
    state = STATE / prefix.rstrip("-")
    for noted in (*state.glob(f"*/{AGENT}"), *state.glob(f"{PROCESSES}/*.json")):
        _end(noted)
    cgroups.remove(prefix)
    netns.remove(netns.existing(prefix))
    shutil.rmtree(state, ignore_errors=True)


def _end(noted: Path) -> None:
    """End the process that was noted, if it is still the same one, and wait until it is no more."""
    try:
        process = noted_process(noted)
    except (OSError, ValueError, KeyError):
        return  # the note went meanwhile, or is no note
    until = time.monotonic() + 5
    while process.alive and time.monotonic() < until:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.01)


def labs() -> Iterator[tuple[str, Owner]]:
    """Yield the prefix and owner of every lab of which something is left."""
    names = {m[0] for name in netns.existing("fl-") if (m := PREFIX.match(name))}
    if STATE.is_dir():
        names |= {f"{entry.name}-" for entry in STATE.iterdir() if PREFIX.match(f"{entry.name}-")}
    for prefix in sorted(names):
        yield prefix, _owner(prefix)


def _owner(prefix: str) -> Owner:
    noted = STATE / prefix.rstrip("-") / "owner.json"
    try:
        return noted_process(noted)
    except (OSError, ValueError, KeyError):
        # No note: the pid in the prefix decides; a lab that is starting is left alone.
        return Owner.of(int(prefix.split("-")[1]))


def noted_process(noted: Path) -> Owner:
    """Return the process that ``note_process`` has written down."""
    result = json.loads(noted.read_text())
    return Owner(int(result["pid"]), str(result["started"]))


def sweep() -> list[str]:
    """Remove what labs left whose process is dead; return their prefixes."""
    dead = [prefix for prefix, owner in labs() if not owner.alive]
    for prefix in dead:
        remove(prefix)
    return dead
