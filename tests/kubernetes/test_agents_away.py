"""The agents end and come back while pods run, end and start: nothing is lost, and no DEL is forgotten."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from cni_floatip.model.claim_state import State
from lab.kubernetes.chart import NAMESPACE, RELEASE
from lab.kubernetes.cluster import Cluster
from lab.kubernetes.kubectl import Kubectl
from lab.kubernetes.manifests import network, pod
from tests.kubernetes import scene
from tests.support.lab_state import only, targets
from tests.support.waiting import until

ADDRESS, ADDRESS6, ANOTHER = "192.168.0.31", "fd00:192:168::31", "192.168.0.32"
LABEL = "floatip"
"""The chart's agents run on nodes that have it."""


@pytest.fixture
def agents(cluster: Cluster, workloads: Kubectl) -> Iterator[Cluster]:
    """The cluster, lent to a test that ends agents: afterwards they run, and nothing is left of its pods."""
    yield cluster
    workloads("label", "nodes", "--all", "--overwrite", f"{LABEL}=true")
    scene.delete_pods(workloads)
    wait_agents(cluster)
    scene.wait_clean(cluster)


def wait_agents(cluster: Cluster) -> None:
    until(lambda: sorted(scene.agents(cluster.kubectl)) == sorted(cluster.workers))
    cluster.chart.rollout_status()


@pytest.mark.parametrize("name", ["a1", "b1"], ids=["thick", "thin"])
def test_a_pod_is_deleted_while_no_agent_runs_and_its_del_is_done_later(
    agents: Cluster, workloads: Kubectl, name: str
) -> None:
    """Deleting does not wait for an agent. A pod that starts does, and then has the address."""
    worker, lab = agents.workers[name], agents.lab
    workloads.apply(network(lab.conflist([f"{ADDRESS}/32"])), pod("old", nodeName=name, networks="floating"))
    workloads.wait("--for=condition=Ready", "pod/old")
    (claim,) = scene.unfinished(worker)
    old = claim.attachment.container

    workloads("label", "node", name, f"{LABEL}-")
    until(lambda: name not in scene.agents(workloads, ending=True))
    workloads("delete", "pod", "old", "--wait", "--timeout=120s")
    until(lambda: not scene.namespaces(worker))
    (waiting,) = scene.spooled(worker)
    assert old in waiting.read_text(errors="replace")
    (claim,) = scene.unfinished(worker)
    assert claim.state is State.HELD
    assert targets(lab, f"{ADDRESS}/32") == only(worker.node)

    workloads.apply(pod("new", nodeName=name, networks="floating"))
    until(lambda: scene.namespaces(worker))
    came = time.time()
    workloads("label", "node", name, f"{LABEL}=true")
    workloads.wait("--for=condition=Ready", "pod/new")
    assert lab.clients["vpc"].ask(ADDRESS, timeout=10) == "new"
    until(lambda: not scene.spooled(worker))
    until(lambda: len(scene.unfinished(worker)) == 1, lambda: scene.claims(worker))
    (claim,) = scene.unfinished(worker)
    assert claim.attachment.container != old
    assert [call.action for call in scene.writes(agents, since=came)].count("DeleteRoute") == 0

    def calls() -> list[tuple[str, bool]]:
        lines = [line for line in scene.log(agents, name) if line.get("container") == old]
        return [(line["verb"], line.get("spooled", False)) for line in lines]

    assert until(calls, lambda: scene.log(agents, name)) == [("DEL", True)]


def test_agents_are_rolled_out_and_no_packet_is_lost(agents: Cluster, workloads: Kubectl) -> None:
    lab = agents.lab
    workloads.apply(
        network(lab.conflist([f"{ADDRESS}/32", f"{ADDRESS6}/128"], name="both")),
        network(lab.conflist([f"{ANOTHER}/32"], name="four")),
        pod("one", nodeName="a1", networks="both"),
        pod("two", nodeName="b1", networks="four"),
    )
    workloads.wait("--for=condition=Ready", "pod/one", "pod/two")
    clients = [(lab.clients["vpc"], ADDRESS), (lab.clients["tgw"], ADDRESS6), (lab.clients["tgw"], ANOTHER)]
    for client, address in clients:
        until(lambda client=client, address=address: client.ask(address))  # type: ignore[misc]
    before = {item["metadata"]["uid"] for item in scene.agents(workloads).values()}
    began = time.time()
    first, second, third = (client.probe(address, interval=0.01) for client, address in clients)
    with first, second, third:
        workloads("rollout", "restart", f"daemonset/{RELEASE}", "-n", NAMESPACE)
        agents.chart.rollout_status()
        wait_agents(agents)
    after = {item["metadata"]["uid"] for item in scene.agents(workloads).values()}
    assert len(after) == 2
    assert not before & after
    for probe in (first, second, third):
        assert probe.report.sent > 100
        assert probe.report.lost == 0, str(probe.report)
    assert scene.writes(agents, since=began) == []
    for name in agents.workers:
        (claim,) = scene.unfinished(agents.workers[name])
        assert claim.state is State.HELD
