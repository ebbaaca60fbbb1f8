"""The plugin under containerd: a container's only interface is the floating one, DELs are containerd's.

That is: with no namespace left, when a foreground container has ended; never, when a detached one is removed.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.node import Node
from lab.world import Lab
from tests.runtimes.containerd import Containerd, RunFailed
from tests.support.lab_state import NOWHERE, claims, only, plugin_directory, targets
from tests.support.waiting import until

VIP = "192.168.0.2"
ROUTE = f"{VIP}/32"

pytestmark = [
    pytest.mark.needs("root", "ip", "unshare", "containerd", "ctr", "runc", "macvlan-plugin", "floatip"),
    pytest.mark.usefixtures("lab_as_new"),
]


@pytest.fixture
def a(lab: Lab, tmp_path: Path) -> Iterator[Containerd]:
    with containerd_on(lab.nodes["a1"], tmp_path / "a", lab) as runtime:
        yield runtime


@pytest.fixture
def b(lab: Lab, tmp_path: Path) -> Iterator[Containerd]:
    with containerd_on(lab.nodes["b1"], tmp_path / "b", lab) as runtime:
        yield runtime


def containerd_on(node: Node, directory: Path, lab: Lab) -> Containerd:
    runtime = Containerd(node, directory, plugin_directory(directory / "plugins"))
    runtime.network(lab.conflist([ROUTE], version="1.0.0", onDelete="release"))
    return runtime


def test_a_container_is_reached_and_its_end_leaves_nothing(lab: Lab, a: Containerd) -> None:
    """D04: the DEL comes with prevResult and an empty ``CNI_NETNS``."""
    with foreground(a, "web"):
        assert targets(lab, ROUTE) == only(lab.nodes["a1"])
        assert lab.clients["vpc"].ping(VIP) == 3
        assert lab.clients["tgw"].ping(VIP) == 3
        # From inside, too: the rule "from the floating IP" and the route behind it.
        client = lab.clients["vpc"].addresses[0]
        assert "1 packets received" in a.exec("web", "ping", "-c", "1", "-W", "2", "-I", VIP, str(client))

    assert targets(lab, ROUTE) == NOWHERE
    assert claims(lab.nodes["a1"]) == ["gone"]
    assert lab.clients["vpc"].ping(VIP, 1, timeout=0.2) == 0


def test_no_container_reaches_instance_metadata(lab: Lab, a: Containerd) -> None:
    """Source/dest check is off: EC2 would answer what the container sends through the ENI."""
    connect = f"import socket; socket.create_connection(('169.254.169.254', 80), 2, ('{VIP}', 0))"
    with foreground(a, "web"), pytest.raises(RunFailed, match=r"No route to host|Network is unreachable"):
        a.inside("web", sys.executable, "-I", "-S", "-c", connect)


def test_a_container_whose_del_never_comes_is_succeeded_in_the_other_az(
    lab: Lab, a: Containerd, b: Containerd
) -> None:
    a.start("old", "sleep", "600")
    assert lab.clients["vpc"].ping(VIP) == 3
    a.stop("old")
    assert targets(lab, ROUTE) == only(lab.nodes["a1"])

    b.start("new", "sleep", "600")

    assert targets(lab, ROUTE) == only(lab.nodes["b1"])
    assert lab.clients["vpc"].ping(VIP) == 3


@pytest.mark.thorough(sample="test_a_container_whose_del_never_comes_is_succeeded_in_the_other_az")
def test_a_container_is_succeeded_on_its_own_node_without_a_del(lab: Lab, a: Containerd) -> None:
    """Two claims for one destination: the one whose DEL never came does not stand in the way."""
    a.start("old", "sleep", "600")
    a.stop("old")

    with foreground(a, "new"):
        assert targets(lab, ROUTE) == only(lab.nodes["a1"])
        assert lab.clients["vpc"].ping(VIP) == 3

    # Nobody has said that the first one ended: its claim lives, and keeps the route.
    assert claims(lab.nodes["a1"]) == ["gone", "held"]
    assert targets(lab, ROUTE) == only(lab.nodes["a1"])


def test_a_refused_add_is_what_the_user_of_containerd_sees(lab: Lab, a: Containerd) -> None:
    """And its container never ran, and nothing was written."""
    a.network(lab.conflist(["172.31.0.9/32"], version="1.0.0"))

    with pytest.raises(RunFailed, match=r"172\.31\.0\.9/32"):
        a.run("web", "sleep", "1")

    assert targets(lab, "172.31.0.9/32") == NOWHERE


class foreground:  # noqa: N801 - reads as a statement
    """A foreground container while it runs; at the end it is killed, and containerd has done its DEL."""

    def __init__(self, runtime: Containerd, name: str) -> None:
        self._runtime = runtime
        self._name = name
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> None:
        self._process = self._runtime.foreground(self._name, "sleep", "600")
        process = self._process
        try:
            until(lambda: self._runtime.is_running(self._name) or process.poll() is not None)
        except AssertionError:
            process.kill()
            raise
        if process.poll() is not None:
            raise RunFailed(process.communicate()[0])

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._runtime.kill(self._name)
        output = self._process.communicate(timeout=60)[0]
        assert self._process.returncode == 137, output
