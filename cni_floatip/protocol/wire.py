"""The protocol of client and agent over the node's socket: decodes calls, encodes answers.

The client's half is in ``client.py``, which may import nothing. One exchange is one connection::

    client -> agent   hello (8 bytes: "FIP", version, oldest, 0 0 0), u32 length, body
                      body: u32 length of the environment, NAME=value NUL NAME=value ..., standard input
                      a descriptor of CNI_NETNS rides with the first byte (SCM_RIGHTS)
    agent -> client   hello, then frames: one letter, u32 length, payload

    D  how many seconds the agent works on it at most; always first
    R  one byte of exit status, then what the client prints
    E  why there will be no answer: incompatible versions, or a malformed request

Numbers are big-endian. ``version`` is the sender's version; ``oldest`` is the oldest version of a peer that
understands the sender. So peers one release apart understand each other, unless one says that they do not.
Each side ignores unknown frames and variables, because a newer peer may add some.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

VERSION = 1
OLDEST = 1
MAGIC = b"FIP"
HELLO_BYTES = 8
MOST_BODY = 4 << 20
MOST_ANSWER = 16 << 20


class Malformed(Exception):
    """The bytes are not this protocol; ``str`` is fit for an ``E`` frame and a log line."""


class Incompatible(Malformed):
    """The peer is too old or too new; ``str`` names both versions."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request. ``env`` holds only ``CNI_*`` and ``FIP_*``, decoded as ``os.environ`` decodes."""

    env: Mapping[str, str]
    stdin: bytes
    version: int = VERSION

    @property
    def command(self) -> str:
        """The command: ADD, DEL ..., or "status" for the node agent's own status."""
        return self.env.get("FIP_COMMAND") or self.env.get("CNI_COMMAND", "")

    @property
    def netns_errno(self) -> int:
        """The errno of the client's failure to open CNI_NETNS; 0: it could, or had nothing to open."""
        text = self.env.get("FIP_ERRNO", "")
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0

    @property
    def client(self) -> str:
        """The client's release, "" when it does not say."""
        return self.env.get("FIP_CLIENT", "")


class Incoming:
    """Incremental parser of a request, for the agent: feed it bytes until there is a call."""

    def __init__(self) -> None:
        self.call: Call | None = None
        self._held = bytearray()

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises Malformed (Incompatible) as early as possible; holds 4 MiB at most.

        Drops bytes after the request, because none are expected.
        """
        if self.call:
            return
        self._held += data
        version = _hello(self._held, "client")
        if len(self._held) < HELLO_BYTES + 4:
            return
        length = _number(self._held, HELLO_BYTES)
        if length > MOST_BODY:
            raise Malformed(f"the request has {length} bytes: the limit is {MOST_BODY}")
        if len(self._held) >= HELLO_BYTES + 4 + length:
            self.call = read_body(bytes(self._held[HELLO_BYTES + 4 : HELLO_BYTES + 4 + length]), version)
            self._held.clear()


class Answers:
    """Incremental parser of the agent's answer, where imports are allowed. ``status`` is None until ``R``."""

    def __init__(self) -> None:
        self.deadline: float | None = None
        self.status: int | None = None
        self.stdout = b""
        self.refused = ""
        self._held = bytearray()
        self._greeted = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises Malformed."""
        self._held += data
        if not self._greeted:
            _hello(self._held, "agent")
            if len(self._held) < HELLO_BYTES:
                return
            self._greeted = True
            del self._held[:HELLO_BYTES]
        while len(self._held) >= 5:
            length = _number(self._held, 1)
            if length > MOST_ANSWER:
                raise Malformed(f"a frame of {length} bytes: the limit is {MOST_ANSWER}")
            if len(self._held) < 5 + length:
                return
            self._take(bytes(self._held[:1]), bytes(self._held[5 : 5 + length]))
            del self._held[: 5 + length]

    def _take(self, kind: bytes, payload: bytes) -> None:
        try:
            if kind == b"D":
                self.deadline = float(payload)
            elif kind == b"R":
                self.status, self.stdout = payload[0], payload[1:]
            elif kind == b"E":
                self.refused = payload.decode(errors="replace")
        except (ValueError, IndexError) as e:
            raise Malformed(f"a frame {kind!r} that cannot be read: {payload[:40]!r}") from e


def read_body(body: bytes, version: int = VERSION) -> Call:
    """Return the call in a request's body; a spooled DEL holds the same. Raises Malformed."""
    length = _number(body, 0) if len(body) >= 4 else len(body)
    if len(body) < 4 + length:
        raise Malformed(f"the request is cut short: {len(body)} bytes")
    env = {}
    for pair in filter(None, body[4 : 4 + length].decode(errors="surrogateescape").split("\0")):
        name, equals, value = pair.partition("=")
        if equals and name.startswith(("CNI_", "FIP_")):
            env[name] = value
    return Call(env, body[4 + length :], version)


def hello(version: int, oldest: int) -> bytes:
    """Return the first bytes of a peer of this version."""
    return MAGIC + bytes((version, oldest, 0, 0, 0))


def greeting() -> bytes:
    """Return the first bytes of this release, as client or as agent."""
    return hello(VERSION, OLDEST)


def deadline_frame(seconds: float) -> bytes:
    """Return the frame that says how long the agent works on a call at most."""
    return _frame(b"D", f"{seconds:.3f}".encode())


def reply_frame(status: int, stdout: bytes) -> bytes:
    """Return the frame that ends a call: exit status and what the client prints."""
    return _frame(b"R", bytes((status,)) + stdout)


def refusal(text: str) -> bytes:
    """Return the frame that says why there will be no answer."""
    return _frame(b"E", text.encode(errors="replace"))


def body_bytes(env: Mapping[str, str], stdin: bytes) -> bytes:
    """Return the body of a request."""
    block = "\0".join(f"{name}={value}" for name, value in env.items()).encode(errors="surrogateescape")
    return len(block).to_bytes(4, "big") + block + stdin


def request_bytes(env: Mapping[str, str], stdin: bytes = b"") -> bytes:
    """Return a whole request."""
    body = body_bytes(env, stdin)
    return greeting() + len(body).to_bytes(4, "big") + body


def _frame(kind: bytes, payload: bytes) -> bytes:
    return kind + len(payload).to_bytes(4, "big") + payload


def _number(held: bytes | bytearray, at: int) -> int:
    return int.from_bytes(held[at : at + 4], "big")


def _hello(held: bytes | bytearray, peer: str) -> int:
    """Return the peer's version (ours while too little came). Raises Malformed, Incompatible."""
    if not MAGIC.startswith(bytes(held[:3])):
        raise Malformed(f"this is not a floatip {peer}: it says {bytes(held[:8])!r}")
    if len(held) < HELLO_BYTES:
        return VERSION
    version, oldest = held[3], held[4]
    if version < OLDEST or oldest > VERSION:
        us = "agent" if peer == "client" else "client"
        raise Incompatible(
            f"the {peer} speaks protocol {version} (understood from {oldest} on), "
            f"this {us} protocol {VERSION} (understood from {OLDEST} on): install both of one release"
        )
    return version
