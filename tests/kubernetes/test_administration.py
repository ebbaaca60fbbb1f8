"""What an administrator does with nodes and agents: evict, drain, look at a node, sweep, uninstall."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import images
from lab.kubernetes.chart import NAMESPACE
from lab.kubernetes.cluster import Cluster
from lab.kubernetes.kubectl import Kubectl
from lab.kubernetes.manifests import Manifest, deployment, network, pod
from tests.docs.pages import ROOT, shell_blocks
from tests.kubernetes.administrator import (
    CLIENT,
    DATA,
    INSTALL,
    SOCKETS,
    Administrator,
    agent_on,
    agents,
    commands,
    events,
    evict,
    left_on,
    routes,
)
from tests.support.waiting import until

ADDRESS, LATE, DEAD = "192.168.0.40", "192.168.0.41", "192.168.0.49"
TOOL = "tool"


@pytest.fixture
def administrator(cluster: Cluster, workloads: Kubectl, tmp_path: Path) -> Iterator[Administrator]:
    """Afterwards nodes and chart are as the other tests have them."""
    yield Administrator(cluster, tmp_path)
    workloads("uncordon", *cluster.workers)
    cluster.chart.install()


def test_an_agent_is_evicted(cluster: Cluster, workloads: Kubectl) -> None:
    """The Eviction API refuses nobody here. The daemon set starts another; pods answer all the time."""
    workloads.apply(network(cluster.lab.conflist([f"{ADDRESS}/32"])))
    workloads.apply(pod("web", networks="floating", nodeName="a1"))
    workloads.wait("--for=condition=Ready", "pod/web")
    before, held = agent_on(cluster, "a1"), routes(cluster, f"{ADDRESS}/32")
    with cluster.lab.clients["vpc"].probe(ADDRESS) as probe:
        evict(cluster, NAMESPACE, before)
        assert agent_on(cluster, "a1") != before
        probe.wait_answer("web")
    assert probe.report.lost == 0, probe.report
    assert routes(cluster, f"{ADDRESS}/32") == held
    workloads("delete", "pod", "web")
    evict(cluster, NAMESPACE, agent_on(cluster, "a1"))
    assert routes(cluster, f"{ADDRESS}/32") == {}, "an agent that ends releases what has ended"


def test_a_node_is_drained(cluster: Cluster, administrator: Administrator, workloads: Kubectl) -> None:
    """The pod moves and takes its routes along; the agent, of a daemon set, stays."""
    workloads.apply(network(cluster.lab.conflist([f"{ADDRESS}/32"])), deployment("web", networks="floating"))
    workloads("rollout", "status", "deployment/web", "--timeout=60s")
    (first,) = workloads.get("pods", "-l", "app=web")
    node = first["spec"]["nodeName"]
    agent = agent_on(cluster, node)
    administrator.run(f"kubectl drain {node} --ignore-daemonsets --timeout=60s")
    second = until(
        lambda: (name := cluster.lab.clients["vpc"].ask(ADDRESS)) != first["metadata"]["name"] and name
    )
    (other,) = cluster.workers.keys() - {node}
    assert workloads.get("pod", str(second))["spec"]["nodeName"] == other
    eni = cluster.lab.nodes[other].eni("eth1").id
    assert set(routes(cluster, f"{ADDRESS}/32").values()) == {eni}
    assert agent_on(cluster, node) == agent


def test_a_node_is_looked_at_as_a_page_says(
    cluster: Cluster, administrator: Administrator, workloads: Kubectl
) -> None:
    """``kubectl debug node`` of install/cloudformation, without busybox and the template's unit."""
    (block,) = (block for block in shell_blocks("cluster") if "kubectl debug node/" in block.text)
    (line,) = block.commands
    name, image = line.split()[2], f"{images.NAME}:{cluster.chart.values()['image']['tag']}"
    line = line.replace(name, "node/a1").replace("busybox", f"{image} --image-pull-policy=Never")
    line = line.replace(" -it ", " ").replace('journalctl -b -u "floatip-links*"', f"ls {CLIENT}")
    administrator.run(line)
    (debugger,) = (
        item["metadata"]["name"]
        for item in workloads.get("pods")
        if item["metadata"]["name"].startswith("node-debugger-a1-")
    )
    workloads.wait("--for=jsonpath={.status.phase}=Succeeded", f"pod/{debugger}")
    printed = workloads("logs", debugger)
    assert CLIENT in printed
    assert all(eni.mac in printed for eni in cluster.lab.nodes["a1"].enis)


