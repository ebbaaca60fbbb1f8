"""This node's kernel as the doctor asks it: settings, links, and whether something answers through a link."""

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
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path

from ..errors import CniError, IoFailure
from ..model import Link
from ..podnet import guard, namespace

METADATA = ("169.254.169.254", "fd00:ec2::254")
TRY_SECONDS = 1.0
"""Instance metadata is on the host itself: what answers at all answers in milliseconds."""

_SIOCGIFMTU = 0x8921  # linux/sockios.h
_IFREQ = struct.Struct("16si20x")
_SYSCTL = Path("/proc/sys/net")
_NO_WAY = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EACCES, errno.EAFNOSUPPORT}
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
        trying: dict[socket.socket, str] = {}
        for address in METADATA:
            own = [each for each in sources if ip_address(each).version == ip_address(address).version]
            ways = [(device, ""), *((through, source) for source in own for through in ("", device))]
            for through, source in ways:
                sock = opened.enter_context(_socket(address))
                answer = _begun(sock, address, through, source)
                if answer:
                    return address
                if answer is None:
                    trying[sock] = address
        return _first(trying)


def _socket(address: str) -> socket.socket:
    family = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
    return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)


def _begun(sock: socket.socket, address: str, device: str, source: str) -> bool | None:
    """Begin to connect; say whether that has an answer already (None: not yet)."""
    try:
        if device:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        if source:
            sock.bind((source, 0))
        number = sock.connect_ex((address, 80))
    except OSError as e:
        number = e.errno or errno.EIO
    if number == errno.EINPROGRESS:
        return None
    if number not in _NO_WAY | _ANSWERS | {0}:
        raise IoFailure(f"cannot try {address} through {device or source}: {os.strerror(number)}")
    return number not in _NO_WAY


def _first(trying: dict[socket.socket, str]) -> str:
    """Return where the first of these connections leads that is answered, if only by a refusal."""
    until = time.monotonic() + TRY_SECONDS
    while trying and (left := until - time.monotonic()) > 0:
        _, ended, _ = select.select([], list(trying), [], left)
        for sock in ended:
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number == 0 or number in _ANSWERS:
                return trying[sock]
            del trying[sock]
    return ""


def why_no_guard() -> str:
    """Try the metadata guard on a link of a namespace apart; return why it cannot be, or nothing."""
    try:
        namespace.tried_apart(lambda: guard.ensure(Link("lo", 1, "")))
    except CniError as e:
        return str(e)
    return ""


def metadata_answers_in(netns: str, device: str, sources: Sequence[str]) -> str:
    """Return the same for a pod's namespace. Raises PodNetworkFailure, InvalidNetns, IoFailure."""

    def tried() -> str | CniError:
        try:
            return metadata_answers(device, sources)
        except IoFailure as e:
            return e

    found = namespace.made_inside(netns, tried)
    if isinstance(found, CniError):
        raise found
    return found


def advertised_defaults(netns: str, link: str) -> tuple[str, ...]:
    """Return the IPv6 default routes that router advertisements made through a pod's link."""

    def read() -> tuple[str, ...]:
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            return tuple(_advertised(Path("/proc/thread-self/net/ipv6_route").read_text(), link))
        return ()

    return namespace.made_inside(netns, read)


def _advertised(table: str, link: str) -> Iterator[str]:
    """Yield next hops from the text of ipv6_route: RTF_ADDRCONF with an empty prefix (linux/ipv6_route.h)."""
    for line in table.splitlines():
        destination, length, _, _, hop, _, _, _, flags, name = line.split()
        if name == link and length == "00" and not int(destination, 16) and int(flags, 16) & 0x00040000:
            yield str(ip_address(bytes.fromhex(hop)))


def answer_to_version(client: Path, seconds: float = 5.0) -> str:
    """Run the client's VERSION as a runtime would; return what is wrong with that, or nothing."""
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
        said = (done.stdout + done.stderr).decode(errors="replace").strip()
        return f"VERSION gives exit status {done.returncode}: {said[:200]}"
    return ""
