"""Installs the client into the runtime's plugin directory, atomically and after a trial run.

What a runtime executes is one regular file, ``DIR/floatip``, and the interpreter that its first line names:
below ``DIR/.floatip`` when it comes from a node bundle, else one that is on the node. The file is replaced by
a rename, so a runtime that starts ``floatip`` at any moment runs the former or the new one. Installers come
one after the other; where nothing would change, nothing is written.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from ..config.nodeconf import NodeConf
from ..edges.store import sync_directory
from ..model.errors import CniError, IoFailure
from . import files, interpreters
from .files import NAME, DeadMount
from .installed import AnotherProgram, Installed, Unsound, read_installed, signature
from .remove import remove_client
from .rendering import first_line, recipe, render
from .smoke_test import smoke_test

__all__ = [
    "NAME",
    "AnotherProgram",
    "DeadMount",
    "Installed",
    "Unsound",
    "default_bundle",
    "default_interpreter",
    "install_client",
    "read_installed",
    "remove_client",
    "render",
    "signature",
    "smoke_test",
]


def default_interpreter() -> str:
    """Return the interpreter that runs us, without the virtual environment that the client has no use for."""
    return os.path.realpath(sys.executable)


def default_bundle() -> Path | None:
    """Return the node bundle of the image, where there is one."""
    return interpreters.BUNDLE if interpreters.BUNDLE.is_dir() else None


def install_client(
    bin_dir: Path,
    policy: NodeConf,
    interpreter: str = "",
    *,
    bundle: Path | None = None,
    only_unsound: bool = False,
) -> Path:
    """Install the client in ``bin_dir``, an absolute path; return its own. Twice is once. Raises CniError.

    It runs with the interpreter of ``bundle``, which is put there too, or else with ``interpreter`` where
    that is. What is there stays until the new one has answered a VERSION; ``only_unsound``: it stays unless
    it cannot be used.
    """
    path = bin_dir / NAME
    try:
        with files.alone_in(bin_dir):
            files.remove_temporary(bin_dir)
            former = _sound(bin_dir)
            stays = former and (only_unsound or _is_wanted(former, policy, interpreter, bundle))
            if not (stays and _works(path)):
                _replace(bin_dir, former, policy, interpreter, bundle)
            interpreters.remove_superseded(bin_dir, read_installed(bin_dir).version)
    except OSError as e:
        raise files.failure(path, e) from e
    except Unsound as e:  # right after it worked: somebody else is at work here
        raise IoFailure(f"cannot install {path}: {e}") from e
    return path


def _sound(bin_dir: Path) -> Installed | None:
    """Return the installed client if it can be used. Raises IoFailure for another's program."""
    try:
        return read_installed(bin_dir)
    except AnotherProgram as e:
        raise IoFailure(f"cannot install: {e}: move it away, and install again") from e
    except Unsound:
        return None


def _is_wanted(installed: Installed, policy: NodeConf, interpreter: str, bundle: Path | None) -> bool:
    wanted = interpreters.path_of(installed.path.parent, bundle) if bundle else None
    return installed.recipe == recipe(policy, str(wanted or interpreter or default_interpreter()))


def _works(client: Path) -> bool:
    try:
        smoke_test(client)
    except IoFailure:
        return False
    return True


def _replace(
    bin_dir: Path, former: Installed | None, policy: NodeConf, interpreter: str, bundle: Path | None
) -> None:
    files.refuse_read_only(bin_dir)
    if not bundle:
        _put_client(bin_dir, former, policy, interpreter or default_interpreter())
        return
    place = interpreters.path_of(bin_dir, bundle)
    _refuse_unnameable(bin_dir, place)
    with interpreters.staged(place, bundle):
        _put_client(bin_dir, former, policy, str(place))


def _put_client(bin_dir: Path, former: Installed | None, policy: NodeConf, interpreter: str) -> None:
    path = bin_dir / NAME
    new = files.put(path, render(policy, interpreter))
    try:
        smoke_test(new)
        interpreters.superseded_now(bin_dir, former.version if former else "")
        _switch(new, path)
    finally:
        with contextlib.suppress(OSError):
            new.unlink()


def _refuse_unnameable(bin_dir: Path, interpreter: Path) -> None:
    try:
        first_line(str(interpreter))
    except IoFailure as e:
        raise IoFailure(f"cannot install into {bin_dir}: {e.msg}: choose another --bin-dir") from e


def _switch(new: Path, path: Path) -> None:
    """Replace ``path`` by the new file. If that does not work there, put the former back."""
    former = files.keep_former(path)
    try:
        new.replace(path)
        sync_directory(path.parent)
        smoke_test(path)
    except (OSError, CniError):
        if former:
            former.replace(path)
        else:
            path.unlink(missing_ok=True)
        sync_directory(path.parent)
        raise
    finally:
        if former:
            with contextlib.suppress(OSError):
                former.unlink()
