"""Subscribes to a namespace's address and link changes (rtnetlink(7)), and to the loss of our routes.

A route or rule is ours if it carries our mark. A filter in the kernel drops all other changes of routes and
rules: a BGP speaker's thousands, and our own writes.

The socket is made inside the namespace and read from anywhere. It keeps the namespace alive, so its holder
closes it when the namespace's path goes. An event only says that there is something to look at, because the
pod's administrator can make events faster than we read, and the kernel then drops some (``Overrun``).
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface

from ...model.values import ROUTE_PROTO, Interface
from . import namespace
from .attributes import unpack

READ_AT_ONCE = 64
"""How many datagrams one ``read`` takes, so that a flooding namespace does not starve the others."""

# linux/rtnetlink.h, linux/if_addr.h. pyroute2 would take ten times as long, and a flood is parsed as well.
_LINKS = 0x1
_GROUPS = _LINKS | 0x10 | 0x100 | 0x40 | 0x400 | 0x80 | 0x40000
"""Links; IPv4 addresses, IPv6 addresses; IPv4 routes, IPv6 routes; IPv4 rules, IPv6 rules."""
_NEWLINK, _DELLINK, _NEWADDR, _DELADDR = 16, 17, 20, 21
_NEWROUTE, _DELROUTE, _NEWRULE, _DELRULE = 24, 25, 32, 33
_ADDRESS, _LOCAL, _FLAGS = 1, 2, 8
_RULE_PROTOCOL = 21
_TENTATIVE = 0x40
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_LINK = struct.Struct("=BxHi")  # family, kind, index
_ADDRESS_HEADER = struct.Struct("=BBBBI")  # family, prefix, flags, scope, index
_RULE_HEADER_SIZE = 12

# linux/filter.h: load a byte of the message, compare it and jump, return how much of the message to keep.
_LOAD, _IF_EQUAL, _RETURN = 0x30, 0x15, 0x06
_TYPE_AT, _PROTO_AT = (4 if sys.byteorder == "little" else 5), _HEADER.size + 5
_FILTER = (
    (_LOAD, 0, 0, _TYPE_AT),
    (_IF_EQUAL, 4, 0, _NEWROUTE),
    (_IF_EQUAL, 3, 0, _NEWRULE),
    (_IF_EQUAL, 0, 3, _DELROUTE),
    (_LOAD, 0, 0, _PROTO_AT),
    (_IF_EQUAL, 1, 0, ROUTE_PROTO),
    (_RETURN, 0, 0, 0),
    (_RETURN, 0, 0, 0xFFFFFFFF),
)
_SO_ATTACH_FILTER = 26


@dataclass(frozen=True, slots=True)
class AddressEvent:
    """An address was put on link ``index`` or changed there, or (``present`` false) was taken away."""

    index: int
    interface: Interface
    present: bool
    tentative: bool = False


@dataclass(frozen=True, slots=True)
class LinkGone:
    """Link ``index`` was deleted, or moved to another namespace."""

    index: int


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """Link ``index`` appeared, went up or down, or changed otherwise.

    The kernel removes IPv4 routes with a link that goes down, and sends no other event for them.
    """

    index: int


@dataclass(frozen=True, slots=True)
class OursLost:
    """A route or rule that carries our mark was removed, by us or by others."""


@dataclass(frozen=True, slots=True)
class Overrun:
    """The kernel's buffer overflowed: any event may be lost, so look at everything."""


Event = AddressEvent | LinkGone | LinkChanged | OursLost | Overrun


class Events:
    """The events of one namespace. Made by ``open_events``; for one reader."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._socket.fileno()

    def read(self) -> list[Event]:
        """Return what has happened, in order, without waiting; there may be more."""
        results: list[Event] = []
        for _ in range(READ_AT_ONCE):
            try:
                data, sender = self._socket.recvfrom(1 << 16)
            except BlockingIOError:
                break
            except OSError as e:
                if e.errno != errno.ENOBUFS:
                    raise
                results.append(Overrun())
                continue
            if sender[0] == 0:  # else some process of the pod pretends to be the kernel
                results += _parse(data)
        return results

    def close(self) -> None:
        """Close the socket, which releases the namespace."""
        self._socket.close()


def open_events(netns: str, inode: int, *, buffer: int = 0) -> Events:
    """Listen in the namespace at ``netns``, if it still is the one with ``inode``.

    Raises PodNetworkFailure (``NoNamespace`` when it is gone) or InvalidNetns. ``buffer`` is what the kernel
    may keep for us, in bytes; 0 for its default, about 256 events.
    """

    return namespace.make_inside(netns, lambda: _listen(_GROUPS, buffer), inode=inode)


def open_link_events(buffer: int) -> Events:
    """Listen to the links of this process's namespace; ``buffer`` as above. Raises OSError."""
    return _listen(_LINKS, buffer)


def _listen(groups: int, buffer: int) -> Events:
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    sock = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
    try:
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        _attach_filter(sock)
        sock.bind((0, groups))
    except OSError:
        sock.close()
        raise
    return Events(sock)


def _attach_filter(sock: socket.socket) -> None:
    """Let the kernel drop unwanted events before they take room in the socket's buffer."""
    program = b"".join(struct.pack("=HBBI", *item) for item in _FILTER)
    kept = ctypes.create_string_buffer(program, len(program))
    where = struct.pack("@HP", len(_FILTER), ctypes.addressof(kept))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, where)


def _parse(data: bytes) -> Iterator[Event]:
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
        body = data[offset + _HEADER.size : offset + length]
        offset += max(length + 3 & ~3, _HEADER.size)
        if kind in (_NEWLINK, _DELLINK) and len(body) >= _LINK.size:
            family, _, index = _LINK.unpack_from(body)
            if family == socket.AF_UNSPEC:  # with AF_BRIDGE a link has only joined or left a bridge
                yield LinkGone(index) if kind == _DELLINK else LinkChanged(index)
        elif kind == _DELROUTE:
            yield OursLost()  # the filter lets no other pass
        elif kind == _DELRULE and _rule_is_ours(body):
            yield OursLost()
        elif kind in (_NEWADDR, _DELADDR) and len(body) >= _ADDRESS_HEADER.size:
            yield from _address(body, present=kind == _NEWADDR)


def _rule_is_ours(body: bytes) -> bool:
    return dict(unpack(body[_RULE_HEADER_SIZE:])).get(_RULE_PROTOCOL) == bytes([ROUTE_PROTO])


def _address(body: bytes, *, present: bool) -> Iterator[AddressEvent]:
    family, prefix, flags, _, index = _ADDRESS_HEADER.unpack_from(body)
    attributes = dict(unpack(body[_ADDRESS_HEADER.size :]))
    if _FLAGS in attributes:  # the header has room for 8 bits of them
        flags = int.from_bytes(attributes[_FLAGS][:4], sys.byteorder)
    packed = attributes.get(_LOCAL) or attributes.get(_ADDRESS, b"")  # _ADDRESS may be a peer's
    tentative = bool(flags & _TENTATIVE)
    if family == socket.AF_INET and len(packed) == 4:
        yield AddressEvent(index, IPv4Interface((packed, prefix)), present, tentative)
    elif family == socket.AF_INET6 and len(packed) == 16:
        yield AddressEvent(index, IPv6Interface((packed, prefix)), present, tentative)
