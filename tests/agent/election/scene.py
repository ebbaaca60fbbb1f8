"""Nodes whose agents elect: the stand-in for Kubernetes over real sockets, one EC2 in memory for all nodes.

Each node has what an agent has for elections: claims on disk, a keeper, and the threads. ADDs are made by the
operations themselves, in pods in memory. What the kubelet and the scheduler do, the test does.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cni_floatip.agent.claim_cache import ClaimCache
from cni_floatip.agent.election.elections import AgentElections, AgentParts, Cluster
from cni_floatip.agent.election.view import ElectionView
from cni_floatip.agent.keeper.loop import Keeper
from cni_floatip.agent.observe.recorder import NullRecorder
from cni_floatip.agent.recovery import monotonic_wall_clock, recover
from cni_floatip.agent.worker_pool import WorkerPool
from cni_floatip.config.nodeconf import NodeConf
from cni_floatip.edges import host
from cni_floatip.edges.kubernetes.servers import ApiAddress, ApiServers
from cni_floatip.edges.store import Store
from cni_floatip.election.lease import GroupLease
from cni_floatip.model.errors import Ec2Error, Ec2Fault
from cni_floatip.model.values import Attachment, Eni, PodIdentity
from cni_floatip.operations.add import add
from cni_floatip.operations.delete import delete
from cni_floatip.operations.world import World, start_thread
from cni_floatip.protocol.request import Request
from lab.kubernetes.standin import Key, StandIn
from tests.fakes.podnet import FakeLink, FakePod, FakePods
from tests.support.waiting import until
from tests.support.watched_pods import ENI, ENI_MAC, POLICY, Ec2, Metadata

NAMESPACE = "floatip-elections"
ADDRESS = "192.168.0.5/32"
TIMES = {"renewSeconds": 0.25, "leaseSeconds": 2, "vetoSeconds": 60}


class NodeEc2:
    """EC2 as one node reaches it: ``fault`` is what every call of it gets, None for none."""

    def __init__(self, ec2: Ec2) -> None:
        self._ec2 = ec2
        self.fault: Ec2Fault | None = None

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._ec2, name)
        if not callable(method):
            return method

        def call(*args: Any, **kwargs: Any) -> Any:
            if self.fault:
                raise Ec2Error(self.fault, name, "Planted", "as the test says")
            return method(*args, **kwargs)

        return call

    def close(self) -> None:
        pass


class NodeMetadata(Metadata):
    """Instance metadata of one of several nodes."""

    def __init__(self, eni: Eni) -> None:
        super().__init__()
        self._eni = eni

    def eni(self, mac: str) -> Eni:
        return replace(self._eni, mac=mac) if mac in self.known else super().eni(mac)


@dataclass
class Log:
    """What an agent has logged: sentences, and the events among them."""

    lines: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)

    def __call__(self, sentence: str, level: str = "info", **fields: object) -> None:
        with self.lock:
            self.lines.append(f"{time.monotonic():.3f} {level} {sentence}")
        if fields.get("event"):
            self.events.append(str(fields["event"]))

    def failure(self, sentence: str, e: BaseException, **_: object) -> None:
        import traceback

        self.lines.append("FAILURE " + sentence + ": " + "".join(traceback.format_exception(e)))


class AgentNode:
    """A node; ``start`` and ``stop`` are its agent's."""

    def __init__(self, scene: Scene, name: str, zone: str, directory: Path) -> None:
        self.scene = scene
        self.name = name
        self.zone = zone
        self.host = f"10.0.0.{len(scene.nodes) + 1}"
        self.directory = directory
        self.eni = f"eni-{name}"
        self.ec2 = NodeEc2(scene.ec2)
        self.kernel = FakePods({})
        self.log = Log()
        self.answers = True
        self.metadata = NodeMetadata(replace(ENI, id=self.eni))
        self.policy = NodeConf.parse(
            {**POLICY, "dataDir": str(directory), "elections": scene.times, "releaseGraceSeconds": 1}
        )
        self.threads: list[threading.Thread] = []
        self.stop_event = threading.Event()
        self.elections: AgentElections | None = None
        self.publish()

    def publish(self, *, cordoned: bool = False) -> None:
        """Write the Node as the kubelet does."""
        document = {
            "metadata": {"name": self.name, "labels": {"topology.kubernetes.io/zone": self.zone}},
            "spec": {"unschedulable": True} if cordoned else {},
            "status": {
                "addresses": [{"type": "InternalIP", "address": self.host}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            },
        }
        self.scene.put("nodes", self.name, document)

    # -- its agent ------------------------------------------------------------------------------------

    def start(self) -> AgentNode:
        self.stop_event = stop = threading.Event()
        now = monotonic_wall_clock(time.time, host.clock)
        self.claims = ClaimCache(Store(str(self.directory), sleep=time.sleep, clock=time.monotonic), now)
        self.view = ElectionView()
        self.world = self._world(now)
        recover(self.world)
        self.keeper = Keeper(self.world, NullRecorder(), present=lambda: {self.eni}, failed=self.log.failure)
        parts = AgentParts(
            caller=lambda _: self.ec2,
            look=self.keeper.look_soon,
            is_cut_off=self.keeper.is_cut_off,
            run_in_thread=WorkerPool(),
            failed=self.log.failure,
            probe=lambda host, port, seconds: self.scene.probe(host),
        )
        servers = ApiServers(ApiAddress(*self.scene.api.addresses[0]))
        servers.endpoints = tuple(ApiAddress(*address) for address in self.scene.api.addresses)
        cluster = Cluster(self.name, servers, self.scene.api.account)
        self.elections = AgentElections(self.world, self.view, cluster, parts, NullRecorder())
        self.claims.listen(self.keeper.on_claim_change)
        self.elections.attend(self.claims.listen)
        for name, body in [*self.elections.bodies(), ("keeper", self.keeper.run)]:
            thread = threading.Thread(target=body, args=[stop], name=f"{self.name} {name}", daemon=True)
            thread.start()
            self.threads.append(thread)
        return self

    def end(self) -> None:
        """End the agent as SIGTERM does."""
        assert self.elections
        self.elections.begin_ending()
        before = self.scene.renewals(self.name)
        if self.elections.driver._duties and any(
            renews for renews, _ in self.elections.driver._duties.values()
        ):
            until(lambda: self.scene.renewals(self.name) != before)
        self.kill()

    def kill(self) -> None:
        """End the agent as SIGKILL does: nothing is sent after this."""
        if self.elections is None:
            return
        self.stop_event.set()
        self.keeper.wake()
        self.elections.close()
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive(), thread.name
        self.threads = []
        self.elections = None

    def die(self) -> None:
        """The node is gone: agent, kubelet, kernel."""
        self.answers = False
        self.kill()

    def _world(self, now: Callable[[], float]) -> World:
        return World(
            policy=self.policy,
            on_delete="release",
            claims=self.claims,
            kernel=lambda: self.kernel,
            metadata=lambda _: self.metadata,
            vpc=lambda _: self.ec2,
            boot=lambda: f"boot-of-{self.name}",
            inode=lambda path: 1,
            namespaces=host,
            clock=host.clock,
            now=now,
            sleep=time.sleep,
            jitter=lambda: 0.5,
            log=self.log,
            cancelled=lambda: None,
            wake_keeper=lambda: None,
            election=self.view,
            run_in_thread=start_thread,
        )

    # -- its runtime ----------------------------------------------------------------------------------

    def add(self, pod: Pod) -> None:
        netns = f"/run/netns/{pod.uid}"
        link = FakeLink(pod.ifname, ENI_MAC, addresses=[pod.address])
        self.kernel.pods[netns] = FakePod([link])
        add(pod.request("ADD", netns), self.world)

    def delete(self, pod: Pod) -> None:
        delete(pod.request("DEL", f"/run/netns/{pod.uid}"), self.world)

    # -- what it knows --------------------------------------------------------------------------------

    def silence(self, node: str) -> float:
        """Return for how many seconds this agent has seen no renewal of a node that it follows."""
        followed = self.elections.driver.surroundings.node_of(node) if self.elections else None
        return host.clock() - followed.changed_at if followed else 0.0

    def role(self, group: str) -> str:
        reports = self.elections.observer.reports() if self.elections else {}
        return reports[group].role if group in reports else "none"


@dataclass
class Pod:
    """A pod with one elected interface, and its copy in Kubernetes."""

    scene: Scene
    node: AgentNode
    name: str
    address: str = ADDRESS
    group: str | None = None
    ifname: str = "net1"
    uid: str = ""

    @property
    def full_group(self) -> str:
        return f"core/{self.group or self.address.partition('/')[0]}"

    def request(self, verb: str, netns: str) -> Request:
        attachment = Attachment("floating", f"c-{self.uid}", self.ifname)
        config: dict[str, Any] = {
            "cniVersion": "1.0.0",
            "name": "floating",
            "type": "floatip",
            "routeTables": {"ids": ["rtb-a", "rtb-b"]},
            "activate": "ready",
            "prevResult": {
                "interfaces": [{"name": self.ifname, "mac": ENI_MAC, "sandbox": netns}],
                "ips": [{"address": self.address, "interface": 0}],
            },
        }
        if self.group:
            config["election"] = {"group": self.group}
        return Request(verb, "1.0.0", attachment, netns, config, PodIdentity("core", self.name, self.uid))

    def publish(self, *, ready: bool = True, phase: str = "Running", terminating: bool = False) -> None:
        """Write the pod as the kubelet does."""
        now = datetime.fromtimestamp(time.time() + 1, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        meta: dict[str, Any] = {}
        if terminating:
            meta["deletionTimestamp"] = now
        status: dict[str, Any] = {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"state": {"running": {"startedAt": now}}}] if phase == "Running" else [],
        }
        document = {"metadata": meta, "spec": {"nodeName": self.node.name}, "status": status}
        self.uid = self.scene.api.put("pods", self.name, document, "core")["metadata"]["uid"]

    def remove(self) -> None:
        self.scene.api.remove("pods", self.name, "core")


