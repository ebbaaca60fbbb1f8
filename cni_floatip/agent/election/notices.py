"""Publishes Events on pods: one per change, and a change that repeats as one Event with a count."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from ...edges.kubernetes.resources import EVENTS, Document, Resource
from ...election.events import Notice, NoticeKind, Published
from ...model.errors import ApiError, ApiFault
from .driver import CallAnswer

COMPONENT = "cni-floatip"
PAUSE_SECONDS = 10.0
"""How long after an Event the next of its kind on its pod is only counted."""
FRESH_SECONDS = 1800.0
"""How long an Event is counted up: API servers forget one after an hour."""
LONGEST_MESSAGE = 1024
"""Characters that an API server takes."""
MOST = 1000
"""Events that are remembered."""
WARNINGS = (
    NoticeKind.CONTESTED_GROUP,
    NoticeKind.CONTESTED_WRITER,
    NoticeKind.REFUSED,
    NoticeKind.UNEQUAL,
)


class EventApi(Protocol):
    """What is needed of ``edges.kubernetes.client``; both raise ApiError."""

    def create(self, resource: Resource, document: Mapping[str, Any]) -> Document: ...
    def patch_event(self, namespace: str, name: str, patch: Mapping[str, Any]) -> Document: ...


@dataclass(slots=True)
class _Sent:
    """An Event that is there: how often its change was, and when it was last written (clock)."""

    name: str
    count: int
    at: float
    first: float


class Notices:
    """For many threads. ``node``: where Events come from. ``on_error`` learns of what is not published."""

    def __init__(
        self,
        api: EventApi,
        node: str,
        clock: Callable[[], float],
        now: Callable[[], float],
        on_error: Callable[[ApiError], object],
    ) -> None:
        self._api = api
        self._node = node
        self._clock = clock
        self._now = now
        self._on_error = on_error
        self._sent: dict[tuple[str, NoticeKind], _Sent] = {}
        self._lock = threading.Lock()

    def publish(self, notice: Notice, namespace: str, pod: str) -> CallAnswer:
        """Publish, or count up. What cannot be published is given up: it is in the log, too."""
        clock, key = self._clock(), (notice.uid, notice.kind)
        with self._lock:
            known = self._sent.get(key)
            if known and clock - known.first >= FRESH_SECONDS:
                known = None
            if known:
                known.count += 1
                if clock - known.at < PAUSE_SECONDS:
                    return CallAnswer(Published(clock, notice))
                known.at = clock
        try:
            if known and self._count_up(known, namespace, notice.text):
                return CallAnswer(Published(self._clock(), notice))
            name = f"{pod[:200]}.{uuid.uuid4().hex}"
            self._api.create(EVENTS, self._document(notice, namespace, pod, name))
        except ApiError as e:
            self._on_error(e)
            return CallAnswer(Published(self._clock(), notice))
        with self._lock:
            while len(self._sent) >= MOST:
                del self._sent[next(iter(self._sent))]
            self._sent[key] = _Sent(name, 1, clock, clock)
        return CallAnswer(Published(self._clock(), notice))

    def _count_up(self, known: _Sent, namespace: str, text: str) -> bool:
        """Write how often it was by now; whether the Event is still there."""
        change = {"count": known.count, "lastTimestamp": self._time(), "message": text[:LONGEST_MESSAGE]}
        try:
            self._api.patch_event(namespace, known.name, change)
        except ApiError as e:
            if e.fault is not ApiFault.NOT_FOUND:
                raise
            return False
        return True

    def _document(self, notice: Notice, namespace: str, pod: str, name: str) -> dict[str, Any]:
        """Return an Event (Kubernetes API, Event v1 core)."""
        time = self._time()
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": namespace,
                "name": pod,
                "uid": notice.uid,
            },
            "type": "Warning" if notice.kind in WARNINGS else "Normal",
            "reason": notice.kind.value,
            "message": notice.text[:LONGEST_MESSAGE],
            "source": {"component": COMPONENT, "host": self._node},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._node,
            "count": 1,
            "firstTimestamp": time,
            "lastTimestamp": time,
        }

    def _time(self) -> str:
        return datetime.fromtimestamp(self._now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
