"""The proxy between a node and an API server: what it carries, and how it fails. Here without any cluster."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.kubernetes import proxy
from tests.support.waiting import throughout, until

SLOW = 0.3


class Echo:
    """A server that sends back what it gets, and ends its side when the client has ended its own."""

    def __init__(self) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.got: list[bytes] = []
        self.ended = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=[connection], daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(1 << 16):
                    self.got.append(data)
                    connection.sendall(data)
            except OSError:
                pass
        self.ended.set()


class Proxy:
    """The program, with one way to a server that echoes and one to nobody."""

    def __init__(self, directory: Path, server: Echo) -> None:
        self.control = directory / "control"
        self.port, self.other = (free_port() for _ in range(2))
        links = {
            "one": {"listen": ["127.0.0.1", self.port], "to": server.sock.getsockname()},
            "other": {"listen": ["127.0.0.1", self.other], "to": ["127.0.0.1", free_port()]},
        }
        configuration = json.dumps({"control": str(self.control), "links": links})
        argv = [sys.executable, "-I", "-S", str(Path(proxy.__file__)), configuration]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def order(self, **order: Any) -> Any:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self.control))
            sock.sendall(json.dumps(order).encode() + b"\n")
            return json.loads(sock.makefile().readline())

    def state(self) -> Any:
        return self.order(do="state")["one"]

    def connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def close(self) -> None:
        self.process.communicate(timeout=30)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.fixture
def server() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.sock.close()


@pytest.fixture
def way(tmp_path: Path, server: Echo) -> Iterator[Proxy]:
    made = Proxy(tmp_path, server)
    yield made
    made.close()


def echoed(sock: socket.socket, data: bytes) -> bool:
    """Say whether the bytes come back; the connection must be whole."""
    sock.sendall(data)
    got = b""
    while len(got) < len(data) and (piece := sock.recv(1 << 16)):
        got += piece
    return got == data


def is_reset(sock: socket.socket) -> bool:
    with pytest.raises(ConnectionResetError):
        sock.recv(1)
    return True


def ask(sock: socket.socket) -> None:
    sock.sendall(b"after")
    sock.recv(1)


def is_silent(sock: socket.socket) -> None:
    """Nothing comes, and nothing ends."""
    sock.setblocking(False)

    def nothing() -> bool:
        try:
            sock.recv(1)
        except BlockingIOError:
            return True
        return False

    throughout(nothing, 0.2)
    sock.settimeout(30)


def test_bytes_pass_both_ways_and_so_does_the_end_of_a_stream(way: Proxy, server: Echo) -> None:
    with way.connect() as sock:
        assert echoed(sock, b"x" * 3_000_000)
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
    assert server.ended.wait(30)
    until(lambda: way.state()["open"] == 0)
    state = way.state()
    assert (state["requests"], state["answers"], state["accepted"]) == (3_000_000, 3_000_000, 1)


def test_a_server_that_is_away_is_heard_of_at_once(way: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", way.other), timeout=30) as sock:
        assert is_reset(sock)


def test_cut_resets_connections_and_refuses_new_ones(way: Proxy, server: Echo) -> None:
    with way.connect() as sock:
        assert echoed(sock, b"before")
        way.order(link="one", do="cut")
        assert is_reset(sock)
        assert server.ended.wait(30), "the server hears it as well"
        with pytest.raises(ConnectionRefusedError):
            way.connect()
    way.order(link="one", do="cut")
    way.order(link="one", do="pass")
    with way.connect() as sock:
        assert echoed(sock, b"after")


@pytest.mark.parametrize("turns", range(12))
def test_a_connection_that_is_just_being_accepted_is_cut_too(server: Echo, turns: int) -> None:
    """A kubelet that is cut off one server connects to the other at once, before that one is cut."""

    async def story() -> None:
        port = free_port()
        link = proxy.Link(("127.0.0.1", port), server.sock.getsockname(), 0)
        link.open()
        with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
            for _ in range(turns):  # of the event loop, in which the connection gets this far
                await asyncio.sleep(0)
            link.obey({"do": "cut"})
            with pytest.raises(ConnectionError):
                await asyncio.to_thread(ask, sock)

    asyncio.run(story())
    assert server.got == []


@pytest.mark.parametrize("what", ["requests", "answers", "both"])
def test_swallow_is_silence(way: Proxy, server: Echo, what: str) -> None:
    with way.connect() as sock:
        assert echoed(sock, b"before")
        way.order(link="one", do="swallow", what=what)
        sock.sendall(b"during")
        until(lambda: way.state()["swallowed"] == len(b"during"))
        is_silent(sock)
        assert server.got == ([b"before", b"during"] if what == "answers" else [b"before"])
        with way.connect() as later:
            later.sendall(b"new")  # is accepted, as by a server that hangs
            until(lambda: way.state()["swallowed"] == len(b"during" + b"new"))
            is_silent(later)
            way.order(link="one", do="pass")
            assert is_reset(sock), "its stream has a hole"
            assert is_reset(later)
    with way.connect() as sock:
        assert echoed(sock, b"after")


def test_a_connection_that_lost_nothing_outlives_a_swallow(way: Proxy) -> None:
    with way.connect() as sock:
        assert echoed(sock, b"before")
        way.order(link="one", do="swallow", what="both")
        way.order(link="one", do="pass")
        assert echoed(sock, b"after")


def test_the_end_of_a_stream_is_swallowed_too(way: Proxy, server: Echo) -> None:
    with way.connect() as sock:
        assert echoed(sock, b"before")
        way.order(link="one", do="swallow", what="requests")
        sock.shutdown(socket.SHUT_WR)
        is_silent(sock)
        assert not server.ended.is_set()
        way.order(link="one", do="pass")
        assert server.ended.wait(30)
    until(lambda: way.state()["open"] == 0)


def test_delay_holds_each_byte_back_and_keeps_the_order(way: Proxy) -> None:
    way.order(link="one", do="delay", seconds=SLOW)
    with way.connect() as sock:
        began = time.monotonic()
        assert echoed(sock, bytes(range(256)) * 4096)
        assert time.monotonic() - began >= 2 * SLOW, "there and back"
        way.order(link="one", do="delay", seconds=0)
        assert echoed(sock, b"quick")


def test_one_way_that_fails_leaves_the_others(way: Proxy) -> None:
    with way.connect() as sock:
        way.order(link="other", do="cut")
        way.order(link="other", do="swallow", what="both")
        way.order(link="other", do="delay", seconds=60)
        assert echoed(sock, b"untouched")


@pytest.mark.parametrize(
    ("order", "complaint"),
    [
        ({"link": "none", "do": "cut"}, "KeyError: 'none'"),
        ({"link": "one", "do": "shake"}, "ValueError: a link cannot 'shake'"),
        ({"link": "one", "do": "swallow", "what": "some"}, "ValueError: a link cannot 'some'"),
        ({"link": "one", "do": "delay", "seconds": "long"}, "ValueError: could not convert"),
    ],
    ids=lambda value: value["do"] if isinstance(value, dict) else "",
)
def test_an_order_that_makes_no_sense_changes_nothing(
    way: Proxy, order: dict[str, Any], complaint: str
) -> None:
    assert way.order(**order)["error"].startswith(complaint)
    assert (way.state()["does"], way.state()["seconds"]) == ("pass", 0.0)


def test_it_ends_with_its_standard_input(way: Proxy) -> None:
    with way.connect() as sock:
        assert echoed(sock, b"before")
        way.close()
        assert way.process.returncode == 0
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""
