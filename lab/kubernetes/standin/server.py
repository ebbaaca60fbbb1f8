"""One API server of the stand-in: HTTPS, watches, and how it can fail."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from lab.kubernetes.standin import kinds, verbs
from lab.kubernetes.standin.kinds import Place, Refusal
from lab.kubernetes.standin.storage import Change, Object, Storage
from lab.webserver import BadRequest, Request, read_request

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
SWALLOWED = {"": set(), "requests": {"requests"}, "answers": {"answers"}, "both": {"requests", "answers"}}
METHODS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One request that an API server carried out or refused. ``user`` "" is nobody that it knows."""

    server: str
    user: str
    verb: str
    resource: str
    namespace: str
    name: str
    query: Mapping[str, str]
    body: bytes
    status: int

    def __str__(self) -> str:
        what = "/".join(part for part in (self.resource, self.namespace, self.name) if part)
        return f"{self.server}: {self.verb} {what} -> {self.status}"


@dataclass(slots=True)
class Oddity:
    """An answer that is not as it should be, for the next call that ``matches``.

    ``cut``: so many bytes of the answer are sent, then the connection is reset. ``pause``: seconds between
    bytes. ``status``, ``headers`` and ``body`` come in place of the server's own, ``raw`` in place of all
    of it. ``hold``: the call waits for this first. ``applies``: it is carried out nevertheless.
    """

    matches: Callable[[str, str], bool] = lambda *_: True
    cut: int | None = None
    pause: float = 0.0
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    raw: bytes | None = None
    hold: threading.Event | None = None
    applies: bool = True


class Cluster:
    """What all API servers have in common: objects, users with their rights, and a record of calls."""

    def __init__(self) -> None:
        self.storage = Storage()
        self.namespaces = {"default", "kube-system"}
        self.users: dict[str, tuple[str, frozenset[str] | None]] = {}
        """Token -> name and rights ("get leases", "patch pods/status"); ``None``: all."""
        self.calls: list[ApiCall] = []
        self.bookmark_seconds = 60.0
        self.lock = threading.Lock()


