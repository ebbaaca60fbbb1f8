"""Follow a selection for as long as somebody wants to: list, watch, resume, list anew."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator

from ...model.errors import ApiError, ApiFault
from .client import KubernetesClient
from .resources import Listing, Selection, metadata
from .watch import Watch, WatchEvent, WatchTimes

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
"""Seconds between two tries: doubled each time, and drawn from the upper half, so that nodes spread out."""


class Follower:
    """One selection, followed by the thread that iterates; ``stop`` ends it, from any thread.

    It yields a ``Listing`` at the beginning and whenever events may be missing, which replaces all that was
    known; ``WatchEvent`` in between; every ``ApiError`` but EXPIRED, after which it tries again.
    """

    def __init__(
        self,
        client: KubernetesClient,
        selection: Selection,
        times: WatchTimes | None = None,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        """``pause``: waits for so many seconds, or until ``stop``."""
        self._client = client
        self._selection = selection
        self._times = times or WatchTimes()
        self._stopped = threading.Event()
        self._pause = pause or self._stopped.wait
        self._watch: Watch | None = None

    def __iter__(self) -> Iterator[Listing | WatchEvent | ApiError]:
        version, tries = "", 0
        while not self._stopped.is_set():
            error = None
            has_delivered = False
            try:
                if not version:
                    listing = self._client.list(self._selection)
                    version = listing.version
                    yield listing
                for event in self._open(version):
                    has_delivered = True
                    version = metadata(event.document, "resourceVersion") or version
                    yield event
            except ApiError as e:
                error = e
            if error.fault is not ApiFault.UNANSWERED if error else not has_delivered:
                version = ""  # too old, or one that the storage has not reached: it was restored
            tries = 0 if has_delivered else tries + 1
            is_over = error is None or error.fault is ApiFault.EXPIRED
            if error and not is_over:
                yield error
            if tries > is_over:  # a watch that is over is opened anew at once, the first time
                self._pause(min(FIRST_PAUSE * 2 ** min(tries - 1, 8), LONGEST_PAUSE) * random.uniform(0.5, 1))  # noqa: S311 (jitter)

    def stop(self) -> None:
        """End the iteration soon."""
        self._stopped.set()
        if (watch := self._watch) is not None:
            watch.close()

    def _open(self, version: str) -> Watch:
        watch = self._watch = self._client.watch(self._selection, version, self._times)
        if self._stopped.is_set():
            watch.close()
        return watch
