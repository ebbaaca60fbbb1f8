"""A pool of idle threads, in which a call runs its reads and writes concurrently without starting a thread.

``Thread.start`` blocks until the thread runs. On a busy agent that takes milliseconds, so idle threads are
kept.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

MOST = 64
"""How many idle threads are kept; further threads are started on demand, and end when they are done."""
IDLE_SECONDS = 60.0


class WorkerPool:
    """``World.run_in_thread`` of the agent: runs its work in an idle thread, or in a new one."""

    def __init__(self, most: int = MOST, idle: float = IDLE_SECONDS) -> None:
        self._most = most
        self._seconds = idle
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._idle = 0
        self._lock = threading.Lock()

    def __call__(self, work: Callable[[], None]) -> None:
        """Run ``work`` soon. Raises RuntimeError when no thread is to be had."""
        with self._lock:
            if self._idle:
                self._idle -= 1
                self._work.put(work)
                return
        threading.Thread(target=self._live, args=([work],), name="worker", daemon=True).start()

    def _live(self, first: list[Callable[[], None]]) -> None:
        """Run the only piece of ``first``, and then others. A waiting thread holds no piece, because a piece
        holds what it has read: ``Thread`` keeps its arguments, so the list is emptied.
        """
        work: Callable[[], None] | None = first.pop()
        while work is not None:
            work()
            work = None
            work = self._next()

    def _next(self) -> Callable[[], None] | None:
        """Wait for more work; None when enough threads wait, or no work came for long."""
        with self._lock:
            if self._idle >= self._most:
                return None
            self._idle += 1
        while True:
            try:
                return self._work.get(timeout=self._seconds)
            except queue.Empty:
                with self._lock:
                    if self._idle:  # else work is on its way to us
                        self._idle -= 1
                        return None
