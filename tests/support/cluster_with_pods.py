"""Simulated nodes that do the real ADD and DEL in pods in memory, and whose agent can die at any moment.

What an agent does to EC2, to its disk and to pods is counted, in one order: all that would happen side by
side happens one after the other here. Sleeping moves the cluster's clock.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from typing import Any

import pytest

from cni_floatip import operations
from cni_floatip.agent.recovery import recover
from cni_floatip.config.nodeconf import NodeConf
from cni_floatip.model.claim import Claim
from cni_floatip.model.errors import CniError, Ec2Error, Ec2Fault
from cni_floatip.model.values import Attachment, Eni, Network, Node
from cni_floatip.operations.world import Kernel, Metadata
from cni_floatip.protocol import request
from tests.fakes.podnet import FakeLink, FakePod, FakePods
from tests.support.simulated_cluster import CONFIG, POLICY, REGION, VPC, SimulatedCluster, SimulatedNode

EC2 = ("route_tables", "network_interface", "disable_source_dest_check", "create", "replace", "delete")
READS = ("ec2 route_tables", "ec2 network_interface")
DISK = ("put", "erase")
POD = ("add", "remove", "remove_all", "remove_connected", "restore_connected", "clear_pod")
LOSSES = ("answer lost", "request lost")
DEATHS = ("killed before", "killed after")


class Killed(BaseException):
    """The agent has died here."""


@dataclass
class Fate:
    """What becomes of one life of an agent: at its ``number``-th event ``what`` happens.

    A loss waits for the next call to EC2.
    """

    what: str = ""
    number: int = 0
    events: list[str] = field(default_factory=list)
    dead: bool = False
    met: bool = False
    recording: bool = False
    count: int = 0
    then: Fate | None = None
    """That of the next life."""

    def through(self, event: str, act: Callable[[], Any]) -> Any:
        if self.dead:
            raise Killed  # other threads of the process that is no more
        self.count += 1
        can = self.what in DEATHS or event.startswith("ec2 ")
        now = bool(self.what) and can and not self.met and self.count >= self.number
        self.met |= now
        if self.recording:
            self.events.append(event)
        if now and self.what == "killed before":
            self.die()
        lost = Ec2Error(Ec2Fault.UNANSWERED, event, "", "as the test says")
        if now and self.what == "request lost":
            raise lost
        answer = act()
        if now and self.what == "killed after":
            self.die()
        if now and self.what == "answer lost":
            raise lost
        return answer

    def die(self) -> None:
        self.dead = True
        raise Killed


@dataclass
class Life:
    """One process of an agent. Its fate may be decided while it lives."""

    fate: Fate = field(default_factory=Fate)


class MortalEdge:
    """An edge of the agent's, each call of which is an event."""

    def __init__(
        self,
        inner: Any,
        kind: str,
        names: tuple[str, ...],
        node: NodeWithPods,
        forbidden: tuple[str, ...] = (),
    ) -> None:
        self._forbidden = forbidden
        self._inner, self._kind, self._names, self._life = inner, kind, names, node.life

    def __getattr__(self, name: str) -> Any:
        assert name not in self._forbidden, f"the keeper calls {name}"
        real = getattr(self._inner, name)
        if name not in self._names:
            return real
        return lambda *args, **kwargs: self._life.fate.through(
            f"{self._kind} {name}", lambda: real(*args, **kwargs)
        )


class MortalPods:
    """The kernel, as an agent that may die sees it."""

    def __init__(self, node: NodeWithPods) -> None:
        self._node = node
        self.clear_pod = MortalEdge(node.pods, "pod", POD, node).clear_pod
        self.set_up = node.pods.set_up

    @contextmanager
    def open_pod(self, netns: str, ifname: str, *, override: bool = False) -> Iterator[Any]:
        with self._node.pods.open_pod(netns, ifname, override=override) as pod:
            yield MortalEdge(pod, "pod", POD, self._node)


class SimulatedMetadata:
    """A node's instance metadata."""

    def __init__(self, node: NodeWithPods) -> None:
        self._node = node

    def node(self) -> Node:
        return Node(f"i-{self._node.name}", "1", REGION)

    def macs(self) -> tuple[str, ...]:
        return (self.primary_mac(), *map(self._node.mac, range(len(self._node.enis))))

    def knows(self, mac: str) -> bool:
        return mac in self.macs()

    def primary_mac(self) -> str:
        return f"02:00:00:00:{ord(self._node.name):02x}:ff"

    def role(self) -> str:
        return ""

    def eni(self, mac: str) -> Eni:
        number = self.macs().index(mac)
        eni = self._node.enis[number - 1] if number else "eni-primary"
        subnet = (ip_network(f"10.0.{ord(self._node.name)}.0/24"),)
        return Eni(eni, mac, number, VPC, f"subnet-{self._node.name}", subnet, (ip_network("10.0.0.0/16"),))

    def interface_id(self, mac: str) -> str:
        return self.eni(mac).id

    def ask_again(self) -> bool:
        return False

    def close(self) -> None:
        pass


