"""A node with an ENI and a pod behind it, and frames written by hand: what arrives at the other end?"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import struct
import subprocess
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, TypeVar

from cni_floatip.edges import podnet
from cni_floatip.model.values import Link
from lab import netns

PREFIX = f"fl-{os.getpid()}-guard"
ENI_MAC, ROUTER_MAC = "02:00:00:00:0e:01", "02:00:00:00:0e:02"
ETH_P_ALL = 3
IPV4, IPV6, ARP = 0x0800, 0x86DD, 0x0806
SENTINEL = 0x88B5  # linux/if_ether.h has it for experiments
PAYLOAD = bytes(range(64))

T = TypeVar("T")
_numbers = itertools.count()


class Wire:
    """Three namespaces: a router, a node with eth1 (an ENI) and eth0, a pod with net1 (macvlan passthru)."""

    def __init__(self) -> None:
        self._sockets: dict[tuple[str, str], socket.socket] = {}
        name = f"{PREFIX}{next(_numbers)}"
        self.router, self.node, self.pod = (f"{name}-{who}" for who in ("router", "node", "pod"))
        netns.make([self.router, self.node, self.pod])
        for eni in ("eth0", "eth1"):
            mac = f" address {ENI_MAC}" if eni == "eth1" else ""
            peer = f" address {ROUTER_MAC}" if eni == "eth1" else ""
            lines = [f"link add {eni}{mac} type veth peer name r{eni}{peer} netns {self.router}"]
            netns.ip(self.node, [*lines, f"link set {eni} up"])
            netns.ip(self.router, [f"link set r{eni} up"])

    def attach(self) -> None:
        """Put the pod behind eth1."""
        netns.ip(self.node, [f"link add link eth1 name net1 netns {self.pod} type macvlan mode passthru"])
        netns.ip(self.pod, ["link set net1 up"])

    def on_node(self, function: Callable[..., T], *arguments: Any) -> T:
        return netns.inside(self.node, function, *arguments)

    def eni(self) -> Link:
        """Return the ENI's link as the node sees it."""
        link = self.on_node(podnet.link_by_mac, ENI_MAC)
        assert link is not None
        return link

    def tc(self, *command: str) -> str:
        done: subprocess.CompletedProcess[bytes] = self.on_node(
            lambda: subprocess.run(["tc", *command], stdout=subprocess.PIPE, check=True)
        )
        return done.stdout.decode()

    def arrives(self, frame: bytes, protocol: int = 0, *, sender: str = "net1", at: str = "reth1") -> bool:
        """Send a frame from ``sender`` and say whether it is seen at the link ``at``.

        ``protocol`` is what the packet socket says that the frame is. A frame that nothing stops is sent
        after it: whoever has not come before that one does not come.
        """
        last = ethernet(SENTINEL, next(_numbers).to_bytes(8, "big") + PAYLOAD)
        places = {"net1": self.pod, "reth0": self.router, "reth1": self.router}
        ear = self._socket(places[at], at)
        with contextlib.suppress(OSError):  # ENOBUFS: it was dropped
            self._socket(places.get(sender, self.node), sender).sendto(frame, (sender, protocol))
        if at == "net1":
            last = arriving(last[12:])
        elif sender == "reth1":  # to be forwarded by the host; the last one goes straight to where that leads
            sender = at.removeprefix("r")
        self._socket(places.get(sender, self.node), sender).sendto(last, (sender, SENTINEL))
        observed = False
        while (heard := ear.recv(4096)) != last:
            observed = observed or heard.endswith(frame[-len(PAYLOAD) :])
        return observed

    def _socket(self, place: str, link: str) -> socket.socket:
        """Return the packet socket of this link: closing one takes the kernel a while."""
        if (place, link) not in self._sockets:
            self._sockets[place, link] = netns.inside(place, packet_socket, link)
        return self._sockets[place, link]

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()
        netns.remove([self.pod, self.node, self.router])


def packet_socket(link: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.bind((link, ETH_P_ALL))
    sock.settimeout(10)
    return sock


def ethernet(kind: int, payload: bytes, *, tags: tuple[int, ...] = ()) -> bytes:
    """Return a frame from the ENI to the VPC router; ``tags``: the types of its VLAN tags, outer first."""
    macs = bytes.fromhex((ROUTER_MAC + ENI_MAC).replace(":", ""))
    return macs + b"".join(struct.pack("!HH", tag, 7) for tag in tags) + struct.pack("!H", kind) + payload


def arriving(content: bytes, *, source: str = ROUTER_MAC, to: str = ENI_MAC) -> bytes:
    """Return a frame as the ENI receives it; ``content`` begins with its type (or its VLAN tag)."""
    return bytes.fromhex((to + source).replace(":", "")) + content


def ipv4(
    to: str, *, source: str = "192.168.0.2", options: bytes = b"", offset: int = 0, proto: int = 17
) -> bytes:
    """Return an IPv4 packet; ``offset``: of a fragment, in units of eight bytes."""
    words = 5 + len(options) // 4
    length = 4 * words + len(PAYLOAD)
    addresses = ip_address(source).packed + ip_address(to).packed
    head = struct.pack("!BBHHHBBH", 0x40 | words, 0, length, 1, offset, 64, proto, 0) + addresses + options
    return head[:10] + checksum(head) + head[12:] + PAYLOAD


def ipv6(to: str, *, source: str = "fd00:192:168::2", header: int = 17, extension: bytes = b"") -> bytes:
    """Return an IPv6 packet; ``header`` is the type of what follows, ``extension`` headers come first."""
    size = len(extension) + len(PAYLOAD)
    head = struct.pack("!IHBB", 6 << 28, size, header, 64)
    return head + ip_address(source).packed + ip_address(to).packed + extension + PAYLOAD


def checksum(head: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(head) // 2}H", head))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)
