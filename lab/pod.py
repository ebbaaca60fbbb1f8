"""A pod: a network namespace as a container runtime makes it, and a process that answers with its name."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from cni_floatip.model.values import Address
from lab import netns
from lab.client import PORT, ask, end_packets, ping, start_packets


@dataclass(eq=False)
class Pod:
    """One pod sandbox. ``address`` is its cluster address on ``eth0``."""

    name: str
    namespace: str
    container_id: str
    ns: str
    host_ns: str
    host_link: str
    address: IPv4Address
    _answerer: subprocess.Popen[str] | None = field(default=None, repr=False)

    @property
    def netns(self) -> str:
        """The path that a runtime hands to a plugin as ``CNI_NETNS``."""
        return str(netns.path(self.ns))

    def serve(self) -> None:
        """Start the process that answers datagrams on every address of the pod. Twice is once."""
        if self._answerer is None:
            self._answerer = start_packets(self.ns, "answer", self.name, str(PORT))
            assert self._answerer.stdout is not None
            self._answerer.stdout.readline()

    def ping(self, address: Address | str, count: int = 3, *, source: str = "", timeout: float = 1.0) -> int:
        """Ping from inside the pod; return how many requests were answered."""
        return ping(self.ns, address, count, timeout=timeout, source=source)

    def ask(self, address: Address | str, *, source: str = "", timeout: float = 1.0) -> str | None:
        """Send a datagram from inside the pod; return the name of the pod that answered, or ``None``."""
        return ask(self.ns, address, timeout, source)

    def stop(self) -> None:
        """End the pod's process, as a runtime does before it deletes the sandbox."""
        if self._answerer is not None:
            end_packets(self._answerer)
            self._answerer = None

    def remove(self) -> None:
        """End the process and remove the namespace with all its interfaces. Twice is once."""
        remove_pods([self])

    def __str__(self) -> str:
        return self.name


def make_pods(pods: Sequence[Pod]) -> None:
    """Create namespaces of one node, each with its cluster interface as VPC CNI makes it: a /32, a gateway on
    no subnet."""
    netns.make(pod.ns for pod in pods)
    for host in {pod.host_ns for pod in pods}:
        netns.ip(host, [line for pod in pods if pod.host_ns == host for line in _host_lines(pod)])
    netns.ip_each({pod.ns: _pod_lines(pod) for pod in pods})


def remove_pods(pods: Sequence[Pod]) -> None:
    """End the processes and remove the namespaces with all their interfaces. Twice is once."""
    for pod in pods:
        pod.stop()
    netns.remove(pod.ns for pod in pods)


def _mac(pod: Pod) -> str:
    return f"02:aa:{pod.address.packed.hex(':')}"


def _host_lines(pod: Pod) -> Iterator[str]:
    yield f"link add {pod.host_link} address {_mac(pod)} type veth peer name eth0 netns {pod.ns}"
    yield f"link set {pod.host_link} up"
    yield f"route add {pod.address}/32 dev {pod.host_link}"


def _pod_lines(pod: Pod) -> Iterator[str]:
    yield "link set lo up"
    yield f"addr add {pod.address}/32 dev eth0"
    yield "link set eth0 up"
    yield "route add 169.254.1.1/32 dev eth0 scope link"
    yield "route add 0.0.0.0/0 via 169.254.1.1 dev eth0"
    yield f"neigh replace 169.254.1.1 lladdr {_mac(pod)} dev eth0 nud permanent"
