"""Reads the kernel's boot id, the inodes of namespaces, and the clock by which decisions age."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

ENTRIES = 4096
"""How many names of a directory are looked at."""
_OWN = "/proc/self/ns/net"


def clock() -> float:
    """Seconds since boot, including suspend, because a decision ages during suspend too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot() -> str:
    """The kernel's id of this boot; namespaces of another boot are gone."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def sees_itself() -> bool:
    """Whether ``/proc`` shows this process: not if it belongs to a PID namespace without the process."""
    return os.path.exists(_OWN)  # noqa: PTH110 (follows the link)


def inode(netns: str) -> int:
    """The inode of the namespace at a path, 0 when there is none; a path may come to lead to another."""
    try:
        return os.stat(netns).st_ino if netns else 0  # noqa: PTH116 (the path may be /proc/PID/ns/net)
    except (OSError, ValueError):  # ValueError: no path can be written so
        return 0


def is_hidden(netns: str) -> bool:
    """Whether the path exists but is no namespace.

    A namespace looks like this if it was made after our mount of its directory, and that mount does not
    follow the host's (no HostToContainer propagation): we see the file, but not what is mounted on it.
    """
    try:
        return os.stat(netns).st_dev != os.stat(_OWN).st_dev  # noqa: PTH116 (follows links)
    except OSError:
        return False


def holds_namespace(directory: str) -> bool:
    """Whether anything in ``directory`` is a namespace (nsfs) other than this process's own."""
    try:
        own = os.stat(_OWN)  # noqa: PTH116 (follows the link)
        with os.scandir(directory) as entries:
            for entry in itertools.islice(entries, ENTRIES):
                try:
                    status = entry.stat()
                except OSError:  # a dangling link, or a name that has vanished since
                    continue
                if status.st_dev == own.st_dev and status.st_ino != own.st_ino:
                    return True
    except OSError:
        return False
    return False
