"""What is bound to the floating interface, and has no address yet, uses the interface's own routing table."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import subprocess
import threading
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from cni_floatip.edges.podnet import guard, link_by_mac
from lab import netns
from lab.pod import Pod
from lab.router import METADATA
from lab.world import Lab

pytestmark = [
    pytest.mark.needs("root", "ip", "tc"),
    pytest.mark.lab(azs=1, nodes_per_az=1, agents=True, warm=True),
]

OWN = {4: "192.168.0.2", 6: "fd00:192:168::2"}
PORT = 7009
SOON = 1.0
"""What answers at all answers in milliseconds."""


@pytest.fixture(scope="module")
def bound_pod(lab: Lab) -> Iterator[Pod]:
    """A pod with a floating IP of each family, and with the default ``podRoutes``."""
    node = lab.nodes["a1"]
    made = node.pod("bound")
    chain = lab.conflist([f"{OWN[4]}/32", f"{OWN[6]}/128"])
    node.add(made, chain)
    yield made
    node.delete(made, chain)
    node.remove_pod(made)


def family(address: object) -> socket.AddressFamily:
    return socket.AF_INET6 if ip_address(str(address)).version == 6 else socket.AF_INET


@contextlib.contextmanager
def echoing(namespace: str, address: object) -> Iterator[None]:
    """Answer datagrams in a namespace with whom they came from."""

    def opened() -> socket.socket:
        sock = socket.socket(family(address), socket.SOCK_DGRAM)
        sock.bind((str(address), PORT))
        return sock

    over = threading.Event()
    with netns.inside(namespace, opened) as sock:

        def answer() -> None:
            while not over.is_set():
                if select.select([sock], [], [], 0.05)[0]:
                    _, sender = sock.recvfrom(99)
                    sock.sendto(sender[0].encode(), sender)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(5)


def seen_as(pod: Pod, address: object, device: str = "net1") -> str:
    """Send a datagram from a socket that is bound to the device alone; return its source as seen there."""

    def exchange() -> str:
        with socket.socket(family(address), socket.SOCK_DGRAM) as sock:
            sock.settimeout(SOON)
            if device:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            sock.sendto(b"?", (str(address), PORT))
            return sock.recv(99).decode()

    return netns.inside(pod.ns, exchange)


def session_token(pod: Pod, address: object, *, source: str = "") -> str:
    """Ask instance metadata for a token, bound to net1; return the answer, or the error's name."""

    def ask() -> str:
        with socket.socket(family(address), socket.SOCK_STREAM) as sock:
            sock.settimeout(SOON)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"net1")
            try:
                if source:
                    sock.bind((source, 0))
                sock.connect((str(address), 80))
                sock.sendall(
                    b"PUT /latest/api/token HTTP/1.1\r\nHost: metadata\r\n"
                    b"X-aws-ec2-metadata-token-ttl-seconds: 60\r\nContent-Length: 0\r\n\r\n"
                )
                return sock.recv(99).decode().split("\r")[0]
            except TimeoutError:
                return "silence"
            except OSError as e:
                return errno.errorcode[e.errno or 0]

    return netns.inside(pod.ns, ask)


def where(pod: Pod, *words: str) -> str:
    """Return how the pod's kernel would route something."""
    version = "-6" if ":" in words[0] else "-4"
    argv = ["ip", version, "-n", pod.ns, "route", "get", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout or done.stderr


def test_ping_by_interface(lab: Lab, bound_pod: Pod) -> None:
    for client in lab.clients.values():
        for address in client.addresses:
            argv = ["ping", "-n", "-c", "1", "-W", "2", "-I", "net1", str(address)]
            done = netns.inside(bound_pod.ns, subprocess.run, argv, capture_output=True, text=True)
            assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def test_a_datagram_of_a_bound_socket_has_the_floating_address(lab: Lab, bound_pod: Pod) -> None:
    for client in lab.clients.values():
        for address in client.addresses:
            with echoing(client.namespace, address):
                assert seen_as(bound_pod, address) == OWN[address.version]


def test_what_is_not_bound_goes_its_way_as_before(lab: Lab, bound_pod: Pod) -> None:
    for client in lab.clients.values():
        assert "dev eth0" in where(bound_pod, str(client.addresses[0]))
    node = lab.nodes["a1"]
    kubelet = node.primary.addresses[0]
    with echoing(node.ns, kubelet):
        for device in ("", "eth0"):
            assert seen_as(bound_pod, kubelet, device) == str(bound_pod.address)
    for own in (*OWN.values(), str(bound_pod.address)):
        assert "table local" in where(bound_pod, own)


def test_neighbours_by_link_local_address_stay_on_the_link(bound_pod: Pod) -> None:
    result = where(bound_pod, "fe80::77", "oif", "net1")
    assert "dev net1" in result
    assert "via" not in result


def test_metadata_is_unreachable_for_what_is_bound(bound_pod: Pod) -> None:
    for address in METADATA:
        for source in ("", OWN[address.version]):
            assert not session_token(bound_pod, address, source=source).startswith("HTTP")


def test_without_the_guard_ipv6_still_has_no_way(lab: Lab, bound_pod: Pod) -> None:
    """What is bound passes the unreachable route by: it is the rule that bars the way."""
    node, (v4, v6) = lab.nodes["a1"], METADATA

    def remove_guard() -> None:
        link = link_by_mac(node.eni("eth1").mac)
        assert link
        guard.remove(link)

    node.agent.freeze()
    try:
        netns.inside(node.ns, remove_guard)
        assert session_token(bound_pod, v4).startswith("HTTP"), "in IPv4 the guard alone stops it"
        for source in ("", OWN[6]):
            assert session_token(bound_pod, v6, source=source) == "ENETUNREACH"
        subprocess.run(f"ip -n {bound_pod.ns} -6 rule del oif net1 to fd00:ec2::/32".split(), check=True)
        assert session_token(bound_pod, v6).startswith("HTTP"), "the lab answers, so it was the rule"
    finally:
        node.agent.thaw()
