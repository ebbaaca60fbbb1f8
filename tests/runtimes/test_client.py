"""The installed client and the agent under real runtimes: libcni with its cache, and containerd."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.world import Lab
from tests.runtimes.cnitool import Cnitool, VerbFailed
from tests.runtimes.containerd import Containerd, RunFailed
from tests.support.lab_state import NOWHERE, claims, only, plugin_directory, report_of, targets
from tests.support.waiting import until

VIP = "192.168.0.2"
ROUTE = f"{VIP}/32"

pytestmark = [
    pytest.mark.needs("root", "ip", "unshare", "macvlan-plugin", "floatip"),
    pytest.mark.lab(nodes_per_az=1, agents=True, warm=True, policy={"releaseGraceSeconds": 1}),
    pytest.mark.usefixtures("lab_as_new"),
]


@pytest.mark.needs("cnitool")
def test_a_pod_moves_under_cnitool(lab: Lab, tmp_path: Path) -> None:
    on = {
        name: Cnitool(
            node, tmp_path / name, plugin_directory(tmp_path / f"bin-{name}", node.bin_dir / "floatip")
        )
        for name, node in lab.nodes.items()
    }
    net = {runtime.network(lab.conflist([ROUTE], version="1.1.0")) for runtime in on.values()}.pop()
    here, there, client = lab.nodes["a1"], lab.nodes["b1"], lab.clients["vpc"]
    for runtime in on.values():
        runtime.status(net)

    old, new = here.pod("old"), there.pod("new")
    result = on["a1"].add(net, old.netns)
    assert [ip["address"] for ip in result["ips"]] == [ROUTE]
    assert client.ask(VIP) == "old"

    on["b1"].add(net, new.netns)
    assert targets(lab, ROUTE) == only(there)
    on["a1"].delete(net, old.netns)
    on["a1"].delete(net, old.netns)
    on["a1"].gc(net)
    until(lambda: claims(here) == ["gone"], report_of(here))
    assert targets(lab, ROUTE) == only(there)
    assert client.ask(VIP) == "new"

    there.remove_pod(new)
    on["b1"].delete(net, new.netns)
    until(lambda: targets(lab, ROUTE) == NOWHERE, report_of(there))

    there.agent.kill()
    with pytest.raises(VerbFailed, match="agent"):
        on["b1"].status(net)


@pytest.mark.needs("containerd", "ctr", "runc")
def test_a_container_lives_and_ends_under_containerd(lab: Lab, tmp_path: Path) -> None:
    """Its path is ``/proc/PID/ns/net`` of a process namespace that the agent does not see."""
    node = lab.nodes["a1"]
    plugins = plugin_directory(tmp_path / "bin", node.bin_dir / "floatip")
    with Containerd(node, tmp_path / "a", plugins) as runtime:
        runtime.network(lab.conflist([ROUTE], version="1.0.0"))
        process = runtime.foreground("web", "sleep", "600")
        try:
            until(lambda: runtime.is_running("web") or process.poll() is not None, report_of(node))
            assert targets(lab, ROUTE) == only(node)
            assert lab.clients["vpc"].ping(VIP) == 3
            runtime.kill("web")
            process.communicate(timeout=60)
        finally:
            process.kill()
        until(lambda: targets(lab, ROUTE) == NOWHERE, report_of(node))

        runtime.network(lab.conflist(["172.31.0.9/32"], version="1.0.0"))
        with pytest.raises(RunFailed, match=r"172\.31\.0\.9/32"):
            runtime.run("refused", "sleep", "1")
