"""What fails for one interface takes nothing from another: of the same pod, or of another node."""

from __future__ import annotations

from typing import Any

import pytest

from lab import netns
from tests.support.two_nodes import ADDRESS, ANOTHER, TABLES, Attachment, Calling, Place, Scene, ours_in

pytestmark = pytest.mark.lab(nodes_per_az=1, packets=False)


WRITES = ("CreateRoute", "ReplaceRoute", "DeleteRoute", "ModifyNetworkInterfaceAttribute")


def two(scene: Scene, key: Place, **routing: object) -> tuple[Attachment, Attachment]:
    """Return net1 and net2 of one pod, through two ENIs."""
    keys = {"podRoutes": {"to": ["10.0.0.0/8"], **routing}}
    net1 = scene.attach(key, ADDRESS, keys=keys)
    more: dict[str, Any] = {"container": net1.container, "ifname": "net2", "keys": keys}
    return net1, scene.plug(Attachment(key, net1.pod, "ens7", ANOTHER, **more))


def test_two_interfaces_with_the_same_fixed_table(scene: Scene, place: Place) -> None:
    """The second would turn the routes of the first to its own ENI."""
    net1, net2 = two(scene, place, sourceRouting=100)
    assert net1.add().code == 0
    given = ours_in(net1.pod)
    answer = net2.add()
    assert answer.code == 7, str(answer)
    assert "sourceRouting: table 100 is in use: the pod's interface net1" in answer.msg
    assert ours_in(net1.pod) == given
    assert scene.routes(ANOTHER) == {}
    assert net2.claim() is None
    assert net2.delete().code == 0
    assert ours_in(net1.pod) == given
    assert net1.add().code == 0  # the same call once more finds its own table
    assert ours_in(net1.pod) == given


def test_second_interface_that_fails_in_ec2(scene: Scene, place: Place) -> None:
    net1, net2 = two(scene, place)  # with tables of their own
    assert net1.add().code == 0
    given = ours_in(net1.pod)
    scene.lab.ec2.faults.error("CreateRoute", "UnauthorizedOperation", "no", times=None)
    answer = net2.add()
    assert answer.code == 100, str(answer)
    assert ours_in(net1.pod) == given
    assert scene.routes(ADDRESS) == dict.fromkeys(TABLES, "a1 eth1")
    assert scene.routes(ANOTHER) == {}
    assert net1.check().code == 0


FAILS_HERE = {
    "a rule of somebody else": ["rule add from 192.168.0.2/32 lookup 77"],
    "an address that is missing": [f"addr del {ADDRESS} dev net1"],
}


@pytest.mark.parametrize("why", FAILS_HERE)
def test_add_that_fails_in_the_pod_takes_no_route_from_another_node(
    scene: Scene, place: Place, why: str
) -> None:
    scene.point(ADDRESS, "b1 eth1")
    attachment = scene.attach(
        place,
        ADDRESS,
    )
    scene.source_check(attachment.eni)
    netns.ip(attachment.pod.ns, FAILS_HERE[why])
    before = ours_in(attachment.pod)
    scene.lab.ec2.journal.clear()
    answer = attachment.add()
    assert answer.code in (7, 103), str(answer)
    assert [c.action for c in scene.lab.ec2.journal if c.caller == "a1" and c.action in WRITES] == []
    assert scene.routes(ADDRESS) == dict.fromkeys(TABLES, "b1 eth1")
    assert scene.checks_source(attachment.eni)
    assert ours_in(attachment.pod) == before
    assert attachment.delete().code == 0
    assert scene.routes(ADDRESS) == dict.fromkeys(TABLES, "b1 eth1")


@pytest.mark.parametrize(
    ("seconds", "times"), [(1, 1), (3, 2)], ids=["the ADD stops in time", "DEL has to answer before it"]
)
def test_del_while_the_add_is_repeated(scene: Scene, place: Place, seconds: float, times: int) -> None:
    """The claim is held already, by the ADD before; the one that runs has written nothing yet."""
    attachment = scene.attach(place, ADDRESS, timeout=30)
    assert attachment.add().code == 0
    scene.lab.ec2.journal.clear()
    scene.lab.ec2.faults.hang("DescribeRouteTables", seconds, times=times)
    adding = Calling(attachment)
    adding.until("DescribeNetworkInterfaces")
    assert attachment.delete().code == 0
    answer = adding.answer()
    assert answer.code == 11, str(answer)
    assert [claim for claim in place.claims() if claim.live] == []
    place.collect()
    assert scene.routes(ADDRESS) == {}
    assert place.alive() == []
