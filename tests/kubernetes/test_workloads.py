"""What a workload sees: its floating IPs answer soon, and a namespace that is deleted leaves nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pytest

from lab.client import Report
from lab.kubernetes.chart import NAMESPACE
from lab.kubernetes.cluster import Cluster
from lab.kubernetes.kubectl import Kubectl
from lab.kubernetes.manifests import deployment, network
from lab.kubernetes.worker import Worker
from tests.kubernetes.administrator import agent_on, evict, routes
from tests.support.waiting import until

BOTH = ("192.168.0.30", "fd00:192:168::30")
HOSTS = (f"{BOTH[0]}/32", f"{BOTH[1]}/128")
TENANT = "core-tenant"
TENANTS = ("192.168.0.31/32", "192.168.0.32/32")


def test_a_deployment_answers_in_both_families(cluster: Cluster, workloads: Kubectl) -> None:
    """From inside the VPC, while kubectl waits for nothing, and from behind the Transit Gateway."""
    inside, outside = cluster.lab.clients["vpc"], cluster.lab.clients["tgw"]
    workloads.apply(network(cluster.lab.conflist(HOSTS)))
    with inside.probe(BOTH[0]) as v4, inside.probe(BOTH[1]) as v6:
        workloads.apply(deployment("web", networks="floating"))
        answered = {probe.wait_answer(timeout=60) for probe in (v4, v6)}
    (running,) = workloads.get("pods", "-l", "app=web")
    assert answered == {running["metadata"]["name"]}
    assert answered == set(v4.report.by) == set(v6.report.by)
    eni = cluster.lab.nodes[running["spec"]["nodeName"]].eni("eth1").id
    assert set(routes(cluster, *HOSTS).values()) == {eni}
    assert {outside.ask(address, timeout=10) for address in BOTH} == answered
    for report in (v4.report, v6.report):
        assert lost_after_the_first(report) == 0, report


def lost_after_the_first(report: Report) -> int:
    """Return how many questions after the first answer were lost."""
    first = min(item.sent for item in report.datagrams if item.answered is not None)
    return report.between(first, report.ended).lost


@pytest.fixture
def tenant(cluster: Cluster) -> Iterator[str]:
    """A namespace that is gone afterwards."""
    cluster.kubectl("create", "namespace", TENANT)
    yield TENANT
    cluster.kubectl("delete", "namespace", TENANT, "--ignore-not-found", "--timeout=120s")


def made_by_pods(worker: Worker) -> list[str]:
    """Return what pods with a network make on a node."""
    script = """
        ip -o link | cut -d' ' -f2
        find /run/netns /var/lib/cni/floatip/spool /var/lib/cni/results /var/lib/cni/multus/results \\
            ! -type d 2>/dev/null || true
        find /var/lib/cni/networks -name '10.*' || true
    """
    done = worker.enter("sh", "-uc", script)
    assert done.returncode == 0, done
    return sorted(done.stdout.splitlines())


def test_a_deleted_namespace_leaves_nothing(cluster: Cluster, tenant: str) -> None:
    """Its networks go with its pods, in no order: DEL needs nothing but what is recorded on the node."""

    def on_nodes() -> dict[str, list[str]]:
        return {name: made_by_pods(worker) for name, worker in cluster.workers.items()}

    kubectl, before = cluster.kubectl, on_nodes()
    chains = [cluster.lab.conflist([address], name=f"net-{n}") for n, address in enumerate(TENANTS)]
    kubectl.apply(
        *(network(chain, namespace=tenant) for chain in chains),
        *(
            deployment(chain["name"], namespace=tenant, networks=chain["name"], nodeName=node)
            for chain, node in zip(chains, cluster.workers, strict=True)
        ),
    )
    for chain in chains:
        kubectl("rollout", "status", f"deployment/{chain['name']}", "-n", tenant, "--timeout=60s")
    assert len(routes(cluster, *TENANTS)) == 2 * len(cluster.lab.tables)
    uids = [item["metadata"]["uid"] for item in kubectl.get("pods", "-n", tenant)]
    during = on_nodes()
    assert all(len(during[node]) >= len(before[node]) + 4 for node in before), (before, during)
    kubectl("delete", "namespace", tenant, "--timeout=60s")
    until(lambda: on_nodes() == before, on_nodes, before)
    for node, worker in cluster.workers.items():
        evict(cluster, NAMESPACE, agent_on(cluster, node))  # it need not wait for the routes' grace
        until(lambda worker=worker: not pod_directories(worker, uids))  # type: ignore[misc]
    assert routes(cluster, *TENANTS) == {}, "an agent that ends releases what has ended"
    for node in cluster.workers:
        assert claims_that_are_not_gone(cluster, node, tenant) == []
        rules = cluster.workers[node].enter("ip", "rule").stdout
        assert "proto 241" not in rules, rules
    assert on_nodes() == before
    assert tenant not in everything(kubectl)


def pod_directories(worker: Worker, uids: Sequence[str]) -> list[str]:
    """Return those of these pods that the kubelet still has a directory of."""
    return [uid for uid in uids if worker.path(f"/var/lib/kubelet/pods/{uid}").exists()]


def claims_that_are_not_gone(cluster: Cluster, node: str, namespace: str) -> list[str]:
    """Return the states of what an agent records for pods of a namespace, without what is released."""
    options = ("-n", NAMESPACE)
    text = cluster.kubectl.exec(agent_on(cluster, node), "floatipctl", "claims", "--json", options=options)
    return [
        route["state"]
        for claim in json.loads(text)["claims"]
        for route in claim["routes"]
        if claim["pod"]["namespace"] == namespace and route["state"] != "gone"
    ]


def everything(kubectl: Kubectl) -> str:
    """Return the names of all objects that the API has in namespaces, and of the namespaces."""
    kinds = kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name").split()
    shown = "custom-columns=NAMESPACE:.metadata.namespace,KIND:.kind,NAME:.metadata.name"
    return kubectl("get", ",".join(["namespaces", *kinds]), "-A", "-o", shown)
