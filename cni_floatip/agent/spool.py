"""DELs that came while no agent could do them: one file each, done before new requests.

A client writes one while there is no agent; a call in direct mode always does, because another call may own
the data directory. A file holds a request's body, as it would have come over the socket. It is removed when
its DEL is on disk as a claim to be released. A file that cannot be understood is set aside and reported.

One thread does them all, one after the other. An ADD does those of its own attachment itself, and waits for
no other: there may be thousands, and each may have to wait for the call that it ends.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ..edges.spool import SUFFIX, Owner, opened, owner_of
from ..edges.store import make_directory
from ..model.errors import CniError
from ..operations.world import Log
from ..protocol import wire
from .observe.recorder import Recorder

LOOK_SECONDS = 1.0
AGAIN_SECONDS = 30.0
"""A DEL that cannot be recorded (a full disk, a record of a newer release) is tried again after this."""
ABANDONED_SECONDS = 3600.0
MOST_ASIDE = 256
"""How many files that cannot be understood are kept."""
TAKE_SECONDS = 10.0
"""How long an ADD waits for a running DEL of its attachment; no DEL takes longer."""


class Spool:
    """The directory that clients write to. ``deliver`` does one DEL; False: not on disk yet.

    ``deliver`` raises CniError for a request that is no DEL.
    """

    def __init__(
        self,
        directory: str,
        deliver: Callable[[wire.Call], bool],
        recorder: Recorder,
        log: Log,
        failed: Callable[[str, Exception], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = Path(directory)
        self._deliver = deliver
        self._counts = recorder
        self._log = log
        self._failed = failed
        self._clock = clock
        self._again: dict[str, float] = {}
        self._owners: dict[str, Owner | None] = {}
        self._under_way: set[str] = set()
        self._changed = threading.Condition()

    def process_all(self, until: float = math.inf) -> int:
        """Do every DEL that is due; return how many are left. One that fails does not raise.

        None is begun after ``until``.
        """
        names = self._names()
        if not names:
            return 0
        for name in names:
            if self._again.get(name, 0.0) <= self._clock() < until:
                self._do(name, 0.0)
        left = self._names()
        with self._changed:
            self._again = {name: at for name, at in self._again.items() if name in left}
            self._owners = {name: owner for name, owner in self._owners.items() if name in left}
        self._counts.spooled(len(left))
        return len(left)

    def process_owner(self, container: str, ifname: str) -> bool:
        """Do the DELs of one attachment, due or not; return whether none is left."""
        own = [name for name in self._names() if self._owner(name) == (container, ifname)]
        for name in own:
            self._do(name, TAKE_SECONDS)
        return not any((self._root / name).exists() for name in own)

    def run(self, stop: threading.Event) -> None:
        """Process the spool until told to stop; the body of a thread."""
        while not stop.wait(LOOK_SECONDS):
            self.process_all()

    def prepare(self) -> None:
        """Make the directory, for root only; remove half-written files of clients that were killed."""
        with contextlib.suppress(OSError):
            make_directory(self._root)
            for path in self._root.iterdir():
                half = path.suffix != SUFFIX and path.is_file()
                if half and time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                    path.unlink()

    def length(self) -> int:
        """Return how many DELs wait."""
        return len(self._names())

    def owners(self) -> set[Owner]:
        """Return the owners of the waiting DELs whose files can be understood."""
        return set(self.waiting())

    def waiting(self) -> dict[Owner, list[str]]:
        """Return the files by owner, as far as they can be understood."""
        results: dict[Owner, list[str]] = {}
        for name in self._names():
            if owner := self._owner(name):
                results.setdefault(owner, []).append(str(self._root / name))
        return results

    def _names(self) -> list[str]:
        """Return the complete files, in a stable order."""
        try:
            return sorted(name for name in os.listdir(self._root) if name.endswith(SUFFIX))  # noqa: PTH208
        except OSError:  # no client has written anything yet
            return []

    def _owner(self, name: str) -> Owner | None:
        """Return whose DEL a file holds, None if it cannot be understood. A file's owner never changes."""
        if name not in self._owners:
            if (owner := owner_of(self._root / name)) is None:
                return None
            with self._changed:
                self._owners[name] = owner
        return self._owners.get(name)

    def _do(self, name: str, seconds: float) -> None:
        """Do one DEL, unless another thread is doing it: then wait for that thread, ``seconds`` at most."""
        with self._changed:
            self._changed.wait_for(lambda: name not in self._under_way, seconds)
            if name in self._under_way:
                return
            self._under_way.add(name)
        try:
            self._take(name)
        finally:
            with self._changed:
                self._under_way.remove(name)
                self._changed.notify_all()

    def _take(self, name: str) -> None:
        path = self._root / name
        try:
            with opened(path) as file:
                body = file.read(wire.MOST_BODY + 1)
            if len(body) > wire.MOST_BODY:
                raise wire.Malformed(f"more than {wire.MOST_BODY} bytes")
            if self._deliver(wire.read_body(body)):
                path.unlink(missing_ok=True)
            else:
                self._try_again(name)
        except (wire.Malformed, CniError, RecursionError) as e:
            self._set_aside(path, str(e))
        except FileNotFoundError:
            pass
        except OSError as e:
            self._try_again(name)
            self._log(f"{path}: {e.strerror or e}", "warning")
        except Exception as e:  # noqa: BLE001 (the others must be done all the same)
            self._try_again(name)
            self._failed(f"{path}: tried again", e)

    def _try_again(self, name: str) -> None:
        with self._changed:
            self._again[name] = self._clock() + AGAIN_SECONDS

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
            self._try_again(path.name)
            done = f"left where it is: {e.strerror or e}"
        self._log(f"{path}: not a DEL that can be performed: {why} ({done})", "error")
