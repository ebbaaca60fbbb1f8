"""The image at work: the DaemonSet's containers on lab nodes, and pods attached through its bundle."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from cni_floatip.edges.podnet import forwarding
from lab import netns
from lab.images import NEEDS, Image
from lab.node import Node
from lab.pod import Pod
from lab.world import Lab
from tests.image.pod_on_node import PodOnNode
from tests.image.pods import SECCOMP, daemon_set
from tests.support.lab_state import NOWHERE, only, targets
from tests.support.waiting import until

pytestmark = [
    pytest.mark.needs("ip", "macvlan-plugin", *NEEDS, str(SECCOMP)),
    pytest.mark.lab(nodes_per_az=1),
]
VIP, VIP6 = IPv4Address("192.168.0.2"), IPv6Address("fd00:192:168::2")
DESTINATION = f"{VIP}/32"


@pytest.fixture(scope="module")
def pods(lab: Lab, image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, PodOnNode]]:
    """The DaemonSet: its pod on every node."""
    scratch = tmp_path_factory.mktemp
    made = {name: PodOnNode(image, lab, node, scratch(name)) for name, node in lab.nodes.items()}
    try:
        for on_node in made.values():
            on_node.start()
        for on_node in made.values():
            until_ready(on_node)
        yield made
    finally:
        for on_node in made.values():
            on_node.close()


@pytest.fixture(autouse=True)
def nothing_left(lab: Lab) -> Iterator[None]:
    """A test that fails keeps no ENI from the next one."""
    yield
    for node in lab.nodes.values():
        for pod in list(node.pods):
            node.remove_pod(pod)


@pytest.fixture
def pod_on_a1(pods: dict[str, PodOnNode]) -> PodOnNode:
    return pods["a1"]


def until_ready(pod: PodOnNode) -> None:
    until(lambda: pod.node.agent.readiness()[0] == 200, lambda: pod.agent.log)


def attach(node: Node, lab: Lab, name: str, addresses: tuple[str, ...] = (DESTINATION,)) -> Pod:
    pod = node.pod(name)
    node.add(pod, lab.conflist(list(addresses)))
    return pod


def status(pod: PodOnNode) -> dict[str, str]:
    """What the kernel says of the agent's process."""
    lines = Path(f"/proc/{pod.agent.pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_the_agent_has_what_the_manifest_gives_and_no_more(pod_on_a1: PodOnNode) -> None:
    net_admin, sys_admin = 1 << 12, 1 << 21  # linux/capability.h
    results = status(pod_on_a1)
    rights = [int(results[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")]
    assert rights == [net_admin | sys_admin] * 3 + [0, 0]
    assert results["NoNewPrivs"] == "1"
    sentence = daemon_set()["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capabilities"]
    assert sorted(sentence["add"]) == ["NET_ADMIN", "SYS_ADMIN"]


def test_nothing_can_be_written_in_the_image(pod_on_a1: PodOnNode) -> None:
    for path in ("/x", "/opt/floatip/x", "/tmp/x", "/etc/floatip/config.json"):
        done = pod_on_a1.agent.execute("touch", path)
        assert done.returncode, path
        assert "Read-only file system" in done.stderr


def test_the_init_container_leaves_the_client_and_its_interpreter(pod_on_a1: PodOnNode) -> None:
    files = [path for path in pod_on_a1.bin_dir.rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == ["floatip", "python"]
    assert pod_on_a1.bin_dir / "floatip" in files
    assert sum(path.stat().st_size for path in files) <= 12e6


def test_a_pod_is_reached_and_let_go(lab: Lab, pod_on_a1: PodOnNode) -> None:
    conflist = lab.conflist([DESTINATION, f"{VIP6}/128"])
    pod = attach(pod_on_a1.node, lab, "web", (DESTINATION, f"{VIP6}/128"))
    assert targets(lab, DESTINATION) == only(pod_on_a1.node)
    assert [lab.clients[item].ask(VIP) for item in ("vpc", "tgw")] == ["web", "web"]
    assert lab.clients["vpc"].ask(VIP6) == "web"
    assert pod_on_a1.claims() == ["held"]
    assert netns.inside(pod_on_a1.node.ns, forwarding.stopped, "eth1") == {4, 6}
    pod_on_a1.node.delete(pod, conflist)
    pod_on_a1.node.remove_pod(pod)
    until(lambda: targets(lab, DESTINATION) == NOWHERE)
    assert lab.clients["vpc"].ask(VIP, timeout=0.3) is None


def test_an_address_moves_to_another_node(lab: Lab, pods: dict[str, PodOnNode]) -> None:
    here, there = pods["a1"], pods["b1"]
    conflist = lab.conflist([DESTINATION])
    first = attach(here.node, lab, "first")
    second = attach(there.node, lab, "second")
    assert lab.clients["tgw"].ask(VIP) == "second"
    here.node.delete(first, conflist)
    here.node.remove_pod(first)
    assert targets(lab, DESTINATION) == only(there.node)
    there.node.delete(second, conflist)
    there.node.remove_pod(second)
    until(lambda: targets(lab, DESTINATION) == NOWHERE)


def test_a_client_that_somebody_removes_comes_back(lab: Lab, pod_on_a1: PodOnNode) -> None:
    (pod_on_a1.bin_dir / "floatip").unlink()
    until((pod_on_a1.bin_dir / "floatip").exists)
    pod = attach(pod_on_a1.node, lab, "mended")
    pod_on_a1.node.delete(pod, lab.conflist([DESTINATION]))
    pod_on_a1.node.remove_pod(pod)


def test_a_rollout_loses_no_del(lab: Lab, pod_on_a1: PodOnNode) -> None:
    """Between two pods of the DaemonSet nobody answers; the client keeps what it is told."""
    conflist = lab.conflist([DESTINATION])
    pod = attach(pod_on_a1.node, lab, "kept")
    assert pod_on_a1.agent.stop() == 0
    assert lab.clients["vpc"].ask(VIP) == "kept", "nothing that pods need ends with the agent"
    pod_on_a1.node.delete(pod, conflist)
    assert [path.suffix for path in (pod_on_a1.data / "spool").iterdir()] == [".del"]
    pod_on_a1.node.remove_pod(pod)
    pod_on_a1.start()
    until_ready(pod_on_a1)
    until(lambda: targets(lab, DESTINATION) == NOWHERE)
    assert not list((pod_on_a1.data / "spool").iterdir())


def test_it_logs_in_json_and_needs_little(pod_on_a1: PodOnNode) -> None:
    lines = pod_on_a1.agent.log.splitlines()
    assert lines
    assert all(line.startswith("{") for line in lines), lines[-5:]
    assert int(status(pod_on_a1)["VmHWM"].split()[0]) < 128 << 10


def test_what_needs_capabilities_needs_them(pod_on_a1: PodOnNode) -> None:
    """A container without them shows that runc takes them away: this test would find a manifest that lies."""
    done = pod_on_a1.agent.execute("unshare", "--net", "true")
    assert done.returncode == 0
    without = subprocess.run(
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "unshare", "--net", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert without.returncode
