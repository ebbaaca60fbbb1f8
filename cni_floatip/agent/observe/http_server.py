"""A small HTTP server for a kubelet's probes and a scraper: one thread, whatever the callers do.

One loop over non-blocking sockets. A connection has a few seconds in all, and a few KiB. When there are too
many, the oldest is closed for the newest, so that callers that send or read slowly, or never, delay nobody.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from ...config.nodeconf import SocketAddress
from ...model.errors import IoFailure

MOST_CONNECTIONS = 64
SECONDS = 5.0
"""A connection's whole life: a kubelet's probe takes 1 s, a scrape 10 ms of ours."""
MOST_REQUEST = 16 << 10
_WAKE = 0.5


@dataclass(frozen=True, slots=True)
class Answer:
    """The response of a page."""

    status: int
    body: bytes
    kind: str = "text/plain; charset=utf-8"


Page = Callable[[], Answer]


class Pages:
    """Listens from its construction on, and answers while ``run`` runs."""

    def __init__(
        self,
        pages: Mapping[SocketAddress, Mapping[str, Page]],
        *,
        log: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Bind every address of ``pages`` (path -> page). Raises IoFailure that names the address."""
        self._log = log
        self._clock = clock
        self._watched = selectors.DefaultSelector()
        self._open: dict[int, _Connection] = {}  # oldest first
        self._listening: list[socket.socket] = []
        try:
            for address, here in pages.items():
                sock = _listen(address)
                self._listening.append(sock)
                self._watched.register(sock, selectors.EVENT_READ, dict(here))
        except BaseException:  # whatever it is, no bound socket outlives a failed construction
            self.close()
            raise

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The addresses that it listens at, in the order given; the real port where 0 was asked for."""
        return [sock.getsockname()[:2] for sock in self._listening]

    def run(self, stop: threading.Event) -> None:
        """Answer until told to stop, then close; the body of a thread."""
        try:
            while not stop.is_set():
                try:
                    self.turn(_WAKE)
                except Exception as e:  # noqa: BLE001 (one odd connection must not end the probes)
                    self._log(f"cannot serve a page: {e!r}")
                    stop.wait(_WAKE)
        finally:
            self.close()

    def turn(self, seconds: float) -> None:
        """Wait up to ``seconds`` for sockets that are ready, and serve them."""
        for key, _ in self._watched.select(seconds):
            if isinstance(key.data, _Connection):
                self._attend(key.data)
            elif isinstance(key.fileobj, socket.socket):
                self._accept(key.fileobj, key.data)
        now = self._clock()
        for connection in [connection for connection in self._open.values() if connection.until <= now]:
            self._drop(connection)

    def close(self) -> None:
        """Close everything."""
        for connection in list(self._open.values()):
            self._drop(connection)
        for sock in self._listening:
            sock.close()
        self._watched.close()

    def _accept(self, listening: socket.socket, pages: Mapping[str, Page]) -> None:
        try:
            sock, _ = listening.accept()
        except OSError as e:  # the caller has gone, or no descriptors are left
            if not isinstance(e, BlockingIOError | ConnectionError):
                time.sleep(0.05)  # else this would be a busy loop
            return
        sock.setblocking(False)
        if len(self._open) >= MOST_CONNECTIONS:
            self._drop(next(iter(self._open.values())))
        connection = _Connection(sock, pages, self._clock() + SECONDS)
        self._open[sock.fileno()] = connection
        self._watched.register(sock, selectors.EVENT_READ, connection)

    def _attend(self, connection: _Connection) -> None:
        try:
            if not connection.answered:
                if not connection.receive():
                    return
                connection.answered, connection.sending = True, memoryview(self._answer(connection))
                self._watched.modify(connection.sock, selectors.EVENT_WRITE, connection)
            if connection.send():
                self._drop(connection)
        except BlockingIOError:
            return
        except OSError:  # the caller has gone
            self._drop(connection)

    def _answer(self, connection: _Connection) -> bytes:
        method, path = connection.request_line()
        page = connection.pages.get(path)
        if method not in ("GET", "HEAD"):
            answer = Answer(405 if method else 400, b"this can only be read\n")
        elif page is None:
            answer = Answer(404, "".join(f"{page}\n" for page in connection.pages).encode())
        else:
            try:
                answer = page()
            except Exception as e:  # noqa: BLE001 (a page that fails must not end the others)
                self._log(f"page {path}: {type(e).__name__}: {e}")
                answer = Answer(500, b"see the agent's log\n")
        head = (
            f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\nContent-Type: {answer.kind}\r\n"
            f"Content-Length: {len(answer.body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + (b"" if method == "HEAD" else answer.body)

    def _drop(self, connection: _Connection) -> None:
        self._open.pop(connection.sock.fileno(), None)
        with contextlib.suppress(KeyError, ValueError):
            self._watched.unregister(connection.sock)
        connection.sock.close()


class _Connection:
    """One caller: its request so far, or the answer that is left to send."""

    def __init__(self, sock: socket.socket, pages: Mapping[str, Page], until: float) -> None:
        self.sock = sock
        self.pages = pages
        self.until = until
        self.answered = False
        self.sending = memoryview(b"")
        self._held = bytearray()

    def receive(self) -> bool:
        """Read what has come; return whether the request is complete. Raises OSError if it never will be."""
        data = self.sock.recv(4096)
        self._held += data
        whole = b"\r\n\r\n" in self._held or b"\n\n" in self._held
        if not whole and (not data or len(self._held) > MOST_REQUEST):
            raise ConnectionAbortedError
        return whole

    def request_line(self) -> tuple[str, str]:
        """Return method and path; empty strings if the request is not HTTP."""
        line = bytes(self._held.split(b"\n", 1)[0]).decode("ascii", "replace").split()
        if len(line) != 3 or not line[2].startswith("HTTP/"):
            return "", ""
        return line[0], line[1].split("?", 1)[0]

    def send(self) -> bool:
        """Send what fits; return whether all is sent."""
        self.sending = self.sending[self.sock.send(self.sending) :]
        return not self.sending


def _listen(address: SocketAddress) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # not TIME_WAIT's; a listener still refuses
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address.host != "::"))
        sock.bind((address.host, address.port))
        sock.listen(128)
        sock.setblocking(False)
    except OSError as e:
        sock.close()
        raise IoFailure(
            f"cannot listen on {address}: {e.strerror}",
            "set metricsAddress and healthAddress in the node configuration; null turns a server off",
        ) from e
    return sock
