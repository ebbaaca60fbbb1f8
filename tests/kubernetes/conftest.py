"""The cluster that these tests share: two nodes in two zones, the chart, Multus thick on a1 and thin on b1.

A worker of pytest-xdist makes one cluster for all its tests, which takes half a minute and 2 GiB; so there
are few workers (``Makefile``). A test that uses ``workloads`` leaves none behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.kubernetes.build import Programs, programs
from lab.kubernetes.cluster import MACHINES, QUICK, Cluster, Settings, materials
from lab.kubernetes.kubectl import Kubectl
from lab.world import Lab
from tests.conftest import require
from tests.kubernetes import scene

NEEDS = (
    *("root", "ip", "nft", "containerd", "ctr", "runc", "nsenter", "setpriv", "unshare"),
    *("go", "helm", "curl", "buildah", "mmdebstrap", "macvlan-plugin", "static-plugin", "ptp-plugin"),
)
SETTINGS = Settings(QUICK.controller_manager, QUICK.kubelet, thin=("b1",))
RELEASE_GRACE = 3
"""Seconds that a route outlives its pod's DEL: tests wait until nothing is left of a pod."""
HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.kubernetes)


@pytest.fixture(scope="session")
def kubernetes_programs() -> Programs:
    require("go")
    return programs()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    require(*NEEDS)
    parts = materials()
    policy = {"releaseGraceSeconds": RELEASE_GRACE}
    with (
        Lab(2, 1, machines=MACHINES, policy=policy) as lab,
        Cluster(lab, parts, SETTINGS) as running,
    ):
        yield running


@pytest.fixture
def workloads(cluster: Cluster) -> Iterator[Kubectl]:
    """kubectl; afterwards what the test created in the namespace ``default`` is gone."""
    yield cluster.kubectl
    scene.delete_pods(cluster.kubectl)
    cluster.kubectl("delete", "network-attachment-definitions", "--all")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have measured: what a worker prints itself is not seen."""
    passed = (report for report in terminalreporter.stats.get("passed", []) if report.when == "call")
    for report in passed:
        for name, text in report.user_properties:
            if name == scene.MEASURED:
                terminalreporter.write_line(f"{report.nodeid}: {text}")
