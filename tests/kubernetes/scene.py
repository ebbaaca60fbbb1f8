"""What tests on the cluster read of it: the product's state on a node, EC2's routes, times of the API."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from cni_floatip.model.claim import Claim
from cni_floatip.model.claim_state import State
from lab.ec2.journal import Call
from lab.kubernetes.chart import NAMESPACE, RELEASE
from lab.kubernetes.cluster import Cluster
from lab.kubernetes.kubectl import Kubectl
from lab.kubernetes.worker import Worker
from lab.world import Lab
from tests.support.waiting import until

DATA = "/var/lib/cni/floatip"
AGENTS = f"app.kubernetes.io/name={RELEASE}"
WRITES = ("CreateRoute", "ReplaceRoute", "DeleteRoute")
MEASURED = "measured"
"""The property of a test's report that is printed at the end of the run."""
BRIDGE = "shared"
"""The plugin ``bridge`` leaves it on the node."""
OURS = "proto 241"
"""How ``ip`` shows a rule of ours."""


def stamp(text: str) -> float:
    """Return a time of the API in seconds since the epoch; most have whole seconds only."""
    return datetime.fromisoformat(text).timestamp()


def condition(document: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the condition of this type of a node or a pod; an empty document if there is none."""
    conditions = document["status"].get("conditions", [])
    return next((item for item in conditions if item["type"] == kind), {})


def place_on(cluster: Cluster, node: str, *manifests: dict[str, Any]) -> None:
    """Create workloads and see their pods on this node, from where the scheduler may move them later."""

    def nodes() -> set[str | None]:
        return {pod["spec"].get("nodeName") for pod in cluster.kubectl.get("pods")}

    others = [name for name in cluster.workers if name != node]
    cluster.kubectl("cordon", *others)
    try:
        cluster.kubectl.apply(*manifests)
        until(lambda: nodes() == {node}, nodes)  # of a Deployment there is no pod at first
        cluster.kubectl.wait("--for=condition=Ready", "pod", "--all")
    finally:
        cluster.kubectl("uncordon", *others)


def delete_pods(kubectl: Kubectl, *how: str) -> None:
    """Delete all workloads, and wait until no pod is left. ``how``: more options for the pods.

    Controllers go first, because one that still knows its pods would replace what is deleted of them.
    """
    kubectl("delete", "deployments,statefulsets,replicasets", "--all", "--cascade=orphan")
    kubectl("delete", "pods", "--all", *how, "--timeout=120s", timeout=150)
    until(lambda: not kubectl.get("pods"), lambda: kubectl("get", "pods"))


def shared_eni_conflist(lab: Lab) -> dict[str, Any]:
    """Return a chain whose pods share an ENI also where the kernel has no ipvlan; no packet passes there.

    The pod's interface is a veth pair's inner end with the ENI's MAC address, as ipvlan's would have it.
    """
    veth = {"type": "bridge", "bridge": BRIDGE, "capabilities": {"mac": True, "ips": True}}
    plugins = [{**veth, "ipam": {"type": "static"}}, lab.floatip_entry()]
    return {"cniVersion": "1.0.0", "name": "shared", "plugins": plugins}


def shared_eni(mac: str, address: str) -> str:
    """Return what a pod's annotation says to have this address on the ENI with this MAC address."""
    return json.dumps([{"name": "shared", "mac": mac, "ips": [f"{address}/32"]}])


# -- agents -------------------------------------------------------------------------------------------------


def agents(kubectl: Kubectl, *, ending: bool = False) -> dict[str, dict[str, Any]]:
    """Return the agents' pods by node; those that end are left out, unless they are wanted."""
    pods = kubectl.get("pods", "-n", NAMESPACE, "-l", AGENTS)
    return {
        pod["spec"]["nodeName"]: pod for pod in pods if ending or "deletionTimestamp" not in pod["metadata"]
    }


def log(cluster: Cluster, node: str) -> list[dict[str, Any]]:
    """Return the lines that the node's agent has logged."""
    name = agents(cluster.kubectl)[node]["metadata"]["name"]
    lines = cluster.kubectl("logs", "-n", NAMESPACE, name).splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


# -- a node -------------------------------------------------------------------------------------------------


def claims(worker: Worker) -> list[Claim]:
    """Return the claims on the node's disk."""
    records = []
    for path in sorted(worker.path(f"{DATA}/claims").glob("*.json")):
        with contextlib.suppress(FileNotFoundError):  # forgotten meanwhile
            records.append(Claim.parse(json.loads(path.read_text())))
    return records


def unfinished(worker: Worker) -> list[Claim]:
    """Return the claims that hold a route or have one to release.

    A claim that is ``gone`` stays on the disk for 20 minutes, because a late write may land.
    """
    return [claim for claim in claims(worker) if claim.state is not State.GONE]


def spooled(worker: Worker) -> list[Path]:
    """Return the DELs that wait for an agent."""
    return sorted(worker.path(f"{DATA}/spool").glob("*"))


def namespaces(worker: Worker) -> list[str]:
    """Return the network namespaces of pods on the node."""
    return worker.enter("ls", "/run/netns").stdout.split()


def links(worker: Worker) -> list[str]:
    """Return the links of the node that are not there without a pod."""
    shown = json.loads(worker.enter("ip", "-json", "link").stdout)
    known = {"lo", BRIDGE, *(eni.ifname for eni in worker.node.enis)}
    return sorted(link["ifname"] for link in shown if link["ifname"] not in known)


def rules(worker: Worker) -> list[str]:
    """Return the rules that keep the node from forwarding an ENI's packets; the metadata guard may stay."""
    shown = [worker.enter("ip", family, "rule").stdout.splitlines() for family in ("-4", "-6")]
    return [rule for family in shown for rule in family if OURS in rule]


def commands(worker: Worker) -> Iterator[tuple[int, bytes]]:
    """Yield the processes of the node with their command lines, as ``/proc`` has them."""
    for pid in worker.pids():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            yield pid, (worker.proc(pid) / "cmdline").read_bytes()


def pauses(worker: Worker) -> list[int]:
    """Return the first processes of the sandboxes with a network of their own: agents have the node's."""
    nodes_own = (worker.proc(1) / "ns/net").readlink()
    pids = []
    for pid, command in commands(worker):
        if command.startswith(b"/pod\0pause"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                if (worker.proc(pid) / "ns/net").readlink() != nodes_own:
                    pids.append(pid)
    return pids


# -- EC2 ----------------------------------------------------------------------------------------------------


def floating_routes(cluster: Cluster) -> list[str]:
    """Return the routes to floating addresses that EC2 holds, one text for each in each table."""
    lab = cluster.lab
    return [
        f"{name} {destination} -> {route}"
        for name, table in lab.tables.items()
        for destination, route in lab.ec2.truth(table).items()
        if _is_floating(cluster, destination)
    ]


def _is_floating(cluster: Cluster, destination: str) -> bool:
    network = ip_network(destination)
    ours = cluster.lab.floating if network.version == 4 else cluster.lab.floating6
    return network.subnet_of(ours) and network != ours  # type: ignore[arg-type]


def writes(cluster: Cluster, *, since: float = 0.0, caller: str | None = None) -> list[Call]:
    """Return the writes of routes that EC2 carried out from a moment (``time.time()``) on."""
    calls = cluster.lab.ec2.journal.of(caller=caller)
    return [call for call in calls if call.at >= since and call.action in WRITES and call.outcome == "ok"]


# -- all of it ----------------------------------------------------------------------------------------------


def left(cluster: Cluster, nodes: Iterable[str] | None = None) -> list[str]:
    """Return what is left of pods that are gone, in EC2 and on nodes."""
    remains = floating_routes(cluster)
    for name in nodes or cluster.workers:
        worker = cluster.workers[name]
        remains += [f"{name}: claim {claim}" for claim in unfinished(worker)]
        remains += [f"{name}: spooled {path.name}" for path in spooled(worker)]
        remains += [f"{name}: namespace {namespace}" for namespace in namespaces(worker)]
        remains += [f"{name}: link {link}" for link in links(worker)]
        remains += [f"{name}: rule {rule}" for rule in rules(worker)]
    return remains


def wait_released(cluster: Cluster) -> None:
    """Wait until nothing is left of pods that are gone; the agents' grace ends first."""
    until(lambda: not left(cluster), lambda: "\n".join(left(cluster)))


def wait_clean(cluster: Cluster) -> None:
    """Wait until nothing is left of pods that are gone, and remove what other plugins leave on a node."""
    wait_released(cluster)
    for worker in cluster.workers.values():
        worker.enter("ip", "link", "del", BRIDGE)
