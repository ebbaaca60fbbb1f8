"""Fixtures: a node on which nothing is wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.doctor.healthy_node import Scene
from tests.doctor.kubernetes_api import running

RESTING = {"reconcileSeconds": 3600}
"""The agent does not come by and mend what a test has planted."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    require("root", "ip", "macvlan-plugin")
    from lab.world import Lab

    directory: Path = tmp_path_factory.mktemp("cluster")
    # The doctor looks for an ENI in every pod of the machine: other labs must not have the same MAC.
    with (
        Lab(azs=1, nodes_per_az=1, agents=True, seed=os.getpid(), policy=RESTING, warm=True) as lab,
        running(lab.nodes["a1"].ns, directory) as cluster,
        pytest.MonkeyPatch.context() as env,
    ):
        yield Scene(lab, cluster, env)
