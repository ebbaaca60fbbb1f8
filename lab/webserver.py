"""HTTP/1.1 on a socket that somebody else opened: one thread per connection, keep-alive, nothing logged.

The socket may live in any network namespace; the threads need not, because a socket stays where it was made.
A handler that answers ``None`` closes the connection without a word, which is how the lab loses an answer.
"""

from __future__ import annotations

import contextlib
import http.client
import signal
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

MAX_HEADERS = 100
MAX_LINE = 65536
MAX_BODY = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """What the client sent; header names in lower case, the query still encoded."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client gets."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "text/plain"


Handler = Callable[[Request], Answer | None]


class BadRequest(Exception):
    """The bytes on the connection are not an HTTP request that we take."""


def read_line(stream: BinaryIO) -> str:
    """Return one line without its end; empty at the end of the stream."""
    line = stream.readline(MAX_LINE + 1)
    if len(line) > MAX_LINE:
        raise BadRequest("line too long")
    return line.decode("latin-1").rstrip("\r\n")


def read_request(stream: BinaryIO) -> Request | None:
    """Read one request; ``None`` when the client has closed the connection."""
    line = read_line(stream)
    if not line:
        return None
    try:
        method, target, _ = line.split(" ", 2)
    except ValueError:
        raise BadRequest(f"not a request line: {line[:80]}") from None
    headers: dict[str, str] = {}
    for _ in range(MAX_HEADERS):
        line = read_line(stream)
        if not line:
            break
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    else:
        raise BadRequest("too many headers")
    if "transfer-encoding" in headers:
        raise BadRequest("chunked requests are not taken here")
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MAX_BODY:
        raise BadRequest(f"content-length {length[:20]}")
    path, _, query = target.partition("?")
    return Request(method, path, query, headers, stream.read(int(length)))


def encode(answer: Answer, *, close: bool) -> bytes:
    """Return the answer as bytes for the wire."""
    head = [f"HTTP/1.1 {answer.status} {http.client.responses.get(answer.status, 'Unknown')}"]
    head += [f"Content-Type: {answer.content_type}", f"Content-Length: {len(answer.body)}"]
    head += [f"{name}: {value}" for name, value in answer.headers.items()]
    head += ["Connection: close"] if close else []
    return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + answer.body


def reset(connection: socket.socket) -> None:
    """Close a connection the way a vanished peer does: with RST, so that the client notices at once."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def open_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address of the namespace we are in; port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(128)
    except OSError:
        sock.close()
        raise
    return sock


def wait_for_the_end() -> None:
    """Return on Ctrl-C or SIGTERM."""
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    with contextlib.suppress(KeyboardInterrupt):
        over.wait()


class Listener:
    """Serves ``handler`` on a listening socket until ``close``. The socket is ours from here on."""

    def __init__(self, sock: socket.socket, handler: Handler, admit: Callable[[], bool] = lambda: True):
        self._sock = sock
        self._handler = handler
        self._admit = admit
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False
        sock.settimeout(None)
        threading.Thread(target=self._accept, daemon=True, name="lab-listener").start()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port we listen on."""
        host, port = self._sock.getsockname()[:2]
        return str(host), int(port)

    def sever(self) -> None:
        """Break every open connection; new ones are taken as ``admit`` says."""
        with self._lock:
            open_now = list(self._connections)
        for connection in open_now:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop listening and break every open connection. Twice is once."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept(); close() alone does not
        self._sock.close()
        self.sever()

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._sock.accept()
            except OSError:
                return
            if not self._admit():
                reset(connection)
                continue
            with self._lock:
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True, name="lab-http").start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection.makefile("rb") as stream:
                while not self._closed and self._exchange(connection, stream):
                    pass
        except OSError:
            pass  # the client went away, or we were severed: either way the connection is over
        finally:
            with self._lock:
                self._connections.discard(connection)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _exchange(self, connection: socket.socket, stream: BinaryIO) -> bool:
        """Take one request and answer it; false when the connection is to be closed."""
        try:
            request = read_request(stream)
        except BadRequest as e:
            connection.sendall(encode(Answer(400, str(e).encode()), close=True))
            return False
        if request is None:
            return False
        try:
            answer = self._handler(request)
        except Exception as e:  # noqa: BLE001 - a fault of the lab's own: the caller is to hear of it
            answer = Answer(500, f"{type(e).__name__}: {e}".encode())
        if answer is None:
            return False
        close = request.headers.get("connection", "").lower() == "close"
        connection.sendall(encode(answer, close=close))
        return not close
