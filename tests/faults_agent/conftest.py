"""Fixtures: one lab; on its nodes agents that can be killed at any moment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.world import Lab
from tests.faults_agent.dying_agents import BYSTANDER, Served, Stage, lives_of
from tests.support.two_nodes import Scene

HASTENED = {
    "cni_floatip.rules.reconcile.HELD_PATIENCE": 0.5,
    "cni_floatip.agent.keeper.table_membership.UNMATCHED_SECONDS": 0.5,
}


@pytest.fixture(scope="module")
def stages(scene: Scene) -> Iterator[list[Stage]]:
    """A stage on each node; on all of them things happen side by side."""
    scene.point(BYSTANDER, "b1 ens7")
    nodes = list(scene.lab.nodes.values())
    for node in nodes:
        node.install_client()
    places = [Served(scene.lab, node, "agent") for node in nodes]
    with lives_of(places, HASTENED) as lives:
        yield [
            Stage(
                scene,
                place,
                life,
                "b1 ens7" if place.node.name != "b1" else "a1 ens7",
                f"192.168.0.{2 + 16 * n}/28",
            )
            for n, (place, life) in enumerate(zip(places, lives, strict=True))
        ]


@pytest.fixture(autouse=True)
def _no_faults(lab: Lab) -> Iterator[None]:
    yield
    lab.ec2.faults.clear()
