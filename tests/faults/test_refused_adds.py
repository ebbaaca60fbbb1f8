"""EC2 says no, or something is in the way: the ADD fails with a reason, and leaves the VPC as it was."""

from __future__ import annotations

import time

import pytest

from tests.support.two_nodes import ADDRESS, Attachment, Calling, Scene, ours_in
from tests.support.waiting import until

pytestmark = pytest.mark.lab(nodes_per_az=1, packets=False)


THREE = ("a", "client", "b")


@pytest.fixture
def blocked(scene: Scene) -> Attachment:
    """An attachment on a1 while another node has a working route in table "b"."""
    key = scene.place("a1", "refused")
    scene.clear(ADDRESS, THREE)
    key.forget()
    scene.point(ADDRESS, "b1 eth1", ["b"])
    scene.lab.ec2.journal.clear()
    return scene.attach(key, ADDRESS, tables=THREE, timeout=6)


def assert_as_before(scene: Scene, attachment: Attachment) -> None:
    assert scene.routes(ADDRESS, THREE) == {"b": "b1 eth1"}
    assert attachment.place.alive() == []
    assert ours_in(attachment.pod) == []


def calls(scene: Scene, action: str) -> list[str]:
    return [call.outcome for call in scene.lab.ec2.journal.of(action=action, caller="a1")]


def test_quota_of_one_table(scene: Scene, blocked: Attachment) -> None:
    """Creates come first, so that a full table costs no other node its route."""
    table = scene.lab.tables["client"]
    routes = scene.lab.ec2.truth(table)
    fill = [f"192.168.0.{100 + n}/32" for n in range(6)]
    for destination in fill:
        scene.point(destination, "b1 eth1", ["client"])
    try:
        # the local route does not count
        scene.lab.ec2.faults.route_quota(sum("." in cidr for cidr in routes) - 1 + len(fill))
        answer = blocked.add()
    finally:
        for destination in fill:
            scene.clear(destination, ["client"])
    assert answer.code == 100
    assert all(part in answer.msg for part in (table, ADDRESS, "RouteLimitExceeded")), answer.msg
    assert calls(scene, "ReplaceRoute") == []
    assert "ok" in calls(scene, "CreateRoute")
    assert_as_before(scene, blocked)


def test_throttled_until_the_deadline(scene: Scene, blocked: Attachment) -> None:
    scene.lab.ec2.faults.error("ReplaceRoute", "RequestLimitExceeded", "Request limit exceeded.", times=None)
    answer = blocked.add()
    assert answer.code == 11
    assert answer.seconds < 6
    assert all(part in answer.msg for part in (scene.lab.tables["b"], ADDRESS, "RequestLimitExceeded"))
    assert 3 < len(calls(scene, "ReplaceRoute")) < 30
    assert_as_before(scene, blocked)


@pytest.mark.parametrize("action", ["CreateRoute", "ReplaceRoute", "ModifyNetworkInterfaceAttribute"])
def test_not_allowed_to_write(scene: Scene, blocked: Attachment, action: str) -> None:
    scene.source_check(blocked.eni)
    scene.lab.ec2.faults.error(action, "UnauthorizedOperation", "You are not authorized.", times=None)
    answer = blocked.add()
    assert answer.code == 100
    assert "UnauthorizedOperation" in answer.msg
    assert_as_before(scene, blocked)
    scene.lab.ec2.faults.clear()
    assert blocked.delete().code == 0
    assert_as_before(scene, blocked)


@pytest.mark.parametrize("action", ["DescribeRouteTables", "DescribeNetworkInterfaces"])
def test_not_allowed_to_read(scene: Scene, blocked: Attachment, action: str) -> None:
    """Refused before any write: there is nothing to record."""
    scene.lab.ec2.faults.error(action, "UnauthorizedOperation", "You are not authorized.", times=None)
    answer = blocked.add()
    assert answer.code == 100
    assert blocked.place.claims() == []
    assert_as_before(scene, blocked)


def test_not_allowed_to_delete(scene: Scene, blocked: Attachment) -> None:
    """DEL succeeds all the same; the record waits for the permission."""
    assert blocked.add().code == 0
    scene.lab.ec2.faults.error("DeleteRoute", "UnauthorizedOperation", "You are not authorized.", times=None)
    answer = blocked.delete()
    assert answer.code == 0
    assert "UnauthorizedOperation" in answer.stderr
    assert blocked.place.alive() == [f"{blocked.container} releasing"]
    scene.lab.ec2.faults.clear()
    assert blocked.place.collect() == []
    assert scene.routes(ADDRESS, THREE) == {}
    assert blocked.place.alive() == []


def test_gateway_route_that_appears_after_the_read_is_not_replaced(scene: Scene, blocked: Attachment) -> None:
    """CreateRoute finds it, the look that follows shows what it is."""
    scene.source_check(blocked.eni)
    scene.lab.ec2.faults.hold("ModifyNetworkInterfaceAttribute", caller=blocked.place.node.name)
    adding = Calling(blocked)
    until(lambda: scene.lab.ec2.faults.held)
    to_gateway(scene, "client")
    scene.lab.ec2.faults.clear()
    answer = adding.answer()
    assert answer.code == 101
    assert scene.lab.tables["client"] in answer.msg
    assert scene.routes(ADDRESS, THREE) == {"b": "b1 eth1", "client": scene.lab.vpc.tgw}
    assert calls(scene, "ReplaceRoute") == []
    scene.clear(ADDRESS, ["client"])
    assert_as_before(scene, blocked)


def test_eni_route_that_became_a_gateway_route_is_read_again(scene: Scene, blocked: Attachment) -> None:
    """What was read more than five seconds ago decides nothing."""
    blocked.timeout = 24
    scene.lab.ec2.faults.error("CreateRoute", "RequestLimitExceeded", "no", times=None, caller="a1")
    adding = Calling(blocked)
    adding.until("CreateRoute")  # what is absent is created first
    scene.clear(ADDRESS, ["b"])
    to_gateway(scene, "b")
    time.sleep(5.2)
    scene.lab.ec2.faults.clear()
    answer = adding.answer()
    assert answer.code == 101, str(answer)
    assert scene.routes(ADDRESS, THREE) == {"b": scene.lab.vpc.tgw}
    scene.clear(ADDRESS, ["b"])


def to_gateway(scene: Scene, table: str) -> None:
    scene.ec2.create_route(
        RouteTableId=scene.lab.tables[table], DestinationCidrBlock=ADDRESS, TransitGatewayId=scene.lab.vpc.tgw
    )