class ApiServer:
    """``start`` listens, ``stop`` breaks all connections; between them it swallows, delays, answers oddly."""

    def __init__(
        self,
        name: str,
        cluster: Cluster,
        open_listener: Callable[[], socket.socket],
        files: tuple[Path, Path],
    ) -> None:
        """``open_listener``: returns a new listening socket. ``files``: certificate and key."""
        self.name = name
        self._cluster = cluster
        self._open_listener = open_listener
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*files)
        self._listener: socket.socket | None = None
        self._connections: set[socket.socket] = set()
        self._state = threading.Condition()
        self._swallows: set[str] = set()
        self._delay = 0.0
        self.oddities: deque[Oddity] = deque()
        self.accepted = 0

    # -- what a test does to it ------------------------------------------------------------------------

    def start(self) -> None:
        listener = self._listener = self._open_listener()
        threading.Thread(target=self._accept, args=[listener], daemon=True, name=self.name).start()

    def stop(self) -> None:
        """Refuse new connections and reset those that there are."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.reset()
        self.mend()

    def reset(self) -> None:
        """Break all connections, so that clients hear it at once."""
        with self._state:
            connections, self._connections = self._connections, set()
        for sock in connections:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                socket.socket.shutdown(sock, socket.SHUT_RD)  # its thread closes it

    def swallow(self, what: str = "both") -> None:
        """Let ``requests``, ``answers`` or ``both`` wait until ``mend``, with no word to anybody."""
        with self._state:
            self._swallows = SWALLOWED[what]

    def delay(self, seconds: float) -> None:
        """Carry out every call so much later."""
        self._delay = seconds

    def mend(self) -> None:
        """Do everything in time again; what was swallowed is carried out or answered now."""
        with self._state:
            self._swallows = set()
            self._delay = 0.0
            self._state.notify_all()

    @property
    def open(self) -> int:
        """Connections that are open."""
        with self._state:
            return len(self._connections)

    # -- connections -----------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=[sock], daemon=True, name=self.name).start()

    def _serve(self, plain: socket.socket) -> None:
        with self._state:
            self._connections.add(plain)
        sock = plain
        try:
            self._wait_for("requests")
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._context.wrap_socket(plain, server_side=True, suppress_ragged_eofs=True) as sock:
                with self._state:
                    self._connections.discard(plain)
                    self._connections.add(sock)
                with sock.makefile("rb") as stream:
                    while self._exchange(sock, stream):
                        pass
        except (OSError, BadRequest):
            pass  # the client has gone, or a test has broken the connection
        finally:
            with self._state:
                self._connections -= {plain, sock}
            plain.close()

    def _wait_for(self, what: str) -> None:
        """Wait as long as these are swallowed. Raises ``OSError`` if the server stops meanwhile."""
        with self._state:
            self._state.wait_for(lambda: what not in self._swallows)
        if self._listener is None:
            raise OSError("stopped")

    def _exchange(self, sock: ssl.SSLSocket, stream: Any) -> bool:
        request = read_request(stream)
        if request is None:
            return False
        self._wait_for("requests")
        if self._delay:
            time.sleep(self._delay)
        call = _Call(self, self._cluster, request)
        odd = next((odd for odd in self.oddities if odd.matches(call.verb, call.resource)), None)
        if odd is not None:
            self.oddities.remove(odd)
            if odd.hold is not None:
                odd.hold.wait()
        if call.verb == "watch" and odd is None:
            return self._watch(sock, call)
        status, document, headers = call.run() if odd is None or odd.applies else (500, {}, {})
        self._wait_for("answers")
        body = json.dumps(document).encode()
        if odd is None:
            sock.sendall(_encode(status, headers, body))
            return True
        body = body if odd.body is None else odd.body
        self._answer_oddly(
            sock, odd, odd.raw or _encode(odd.status or status, {**headers, **odd.headers}, body)
        )
        return odd.cut is None

    def _answer_oddly(self, sock: ssl.SSLSocket, odd: Oddity, answer: bytes) -> None:
        if odd.cut is not None:
            sock.sendall(answer[: odd.cut])
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        elif odd.pause:
            for byte in answer:
                sock.sendall(bytes([byte]))
                time.sleep(odd.pause)
        else:
            sock.sendall(answer)

    def _watch(self, sock: ssl.SSLSocket, call: _Call) -> bool:
        status, document, headers = call.open_watch()
        if status != 200:
            sock.sendall(_encode(status, headers, json.dumps(document).encode()))
            return True
        sock.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for event in call.events(lambda: sock in self._connections):
            self._wait_for("answers")
            line = json.dumps(event).encode() + b"\n" if event else b""
            if line:
                sock.sendall(b"%x\r\n%b\r\n" % (len(line), line))
        if sock not in self._connections:
            return False  # a test has broken it
        sock.sendall(b"0\r\n\r\n")
        return True


class _Call:
    """One request: who sends it, what it asks for, what becomes of it."""

    def __init__(self, server: ApiServer, cluster: Cluster, request: Request) -> None:
        self._server = server
        self._cluster = cluster
        self._request = request
        self.query = dict(parse_qsl(request.query))
        self._place: Place | None = None
        with contextlib.suppress(Refusal):
            self._place = kinds.place(request.path)
        self.resource = self._place.resource if self._place else request.path
        self.verb = METHODS.get(request.method) or self._reading()

    def _reading(self) -> str:
        if self.query.get("watch") in ("1", "true"):
            return "watch"
        return "get" if self._place and self._place.name else "list"

    def run(self) -> tuple[int, Object, Mapping[str, str]]:
        """Carry it out; return status, document and headers."""
        return self._noted(self._run)

    def open_watch(self) -> tuple[int, Object, Mapping[str, str]]:
        return self._noted(self._open_watch)

    def _noted(self, step: Callable[[Place], tuple[int, Object]]) -> tuple[int, Object, Mapping[str, str]]:
        headers: Mapping[str, str] = {}
        try:
            at = kinds.place(self._request.path)
            self._authorize(at)
            status, document = step(at)
        except Refusal as e:
            status, document, headers = e.status, e.document(), e.headers
        at = self._place or Place(kinds.KINDS[0], "", "", "")
        user = self._cluster.users.get(self._token(), ("", None))[0]
        call = ApiCall(
            self._server.name,
            user,
            self.verb,
            self.resource,
            at.namespace,
            at.name,
            self.query,
            self._request.body,
            status,
        )
        with self._cluster.lock:
            self._cluster.calls.append(call)
        return status, document, headers

    def _run(self, at: Place) -> tuple[int, Object]:
        storage, body = self._cluster.storage, self._request.body
        match self.verb:
            case "get":
                return 200, verbs.read(storage, at, self.query)
            case "list":
                return 200, verbs.list_all(storage, at, self.query)
            case "create":
                return 201, verbs.create(storage, at, body, self._cluster.namespaces)
            case "update":
                return verbs.replace(storage, at, body)
            case "patch":
                return 200, verbs.merge(storage, at, body, self._request.headers.get("content-type", ""))
            case "watch":
                return 200, {}
        return 200, verbs.delete(storage, at, body)

    def _token(self) -> str:
        return self._request.headers.get("authorization", "").removeprefix("Bearer ")

    def _authorize(self, at: Place) -> None:
        if self._token() not in self._cluster.users:
            raise Refusal(401, "Unauthorized", "Unauthorized")
        user, rights = self._cluster.users[self._token()]
        if rights is None or f"{self.verb} {at.resource}" in rights:
            return
        what = f'{at.kind.title} "{at.name}"' if at.name else at.kind.title
        scope = f' in the namespace "{at.namespace}"' if at.namespace else " at the cluster scope"
        text = f'{what} is forbidden: User "{user}" cannot {self.verb} resource "{at.resource}"'
        raise Refusal(403, "Forbidden", f'{text} in API group "{at.kind.group}"{scope}')

    # -- watches ---------------------------------------------------------------------------------------

    def _open_watch(self, at: Place) -> tuple[int, Object]:
        version = self.query.get("resourceVersion") or "0"
        if not version.isdigit():
            raise Refusal(500, "", f'strconv.ParseUint: parsing "{version}": invalid syntax')
        kinds.selector(self.query.get("fieldSelector", ""), self.query.get("labelSelector", ""), at.kind)
        return 200, {}

    def events(self, is_open: Callable[[], bool]) -> Iterator[Object | None]:
        """Yield what a watch sends; ``None`` now and then, when there is nothing."""
        at, storage = kinds.place(self._request.path), self._cluster.storage
        wanted = kinds.selector(
            self.query.get("fieldSelector", ""), self.query.get("labelSelector", ""), at.kind
        )
        version = int(self.query.get("resourceVersion") or 0)
        end = time.monotonic() + float(self.query.get("timeoutSeconds") or 1800)
        if not version:
            with storage.transaction(cached=True):
                version, present = storage.version, storage.all(at.kind.plural, at.namespace)
            yield from (_event("ADDED", item) for _, item in present if kinds.selects(wanted, item))
        elif version < storage.oldest:
            message = f"too old resource version: {version} ({storage.oldest})"
            yield _event("ERROR", Refusal(410, "Expired", message).document())
            return
        bookmark_at = time.monotonic() + self._cluster.bookmark_seconds
        while (now := time.monotonic()) < end and is_open():
            for change in storage.since(version):
                version = change.version
                if at.kind.plural == change.key.plural and at.namespace in ("", change.key.namespace):
                    yield from _events(change, wanted)
            if now >= bookmark_at and self.query.get("allowWatchBookmarks") in ("1", "true"):
                bookmark_at = now + self._cluster.bookmark_seconds
                parts = {"resourceVersion": str(storage.version), "creationTimestamp": None}
                kind = {"kind": at.kind.name, "apiVersion": at.kind.api_version}
                yield _event("BOOKMARK", {**kind, "metadata": parts})
            yield None
            storage.wait(version, min(0.05, max(0.0, end - now)))


def _events(change: Change, wanted: Any) -> Iterator[Object]:
    was, now = kinds.selects(wanted, change.before), kinds.selects(wanted, change.after)
    if now:
        yield _event("MODIFIED" if was else "ADDED", change.after)
    elif was:
        yield _event("DELETED", change.before)


def _event(kind: str, document: Object | None) -> Object:
    return {"type": kind, "object": document}


def _encode(status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    head = [f"HTTP/1.1 {status} Stand-in", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    head += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + body
