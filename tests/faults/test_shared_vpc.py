"""A node of an account that merely takes part in the VPC: the tables are the owner's, subnets are shared."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.world import Lab
from tests.conftest import require
from tests.support.two_nodes import TABLES, Place, Scene

GUEST = "444455556666"
ADDRESS = "192.168.0.2/32"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    require("root", "ip")
    with Lab(azs=2, nodes_per_az=1, fast_dad=True, guests={"b1": GUEST}) as running:
        yield running


@pytest.fixture
def place(scene: Scene) -> Place:
    """The guest's node, which may do anything in the whole VPC as far as its own policy goes."""
    place, owner = scene.place("b1", "guest"), scene.lab.ec2.account
    place.policy(
        roles={owner: f"arn:aws:iam::{owner}:role/floatip"},
        allowedDestinations=[{"cidr": "10.10.0.0/16"}, {"cidr": ADDRESS}],
    )
    place.forget()
    return place


def test_guest_claims_nothing_where_an_interface_of_the_owner_lives(scene: Scene, place: Place) -> None:
    """DescribeNetworkInterfaces shows the guest its own interfaces only: the subnet looks empty."""
    subnet = scene.lab.vpc.subnets["client"]
    look = {"Filters": [{"Name": "subnet-id", "Values": [subnet.id]}]}
    (theirs,) = scene.ec2.describe_network_interfaces(**look)["NetworkInterfaces"]
    as_guest = scene.lab.ec2.client(account=GUEST)
    assert as_guest.describe_network_interfaces(**look)["NetworkInterfaces"] == []

    answer = scene.attach(place, f"{subnet.cidr[200]}/32").add()

    assert answer.code == 102, str(answer)
    assert theirs["NetworkInterfaceId"] in answer.msg
    assert scene.routes(str(subnet.cidr)) == {}
    assert place.claims() == []


def test_guest_claims_an_empty_subnet_of_the_owner(scene: Scene, place: Place) -> None:
    subnet = scene.lab.dummy_subnets[0]
    attachment = scene.attach(place, f"{subnet.cidr[5]}/32")
    assert attachment.add().code == 0
    assert scene.routes(str(subnet.cidr)) == dict.fromkeys(TABLES, "b1 eth1")
    assert attachment.delete().code == 0
    assert scene.routes(str(subnet.cidr)) == {}


def test_faulty_node_configuration_at_del(scene: Scene, place: Place) -> None:
    """Without ``roles`` the owner's tables cannot be written: it stays recorded until they can."""
    attachment = scene.attach(place, ADDRESS)
    assert attachment.add().code == 0
    good = place.config.read_text()
    place.policy(bogus=1)
    assert attachment.delete().code == 0
    assert place.alive() == [f"{attachment.container} releasing"]
    place.config.write_text(good)
    assert place.collect() == []
    assert scene.routes(ADDRESS) == {}
    assert place.alive() == []
