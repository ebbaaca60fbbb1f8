"""EC2 out of reach: DEL answers in time and leaves a record, which the next call works off."""

from __future__ import annotations

import pytest

from tests.support.two_nodes import ADDRESS, ANOTHER, TABLES, Attachment, Place, Scene, ours_in

pytestmark = pytest.mark.lab(nodes_per_az=1, packets=False)


@pytest.mark.parametrize(
    ("silent", "next_call"),
    [(False, "gc"), (False, "DEL"), (True, "ADD")],
    ids=["refused, then gc", "refused, then another DEL", "silent, then another ADD"],
)
def test_del_without_ec2(
    scene: Scene, place: Place, attachment: Attachment, silent: bool, next_call: str
) -> None:
    other = scene.attach(place, ANOTHER)
    assert attachment.add().code == other.add().code == 0
    scene.lab.ec2.faults.cut("a1", silent=silent)
    answer = attachment.delete()
    assert answer.code == 0
    assert answer.seconds < 10
    assert ours_in(attachment.pod) == []
    assert sorted(place.alive()) == sorted([f"{attachment.container} releasing", f"{other.container} held"])
    scene.lab.ec2.faults.clear()
    assert scene.routes(ADDRESS) == dict.fromkeys(TABLES, "a1 eth1")
    if next_call == "gc":
        assert place.collect() == []
    else:
        assert other.call(next_call).code == 0
    assert scene.routes(ADDRESS) == {}
    assert other.delete().code == 0
    assert place.alive() == []


@pytest.mark.thorough(
    sample="tests/conformance/test_delete.py::test_D14_within_ten_seconds_whatever_happens[client]"
)
def test_del_that_finds_much_to_do_and_no_ec2(scene: Scene, place: Place, attachment: Attachment) -> None:
    """Ten seconds in all, however much earlier calls have left."""
    others = [scene.attach(place, f"192.168.0.{n}/32") for n in range(10, 13)]
    for item in (attachment, *others):
        assert item.add().code == 0
    for other in others:  # as earlier calls without EC2 leave them
        claim = other.claim()
        assert claim
        place.store.put(claim.release(0.0))
    scene.lab.ec2.faults.cut("a1", silent=True)
    answer = attachment.delete()
    assert answer.code == 0
    assert answer.seconds < 10
    scene.lab.ec2.faults.clear()
    assert place.collect() == []
    for item in (attachment, *others):
        assert scene.routes(item.address) == {}
    assert place.alive() == []


@pytest.mark.parametrize("action", ["DescribeRouteTables", "*Route"])
def test_add_without_ec2(scene: Scene, place: Place, attachment: Attachment, action: str) -> None:
    """ADD ends within its own deadline; what it may have written is on record."""
    attachment.timeout = 12
    scene.lab.ec2.faults.lose_answer(action, times=None, caller="a1")
    answer = attachment.add()
    assert answer.code == 11
    assert answer.seconds < 12
    assert ours_in(attachment.pod) == []
    scene.lab.ec2.faults.clear()
    assert attachment.delete(prev=False).code == 0
    assert scene.routes(ADDRESS) == {}
    assert place.alive() == []


def test_node_that_was_cut_off_returns(scene: Scene, place: Place, attachment: Attachment) -> None:
    """Its DEL came while it was away; meanwhile the pod lives elsewhere."""
    assert attachment.add().code == 0
    scene.lab.ec2.faults.cut("a1")
    assert attachment.delete().code == 0
    scene.point(ADDRESS, "b1 eth1")
    scene.lab.ec2.faults.clear()
    assert place.collect() == []
    assert scene.routes(ADDRESS) == dict.fromkeys(TABLES, "b1 eth1")
    assert place.alive() == []
