"""Reads the installed client from the plugin directory, and says why it cannot be used if so."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from . import files
from .rendering import is_anothers, read_label

RUNNABLE = 0o555
Signature = tuple[tuple[int, ...] | None, ...]


class Unsound(Exception):
    """The client cannot be used; the text says why."""


class AnotherProgram(Unsound):
    """Somebody else's program has its name."""


@dataclass(frozen=True, slots=True)
class Installed:
    """A client that is whole, with an interpreter that is, too."""

    path: Path
    release: str
    recipe: str
    interpreter: Path

    @property
    def version(self) -> str:
        """The name of its versioned directory; "" for an interpreter elsewhere."""
        versions = self.path.parent / files.VERSIONS
        return self.interpreter.parent.name if self.interpreter.parent.parent == versions else ""


def read_installed(bin_dir: Path) -> Installed:
    """Return the client in ``bin_dir``. Raises Unsound."""
    path = bin_dir / files.NAME
    try:
        mode = path.lstat().st_mode
        content = path.read_bytes() if stat.S_ISREG(mode) else b""
        if stat.S_ISLNK(mode) and path.is_file():
            content = path.read_bytes()
    except FileNotFoundError as e:
        raise Unsound(f"{path} is not there") from e
    except OSError as e:
        raise Unsound(f"{path} cannot be read: {e.strerror}") from e
    if stat.S_ISDIR(mode):
        raise AnotherProgram(f"{path} is a directory")
    if is_anothers(content):
        raise AnotherProgram(f"{path} is another's program")
    if not stat.S_ISREG(mode):
        raise Unsound(f"{path} is not a regular file")
    label = read_label(content)
    if label is None:
        raise Unsound(f"{path} is truncated or changed")
    if mode & RUNNABLE != RUNNABLE:
        raise Unsound(f"{path} is not executable by everybody (mode {stat.S_IMODE(mode):o})")
    installed = Installed(path, label.release, label.recipe, Path(label.interpreter))
    _see_interpreter(installed)
    return installed


def _see_interpreter(installed: Installed) -> None:
    path = installed.interpreter
    try:
        mode = path.lstat().st_mode if installed.version else path.stat().st_mode
        if not stat.S_ISREG(mode) or mode & RUNNABLE != RUNNABLE:
            raise Unsound(f"the interpreter {path} is not executable by everybody")
        if installed.version and not files.digest(path).startswith(installed.version.rpartition("-")[2]):
            raise Unsound(f"the interpreter {path} is truncated or changed")
    except OSError as e:
        raise Unsound(f"the interpreter {path} cannot be used: {e.strerror}") from e


def signature(*paths: Path) -> Signature:
    """Return a value that changes whenever one of the files is touched. Raises nothing."""
    return tuple(_signature(path) for path in paths)


def _signature(path: Path) -> tuple[int, ...] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return (
        status.st_dev,
        status.st_ino,
        status.st_mode,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
