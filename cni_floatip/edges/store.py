"""Stores claims on the node's disk, one file each, written atomically, and locks their directory.

The only module that writes files; the client, which imports nothing of ours, has its own copy of that code.
A file is replaced by rename after an fsync, so a reader sees the old one or the new one. One process locks
the directory at a time: an agent as long as it lives, a call in direct mode for its own length. The lock
(``F_OFD_SETLK``, fcntl(2)) needs no clean-up, because it ends with the process that holds it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..model.claim import VERSION, Claim
from ..model.errors import IoFailure
from ..model.values import Attachment
from ..model.waiting import always

_FLOCK = struct.Struct("hhqqi4x")
_WAIT = 0.02
_ABANDONED_SECONDS = 3600.0
_CALLS_LENGTH, _AGENTS_LENGTH = 1, 2
"""How many bytes of the lock file each locks; the second byte tells a call that an agent holds the lock."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A file in the claims directory that is no readable claim, and what was done about it."""

    path: Path
    reason: str
    moved: bool

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" + (" (moved to corrupt/)" if self.moved else " (kept as it is)")


class Store:
    """The claims below one directory (``dataDir``), which is made with mode 0700, and its lock.

    ``reads_only``: leaves an unreadable record where it is, because another process may own the directory.
    """

    def __init__(
        self,
        directory: str,
        *,
        sleep: Callable[[float], None],
        clock: Callable[[], float],
        reads_only: bool = False,
    ) -> None:
        self._root = Path(directory)
        self._claims = self._root / "claims"
        self._sleep = sleep
        self._clock = clock
        self._reads_only = reads_only

    def __str__(self) -> str:
        return str(self._root)

    def exists(self) -> bool:
        """Whether anything was ever recorded here, or a call that may do so has begun."""
        return self._claims.is_dir()

    def make(self) -> None:
        """Create the directory for a call, so that ``exists`` is true from now on. Raises IoFailure."""
        try:
            self._make_directories()
        except OSError as e:
            raise self._unusable(e) from e

    def check_usable(self) -> None:
        """Raise IoFailure if a call could not record a claim here. Creates nothing."""
        there = next(path for path in (self._claims, *self._claims.parents) if os.path.lexists(path))
        if not there.is_dir():
            raise self._unusable(OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
        if not os.access(there, os.W_OK | os.X_OK):
            raise self._unusable(OSError(errno.EACCES, f"{there} cannot be written"))

    def has_lost_records(self) -> bool:
        """Whether there ever was an unreadable record."""
        return any((self._root / "corrupt").glob("*"))

    def close_to_others(self) -> None:
        """Close the directory to all but root, because kubelet may have made it with another mode."""
        with contextlib.suppress(OSError):
            self._root.chmod(0o700)

    # -- claims ---------------------------------------------------------------------------------------

    def put(self, claim: Claim) -> None:
        """Write ``claim``; when this returns it survives a power cut. Raises IoFailure."""
        path, content = self._path(claim.attachment), json.dumps(claim.document()).encode()
        try:
            try:
                write_whole(path, content)
            except FileNotFoundError:  # the first claim
                self._make_directories()
                write_whole(path, content)
        except OSError as e:
            raise IoFailure(f"cannot record the claim of {claim.attachment} in {path}: {e.strerror}") from e

    def get(self, attachment: Attachment) -> Claim | Problem | None:
        """Return the claim of ``attachment``; a Problem when its record is, or was, unreadable."""
        path = self._path(attachment)
        record = self._read(path)
        if record is None and any((self._root / "corrupt").glob(f"{path.stem}.*")):
            return Problem(path, "unreadable when an earlier call looked", moved=True)
        return record

    def all(self) -> tuple[list[Claim], list[Problem]]:
        """Return every claim on disk, oldest first, and every file that is not one."""
        claims: list[Claim] = []
        problems: list[Problem] = []
        try:
            paths = sorted(self._claims.glob("*.json"))
        except OSError as e:
            return [], [Problem(self._claims, e.strerror or str(e), moved=False)]
        for path in paths:
            record = self._read(path)
            if isinstance(record, Claim):
                claims.append(record)
            elif record is not None:
                problems.append(record)
        return sorted(claims, key=lambda claim: claim.created_at), problems

    def erase(self, attachment: Attachment) -> None:
        """Erase the claim of ``attachment``, if there is one. Raises IoFailure."""
        path = self._path(attachment)
        try:
            path.unlink(missing_ok=True)
            if self._claims.exists():
                sync_directory(self._claims)
        except OSError as e:
            raise IoFailure(f"cannot remove {path}: {e.strerror}") from e

    def sweep(self) -> None:
        """Remove the temporary files of calls that were killed while they wrote."""
        for path in self._claims.glob("*.new"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    path.unlink()

    def _path(self, attachment: Attachment) -> Path:
        key = "\0".join((attachment.network, attachment.container, attachment.ifname))
        return self._claims / (hashlib.sha256(key.encode()).hexdigest()[:40] + ".json")

    def _read(self, path: Path) -> Claim | Problem | None:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as e:
            return Problem(path, e.strerror or str(e), moved=False)
        try:
            document = json.loads(content)
            version = document["version"]
            if isinstance(version, int) and version > VERSION:
                return Problem(path, f"written by a newer release (version {version})", moved=False)
            return Claim.parse(document)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            return Problem(path, f"unreadable: {e!r}", moved=self._set_aside(path))

    def _set_aside(self, path: Path) -> bool:
        corrupt = self._root / "corrupt"
        if self._reads_only:
            return False
        try:
            corrupt.mkdir(mode=0o700, exist_ok=True)
            path.replace(corrupt / f"{path.stem}.{time.time_ns()}.json")
        except OSError:
            return False
        return True

    def _make_directories(self) -> None:
        for directory in (self._root, self._claims):
            make_directory(directory)

    def _unusable(self, e: OSError) -> IoFailure:
        return IoFailure(f"cannot use the data directory {self._root}: {e.strerror}")

    # -- the lock -------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(
        self, seconds: float, go_on: Callable[[], object] = always, *, as_agent: bool = False
    ) -> Iterator[bool]:
        """Lock the directory; false: another process still holds it after so many seconds.

        Calls ``go_on`` before each further attempt and raises what that raises.
        """
        until = self._clock() + seconds
        request = _request(0, _AGENTS_LENGTH if as_agent else _CALLS_LENGTH)
        while True:
            with self._open_lock_file() as fd:  # anew each time: an uninstaller may remove the file
                held = _try_lock(fd, request) and os.fstat(fd).st_nlink > 0
                if held or self._clock() >= until:
                    yield held
                    return
            go_on()
            self._sleep(_WAIT)

    def is_locked(self) -> bool:
        """Whether a process holds the directory's lock. Neither takes nor creates it. Raises IoFailure."""
        return self._is_locked(_request(0, _CALLS_LENGTH))

    def is_locked_by_agent(self) -> bool:
        """Whether that process is an agent. Raises IoFailure."""
        return self._is_locked(_request(_CALLS_LENGTH, _AGENTS_LENGTH - _CALLS_LENGTH))

    def _is_locked(self, request: bytes) -> bool:
        try:
            fd = os.open(self._root / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as e:
            raise self._unusable(e) from e
        try:
            kind: int = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, request))[0]
        finally:
            os.close(fd)
        return kind != fcntl.F_UNLCK

    @contextlib.contextmanager
    def _open_lock_file(self) -> Iterator[int]:
        try:
            make_directory(self._root)
            fd = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.fchmod(fd, 0o600)
        except OSError as e:
            raise self._unusable(e) from e
        try:
            yield fd
        finally:
            os.close(fd)


def make_directory(directory: Path) -> None:
    """Make a directory for root only, unless it exists. Raises OSError."""
    if not directory.is_dir():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)  # whatever the umask took away


def _request(start: int, length: int) -> bytes:
    return _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)


def _try_lock(fd: int, request: bytes) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, request)
    except OSError as e:
        if e.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise IoFailure(f"cannot lock in the data directory: {e.strerror}") from e
    return True


def write_whole(path: Path, content: bytes) -> None:
    """Replace the file at ``path`` atomically; it is on the disk when this returns. Raises OSError."""
    temporary = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.new")
    write_new(temporary, content)
    try:
        temporary.replace(path)
    except BaseException:  # whatever it was: only whole files stay
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_new(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file that is on the disk when this returns. Raises OSError, with nothing left."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, mode)  # whatever the umask took away
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:  # whatever it was: only whole files stay
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def sync_directory(path: Path) -> None:
    """Wait until the names in a directory are on the disk. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
