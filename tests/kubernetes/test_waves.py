"""Two hundred pods come and go, and nothing is left of them: not in EC2, not on nodes, not in the API.

The lab's stand-in for ipvlan allows one pod on an ENI, so nine pods of ten have a veth pair with the ENI's
MAC address (``scene.shared_eni_conflist``): all of ADD and DEL, but no packets. One in each wave is whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Set
from typing import Any

import pytest

from lab.kubernetes.cluster import Cluster
from lab.kubernetes.kubectl import Kubectl
from lab.kubernetes.manifests import network, pod
from tests.kubernetes import scene
from tests.support.waiting import until

WAVES, ON_EACH_NODE = 10, 10
"""Two nodes: 200 pods."""
SECONDS = 180.0
"""What a wave may take on a busy machine."""
WHOLE = "192.168.0.250"
FIRST = 100


@pytest.fixture
def clean(cluster: Cluster, workloads: Kubectl) -> Iterator[Cluster]:
    """The cluster with nothing of a pod in it, before and after."""
    scene.wait_clean(cluster)
    yield cluster
    scene.delete_pods(workloads, "--force", "--grace-period=0")
    scene.wait_clean(cluster)


def wave(cluster: Cluster, number: int) -> list[dict[str, Any]]:
    """Return the pods of one wave: addresses of their own, but those of the wave before the last again."""
    pods = []
    for at, (name, node) in enumerate(cluster.lab.nodes.items()):
        for slot in range(ON_EACH_NODE):
            address = cluster.lab.floating[FIRST + 2 * ON_EACH_NODE * (number % 2) + ON_EACH_NODE * at + slot]
            whole = slot == 0 and at == number % 2
            networks = "whole" if whole else scene.shared_eni(node.eni("eth1").mac, str(address))
            item = pod(f"wave{number}-{name}-{slot}", networks=networks, nodeName=name)
            item["spec"]["terminationGracePeriodSeconds"] = 1
            pods.append(item)
    return pods


def test_two_hundred_pods_leave_nothing(clean: Cluster, workloads: Kubectl) -> None:
    """A wave comes while the one before is being deleted, and the one before that is gone."""
    lab = clean.lab
    known = objects(workloads)
    shared = network(scene.shared_eni_conflist(lab))
    workloads.apply(network(lab.conflist([f"{WHOLE}/32"], name="whole")), shared)
    names: set[str] = set()
    for number in range(WAVES):
        pods = wave(clean, number)
        workloads.apply(*pods)
        these = frozenset(item["metadata"]["name"] for item in pods)
        wait_attached(clean, these)
        workloads("delete", "pods", *sorted(these), "--wait=false")
        wait_gone(workloads, names)
        names |= these
    assert len(names) == 200
    wait_gone(workloads, names)
    scene.wait_clean(clean)
    workloads("delete", "net-attach-def", "--all")
    until(lambda: objects(workloads) == known, lambda: str(objects(workloads) ^ known))
    for verb in ("ADD", "DEL"):
        until(lambda verb=verb: names <= done(clean, verb), verb)  # type: ignore[misc]


def wait_attached(cluster: Cluster, names: frozenset[str]) -> None:
    """Wait until the pods have their addresses, and the whole one among them answers."""
    until(lambda: attached(cluster.kubectl) >= names, seconds=SECONDS)
    until(lambda: cluster.lab.clients["vpc"].ask(WHOLE) in names, seconds=SECONDS)


def wait_gone(kubectl: Kubectl, names: Set[str]) -> None:
    """Wait until the API has none of these pods."""
    until(lambda: not names & {item["metadata"]["name"] for item in kubectl.get("pods")}, seconds=SECONDS)


def attached(kubectl: Kubectl) -> set[str]:
    """Return the pods for which Multus has noted an address on the second interface."""
    noted = "k8s.v1.cni.cncf.io/network-status"
    return {
        item["metadata"]["name"]
        for item in kubectl.get("pods")
        if len(json.loads(item["metadata"]["annotations"].get(noted, "[]"))) == 2
    }


def done(cluster: Cluster, verb: str) -> set[str]:
    """Return the pods for which agents have carried out this verb."""
    lines = [line for node in cluster.workers for line in scene.log(cluster, node)]
    return {line["pod"] for line in lines if line.get("verb") == verb and line.get("outcome") == "ok"}


def objects(kubectl: Kubectl) -> set[str]:
    """Return what there is in the API, but for events and what the API server keeps for itself."""
    kinds = kubectl("api-resources", "--verbs=list", "-o", "name").split()
    listable = ",".join(kind for kind in kinds if not kind.startswith(("events", "leases")))
    return set(kubectl("get", listable, "--all-namespaces", "-o", "name", "--ignore-not-found").split())
