"""Calls that run at the same time on one node: a DEL that overtakes its ADD, a pod that goes, many pods."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.two_nodes import ADDRESS, TABLES, Attachment, Calling, Place, Scene, ours_in
from tests.support.waiting import until

pytestmark = pytest.mark.lab(nodes_per_az=1, packets=False)


@pytest.fixture
def patient_attachment(scene: Scene, place: Place) -> Attachment:
    attachment = scene.attach(place, ADDRESS, timeout=20)
    scene.source_check(attachment.eni)
    return attachment


SLOW = {
    "before it is recorded": "DescribeRouteTables",
    "before the first write": "ModifyNetworkInterfaceAttribute",
    "during the writes": "CreateRoute",
}


def begin(scene: Scene, attachment: Attachment, when: str) -> Calling:
    """Start an ADD and return once it is as far as ``when``, where it stays until faults are cleared."""
    scene.lab.ec2.faults.hold(SLOW[when], caller=attachment.place.node.name)
    adding = Calling(attachment)
    until(lambda: scene.lab.ec2.faults.held)
    return adding


@pytest.mark.parametrize("on_delete", ["release", "keep"])
@pytest.mark.parametrize("when", SLOW)
def test_del_cancels_the_add_that_is_running(
    scene: Scene, place: Place, patient_attachment: Attachment, when: str, on_delete: str
) -> None:
    patient_attachment.on_delete = on_delete
    adding = begin(scene, patient_attachment, when)
    deleting = Calling(patient_attachment, "DEL")
    until(place.spooled)
    scene.lab.ec2.faults.clear()
    deleted = deleting.answer()
    assert deleted.code == 0
    assert deleted.seconds < 10
    answer = adding.answer()
    assert answer.code == 11, str(answer)
    assert scene.routes(ADDRESS) == {}
    assert ours_in(patient_attachment.pod) == []
    assert place.alive() == []


def test_del_gives_up_waiting_and_the_add_stops_all_the_same(
    scene: Scene, place: Place, patient_attachment: Attachment
) -> None:
    """The ADD has not recorded anything when DEL has to answer: it must find out later."""
    scene.lab.ec2.faults.hang("DescribeNetworkInterfaces", 4.5, times=2)
    adding = Calling(patient_attachment)
    adding.until_begun()
    deleted = patient_attachment.delete()
    assert deleted.code == 0
    assert deleted.seconds < 10
    answer = adding.answer()
    assert answer.code == 11, str(answer)
    assert scene.routes(ADDRESS) == {}
    assert place.alive() == []


@pytest.mark.parametrize("when", SLOW)
def test_namespace_that_vanishes_stops_the_add(
    scene: Scene, place: Place, patient_attachment: Attachment, when: str
) -> None:
    adding = begin(scene, patient_attachment, when)
    place.node.remove_pod(patient_attachment.pod)
    scene.lab.ec2.faults.clear()
    answer = adding.answer()
    assert answer.code == 103
    assert "gone" in answer.msg
    assert scene.routes(ADDRESS) == {}
    assert place.alive() == []
    assert patient_attachment.delete(netns="").code == 0
    assert scene.routes(ADDRESS) == {}


def test_eight_pods_at_once(scene: Scene, place: Place) -> None:
    """Four addresses, two pods each, one through each ENI; then all of them end at once."""
    addresses = [f"192.168.0.{n}/32" for n in range(10, 14)]
    pods = [scene.attach(place, a, eth, timeout=40) for a in addresses for eth in ("eth1", "ens7")]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda pod: pod.add(), pods))
        assert [str(answer) for answer in answers if answer.code] == []
        assert len([claim for claim in place.claims() if claim.live]) == 8
        for address in addresses:
            assert set(scene.routes(address)) == set(TABLES)
            assert set(scene.routes(address).values()) <= {"a1 eth1", "a1 ens7"}
        answers = list(pool.map(lambda pod: pod.delete(), pods))
        assert [str(answer) for answer in answers if answer.code] == []
    place.collect()
    assert place.alive() == []
    for address in addresses:
        assert scene.routes(address) == {}
    for pod in pods:
        assert ours_in(pod.pod) == []


def test_pod_that_is_gone_without_a_del(scene: Scene, place: Place, patient_attachment: Attachment) -> None:
    """``floatipctl gc`` ends its claim on the evidence of another namespace beside the one that is gone."""
    patient_attachment.on_delete = "release"
    witness = scene.attach(place, "192.168.0.3/32")
    assert patient_attachment.add().code == 0
    assert witness.add().code == 0
    place.node.remove_pod(patient_attachment.pod)
    place.collect()
    assert place.alive() == [f"{witness.container} held"]
    assert scene.routes(ADDRESS) == {}
    assert witness.delete().code == 0
