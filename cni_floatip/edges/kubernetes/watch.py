"""One watch: what happens to the objects of a selection, until it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial

from ...model.errors import ApiError, ApiFault
from . import answers
from .account import ServiceAccount
from .connection import ApiAnswer, ApiConnection, ApiRequest, ApiStream, NoAnswer
from .hedge import Preference
from .resources import Document

GRACE = 5.0
"""Seconds after which a watch ends that its server was asked to end."""
MOST_BYTES = 4 * 1024 * 1024
"""Bytes of one event; storage takes objects of a million and a half."""


class Change(Enum):
    """What has happened to an object."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """A change, and the object after it (of DELETED: before it; of BOOKMARK: its version only)."""

    change: Change
    document: Document


@dataclass(frozen=True, slots=True)
class WatchTimes:
    """Seconds. The server is asked to end a watch after ``whole``; nothing may come for ``idle``.

    A server sends a BOOKMARK about each minute.
    """

    idle: float = 90.0
    whole: float = 300.0


class Watch:
    """Iterates over events, BOOKMARKs included, and ends in bounded time, also when nothing is delivered.

    The iteration ends when the server ends the watch, after ``WatchTimes.whole`` seconds, or after ``close``.
    It raises ``ApiError``: EXPIRED if the version is too old, UNANSWERED if the connection broke or nothing
    came for ``WatchTimes.idle`` seconds, SERVER for what cannot be read.
    """

    def __init__(
        self, stream: ApiStream, times: WatchTimes, action: str, has_failed: Callable[[], None]
    ) -> None:
        """``has_failed`` is called if the connection breaks or is silent: another server comes first then."""
        self.is_closed = False
        self._has_failed = has_failed
        self._stream = stream
        self._idle = times.idle
        self._end = time.monotonic() + times.whole + GRACE
        self._action = action

    def __iter__(self) -> Iterator[WatchEvent]:
        try:
            yield from self._events()
        finally:
            self.is_closed = True
            self._stream.close()

    def close(self) -> None:
        """End the watch, from any thread."""
        self.is_closed = True
        self._stream.cut()

    def cut_if_late(self) -> None:
        """End a watch whose server sends bit by bit, so that its reader never finds it silent."""
        if time.monotonic() > self._end + GRACE:
            self.close()

    def _events(self) -> Iterator[WatchEvent]:
        rest = b""
        while piece := self._read():
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > MOST_BYTES:
                raise ApiError(
                    ApiFault.SERVER, self._action, f"an event of more than {MOST_BYTES} bytes", 200
                )
            for line in lines:
                if line.strip():
                    yield self._event(line)

    def _read(self) -> bytes:
        """Return what comes next, b"" when the watch has ended."""
        left = self._end - time.monotonic()
        if self.is_closed or left <= 0:
            return b""
        try:
            return self._stream.read(min(self._idle, left))
        except NoAnswer as e:
            if self.is_closed or time.monotonic() >= self._end:
                return b""
            self._has_failed()
            raise ApiError(ApiFault.UNANSWERED, self._action, str(e)) from e

    def _event(self, line: bytes) -> WatchEvent:
        event = answers.parse(line, self._action)
        kind, document = event.get("type"), event.get("object")
        if not isinstance(document, dict):
            raise ApiError(ApiFault.SERVER, self._action, "an event without an object", 200)
        if kind == "ERROR":
            raise answers.status_error(document, self._action)
        if not isinstance(kind, str) or kind not in Change.__members__:
            raise ApiError(ApiFault.SERVER, self._action, f"an event of the kind {kind!r}", 200)
        return WatchEvent(Change(kind), document)


def open_watch(
    request: ApiRequest,
    times: WatchTimes,
    account: ServiceAccount,
    preference: Preference,
    seconds: float,
) -> Watch:
    """Open a watch at the first address that takes it, each within so many seconds. Raises ``ApiError``."""
    error: ApiError | None = None
    for address in dict.fromkeys(preference.order()):
        connection = ApiConnection(address, is_for_watch=True)
        try:
            stream = _open(connection, request, account, time.monotonic() + seconds)
        except NoAnswer as e:
            preference.failed(address)
            error = ApiError(ApiFault.UNANSWERED, request.action, f"{address}: {e}")
            continue
        if isinstance(stream, ApiStream):
            return Watch(stream, times, request.action, partial(preference.failed, address))
        connection.close()
        error = answers.error(stream, request.action) or error
        if answers.is_final(stream):
            break
        preference.failed(address)
    raise error or ApiError(ApiFault.SERVER, request.action, "an answer that is no watch")


def _open(
    connection: ApiConnection, request: ApiRequest, account: ServiceAccount, end: float
) -> ApiStream | ApiAnswer:
    credentials = account.credentials()
    stream = connection.stream(request, credentials, end)
    if (
        isinstance(stream, ApiAnswer)
        and stream.status == 401
        and (other := account.after_refusal(credentials))
    ):
        connection.close()
        stream = connection.stream(request, other, end)
    return stream
