"""The node's claims as the agent knows them: in memory to read, on disk before anything is done.

The agent has the data directory alone, so what it read at its start and wrote since is what is there. Locks
are this process's own: nobody else writes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from ..claims import Claim
from ..model import Attachment
from ..store import Problem, Store

Listener = Callable[[Attachment, Claim | None], None]
_STRIPES = 64


class Memory:
    """``Claims`` of ``world``, over a ``Store`` that this process has alone. For many threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._claims: dict[Attachment, Claim] = {}
        self._sorted: list[Claim] | None = None
        self._problems: Sequence[Problem] = ()
        self._listeners: list[Listener] = []
        self._writing = [threading.Lock() for _ in range(_STRIPES)]
        self._index = threading.Lock()
        self._held: set[str] = set()
        self._freed = threading.Condition()
        self.read()

    def read(self) -> None:
        """Read the disk again: at the start, and when files were put there by somebody else."""
        claims, problems = self._store.all()
        with self._index:
            self._claims = {claim.attachment: claim for claim in claims}
            self._problems = problems
            self._sorted = None

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` with every claim there is, and with each change from now on (None: erased)."""
        self._listeners.append(listener)
        for claim in self.all()[0]:
            listener(claim.attachment, claim)

    # -- claims ---------------------------------------------------------------------------------------

    def put(self, claim: Claim) -> None:
        """Write ``claim``; when this returns it survives a power cut. Raises IoFailure."""
        with self._writing[hash(claim.attachment) % _STRIPES]:
            self._store.put(claim)
            with self._index:
                self._claims[claim.attachment] = claim
                self._sorted = None
        self._tell(claim.attachment, claim)

    def get(self, attachment: Attachment) -> Claim | Problem | None:
        """Return the claim of ``attachment``; a Problem when its record is, or was, unreadable."""
        return self._claims.get(attachment) or self._store.get(attachment)

    def all(self) -> tuple[list[Claim], Sequence[Problem]]:
        """Return every claim, oldest first, and every file that was none when the disk was read."""
        with self._index:
            if self._sorted is None:
                self._sorted = sorted(self._claims.values(), key=lambda claim: claim.created)
            return list(self._sorted), self._problems

    def erase(self, attachment: Attachment) -> None:
        """Forget the claim of ``attachment``. Raises IoFailure."""
        with self._writing[hash(attachment) % _STRIPES]:
            self._store.erase(attachment)
            with self._index:
                known = self._claims.pop(attachment, None)
                self._sorted = None
        if known:
            self._tell(attachment, None)

    def exists(self) -> bool:
        """Whether anything was ever recorded here."""
        return True

    def sweep(self) -> None:
        """Remove what was left half written."""
        self._store.sweep()

    def _tell(self, attachment: Attachment, claim: Claim | None) -> None:
        for listener in self._listeners:
            listener(attachment, claim)

    # -- locks ----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def own(self, *, alone: bool) -> Iterator[bool]:  # noqa: ARG002 (as in ``store``)
        """Hold the directory: this process has it already."""
        yield True

    @contextlib.contextmanager
    def lock(self, what: str, seconds: float) -> Iterator[bool]:
        """Hold ``what``; false when it was not free in ``seconds``."""
        held = self._take(what, seconds)
        try:
            yield held
        finally:
            if held:
                with self._freed:
                    self._held.remove(what)
                    self._freed.notify_all()

    def is_locked(self, what: str) -> bool:
        """Whether some call holds ``what`` now."""
        return what in self._held

    def _take(self, what: str, seconds: float) -> bool:
        until = time.monotonic() + seconds
        with self._freed:
            while what in self._held:
                left = until - time.monotonic()
                if left <= 0 or not self._freed.wait(left):
                    if what not in self._held:
                        break
                    return False
            self._held.add(what)
            return True
