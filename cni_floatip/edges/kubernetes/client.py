"""Calls of the Kubernetes API, each hedged over two API servers and bounded in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .resources import Document, Listing, Resource, Selection
from .watch import Watch


@dataclass(frozen=True, slots=True)
class CallTimes:
    """Seconds: after ``hedge`` without an answer another server is asked too, after ``whole`` the call ends."""

    hedge: float = 0.25
    whole: float = 1.0


class KubernetesClient:
    """Thread-safe. A thread that must not wait for others' locks has a client of its own.

    Every method raises ``ApiError``, within ``CallTimes.whole`` seconds. An answer of GET is never older than
    the begin of the call (no cache of the API server is read), so a caller notes the time before it calls.
    """

    def get(self, resource: Resource, name: str, namespace: str = "") -> Document:
        """Return an object. Raises ``ApiError`` (NOT_FOUND)."""
        raise NotImplementedError

    def list(self, selection: Selection) -> Listing:
        """Return all objects of a selection, read in pages, and the version that a watch goes on from."""
        raise NotImplementedError

    def create(self, resource: Resource, document: Mapping[str, Any]) -> Document:
        """Create an object, which the document names. Raises ``ApiError`` (CONFLICT: it is there already).

        A create that was hedged may get CONFLICT from itself: the caller reads to know.
        """
        raise NotImplementedError

    def replace(self, resource: Resource, document: Mapping[str, Any]) -> Document:
        """Replace (PUT) an object, if it still has the document's uid and resourceVersion.

        Both are required, because a PUT without the uid creates a deleted Lease anew. Raises ``ApiError``:
        CONFLICT if the object is another one, was changed or is gone, also by this very call's first sending:
        the caller reads to know. ``ValueError`` without them.
        """
        raise NotImplementedError

    def delete(self, resource: Resource, document: Mapping[str, Any]) -> None:
        """Delete an object, if it still has the document's uid and resourceVersion, both of which are required.

        Raises ``ApiError``: NOT_FOUND, CONFLICT.
        """
        raise NotImplementedError

    def patch_pod_status(self, namespace: str, name: str, patch: Mapping[str, Any]) -> Document:
        """Merge a patch into a pod through ``pods/status``: labels and annotations of its metadata get through.

        A patch that names ``metadata.uid`` gets CONFLICT from a pod that has only the name.
        """
        raise NotImplementedError

    def patch_event(self, namespace: str, name: str, patch: Mapping[str, Any]) -> Document:
        """Merge a patch into an Event, such as its count."""
        raise NotImplementedError

    def watch(self, selection: Selection, version: str) -> Watch:
        """Open a watch that goes on from a version. Raises ``ApiError`` (EXPIRED)."""
        raise NotImplementedError

    def close(self) -> None:
        """End the threads and connections; calls that run end soon."""
