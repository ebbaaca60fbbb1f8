"""Removes the client from the plugin directory: the visible file first, then its interpreters."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ..edges.store import sync_directory
from . import files
from .installed import AnotherProgram, Unsound, read_installed


def remove_client(bin_dir: Path, *, dry_run: bool = False) -> list[str]:
    """Remove the client, its interpreters and what killed installers left; return what has gone.

    Another's program is left where it is. Raises IoFailure, TryAgain.
    """
    if not bin_dir.is_dir():
        return []
    try:
        with files.alone_in(bin_dir):
            if dry_run:
                return [str(path) for path in _ours(bin_dir)]
            files.remove_temporary(bin_dir)
            gone = []
            for path in _ours(bin_dir):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                gone.append(str(path))
            if gone:
                sync_directory(bin_dir)
            return gone
    except OSError as e:
        raise files.failure(bin_dir / files.NAME, e, "remove") from e


def _ours(bin_dir: Path) -> Iterator[Path]:
    path = bin_dir / files.NAME
    if os.path.lexists(path) and not _is_anothers(bin_dir):
        yield path
    if (versions := bin_dir / files.VERSIONS).is_dir():
        yield versions


def _is_anothers(bin_dir: Path) -> bool:
    try:
        read_installed(bin_dir)
    except AnotherProgram:
        return True
    except Unsound:
        pass
    return False