def test_a_dead_interface_is_swept(cluster: Cluster, administrator: Administrator) -> None:
    """Blackholes of a node that is gone for good: shown first, then removed, as the page has it."""
    ec2, vpc = cluster.lab.vpc.ec2, cluster.lab.vpc
    subnet = vpc.subnets["a"].id
    eni = ec2.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    for table in vpc.tables.values():
        ec2.create_route(RouteTableId=table, DestinationCidrBlock=f"{DEAD}/32", NetworkInterfaceId=eni)
    ec2.delete_network_interface(NetworkInterfaceId=eni)
    line = commands("Uninstall")[1]
    assert line.endswith(" --dry-run")
    shown = administrator.run(line)
    assert shown.count(f"{DEAD}/32") == len(vpc.tables), shown
    assert len(routes(cluster, f"{DEAD}/32")) == len(vpc.tables)
    removed = administrator.run(line.removesuffix(" --dry-run"))
    assert f"{len(vpc.tables)} removed" in removed, removed
    assert routes(cluster, f"{DEAD}/32") == {}
    assert "no blackhole" in administrator.run(line)


def tool(cluster: Cluster, node: str, *arguments: str) -> Manifest:
    """Return a privileged pod that runs ``floatipctl`` once, with the host's processes and directories."""
    values = cluster.chart.values()
    paths = (str(Path(CLIENT).parent), str(Path(DATA).parent), str(Path(SOCKETS).parent))
    mounts = [{"name": f"v{number}", "mountPath": path} for number, path in enumerate(paths)]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": TOOL, "namespace": "default"},
        "spec": {
            "nodeName": node,
            "hostNetwork": True,
            "hostPID": True,
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": TOOL,
                    "image": f"{values['image']['repository']}:{values['image']['tag']}",
                    "imagePullPolicy": "Never",
                    "args": list(arguments),
                    "env": values["extraEnv"],
                    "securityContext": {"privileged": True},
                    "volumeMounts": [{**mount, "mountPropagation": "HostToContainer"} for mount in mounts],
                }
            ],
            "volumes": [
                {"name": mount["name"], "hostPath": {"path": mount["mountPath"]}} for mount in mounts
            ],
        },
    }


def run_tool(cluster: Cluster, node: str, *arguments: str) -> tuple[str, str]:
    """Run it; return the pod's phase, and what it printed."""
    cluster.kubectl.apply(tool(cluster, node, *arguments))

    def phase() -> str:
        value = str(cluster.kubectl.get("pod", TOOL)["status"].get("phase", ""))
        return value if value in ("Succeeded", "Failed") else ""

    ended = until(phase, lambda: cluster.kubectl("describe", "pod", TOOL))
    text = cluster.kubectl("logs", TOOL)
    cluster.kubectl("delete", "pod", TOOL, "--wait")
    return ended, text


def test_a_node_is_uninstalled_by_hand(
    cluster: Cluster, administrator: Administrator, workloads: Kubectl
) -> None:
    """After ``helm uninstall`` alone: what runs goes on; what starts is told of the missing agent; then each
    node is cleaned by ``floatipctl uninstall``, which waits for the last pod and does its DEL."""
    uninstall = ("uninstall", "--bin-dir", str(Path(CLIENT).parent))
    workloads.apply(
        network(cluster.lab.conflist([f"{ADDRESS}/32"])),
        network(cluster.lab.conflist([f"{LATE}/32"], name="late")),
        pod("web", networks="floating", nodeName="a1"),
    )
    workloads.wait("--for=condition=Ready", "pod/web")
    phase, text = run_tool(cluster, "a1", *uninstall)
    assert phase == "Failed"
    assert "uninstall the DaemonSet first" in text
    with cluster.lab.clients["vpc"].probe(ADDRESS) as probe:
        administrator.run(commands("Uninstall")[-1])
        until(lambda: not agents(cluster.kubectl, "a1") + agents(cluster.kubectl, "b1"))
        workloads.apply(pod("late", networks="late", nodeName="b1"))
        phase, text = run_tool(cluster, "a1", *uninstall)
        assert phase == "Failed"
        assert f"pod default/web (net1 {ADDRESS}) is still here" in text
        probe.wait_answer("web")
    assert probe.report.lost == 0, probe.report
    workloads("delete", "pod", "web")
    assert routes(cluster, f"{ADDRESS}/32"), "the DEL waits in the spool"
    phase, text = run_tool(cluster, "a1", *uninstall)
    assert phase == "Succeeded", text
    assert f"removed {CLIENT}" in text
    assert left_on(cluster.workers["a1"]) == []
    assert routes(cluster, f"{ADDRESS}/32") == {}
    (words,) = re.findall(r"Error 11 reads `(.+?)` in a pod's events", (ROOT / INSTALL).read_text())
    events(workloads, "late", words)
