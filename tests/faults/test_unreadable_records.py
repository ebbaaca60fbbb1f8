"""Records that cannot be read, that are newer than we are, or whose write lands when all is over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.two_nodes import ADDRESS, ANOTHER, TABLES, Attachment, Place, Scene, ours_in
from tests.support.waiting import until

pytestmark = pytest.mark.lab(nodes_per_az=1, packets=False)


def added(attachment: Attachment) -> Path:
    """Let ADD succeed; return the file of its claim."""
    answer = attachment.add()
    assert answer.code == 0, str(answer)
    (file,) = (attachment.place.data / "claims").glob("*.json")
    return file


def aside(key: Place) -> list[bytes]:
    return [path.read_bytes() for path in (key.data / "corrupt").glob("*")]


@pytest.mark.parametrize("content", [b"", b"\0\0\0\0", b'{"version": 1, "network"', b'{"version": 1}'])
def test_unreadable_record_is_replaced_by_what_del_is_told(
    scene: Scene, attachment: Attachment, content: bytes
) -> None:
    added(attachment).write_bytes(content)
    answer = attachment.delete()
    assert answer.code == 0
    assert "unreadable" in answer.stderr
    assert content in aside(attachment.place)
    assert scene.routes(ADDRESS) == {}
    assert attachment.place.alive() == []
    assert ours_in(attachment.pod) == []


def test_unreadable_record_and_a_del_that_knows_nothing(scene: Scene, attachment: Attachment) -> None:
    added(attachment).write_bytes(b"")
    assert attachment.delete(prev=False, netns="").code == 0
    assert attachment.delete(prev=False, netns="").code == 0
    assert attachment.place.claims() == []


def test_unreadable_record_while_another_node_has_the_route(scene: Scene, attachment: Attachment) -> None:
    added(attachment).write_bytes(b"")
    scene.point(ADDRESS, "b1 eth1")
    assert attachment.delete().code == 0
    assert scene.routes(ADDRESS) == dict.fromkeys(TABLES, "b1 eth1")


def test_unreadable_record_and_no_ec2(scene: Scene, attachment: Attachment) -> None:
    """What DEL was told is kept until EC2 can be asked."""
    added(attachment).write_bytes(b"")
    scene.lab.ec2.faults.cut("a1")
    answer = attachment.delete()
    assert answer.code == 0
    assert answer.seconds < 10
    assert attachment.place.alive() == [f"{attachment.container} releasing"]
    scene.lab.ec2.faults.clear()
    attachment.place.collect()
    assert scene.routes(ADDRESS) == {}
    assert attachment.place.alive() == []


def test_unreadable_record_of_another_attachment_stops_nobody(
    scene: Scene, place: Place, attachment: Attachment
) -> None:
    added(attachment).write_bytes(b"{")
    other = scene.attach(place, ANOTHER)
    assert other.add().code == 0
    assert scene.routes(ANOTHER) == dict.fromkeys(TABLES, "a1 eth1")
    assert other.delete().code == 0
    assert scene.routes(ANOTHER) == {}
    assert b"{" in aside(place)
    assert attachment.delete().code == 0  # and its own DEL still knows what to do
    assert scene.routes(ADDRESS) == {}


@pytest.mark.parametrize("prev", [True, False])
def test_record_of_a_newer_release_is_kept_as_it_is(
    scene: Scene, place: Place, attachment: Attachment, prev: bool
) -> None:
    """The release that wrote it will know what to do; we would destroy what it knows."""
    file = added(attachment)
    newer = json.dumps(json.loads(file.read_bytes()) | {"version": 99, "lease": "x"}).encode()
    file.write_bytes(newer)
    answer = attachment.delete(prev=prev)
    assert answer.code == 0
    assert "newer release" in answer.stderr
    assert file.read_bytes() == newer
    assert any("newer release" in sentence for sentence in place.collect())
    other = scene.attach(place, ANOTHER)
    assert other.add().code == other.delete().code == 0
    again = attachment.add()
    assert again.code == 5
    assert "newer release" in again.msg
    assert file.read_bytes() == newer


def test_request_that_ec2_applies_when_all_is_over(
    scene: Scene, place: Place, attachment: Attachment
) -> None:
    """The client gave up on it after four seconds and wrote again; the ``gone`` record knows whose it was."""
    attachment.timeout = 30  # on however busy a machine four seconds are not all it has
    scene.lab.ec2.faults.hang("CreateRoute", 60, late=True, caller="a1")
    assert attachment.add().code == 0
    assert attachment.delete().code == 0
    assert scene.routes(ADDRESS) == {}
    scene.lab.ec2.faults.clear()  # what hangs is let go
    until(lambda: scene.routes(ADDRESS))
    assert list(scene.routes(ADDRESS).values()) == ["a1 eth1"]
    assert place.collect() == []
    assert scene.routes(ADDRESS) == {}


@pytest.mark.parametrize("next_call", ["gc", "ADD", "DEL"])
def test_route_of_a_claim_that_is_gone_is_deleted_by_the_next_call(
    scene: Scene, place: Place, attachment: Attachment, next_call: str
) -> None:
    assert attachment.add().code == attachment.delete().code == 0
    scene.point(ADDRESS, "a1 eth1")  # a request of ours that lands late
    other = scene.attach(place, ANOTHER)
    if next_call == "gc":
        assert place.collect() == []
    elif next_call == "ADD":
        assert other.add().code == 0
    else:
        assert other.delete().code == 0
    assert scene.routes(ADDRESS) == {}
    assert other.delete().code == 0


def test_late_write_is_no_stray_while_another_claim_lives(
    scene: Scene, place: Place, attachment: Attachment
) -> None:
    assert attachment.add().code == attachment.delete().code == 0
    heir = scene.attach(place, ADDRESS)
    assert heir.add().code == 0
    assert place.collect() == []
    assert scene.routes(ADDRESS) == dict.fromkeys(TABLES, "a1 eth1")
    assert heir.delete().code == 0
    assert scene.routes(ADDRESS) == {}
