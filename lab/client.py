"""Clients that talk to floating IPs, and what they observe: who answered, what was lost, the silence."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any

from cni_floatip.model.values import Address
from lab import netns, packets
from lab.errors import LabError

PORT = 7007
"""Where every pod of the lab answers."""


def start_packets(namespace: str, *arguments: str) -> subprocess.Popen[str]:
    """Start the sender or answerer inside a namespace."""
    # In a session of its own: Ctrl-C is for the lab, which then ends this by closing its standard input.
    return netns.inside(
        namespace,
        subprocess.Popen,
        [sys.executable, "-I", "-S", str(Path(packets.__file__)), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def end_packets(process: subprocess.Popen[str]) -> str:
    """Close the program's standard input, and return what it still had to say."""
    try:
        return process.communicate(timeout=10)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0]


@dataclass(frozen=True, slots=True)
class Datagram:
    """One question: when it left, when its answer came, and who gave it. Times are ``time.monotonic()``."""

    sent: float
    answered: float | None
    by: str | None


@dataclass(frozen=True, slots=True)
class Report:
    """What a probe saw between ``began`` and ``ended``."""

    datagrams: tuple[Datagram, ...]
    began: float
    ended: float

    @property
    def sent(self) -> int:
        return len(self.datagrams)

    @property
    def received(self) -> int:
        return sum(d.answered is not None for d in self.datagrams)

    @property
    def lost(self) -> int:
        return self.sent - self.received

    @property
    def by(self) -> Counter[str]:
        """How many answers each pod gave."""
        return Counter(d.by for d in self.datagrams if d.by is not None)

    @property
    def rtt(self) -> float:
        """The median time from question to answer, in seconds; 0 when nothing was answered."""
        times = [d.answered - d.sent for d in self.datagrams if d.answered is not None]
        return statistics.median(times) if times else 0.0

    @property
    def max_gap(self) -> float:
        """The longest time without an answer, also before the first one and after the last."""
        begin, end = self.longest_silence
        return end - begin

    @property
    def longest_silence(self) -> tuple[float, float]:
        """When that was."""
        heard = sorted(d.answered for d in self.datagrams if d.answered is not None)
        # Nothing is heard once nothing is asked any more: the last question ends the last silence.
        last = self.datagrams[-1].sent if self.datagrams else self.ended
        marks = [self.began, *heard, max(last, heard[-1] if heard else last)]
        return max(itertools.pairwise(marks), key=lambda pair: pair[1] - pair[0])

    def first_from(self, pod: str) -> float | None:
        """Return when this pod's first answer came."""
        return min(
            (d.answered for d in self.datagrams if d.by == pod and d.answered is not None), default=None
        )

    def between(self, begin: float, end: float) -> Report:
        """Return the part whose questions left within these times."""
        return Report(tuple(d for d in self.datagrams if begin <= d.sent < end), begin, end)

    def __str__(self) -> str:
        who = ", ".join(f"{name} {n}" for name, n in self.by.items()) or "nobody"
        return (
            f"{self.sent} sent, {self.lost} lost, longest gap {self.max_gap * 1000:.0f} ms, answered by {who}"
        )


class Probe:
    """A continuous sender in a client's namespace: a context manager whose ``report`` is there afterwards."""

    def __init__(self, namespace: str, address: Address, interval: float) -> None:
        self.report = Report((), 0.0, 0.0)
        self._namespace = namespace
        self._arguments = ("probe", str(address), str(PORT), str(interval))
        self._process: subprocess.Popen[str] | None = None
        self._began = self._ended = 0.0
        self._lock = threading.Lock()

    def __enter__(self) -> Probe:
        self._process = start_packets(self._namespace, *self._arguments)
        self.look()
        self._began = time.monotonic()
        return self

    def hush(self) -> None:
        """Stop sending; what is still under way is waited for at the end of the block."""
        process = self._process
        if process is not None and process.stdin is not None:
            with self._lock:
                with contextlib.suppress(BrokenPipeError):  # it has ended already
                    process.stdin.close()
                process.stdin = None
                self._ended = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, where: TracebackType | None
    ) -> None:
        assert self._process is not None
        self.hush()
        text = end_packets(self._process)
        self._process = None
        if text.strip():
            datagrams = [Datagram(*item) for item in json.loads(text)]
            self.report = Report(
                tuple(datagrams), min([self._began, *(d.sent for d in datagrams[:1])]), self._ended
            )

    def look(self) -> dict[str, Any]:
        """Return the count so far: ``sent``, ``received``, ``last`` (when and from whom an answer came last),
        and ``by`` (pod -> when its first and its last answer came).
        """
        process = self._process
        assert process is not None, "the probe is not running"
        assert process.stdin is not None
        assert process.stdout is not None
        line = ""
        with self._lock, contextlib.suppress(BrokenPipeError):
            process.stdin.write("\n")
            process.stdin.flush()
            line = process.stdout.readline()
        if not line:
            raise LabError(f"the probe in {self._namespace} has ended")
        raw: dict[str, Any] = json.loads(line)
        return raw

    def wait_answer(self, by: str | None = None, timeout: float = 10.0) -> str:
        """Wait for an answer (from this pod) that comes from now on; return who gave it."""
        now = time.monotonic()
        while time.monotonic() < now + timeout:
            last = self.look()["last"]
            if last and last[0] > now and by in (None, last[1]):
                return str(last[1])
            time.sleep(0.005)
        raise LabError(f"no answer from {by or 'anybody'} within {timeout:g} s")

    def wait_silence(self, seconds: float, timeout: float = 10.0, *, since: float | None = None) -> None:
        """Wait until nobody has answered for this long, counted from now or ``since``."""
        now = time.monotonic()
        start = now if since is None else since
        while time.monotonic() < now + timeout:
            last = self.look()["last"]
            if time.monotonic() - max(start, last[0] if last else start) >= seconds:
                return
            time.sleep(0.01)
        raise LabError(f"answers have not stopped for {seconds:g} s within {timeout:g} s")


