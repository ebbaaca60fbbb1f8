"""An ADD whose process died answered nobody: what it had begun is released, whoever comes across it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from cni_floatip.model.claim import Claim
from cni_floatip.model.claim_state import ClaimedRoute
from cni_floatip.model.values import Attachment, RouteKey
from cni_floatip.operations.backlog import process_backlog
from cni_floatip.operations.release import attachment_lock
from tests.support.simulated_cluster import SimulatedCluster, SimulatedNode

ANOTHER = ip_network("192.168.0.9/32")


@pytest.fixture
def half_added(cluster: SimulatedCluster) -> Attachment:
    """Return an attachment that holds a route, and for which another was written and not yet held."""
    node = cluster.nodes["a"]
    attachment = node.add()
    cluster.pass_time(100)
    claim = claim_of(node, attachment)
    begun = ClaimedRoute.begin(RouteKey("rtb-1", ANOTHER), "")
    node.claims.put(replace(claim, routes=(*claim.routes, begun), mac=""))
    node.ec2().create(begun.key, claim.eni)
    return attachment


def claim_of(node: SimulatedNode, attachment: Attachment) -> Claim:
    claim = node.claims.get(attachment)
    assert isinstance(claim, Claim)
    return claim


def states(cluster: SimulatedCluster, attachment: Attachment) -> list[tuple[str, str]]:
    """Return of each route its state, and where EC2 leads it."""
    routes = claim_of(cluster.nodes["a"], attachment).routes
    return [(route.state.value, cluster.leads(destination=route.key.destination)) for route in routes]


def test_the_keeper_releases_it(cluster: SimulatedCluster, half_added: Attachment) -> None:
    cluster.pass_time(150)
    assert states(cluster, half_added) == [("held", "eni-a"), ("gone", "")]


def test_so_does_the_next_call(cluster: SimulatedCluster, half_added: Attachment) -> None:
    assert process_backlog(cluster.nodes["a"].world, cluster.clock() + 5) == {}
    assert states(cluster, half_added) == [("held", "eni-a"), ("gone", "")]


def test_nobody_does_while_the_add_lives(cluster: SimulatedCluster, half_added: Attachment) -> None:
    node = cluster.nodes["a"]
    with node.claims.lock(attachment_lock(half_added), 0):
        cluster.pass_time(150)
        process_backlog(node.world, cluster.clock() + 5)
        assert states(cluster, half_added) == [("held", "eni-a"), ("claiming", "eni-a")]
