"""The objects of the stand-in: versions, and the history that watches read. It stands for etcd."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """What identifies an object; ``namespace`` "" for what has none."""

    plural: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one object: before and after it (``None``: it was not there, or is no more)."""

    version: int
    key: Key
    before: Object | None
    after: Object | None


class Storage:
    """Every version of every object. All methods are atomic; documents go in and out as copies."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.version = 100
        self.oldest = 0
        """The oldest version that the history reaches back to: ``forget`` raises it."""
        self._objects: dict[Key, Object] = {}
        self._history: list[Change] = []
        self._is_stopped = False
        self._is_closed = False

    @contextlib.contextmanager
    def transaction(self, *, cached: bool = False) -> Iterator[None]:
        """Hold the storage for some steps; wait while it is stopped, unless only the cache is read."""
        with self.changed:
            self.changed.wait_for(lambda: cached or self._is_closed or not self._is_stopped)
            yield

    def get(self, key: Key) -> Object | None:
        with self.changed:
            return deepcopy(self._objects.get(key))

    def all(self, plural: str, namespace: str = "") -> list[tuple[Key, Object]]:
        """Return the objects of a kind, in order of their keys."""
        with self.changed:
            keys = (key for key in self._objects if key.plural == plural)
            chosen = sorted(key for key in keys if namespace in ("", key.namespace))
            return [(key, deepcopy(self._objects[key])) for key in chosen]

    def put(self, key: Key, document: Object) -> Object:
        """Create or replace an object, unless nothing of it changes; return it as it is now."""
        with self.changed:
            before = self._objects.get(key)
            after = deepcopy(document)
            parts = after.setdefault("metadata", {})
            old: Object = before["metadata"] if before else {}
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            parts["name"] = key.name
            if key.namespace:
                parts["namespace"] = key.namespace
            parts["uid"] = old.get("uid") or str(uuid.uuid4())
            parts["creationTimestamp"] = old.get("creationTimestamp") or now
            parts["resourceVersion"] = old.get("resourceVersion", "")
            if after != before:
                self._commit(key, before, after)
            return deepcopy(after)

    def remove(self, key: Key) -> Object | None:
        """Remove an object; return it as it was, with the version of its removal."""
        with self.changed:
            before = self._objects.get(key)
            if before is not None:
                self._commit(key, before, None)
            return deepcopy(before)

    def since(self, version: int) -> list[Change]:
        """Return the changes after a version."""
        with self.changed:
            return [change for change in self._history if change.version > version]

    def wait(self, version: int, seconds: float) -> None:
        """Wait until there is a later version, for so long at most."""
        with self.changed:
            self.changed.wait_for(lambda: self.version > version, seconds)

    def forget(self) -> None:
        """Compact: nobody can go on from a version before the present one."""
        with self.changed:
            self.oldest = self.version
            self._history.clear()
            self.changed.notify_all()

    def stop(self) -> None:
        """Answer nothing but reads of the cache until ``start``."""
        with self.changed:
            self._is_stopped = True

    def start(self) -> None:
        with self.changed:
            self._is_stopped = False
            self.changed.notify_all()

    def close(self) -> None:
        """Let everybody go who waits here."""
        with self.changed:
            self._is_closed = True
            self.changed.notify_all()

    def _commit(self, key: Key, before: Object | None, after: Object | None) -> None:
        self.version += 1
        if after is None:
            del self._objects[key]
            before = deepcopy(before)
            assert before is not None
            before["metadata"]["resourceVersion"] = str(self.version)
        else:
            after["metadata"]["resourceVersion"] = str(self.version)
            self._objects[key] = after
        self._history.append(Change(self.version, key, before, deepcopy(after)))
        self.changed.notify_all()
