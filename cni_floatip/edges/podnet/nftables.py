"""Filters on an ENI by nftables: a table of our own, ``netdev floatip``, with two chains for each link.

On egress nftables sees a frame before traffic control, whatever programs are there. On ingress it comes after
traffic control, so a program there that redirects frames (TC_ACT_REDIRECT) hides them. No other chain's
"accept" bypasses it. The kernel must have the hooks: Linux >= 5.16, ``NETFILTER_EGRESS``, nf_tables with the
family netdev. This module writes the messages itself, without a program or library.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from ...model.values import Link
from . import namespace
from .attributes import mac_bytes, pack, unpack
from .rtnetlink import Refused

TABLE: Final = b"floatip\0"
TAG: Final = "floatip metadata guard 2"
"""Part of every rule of ours; it tells whether a chain holds the rules of this release."""

# linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h
_NETLINK_NETFILTER, _NFTABLES, _BATCH_BEGIN, _BATCH_END = 12, 10, 16, 17
_NEWTABLE, _GETTABLE, _DELTABLE = 0, 1, 2
_NEWCHAIN, _GETCHAIN, _DELCHAIN, _NEWRULE, _GETRULE, _DELRULE = 3, 4, 5, 6, 7, 8
_REQUEST, _ACK, _DUMP, _CREATE, _APPEND = 0x1, 0x4, 0x300, 0x400, 0x800
_ERROR, _DONE = 2, 3
_NETDEV, _INGRESS, _EGRESS = 5, 0, 1  # NFPROTO_NETDEV, NF_NETDEV_INGRESS, NF_NETDEV_EGRESS
_TABLE_NAME, _CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_TYPE = 1, 1, 3, 4, 7
_HOOK_NUMBER, _HOOK_PRIORITY, _HOOK_DEVICE = 1, 2, 3
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS, _RULE_TAG = 1, 2, 4, 7
_LINK_LAYER, _REGISTER, _VERDICT_REGISTER, _VERDICT, _DROP = 0, 8, 0, 2, 0
_EQUAL, _UNEQUAL = 0, 1  # NFT_CMP_EQ, NFT_CMP_NEQ
_HEADER = struct.Struct("=IHHIIBB")  # length, type, flags, sequence, port; then of nfgenmsg: family, version

_VLAN = (12, b"\x81\x00")  # also where the tag is kept beside the frame: nftables reads as if it was in it
_IPV4, _IPV6 = ((12, b"\x08\x00"), (30, b"\xa9\xfe")), ((12, b"\x86\xdd"), (38, b"\xfd\x00\x0e\xc2"))
_FOR_METADATA: Final = (
    *(_IPV4, _IPV6),
    *((_VLAN, *((at + 4, value) for at, value in item)) for item in (_IPV4, _IPV6)),
)
"""What is dropped on egress: bytes at these places of the frame, its beginning and its VLAN tag counted."""


@dataclass(frozen=True, slots=True)
class _Chain:
    """A wanted chain: its hook, and the expressions of each of its rules."""

    name: bytes
    hook: int
    device: bytes
    rules: tuple[bytes, ...]
    tag: bytes


def _chains(link: Link) -> tuple[_Chain, ...]:
    """Return the wanted chains, named after the link's index, because link names are reused."""
    device, mac = link.name.encode() + b"\0", mac_bytes(link.mac)
    egress = tuple(_equals(pattern) + _drop() for pattern in _FOR_METADATA)
    ingress = (_equals([(6, mac)]) + _drop(), _is_group(6) + _drop())
    return (
        _Chain(f"link-{link.index}\0".encode(), _EGRESS, device, egress, f"{TAG}\0".encode()),
        _Chain(f"in-{link.index}\0".encode(), _INGRESS, device, ingress, f"{TAG} {mac.hex(':')}\0".encode()),
    )


def ensure(link: Link, netns: str = "") -> bool:
    """Filter the frames of ``link``; return whether a change was needed. Raises ``Refused``."""
    with _conversation(netns) as kernel:
        there = _hooks(kernel)
        missing = [chain for chain in _chains(link) if not _whole(kernel, there, chain)]
        if not missing:
            return False
        made = [change for chain in missing for change in _messages_for(chain)]
        kernel.commit((_NEWTABLE, _CREATE, pack(_TABLE_NAME, TABLE)), *made)
    return True


def present(link: Link, netns: str = "") -> bool:
    """Whether both of our filters are on ``link``. Raises ``Refused``."""
    with _conversation(netns) as kernel:
        there = _hooks(kernel)
        return all(_whole(kernel, there, chain) for chain in _chains(link))


