"""Packs and unpacks netlink attributes, for messages that no library knows."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_HEAD = struct.Struct("HH")  # length with this head, type (linux/netlink.h, struct nlattr)
_TYPE = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER


def pack(number: int, payload: bytes) -> bytes:
    """Return an attribute as on the wire, padded to four bytes."""
    return _HEAD.pack(_HEAD.size + len(payload), number) + payload + bytes(-len(payload) % 4)


def unpack(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the attributes in ``data``, up to the first bytes that are none."""
    offset = 0
    while offset + _HEAD.size <= len(data):
        length, number = _HEAD.unpack_from(data, offset)
        if length < _HEAD.size:
            return
        yield number & _TYPE, data[offset + _HEAD.size : offset + length]
        offset += length + 3 & ~3


def mac_bytes(mac: str) -> bytes:
    """Return the six bytes of an Ethernet address; a link that has none is no ENI and gets zeros."""
    return bytes.fromhex(mac.replace(":", "")).ljust(6, b"\0")[:6]