class Scene:
    """The cluster and the VPC."""

    def __init__(self, directory: Path, api: StandIn, times: Mapping[str, Any]) -> None:
        self.api = api
        self.times = dict(times)
        self.directory = directory
        self.ec2 = Ec2({"rtb-a": {}, "rtb-b": {}})
        self.nodes: dict[str, AgentNode] = {}
        self.pods: dict[str, Pod] = {}

    def put(self, plural: str, name: str, document: dict[str, Any], namespace: str = "") -> None:
        self.api.put(plural, name, document, namespace)

    def node(self, name: str, zone: str = "") -> AgentNode:
        node = AgentNode(self, name, zone or f"zone-{name}", self.directory / name)
        self.nodes[name] = node
        return node.start()

    def pod(self, node: AgentNode, name: str, *, ready: bool = True, **fields: Any) -> Pod:
        """Make a pod: its ADD, and then what the kubelet writes."""
        pod = self.pods[name] = Pod(self, node, name, **fields)
        pod.publish(ready=False, phase="Pending")
        node.add(pod)
        pod.publish(ready=ready)
        return pod

    def probe(self, host_address: str) -> bool:
        return next(node.answers for node in self.nodes.values() if node.host == host_address)

    # -- what there is --------------------------------------------------------------------------------

    def leads(self, address: str = ADDRESS) -> list[str]:
        with self.ec2.lock:
            return self.ec2.leads(address)

    def lease(self, pod: Pod) -> GroupLease | None:
        name = GroupLease(pod.full_group).name
        document = self.api.storage.get(Key("leases", NAMESPACE, name))
        return GroupLease.parse(document) if document else None

    def holder(self, pod: Pod) -> str:
        lease = self.lease(pod)
        return lease.holder.pod if lease and lease.holder else ""

    def renewals(self, node: str) -> str:
        document = self.api.storage.get(Key("leases", NAMESPACE, f"node.{node}"))
        return str(document["metadata"]["resourceVersion"]) if document else ""

    def has_renewed(self, node: str, since: str) -> bool:
        return self.renewals(node) != since

    def node_lease(self, node: str) -> dict[str, Any]:
        document = self.api.storage.get(Key("leases", NAMESPACE, f"node.{node}"))
        assert document
        return document

    def event_documents(self) -> list[dict[str, Any]]:
        return [document for _, document in self.api.storage.all("events")]

    def events(self) -> list[tuple[str, str]]:
        """Return the Events, as pods and reasons."""
        return [(event["involvedObject"]["name"], event["reason"]) for event in self.event_documents()]

    def holders(self) -> list[str]:
        """Return the holders of group Leases, each time that one became it."""
        results: dict[str, list[str]] = {}
        for call in self.api.calls:
            if call.resource == "leases" and call.status < 300 and call.verb in ("create", "update"):
                document = json.loads(call.body)
                if document["metadata"]["name"].startswith("group."):
                    holder = document["spec"].get("holderIdentity", "")
                    known = results.setdefault(document["metadata"]["name"], [])
                    if known[-1:] != [holder]:
                        known.append(holder)
        return [holder for holders in results.values() for holder in holders]

    def dump(self) -> str:
        lines = [f"routes {self.leads()}"]
        for node in self.nodes.values():
            lines += [f"-- {node.name}", *node.log.lines[-40:]]
            if node.elections:
                lines += [repr(report) for report in node.elections.observer.reports().values()]
        lines += [str(call) for call in self.api.calls[-30:]]
        return "\n".join(lines)

    def until_active(self, pod: Pod, seconds: float = 60.0) -> None:
        """Wait until a pod holds its group, and its routes lead to its node."""
        until(lambda: self.holder(pod) == pod.name, self.dump, seconds=seconds)
        until(lambda: set(self.leads(pod.address)) == {pod.node.eni}, self.dump, seconds=seconds)

    def close(self) -> None:
        for node in self.nodes.values():
            node.kill()
        failures = [line for node in self.nodes.values() for line in node.log.lines if "FAILURE" in line]
        assert not failures, "\n".join(failures)


@contextlib.contextmanager
def running_scene(directory: Path, times: Mapping[str, Any] = TIMES) -> Iterator[Scene]:
    with StandIn(directory / "api") as api:
        api.add_namespace(NAMESPACE)
        api.add_namespace("core")
        scene = Scene(directory, api, times)
        try:
            yield scene
        finally:
            scene.close()
