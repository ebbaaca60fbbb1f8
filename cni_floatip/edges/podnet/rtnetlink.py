"""A conversation with the kernel about one namespace's links, addresses, routes and rules (rtnetlink(7)).

pyroute2 gives the messages; the socket is our own. ``pyroute2.IPRoute`` costs an event loop and four
descriptors, drops keywords that it does not know, and since 0.9 opens another socket, in another namespace,
for every thread that uses it. One plain socket stays in the namespace it was made in, for every thread.
"""

from __future__ import annotations

import errno
import functools
import importlib
import importlib.util
import itertools
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol

from .attributes import unpack

Subject = Literal["link", "address", "route", "rule", "qdisc", "filter", "nsid"]

# (module, class, RTM_NEW*); RTM_DEL* and RTM_GET* follow it. linux/rtnetlink.h
_SUBJECTS: dict[Subject, tuple[str, str, int]] = {
    "link": ("pyroute2.netlink.rtnl.ifinfmsg", "ifinfmsg", 16),
    "address": ("pyroute2.netlink.rtnl.ifaddrmsg", "ifaddrmsg", 20),
    "route": ("pyroute2.netlink.rtnl.rtmsg", "rtmsg", 24),
    "rule": ("pyroute2.netlink.rtnl.fibmsg", "fibmsg", 32),
    "qdisc": ("cni_floatip.edges.podnet.messages", "TrafficControl", 36),
    "filter": ("cni_floatip.edges.podnet.messages", "TrafficControl", 44),
    "nsid": ("pyroute2.netlink.rtnl.nsidmsg", "nsidmsg", 88),
}


def _without_init(package: str) -> None:
    """Let the package's modules be imported without its ``__init__``, which imports all of the library.

    The agent needs five modules of it. The others would take 9 MiB more.
    """
    spec = importlib.util.find_spec(package)
    if package not in sys.modules and spec is not None:
        sys.modules[package] = importlib.util.module_from_spec(spec)


def _without_cycles(message: Any) -> None:
    """Let messages and attributes be freed with their last reference, although pyroute2 keeps each in a list
    of itself (``chain``, which it reads for a number as a key only).

    An ADD left a thousand objects to the garbage collector, and what lay between them to fragments.
    """
    message.chain = property(lambda message: [message], lambda *_: None)


_without_init("pyroute2")
_without_cycles(importlib.import_module("pyroute2.netlink").nlmsg_base)
_CLASSES: dict[Subject, Any] = {
    subject: getattr(importlib.import_module(module), name)
    for subject, (module, name, _) in _SUBJECTS.items()
}
_REQUEST, _ACK, _DUMP, _EXCL, _CREATE = 0x1, 0x4, 0x300, 0x200, 0x400
_MULTI, _DUMP_INTERRUPTED, _CAPPED, _HAS_TEXT = 0x2, 0x10, 0x100, 0x200
_ERROR, _DONE = 2, 3
_ERROR_TEXT = 1  # NLMSGERR_ATTR_MSG
_HEADER = struct.Struct("IHHII")  # length, type, flags, sequence, port
_SEQUENCE, _SEQUENCE_AT = struct.Struct("I"), 8

SOL_NETLINK = 270
SOCKET_OPTIONS = (10, 11, 12)
"""NETLINK_CAP_ACK, NETLINK_EXT_ACK (an error says why), NETLINK_GET_STRICT_CHK (a dump's filter filters)."""

DUMP_ATTEMPTS = 10
"""How often a list that changed while it was read is read again."""
MOST_MESSAGES = 16384
"""The most messages of a list, because a pod's administrator could use up our memory with a longer one."""


ENCODED = 256
"""How many requests are kept as bytes: each pod gets the same, and encoding one takes longer than asking."""


class Message(Protocol):
    """A pyroute2 message: header fields by index, attributes by name."""

    def __getitem__(self, field: str) -> Any: ...

    def get_attr(self, attr: str, default: Any = None) -> Any: ...


class Refused(Exception):
    """The kernel's refusal, with its errno and its message if it gave one. Never leaves this package."""

    def __init__(self, number: int, text: str = "") -> None:
        super().__init__(f"{errno.errorcode.get(number, number)}: {text or os.strerror(number)}")
        self.errno = number
        self.text = text


