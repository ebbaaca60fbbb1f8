"""A node's ways to the API fail while sandboxes end and begin there: the address comes back, nothing stays.

A sandbox that dies gets another without a word from the API server: its DEL and its ADD fall into the time of
the trouble, in which Multus reads pods and networks, and writes what it did.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from cni_floatip.model.claim import Claim
from cni_floatip.model.claim_state import State
from lab.kubernetes.cluster import Cluster
from lab.kubernetes.kubectl import Kubectl
from lab.kubernetes.manifests import network, pod
from lab.kubernetes.worker import Worker
from tests.kubernetes import scene
from tests.support.lab_state import only, targets
from tests.support.waiting import until

ADDRESS = "192.168.0.41"


@pytest.fixture
def links(cluster: Cluster, workloads: Kubectl) -> Iterator[Cluster]:
    """The cluster, lent to a test that breaks ways to API servers; afterwards nothing of its pods is left."""
    yield cluster
    for worker in cluster.workers.values():
        worker.links.mend()
    cluster.wait_nodes()
    scene.delete_pods(workloads)
    scene.wait_clean(cluster)


@pytest.mark.parametrize("how", ["cut", "swallow"])
@pytest.mark.parametrize("name", ["a1", "b1"], ids=["thick", "thin"])
def test_a_sandbox_ends_and_begins_while_the_node_has_no_api(
    links: Cluster, workloads: Kubectl, name: str, how: str
) -> None:
    worker, lab = links.workers[name], links.lab
    web = pod("web", nodeName=name, networks="floating", tolerates=600)
    workloads.apply(network(lab.conflist([f"{ADDRESS}/32"])), web)
    workloads.wait("--for=condition=Ready", "pod/web")
    (first,) = scene.unfinished(worker)
    if how == "cut":
        worker.links.cut()
    else:
        worker.links.swallow()
    (pause,) = scene.pauses(worker)
    worker.enter("kill", "-KILL", str(pause))
    workloads.wait("--for=condition=Ready=Unknown", f"node/{name}")
    until(lambda: has_ended_or_waits(worker, first), worker.links.state)
    worker.links.mend()
    links.wait_nodes(name)
    until(lambda: lab.clients["vpc"].ask(ADDRESS) == "web")
    workloads.wait("--for=condition=Ready", "pod/web")
    until(lambda: len(scene.unfinished(worker)) == 1, lambda: scene.claims(worker))
    (claim,) = scene.unfinished(worker)
    assert claim.state is State.HELD
    assert claim.attachment != first.attachment
    assert targets(lab, f"{ADDRESS}/32") == only(worker.node)
    until(lambda: len(scene.namespaces(worker)) == 1)
    assert not scene.spooled(worker)


def has_ended_or_waits(worker: Worker, claim: Claim) -> bool:
    """Return whether the DEL of a sandbox has come to the agent, or a program of Multus waits for the API."""
    waits = any(command.startswith(b"/opt/cni/bin/multus") for _, command in scene.commands(worker))
    return waits or claim not in scene.unfinished(worker)


def test_one_api_server_is_cut_and_a_pod_comes_and_goes(links: Cluster, workloads: Kubectl) -> None:
    """What was connected to it connects to the other."""
    lab = links.lab
    workloads.apply(network(lab.conflist([f"{ADDRESS}/32"])))
    for worker, endpoint in zip(links.workers.values(), links.control.endpoints, strict=True):
        name = worker.node.name
        worker.links.cut(endpoint.name)
        began = time.time()
        workloads.apply(pod(f"web-{name}", nodeName=name, networks="floating"))
        workloads.wait("--for=condition=Ready", f"pod/web-{name}")
        assert lab.clients["vpc"].ask(ADDRESS, timeout=10) == f"web-{name}"
        assert scene.writes(links, since=began, caller=name)
        workloads("delete", "pod", f"web-{name}", "--wait")
        until(lambda worker=worker: not scene.unfinished(worker))  # type: ignore[misc]
        worker.links.mend()
    assert targets(lab, f"{ADDRESS}/32") == {None}
