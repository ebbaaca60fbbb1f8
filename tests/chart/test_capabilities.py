"""The daemon set's capabilities, tried on the real agent: it works with them, and with one less it fails.

The agent of a lab node runs with exactly these, with ``no_new_privs`` as the daemon set asks for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.agent import PROGRAM as FLOATIPCTL
from lab.chain import PluginError
from lab.world import Lab
from tests.chart.rendered import manifest
from tests.support.samples import sampled

pytestmark = pytest.mark.needs("root", "ip", "setpriv", "macvlan-plugin", "nft")

MAY = manifest("cni-floatip.yaml").container("agent")["securityContext"]["capabilities"]["add"]


@pytest.fixture(scope="module")
def world() -> Iterator[Lab]:
    with Lab(azs=1, nodes_per_az=1, agents=True) as running:
        yield running


@pytest.fixture
def chart_node(world: Lab) -> Iterator[Any]:
    (node,) = world.nodes.values()
    yield node
    for pod in list(node.pods):
        node.remove_pod(pod)


def confined(capabilities: Any) -> list[str]:
    """Return what to put before a command so that it has these capabilities and no others."""
    bounding = ",".join(["-all", *(f"+{name.lower()}" for name in capabilities)])
    return ["setpriv", "--no-new-privs", "--inh-caps=-all", f"--bounding-set={bounding}", "--"]


def restart(node: Any, capabilities: Any) -> None:
    """Give the node's agent these capabilities and no others, from its first instruction on."""
    if node.agent.is_running:
        node.stop_agent()
    node.agent.command = [*confined(capabilities), *node.agent.command[-2:]]
    node.start_agent()


def test_with_them_it_attaches_guards_and_detaches(world: Lab, chart_node: Any) -> None:
    restart(chart_node, MAY)
    assert _held(chart_node) == {f"CAP_{name}" for name in MAY}
    chart_node.run(["ip", "link", "set", "eth1", "down"])
    pod = chart_node.pod("web")
    chain = world.conflist()
    chart_node.add(pod, chain)
    assert "UP" in chart_node.run(["ip", "-br", "link", "show", "eth1"]).stdout
    assert "169.254.0.0/16" in _routes(chart_node, pod)
    assert "netdev floatip" in chart_node.run(["nft", "list", "tables"]).stdout
    for family in ("-4", "-6"):
        assert "110:\tfrom all iif eth1 blackhole" in chart_node.run(["ip", family, "rule"]).stdout
    chart_node.delete(pod, chain)
    assert "169.254.0.0/16" not in _routes(chart_node, pod)


@pytest.mark.parametrize("lost", sampled("test_each_of_them_is_needed", MAY, MAY[:1]))
def test_each_of_them_is_needed(world: Lab, chart_node: Any, lost: Any) -> None:
    restart(chart_node, [name for name in MAY if name != lost])
    pod = chart_node.pod("web")
    with pytest.raises(PluginError, match="code 103"):
        chart_node.add(pod, world.conflist())
    chart_node.delete(pod, world.conflist())


def _routes(node: Any, pod: Any) -> Any:
    return node.run(["ip", "-n", pod.ns, "route", "show", "table", "all"]).stdout


PROGRAM = str(FLOATIPCTL)
NAMES = {12: "CAP_NET_ADMIN", 21: "CAP_SYS_ADMIN"}


def _held(node: Any) -> set[Any]:
    status = Path(f"/proc/{node.agent.pid}/status").read_text()
    bits = int(status.split("CapEff:")[1].split()[0], 16)
    assert "NoNewPrivs:\t1" in status
    return {NAMES.get(bit, str(bit)) for bit in range(64) if bits >> bit & 1}


def test_the_installer_needs_none(chart_node: Any, tmp_path: Path) -> None:
    """The init container: what it has is no more than the right of a directory's owner."""
    installer = manifest("cni-floatip.yaml").container("install-client")
    assert installer["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    done = chart_node.run([*confined([]), PROGRAM, "install-client", "--bin-dir", str(tmp_path)])
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "floatip").stat().st_mode & 0o111


@pytest.mark.thorough(sample="test_with_them_it_attaches_guards_and_detaches")
def test_the_uninstaller_cleans_the_node_with_them(world: Lab, chart_node: Any) -> None:
    """Afterwards nothing of the product is on the node."""
    rights = manifest("uninstall.yaml").container("uninstall")["securityContext"]["capabilities"]["add"]
    uninstall = [*confined(rights), PROGRAM, "uninstall", "--bin-dir", str(chart_node.bin_dir)]
    restart(chart_node, MAY)
    pod = chart_node.pod("web")
    chart_node.add(pod, world.conflist())
    chart_node.stop_agent()
    refused = chart_node.run(uninstall)
    assert refused.returncode == 1
    assert "pod default/web (net1 192.168.0.2) is still here" in refused.stderr
    chart_node.delete(pod, world.conflist())
    done = chart_node.run(uninstall)
    assert done.returncode == 0, done.stderr
    assert not (chart_node.bin_dir / "floatip").exists()
    assert "removed the rules that stop forwarding from eth1\n" in done.stdout
    assert (
        "blackhole" not in chart_node.run(["ip", "rule"]).stdout + chart_node.run(["ip", "-6", "rule"]).stdout
    )
    assert "removed the nftables table netdev floatip\n" in done.stdout
    assert "floatip" not in chart_node.run(["nft", "list", "ruleset"]).stdout
    assert not any("192.168.0.2/32" in world.ec2.truth(table) for table in world.tables.values())


@pytest.mark.thorough(sample="test_with_them_it_attaches_guards_and_detaches")
def test_by_force_the_guard_stays_while_a_pod_is_there(world: Lab, chart_node: Any, tmp_path: Path) -> None:
    """Else the pod would reach instance metadata from then on, and nobody would put it back."""
    chart_node.install_client()
    restart(chart_node, MAY)
    chart_node.add(chart_node.pod("web"), world.conflist())
    chart_node.stop_agent()
    uninstall = [PROGRAM, "uninstall", "--bin-dir", str(chart_node.bin_dir)]
    policy = json.loads(Path(chart_node.env["FLOATIP_CONFIG"]).read_text())
    elsewhere = tmp_path / "config.json"
    elsewhere.write_text(json.dumps({**policy, "dataDir": str(tmp_path / "none")}))
    done = chart_node.run([*uninstall, "--config", str(elsewhere)])
    assert done.returncode == 1, done.stdout
    assert "eth1 has a metadata guard" in done.stderr
    assert f"{tmp_path / 'none'} has no record" in done.stderr
    assert (chart_node.bin_dir / "floatip").exists()
    for _ in range(2):  # the second time without any records, as a pod does that is made anew
        done = chart_node.run([*uninstall, "--force"])
        assert done.returncode == 0, done.stderr
        assert "kept the metadata guard of eth1" in done.stdout
        assert not (chart_node.bin_dir / "floatip").exists()
        assert "netdev floatip" in chart_node.run(["nft", "list", "tables"]).stdout
    Path(policy["dataDir"]).mkdir()  # as the volume that it is in the chart
    for _ in range(2):
        done = chart_node.run(uninstall)
        assert done.returncode == 1, done.stdout
        assert "eth1 has a metadata guard" in done.stderr
        assert "netdev floatip" in chart_node.run(["nft", "list", "tables"]).stdout
