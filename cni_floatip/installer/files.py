"""Writes files of the plugin directory atomically.

A temporary file stands beside its place, gets its mode, goes to the disk and is read back before it is
renamed. Names that begin with a dot and end in ``.new`` or ``.former`` are such files. The installer that
holds the directory's lock removes those that a killed installer left.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from ..edges.store import write_new
from ..model.errors import IoFailure, TryAgain

NAME = "floatip"
VERSIONS = f".{NAME}"
MODE = 0o755
ALONE_SECONDS = 120.0
_PAUSE = 0.05
_TEMPORARY = (f".{NAME}.*.new", f".{NAME}.*.former", f"{VERSIONS}/*/.*.new", f"{VERSIONS}/.*.new")


class DeadMount(IoFailure):
    """A volume shows a directory that was removed on the host: nothing can be made in it any more.

    If the host has another one at that path by now, only a container that starts after it sees that.
    """


@contextlib.contextmanager
def alone_in(bin_dir: Path, seconds: float = ALONE_SECONDS) -> Iterator[None]:
    """Lock ``bin_dir`` against installers of all containers. Raises TryAgain, OSError."""
    until = time.monotonic() + seconds
    fd = os.open(bin_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise TryAgain(
                        f"{bin_dir}: another installer has been running here for {seconds:.0f} s: wait for"
                        " it, or end it (lslocks shows which process it is)"
                    ) from None
                time.sleep(_PAUSE)
        yield
    finally:
        os.close(fd)


def temporary(path: Path, kind: str = "new") -> Path:
    """Return a name beside ``path``: that of a file that is on its way there, or was there ("former")."""
    return path.with_name(f".{path.name}.{os.urandom(6).hex()}.{kind}")


def put(path: Path, content: bytes) -> Path:
    """Write ``content`` to a temporary file beside ``path`` and return that, verified, for a rename.

    Raises OSError, with nothing left; IoFailure for a disk that gives back something else.
    """
    new = temporary(path)
    write_new(new, content, MODE)
    try:
        with new.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # so that it is the disk we read
        if digest(new) != hashlib.sha256(content).hexdigest():
            raise IoFailure(
                f"{path}: reading it back does not return what was written: the disk may be failing"
            )
    except BaseException:  # whatever it was: no temporary file stays
        with contextlib.suppress(OSError):
            new.unlink()
        raise
    return new


def write(path: Path, content: bytes) -> None:
    """Replace the file at ``path`` by ``content``. Raises OSError, IoFailure, with nothing left."""
    new = put(path, content)
    try:
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def keep_former(path: Path) -> Path | None:
    """Give what is at ``path`` a second name, from where it can be put back; None where nothing is."""
    former = temporary(path, "former")
    try:
        os.link(path, former, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError:  # a file system without hard links
        try:
            shutil.copy2(path, former, follow_symlinks=False)
        except OSError:
            former.unlink(missing_ok=True)
            raise
    return former


def remove_temporary(bin_dir: Path) -> None:
    """Remove what killed installers left. The caller holds the lock of ``bin_dir``."""
    for pattern in _TEMPORARY:
        for path in bin_dir.glob(pattern):
            with contextlib.suppress(OSError):
                path.unlink()


def failure(path: Path, error: OSError, what: str = "install") -> IoFailure:
    """Return the message for an error of the disk: what failed, where, and what to do."""
    if error.errno == errno.ENOENT and _is_dead(path.parent):
        return DeadMount(
            f"cannot {what} {path}: somebody removed the mounted directory on the host, and this container"
            " does not see a new one: restart this container"
        )
    remedy = _REMEDIES.get(error.errno or 0, "")
    place = error.filename2 or error.filename  # of a rename, where it was to lead
    where = f" ({place})" if place and str(place) != str(path) else ""
    return IoFailure(f"cannot {what} {path}: {error.strerror or error}{where}{remedy and f': {remedy}'}")


def _is_dead(directory: Path) -> bool:
    """Whether the path leads to a directory that has no name any more: what is mounted there was removed."""
    try:
        return directory.stat().st_nlink == 0
    except OSError:
        return False


def refuse_read_only(bin_dir: Path) -> None:
    """Raise IoFailure for a file system on which nothing can be written, or nothing run."""
    flags = os.statvfs(bin_dir).f_flag
    if flags & os.ST_RDONLY:
        raise failure(bin_dir / NAME, OSError(errno.EROFS, os.strerror(errno.EROFS)))
    if flags & os.ST_NOEXEC:
        raise IoFailure(
            f"cannot install {bin_dir / NAME}: its file system is mounted noexec, so that no runtime can run "
            "it: mount it with exec, or let --bin-dir be the directory that the runtime has its plugins in"
        )


_KEPT = "the previous files are unchanged"
_REMEDIES = {
    errno.ENOENT: "make the directory first",
    errno.ENOTDIR: "--bin-dir must be a directory",
    errno.EEXIST: "move away what is there, and try again",
    errno.EISDIR: "move away what is there, and try again",
    errno.ENOSPC: f"free some space and install again; {_KEPT}",
    errno.EDQUOT: f"free some space and install again; {_KEPT}",
    errno.EROFS: "mount it writable (in a pod: the volume without readOnly)",
    errno.EACCES: "be root; what root may not do, SELinux may forbid (ausearch -m avc)",
    errno.EPERM: "be root, and look for an immutable flag (lsattr)",
    errno.EIO: "the disk may be failing",
}
