"""One watch: what happens to the objects of a selection, until it ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from .resources import Document


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


class Watch:
    """Iterates over events, BOOKMARKs included, and ends in bounded time, also when nothing is delivered.

    The iteration ends when the server ends the watch, when nothing came for ``idle`` seconds (the server sends
    a BOOKMARK each minute), or after ``close``. It raises ``ApiError``: EXPIRED if the version is too old,
    UNANSWERED if the connection broke.
    """

    version: str
    """Where the next watch goes on from."""

    def __iter__(self) -> Iterator[WatchEvent]:
        raise NotImplementedError

    def close(self) -> None:
        """End the watch, from any thread."""
