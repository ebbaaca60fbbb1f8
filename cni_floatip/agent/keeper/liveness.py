"""Whether a pod is gone although no DEL came: said on evidence only, and of one claim per minute at most.

A path that is absent proves nothing by itself: the agent's own view of the directory may be empty (a mount
that did not propagate, a runtime that keeps its namespaces elsewhere), and then every pod of the node would
look gone at once (DESIGN 6, R1-06).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ...model.claim import Claim

ENTRIES = 4096
"""How many names of a directory are looked at."""


def visible(claim: Claim, inode: Callable[[str], int]) -> bool:
    """Whether the claim's namespace is where it was, and still that one."""
    return bool(claim.netns_inode) and inode(claim.netns) == claim.netns_inode


def gone(claims: Sequence[Claim], inode: Callable[[str], int]) -> list[Claim]:
    """Return those of ``claims`` whose namespace is gone beyond doubt, oldest first."""
    absent = [claim for claim in claims if not visible(claim, inode) and not _is_hidden(claim.netns)]
    seen = {str(Path(claim.netns).parent) for claim in claims if visible(claim, inode)}
    return [claim for claim in absent if _beside(claim.netns, seen)]


def none_visible(claims: Sequence[Claim], inode: Callable[[str], int]) -> bool:
    """Whether there are claims, and no namespace of any of them can be seen: then nothing can be said."""
    return bool(claims) and not any(
        visible(claim, inode) or _beside(claim.netns, frozenset()) for claim in claims
    )


def _is_hidden(netns: str) -> bool:
    """Whether something is at the path that is no namespace.

    So a namespace looks that was made after a mount of its directory that does not follow the host's (no
    HostToContainer propagation): the file is there, what is mounted on it is not.
    """
    try:
        return os.stat(netns).st_dev != os.stat("/proc/self/ns/net").st_dev  # noqa: PTH116 (follows links)
    except OSError:
        return False


def _beside(netns: str, seen: set[str] | frozenset[str]) -> bool:
    """Whether a live namespace is visible under the mount that ``netns`` is, or was, under."""
    directory = str(Path(netns).parent)
    return directory in seen or _holds_a_namespace(directory)


def _holds_a_namespace(directory: str) -> bool:
    """Whether anything in ``directory`` is a namespace (nsfs) other than this process's own."""
    try:
        own = os.stat("/proc/self/ns/net")  # noqa: PTH116 (follows the link)
        with os.scandir(directory) as entries:
            for entry in itertools.islice(entries, ENTRIES):
                try:
                    found = entry.stat()
                except OSError:  # a link that leads nowhere, a name that has vanished since
                    continue
                if found.st_dev == own.st_dev and found.st_ino != own.st_ino:
                    return True
    except OSError:
        return False
    return False
