"""Cgroups of a lab's own: a container runtime makes its own below them, so that all are removed.

A cgroup of the same name is in every hierarchy of this machine: one for each controller, or a single one
(v2).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

EMPTY_WITHIN = 10.0
"""Seconds until the kernel has let go of the last process of a cgroup."""

# 0 is the process that writes.
ENTER = 'while [ "$1" != -- ]; do echo 0 >"$1/cgroup.procs"; shift; done; shift; exec "$@"'


@cache
def hierarchies() -> tuple[Path, ...]:
    """Return where each hierarchy is mounted."""
    lines = (line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return tuple(Path(line[4]) for line in lines if line[line.index("-") + 1] in ("cgroup", "cgroup2"))


def make(name: str) -> list[Path]:
    """Make a cgroup in every hierarchy; return where they are."""
    places = [root / name for root in hierarchies()]
    for place in places:
        place.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):  # of cpuset before v2: empty, and nothing may enter
            if (
                (place / file).exists()
                and place.parent in hierarchies()
                and not (place / file).read_text().strip()
            ):
                (place / file).write_text((place.parent / file).read_text())
    return places


def command(places: Sequence[Path]) -> list[str]:
    """Return what to put before a command that is to live in these cgroups."""
    return ["sh", "-euc", ENTER, "sh", *map(str, places), "--"] if places else []


def remove(prefix: str) -> None:
    """Remove the cgroups whose name begins so, and those below. Their processes must have ended."""
    end = time.monotonic() + EMPTY_WITHIN
    while left := [path for root in hierarchies() for path in root.glob(f"{prefix}*")]:
        for path in left:
            for below in sorted(path.glob("**/"), reverse=True):
                with contextlib.suppress(OSError):
                    below.rmdir()
        if time.monotonic() > end:
            return
        time.sleep(0.01)
