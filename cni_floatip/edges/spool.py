"""Reads the spool of DELs that wait: which files there are, and whose. Writes nothing."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from ..model.claim import Claim
from ..model.errors import IoFailure
from ..protocol import wire

SUFFIX = ".del"
NOTE = ".add"
"""The suffix of a note by which an ADD in direct mode announces itself to the DELs of its attachment."""
SHOWN = 3
"""How many files a sentence names."""

Owner = tuple[str, str]
"""Container and interface, as the environment in a file names them."""

File = tuple[str, int, int]
"""Name, inode and time of change, so that a rewritten file counts as another one."""


def opened(path: Path) -> BinaryIO:
    """Open a file of the spool for reading. Raises OSError, also for a FIFO, whose reader would block."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "this is no file")
    return os.fdopen(fd, "rb")


def owner_of(path: Path) -> Owner | None:
    """Return the attachment of a file's DEL; None for a file that is unreadable as a DEL, or gone."""
    try:
        with opened(path) as file:
            length = file.read(4)
            block = file.read(min(int.from_bytes(length, "big"), wire.MOST_BODY))
        env = wire.read_body(length + block).env
    except (OSError, wire.Malformed):
        return None
    return env.get("CNI_CONTAINERID", ""), env.get("CNI_IFNAME", "")


def name_of(container: str, ifname: str, stdin: bytes) -> str:
    """Return the name that the client gives the file of a DEL."""
    key = b"\0".join((os.fsencode(container), os.fsencode(ifname), stdin))
    return hashlib.sha256(key).hexdigest()[:40] + SUFFIX


def snapshot(directory: str) -> frozenset[File]:
    """Return the files in the spool without reading them."""
    results = set()
    for path in Path(directory).glob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError):  # done meanwhile
            status = path.stat()
            results.add((path.name, status.st_ino, status.st_mtime_ns))
    return frozenset(results)


def waiting(directory: str) -> Mapping[Owner, list[str]]:
    """Return the files in the spool, by owner. Raises IoFailure for a spool that we may not read."""
    root = Path(directory)
    results: dict[Owner, list[str]] = {}
    try:
        paths = sorted(path for path in root.iterdir() if path.suffix == SUFFIX)
    except (FileNotFoundError, NotADirectoryError):  # nobody has left anything yet
        return results
    except OSError as e:
        raise IoFailure(f"cannot read {directory}: {e.strerror or e}") from e
    for path in paths:
        if owner := owner_of(path):
            results.setdefault(owner, []).append(str(path))
    return results


def files_of(claim: Claim, files: Mapping[Owner, list[str]]) -> list[str]:
    """Return the files that hold a DEL of the claim."""
    return files.get((claim.attachment.container, claim.attachment.ifname), [])


def reported(claims: Iterable[Claim], files: Mapping[Owner, list[str]]) -> list[str]:
    """Say of which of ``claims`` a DEL waits."""
    return [f"{claim.attachment}: {sentence(paths)}" for claim in claims if (paths := files_of(claim, files))]


def sentence(paths: list[str]) -> str:
    """Say that these DELs wait."""
    count = len(paths)
    more = f" and {count - SHOWN} more" if count > SHOWN else ""
    files = ", ".join(paths[:SHOWN]) + more
    return f"{count} DEL{'s' * (count != 1)} wait{'s' * (count == 1)} in the spool: {files}"
