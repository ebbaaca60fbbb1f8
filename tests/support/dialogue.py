"""The client's half of the protocol, spoken by hand: whole, in pieces, or wrongly."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from cni_floatip.protocol import wire


class Dialogue:
    """One connection to an agent."""

    def __init__(self, path: str | Path, timeout: float = 30) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(str(path))
        self.answers = wire.Answers()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def ask(self, env: Mapping[str, str], stdin: bytes = b"", descriptors: Sequence[int] = ()) -> None:
        """Send a whole request."""
        self.send(wire.request_bytes(env, stdin), descriptors)

    def send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send anything; descriptors ride with the first byte."""
        if descriptors:
            sent = socket.send_fds(self.sock, [data], list(descriptors))
            data = data[sent:]
        if data:
            self.sock.sendall(data)

    def hear(self) -> bool:
        """Take what comes next; False: the agent has hung up."""
        data = self.sock.recv(65536)
        if data:
            self.answers.feed(data)
        return bool(data)

    def answer(self) -> wire.Answers:
        """Hear until the agent hangs up."""
        while self.hear():
            pass
        return self.answers

    def until_deadline(self) -> float:
        """Hear until the agent says how long it takes at most."""
        while self.answers.deadline is None:
            assert self.hear(), "the agent has hung up"
        return self.answers.deadline


def ask(
    path: str | Path, env: Mapping[str, str], stdin: bytes = b"", descriptors: Sequence[int] = ()
) -> wire.Answers:
    """Make one call and return all that was answered."""
    with Dialogue(path) as dialogue:
        dialogue.ask(env, stdin, descriptors)
        return dialogue.answer()


def call(
    path: str | Path,
    verb: str,
    config: Mapping[str, Any],
    *,
    netns: str | Path | int = "",
    container: str = "c1",
    ifname: str = "net1",
    **env: str,
) -> tuple[int, dict[str, Any]]:
    """Make a CNI call as the client does; return the error's code (0: none) and the document.

    ``netns``: a path, opened here, or a descriptor of anything.
    """
    output = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": container,
        "CNI_IFNAME": ifname,
        "CNI_PATH": "/nowhere",
        "CNI_NETNS": "/passed" if isinstance(netns, int) else str(netns),
        **env,
    }
    opened = -1
    if isinstance(netns, str | Path) and str(netns):
        opened = os.open(netns, os.O_RDONLY)
    try:
        passed = [netns] if isinstance(netns, int) else [opened] if opened >= 0 else []
        heard = ask(path, output, json.dumps(config).encode(), passed)
    finally:
        if opened >= 0:
            os.close(opened)
    assert heard.status is not None, f"no answer: {heard.refused}"
    document = json.loads(heard.stdout) if heard.stdout else {}
    return (document["code"] if heard.status else 0), document
