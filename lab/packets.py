"""What runs inside pods and clients: one answers datagrams with its name, one sends them and keeps count.

Run as a program of its own (``python -I -S packets.py ...``), because a measurement must not wait for the
interpreter that also plays EC2. Standard library only. Both end when their standard input ends.

    packets.py answer NAME PORT             answers on every address, from the address that was asked
    packets.py probe ADDRESS PORT SECONDS   sends a datagram every SECONDS
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import sys
import time
from typing import Any

HEAD = struct.Struct("!QQ")
IP_PKTINFO = 8  # linux/in.h; Python 3.11 does not name it
IPV6_RECVPKTINFO = 49
PATIENCE = 0.5
"""How long a probe goes on listening after its last datagram."""


def listen(family: int, port: int) -> socket.socket:
    """Open a socket that is told which of its addresses each datagram was sent to."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
    sock.bind(("", port))
    sock.setblocking(False)
    return sock


def answer(name: str, port: int) -> None:
    """Answer every datagram with its first bytes and our name, from the address that it was sent to."""
    socks = [listen(family, port) for family in (socket.AF_INET, socket.AF_INET6)]
    print("ready", flush=True)
    while True:
        for ready in select.select([*socks, sys.stdin.fileno()], [], [])[0]:
            if not isinstance(ready, socket.socket):
                if not os.read(ready, 4096):
                    return
                continue
            try:
                data, control, _, sender = ready.recvmsg(2048, 256)
                reply = [data[: HEAD.size] + name.encode()]
                ready.sendmsg(reply, _answer_from(control), 0, sender)
            except OSError:
                continue  # no way back to this sender just now: as silent as the network would be


def _answer_from(control: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """Turn "arrived at" into "send from": the same address, the interface left to routing."""
    for level, kind, data in control:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
            return [(level, kind, b"\0" * 4 + data[8:12] + b"\0" * 4)]
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            return [(level, kind, data[:16] + b"\0" * 4)]
    return []


class Count:
    """What a probe has seen: per datagram when it left, when its answer came, and from whom."""

    def __init__(self) -> None:
        self.sent: list[float] = []
        self.answers: dict[int, tuple[float, str]] = {}
        self.by: dict[str, tuple[float, float]] = {}
        self.last: tuple[float, str] | None = None

    def heard(self, data: bytes, at: float) -> None:
        """Note an answer; only the first one to each datagram counts."""
        number, _ = HEAD.unpack_from(data)
        who = data[HEAD.size :].decode(errors="replace")
        if number < len(self.sent) and number not in self.answers:
            self.answers[number] = (at, who)
            self.by[who] = (self.by.get(who, (at,))[0], at)
            self.last = (at, who)

    def look(self) -> dict[str, Any]:
        """Return the state of things in one line's worth."""
        return {"sent": len(self.sent), "received": len(self.answers), "last": self.last, "by": self.by}

    def all(self) -> list[tuple[float, float | None, str | None]]:
        """Return every datagram: when it left, when it was answered, by whom."""
        return [(at, *self.answers.get(number, (None, None))) for number, at in enumerate(self.sent)]


def probe(address: str, port: int, interval: float) -> None:
    """Send until standard input ends; a line on it asks for the count so far, its end for everything."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    count = Count()
    commands = sys.stdin.fileno()
    due = time.monotonic()
    stop: float | None = None
    while stop is None or (time.monotonic() < stop and len(count.answers) < len(count.sent)):
        now = time.monotonic()
        if stop is None and now >= due:
            count.sent.append(now)
            with contextlib.suppress(OSError):  # no route just now: this datagram is lost, and counted so
                sock.sendto(HEAD.pack(len(count.sent) - 1, int(now * 1e9)), (address, port))
            due = max(due + interval, now)
        listen_to: list[Any] = [sock] if stop else [sock, commands]
        ready = select.select(listen_to, [], [], max(0.0, (stop or due) - time.monotonic()))[0]
        if sock in ready:
            _drain(sock, count)
        if commands in ready:
            request = os.read(commands, 4096)
            for _ in range(request.count(b"\n")):
                print(json.dumps(count.look()), flush=True)
            if not request:
                stop = time.monotonic() + PATIENCE
    print(json.dumps(count.all()), flush=True)


def _drain(sock: socket.socket, count: Count) -> None:
    while True:
        try:
            data = sock.recv(2048)
        except BlockingIOError:
            return
        except OSError:
            continue  # an ICMP error, reported once
        if len(data) >= HEAD.size:
            count.heard(data, time.monotonic())


def main(argv: list[str]) -> None:
    if argv[0] == "answer":
        answer(argv[1], int(argv[2]))
    else:
        probe(argv[1], int(argv[2]), float(argv[3]))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(1)
