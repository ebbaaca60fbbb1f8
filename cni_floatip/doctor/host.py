"""Reads this node's kernel for the doctor: settings, links, and whether metadata answers through a link."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Collection, Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path

from ..edges.podnet import guard, link_by_mac, namespace
from ..model.errors import CniError, IoFailure
from ..model.values import Link

METADATA = ("169.254.169.254", "fd00:ec2::254")
NAMESPACES = Path("/run/netns")
TRY_SECONDS = 1.0
"""Short, because instance metadata is on the host itself and answers in milliseconds if at all."""

_SIOCGIFMTU = 0x8921  # linux/sockios.h
_IFREQ = struct.Struct("16si20x")
_SYSCTL = Path("/proc/sys/net")
_NO_WAY = {
    *(errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT),
    *(errno.EACCES, errno.EINVAL, errno.EPERM),  # a route "prohibit", a route "blackhole", a BPF program
}
_ANSWERS = {errno.ECONNREFUSED, errno.ECONNRESET}


def mtu(link: str) -> int:
    """Return the MTU of a link of this namespace, 0 if there is none of that name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        answer = fcntl.ioctl(sock, _SIOCGIFMTU, _IFREQ.pack(link.encode(), 0))
        return int(_IFREQ.unpack(answer)[1])
    return 0


def setting(name: str) -> str:
    """Return a kernel setting below ``net`` ("ipv4/conf/eth1/rp_filter"), "" where there is none."""
    try:
        return (_SYSCTL / name).read_text().strip()
    except OSError:
        return ""


def metadata_answers(device: str, sources: Sequence[str] = ()) -> str:
    """Return the metadata address that answers through ``device``, or from one of ``sources``; "" for none.

    All ways are tried at once. Raises IoFailure where one cannot be tried.
    """
    with contextlib.ExitStack() as opened:
        trying: dict[int, tuple[socket.socket, str]] = {}
        for address in METADATA:
            own = [source for source in sources if ip_address(source).version == ip_address(address).version]
            ways = [(device, ""), *((through, source) for source in own for through in ("", device))]
            for through, source in ways:
                sock = _bound(address, through, source)
                if sock is None:
                    continue
                opened.enter_context(sock)
                number = sock.connect_ex((address, 80))
                if number == errno.EINPROGRESS:
                    trying[sock.fileno()] = sock, address
                elif number in _ANSWERS | {0}:
                    return address
                elif number not in _NO_WAY:
                    raise _cannot_try(address, through or source, number)
        return _first(trying)


def _bound(address: str, device: str, source: str) -> socket.socket | None:
    """Return a socket that is bound this way, connecting to ``address``; None where that is impossible."""
    family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            if device:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            if source:
                sock.bind((source, 0))
        except OSError:
            sock.close()
            raise
    except OSError as e:
        if e.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):  # no IPv6 here, or the address has gone
            return None
        raise _cannot_try(address, device or source, e.errno or errno.EIO) from e
    return sock


def _cannot_try(address: str, through: str, number: int) -> IoFailure:
    return IoFailure(f"cannot try {address} through {through}: {os.strerror(number)}")


def _first(trying: dict[int, tuple[socket.socket, str]]) -> str:
    """Return the address of the first connection that is answered, if only by a refusal."""
    until = time.monotonic() + TRY_SECONDS
    waiting = select.poll()  # not select: pods with many addresses have descriptors above 1023
    for descriptor in trying:
        waiting.register(descriptor, select.POLLOUT)
    while trying and (left := until - time.monotonic()) > 0:
        for descriptor, _ in waiting.poll(left * 1000):
            sock, address = trying.pop(descriptor)
            waiting.unregister(descriptor)
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number == 0 or number in _ANSWERS:
                return address
    return ""


def why_no_guard() -> str | None:
    """Try the metadata guard on a link of a temporary namespace; return why it fails, or None."""
    try:
        namespace.run_apart(lambda: guard.ensure(Link("lo", 1, "")))
    except CniError as e:
        return str(e)
    return None


def metadata_answers_in(netns: str, device: str, sources: Sequence[str]) -> str:
    """Return the same for a pod's namespace. Raises PodNetworkFailure, InvalidNetns, IoFailure."""

    def tried() -> str | CniError:
        try:
            return metadata_answers(device, sources)
        except IoFailure as e:
            return e

    result = namespace.make_inside(netns, tried)
    if isinstance(result, CniError):
        raise result
    return result


def macs_in_pods(macs: Collection[str]) -> frozenset[str]:
    """Return which of these MACs a link in some pod has: host-device gives a pod the whole ENI."""

    def held() -> set[str]:
        return {mac for mac in macs if link_by_mac(mac)}

    results: set[str] = set()
    for pod in sorted(NAMESPACES.glob("*")) if macs else ():
        with contextlib.suppress(CniError):  # it has just ended, or is no namespace, or the host's own
            results |= namespace.make_inside(str(pod), held)
    return frozenset(results)


def advertised_defaults(netns: str, link: str) -> tuple[str, ...]:
    """Return the IPv6 default routes that router advertisements made through a pod's link."""

    def read() -> tuple[str, ...]:
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            return tuple(_advertised(Path("/proc/thread-self/net/ipv6_route").read_text(), link))
        return ()

    return namespace.make_inside(netns, read)


def _advertised(table: str, link: str) -> Iterator[str]:
    """Yield next hops from the text of ipv6_route: RTF_ADDRCONF with an empty prefix (linux/ipv6_route.h)."""
    for line in table.splitlines():
        destination, length, _, _, hop, _, _, _, flags, name = line.split()
        if name == link and length == "00" and not int(destination, 16) and int(flags, 16) & 0x00040000:
            yield str(ip_address(bytes.fromhex(hop)))


def answer_to_version(client: Path, seconds: float = 5.0) -> str | None:
    """Run the client's VERSION as a runtime would; return its fault, or None."""
    try:
        done = subprocess.run(
            [str(client)],
            input=b'{"cniVersion": "1.0.0"}',
            env={"CNI_COMMAND": "VERSION"},
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except OSError as e:
        return f"cannot be run: {e.strerror}"
    except subprocess.TimeoutExpired:
        return f"has not answered VERSION within {seconds:g} s"
    if done.returncode or b'"supportedVersions"' not in done.stdout:
        text = (done.stdout + done.stderr).decode(errors="replace").strip()
        return f"VERSION gives exit status {done.returncode}: {text[:200]}"
    return None
