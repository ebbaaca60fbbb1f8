"""One TLS connection to one API server. The only module that imports urllib3.

The name in the server's certificate is ``kubernetes.default.svc``, whatever address is dialled. No proxy is
used, and nothing is read from the environment, because only urllib3's managers know of proxies.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from urllib3.connection import HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from ... import __version__
from .account import ApiCredentials
from .servers import ApiAddress

TLS_NAME = "kubernetes.default.svc"
MOST_BYTES = 8 * 1024 * 1024
"""Bytes of an answer; a page of a hundred large pods has two million."""

_USER_TIMEOUT = 18
"""TCP_USER_TIMEOUT (tcp(7)), which the socket module does not name in every Python."""
SocketOptions = list[tuple[int, int, int | bytes]]
_CALL_OPTIONS: SocketOptions = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
WATCH_OPTIONS: SocketOptions = [
    *_CALL_OPTIONS,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2),
    (socket.IPPROTO_TCP, _USER_TIMEOUT, 2000),
]
"""A watch is silent for a minute while all is well, so the kernel asks for the other side each second."""


class NoAnswer(Exception):
    """A request got no whole answer; the text says why."""


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """What is sent. ``action`` names it for messages."""

    method: str
    path: str
    action: str
    body: bytes | None = None
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """What came: the status of HTTP, headers in lower case, the whole body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class ApiConnection:
    """Connects when needed, and anew after any trouble. One thread uses it; any thread may ``cut`` it."""

    def __init__(self, address: ApiAddress, *, is_for_watch: bool = False) -> None:
        self._address = address
        self._options = WATCH_OPTIONS if is_for_watch else _CALL_OPTIONS
        self._connection: HTTPSConnection | None = None
        self._sock: socket.socket | None = None
        """The connection's, which it forgets when a server says that this answer is its last."""

    def exchange(self, request: ApiRequest, credentials: ApiCredentials, end: float) -> ApiAnswer:
        """Send a request and return the whole answer. Raises ``NoAnswer``.

        ``end``: of ``time.monotonic``. Silence ends with it; a server that goes on sending bit by bit is cut.
        """
        with self.translated():
            response = self._send(request, credentials, end)
            return ApiAnswer(response.status, _lower(response), _whole(response, end))

    def stream(self, request: ApiRequest, credentials: ApiCredentials, end: float) -> ApiStream | ApiAnswer:
        """Send a request; return its body as it comes if the status is 200, else the answer.

        Raises ``NoAnswer``.
        """
        with self.translated():
            response = self._send(request, credentials, end)
            if response.status == 200:
                return ApiStream(self, response)
            return ApiAnswer(response.status, _lower(response), _whole(response, end))

    def cut(self) -> None:
        """End what another thread waits for here: it finds the end of the stream."""
        connection = self._connection
        sock = (connection.sock if connection else None) or self._sock
        if sock is not None:
            with contextlib.suppress(OSError):
                # Not the TLS socket's own method: after that a reader would take ciphertext for the answer.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = self._sock = None

    def _send(self, request: ApiRequest, credentials: ApiCredentials, end: float) -> BaseHTTPResponse:
        connection = self._connection
        if connection is not None and (
            connection.ssl_context is not credentials.context or not connection.is_connected
        ):
            self.close()  # the server has ended it, or the authority has changed
            connection = None
        if connection is None:
            connection = self._connection = HTTPSConnection(
                self._address.host,
                self._address.port,
                timeout=_left(end),
                ssl_context=credentials.context,
                server_hostname=TLS_NAME,
                socket_options=self._options,
            )
            connection.connect()
            self._sock = connection.sock
        self.set_timeout(_left(end))
        headers = {
            "Host": TLS_NAME,
            "Authorization": f"Bearer {credentials.token}",
            "Accept": "application/json",
            "User-Agent": f"cni-floatip/{__version__}",
        }
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        connection.request(
            request.method, request.path, request.body, headers, preload_content=False, decode_content=False
        )
        self.set_timeout(_left(end))
        response = connection.getresponse()
        if not {"content-length", "transfer-encoding"} & _lower(response).keys():
            raise NoAnswer("an answer without a length: it may be part of one")
        return response

    def set_timeout(self, seconds: float) -> None:
        """Let every wait for bytes from now on end after so long."""
        if self._connection is not None:
            self._connection.timeout = seconds
        if self._sock is not None:
            self._sock.settimeout(seconds)

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Close the connection after any trouble; raise ``NoAnswer`` for it."""
        try:
            yield
        except NoAnswer:
            self.close()
            raise
        except (HTTPError, http.client.HTTPException, OSError, ValueError) as e:
            self.close()
            raise NoAnswer(_reason(e)) from e
        except BaseException:
            self.close()  # after whatever ended it: the rest of this answer would pass for the next one
            raise


class ApiStream:
    """The body of an answer as it comes; ``close`` it. One thread reads; any thread may ``cut`` it."""

    def __init__(self, connection: ApiConnection, response: BaseHTTPResponse) -> None:
        self._connection = connection
        self._pieces = response.stream(1 << 16, decode_content=False)

    def read(self, seconds: float) -> bytes:
        """Return what comes next, b"" at the end. Raises ``NoAnswer``, also after so long a silence."""
        with self._connection.translated():
            self._connection.set_timeout(seconds)
            return next(self._pieces, b"")

    def cut(self) -> None:
        self._connection.cut()

    def close(self) -> None:
        self._connection.close()


def _whole(response: BaseHTTPResponse, end: float) -> bytes:
    """Return a body if all of it comes. It is read to its end, because only there a part is noticed."""
    body = b""
    while piece := response.read(1 << 16):
        body += piece
        _left(end)
        if len(body) > MOST_BYTES:
            raise NoAnswer(f"an answer of more than {MOST_BYTES} bytes")
    return body


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise NoAnswer("no answer in time")
    return left


def _lower(response: BaseHTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _reason(e: Exception) -> str:
    """Return what went wrong, without the objects that urllib3 names in its texts."""
    if isinstance(e, TimeoutError) or type(e).__name__ in ("ReadTimeoutError", "ConnectTimeoutError"):
        return "no answer in time"
    cause = e.__cause__ if isinstance(e, HTTPError) and isinstance(e.__cause__, Exception) else e
    return str(cause) or type(cause).__name__
