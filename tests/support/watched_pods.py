"""A node with pods that move addresses by themselves: its claims on a real disk, EC2 and metadata in memory.

The pods are in memory too, or in the kernel: ``World.kernel`` decides.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from cni_floatip.agent.claim_cache import ClaimCache
from cni_floatip.config.nodeconf import NodeConf
from cni_floatip.edges import host
from cni_floatip.edges.store import Store
from cni_floatip.model.claim import Claim
from cni_floatip.model.values import Attachment, Eni, Node, PodIdentity, RouteTarget, Subnet
from cni_floatip.operations.add import add
from cni_floatip.operations.world import World, start_thread
from cni_floatip.protocol.request import Request
from tests.fakes.election import FakeElection
from tests.fakes.vpc import FakeVpc

ENI_MAC = "02:00:00:00:00:01"
ENI = Eni(
    "eni-here", ENI_MAC, 1, "vpc-1", "subnet-1", (ip_network("10.10.1.0/24"),), (ip_network("10.10.0.0/16"),)
)
DUMMY = Subnet("subnet-dummy", "vpc-1", "1", (ip_network("10.10.254.0/28"),))
LIVED_IN = Subnet("subnet-lived-in", "vpc-1", "1", (ip_network("10.10.2.0/28"),))
POLICY: dict[str, Any] = {
    "allowedDestinations": [{"cidr": "192.168.0.0/16", "namespaces": ["core"]}, {"cidr": "10.10.0.0/16"}],
    "allowedRouteTables": {"ids": ["rtb-a", "rtb-b"]},
    "allowHostDevice": True,  # the pods' parents are in a namespace that is not this process's
}


@dataclass
class Ec2(FakeVpc):
    """EC2 with subnets. ``before_write`` is called before each write, with what it is."""

    before_write: Callable[[str], None] = lambda what: None
    lock: Any = field(default_factory=threading.Lock)

    def subnets(self, filters: Mapping[str, Sequence[str]], account: str = "") -> tuple[Subnet, ...]:
        return (DUMMY, LIVED_IN)

    def interfaces_in(self, subnets: Sequence[str], account: str = "") -> dict[str, str]:
        return {"subnet-lived-in": "eni-of-somebody"} if "subnet-lived-in" in subnets else {}

    def _call(self, what: str, apply: Any) -> None:
        self.before_write(what)
        with self.lock:
            super()._call(what, apply)

    def leads(self, destination: str) -> list[str]:
        """Say where each table leads."""
        network = ip_network(destination)
        return [str(routes.get(network, "-")) for _, routes in sorted(self.tables.items())]

    def point(self, destination: str, eni: str, *, is_eni: bool = True, active: bool = True) -> None:
        for routes in self.tables.values():
            routes[ip_network(destination)] = RouteTarget(eni, is_eni, active)


class Metadata:
    """Instance metadata of a node with one floating ENI, for each MAC of ``macs``."""

    def __init__(self) -> None:
        self.known = [ENI_MAC]
        self.remembered: Eni | None = None
        """What is remembered of each ENI, and shown until somebody asks again."""

    def node(self) -> Node:
        return Node("i-1", "1", "eu-west-1")

    def macs(self) -> tuple[str, ...]:
        return ("02:00:00:00:00:ff", *self.known)

    def knows(self, mac: str) -> bool:
        return mac in self.macs()

    def primary_mac(self) -> str:
        return "02:00:00:00:00:ff"

    def role(self) -> str:
        return ""

    def eni(self, mac: str) -> Eni:
        if mac not in self.known:
            return replace(ENI, id="eni-0", device_number=0)
        return replace(self.remembered or ENI, mac=mac)

    def interface_id(self, mac: str) -> str:
        return self.eni(mac).id

    def ask_again(self) -> bool:
        before, self.remembered = self.remembered, None
        return before is not None

    def close(self) -> None:
        pass


class Place:
    """The node: its world, and the calls that runtimes make on it."""

    def __init__(self, directory: Path, kernel: Any, inode: Callable[[str], int], **policy: Any) -> None:
        self.directory = directory
        self.ec2 = Ec2({"rtb-a": {}, "rtb-b": {}})
        self.metadata = Metadata()
        self.election = FakeElection()
        self.logged: list[str] = []
        self.woken = 0
        self.kernel = kernel
        self.inode = inode
        self.policy = NodeConf.parse({**POLICY, "dataDir": str(directory), **policy})
        self.clock: Callable[[], float] = time.monotonic
        self.claims = self._memory()

    def _memory(self) -> ClaimCache:
        return ClaimCache(Store(str(self.directory), sleep=time.sleep, clock=time.monotonic), time.time)

    def restart(self) -> None:
        """Forget what an agent has in memory."""
        self.claims = self._memory()

    def _later(self) -> None:
        self.woken += 1

    @property
    def world(self) -> World:
        return World(
            policy=self.policy,
            on_delete="release",
            claims=self.claims,
            kernel=lambda: self.kernel,
            metadata=lambda _: self.metadata,
            vpc=lambda _: self.ec2,
            boot=lambda: "boot-1",
            inode=self.inode,
            namespaces=host,
            clock=self.clock,
            now=time.time,
            sleep=time.sleep,
            jitter=lambda: 0.5,
            log=lambda sentence, *_, **__: self.logged.append(sentence),
            cancelled=lambda: None,
            wake_keeper=self._later,
            election=self.election,
            run_in_thread=start_thread,
        )

    def add(self, netns: str, *addresses: str, **output: Any) -> Attachment:
        """Make the ADD of a pod's net1, as its runtime does."""
        request = self.request("ADD", netns, *addresses, **output)
        add(request, self.world)
        return request.attachment

    def request(
        self,
        verb: str,
        netns: str,
        *addresses: str,
        container: str = "c1",
        mac: str = ENI_MAC,
        **keys: Any,
    ) -> Request:
        """Return a call for a pod's net1; None leaves a key out."""
        attachment = Attachment("floating", container, "net1")
        config = {
            "cniVersion": "1.0.0",
            "name": "floating",
            "type": "floatip",
            "routeTables": {"ids": ["rtb-a", "rtb-b"]},
            "watchAddresses": ["192.168.0.0/16", "172.16.0.0/12", "10.10.0.0/16", "fd00:5::/64", "::/0"],
            **keys,
            "prevResult": {
                "interfaces": [{"name": "net1", "mac": mac, "sandbox": netns}],
                "ips": [{"address": address, "interface": 0} for address in addresses],
            },
        }
        config = {key: value for key, value in config.items() if value is not None}
        return Request(verb, "1.0.0", attachment, netns, config, PodIdentity("core", "web-0", "uid-1"))

    def claim(self, attachment: Attachment) -> Claim:
        record = self.claims.get(attachment)
        assert isinstance(record, Claim)
        return record

    def states(self, attachment: Attachment) -> dict[str, str]:
        """Say how far each destination is, in both tables alike."""
        results: dict[str, set[str]] = {}
        for route in self.claim(attachment).routes:
            results.setdefault(str(route.key.destination), set()).add(route.state.value)
        return {destination: "/".join(sorted(states)) for destination, states in results.items()}


@contextlib.contextmanager
def running(body: Callable[[threading.Event], object]) -> Any:
    """Run a thread's body for the length of a ``with`` block."""
    stop = threading.Event()
    thread = threading.Thread(target=body, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()
