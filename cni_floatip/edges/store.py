"""The node's disk: one claim, one file, written whole; and the locks that calls on one node take.

The only module that writes files; the client, which imports nothing of ours, has its own copy of that.
A file is replaced by rename after an fsync, so a reader sees the old one or the new one. Locks are byte
ranges of one file (``F_OFD_SETLK``, fcntl(2)): they need no clean-up and end with the process that holds
them, however it ends.
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
from ..model.values import Attachment, Place

_FLOCK = struct.Struct("hhqqi4x")
_WAIT = 0.02
_ABANDONED_SECONDS = 3600.0
_OWNER = 0  # byte 0 of the lock file: who works in this directory (direct mode: shared, an agent: alone)


@dataclass(frozen=True, slots=True)
class Problem:
    """A file in the claims directory that is not a claim we can read, and what was done about it."""

    path: Path
    reason: str
    moved: bool

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" + (" (moved to corrupt/)" if self.moved else " (kept as it is)")


class Store:
    """Claims and locks below one directory (``dataDir``), made with mode 0700."""

    def __init__(self, directory: str, *, sleep: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._root = Path(directory)
        self._claims = self._root / "claims"
        self._sleep = sleep
        self._clock = clock

    def __str__(self) -> str:
        return str(self._root)

    def exists(self) -> bool:
        """Whether anything was ever recorded here, or a call that may do so has begun."""
        return self._claims.is_dir()

    def has_lost_records(self) -> bool:
        """Whether there ever was a record that could not be read."""
        return any((self._root / "corrupt").glob("*"))

    def close_to_others(self) -> None:
        """Let nobody but root look into the directory: kubelet makes it for whom it likes."""
        with contextlib.suppress(OSError):
            self._root.chmod(0o700)

    # -- claims ---------------------------------------------------------------------------------------

    def put(self, claim: Claim) -> None:
        """Write ``claim``; when this returns it survives a power cut. Raises IoFailure."""
        path = self._path(claim.attachment)
        try:
            self._make_directories()
            write_whole(path, json.dumps(claim.document()).encode())
        except OSError as e:
            raise IoFailure(f"cannot record the claim of {claim.attachment} in {path}: {e.strerror}") from e

    def put_first(self, claim: Claim) -> bool:
        """Write ``claim`` where there is no record of its attachment; false where there is one."""
        if self._path(claim.attachment).exists():
            return False
        self.put(claim)
        return True

    def change(self, attachment: Attachment, change: Callable[[Claim], Claim]) -> Claim | None:
        """Put what ``change`` makes of the claim of ``attachment`` and return that; None where there is none.

        Raises IoFailure.
        """
        found = self.get(attachment)
        if not isinstance(found, Claim):
            return None
        changed = change(found).over(found)
        if changed != found:
            self.put(changed)
        return changed

    def written(self, attachment: Attachment) -> bool:  # noqa: ARG002 (as the agent's memory)
        """Whether what is known of ``attachment`` is on disk: nothing is known that is not."""
        return True

    def write_again(self) -> str | None:
        """Write what could not be written: there is nothing."""
        return None

    def get(self, attachment: Attachment) -> Claim | Problem | None:
        """Return the claim of ``attachment``; a Problem when its record is, or was, unreadable."""
        path = self._path(attachment)
        found = self._read(path)
        if found is None and any((self._root / "corrupt").glob(f"{path.stem}.*")):
            return Problem(path, "unreadable when an earlier call looked", moved=True)
        return found

    def all(self) -> tuple[list[Claim], list[Problem]]:
        """Return every claim on disk, oldest first, and every file that is not one."""
        claims: list[Claim] = []
        problems: list[Problem] = []
        try:
            paths = sorted(self._claims.glob("*.json"))
        except OSError as e:
            return [], [Problem(self._claims, e.strerror or str(e), moved=False)]
        for path in paths:
            found = self._read(path)
            if isinstance(found, Claim):
                claims.append(found)
            elif found is not None:
                problems.append(found)
        return sorted(claims, key=lambda claim: claim.created), problems

    def at(self, place: Place) -> list[Claim]:
        """Return the claims that have ``place`` among their routes, in whatever state, oldest first."""
        return [claim for claim in self.all()[0] if any(route.place == place for route in claim.routes)]

    def erase(self, attachment: Attachment) -> None:
        """Forget the claim of ``attachment``; nothing happens when there is none. Raises IoFailure."""
        path = self._path(attachment)
        try:
            path.unlink(missing_ok=True)
            if self._claims.exists():
                sync_directory(self._claims)
        except OSError as e:
            raise IoFailure(f"cannot remove {path}: {e.strerror}") from e

    def sweep(self) -> None:
        """Remove what calls left that were killed while they wrote: files that never became a claim."""
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
        try:
            corrupt.mkdir(mode=0o700, exist_ok=True)
            path.replace(corrupt / f"{path.stem}.{time.time_ns()}.json")
        except OSError:
            return False
        return True

    def _make_directories(self, *, claims: bool = True) -> None:
        for directory in (self._root, self._claims) if claims else (self._root,):
            if not directory.is_dir():
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                directory.chmod(0o700)  # whatever the umask took away

    # -- locks ----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def own(self, *, alone: bool, seconds: float = 0.0) -> Iterator[bool]:
        """Hold the directory: calls in direct mode share it, an agent has it alone. False: it is taken.

        To have it alone begins no call, so ``exists`` says afterwards what it said before. Each attempt opens
        the lock file anew, because the one before us may have removed the directory with it (uninstall).
        """
        until = self._clock() + seconds
        while True:
            with self._hold(_OWNER, seconds=0, shared=not alone, claims=not alone) as held:
                if held or self._clock() >= until:
                    yield held
                    return
            self._sleep(_WAIT)

    def lock(
        self, what: str, seconds: float, go_on: Callable[[], object] = lambda: None
    ) -> contextlib.AbstractContextManager[bool]:
        """Hold ``what`` among the processes of this node; false when it was not free in ``seconds``.

        Raises what ``go_on`` raises meanwhile.
        """
        return self._hold(_offset(what), seconds, go_on, shared=False)

    def is_locked(self, what: str) -> bool:
        """Whether some call (also of this process) holds ``what`` now. Takes nothing, so disturbs nobody."""
        request = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _offset(what), 1, 0)
        with self._opened() as fd:
            kind: int = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, request))[0]
        return kind != fcntl.F_UNLCK

    @contextlib.contextmanager
    def _hold(
        self,
        offset: int,
        seconds: float,
        go_on: Callable[[], object] = lambda: None,
        *,
        shared: bool,
        claims: bool = True,
    ) -> Iterator[bool]:
        request = _FLOCK.pack(fcntl.F_RDLCK if shared else fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
        until = self._clock() + seconds
        with self._opened(claims=claims) as fd:
            while not (held := _try_lock(fd, request)) and self._clock() < until:
                go_on()
                self._sleep(_WAIT)
            yield held

    @contextlib.contextmanager
    def _opened(self, *, claims: bool = True) -> Iterator[int]:
        try:
            self._make_directories(claims=claims)
            fd = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.fchmod(fd, 0o600)
        except OSError as e:
            raise IoFailure(f"cannot use the data directory {self._root}: {e.strerror}") from e
        try:
            yield fd
        finally:
            os.close(fd)


def _try_lock(fd: int, request: bytes) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, request)
    except OSError as e:
        if e.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise IoFailure(f"cannot lock in the data directory: {e.strerror}") from e
    return True


def _offset(what: str) -> int:
    return 1 + int.from_bytes(hashlib.sha256(what.encode()).digest()[:7], "big")


def write_whole(path: Path, content: bytes) -> None:
    """Put ``content`` in the place of the file at ``path``, on the disk when this returns. Raises OSError."""
    temporary = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.new")
    write_new(temporary, content)
    try:
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
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