@dataclass(frozen=True, slots=True)
class Client:
    """A machine that is no node: in the same VPC, or in another network behind the transit gateway."""

    name: str
    namespace: str
    addresses: tuple[Address, ...]

    @property
    def netns(self) -> str:
        return str(netns.path(self.namespace))

    def probe(self, address: Address | str, *, interval: float = 0.005) -> Probe:
        """Return a continuous sender to this address, to be used as a context manager."""
        return Probe(self.namespace, ip_address(str(address)), interval)

    def ask(self, address: Address | str, timeout: float = 1.0) -> str | None:
        """Send one datagram; return the name of the pod that answered, or ``None``."""
        return ask(self.namespace, address, timeout)

    def ping(
        self, address: Address | str, count: int = 3, *, interval: float = 0.02, timeout: float = 1.0
    ) -> int:
        """Send ICMP echo requests; return how many were answered."""
        return ping(self.namespace, address, count, interval=interval, timeout=timeout)


def ask(namespace: str, address: Address | str, timeout: float = 1.0, source: str = "") -> str | None:
    """Ask from inside any namespace, bound to ``source`` if given."""

    def exchange() -> str | None:
        family = socket.AF_INET6 if ":" in str(address) else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(timeout)
            try:
                if source:
                    sock.bind((source, 0))
                sock.sendto(packets.HEAD.pack(0, 0), (str(address), PORT))
                return sock.recv(2048)[packets.HEAD.size :].decode()
            except OSError:
                return None

    return netns.inside(namespace, exchange)


def ping(
    namespace: str,
    address: Address | str,
    count: int = 3,
    *,
    interval: float = 0.02,
    timeout: float = 1.0,
    source: str = "",
) -> int:
    """Ping from inside any namespace."""
    return netns.inside(namespace, _ping, ip_address(str(address)), count, interval, timeout, source)


def _ping(address: Address, count: int, interval: float, timeout: float, source: str) -> int:
    v6 = address.version == 6
    protocol = socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP
    request, reply = (128, 129) if v6 else (8, 0)
    ident = os.getpid() & 0xFFFF
    answered: set[int] = set()
    with socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_RAW, protocol) as sock:
        if source:
            sock.bind((source, 0))
        last = time.monotonic() + (count - 1) * interval
        for number in range(count):
            message = struct.pack("!BBHHH", request, 0, 0, ident, number)
            message = message if v6 else message[:2] + _checksum(message) + message[4:]
            try:
                sock.sendto(message, (str(address), 0))
            except OSError:
                continue  # no route: as good as lost
            _collect(sock, time.monotonic() + interval, reply, ident, answered, v6, count)
        _collect(sock, last + timeout, reply, ident, answered, v6, count)
    return len(answered)


def _collect(
    sock: socket.socket, until: float, reply: int, ident: int, answered: set[int], v6: bool, count: int
) -> None:
    while len(answered) < count and (left := until - time.monotonic()) > 0:
        if not select.select([sock], [], [], left)[0]:
            return
        data = sock.recv(2048)
        data = data if v6 else data[(data[0] & 15) * 4 :]
        kind, _, _, who, number = struct.unpack_from("!BBHHH", data)
        if (kind, who) == (reply, ident):
            answered.add(number)


def _checksum(message: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(message) // 2}H", message))
    total = (total >> 16) + (total & 0xFFFF)
    return struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)