class Rtnetlink:
    """Reads and changes over one socket; safe to share between threads. Every method raises ``Refused``.

    An attribute whose value is a tuple holds attributes; a frozenset has the names and values of a structure.
    After a timeout the conversation is over; open another.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._lock = threading.Lock()
        self._sequence = itertools.count(1)

    def close(self) -> None:
        self._socket.close()

    def dump(self, subject: Subject, attrs: Iterable[tuple[str, Any]] = (), **fields: int) -> list[Message]:
        """Return all objects. ``fields`` and ``attrs`` filter in the kernel; callers filter again."""
        for _ in range(DUMP_ATTEMPTS):
            messages, torn = self._ask(subject, 2, _DUMP, fields, attrs)
            if not torn:
                return messages
        raise Refused(errno.EAGAIN, f"the list of {subject}s changed each time it was read")

    def get(self, subject: Subject, attrs: Iterable[tuple[str, Any]] = (), **fields: int) -> Message:
        """Return one link or namespace id."""
        messages, _ = self._ask(subject, 2, 0, fields, attrs)
        return messages[0]

    def create(self, subject: Subject, attrs: Iterable[tuple[str, Any]] = (), **fields: int) -> None:
        """Add; EEXIST where the kernel already has one with the same key. Nothing is replaced."""
        self._ask(subject, 0, _ACK | _CREATE | _EXCL, fields, attrs)

    def change(self, subject: Subject, attrs: Iterable[tuple[str, Any]] = (), **fields: int) -> None:
        """Change what exists."""
        self._ask(subject, 0, _ACK, fields, attrs)

    def delete(self, subject: Subject, attrs: Iterable[tuple[str, Any]] = (), **fields: int) -> None:
        """Delete one."""
        self._ask(subject, 1, _ACK, fields, attrs)

    def renew(
        self,
        subject: Subject,
        key: Iterable[tuple[str, Any]],
        attrs: Iterable[tuple[str, Any]],
        **fields: int,
    ) -> tuple[Refused | None, Refused | None]:
        """Delete one by its ``key`` and create it with ``attrs``; return the refusal of each, None for none.

        Both requests are one datagram, which the kernel works off before ``send`` returns, whatever becomes
        of this process meanwhile. It tries the second also after it has refused the first.
        """
        with self._lock, self._over_if_broken():
            requests = self._request(subject, 1, _ACK, fields, key)
            requests += self._request(subject, 0, _ACK | _CREATE | _EXCL, fields, attrs)
            self._socket.send(requests)
            return self._refusal(subject), self._refusal(subject)

    def _refusal(self, subject: Subject) -> Refused | None:
        try:
            self._answer(_CLASSES[subject])
        except Refused as refused:
            return refused
        return None

    def _ask(
        self,
        subject: Subject,
        verb: int,
        flags: int,
        fields: dict[str, int],
        attrs: Iterable[tuple[str, Any]],
    ) -> tuple[list[Message], bool]:
        with self._lock, self._over_if_broken():
            self._socket.send(self._request(subject, verb, flags, fields, attrs))
            return self._answer(_CLASSES[subject])

    def _request(
        self,
        subject: Subject,
        verb: int,
        flags: int,
        fields: dict[str, int],
        attrs: Iterable[tuple[str, Any]],
    ) -> bytes:
        """Return a request as on the wire, padded to four bytes."""
        request = bytearray(_encode(subject, verb, flags, tuple(fields.items()), tuple(attrs)))
        _SEQUENCE.pack_into(request, _SEQUENCE_AT, next(self._sequence))
        return bytes(request) + bytes(-len(request) % 4)

    @contextmanager
    def _over_if_broken(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # a timeout has no errno
            # The rest of an unfinished list would be taken for the next answer.
            self._socket.close()
            raise Refused(error.errno or errno.ETIMEDOUT) from error

    def _answer(self, message_class: Any) -> tuple[list[Message], bool]:
        """Read to the end: ``(messages, torn)``, torn if the list changed while it was read."""
        messages: list[Message] = []
        torn = False
        while True:
            data, sender = self._socket.recvfrom(1 << 16)
            if sender[0]:
                continue  # not the kernel: who administers a namespace can write to every socket in it
            offset = 0
            while offset < len(data):
                length, kind, flags, _, _ = _HEADER.unpack_from(data, offset)
                piece = data[offset : offset + length]
                offset += length + 3 & ~3
                torn = torn or bool(flags & _DUMP_INTERRUPTED)
                if kind in (_ERROR, _DONE):
                    _raise_refusal(piece, kind, flags)
                    return messages, torn
                if len(messages) >= MOST_MESSAGES:
                    self._socket.close()
                    raise Refused(errno.E2BIG, f"more than {MOST_MESSAGES} of them: too many to look at")
                message = message_class(piece)
                message.decode()
                messages.append(message)
                if not flags & _MULTI:
                    return messages, torn


@functools.lru_cache(maxsize=ENCODED)
def _encode(
    subject: Subject,
    verb: int,
    flags: int,
    fields: tuple[tuple[str, int], ...],
    attrs: tuple[tuple[str, Any], ...],
) -> bytes:
    """Return a request as on the wire, but for its sequence number."""
    message = _CLASSES[subject]()
    message.update(fields)
    message["attrs"] = [(name, _nested(value)) for name, value in attrs]
    message["header"] = {"type": _SUBJECTS[subject][2] + verb, "flags": flags | _REQUEST, "pid": 0}
    message.encode()
    return bytes(message.data)


def _nested(value: Any) -> Any:
    """Return an attribute's value as pyroute2 takes it."""
    if isinstance(value, frozenset):
        return dict(value)
    return {"attrs": list(value)} if isinstance(value, tuple) else value


def _raise_refusal(piece: bytes, kind: int, flags: int) -> None:
    """Raise ``Refused`` if an NLMSG_ERROR or NLMSG_DONE carries an errno (a dump may end in one, too)."""
    if len(piece) < 20 or not (number := -struct.unpack_from("i", piece, 16)[0]):
        return
    offset = 20
    if kind == _ERROR:  # the request follows, or only its header
        offset += 16 if flags & _CAPPED else struct.unpack_from("I", piece, 20)[0] + 3 & ~3
    attributes = dict(unpack(piece[offset:])) if flags & _HAS_TEXT else {}
    text = attributes.get(_ERROR_TEXT, b"").rstrip(b"\0").decode(errors="replace")
    raise Refused(number, text)
