"""install/README.md, followed on a cluster: install, a first address, upgrade, roll back, uninstall."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cni_floatip.model.claim_state import State
from lab.kubernetes import podimage
from lab.kubernetes.chart import NAMESPACE, RELEASE
from lab.kubernetes.cluster import Cluster
from lab.kubernetes.kubectl import Kubectl
from lab.kubernetes.manifests import network, pod
from lab.vpc import FLOATING, FLOATING6, TAG
from tests.kubernetes import scene
from tests.kubernetes.administrator import (
    KINDS_OF_THE_CHART,
    OF_THE_PRODUCT,
    Administrator,
    agent_on,
    agents,
    blocks,
    commands,
    events,
    left_on,
    routes,
)
from tests.support.waiting import until

FIRST = "192.168.0.10"
RUNS, ENDS, REFUSED, STARTS = ("192.168.0.20", "192.168.0.21", "192.168.0.22", "192.168.0.23")


@pytest.fixture
def administrator(cluster: Cluster, workloads: Kubectl, tmp_path: Path) -> Iterator[Administrator]:
    """Afterwards the chart is installed as the other tests have it."""
    yield Administrator(cluster, tmp_path)
    workloads("uncordon", *cluster.workers)
    cluster.chart.install()


def first_address(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the page's first.yaml; what names the reader's VPC and an image from a registry is replaced."""
    (block,) = blocks("7. The first address", "yaml")
    attached, workload = yaml.safe_load_all(block.text)
    chain = json.loads(attached["spec"]["config"])
    addresses = [item["address"] for item in chain["plugins"][0]["ipam"]["addresses"]]
    chain["plugins"][0] = cluster.lab.predecessor(addresses=addresses)
    chain["plugins"][1]["routeTables"]["tags"] = TAG
    attached["spec"]["config"] = json.dumps(chain)
    for container in workload["spec"]["template"]["spec"]["containers"]:
        container |= {"image": podimage.NAME, "imagePullPolicy": "Never", "args": ["answer"]}
    return [attached, workload]


def policy(cluster: Cluster) -> dict[str, Any]:
    """Return the policy that the installed chart gives to its agents."""
    document = cluster.kubectl.get("configmap", RELEASE, "-n", NAMESPACE)
    result: dict[str, Any] = json.loads(document["data"]["config.json"])
    return result


def test_from_the_chart_to_a_first_address_that_moves(cluster: Cluster, administrator: Administrator) -> None:
    """Sections 6 and 7. ``aws`` is not here: what it would show is looked up in the simulated EC2."""
    client, heading = cluster.lab.clients["vpc"], "7. The first address"
    administrator.write("first.yaml", *first_address(cluster))
    administrator.run(*commands("6. Install"))
    administrator.run(*commands("6. Install", 2))  # doctor ends with 1 where it finds an error
    administrator.run(*commands(heading))
    first = until(lambda: client.ask(FIRST)) or ""
    assert first.startswith("first-")
    look = [line for line in commands(heading, 1) if not line.startswith("aws ")]
    assert len(look) == len(commands(heading, 1)) - 1
    shown = administrator.run(*look)
    held = routes(cluster, f"{FIRST}/32")
    assert len(held) == len(cluster.lab.tables)
    assert shown.count("held") == len(held), shown
    administrator.run(*look[:1], *commands(heading, 2))
    second = until(lambda: (name := client.ask(FIRST)) != first and name)
    assert str(second).startswith("first-")
    assert set(routes(cluster, f"{FIRST}/32").values()).isdisjoint(held.values())


def test_upgrade_and_roll_back(cluster: Cluster, administrator: Administrator, workloads: Kubectl) -> None:
    """An upgrade narrows the policy to other namespaces: what runs goes on, what starts is refused, and says
    so; the roll back lets it start. Pods that end or start while an agent is away wait for nobody."""
    lab = cluster.lab
    workloads.apply(
        network(lab.conflist([f"{RUNS}/32"], name="runs")),
        network(lab.conflist([f"{ENDS}/32"], name="ends")),
        network(lab.conflist([f"{REFUSED}/32"], name="refused", eth="ens7")),
        network(lab.conflist([f"{STARTS}/32"], name="starts")),
        pod("runs", networks="runs", nodeName="a1"),
        pod("ends", networks="ends", nodeName="b1"),
    )
    workloads.wait("--for=condition=Ready", "pod/runs", "pod/ends")
    before = policy(cluster)
    only = [{"cidr": str(cidr), "namespaces": ["core-*"]} for cidr in (FLOATING, FLOATING6)]
    administrator.write_values({"allowedDestinations": only})
    with lab.clients["vpc"].probe(RUNS) as probe:
        *upgrade, awaited = commands("Upgrade")
        administrator.run(*upgrade)
        workloads("delete", "pod", "ends", "--wait=false")
        administrator.run(awaited)
        workloads.wait("--for=delete", "pod/ends")
        for node, name in (("a1", "thick"), ("b1", "thin")):
            workloads.apply(pod(name, networks="refused", nodeName=node))
            text = events(workloads, name, "FailedCreatePodSandBox", "allowedDestinations")
            assert refusal("default") in text, text
            if name == "thick":
                workloads("delete", "pod", name)
        history, rollback, awaited = commands("Roll back")
        assert administrator.run(history).count("Upgrade complete") >= 1
        administrator.run(rollback)
        workloads.apply(pod("starts", networks="starts", nodeName="b1"))
        administrator.run(awaited)
        assert policy(cluster) == before
        workloads.wait("--for=condition=Ready", "pod/starts", "pod/thin")
        probe.wait_answer("runs")
    assert (probe.report.lost, set(probe.report.by)) == (0, {"runs"}), probe.report
    assert routes(cluster, f"{ENDS}/32") == {}, "the agent that ended in the roll back released it"
    assert lab.clients["vpc"].ask(STARTS, timeout=10) == "starts"
    assert lab.clients["vpc"].ask(REFUSED, timeout=10) == "thin"