def remove(index: int, netns: str = "") -> None:
    """Remove our filters of the link with this index; the table stays. Raises ``Refused``."""
    with _conversation(netns) as kernel:
        for name in [name for name in _hooks(kernel) if _index(name) == index]:
            try:
                kernel.commit(
                    (_DELRULE, 0, pack(_RULE_TABLE, TABLE) + pack(_RULE_CHAIN, name)),
                    (_DELCHAIN, 0, pack(_CHAIN_TABLE, TABLE) + pack(_CHAIN_NAME, name)),
                )
            except Refused as refused:
                if refused.errno != errno.ENOENT:
                    raise


def has_table(netns: str = "") -> bool:
    """Whether our table is there, with chains or without. Raises ``Refused``."""
    with _conversation(netns) as kernel:
        return any(table.get(_TABLE_NAME) == TABLE for table in kernel.list(_GETTABLE, b""))


def remove_table(netns: str = "") -> None:
    """Remove our table with all its chains, when no link is guarded any more.

    Raises ``Refused``.
    """
    with _conversation(netns) as kernel:
        try:
            kernel.commit((_DELTABLE, 0, pack(_TABLE_NAME, TABLE)))
        except Refused as refused:
            if refused.errno != errno.ENOENT:
                raise


def list_guarded(netns: str = "") -> set[tuple[int, str]]:
    """Return for each of our chains the link's index, and the name it is attached to. Raises ``Refused``.

    Since Linux 6.16 a chain outlives its link and waits for another of that name: see ``guard``.
    """
    with _conversation(netns) as kernel:
        return {
            (index, hook.get(_HOOK_DEVICE, b"").rstrip(b"\0").decode(errors="replace"))
            for name, hook in _hooks(kernel).items()
            if (index := _index(name))
        }


def _index(chain: bytes) -> int:
    """Return the index of the link that a chain of ours is named after, 0 for another's."""
    kind, _, index = chain.rstrip(b"\0").partition(b"-")
    return int(index) if kind in (b"link", b"in") and index.isdigit() else 0


def _hooks(kernel: _Conversation) -> dict[bytes, dict[int, bytes]]:
    """Return the chains of our table, with the hook of each."""
    return {
        chain.get(_CHAIN_NAME, b""): dict(unpack(chain.get(_CHAIN_HOOK, b"")))
        for chain in kernel.list(_GETCHAIN, pack(_CHAIN_TABLE, TABLE))
        if chain.get(_CHAIN_TABLE) == TABLE
    }


def _whole(kernel: _Conversation, there: Mapping[bytes, Mapping[int, bytes]], chain: _Chain) -> bool:
    """Whether the chain is on its hook and holds exactly our rules."""
    hook = there.get(chain.name, {})
    if (hook.get(_HOOK_NUMBER), hook.get(_HOOK_DEVICE)) != (struct.pack("!I", chain.hook), chain.device):
        return False
    where = pack(_RULE_TABLE, TABLE) + pack(_RULE_CHAIN, chain.name)
    tags = [
        rule.get(_RULE_TAG)
        for rule in kernel.list(_GETRULE, where)
        if rule.get(_RULE_TABLE) == TABLE and rule.get(_RULE_CHAIN) == chain.name
    ]
    return tags == [chain.tag] * len(chain.rules)


def _messages_for(chain: _Chain) -> Iterator[tuple[int, int, bytes]]:
    """Yield the changes that make the wanted chain from any state."""
    hook = (
        pack(_HOOK_NUMBER, struct.pack("!I", chain.hook))
        + pack(_HOOK_PRIORITY, struct.pack("!i", 0))
        + pack(_HOOK_DEVICE, chain.device)
    )
    named = pack(_CHAIN_TABLE, TABLE) + pack(_CHAIN_NAME, chain.name)
    yield _NEWCHAIN, _CREATE, named + pack(_CHAIN_HOOK, hook) + pack(_CHAIN_TYPE, b"filter\0")
    where = pack(_RULE_TABLE, TABLE) + pack(_RULE_CHAIN, chain.name)
    yield _DELRULE, 0, where  # all of them
    for rule in chain.rules:
        content = pack(_RULE_EXPRESSIONS, rule) + pack(_RULE_TAG, chain.tag)
        yield _NEWRULE, _CREATE | _APPEND, where + content


def _equals(pattern: Iterable[tuple[int, bytes]]) -> bytes:
    """Return the expressions that compare the frame with each piece."""
    return b"".join(_load(at, len(value)) + _compare(_EQUAL, value) for at, value in pattern)


