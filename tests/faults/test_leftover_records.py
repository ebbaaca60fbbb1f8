"""What earlier calls left on the disk: looked at before it is forgotten, and never in the way of others."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cni_floatip.model.claim import LATE_SECONDS
from cni_floatip.model.claim_state import State
from tests.support.two_nodes import ADDRESS, ANOTHER, TABLES, Attachment, Place, Scene, ours_in

pytestmark = pytest.mark.lab(nodes_per_az=1, packets=False)


@pytest.fixture
def other(scene: Scene, place: Place) -> Attachment:
    return scene.attach(place, ANOTHER)


def amend(attachment: Attachment, **changes: Any) -> None:
    """Change what is recorded of an attachment."""
    claim = attachment.claim()
    assert claim
    attachment.place.store.put(replace(claim, **changes))


def gone(attachment: Attachment, age: float = LATE_SECONDS + 60) -> None:
    """Leave a record of an attachment that was added and deleted so many seconds ago."""
    assert attachment.add().code == attachment.delete().code == 0
    claim = attachment.claim()
    assert claim
    amend(attachment, last_write_at=claim.last_write_at - age)


@pytest.mark.parametrize("state", [State.STANDBY, State.ACTIVE, State.RELEASING])
def test_what_an_election_left_is_left_by_calls_that_elect_nothing(
    scene: Scene, place: Place, attachment: Attachment, other: Attachment, state: State
) -> None:
    """Nobody here knows which pod has the route."""
    assert attachment.add().code == 0
    before, claim = scene.routes(ADDRESS), attachment.claim()
    assert claim
    amend(attachment, group="core", routes=tuple(replace(route, state=state) for route in claim.routes))
    assert other.add().code == other.delete().code == 0
    place.collect()
    left = attachment.claim()
    assert left
    assert {route.state for route in left.routes} == {state}
    assert attachment.delete().code == 0
    place.collect()
    assert scene.routes(ADDRESS) == before
    assert ours_in(attachment.pod) == []
    assert (attachment.claim() is None) == (state is State.STANDBY)


@pytest.mark.parametrize("next_call", ["gc", "ADD"])
def test_what_landed_late_is_deleted_before_an_old_record_is_forgotten(
    scene: Scene, place: Place, attachment: Attachment, other: Attachment, next_call: str
) -> None:
    gone(attachment)
    scene.point(ADDRESS, "a1 eth1")  # nobody has looked since
    if next_call == "gc":
        assert place.collect() == []
    else:
        assert other.add().code == 0
    assert scene.routes(ADDRESS) == {}
    place.collect()  # it finds nothing any more
    assert attachment.claim() is None


def test_old_record_that_cannot_be_looked_at_is_kept(
    scene: Scene, place: Place, attachment: Attachment
) -> None:
    gone(attachment)
    scene.point(ADDRESS, "a1 eth1")
    scene.lab.ec2.faults.cut("a1")
    place.collect()
    assert attachment.claim() is not None
    scene.lab.ec2.faults.clear()
    place.collect()
    assert scene.routes(ADDRESS) == {}


def test_old_record_of_nothing_is_erased_and_a_young_one_is_kept(
    place: Place, attachment: Attachment, other: Attachment
) -> None:
    gone(attachment)
    gone(other, age=0)
    place.collect()
    assert attachment.claim() is None
    assert other.claim() is not None


@pytest.mark.parametrize(
    ("state", "account", "region"),
    [
        pytest.param("gone", "999988887777", "eu-central-1", id="to be looked at, its role is no more"),
        pytest.param("releasing", "999988887777", "eu-central-1", id="to be released, its role is no more"),
        pytest.param("gone", "", "no/where", id="to be looked at, its region is none"),
    ],
)
def test_leftovers_that_cannot_be_worked_off_are_no_failure_of_an_add(
    scene: Scene, attachment: Attachment, other: Attachment, state: str, account: str, region: str
) -> None:
    """The route of the new pod is there, so the runtime must hear of success."""
    if state == "gone":
        gone(attachment, age=0)
    else:
        scene.lab.ec2.faults.error("DeleteRoute", "UnauthorizedOperation", "no", times=None)
        assert attachment.add().code == attachment.delete().code == 0
        scene.lab.ec2.faults.clear()
    claim = attachment.claim()
    assert claim
    assert claim.state == state
    routes = tuple(replace(route, account=account) for route in claim.routes)
    amend(attachment, region=region, routes=routes)
    answer = other.add()
    assert answer.code == 0, str(answer)
    assert answer.document["ips"]
    assert scene.routes(ANOTHER) == dict.fromkeys(TABLES, "a1 eth1")
    kept = attachment.claim()
    assert kept
    assert kept.state == state


def test_what_an_earlier_add_claimed_and_cannot_be_released_is_no_failure_of_this_one(
    scene: Scene, attachment: Attachment
) -> None:
    assert attachment.add().code == 0
    attachment.tables = ("a",)  # the configuration was changed
    scene.lab.ec2.faults.error("DeleteRoute", "UnauthorizedOperation", "no", times=None)
    answer = attachment.add()
    assert answer.code == 0, str(answer)
    claim = attachment.claim()
    assert claim
    assert {str(route.state) for route in claim.routes} == {"held", "releasing"}
    scene.lab.ec2.faults.clear()
    attachment.place.collect()
    assert scene.routes(ADDRESS) == {"a": "a1 eth1"}


def test_claim_of_before_the_reboot_is_no_heir(scene: Scene, attachment: Attachment, place: Place) -> None:
    """Its pod is gone with its namespace: what it had claimed must not outlive the last pod."""
    assert attachment.add().code == 0
    amend(attachment, boot="another", netns="/run/netns/of-another-boot")
    again = scene.attach(place, ADDRESS)
    assert again.add().code == 0
    assert again.delete().code == 0
    assert scene.routes(ADDRESS) == {}


ODD = ('{"created": null}', "[]", "null", "[" * 100_000)
"""The first is put into a record that is else as we write it. See also ``tests/edges/test_store.py``."""


def test_odd_records_disturb_no_other_attachment(
    scene: Scene, place: Place, attachment: Attachment, other: Attachment
) -> None:
    assert attachment.add().code == 0
    (file,) = (place.data / "claims").glob("*.json")
    sound = json.loads(file.read_text())
    file.write_text(json.dumps(sound | json.loads(ODD[0])))
    for number, odd in enumerate(ODD[1:]):
        file.with_name(f"{number}.json").write_text(odd)
    answer = other.add()
    assert answer.code == 0, str(answer)
    assert answer.stderr.count("unreadable") >= len(ODD)
    assert scene.routes(ANOTHER) == dict.fromkeys(TABLES, "a1 eth1")
    assert other.delete().code == 0
    assert scene.routes(ANOTHER) == {}
    assert ours_in(other.pod) == []
    assert attachment.delete().code == 0  # it is told what was claimed
    assert scene.routes(ADDRESS) == {}


def test_del_on_a_full_disk(scene: Scene, attachment: Attachment) -> None:
    assert attachment.add().code == 0
    answer = attachment.delete("full")
    assert answer.code == 0
    assert "cannot record" in answer.stderr
    assert scene.routes(ADDRESS) == {}
    assert ours_in(attachment.pod) == []
    assert attachment.delete().code == 0
    assert attachment.place.alive() == []


def test_add_on_a_full_disk_writes_nothing(scene: Scene, attachment: Attachment) -> None:
    scene.lab.ec2.journal.clear()
    answer = attachment.add("full")
    assert answer.code == 5, str(answer)
    assert [call.action for call in scene.lab.ec2.journal if not call.action.startswith("Describe")] == []
    assert ours_in(attachment.pod) == []
