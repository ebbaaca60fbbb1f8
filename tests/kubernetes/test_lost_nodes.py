"""A node is lost, cut off or boots again: who answers the floating IP, and what becomes of the old pod.

Nodes fail as ``lab.kubernetes.cluster.QUICK`` says: noticed after 6 s, not after 40 to 55.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cni_floatip.model.claim_state import State
from lab.kubernetes.cluster import Cluster
from lab.kubernetes.kubectl import Kubectl
from lab.kubernetes.manifests import deployment, network, pod
from lab.kubernetes.worker import Worker
from tests.kubernetes import scene
from tests.support.lab_state import only, targets
from tests.support.waiting import until

ADDRESS, ADDRESS6, ANOTHER = "192.168.0.21", "fd00:192:168::21", "192.168.0.22"
TOLERATES = 2
UNREACHABLE = "node.kubernetes.io/unreachable"
NOTICED_WITHIN = 120.0


@pytest.fixture
def nodes(cluster: Cluster, workloads: Kubectl) -> Iterator[Cluster]:
    """The cluster, lent to a test that loses nodes: before and afterwards nothing is left on them."""
    scene.wait_released(cluster)
    yield cluster
    for worker in cluster.workers.values():
        if not worker.is_running:
            worker.boot()
        if not worker.node.is_up:
            worker.node.recover()
        cluster.lab.ec2.faults.heal(worker.node.name)
        worker.node.mend_network()
    cluster.wait_nodes()
    scene.delete_pods(workloads)
    until(lambda: sorted(scene.agents(workloads)) == sorted(cluster.workers))
    cluster.chart.rollout_status()
    scene.wait_clean(cluster)


def other(cluster: Cluster, name: str) -> Worker:
    """Return the other node."""
    return next(worker for worker in cluster.workers.values() if worker.node.name != name)


def the_pod(kubectl: Kubectl, node: str) -> dict[str, Any]:
    """Return the pod of the Deployment on this node."""
    (pod_there,) = (item for item in kubectl.get("pods") if item["spec"].get("nodeName") == node)
    return dict(pod_there)


def moments_of_move(
    cluster: Cluster, worker: Worker, began: float, old: dict[str, Any], new: dict[str, Any]
) -> dict[str, float]:
    """Return when each step of a move was done, by the stamps of the API and of EC2's journal, in order."""
    lost = cluster.kubectl.get("node", worker.node.name)
    (taint,) = (
        item for item in lost["spec"]["taints"] if (item["key"], item["effect"]) == (UNREACHABLE, "NoExecute")
    )
    ended = old["metadata"]
    (container,) = new["status"]["containerStatuses"]
    calls = cluster.lab.ec2.journal.of(caller=new["spec"]["nodeName"])
    reads = [call.at for call in calls if call.at >= began and call.action == "DescribeRouteTables"]
    written = [
        call.at
        for call in scene.writes(cluster, since=began, caller=new["spec"]["nodeName"])
        if call.params.get("DestinationCidrBlock") == f"{ADDRESS}/32"
    ]
    return {
        "power cut": began,
        "node Unknown": scene.stamp(scene.condition(lost, "Ready")["lastTransitionTime"]),
        "tainted NoExecute": scene.stamp(taint["timeAdded"]),
        "old pod evicted": scene.stamp(ended["deletionTimestamp"]) - ended["deletionGracePeriodSeconds"],
        "new pod created": scene.stamp(new["metadata"]["creationTimestamp"]),
        "new pod scheduled": scene.stamp(scene.condition(new, "PodScheduled")["lastTransitionTime"]),
        "ADD reads EC2": max(at for at in reads if at <= written[0]),  # before it, the keeper may have looked
        "ADD writes EC2": written[0],
        "last route written": written[-1],
        "container started": scene.stamp(container["state"]["running"]["startedAt"]),
    }


PARTS = {
    "noticing": ("power cut", "tainted NoExecute"),
    "toleration": ("tainted NoExecute", "old pod evicted"),
    "eviction and scheduling": ("old pod evicted", "new pod scheduled"),
    "sandbox and ADD": ("new pod scheduled", "last route written"),
    "the first answer": ("last route written", "first answer"),
    "all": ("power cut", "first answer"),
}


def report(moments: dict[str, float]) -> str:
    """Return the steps with their times after the first, and the parts that they are the ends of."""
    began = moments["power cut"]
    steps = [f"  {at - began:5.1f} s  {name}" for name, at in moments.items()]
    parts = [f"  {moments[end] - moments[begin]:5.1f} s  {name}" for name, (begin, end) in PARTS.items()]
    return "\n".join([*steps, "parts (stamps of the API have whole seconds):", *parts])


