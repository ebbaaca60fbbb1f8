"""Instance metadata that is slow, endless or no text: refused in time, as what passes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from cni_floatip.edges.imds import Metadata
from cni_floatip.model.errors import TryAgain

DOCUMENT = b'{"instanceId": "i-1", "accountId": "111122223333", "region": "eu-central-1"}'
DEADLINE = 1.5


SENT: list[int] = []
"""64 KiB that a client of ours has taken, each."""


def whole(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body


class Service:
    """Answers the PUT for a token as it should, and every GET as ``says`` does."""

    def __init__(self, says: Callable[[socket.socket], None], token: bytes = b"token") -> None:
        self._says, self._token = says, token
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        self.over = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while not self.over.is_set():
            try:
                sock, _ = self._door.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(sock,), daemon=True).start()

    def _talk(self, sock: socket.socket) -> None:
        with sock:
            try:
                while request := sock.recv(65536):
                    if request.startswith(b"PUT"):
                        sock.sendall(whole(self._token))
                    else:
                        self._says(sock)
            except OSError:
                pass

    def close(self) -> None:
        self.over.set()
        self._door.close()


@contextmanager
def asked(says: Callable[[socket.socket], None], token: bytes = b"token") -> Iterator[Metadata]:
    service = Service(says, token)
    metadata = Metadata(time.monotonic() + DEADLINE, endpoint=service.url)
    try:
        yield metadata
    finally:
        metadata.close()
        service.close()


def drips(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(200):
        sock.sendall(b"x")
        time.sleep(0.1)


def drips_headers(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(200):
        sock.sendall(b"X-%d: y\r\n" % number)
        time.sleep(0.1)


def promises_much(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n" + b"x" * 1000)


def sends_much(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    for number in range(2000):
        sock.sendall(b"x" * 65536)
        SENT.append(number)


def says(*bodies: bytes) -> Callable[[socket.socket], None]:
    left = iter(bodies)
    return lambda sock: sock.sendall(whole(next(left, bodies[-1])))


ODD = {
    "one byte after the other": drips,
    "one header after the other": drips_headers,
    "100 GB announced": promises_much,
    "a body without end": sends_much,
    "no UTF-8": says(b"\xff\xfe"),
    "an empty item": says(b""),
    "no JSON": says(b"x"),
    "a region that is a number": says(DOCUMENT.replace(b'"eu-central-1"', b"5")),
    "an empty region": says(DOCUMENT.replace(b"eu-central-1", b"")),
    "a list": says(b"[]"),
    "nested": says(b"[" * 100_000),
    "status 0": lambda sock: sock.sendall(whole(b"", b"000 x")),
    "no HTTP": lambda sock: sock.sendall(b"\x00" * 100 + b"\r\n"),
}


@pytest.mark.parametrize("how", ODD)
def test_what_cannot_be_read_passes_and_takes_no_longer_than_it_may(how: str) -> None:
    with asked(ODD[how]) as metadata:
        began = time.monotonic()
        with pytest.raises(TryAgain) as caught:
            metadata.node()
        assert time.monotonic() - began < DEADLINE + 2.5
        assert len(caught.value.msg) < 400


def test_of_a_body_without_end_little_is_read() -> None:
    SENT.clear()
    with asked(sends_much) as metadata, pytest.raises(TryAgain):
        metadata.node()
    assert len(SENT) < 1000, "some hundred KiB for each time that it was asked, and what the kernel holds"


@pytest.mark.parametrize("token", [b"a\r\nb", b"\xff", "٣".encode()])
def test_a_token_that_no_header_can_hold(token: bytes) -> None:
    with asked(says(DOCUMENT), token) as metadata, pytest.raises(TryAgain):
        metadata.node()


def test_one_odd_answer_is_asked_for_again() -> None:
    with asked(says(b"\xff", DOCUMENT)) as metadata:
        assert metadata.node().region == "eu-central-1"
