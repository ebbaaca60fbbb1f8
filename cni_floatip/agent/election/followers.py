"""Follows what elections need of Kubernetes: this node's pods, the Leases, this node. Each in its own thread.

Watches are hints: what they miss is read anew, each ten seconds by members and by ``Polls``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from ...edges.kubernetes.resources import (
    LEASES,
    NODES,
    PODS,
    Document,
    Listing,
    Resource,
    Selection,
    metadata,
)
from ...edges.kubernetes.watch import Change, Watch, WatchEvent
from ...model.errors import ApiError

IDLE_SECONDS = 1.0
"""How soon a selection is followed that is wanted again."""
RETRY_SECONDS = 2.0
"""When a node is read again that could not be."""


class Follow(Protocol):
    """A selection that is being followed; see ``edges.kubernetes.follow``."""

    def __iter__(self) -> Iterator[Listing | WatchEvent | ApiError]: ...
    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Learners:
    """Who learns what a watch shows, in its thread."""

    listed: Callable[[Listing], object]
    changed: Callable[[Document, bool], object]
    failed: Callable[[ApiError], object]


class NodeClient(Protocol):
    """What ``OwnNode`` needs of ``edges.kubernetes.client``; both raise ApiError."""

    def get(self, resource: Resource, name: str, namespace: str = "") -> Document: ...
    def watch(self, selection: Selection, version: str) -> Watch: ...


class Following:
    """One selection, followed while ``want`` says so. ``run`` is the thread's body."""

    def __init__(self, follow: Callable[[], Follow], learners: Learners) -> None:
        self._follow = follow
        self._learners = learners
        self._wanted = threading.Event()
        self._follower: Follow | None = None
        self._ending = False

    def want(self, wanted: bool) -> None:
        """Follow from now on, or do not."""
        if wanted == self._wanted.is_set():
            return
        if wanted:
            self._wanted.set()
        else:
            self._wanted.clear()
            self._stop_follower()

    def end(self) -> None:
        """End the thread soon."""
        self._ending = True
        self._stop_follower()

    def run(self, stop: threading.Event) -> None:
        """Follow until told to end."""
        while not stop.is_set() and not self._ending:
            if not self._wanted.wait(IDLE_SECONDS):
                continue
            self._follower = self._follow()
            if not self._wanted.is_set() or self._ending:  # it may have been stopped before it was there
                continue
            for item in self._follower:
                self._take(item)
                if stop.is_set():
                    break

    def _take(self, item: Listing | WatchEvent | ApiError) -> None:
        if isinstance(item, ApiError):
            self._learners.failed(item)
        elif isinstance(item, Listing):
            self._learners.listed(item)
        elif item.change is not Change.BOOKMARK:
            self._learners.changed(item.document, item.change is Change.DELETED)

    def _stop_follower(self) -> None:
        if follower := self._follower:
            follower.stop()


class OwnNode:
    """One Node, followed by the thread that iterates, with the rights to get and to watch: it lists none."""

    def __init__(self, client: NodeClient, name: str, pause: Callable[[float], object] | None = None) -> None:
        """``pause``: waits for so many seconds, or until ``stop``."""
        self._client = client
        self._selection = Selection(NODES, fields=f"metadata.name={name}")
        self._name = name
        self._stopped = threading.Event()
        self._pause = pause or self._stopped.wait
        self._watch: Watch | None = None

    def __iter__(self) -> Iterator[Listing | WatchEvent | ApiError]:
        while not self._stopped.is_set():
            try:
                node = self._client.get(NODES, self._name)
                version = metadata(node, "resourceVersion")
                yield Listing((node,), version)
                self._watch = watch = self._client.watch(self._selection, version)
                if self._stopped.is_set():
                    watch.close()
                yield from watch
            except ApiError as e:
                yield e
                self._pause(RETRY_SECONDS)

    def stop(self) -> None:
        """End the iteration soon."""
        self._stopped.set()
        if (watch := self._watch) is not None:
            watch.close()


def pods_of(node: str) -> Selection:
    """Return the selection of a node's pods, read from memory, because storage has no index of it."""
    return Selection(PODS, fields=f"spec.nodeName={node}", cached=True)


def leases_in(namespace: str) -> Selection:
    """Return the selection of all Leases of the elections."""
    return Selection(LEASES, namespace)
