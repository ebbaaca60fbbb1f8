"""The world of the failover bench: a Kubernetes on two nodes in two zones, watched by this machine's clock.

``deploy`` puts the application on a node, ``during`` measures what the client of the VPC sees while something
happens, and ``marks`` tells when the steps of that ended.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bench import node_logs
from bench.api_watch import Event, Watch
from bench.timeline import Marks, Span, silence
from lab import netns
from lab.client import Probe, Report
from lab.ec2.journal import Call
from lab.errors import LabError
from lab.kubernetes.cluster import MACHINES, Cluster, Materials, Settings
from lab.kubernetes.controlplane import ADMIN
from lab.kubernetes.manifests import deployment, network
from lab.kubernetes.process import Process
from lab.vpc import IFNAMES
from lab.world import EC2_PORT, Lab

ADDRESS, POLLED, VIP = "192.168.0.2", "192.168.0.3", "192.168.0.100"
OWN = {"a1": "192.168.0.11", "b1": "192.168.0.12"}
"""What keepalived's pods have besides the address that they move."""

THIRD = IFNAMES[2]
"""The ENI of the address that the sidecar leads; the second one is that of ours."""

EC2_SECONDS = 0.05
INTERVAL = 0.005
"""Seconds between the client's datagrams."""

WITHIN = 180.0
AFTER = 0.5
"""Seconds that are still watched after the first answer."""

WRITES = ("CreateRoute", "ReplaceRoute")


@dataclass(frozen=True, slots=True)
class Observation:
    """What the client saw of an address: the longest silence, and who answered after it."""

    outage: Span
    by: str
    sent: int
    lost: int


