"""What the kernel says of this boot and of namespaces, and the clock by which decisions age."""

from __future__ import annotations

import os
import time
from pathlib import Path


def clock() -> float:
    """Seconds since boot, also those that the machine slept: a decision ages in its sleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot() -> str:
    """The kernel's id of this boot: namespaces of another one are gone."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def inode(netns: str) -> int:
    """The identity of the namespace at a path, 0 when there is none: a path may come to lead to another."""
    try:
        return os.stat(netns).st_ino if netns else 0  # noqa: PTH116 (the path may be /proc/PID/ns/net)
    except (OSError, ValueError):  # ValueError: no path can be written so
        return 0
