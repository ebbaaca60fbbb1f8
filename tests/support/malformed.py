"""Documents that are nearly right: a value, a key or an entry of a right one is something else."""

from __future__ import annotations

import copy
import json
import random
import string
from collections.abc import Iterator
from typing import Any

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, -(2**63), 10**30, 1.5, -0.0, 1e308),
    *("", "a", "*", "\x00", "\x1b[2J", "\ud800", "🙂", "A" * 300, "a-" * 2000, "eyJaaaaaaaa-" * 300),
    *("0.0.0.0/0", "::/0", "169.254.169.254/32", "::ffff:10.0.0.1/128", "fe80::1%eth0", "10.0.0.1/33"),
    *("10.0.0.1/-1", "1.2.3.4/0.0.0.255", "192.168.0.2/32", "fd00::1/128", "10.0.0.0/8", "1٣.0.0.1/32", "²"),
    *("rtb-0", "rtb-0\n", "subnet-1", "auto", "address", "subnet", "release", "keep", "net1", "eth0"),
    *("1.0.0", "0.3.1", "1.1.0", "9.9.9", "01.0.0", "٣.0.0"),
    *([], {}, [[]], [None], [{}], {"": None}, {"a": {}}, ["192.168.0.0/24"] * 3),
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where each part of ``value`` is."""
    yield path
    for step, item in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(item, dict | list):
            yield from paths(item, (*path, step))
        else:
            yield (*path, step)


class Mutator:
    """Makes documents that are nearly right, the same ones for the same ``chance``."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def text(self) -> str:
        if self.chance.random() < 0.5:
            return str(self.chance.choice([item for item in ODD if isinstance(item, str)]))
        alphabet = string.printable + "\x00\x7f\x80\u2028\ud800é🙂%;=/:."
        return "".join(self.chance.choice(alphabet) for _ in range(self.chance.randrange(24)))

    def value(self, depth: int = 0) -> Any:
        kind = self.chance.random()
        if kind < 0.6 or depth > 3:
            return copy.deepcopy(self.chance.choice(ODD))
        if kind < 0.75:
            return self.text()
        if kind < 0.87:
            return [self.value(depth + 1) for _ in range(self.chance.randrange(4))]
        return {self.text(): self.value(depth + 1) for _ in range(self.chance.randrange(4))}

    def mutated(self, document: Any) -> Any:
        """Return ``document`` with one to six changes."""
        document = copy.deepcopy(document)
        for _ in range(self.chance.choice((1, 1, 1, 2, 3, 6))):
            path = self.chance.choice(list(paths(document)))
            if not path:
                continue
            at = document
            for step in path[:-1]:
                at = at[step]
            self._change(at, path[-1])
        return document

    def _change(self, at: Any, step: Any) -> None:
        kind = self.chance.random()
        if kind < 0.6:
            at[step] = self.value()
        elif kind < 0.75:
            del at[step]
        elif kind < 0.85 and isinstance(at, dict):
            at[self.text()] = at.pop(step)
        elif isinstance(at[step], str):
            cut = self.chance.randrange(len(at[step]) + 1)
            at[step] = at[step][:cut] + self.text()[:3] + at[step][cut + self.chance.randrange(2) :]
        elif isinstance(at, list):
            at.extend(copy.deepcopy(at))

    def torn(self, text: bytes) -> bytes:
        """Return bytes that are nearly ``text``."""
        result = bytearray(text)
        for _ in range(self.chance.choice((1, 1, 2, 4, 8))):
            at = self.chance.randrange(len(result) or 1)
            kind = self.chance.random()
            if kind < 0.4 and result:
                result[at] = self.chance.randrange(256)
            elif kind < 0.6:
                del result[at : at + self.chance.randrange(1, 9)]
            else:
                pieces = (
                    b"\0",
                    b'"',
                    b"{",
                    b"[",
                    b"]",
                    b",",
                    b":",
                    b"\xff",
                    b"\xef\xbb\xbf",
                    b"\\ud800",
                    b"NaN",
                )
                more = (b"Infinity", b"1e999", b"9" * 5000, b"\n", b"null", b"\xed\xa0\x80", b'{"a":' * 3000)
                result[at:at] = self.chance.choice(pieces + more)
        return bytes(result)

    def raw(self, document: Any) -> bytes:
        """Return a document as bytes that may be wrong as a document, or as JSON."""
        if self.chance.random() < 0.8:
            return json.dumps(self.mutated(document)).encode()
        return self.torn(json.dumps(document).encode())
