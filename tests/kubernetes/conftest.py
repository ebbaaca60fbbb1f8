"""The cluster that these tests share: two nodes in two zones, the chart, Multus thick on a1 and thin on b1.

All of them run in one process (``tests.support.scheduling``), because a cluster takes half a minute and 2
GiB. A test that uses ``workloads`` leaves none behind.
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
    kinds = "deployments,statefulsets,replicasets,pods,network-attachment-definitions"
    cluster.kubectl("delete", kinds, "--all", "--wait", "--timeout=120s", timeout=150)