@pytest.mark.parametrize("name", ["a1", "b1"], ids=["thick", "thin"])
def test_a_pod_of_a_node_that_loses_power_is_replaced_and_the_node_takes_nothing_back(
    nodes: Cluster, workloads: Kubectl, name: str, record_property: Callable[[str, str], None]
) -> None:
    """When the node boots, its disk holds the claim, and its kubelet has the old sandbox to end."""
    worker, successor = nodes.workers[name], other(nodes, name)
    workloads.apply(network(nodes.lab.conflist([f"{ADDRESS}/32"])))
    scene.place_on(nodes, name, deployment("web", networks="floating", tolerates=TOLERATES))
    old = the_pod(workloads, name)["metadata"]["name"]
    with nodes.lab.clients["vpc"].probe(ADDRESS, interval=0.01) as probe:
        assert probe.wait_answer() == old
        cut, began = time.monotonic(), time.time()
        worker.crash()
        until(lambda: probe.look()["last"][1] != old, seconds=NOTICED_WITHIN)
        workloads.wait("--for=condition=Available", "deployment/web")
    new = the_pod(workloads, successor.node.name)
    moments = moments_of_move(nodes, worker, began, the_pod(workloads, name), new)
    answered = probe.report.first_from(new["metadata"]["name"])
    assert answered is not None
    moments["first answer"] = began + answered - cut
    text = f"{name} -> {successor.node}, tolerated for {TOLERATES} s:\n{report(moments)}"
    record_property(scene.MEASURED, text)
    # The API's stamps have whole seconds.
    for (earlier, before), (later, after) in itertools.pairwise(moments.items()):
        assert math.floor(before) <= math.floor(after), f"{later} came before {earlier}"
    assert targets(nodes.lab, f"{ADDRESS}/32") == only(successor.node)

    with nodes.lab.clients["vpc"].probe(ADDRESS, interval=0.01) as probe:
        back = time.time()
        worker.boot()
        workloads.wait("--for=delete", f"pod/{old}")
        until(lambda: not scene.unfinished(worker), lambda: scene.claims(worker))
        until(lambda: not scene.spooled(worker))
    assert probe.report.lost == 0, str(probe.report)
    assert scene.writes(nodes, since=back) == []
    assert targets(nodes.lab, f"{ADDRESS}/32") == only(successor.node)


@pytest.mark.parametrize("name", ["a1", "b1"], ids=["thick", "thin"])
def test_a_partitioned_node_comes_back_and_takes_nothing(
    nodes: Cluster, workloads: Kubectl, name: str
) -> None:
    """Its pod ran all the time, its agent sees the route elsewhere, its kubelet ends the pod with a DEL."""
    worker, successor = nodes.workers[name], other(nodes, name)
    workloads.apply(network(nodes.lab.conflist([f"{ADDRESS}/32"])))
    scene.place_on(nodes, name, deployment("web", networks="floating", tolerates=TOLERATES))
    old = the_pod(workloads, name)["metadata"]["name"]
    nodes.lab.ec2.faults.cut(name)
    worker.node.cut_network()
    until(lambda: nodes.lab.clients["vpc"].ask(ADDRESS) not in (None, old), seconds=NOTICED_WITHIN)
    (claim,) = scene.unfinished(worker)
    assert claim.state is State.HELD, "nobody has told it yet"
    assert scene.pauses(worker), "the old pod still runs"
    with nodes.lab.clients["vpc"].probe(ADDRESS, interval=0.01) as probe:
        back = time.time()
        nodes.lab.ec2.faults.heal(name)
        worker.node.mend_network()
        workloads.wait("--for=delete", f"pod/{old}")
        until(lambda: not scene.unfinished(worker), lambda: scene.claims(worker))
        outcomes = until(lambda: deletions(nodes, name, old), lambda: scene.log(nodes, name))
    assert probe.report.lost == 0, str(probe.report)
    assert outcomes[0] == "ok"
    assert scene.writes(nodes, since=back) == []
    assert targets(nodes.lab, f"{ADDRESS}/32") == only(successor.node)


def deletions(cluster: Cluster, node: str, pod: str) -> list[str]:
    """Return how the DELs of a pod ended, as the node's agent has logged it."""
    lines = [line for line in scene.log(cluster, node) if line.get("pod") == pod]
    return [line["outcome"] for line in lines if line.get("verb") == "DEL"]


@pytest.mark.parametrize("name", ["a1", "b1"], ids=["thick", "thin"])
def test_pods_of_a_node_that_boots_have_their_addresses_again(
    nodes: Cluster, workloads: Kubectl, name: str
) -> None:
    """One pod stays the node's; another is deleted from the API while the node is off."""
    worker, lab = nodes.workers[name], nodes.lab
    mac = worker.node.eni("eth1").mac
    workloads.apply(
        network(lab.conflist([f"{ADDRESS}/32", f"{ADDRESS6}/128"], name="stays")),
        network(scene.shared_eni_conflist(lab)),
        pod("stays", nodeName=name, networks="stays", tolerates=600),
        pod("goes", nodeName=name, networks=scene.shared_eni(mac, ANOTHER), tolerates=600),
    )
    workloads.wait("--for=condition=Ready", "pod/stays", "pod/goes")
    before = boot_id(workloads, name)
    worker.crash()
    workloads("delete", "pod", "goes", "--force", "--grace-period=0")
    with lab.clients["vpc"].probe(ADDRESS) as probe, lab.clients["vpc"].probe(ADDRESS6) as probe6:
        worker.boot()
        assert {probe.wait_answer(timeout=60), probe6.wait_answer(timeout=60)} == {"stays"}
    nodes.wait_nodes(name)
    until(lambda: boot_id(workloads, name) != before)  # the node may still be Ready by its former life
    until(lambda: targets(lab, f"{ANOTHER}/32") == {None}, lambda: scene.floating_routes(nodes))
    until(lambda: len(scene.unfinished(worker)) == 1, lambda: scene.claims(worker))
    (claim,) = scene.unfinished(worker)
    assert claim.state is State.HELD
    for destination in (f"{ADDRESS}/32", f"{ADDRESS6}/128"):
        assert targets(lab, destination) == only(worker.node)
    assert len(scene.namespaces(worker)) == 1
    workloads("delete", "pod", "stays")
    scene.wait_clean(nodes)


def boot_id(kubectl: Kubectl, name: str) -> str:
    return json.dumps(kubectl.get("node", name)["status"]["nodeInfo"]["bootID"])
