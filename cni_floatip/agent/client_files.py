"""Keeps the installed client usable, because a runtime that cannot start it makes the node as good as dead.

Once a second the agent checks whether the files are still the ones that it has found whole; that costs two
``stat``. When they have changed it reads them, and repairs the client if it cannot be used. It leaves a
usable client of another release alone: that release's installer was here, and its agent comes or has come
too. Only at its start an agent makes the client its own. An agent that is ending repairs nothing.

One failure is fatal: the directory was removed on the host, and maybe made again. The container sees the
removed one until it is started again. All other failures pass, or need an operator; a restart would not help.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ..installer import NAME, DeadMount, Installed, Unsound, read_installed, signature, smoke_test
from ..model.errors import CniError
from .observe.logs import Log
from .observe.recorder import Recorder

LOOK_SECONDS = 1.0
THOROUGH_SECONDS = 600.0
"""How often the files are read although they look untouched, and versions that nobody runs removed."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""How long to wait after a repair that has failed; twice as long after each further one."""


class Install(Protocol):
    """Install this agent's client; ``only_unsound``: only if the one there is unusable. Raises CniError."""

    def __call__(self, *, only_unsound: bool) -> object: ...


class ClientFiles:
    """The client in one directory. ``problem`` says why the runtime cannot use it, None when it can."""

    def __init__(
        self,
        bin_dir: Path,
        install: Install,
        recorder: Recorder,
        log: Log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bin_dir = bin_dir
        self._install = install
        self._counts = recorder
        self._log = log
        self._clock = clock
        self._whole: Installed | None = None
        self._seen: object = None
        self._thorough_at = 0.0
        self._again_at = 0.0
        self._pause = FIRST_PAUSE
        self._problem: str | None = f"the client in {bin_dir} has not been checked yet"
        self._dead = False

    def problem(self) -> str | None:
        """Return why the runtime cannot run the client, or None."""
        return self._problem

    def fatal_problem(self) -> str | None:
        """Return the problem if only a restart of the agent's container mends it, else None."""
        return self._problem if self._dead else None

    def run(self, stop: threading.Event) -> None:
        """Make the client this agent's own, then look again and again; the body of a thread."""
        if not stop.is_set():
            self.begin()
        while not stop.wait(LOOK_SECONDS):
            self.look()

    def begin(self) -> None:
        """Install this agent's own client. Raises nothing."""
        before = self._read()
        error = self._try(only_unsound=False)
        after = self._read()
        if error and isinstance(after, Installed):
            self._log(f"the client of release {after.release} stays: {error}", "warning")
        elif isinstance(after, Installed) and before != after:
            was = before if isinstance(before, Unsound) else f"the client was of release {before.release}"
            self._log(f"{was}: that of release {after.release} is installed now")
        self._judge(after, error)

    def look(self) -> None:
        """Repair the client if it cannot be used. Raises nothing."""
        thorough = self._clock() >= self._thorough_at
        if self._whole is None:
            if self._clock() < self._again_at:
                return
        elif not thorough and self._signature() == self._seen:
            return
        result = self._read()
        if isinstance(result, Installed) and self._whole is not None and not thorough:
            self._judge(result, None)
            return
        error = self._try(only_unsound=True)  # also removes versions that nobody runs any more
        after = self._read()
        if isinstance(result, Unsound) and isinstance(after, Installed):
            self._counts.client_repaired()
            self._log(f"{result}: repaired, release {after.release}", "warning")
        self._judge(after, error)

    def _judge(self, result: Installed | Unsound, error: CniError | None) -> None:
        """Remember the result, and log a problem once, until it changes."""
        before = self._problem
        if error and isinstance(result, Installed):
            try:  # a client that could not be replaced may work all the same
                smoke_test(result.path)
            except CniError as e:
                result = Unsound(str(e))
        if isinstance(result, Unsound):
            self._whole, self._problem = None, f"the client cannot be used: {error or result}"
            self._dead = isinstance(error, DeadMount)
            self._again_at = self._clock() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            if self._problem != before:
                self._log(self._problem, "error")
            return
        if self._whole and result.release != self._whole.release:
            self._log(f"the client is of release {result.release} now")
        if self._pause > FIRST_PAUSE:
            self._log("the client can be used again")
        self._whole, self._problem, self._pause = result, None, FIRST_PAUSE

    def _try(self, *, only_unsound: bool) -> CniError | None:
        try:
            self._install(only_unsound=only_unsound)
        except CniError as e:
            return e
        finally:
            self._thorough_at = self._clock() + THOROUGH_SECONDS
        return None

    def _read(self) -> Installed | Unsound:
        """Read the files; their signature comes first, so that a change during the read is noticed later."""
        path = self._bin_dir / NAME
        try:
            self._seen = signature(path)
            installed = read_installed(self._bin_dir)
            self._seen = (self._seen, signature(installed.interpreter))
        except Unsound as e:
            return e
        return installed

    def _signature(self) -> object:
        assert self._whole is not None  # noqa: S101 (asked before)
        return (signature(self._bin_dir / NAME), signature(self._whole.interpreter))
