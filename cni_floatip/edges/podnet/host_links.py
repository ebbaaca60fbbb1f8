"""Remembers links of this process's namespace, because all pods on one ENI have the same parent.

The kernel tells of every change of a link on a socket that is read before each use. It does so before the
change returns to its author (rtnetlink(7)). So what is remembered is what the kernel would answer, but for
the carrier, of which the kernel tells up to a second late (net/core/link_watch.c). A link that is down or has
no carrier is not remembered. What the kernel could not tell (an overflow) makes us forget everything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from ...model.values import Link
from . import links, pod
from .events import Event, Events, LinkChanged, LinkGone, open_link_events

BUFFER_BYTES = 20_000
"""What the kernel may keep for us: few events, because one ``read`` must take them all."""
MOST_READS = 4
"""How many reads in a row may bring events; then nothing is remembered until they end."""


class HostLinks:
    """Links of this process's namespace by index, as they are now. For many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._links: dict[int, Link] = {}
        self._events: Events | None = None
        self._changes = 0

    def get(self, index: int, ask: Callable[[], Link]) -> Link:
        """Return the remembered link, else what ``ask`` returns. Raises what ``ask`` raises."""
        with self._lock:
            current = self._catch_up()
            known = self._links.get(index)
            before = self._changes
        if known:
            return known
        link = ask()
        if current and link.up and link.carrier:
            with self._lock:
                if self._catch_up() and self._changes == before:  # else the answer may be older than a change
                    self._links[index] = link
        return link

    def close(self) -> None:
        """Forget everything, and stop listening."""
        with self._lock:
            self._forget()

    def _catch_up(self) -> bool:
        """Forget what has changed; false if that is not known, and then nothing is remembered."""
        try:
            if self._events is None:
                self._events = open_link_events(BUFFER_BYTES)
            for _ in range(MOST_READS):
                events = self._events.read()
                if not events:
                    return True
                self._apply(events)
        except OSError:  # no socket: each question is asked
            pass
        self._forget()
        return False

    def _apply(self, events: Iterable[Event]) -> None:
        self._changes += 1
        for event in events:
            if isinstance(event, (LinkChanged, LinkGone)):
                self._links.pop(event.index, None)
            else:  # an overrun
                self._links.clear()

    def _forget(self) -> None:
        self._changes += 1
        self._links.clear()
        if self._events:
            self._events.close()
            self._events = None


class RememberingKernel:
    """The package's verbs for a process that opens many pods: remembers the pods' parents."""

    clear_pod = staticmethod(pod.clear_pod)
    set_up = staticmethod(links.set_up)

    def __init__(self) -> None:
        self._host_links = HostLinks()

    def open_pod(
        self, netns: str, ifname: str, *, override: bool = False
    ) -> AbstractContextManager[pod.PodNet]:
        """See ``pod.open_pod``."""
        return pod.open_pod(netns, ifname, override=override, host_link=self._host_links.get)
