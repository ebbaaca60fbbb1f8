"""Manages the interpreters of the plugin directory, one per version: ``DIR/.floatip/RELEASE-DIGEST/python``.

A superseded interpreter stays for ten minutes, and as long as it runs. A running call reads from it, and a
call that has just read the former first line is about to start it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from .. import __version__
from ..edges.store import sync_directory
from ..model.errors import CniError, IoFailure
from . import files

BUNDLE = Path("/usr/libexec/floatip")
"""Where the image has the node bundle: an interpreter that needs nothing of its host."""
PYTHON = "python"
SUPERSEDED_SECONDS = 600.0


@contextlib.contextmanager
def staged(path: Path, bundle: Path) -> Iterator[None]:
    """Have the bundle's interpreter at ``path``, and keep it there unless what follows is refused.

    An interrupt leaves the files, as a kill would: the installed client may already use them.
    Raises OSError, IoFailure.
    """
    directories = (path.parent.parent, path.parent)
    made = [path for path in directories if not path.is_dir()]
    try:
        for directory in directories:
            directory.mkdir(exist_ok=True)
            if stat.S_IMODE(directory.stat().st_mode) != files.MODE:  # whatever the umask took away
                directory.chmod(files.MODE)
        if not _is_whole(path, bundle):
            files.write(path, _read(bundle))
        for item in (*reversed(directories), path.parent.parent.parent):
            sync_directory(item)
        yield
    except (OSError, CniError):
        for item in reversed(made):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
                item.rmdir()
        raise


def _is_whole(path: Path, bundle: Path) -> bool:
    try:
        mode = path.lstat().st_mode  # a link leads elsewhere on the host than in our container
        return mode == stat.S_IFREG | files.MODE and files.digest(path) == files.digest(bundle / PYTHON)
    except OSError:
        return False


def path_of(bin_dir: Path, bundle: Path) -> Path:
    """Return where the bundle's interpreter is, or will be. Raises IoFailure."""
    try:
        result = files.digest(bundle / PYTHON)
    except OSError as e:
        raise _no_bundle(bundle, e) from e
    return bin_dir / files.VERSIONS / f"{__version__}-{result[:12]}" / PYTHON


def _read(bundle: Path) -> bytes:
    try:
        return (bundle / PYTHON).read_bytes()
    except OSError as e:
        raise _no_bundle(bundle, e) from e


def superseded_now(bin_dir: Path, version: str) -> None:
    """Mark a version as superseded: its ten minutes begin now."""
    if version:
        with contextlib.suppress(OSError):
            os.utime(bin_dir / files.VERSIONS / version)


def remove_superseded(bin_dir: Path, current: str) -> list[str]:
    """Remove the versions that no process can be running any more; return their names. Raises nothing."""
    removed = []
    for directory in versions(bin_dir):
        with contextlib.suppress(OSError):
            age = time.time() - directory.stat().st_mtime
            if directory.name != current and age > SUPERSEDED_SECONDS and not is_running(directory / PYTHON):
                shutil.rmtree(directory)
                removed.append(directory.name)
    if not current:
        with contextlib.suppress(OSError):
            (bin_dir / files.VERSIONS).rmdir()
    return removed


def versions(bin_dir: Path) -> Iterator[Path]:
    """Yield the versioned directories."""
    with contextlib.suppress(OSError):
        yield from (path for path in sorted((bin_dir / files.VERSIONS).iterdir()) if path.is_dir())


def is_running(path: Path) -> bool:
    """Whether some process, in whatever container, runs this file. Not every kernel can tell."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
    except OSError as e:
        return e.errno == errno.ETXTBSY
    return False


def _no_bundle(bundle: Path, error: OSError) -> IoFailure:
    return IoFailure(f"{bundle} is no node bundle: {bundle / PYTHON}: {error.strerror}")
