"""The namespaces whose kernel events are read: one socket for each, and one wait for all of them.

A socket keeps its namespace alive, and the addresses in it. So it is closed with the last that reads it.
"""

from __future__ import annotations

import os
import selectors
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ...edges.podnet.events import READ_AT_ONCE, Event, Events
from .interface import WatchedInterface
from .watched_pods import WatchedPod

FLOOD_SECONDS = 0.1
"""How long a namespace that floods us with events is not read; the kernel drops the rest."""


@dataclass
class Namespace:
    """A namespace whose events are read, for ``watched`` interfaces and for the pods ``sides``."""

    inode: int
    events: Events
    watched: list[WatchedInterface] = field(default_factory=list)
    sides: list[WatchedPod] = field(default_factory=list)
    silent_until: float = 0.0


class NamespaceEvents:
    """Opens namespaces, and waits for their events. Only the watch's thread may call it, except for ``wake``.

    ``listen_in`` opens the events of the namespace at a path with that inode, or raises CniError.
    """

    def __init__(self, listen_in: Callable[[str, int], Events]) -> None:
        self._listen_in = listen_in
        self._namespaces: dict[int, Namespace] = {}
        self._selector = selectors.DefaultSelector()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._ringing = threading.Lock()

    def __getitem__(self, inode: int) -> Namespace:
        return self._namespaces[inode]

    def open(self, netns: str, inode: int) -> Namespace:
        """Return the namespace, with its events being read. Raises CniError."""
        namespace = self._namespaces.get(inode)
        if namespace is None:
            namespace = Namespace(inode, self._listen_in(netns, inode))
            self._namespaces[inode] = namespace
            self._selector.register(namespace.events, selectors.EVENT_READ, namespace)
        return namespace

    def close_if_idle(self, inode: int) -> None:
        """Close the socket of a namespace that nothing is watched in any more."""
        namespace = self._namespaces[inode]
        if namespace.watched or namespace.sides:
            return
        del self._namespaces[inode]
        if not namespace.silent_until:
            self._selector.unregister(namespace.events)
        namespace.events.close()

    def wait(self, seconds: float) -> list[Namespace]:
        """Wait until there are events, or ``wake`` is called; return the namespaces that have events."""
        namespaces: list[Namespace] = []
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                with suppress(BlockingIOError):
                    os.eventfd_read(self._bell)
            else:
                namespaces.append(key.data)
        return namespaces

    def read(self, namespace: Namespace, now: float) -> Sequence[Event]:
        """Return the events that are there. A namespace that has too many is not read for a while."""
        events = namespace.events.read()
        if len(events) >= READ_AT_ONCE:
            namespace.silent_until = now + FLOOD_SECONDS
            self._selector.unregister(namespace.events)
        return events

    def resume(self, now: float) -> None:
        """Read the namespaces again that have been silent for long enough."""
        for namespace in self._namespaces.values():
            if namespace.silent_until and now >= namespace.silent_until:
                namespace.silent_until = 0.0
                self._selector.register(namespace.events, selectors.EVENT_READ, namespace)

    def due(self) -> list[float]:
        """Return when there is something to ``resume``."""
        return [space.silent_until for space in self._namespaces.values() if space.silent_until]

    def wake(self) -> None:
        """End ``wait`` at once, from any thread, also after ``close``."""
        with self._ringing, suppress(BlockingIOError):
            if self._bell >= 0:
                os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """Wait no more."""
        with self._ringing:
            self._selector.close()
            os.close(self._bell)
            self._bell = -1
