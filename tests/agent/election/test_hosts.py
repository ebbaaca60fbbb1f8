"""The second witness: what counts as a host's answer, over real sockets, and what says nothing of it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from cni_floatip.agent.election import probe
from cni_floatip.agent.election.hosts import FRESH_SECONDS, Hosts
from cni_floatip.election.events import ProbeHost
from cni_floatip.election.node import HostProbed
from cni_floatip.model.errors import ApiError, ApiFault


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        yield listener


def test_a_connection_is_an_answer(listener: socket.socket) -> None:
    assert probe.answers("127.0.0.1", listener.getsockname()[1], 60) is True


def test_a_refusal_is_an_answer() -> None:
    """A kernel sent it, so the host lives: its kubelet may not."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        assert probe.answers("127.0.0.1", port, 60) is True


def test_silence_is_none(listener: socket.socket) -> None:
    """A queue that is full drops what comes, as a dead host does."""
    address = listener.getsockname()
    with ExitStack() as stack:
        for _ in range(8):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(address)
        assert probe.answers("127.0.0.1", address[1], 0.2) is False


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENETUNREACH, errno.EPERM, errno.EADDRNOTAVAIL])
def test_what_this_machine_cannot_ask_says_nothing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, "planted")

    monkeypatch.setattr(socket, "create_connection", fail)
    assert probe.answers("127.0.0.1", 1, 1) is None


class Desk:
    """Hosts whose Nodes the test writes. ``reply``: what a probe is answered."""

    def __init__(self) -> None:
        self.now = 100.0
        self.node: dict[str, Any] | None = {
            "metadata": {"name": "x", "uid": "u"},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 10251}},
            },
        }
        self.reads = 0
        self.reply: bool | None = True
        self.probed: list[tuple[str, int]] = []
        self.hosts = Hosts(self, lambda: self.now, 0.3, 0.5, lambda _: None, self._probe)  # type: ignore[arg-type]

    def get(self, resource: Any, name: str, namespace: str = "") -> Any:
        self.reads += 1
        if self.node is None:
            raise ApiError(ApiFault.UNANSWERED, "GET nodes/x", "planted")
        return self.node

    def _probe(self, host: str, port: int, seconds: float) -> bool | None:
        self.probed.append((host, port))
        self.now += seconds
        return self.reply


def test_a_probe_is_as_old_as_its_begin_and_asks_the_kubelet_s_port() -> None:
    desk = Desk()
    assert desk.hosts.probe(ProbeHost("x")).node == HostProbed(100.3, 100.0, "x", answered=True)
    assert desk.probed == [("10.0.0.1", 10251)]


def test_a_probe_that_could_not_ask_tells_nothing() -> None:
    desk = Desk()
    desk.reply = None
    answer = desk.hosts.probe(ProbeHost("x"))
    assert (answer.node, answer.rest) == (None, 0.5)


def test_without_an_address_nothing_is_learnt() -> None:
    desk = Desk()
    desk.node = None
    answer = desk.hosts.probe(ProbeHost("x"))
    assert (answer.node, answer.rest, desk.probed) == (None, 0.5, [])


def test_in_suspicion_the_address_is_there_though_the_api_is_away() -> None:
    desk = Desk()
    desk.hosts.probe(ProbeHost("x"))
    desk.node = None
    desk.now += FRESH_SECONDS
    assert desk.hosts.probe(ProbeHost("x")).node is not None
    assert desk.reads == 2


def test_an_address_is_read_seldom() -> None:
    desk = Desk()
    for _ in range(3):
        desk.hosts.probe(ProbeHost("x"))
    assert desk.reads == 1
