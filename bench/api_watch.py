"""Watches the Kubernetes API and notes by this machine's clock when each change arrived.

The API's own times (creationTimestamp, lastTransitionTime) are whole seconds, which is too coarse here.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lab import netns
from lab.errors import LabError

CONNECTS_WITHIN = 10.0
POLLS = 0.02


@dataclass(frozen=True, slots=True)
class Event:
    """A change as the API reports it: ADDED, MODIFIED or DELETED, the object after it, when it arrived."""

    at: float
    kind: str
    object: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.object["metadata"]["name"])

    @property
    def uid(self) -> str:
        return str(self.object["metadata"]["uid"])

    @property
    def is_leaving(self) -> bool:
        """Whether a pod is being ended."""
        return self.kind == "DELETED" or "deletionTimestamp" in self.object["metadata"]

    @property
    def node(self) -> str:
        """The node of a pod; "" if it has none yet."""
        return str(self.object["spec"].get("nodeName", ""))

    @property
    def is_ready(self) -> bool:
        """Whether the condition Ready of a pod or a node is True."""
        conditions = self.object["status"].get("conditions", ())
        return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


class Watch:
    """``with Watch(...) as watch:`` collects events of one kind of object from now on."""

    def __init__(self, namespace: str, server: tuple[str, int], token: str, authority: Path) -> None:
        """``namespace``: the network namespace from where the server is reached."""
        self._namespace = namespace
        self._server = server
        self._token = token
        self._authority = authority
        self._path = ""
        self._lock = threading.Lock()
        self._events: list[Event] = []
        self._ended = ""

    def of(self, path: str) -> Self:
        """Say what is watched: a path of the API, such as ``/api/v1/nodes``."""
        self._path = f"{path}?watch=1&resourceVersion=0"
        return self

    def __enter__(self) -> Self:
        self._connection = netns.inside(self._namespace, self._connect)
        self._connection.request("GET", self._path, headers={"Authorization": f"Bearer {self._token}"})
        answer = self._connection.getresponse()
        if answer.status != 200:
            raise LabError(f"watch of {self._path}: {answer.status} {answer.read(300)!r}")
        self._thread = threading.Thread(target=self._read, args=(answer,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, where: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(2)
        self._thread.join(CONNECTS_WITHIN)
        self._connection.close()

    def _connect(self) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self._authority))
        connection = http.client.HTTPSConnection(*self._server, context=context, timeout=CONNECTS_WITHIN)
        connection.connect()
        self._socket = connection.sock
        self._socket.settimeout(None)
        return connection

    def _read(self, answer: http.client.HTTPResponse) -> None:
        why = "the server closed it"
        try:
            for line in answer:
                at = time.monotonic()
                raw = json.loads(line)
                if raw["type"] == "ERROR":
                    why = str(raw["object"])
                    break
                with self._lock:
                    self._events.append(Event(at, raw["type"], raw["object"]))
        except (OSError, ValueError, http.client.HTTPException) as e:
            why = f"{type(e).__name__}: {e}"
        with self._lock:
            self._ended = why

    def events(self, since: float = 0.0) -> list[Event]:
        """Return the events that arrived since then. Raises ``LabError`` if the watch has ended."""
        with self._lock:
            if self._ended:
                raise LabError(f"the watch of {self._path} has ended: {self._ended}")
            return [event for event in self._events if event.at >= since]

    def first(self, so: Callable[[Event], bool], since: float) -> Event | None:
        """Return the first event of this kind that arrived since then."""
        return next((event for event in self.events(since) if so(event)), None)

    def now(self) -> dict[str, Event]:
        """Return the objects that there are, by name, as of their last event."""
        state: dict[str, Event] = {}
        for event in self.events():
            state.pop(event.name, None)
            if event.kind != "DELETED":
                state[event.name] = event
        return state

    def wait(self, so: Callable[[Mapping[str, Event]], bool], what: str, seconds: float) -> None:
        """Wait until the objects that there are look so. Raises ``LabError`` with ``what`` if they do not."""
        end = time.monotonic() + seconds
        while not so(self.now()):
            if time.monotonic() > end:
                raise LabError(f"not within {seconds:g} s: {what}")
            time.sleep(POLLS)
