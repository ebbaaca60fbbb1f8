"""An ADD whose process died answered nobody: what it had begun is released, whoever comes across it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from cni_floatip.model.claim import Claim
from cni_floatip.model.claim_state import ClaimedRoute
from cni_floatip.model.values import Attachment, Place
from cni_floatip.operations.backlog import work_off
from cni_floatip.operations.release import attachment_lock
from tests.support.simulated_cluster import Cluster, SimulatedNode

ANOTHER = ip_network("192.168.0.9/32")


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path, "a")


@pytest.fixture
def attachment(cluster: Cluster) -> Attachment:
    """Return an attachment that holds a route, and for which another was written and not yet held."""
    node = cluster.nodes["a"]
    attachment = node.add()
    cluster.pass_time(100)
    claim = claim_of(node, attachment)
    begun = ClaimedRoute.begin(Place("rtb-1", ANOTHER), "")
    node.claims.put(replace(claim, routes=(*claim.routes, begun), mac=""))
    node.ec2().create(begun.place, claim.eni)
    return attachment


def claim_of(node: SimulatedNode, attachment: Attachment) -> Claim:
    claim = node.claims.get(attachment)
    assert isinstance(claim, Claim)
    return claim


def states(cluster: Cluster, attachment: Attachment) -> list[tuple[str, str]]:
    """Return of each route its state, and where EC2 leads it."""
    routes = claim_of(cluster.nodes["a"], attachment).routes
    return [(route.state.value, cluster.leads(destination=route.place.destination)) for route in routes]


def test_the_keeper_releases_it(cluster: Cluster, attachment: Attachment) -> None:
    cluster.pass_time(150)
    assert states(cluster, attachment) == [("held", "eni-a"), ("gone", "")]


def test_so_does_the_next_call(cluster: Cluster, attachment: Attachment) -> None:
    assert work_off(cluster.nodes["a"].world, cluster.clock() + 5) == []
    assert states(cluster, attachment) == [("held", "eni-a"), ("gone", "")]


def test_nobody_does_while_the_add_lives(cluster: Cluster, attachment: Attachment) -> None:
    node = cluster.nodes["a"]
    with node.claims.lock(attachment_lock(attachment), 0):
        cluster.pass_time(150)
        work_off(node.world, cluster.clock() + 5)
        assert states(cluster, attachment) == [("held", "eni-a"), ("claiming", "eni-a")]
