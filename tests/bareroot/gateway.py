"""The only way out of a root: an HTTP proxy that listens inside its network namespace, and counts what comes.

It connects as this machine does, by the machine's own proxy where there is one.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

CONNECT_SECONDS = 20.0
IDLE_SECONDS = 200.0
CHUNK = 1 << 16
HEAD_BYTES = 1 << 16
REFUSED = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Gateway:
    """Serves a listening socket. ``fetched``: the bytes that have come from each host."""

    def __init__(self, sock: socket.socket) -> None:
        self.fetched: Counter[str] = Counter()
        self._sock = sock
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = False
        self._upstream = _upstream(urllib.request.getproxies())
        self._thread = threading.Thread(target=self._accept, daemon=True, name="gateway")
        self._thread.start()

    def close(self) -> None:
        """Refuse everything from now on, and break what is under way. Twice is once."""
        with self._lock:
            self._closed = True
            under_way = list(self._open)
        for item in (self._sock, *under_way):
            with contextlib.suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._sock.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True, name="gateway-client").start()

    @contextlib.contextmanager
    def _noted(self, sock: socket.socket) -> Iterator[None]:
        """Close the socket at the end, or when the gateway closes."""
        with self._lock:
            self._open.add(sock)
            if self._closed:
                sock.shutdown(socket.SHUT_RDWR)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(sock)
            sock.close()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), self._noted(client):
            client.settimeout(IDLE_SECONDS)
            head, rest = _head(client)
            method, target, version = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
            host, port, path = _place(method, target)
            try:
                server = socket.create_connection(self._upstream or (host, port), CONNECT_SECONDS)
            except OSError:
                client.sendall(REFUSED)
                return
            with self._noted(server):
                server.settimeout(IDLE_SECONDS)
                if method == "CONNECT" and not self._upstream:
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    # One request for each connection: the next may be for another host.
                    first, _, fields = head.partition(b"\r\n")
                    if method != "CONNECT":
                        if not self._upstream:
                            first = f"{method} {path} {version}".encode("latin-1")
                        fields = re.sub(rb"(?im)^(proxy-)?connection:.*\r\n", b"", fields)
                        fields = b"Connection: close\r\n" + fields
                    server.sendall(first + b"\r\n" + fields)
                if rest:
                    server.sendall(rest)
                self._pass_on(client, server, host)

    def _pass_on(self, client: socket.socket, server: socket.socket, host: str) -> None:
        ways = {client: server, server: client}
        while ways:
            ready = select.select(list(ways), [], [], IDLE_SECONDS)[0]
            if not ready:
                return
            for source in ready:
                data = source.recv(CHUNK)
                if source is server:
                    with self._lock:
                        self.fetched[host] += len(data)
                if data:
                    ways[source].sendall(data)
                elif source is server:
                    return
                else:
                    del ways[source]  # the answer is still to come


def _head(client: socket.socket) -> tuple[bytes, bytes]:
    """Return the head of a request with its empty line, and what came behind it."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = client.recv(CHUNK)
        if not more or len(data) > HEAD_BYTES:
            raise ConnectionError("no request")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def _place(method: str, target: str) -> tuple[str, int, str]:
    """Return host, port and path of a request's target."""
    if method == "CONNECT":
        host, _, port = target.rpartition(":")
        return host.strip("[]"), int(port), ""
    url = urlsplit(target)
    return url.hostname or "", url.port or 80, (url.path or "/") + (f"?{url.query}" if url.query else "")


def _upstream(proxies: Mapping[str, str]) -> tuple[str, int] | None:
    """Return the machine's own proxy."""
    url = urlsplit(proxies.get("https") or proxies.get("http") or "")
    return (url.hostname, url.port or 3128) if url.hostname else None
