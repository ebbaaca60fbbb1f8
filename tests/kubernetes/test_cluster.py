"""What the cluster is: nodes, two API servers behind proxies that can fail, Multus, the chart."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cni_floatip import __version__
from lab import netns
from lab.kubernetes.build import kubernetes_version
from lab.kubernetes.cluster import Cluster
from lab.kubernetes.controlplane import ADMIN, SERVICE_ADDRESS, SERVICE_PORT, Endpoint
from lab.kubernetes.kubectl import Kubectl
from lab.kubernetes.manifests import deployment, network, pod
from lab.kubernetes.worker import SYSCTLS
from lab.node import Node
from tests.kubernetes import scene
from tests.support.waiting import until

SERVICE = Endpoint("kubernetes.default.svc", SERVICE_ADDRESS, SERVICE_PORT)
SLOW = 0.5
ADDRESS = "192.168.0.7"


@pytest.fixture
def links(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, lent to a test that breaks ways to API servers."""
    yield cluster
    for worker in cluster.workers.values():
        worker.links.mend()
    cluster.wait_nodes()


def ask(cluster: Cluster, node: Node, server: Endpoint, timeout: float = 30) -> str:
    """Ask an API server from a node, over TLS and with the cluster's one authority; return its answer."""

    def exchange() -> str:
        context = ssl.create_default_context(cafile=str(cluster.control.authority.certificate))
        connection = http.client.HTTPSConnection(
            server.address, server.port, context=context, timeout=timeout
        )
        try:
            connection.request(
                "GET", "/readyz", headers={"Authorization": f"Bearer {cluster.control.tokens[ADMIN]}"}
            )
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    return netns.inside(node.ns, exchange)


def test_nodes_are_ready_and_of_the_pinned_release(cluster: Cluster) -> None:
    nodes = {node["metadata"]["name"]: node for node in cluster.kubectl.get("nodes")}
    assert sorted(nodes) == ["a1", "b1"]
    for name, node in nodes.items():
        conditions = {item["type"]: item["status"] for item in node["status"]["conditions"]}
        assert conditions["Ready"] == "True"
        info = node["status"]["nodeInfo"]
        assert info["kubeletVersion"] == f"v{kubernetes_version()}"
        assert info["containerRuntimeVersion"].startswith("containerd://")
        assert node["spec"]["providerID"].endswith(cluster.lab.nodes[name].instance_id)
        assert node["metadata"]["labels"]["topology.kubernetes.io/zone"] == f"eu-central-1{name[0]}"


def test_a_kubelet_finds_files_of_its_own_for_what_it_sets_of_the_kernel(cluster: Cluster) -> None:
    """Else it would set the machine's."""
    for worker in cluster.workers.values():
        mounts = Path(f"/proc/{worker.leader}/mountinfo").read_text()
        for name in SYSCTLS:
            assert f" /proc/sys/{name} " in mounts or not Path("/proc/sys", name).exists()


def test_a_kubelet_ends_where_it_would_set_the_kernel(cluster: Cluster) -> None:
    """So it sets nothing of the machine's even where a file of its own is not in place."""
    worker = cluster.workers["b1"]
    file = worker.node.state / "machine" / "sysctls" / "kernel.panic"
    held = file.read_text()
    worker.kubelet.kill()
    file.write_text("11\n")
    try:
        worker.kubelet.start()
        until(lambda: not worker.kubelet.is_running, worker.kubelet)
        assert "invalid kernel flag: kernel/panic" in worker.kubelet.log
        assert file.read_text() == "11\n"
    finally:
        worker.kubelet.kill()
        file.write_text(held)
        worker.kubelet.start()
        cluster.wait_nodes("b1")


def test_both_api_servers_are_in_the_endpoint_slice(cluster: Cluster) -> None:
    def addresses() -> list[str]:
        result = cluster.kubectl.get("endpointslice", "kubernetes")
        return sorted(address for item in result["endpoints"] for address in item["addresses"])

    assert until(lambda: len(addresses()) == 2, addresses)
    assert addresses() == sorted(endpoint.address for endpoint in cluster.control.endpoints)


def test_what_one_api_server_is_told_the_other_knows(cluster: Cluster, workloads: Kubectl) -> None:
    first, second = (str(endpoint) for endpoint in cluster.control.endpoints)
    workloads("create", "configmap", "told", "--from-literal=by=first", "--server", first)
    assert workloads("get", "configmap", "told", "-o", "jsonpath={.data.by}", "--server", second) == "first"
    workloads("delete", "configmap", "told", "--server", second)


def test_a_node_reaches_each_api_server_by_its_own_proxy(cluster: Cluster) -> None:
    worker = cluster.workers["a1"]
    for endpoint in cluster.control.endpoints:
        before = worker.links.state()
        assert ask(cluster, worker.node, endpoint) == "ok"
        after = worker.links.state()
        assert after[endpoint.name]["accepted"] > before[endpoint.name]["accepted"]
        assert after[endpoint.name]["answers"] > before[endpoint.name]["answers"]


def test_the_service_address_leads_to_either(cluster: Cluster) -> None:
    worker = cluster.workers["a1"]
    before = worker.links.state()
    assert [ask(cluster, worker.node, SERVICE) for _ in range(4)] == ["ok"] * 4
    after = worker.links.state()
    assert all(after[name]["accepted"] > before[name]["accepted"] for name in before)


