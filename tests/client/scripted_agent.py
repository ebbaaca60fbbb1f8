"""An agent that does what a test says, over a real socket: each connection takes the next line."""

from __future__ import annotations

import array
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cni_floatip.protocol import wire

CONFIG = {"cniVersion": "1.0.0", "name": "floating", "type": "floatip"}
Answering = Callable[["Heard", socket.socket], None]


@dataclass
class Heard:
    """What one connection brought."""

    call: wire.Call
    descriptors: list[int] = field(default_factory=list)


def says(*pieces: bytes) -> Answering:
    """Answer with the greeting and these frames, and hang up."""

    def answer(_: Heard, connection: socket.socket) -> None:
        connection.sendall(b"".join((wire.greeting(), *pieces)))

    return answer


def raw(data: bytes) -> Answering:
    return lambda _, connection: connection.sendall(data)


def replies(stdout: bytes = b"", status: int = 0) -> Answering:
    return says(wire.deadline_frame(6), wire.reply_frame(status, stdout))


def dripping(stdout: bytes) -> Answering:
    """The same in pieces of one byte."""

    def answer(_: Heard, connection: socket.socket) -> None:
        for byte in wire.greeting() + wire.deadline_frame(6) + wire.reply_frame(0, stdout):
            connection.sendall(bytes((byte,)))
            time.sleep(0.002)

    return answer


def hangs(*pieces: bytes) -> Answering:
    """Say this much and nothing more, until the client hangs up."""

    def answer(_: Heard, connection: socket.socket) -> None:
        connection.sendall(b"".join(pieces))
        connection.settimeout(30)
        connection.recv(1)

    return answer


def dies(*pieces: bytes) -> Answering:
    return raw(b"".join(pieces))


class ScriptedAgent:
    """Listens at ``path`` and answers connection after connection; the last line of the script repeats."""

    def __init__(self, path: Path, script: Sequence[Answering]) -> None:
        self.heard: list[Heard] = []
        self.connections = 0
        self._script = list(script)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            line = self._script[min(self.connections, len(self._script) - 1)]
            self.connections += 1
            threading.Thread(target=self._answer, args=(connection, line), daemon=True).start()

    def _answer(self, connection: socket.socket, line: Answering) -> None:
        with connection:
            incoming, descriptors = wire.Incoming(), array.array("i")
            connection.settimeout(30)
            while incoming.call is None:
                data, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(8 * descriptors.itemsize))
                if not data:
                    return
                for _, kind, content in ancillary:
                    assert kind == socket.SCM_RIGHTS
                    descriptors.frombytes(content)
                incoming.feed(data)
            heard = Heard(incoming.call, list(descriptors))
            self.heard.append(heard)
            with contextlib.suppress(OSError):  # the client had enough
                line(heard, connection)
