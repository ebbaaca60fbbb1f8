"""Calls of the Kubernetes API, each hedged over two API servers and bounded in time."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...model.errors import ApiError, ApiFault
from . import answers
from .account import ServiceAccount
from .connection import ApiAnswer, ApiRequest
from .hedge import HedgedCall, Preference
from .resources import ENDPOINT_SLICES, EVENTS, PODS, Document, Listing, Resource, Selection, metadata
from .senders import Senders
from .servers import NAME, NAMESPACE, ApiServers
from .watch import Watch, WatchTimes, open_watch

MERGE = "application/merge-patch+json"
PAGE = 100
"""Objects of one page of a LIST."""
MOST_PAGES = 1000
"""A LIST that goes on for longer never ends."""


@dataclass(frozen=True, slots=True)
class CallTimes:
    """Seconds: after ``hedge`` without an answer another server is called too; after ``whole`` a call ends.

    A page of a LIST may take ``page`` seconds, because an API server reads many objects for it.
    """

    hedge: float = 0.25
    whole: float = 1.0
    page: float = 5.0


class KubernetesClient:
    """Thread-safe. A thread that must not wait for other threads' locks has a client of its own.

    Every method raises ``ApiError``, within ``CallTimes.whole`` seconds; ``list`` takes ``CallTimes.page`` a
    page, and ``watch`` tries one server after another. An answer of GET is never older than the begin of the
    call (no cache of an API server is read), so a caller notes the time before it calls.
    """

    def __init__(self, account: ServiceAccount, servers: ApiServers, times: CallTimes | None = None) -> None:
        """``account`` and ``servers`` may be those of other clients, too: they have no lock."""
        self._account = account
        self._servers = servers
        self._times = times or CallTimes()
        self._preference = Preference(servers)
        self._senders = Senders(account)
        self._watches: set[Watch] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def get(self, resource: Resource, name: str, namespace: str = "") -> Document:
        """Return an object. Raises ``ApiError`` (NOT_FOUND)."""
        return self._exchange(_request("GET", resource, namespace, name))

    def list(self, selection: Selection) -> Listing:
        """Return all objects of a selection, read in pages, and the version that a watch goes on from."""
        action = f"LIST {selection}"
        items: list[Document] = []
        query = {"resourceVersion": "0"} if selection.cached else {"limit": str(PAGE)}
        for _ in range(MOST_PAGES):
            request = _selection_request(selection, query, action)
            try:
                page = answers.document(self._call(request, self._times.page), action)
            except ApiError as e:
                if e.fault is not ApiFault.EXPIRED or "continue" not in query:
                    raise
                items, query = (
                    [],
                    {"limit": str(PAGE)},
                )  # the storage has forgotten that version: from the start
                continue
            items += _items(page, action)
            if not (more := metadata(page, "continue")):
                return Listing(tuple(items), metadata(page, "resourceVersion"))
            query = {"limit": str(PAGE), "continue": more}
        raise ApiError(ApiFault.SERVER, action, f"does not end after {MOST_PAGES} pages", 200)

    def create(self, resource: Resource, document: Mapping[str, Any]) -> Document:
        """Create an object, which the document names. Raises ``ApiError`` (CONFLICT: it is there already).

        A create that was hedged may get CONFLICT from itself: the caller reads to know.
        """
        namespace, name = metadata(document, "namespace"), metadata(document, "name")
        if not name:
            raise ValueError(f"{resource.plural}: a document without a name could be created twice")
        return self._exchange(_request("POST", resource, namespace, name, document))

    def replace(self, resource: Resource, document: Mapping[str, Any]) -> Document:
        """Replace (PUT) an object, if it still has the document's uid and resourceVersion.

        Both are required (``ValueError``), because a PUT without the uid creates a deleted Lease anew. Raises
        ``ApiError``: CONFLICT if the object is another one, was changed or is gone. This call's own first
        sending may have changed it: the caller reads to know.
        """
        _require_version(resource, document)
        namespace, name = metadata(document, "namespace"), metadata(document, "name")
        return self._exchange(_request("PUT", resource, namespace, name, document))

    def delete(self, resource: Resource, document: Mapping[str, Any]) -> None:
        """Delete an object, if it still has the document's uid and resourceVersion, which are required.

        Raises ``ApiError``: NOT_FOUND, CONFLICT.
        """
        _require_version(resource, document)
        namespace, name = metadata(document, "namespace"), metadata(document, "name")
        only = {key: metadata(document, key) for key in ("uid", "resourceVersion")}
        self._exchange(_request("DELETE", resource, namespace, name, {"preconditions": only}))

    def patch_pod_status(self, namespace: str, name: str, patch: Mapping[str, Any]) -> Document:
        """Merge a patch into a pod through ``pods/status``, which lets labels and annotations through.

        A patch that names ``metadata.uid`` is INVALID where another pod has the name.
        """
        return self._exchange(_request("PATCH", PODS, namespace, name, patch, "status"))

    def patch_event(self, namespace: str, name: str, patch: Mapping[str, Any]) -> Document:
        """Merge a patch into an Event, such as its count."""
        return self._exchange(_request("PATCH", EVENTS, namespace, name, patch))

    def watch(self, selection: Selection, version: str, times: WatchTimes | None = None) -> Watch:
        """Open a watch that goes on from a version. Raises ``ApiError`` (EXPIRED)."""
        times = times or WatchTimes()
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(max(1, round(times.whole))),
        }
        request = _selection_request(selection, query, f"WATCH {selection}")
        watch = open_watch(request, times, self._account, self._preference, self._times.whole)
        with self._lock:
            self._watches = {other for other in self._watches if not other.is_closed} | {watch}
        if self._closed.is_set():
            watch.close()
        return watch

    def read_servers(self) -> None:
        """Read the API servers' addresses anew, from the server that failed last, if it answers by now.

        Raises ``ApiError``. The addresses may come from an API server's cache: they are dialled, not trusted.
        """
        request = _request("GET", ENDPOINT_SLICES, NAMESPACE, NAME)
        request = replace(request, path=f"{request.path}?resourceVersion=0")
        call = HedgedCall(request, self._senders, self._preference, worst_first=True)
        answer = call.run(self._times.hedge, self._times.whole)
        self._servers.update(answers.document(answer, request.action))
        self._senders.retain({*self._servers.endpoints, self._servers.service})

    def keep_servers_current(self, every: float = 30.0, tick: float = 2.0) -> None:
        """Read the addresses now, and then each ``every`` seconds in a thread that ``close`` ends.

        After calls that no API server answered they are read within ``tick`` seconds. The thread also cuts
        whatever is late.
        """

        def poll() -> None:
            read_at = -every
            while True:
                now = time.monotonic()
                if now - read_at >= every or self._preference.is_doubted():
                    read_at = now
                    with contextlib.suppress(ApiError):  # callers have their own; what is known stays
                        self.read_servers()
                self.cut_late()
                if self._closed.wait(tick):
                    return

        threading.Thread(target=poll, name="kubernetes servers", daemon=True).start()

    def cut_late(self) -> None:
        """Cut calls and watches that have not ended in time because a server sends bit by bit."""
        self._senders.cut_late()
        with self._lock:
            watches = list(self._watches)
        for watch in watches:
            watch.cut_if_late()

    def close(self) -> None:
        """End threads, connections and watches; calls that run end soon."""
        self._closed.set()
        self._senders.close()
        with self._lock:
            watches = list(self._watches)
        for watch in watches:
            watch.close()

    def _exchange(self, request: ApiRequest) -> Document:
        return answers.document(self._call(request, self._times.whole), request.action)

    def _call(self, request: ApiRequest, whole: float) -> ApiAnswer:
        return HedgedCall(request, self._senders, self._preference).run(self._times.hedge, whole)


def _request(
    method: str,
    resource: Resource,
    namespace: str,
    name: str,
    document: Mapping[str, Any] | None = None,
    subresource: str = "",
) -> ApiRequest:
    """Return a request about one object. Raises ``ApiError`` (INVALID) for a text that can name none."""
    kind = f"{resource.plural}/{subresource}" if subresource else resource.plural
    action = f"{method} {'/'.join(part for part in (kind, namespace, name) if part)}"
    with _named(action):
        path = resource.path(namespace, name, subresource)
    if method == "POST":
        path = resource.collection(namespace)
    body = None if document is None else json.dumps(document, separators=(",", ":")).encode()
    return ApiRequest(method, path, action, body, MERGE if method == "PATCH" else "application/json")


def _selection_request(selection: Selection, query: Mapping[str, str], action: str) -> ApiRequest:
    with _named(action):
        return ApiRequest("GET", selection.path(query), action)


@contextlib.contextmanager
def _named(action: str) -> Iterator[None]:
    try:
        yield
    except ValueError as e:
        raise ApiError(ApiFault.INVALID, action, str(e)) from e


def _require_version(resource: Resource, document: Mapping[str, Any]) -> None:
    if missing := [key for key in ("uid", "resourceVersion") if not metadata(document, key)]:
        raise ValueError(f"{resource.plural}: no {' and no '.join(missing)} in the document")


def _items(page: Document, action: str) -> list[Document]:
    """Return the objects of a page. Raises ``ApiError`` (SERVER) for what is no list of objects."""
    items = page.get("items") or []  # null where there is none
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ApiError(ApiFault.SERVER, action, "an answer that is no list of objects", 200)
    return items
