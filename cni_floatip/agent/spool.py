"""DELs that came while no agent was there: each is a file that a client left, and is done before what is new.

A file is a request's body, as it would have come over the socket. It goes when its DEL is on disk as a claim
that is to be released; one that nobody can understand is set aside and reported.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from .. import wire
from ..errors import CniError
from .counts import Counts
from .logs import Log

SUFFIX = ".del"
LOOK_SECONDS = 1.0
AGAIN_SECONDS = 30.0
"""A DEL that cannot be recorded (a full disk, a record of a newer release) is tried again after this."""
ABANDONED_SECONDS = 3600.0
MOST_ASIDE = 256
"""How many files are kept that nobody understands."""


class Spool:
    """The directory that clients write to. ``deliver`` does one DEL; False: not on disk yet.

    ``deliver`` raises CniError for a request that is no DEL.
    """

    def __init__(
        self,
        directory: str,
        deliver: Callable[[wire.Call], bool],
        counts: Counts,
        log: Log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = Path(directory)
        self._deliver = deliver
        self._counts = counts
        self._log = log
        self._clock = clock
        self._again: dict[str, float] = {}
        self._taking = threading.Lock()

    def work_off(self) -> int:
        """Do every DEL that is there and due; return how many are left. Raises nothing for a single one."""
        if not self._names():
            return 0
        with self._taking:
            names = self._names()
            for name in names:
                if self._again.get(name, 0.0) <= self._clock():
                    self._take(name)
            left = self._names()
            self._again = {name: at for name, at in self._again.items() if name in left}
        self._counts.spooled(len(left))
        return len(left)

    def run(self, stop: threading.Event) -> None:
        """Look again and again until told to stop; the body of a thread."""
        while not stop.wait(LOOK_SECONDS):
            self.work_off()

    def prepare(self) -> None:
        """Make the directory, for root alone; remove what clients left that were killed while they wrote."""
        with contextlib.suppress(OSError):
            if not self._root.is_dir():
                self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._root.chmod(0o700)
            for path in self._root.iterdir():
                half = path.suffix != SUFFIX and path.is_file()
                if half and time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                    path.unlink()

    def length(self) -> int:
        """Return how many DELs wait."""
        return len(self._names())

    def _names(self) -> list[str]:
        """Return the files that are whole, in an order that is always the same."""
        try:
            return sorted(name for name in os.listdir(self._root) if name.endswith(SUFFIX))  # noqa: PTH208
        except OSError:  # nobody has left anything yet
            return []

    def _take(self, name: str) -> None:
        path = self._root / name
        try:
            with path.open("rb") as file:
                body = file.read(wire.MOST_BODY + 1)
            if len(body) > wire.MOST_BODY:
                raise wire.Malformed(f"more than {wire.MOST_BODY} bytes")
            if self._deliver(wire.read_body(body)):
                path.unlink(missing_ok=True)
            else:
                self._again[name] = self._clock() + AGAIN_SECONDS
        except (wire.Malformed, CniError, RecursionError) as e:
            self._set_aside(path, str(e))
        except FileNotFoundError:
            pass
        except OSError as e:
            self._again[name] = self._clock() + AGAIN_SECONDS
            self._log(f"{path}: {e.strerror or e}", "warning")

    def _set_aside(self, path: Path, why: str) -> None:
        aside = path.parent / "corrupt"
        try:
            aside.mkdir(mode=0o700, exist_ok=True)
            if len(os.listdir(aside)) < MOST_ASIDE:  # noqa: PTH208
                path.replace(aside / f"{path.stem}.{time.time_ns()}{SUFFIX}")
                done = "moved to corrupt/"
            else:
                path.unlink()
                done = f"removed: corrupt/ holds {MOST_ASIDE} files already"
        except OSError as e:
            self._again[path.name] = self._clock() + AGAIN_SECONDS
            done = f"left where it is: {e.strerror or e}"
        self._log(f"{path}: this is no DEL that can be done: {why} ({done})", "error")
