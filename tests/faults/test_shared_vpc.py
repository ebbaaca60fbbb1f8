"""A node of an account that merely takes part in the VPC: the tables are the owner's, subnets are shared."""

from __future__ import annotations

import pytest

from tests.support.two_nodes import ADDRESS, TABLES, Place, Scene

GUEST = "444455556666"

pytestmark = pytest.mark.lab(nodes_per_az=1, guests={"b1": GUEST}, packets=False)


@pytest.fixture
def guest_place(scene: Scene) -> Place:
    """The guest's node, which may do anything in the whole VPC as far as its own policy goes."""
    key, owner = scene.place("b1", "guest"), scene.lab.ec2.account
    key.policy(
        roles={owner: f"arn:aws:iam::{owner}:role/floatip"},
        allowedDestinations=[{"cidr": "10.10.0.0/16"}, {"cidr": ADDRESS}],
    )
    key.forget()
    return key


def test_guest_claims_nothing_where_an_interface_of_the_owner_lives(scene: Scene, guest_place: Place) -> None:
    """DescribeNetworkInterfaces shows the guest its own interfaces only: the subnet looks empty."""
    subnet = scene.lab.vpc.subnets["client"]
    look = {"Filters": [{"Name": "subnet-id", "Values": [subnet.id]}]}
    (theirs,) = scene.ec2.describe_network_interfaces(**look)["NetworkInterfaces"]
    as_guest = scene.lab.ec2.client(account=GUEST)
    assert as_guest.describe_network_interfaces(**look)["NetworkInterfaces"] == []

    answer = scene.attach(guest_place, f"{subnet.cidr[200]}/32").add()

    assert answer.code == 102, str(answer)
    assert theirs["NetworkInterfaceId"] in answer.msg
    assert scene.routes(str(subnet.cidr)) == {}
    assert guest_place.claims() == []


def test_guest_claims_an_empty_subnet_of_the_owner(scene: Scene, guest_place: Place) -> None:
    subnet = scene.lab.dummy_subnets[0]
    attachment = scene.attach(guest_place, f"{subnet.cidr[5]}/32")
    assert attachment.add().code == 0
    assert scene.routes(str(subnet.cidr)) == dict.fromkeys(TABLES, "b1 eth1")
    assert attachment.delete().code == 0
    assert scene.routes(str(subnet.cidr)) == {}


def test_faulty_node_configuration_at_del(scene: Scene, guest_place: Place) -> None:
    """Without ``roles`` the owner's tables cannot be written: it stays recorded until they can."""
    attachment = scene.attach(guest_place, ADDRESS)
    assert attachment.add().code == 0
    good = guest_place.config.read_text()
    guest_place.policy(bogus=1)
    assert attachment.delete().code == 0
    assert guest_place.alive() == [f"{attachment.container} releasing"]
    guest_place.config.write_text(good)
    assert guest_place.collect() == []
    assert scene.routes(ADDRESS) == {}
    assert guest_place.alive() == []