def _is_group(at: int) -> bytes:
    """Return the expressions that match a group (or broadcast) Ethernet address."""
    registers = (1, _REGISTER), (2, _REGISTER), (3, 1)  # from, to, length
    bit = _expression(
        b"bitwise",
        *(pack(number, struct.pack("!I", what)) for number, what in registers),
        pack(4, pack(1, b"\x01")),  # NFTA_BITWISE_MASK
        pack(5, pack(1, b"\x00")),  # NFTA_BITWISE_XOR
    )
    return _load(at, 1) + bit + _compare(_UNEQUAL, b"\x00")


def _load(at: int, length: int) -> bytes:
    place = enumerate((_REGISTER, _LINK_LAYER, at, length), 1)
    return _expression(b"payload", *(pack(number, struct.pack("!I", what)) for number, what in place))


def _compare(how: int, value: bytes) -> bytes:
    return _expression(
        b"cmp",
        pack(1, struct.pack("!I", _REGISTER)),
        pack(2, struct.pack("!I", how)),
        pack(3, pack(1, value)),
    )


def _drop() -> bytes:
    verdict = pack(_VERDICT, pack(1, struct.pack("!i", _DROP)))
    return _expression(b"immediate", pack(1, struct.pack("!I", _VERDICT_REGISTER)), pack(2, verdict))


def _expression(name: bytes, *data: bytes) -> bytes:
    return pack(1, pack(1, name + b"\0") + pack(2, b"".join(data)))


class _Conversation:
    """Transactions and lists over one socket of the netlink family of netfilter."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def commit(self, *changes: tuple[int, int, bytes]) -> None:
        """Apply the changes atomically, each ``(message, flags, attributes)``."""
        batch = _message(_BATCH_BEGIN, _REQUEST, 0, b"", family=0, resource=_NFTABLES)
        for number, (kind, flags, attributes) in enumerate(changes, 1):
            batch += _message(_NFTABLES << 8 | kind, _REQUEST | _ACK | flags, number, attributes)
        batch += _message(_BATCH_END, _REQUEST, len(changes) + 1, b"", family=0, resource=_NFTABLES)
        self._send(batch)
        for kind, sequence, piece in self._answers():
            if kind == _ERROR:
                _raise_refusal(piece)
                if sequence == len(changes):
                    return

    def list(self, kind: int, attributes: bytes) -> list[dict[int, bytes]]:
        """Return the attributes of each object; none for a table that does not exist."""
        self._send(_message(_NFTABLES << 8 | kind, _REQUEST | _DUMP, 0, attributes))
        results = []
        for what, _, piece in self._answers():
            if what in (_ERROR, _DONE):
                try:
                    _raise_refusal(piece)
                except Refused as refused:
                    if refused.errno != errno.ENOENT:
                        raise
                break
            results.append(dict(unpack(piece[4:])))
        return results

    def _send(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except OSError as error:
            raise Refused(error.errno or errno.ETIMEDOUT) from error

    def _answers(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield type, sequence and payload of each message, until the caller stops."""
        while True:
            try:
                data, sender = self._socket.recvfrom(1 << 16)
            except OSError as error:  # a timeout has no errno
                raise Refused(error.errno or errno.ETIMEDOUT) from error
            while len(data) >= 16 and not sender[0]:  # else a pod wrote it, who administers its namespace
                length, kind, _, sequence = struct.unpack_from("=IHHI", data)
                yield kind, sequence, data[16:length]
                data = data[length + 3 & ~3 :]


def _message(
    kind: int, flags: int, sequence: int, attributes: bytes, *, family: int = _NETDEV, resource: int = 0
) -> bytes:
    length = _HEADER.size + 2 + len(attributes)
    head = _HEADER.pack(length, kind, flags, sequence, 0, family, 0) + struct.pack("!H", resource)
    return head + attributes


def _raise_refusal(piece: bytes) -> None:
    if len(piece) >= 4 and (number := -struct.unpack_from("=i", piece)[0]):
        raise Refused(number)


@contextmanager
def _conversation(netns: str) -> Iterator[_Conversation]:
    make: Callable[[], socket.socket] = _connect
    try:
        sock = namespace.make_inside(netns, make) if netns else make()
    except OSError as error:  # no netfilter in this kernel
        raise Refused(error.errno or errno.EPROTONOSUPPORT) from error
    try:
        yield _Conversation(sock)
    finally:
        sock.close()


def _connect() -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    sock.settimeout(namespace.KERNEL_SECONDS)
    return sock
