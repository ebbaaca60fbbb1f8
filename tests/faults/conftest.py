"""Fixtures: one lab for each module, with one node in each of two zones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.world import Lab
from tests.conftest import require
from tests.support.two_nodes import Scene


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    require("root", "ip")
    with Lab(azs=2, nodes_per_az=1, fast_dad=True) as running:
        yield running


@pytest.fixture(scope="module")
def scene(lab: Lab) -> Scene:
    return Scene(lab)


@pytest.fixture(autouse=True)
def _no_faults(lab: Lab) -> Iterator[None]:
    yield
    lab.ec2.faults.clear()