class NodeWithPods(SimulatedNode):
    """A node that does everything as the agent does, but for the socket."""

    def __init__(
        self, cluster: SimulatedCluster, name: str, directory: Path, policy: NodeConf = POLICY
    ) -> None:
        self.life = Life()
        self.pods = FakePods()
        self.spool: list[tuple[dict[str, str], bytes]] = []
        self.deaths = 0
        self.powered = True
        self.in_round = False
        self.calls: dict[Attachment, tuple[dict[str, str], bytes]] = {}
        self._inodes = itertools.count(1)
        super().__init__(cluster, name, directory, policy)

    # -- the agent ------------------------------------------------------------------------------------

    def start(self) -> None:
        super().start()
        try:
            recover(self.world)
            while self.spool:
                operations.delete(request.parse(*self.spool[0]), self.world)
                self.spool.pop(0)
        except Killed:
            self.rise()

    def rise(self) -> None:
        """Start the next agent after the one that died."""
        self.deaths += 1
        self.life = Life(self.life.fate.then or Fate())
        self.start()

    def _memory(self) -> Any:
        return MortalEdge(super()._memory(), "disk", DISK, self)

    def ec2(self) -> Any:
        if self.in_round:  # whatever happens, only an ADD replaces
            return MortalEdge(super().ec2(), "ec2", EC2, self, ("replace",))
        return MortalEdge(super().ec2(), "ec2", EC2, self)

    def kernel(self) -> Kernel:
        return MortalPods(self)

    def metadata(self, deadline: float) -> Metadata:
        return SimulatedMetadata(self)

    def sleep(self, seconds: float) -> None:
        self.cluster.at += seconds

    def round(self) -> float:
        if not self.powered:
            return 60.0
        self.in_round = True
        try:
            return super().round()
        except Killed:
            self.rise()
            return 0.05
        finally:
            self.in_round = False

    # -- the runtime ----------------------------------------------------------------------------------

    def mac(self, eni: int) -> str:
        return f"02:00:00:00:{ord(self.name):02x}:{eni + 1:02x}"

    def pod(self, destination: Network, eni: int = 0, **keys: Any) -> Attachment:
        """Make a pod that has an address. ``keys``: what its network says besides."""
        inode = next(self._inodes)
        path = f"/run/netns/{self.name}-{inode}"
        self.pods.pods[path] = FakePod([FakeLink("net1", mac=self.mac(eni), addresses=[str(destination)])])
        self.netns[path] = inode
        attachment = Attachment("net", f"{self.name}-c{inode}", "net1")
        env = {
            "CNI_CONTAINERID": attachment.container,
            "CNI_NETNS": path,
            "CNI_IFNAME": "net1",
            "CNI_PATH": "/nowhere",
            "CNI_ARGS": f"K8S_POD_NAMESPACE=core;K8S_POD_NAME=p{inode};K8S_POD_UID={self.name}{inode}",
        }
        interface = {"name": "net1", "mac": self.mac(eni), "sandbox": path}
        prev = {"interfaces": [interface], "ips": [{"address": str(destination), "interface": 0}]}
        self.calls[attachment] = env, json.dumps({**CONFIG, **keys, "prevResult": prev}).encode()
        return attachment

    def request_of(self, verb: str, attachment: Attachment) -> request.Request:
        """Return what the runtime requests for a pod: ADD, CHECK or DEL."""
        env, config = self.calls[attachment]
        return request.parse({**env, "CNI_COMMAND": verb}, config)

    def call(self, verb: str, attachment: Attachment, times: int = 3) -> bool:
        """Make a call as its client does: an ADD is repeated when the agent dies, a DEL spooled.

        Return whether it was answered.
        """
        env, config = self.calls[attachment]
        env = {**env, "CNI_COMMAND": verb}
        act = operations.add if verb == "ADD" else operations.delete
        for _ in range(times if verb == "ADD" else 1):
            try:
                act(request.parse(env, config), self.world)
                return True
            except Killed:
                if verb == "DEL":
                    self.spool.append((env, config))
                self.rise()
        return False

    def add_pod(self, destination: Network, eni: int = 0, **keys: Any) -> Attachment | None:
        """Start a pod; None when its ADD failed, after which the runtime calls DEL."""
        attachment = self.pod(destination, eni, **keys)
        try:
            self.call("ADD", attachment)
        except CniError as e:
            self.log(f"{attachment}: {e}")
            self.end_pod(attachment)
            return None
        return attachment

    def end_pod(self, attachment: Attachment, *, message: bool = True) -> None:
        """End a pod. ``message``: the runtime calls DEL, before it removes the namespace."""
        if message:
            self.call("DEL", attachment)
        path = self.calls.pop(attachment)[0]["CNI_NETNS"]
        self.pods.pods.pop(path, None)
        self.netns.pop(path, None)

    def late_del(self, env: dict[str, str], config: bytes) -> None:
        """Call DEL for a pod whose namespace is gone."""
        operations.delete(request.parse({**env, "CNI_COMMAND": "DEL"}, config), self.world)

    def crash(self) -> None:
        """Lose power: pods are gone, and so are the network interfaces until the node is back."""
        self.up = self.powered = False
        self.cluster.ec2.alive -= set(self.enis)
        for attachment in list(self.calls):
            self.end_pod(attachment, message=False)

    def boot(self) -> None:
        self.up = self.powered = True
        self.cluster.ec2.alive |= set(self.enis)
        self.boot_id += "+"
        self.start()


class ClusterWithPods(SimulatedCluster):
    """A cluster of such nodes."""

    nodes: dict[str, NodeWithPods]  # type: ignore[assignment]

    node: type[NodeWithPods] = NodeWithPods

    def __init__(self, directory: Path, nodes: str = "ab", tables: tuple[str, ...] = ("rtb-1",)) -> None:
        super().__init__(directory, nodes, tables, self.node)

    def destination(self, number: int) -> IPv4Network:
        return IPv4Network(f"192.168.0.{number}/32")

    def claims(self) -> list[tuple[str, Claim]]:
        return [(name, claim) for name, node in self.nodes.items() for claim in node.claims.all()[0]]


def in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing happen side by side, and write files without waiting for a disk."""
    monkeypatch.setattr(SimulatedNode, "spawn", lambda *_: None)
    monkeypatch.setattr("os.fsync", lambda _: None)
