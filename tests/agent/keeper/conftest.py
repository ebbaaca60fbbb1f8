"""Fixtures: nodes of a cluster in simulated time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.simulated_cluster import SimulatedCluster


@pytest.fixture
def cluster(tmp_path: Path) -> SimulatedCluster:
    return SimulatedCluster(tmp_path)
