"""The node's claims as the one process that owns them knows them: read from memory, written to disk first.

An agent, or a call in direct mode, has the data directory alone. So what it read at its start and has written
since is what is on disk, and locks are this process's own, because nobody else writes.

It promises two things beyond the disk. A claim that a DEL has ended is never revived by an older copy
(``Claim.merge_into``). And a full disk keeps no claim alive: a change that claims nothing new (the end of a
claim, or what a look showed) counts in memory if it cannot be written, and is written as soon as there is
room.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from ..edges.store import Problem, Store
from ..model import waiting
from ..model.claim import Claim
from ..model.claim_state import ClaimedRoute, State
from ..model.errors import IoFailure
from ..model.values import Attachment, RouteKey

Listener = Callable[[Attachment, Claim | None], None]
_STRIPES = 64


class ClaimCache:
    """``Claims`` of ``world``, over a ``Store`` that only this process uses. For many threads.

    ``now`` returns the time in seconds since the epoch, to date what changes.
    """

    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._claims: dict[Attachment, Claim] = {}
        self._sorted: list[Claim] | None = None
        self._by_route: dict[RouteKey, set[Attachment]] = {}
        self._problems: Sequence[Problem] = ()
        self._troubled = False  # else the disk knows nothing that memory does not
        self._unwritten: set[Attachment] = set()
        self._listeners: list[Listener] = []
        self._writing = [threading.Lock() for _ in range(_STRIPES)]
        self._index = threading.Lock()
        self._held: set[str] = set()
        self._freed = threading.Condition()
        self.read()

    def read(self) -> None:
        """Read the disk again: at the start, and after another process has written files there."""
        claims, problems = self._store.all()
        with self._index:
            self._claims, self._by_route = {}, {}
            for claim in claims:
                self._know(claim.attachment, claim)
            self._problems = problems
            self._troubled = bool(problems) or self._store.has_lost_records()

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` with every claim there is, and with each change from now on (None: erased)."""
        self._listeners.append(listener)
        for claim in self.all()[0]:
            listener(claim.attachment, claim)

    # -- claims ---------------------------------------------------------------------------------------

    def put(self, claim: Claim) -> None:
        """Write ``claim`` durably; if a DEL has ended it meanwhile, write it as ended.

        Raises IoFailure. But a change that claims nothing new counts even then: see ``flush``.
        """
        with self._writing[hash(claim.attachment) % _STRIPES]:
            claim = self._put(claim)
        self._notify(claim.attachment, claim)

    def put_if_absent(self, claim: Claim) -> bool:
        """Write ``claim`` where there is no record of its attachment; false where there is one."""
        with self._writing[hash(claim.attachment) % _STRIPES]:
            if claim.attachment in self._claims:
                return False
            claim = self._put(claim)
        self._notify(claim.attachment, claim)
        return True

    def update(self, attachment: Attachment, change: Callable[[Claim], Claim]) -> Claim | None:
        """Put what ``change`` makes of the claim of ``attachment`` and return that; None where there is none.

        Atomic: nothing else is put in between. Raises IoFailure.
        """
        with self._writing[hash(attachment) % _STRIPES]:
            known = self._claims.get(attachment)
            if known is None:
                return None
            changed = change(known)
            if changed == known:
                return known
            changed = self._put(changed)
        self._notify(attachment, changed)
        return changed

    def _put(self, claim: Claim) -> Claim:
        attachment = claim.attachment
        known = self._claims.get(attachment)
        if known is not None:
            claim = claim.merge_into(known)
        claim = claim.date_changes(known, self._now())
        try:
            self._store.put(claim)
        except IoFailure:
            if not _claims_nothing_new(claim, known):
                raise
            self._unwritten.add(attachment)
        else:
            self._unwritten.discard(attachment)
        with self._index:
            self._know(attachment, claim)
        return claim

    def is_persisted(self, attachment: Attachment) -> bool:
        """Whether memory and disk agree about ``attachment``."""
        return attachment not in self._unwritten

    def flush(self) -> str | None:
        """Write the changes that a full disk kept back; return why that fails, None when all are written."""
        for attachment in list(self._unwritten):
            with self._writing[hash(attachment) % _STRIPES]:
                known = self._claims.get(attachment)
                try:
                    if known is not None and attachment in self._unwritten:
                        self._store.put(known)
                except IoFailure as e:  # the next write would meet the same full disk
                    return f"changes of {len(self._unwritten)} claims are not on disk yet: {e}"
                self._unwritten.discard(attachment)
        return None

    def get(self, attachment: Attachment) -> Claim | Problem | None:
        """Return the claim of ``attachment``; a Problem when its record is, or was, unreadable."""
        known = self._claims.get(attachment)
        return self._store.get(attachment) if known is None and self._troubled else known

    def all(self) -> tuple[list[Claim], Sequence[Problem]]:
        """Return every claim, oldest first, and every file that held none when the disk was read."""
        with self._index:
            if self._sorted is None:
                self._sorted = sorted(self._claims.values(), key=lambda claim: claim.created_at)
            return list(self._sorted), self._problems

    def for_route(self, key: RouteKey) -> list[Claim]:
        """Return the claims that have ``key`` among their routes, in whatever state, oldest first."""
        with self._index:
            claims = [self._claims[attachment] for attachment in self._by_route.get(key, ())]
        return sorted(claims, key=lambda claim: claim.created_at)

    def delete(self, attachment: Attachment) -> None:
        """Forget the claim of ``attachment``. Raises IoFailure."""
        with self._writing[hash(attachment) % _STRIPES]:
            self._store.erase(attachment)
            self._unwritten.discard(attachment)
            with self._index:
                known = self._know(attachment, None)
        if known:
            self._notify(attachment, None)

    def remove_partial_files(self) -> None:
        """Remove files that were left half written."""
        self._store.sweep()

    def _know(self, attachment: Attachment, claim: Claim | None) -> Claim | None:
        """Replace the known claim of ``attachment`` with ``claim`` (None: nothing); return the old one."""
        before = self._claims.get(attachment)
        for route in before.routes if before else ():
            there = self._by_route.get(route.key, set())
            there.discard(attachment)
            if not there:
                self._by_route.pop(route.key, None)
        if claim is None:
            self._claims.pop(attachment, None)
        else:
            self._claims[attachment] = claim  # replaced, never removed first, because ``get`` takes no lock
            for route in claim.routes:
                self._by_route.setdefault(route.key, set()).add(attachment)
        self._sorted = None
        return before

    def _notify(self, attachment: Attachment, claim: Claim | None) -> None:
        for listener in self._listeners:
            listener(attachment, claim)

    # -- locks ----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self, what: str, seconds: float, go_on: Callable[[], object] = waiting.always) -> Iterator[bool]:
        """Hold ``what``; false when it was not free in ``seconds``. Raises what ``go_on`` raises."""
        held = self._try_lock(what, seconds, go_on)
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

    def _try_lock(self, what: str, seconds: float, go_on: Callable[[], object]) -> bool:
        until = time.monotonic() + seconds

        def attempt() -> bool | waiting.Later:
            if what in self._held:
                return waiting.Later()
            self._held.add(what)
            return True

        try:
            return waiting.wait_for(self._freed, attempt, lambda: until - time.monotonic(), go_on)
        except TimeoutError:
            return False


class AsOnDisk(ClaimCache):
    """The claims of a directory that another process may own: read anew for each route key, never written."""

    def for_route(self, key: RouteKey) -> list[Claim]:
        """Return the claims that have ``key`` among their routes, as they are on disk now."""
        self.read()
        return super().for_route(key)


def _claims_nothing_new(claim: Claim, known: Claim | None) -> bool:
    """Whether ``claim`` wants only routes that ``known`` wants as well: then nothing new rests on it."""
    had: dict[RouteKey, State] = {r.key: r.state for r in known.routes} if known else {}

    def is_old(route: ClaimedRoute) -> bool:
        before = had.get(route.key)
        steps_back = not route.state.wants_route and before is not None and before.settled
        return before is route.state or steps_back

    return all(is_old(route) for route in claim.routes if route.state.live)
