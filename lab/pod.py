"""A pod: a network namespace as a container runtime makes it, and a process that answers with its name."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from cni_floatip.model import Address
from lab import netns
from lab.client import PORT, ask, end_packets, ping, start_packets

NO_DAD = {"ipv6/conf/all/accept_dad": 0, "ipv6/conf/default/accept_dad": 0}


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

    def make(self, *, fast_dad: bool) -> None:
        """Create the namespace and its cluster interface as VPC CNI does: a /32, a gateway on no subnet."""
        netns.make([self.ns])
        # The kernel skips duplicate address detection only if "all" and the interface's own value say so.
        netns.sysctl(self.ns, NO_DAD if fast_dad else {})
        mac = f"02:aa:{self.address.packed.hex(':')}"
        netns.ip(
            self.host_ns,
            [
                f"link add {self.host_link} address {mac} type veth peer name eth0 netns {self.ns}",
                f"link set {self.host_link} up",
                f"route add {self.address}/32 dev {self.host_link}",
            ],
        )
        netns.ip(
            self.ns,
            [
                "link set lo up",
                f"addr add {self.address}/32 dev eth0",
                "link set eth0 up",
                "route add 169.254.1.1/32 dev eth0 scope link",
                "route add 0.0.0.0/0 via 169.254.1.1 dev eth0",
                f"neigh replace 169.254.1.1 lladdr {mac} dev eth0 nud permanent",
            ],
        )

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
        self.stop()
        netns.remove([self.ns])

    def __str__(self) -> str:
        return self.name