class FailoverLab:
    """``with FailoverLab(materials, settings) as world:``"""

    def __init__(self, parts: Materials, settings: Settings) -> None:
        self._parts = parts
        self._settings = settings

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as ends:
            self.lab = ends.enter_context(Lab(2, 1, machines=MACHINES))
            self.cluster = ends.enter_context(Cluster(self.lab, self._parts, self._settings))
            self.kubectl = self.cluster.kubectl
            self.pods = ends.enter_context(self._watch("/api/v1/namespaces/default/pods"))
            self.nodes = ends.enter_context(self._watch("/api/v1/nodes"))
            for node in self.lab.nodes.values():
                where = (str(node.primary.addresses[0]), EC2_PORT)
                self.lab.ec2.listen(netns.inside(node.ns, socket.create_server, where), node.name)
            self.lab.ec2.faults.latency(EC2_SECONDS)
            self._create_networks()
            self._ends = ends.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def _watch(self, path: str) -> Watch:
        control = self.cluster.control
        server = (control.endpoints[0].address, control.endpoints[0].port)
        watch = Watch(self.kubectl.namespace, server, control.tokens[ADMIN], control.authority.certificate)
        return watch.of(path)

    def _create_networks(self) -> None:
        """Create the networks: ours, that of the polling sidecar, and one for each pod of keepalived."""
        ec2 = self.lab.ec2.client()
        for node in self.lab.nodes.values():
            netns.ip(node.ns, [f"link set {THIRD} up"])
            eni = node.eni(THIRD).id
            ec2.modify_network_interface_attribute(NetworkInterfaceId=eni, SourceDestCheck={"Value": False})
        polled = self.lab.conflist([f"{POLLED}/32"], name="polled", eth=THIRD)
        polled["plugins"] = polled["plugins"][:1]
        watched = [
            self.lab.conflist([f"{own}/32"], name=f"watched-{node}", watchAddresses=[f"{VIP}/32"])
            for node, own in OWN.items()
        ]
        chains = [self.lab.conflist([f"{ADDRESS}/32"]), polled, *watched]
        self.kubectl.apply(*(network(chain) for chain in chains))

    # -- the application ----------------------------------------------------------------------------------

    def deploy(self, name: str = "web", *, networks: str = "floating", **more: Any) -> None:
        """Create the Deployment on the node ``a1``, and wait until its pod is ready."""
        self.kubectl("cordon", "b1")
        self.kubectl.apply(deployment(name, networks=networks, **more))
        self.kubectl_within("rollout", "status", f"deployment/{name}")
        self.kubectl("uncordon", "b1")

    def kubectl_within(self, *arguments: str) -> None:
        """Run a command that waits, for as long as anything is waited for here."""
        self.kubectl(*arguments, f"--timeout={WITHIN:g}s", timeout=WITHIN + 30)

    def clear(self) -> None:
        """Delete what is in the namespace ``default``, and wait until it is gone."""
        self.kubectl("uncordon", *self.cluster.workers)
        self.kubectl_within("delete", "deployments,pods", "--all")
        self.pods.wait(lambda pods: not pods, "the pods are gone", WITHIN)

    def recover(self, node: str) -> None:
        """Boot a node that lost its power, and wait until it is as before."""
        worker = self.cluster.workers[node]
        worker.boot()
        netns.ip(worker.node.ns, [f"link set {THIRD} up"])
        self.cluster.wait_nodes(node)
        self.nodes.wait(lambda nodes: nodes[node].is_ready, f"node {node} is ready", WITHIN)
        self.cluster.chart.rollout_status()

    # -- the client ---------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def asking(self, *addresses: str) -> Iterator[list[Probe]]:
        """Send datagrams to each address all the time."""
        client = self.lab.clients["vpc"]
        with contextlib.ExitStack() as ends:
            yield [ends.enter_context(client.probe(address, interval=INTERVAL)) for address in addresses]

    def during(self, happens: Callable[[], object], app: str, address: str) -> tuple[float, Observation]:
        """Return when this began, and what the client saw until a pod that came later answered."""
        began, (what,) = self.during_both(happens, {app: address})
        return began, what

    def during_both(
        self, happens: Callable[[], object], addresses: Mapping[str, str]
    ) -> tuple[float, list[Observation]]:
        """Do that for several addresses at once, by the name of their Deployments."""
        with self.asking(*addresses.values()) as probes:
            began = time.monotonic()
            happens()
            ends = [
                self.await_answer(probe, lambda pod, app=app: self._is_new(pod, app, began))  # type: ignore[misc]
                for app, probe in zip(addresses, probes, strict=True)
            ]
            time.sleep(AFTER)
        return began, [
            observe(probe.report, Span(began, end + AFTER)) for probe, end in zip(probes, ends, strict=True)
        ]

    def _is_new(self, pod: str, app: str, since: float) -> bool:
        return pod.startswith(f"{app}-") and self.created(pod, since) is not None

    def await_answer(self, probe: Probe, so: Callable[[str], bool]) -> float:
        """Wait until such a pod answers; return when. Raises ``LabError`` if none does."""
        end = time.monotonic() + WITHIN
        while time.monotonic() < end:
            for pod, (first, _) in probe.look()["by"].items():
                if so(pod):
                    return float(first)
            time.sleep(0.02)
        raise LabError(f"no answer from the replacement within {WITHIN:g} s")

    # -- the steps ----------------------------------------------------------------------------------------

    def created(self, pod: str, since: float) -> Event | None:
        """Return the event of a pod's creation, if that was since then."""
        return self.pods.first(lambda event: event.name == pod and event.kind == "ADDED", since)

    def marks(self, pod: str, since: float, *, lost: str = "", mover: str = "") -> Marks:
        """Return when each step towards this pod ended.

        ``lost``: the node that failed. ``mover``: the container that moves the route; "" is floatip's ADD.
        """
        added = self.created(pod, since)
        bound = self.pods.first(lambda event: event.name == pod and bool(event.node), since)
        if added is None or bound is None:
            raise LabError(f"who answers after the outage, {pod!r}, is not the replacement")
        noticed = self.nodes.first(lambda event: event.name == lost and not event.is_ready, since)
        worker = self.cluster.workers[bound.node]
        booted = node_logs.boot(worker.containerd.log, bound.uid)
        calls = self._calls(bound.node, since)
        if mover:
            add = Span(booted.began(mover), last_write(calls, f"{POLLED}/32"))
        else:
            add = node_logs.add(node_logs.agent_log(worker.path("/var/log")), bound.uid)
        return Marks(
            noticed=noticed.at if noticed else None,
            created=added.at,
            bound=bound.at,
            add_began=add.begin,
            add_ended=add.end,
            started=booted.began("app"),
            calls=[span(call) for call in calls],
        )

    def watched_marks(self, node: str, appeared: float) -> Marks:
        """Return the steps where an address that appears in a pod of this node is claimed."""
        calls = self._calls(node, appeared)
        return Marks(
            noticed=appeared, add_ended=last_write(calls, f"{VIP}/32"), calls=[span(call) for call in calls]
        )

    def _calls(self, node: str, since: float) -> list[Call]:
        return [call for call in self.lab.ec2.journal.of(caller=node) if call.answered >= since]

    # -- keepalived ---------------------------------------------------------------------------------------

    def in_pod(self, node: str, name: str, *argv: str) -> Process:
        """Return a program that runs in the network namespace of a node's only pod, until the node ends."""
        worker = self.cluster.workers[node]
        pods = [
            pid
            for pid in worker.pids()
            if (worker.proc(pid) / "cmdline").read_bytes().startswith(b"/pod\0answer")
        ]
        into = ("nsenter", "--target", str(pods[0]), "--net")
        return Process(f"{name}-{node}", worker.node.ns, [*into, *argv], self.lab.state).inside(
            worker.leader, ()
        )

    def disk(self, node: str) -> Path:
        """Return a directory of the node's disk; the node itself knows it as ``/var/lib/kubelet``."""
        return self.cluster.workers[node].path("/var/lib/kubelet")


def observe(report: Report, within: Span) -> Observation:
    """Return the longest silence within these times, and who answered at its end."""
    answered = {item.answered: item.by or "" for item in report.datagrams if item.answered is not None}
    outage = silence(answered, within)
    part = report.between(within.begin, within.end)
    return Observation(outage, answered.get(outage.end, ""), part.sent, part.lost)


def span(call: Call) -> Span:
    return Span(call.answered - call.seconds, call.answered)


def last_write(calls: Sequence[Call], destination: str) -> float:
    """Return when EC2 had answered the last write of a destination that it carried out by then."""
    writes = [
        call.answered
        for call in calls
        if call.action in WRITES and call.outcome == "ok" and destination in call.params.values()
    ]
    if not writes:
        raise LabError(f"nobody has written {destination}")
    return max(writes)
