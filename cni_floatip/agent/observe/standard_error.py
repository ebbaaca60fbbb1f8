"""Writes log lines to standard error without ever waiting for its reader."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections import deque
from typing import Protocol

WAITING = 1 << 20
"""Bytes of lines that are kept while nobody reads: some thousands of lines."""


class Stream(Protocol):
    """Where lines go."""

    def write(self, text: str, /) -> object: ...


class DescriptorStream:
    """A file descriptor that writers never wait for.

    A line is written at once if that does not block. Otherwise it waits in bounded memory, and a thread
    writes it when the reader goes on. A line for which there is no room is dropped, and counted.
    """

    def __init__(self, fd: int = 2, room: int = WAITING) -> None:
        self._fd = fd
        self._room = room
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._lost = 0
        self._writer: threading.Thread | None = None
        self._changed = threading.Condition()

    def write(self, text: str) -> None:
        """Write ``text``, now or later. Raises OSError."""
        line = text.encode(errors="backslashreplace")
        with self._changed:
            rest = line if self._waiting else self._at_once(line)
            if rest is line and self._size + len(line) > self._room:
                self._lost += 1
            elif rest:
                self._waiting.append(rest)
                self._size += len(rest)
                self._changed.notify_all()
                if self._writer is None:
                    self._writer = threading.Thread(target=self._write_on, name="log", daemon=True)
                    self._writer.start()

    def lost(self) -> int:
        """Return how many lines were dropped since the last call, 0 while there is no room to report it."""
        with self._changed:
            if self._waiting:
                return 0
            lost, self._lost = self._lost, 0
            return lost

    def flush(self, seconds: float) -> bool:
        """Wait until all is written, for ``seconds`` at most; return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, seconds)

    def _at_once(self, line: bytes) -> bytes:
        """Write as much as does not block; return the rest."""
        while line and self._poll.poll(0):
            line = line[os.write(self._fd, line[: select.PIPE_BUF]) :]
        return line

    def _write_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                line = rest = self._waiting[0]
            with contextlib.suppress(OSError):  # nobody will ever read it
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
            with self._changed:
                self._waiting.popleft()
                self._size -= len(line)
                self._changed.notify_all()
