"""The conversation with the kernel where it goes wrong, and what loading pyroute2 costs."""

from __future__ import annotations

import contextlib
import errno
import gc
import socket
import struct
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cni_floatip.edges.podnet import rtnetlink
from cni_floatip.edges.podnet.links import link_of
from cni_floatip.edges.podnet.rtnetlink import DUMP_ATTEMPTS, Refused, Rtnetlink


class Line:
    """The kernel's real answers, spoilt on their way; counts the questions."""

    def __init__(self, spoil: Any) -> None:
        self.real = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self.real.settimeout(1)
        self.real.bind((0, 0))
        self.spoil = spoil
        self.asked = 0

    def send(self, data: Any) -> Any:
        self.asked += 1
        return self.real.send(data)

    def recvfrom(self, size: Any) -> tuple[Any, Any]:
        data, sender = self.real.recvfrom(size)
        return self.spoil(self.asked, data), sender

    def close(self) -> None:
        self.real.close()


def torn(data: Any) -> Any:
    """Mark the first message as of a list that changed while it was read (NLM_F_DUMP_INTR)."""
    flags = struct.unpack_from("H", data, 6)[0]
    return data[:6] + struct.pack("H", flags | 0x10) + data[8:]


@pytest.fixture
def conversation() -> Iterator[Callable[..., Any]]:
    lines: list[Any] = []

    def begin(spoil: Any) -> tuple[Any, Rtnetlink]:
        lines.append(Line(spoil))
        return lines[-1], Rtnetlink(lines[-1])

    yield begin
    for line in lines:
        line.close()


def names(messages: Any) -> list[Any]:
    return [message.get_attr("IFLA_IFNAME") for message in messages]


def test_a_list_that_changed_while_it_was_read_is_read_again(conversation: Callable[..., Any]) -> None:
    line, kernel = conversation(lambda request, data: torn(data) if request < 3 else data)
    assert names(kernel.dump("link")).count("lo") == 1
    assert line.asked == 3


def test_a_list_that_never_stands_still_is_given_up(conversation: Callable[..., Any]) -> None:
    line, kernel = conversation(lambda request, data: torn(data))
    with pytest.raises(Refused, match="changed each time") as refused:
        kernel.dump("link")
    assert refused.value.errno == errno.EAGAIN
    assert line.asked == DUMP_ATTEMPTS


def test_a_conversation_that_broke_off_is_over(conversation: Callable[..., Any]) -> None:
    """The kernel would answer the next question with the rest of the first answer, or with EBUSY."""

    def lose(request: Any, data: Any) -> None:
        raise TimeoutError("timed out")

    _, kernel = conversation(lose)
    for number in (errno.ETIMEDOUT, errno.EBADF):
        with pytest.raises(Refused) as refused:
            kernel.dump("link")
        assert refused.value.errno == number


def test_requests_that_are_kept_as_bytes_are_told_apart(conversation: Callable[..., Any]) -> None:
    """Each has a sequence number of its own, and no attribute of another."""
    line, kernel = conversation(lambda _, data: data)
    requests: list[bytes] = []
    real = line.send

    def send(data: bytes) -> Any:
        requests.append(bytes(data))
        return real(data)

    line.send = send
    for name in ("lo", "lo", "none"):
        with contextlib.suppress(Refused):
            kernel.get("link", [("IFLA_IFNAME", name)])
    assert [struct.unpack_from("I", data, 8)[0] for data in requests] == [1, 2, 3]
    assert requests[0][:8] + requests[0][12:] == requests[1][:8] + requests[1][12:]
    assert [name in data for data, name in zip(requests, (b"lo\0", b"lo\0", b"none\0"), strict=True)] == [
        True
    ] * 3


def attribute(kind: Any, data: Any) -> Any:
    padding = b"\0" * (-len(data) % 4)
    return struct.pack("HH", len(data) + 4, kind) + data + padding


def link_message(kind: Any, mode: Any) -> Any:
    """RTM_NEWLINK after linux/if_link.h: IFNAME 3, ADDRESS 1, LINKINFO 18 (KIND 1, DATA 2 (MODE 1))."""
    data = b"" if mode is None else attribute(1, struct.pack("H", mode))
    info = attribute(1, kind + b"\0") + attribute(2, data)
    body = struct.pack("BxHiII", 0, 1, 7, 0x1, 0)
    body += attribute(3, b"net1\0") + attribute(1, bytes.fromhex("020000000001")) + attribute(18, info)
    return struct.pack("IHHII", 16 + len(body), 16, 0, 1, 0) + body


@pytest.mark.parametrize(
    ("kind", "mode", "expected"),
    [
        (b"ipvlan", 0, "l2"),
        (b"ipvlan", 1, "l3"),
        (b"ipvlan", 2, "l3s"),
        (b"ipvlan", 3, ""),
        (b"ipvlan", None, ""),
        (b"macvlan", 1, ""),
    ],
)
def test_the_mode_of_an_ipvlan_link(kind: bytes, mode: int | None, expected: str) -> None:
    message = rtnetlink._CLASSES["link"](link_message(kind, mode))
    message.decode()
    link = link_of(message)
    assert (link.name, link.index, link.mac, link.kind) == ("net1", 7, "02:00:00:00:00:01", kind.decode())
    assert link.ipvlan_mode == expected


def fresh(code: Any) -> Any:
    """Run code in a new interpreter; return what it prints."""
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()


def test_the_messages_are_loaded_alone() -> None:
    """The rest of the library would take an agent 9 MiB more."""
    code = """
import sys
from cni_floatip.edges import podnet
print('pyroute2.netlink' in sys.modules, 'pyroute2.ndb' in sys.modules, 'asyncio' in sys.modules)
"""
    assert fresh(code) == ["True", "False", "False"]


@pytest.mark.needs("root")
def test_what_another_process_sends_to_the_socket_is_not_the_kernels_word(
    conversation: Callable[..., Any],
) -> None:
    """Who administers a namespace can write to every netlink socket in it: here the end of a list."""
    line, rtnl = conversation(lambda _, data: data)
    done = struct.pack("IHHIIi", 20, 3, 0, 1, 0, 0)  # NLMSG_DONE
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as other:
        other.bind((0, 0))
        other.sendto(done, line.real.getsockname())
    assert "lo" in names(rtnl.dump("link"))


def test_an_answer_is_freed_with_its_last_reference(conversation: Callable[..., Any]) -> None:
    """Else each ADD leaves a thousand objects to the garbage collector."""
    _, kernel = conversation(lambda _, data: data)
    gc.disable()
    try:
        messages = kernel.dump("link")
        assert link_of(messages[0]).name
        parts = [slot.nla for message in messages for slot in message["attrs"]]
        refs = [weakref.ref(part) for part in (*messages, *parts)]
        assert len(refs) > len(messages)
        del messages, parts
        assert [ref() for ref in refs if ref() is not None] == []
    finally:
        gc.enable()