def refusal(namespace: str) -> str:
    return (
        f"{REFUSED}/32 is not allowed for namespace {namespace}: add it to allowedDestinations of the node"
        " configuration"
    )


def test_uninstall_refuses_where_a_pod_has_a_floating_ip(
    cluster: Cluster, administrator: Administrator, workloads: Kubectl
) -> None:
    """The rollout stops at that node and the log says why. Going back, the node has its agent at once."""
    workloads.apply(network(cluster.lab.conflist([f"{RUNS}/32"])))
    workloads.apply(pod("runs", networks="floating", nodeName="a1"))
    workloads.wait("--for=condition=Ready", "pod/runs")
    listing, sweep, uninstall, _, _, _ = commands("Uninstall")
    assert administrator.run(listing).splitlines() == ["default/runs"]
    assert "no blackhole" in administrator.run(sweep)
    with cluster.lab.clients["vpc"].probe(RUNS) as probe:
        administrator.run(uninstall + " --set updateStrategy.rollingUpdate.maxUnavailable=100%")

        text = until(
            lambda: log_of_a_failed_uninstall(cluster.kubectl, "a1"),
            lambda: cluster.kubectl("describe", "pods", "-n", NAMESPACE),
        )
        assert f"pod default/runs (net1 {RUNS}) is still here" in text
        assert "removed nothing" in text
        until(lambda: left_on(cluster.workers["b1"]) == [], lambda: left_on(cluster.workers["b1"]))
        cluster.chart.install()
        agent_on(cluster, "a1")
        probe.wait_answer("runs")
    assert probe.report.lost == 0, probe.report
    workloads("delete", "pod", "runs")


def log_of_a_failed_uninstall(kubectl: Kubectl, node: str) -> str:
    """Return the log that the page has one read, "" as long as nothing has failed on that node."""
    for item in agents(kubectl, node):
        states = item["status"].get("initContainerStatuses", [])
        if any("terminated" in state["lastState"] and state["name"] == "uninstall" for state in states):
            return kubectl("logs", "-n", NAMESPACE, item["metadata"]["name"], "-c", "uninstall")
    return ""


def test_uninstall_and_install_anew(
    cluster: Cluster, administrator: Administrator, workloads: Kubectl
) -> None:
    """Nothing stays on nodes, in EC2, in the API. A pod that is there first starts once there is a client."""
    workloads.apply(network(cluster.lab.conflist([f"{STARTS}/32"])))
    workloads.apply(pod("ends", networks="floating", nodeName="b1"))
    workloads.wait("--for=condition=Ready", "pod/ends")
    assert left_on(cluster.workers["b1"])
    workloads("delete", "pod", "ends", "--wait=false")
    until(lambda: State.RELEASING in {claim.state for claim in scene.claims(cluster.workers["b1"])})
    assert routes(cluster, f"{STARTS}/32"), "in its grace"
    workloads.wait("--for=delete", "pod/ends")
    output = administrator.run(*commands("Uninstall"))
    assert output.count("removed /opt/cni/bin/floatip\n") == len(cluster.workers), output
    assert {name: left_on(worker) for name, worker in cluster.workers.items()} == {"a1": [], "b1": []}
    assert routes(cluster, f"{STARTS}/32") == {}

    def in_api() -> str:
        return cluster.kubectl("get", KINDS_OF_THE_CHART, "-A", "-l", OF_THE_PRODUCT, "-o", "name")

    until(lambda: not in_api(), in_api)
    workloads.apply(pod("starts", networks="floating", nodeName="b1"))
    events(workloads, "starts", 'failed to find plugin "floatip"')
    administrator.run(*commands("6. Install"))
    workloads.wait("--for=condition=Ready", "pod/starts")
    assert cluster.lab.clients["vpc"].ask(STARTS, timeout=10) == "starts"