def test_an_api_server_is_cut_for_one_node(links: Cluster) -> None:
    here, there = links.workers["a1"], links.workers["b1"]
    first, second = links.control.endpoints
    here.links.cut(first.name)
    with pytest.raises(ConnectionRefusedError):
        ask(links, here.node, first)
    assert ask(links, here.node, second) == "ok"
    assert ask(links, there.node, first) == "ok"
    here.links.mend(first.name)
    assert ask(links, here.node, first) == "ok"


@pytest.mark.parametrize("what", ["requests", "answers", "both"])
def test_an_api_server_swallows(links: Cluster, what: str) -> None:
    worker = links.workers["a1"]
    first, second = links.control.endpoints
    worker.links.swallow(first.name, what)
    with pytest.raises(TimeoutError):
        ask(links, worker.node, first, timeout=1)
    assert ask(links, worker.node, second) == "ok"


def test_an_api_server_is_slow(links: Cluster) -> None:
    worker = links.workers["a1"]
    first = links.control.endpoints[0]
    worker.links.delay(first.name, seconds=SLOW)
    began = time.monotonic()
    assert ask(links, worker.node, first) == "ok"
    assert time.monotonic() - began >= 4 * SLOW, "TLS and the request go there and back"


def test_a_node_that_reaches_no_api_server_is_not_ready(links: Cluster) -> None:
    links.workers["a1"].links.cut()
    links.kubectl.wait("--for=condition=Ready=Unknown", "node/a1")
    links.workers["a1"].links.mend()
    links.wait_nodes("a1")


@pytest.mark.parametrize("node", ["a1", "b1"], ids=["thick", "thin"])
def test_multus_attaches_a_second_interface(cluster: Cluster, workloads: Kubectl, node: str) -> None:
    plain = cluster.lab.conflist([f"{ADDRESS}/32"], name="second")
    plain["plugins"] = plain["plugins"][:1]
    workloads.apply(network(plain), pod("two", networks="second", nodeName=node))
    workloads.wait("--for=condition=Ready", "pod/two")
    interfaces = workloads.exec("two", "/pod", "addresses").splitlines()
    assert f"net1 {ADDRESS}/32" in interfaces
    own = json.loads(
        workloads.get("pod", "two")["metadata"]["annotations"]["k8s.v1.cni.cncf.io/network-status"]
    )
    assert [(item.get("interface", "eth0"), item["ips"]) for item in own if not item.get("default")] == [
        ("net1", [ADDRESS])
    ]
    (cluster_address,) = (line for line in interfaces if line.startswith("eth0 10."))
    assert workloads.get("pod", "two")["status"]["podIP"] in cluster_address


def test_a_pod_reaches_the_api(cluster: Cluster, workloads: Kubectl) -> None:
    """By the service's address, through its node's proxies, as clients in a cluster do."""
    workloads.apply(pod("client", nodeName="a1"))
    workloads.wait("--for=condition=Ready", "pod/client")
    worker = cluster.workers["a1"]
    before = sum(link["accepted"] for link in worker.links.state().values())
    (pid,) = (pid for pid, command in scene.commands(worker) if command.startswith(b"/pod\0answer"))
    command = ("nsenter", "--target", str(pid), "--net", "curl", "-sk", "-m", "20")
    done = worker.enter(*command, f"https://{SERVICE_ADDRESS}/readyz")
    assert done.stdout == "ok", done
    assert sum(link["accepted"] for link in worker.links.state().values()) > before


def test_the_floating_ip_of_a_deployment_is_answered(cluster: Cluster, workloads: Kubectl) -> None:
    workloads.apply(network(cluster.lab.conflist([f"{ADDRESS}/32"])))
    with cluster.lab.clients["vpc"].probe(ADDRESS) as probe:
        workloads.apply(deployment("web", networks="floating"))
        probe.wait_answer(timeout=60)
    (running,) = workloads.get("pods", "-l", "app=web")
    assert set(probe.report.by) == {running["metadata"]["name"]}
    assert cluster.lab.clients["tgw"].ask(ADDRESS, timeout=10) == running["metadata"]["name"]


def test_agents_run_from_the_image(cluster: Cluster) -> None:
    agents = cluster.kubectl.get("pods", "-n", "kube-system", "-l", "app.kubernetes.io/name=cni-floatip")
    assert sorted(item["spec"]["nodeName"] for item in agents) == ["a1", "b1"]
    for item in agents:
        name, options = item["metadata"]["name"], ["-n", "kube-system"]
        assert __version__ in cluster.kubectl.exec(name, "floatipctl", "--version", options=options)


def test_a_node_loses_power_and_boots(cluster: Cluster, workloads: Kubectl) -> None:
    def boot_id() -> str:
        return str(workloads.get("node", "b1")["status"]["nodeInfo"]["bootID"])

    worker = cluster.workers["b1"]
    workloads.apply(pod("stays", nodeName="b1", tolerates=600))
    workloads.wait("--for=condition=Ready", "pod/stays")
    before = boot_id()
    worker.crash()
    workloads.wait("--for=condition=Ready=Unknown", "node/b1")
    worker.boot()
    until(lambda: boot_id() != before, boot_id)
    cluster.wait_nodes("b1")
    until(lambda: workloads.get("pod", "stays")["status"]["containerStatuses"][0]["restartCount"] == 1)
    workloads.wait("--for=condition=Ready", "pod/stays")
    cluster.chart.rollout_status()
