"""DEL's promise: the runtime is answered within ten seconds, whatever EC2 does; the rest is on disk."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab.ec2.faults import Faults
from tests.support.two_nodes import Attachment, Calling, Scene, ours_in

GUESTS = {"b1": "444455556666"}

pytestmark = pytest.mark.lab(guests=GUESTS, packets=False)

PROMISE = 10.0


def _slow(faults: Faults, caller: str) -> None:
    for action in ("DescribeRouteTables", "DeleteRoute"):
        faults.latency(3, action, caller=caller)


SLOW: dict[str, tuple[str, Callable[[Faults, str], None]]] = {
    "reading hangs": ("a1", lambda faults, me: faults.hang("DescribeRouteTables", 8, times=None, caller=me)),
    "everything takes three seconds": ("a2", _slow),
    "the role is never given": ("b1", lambda faults, me: faults.hang("AssumeRole", 8, times=None, caller=me)),
}
"""To which node EC2 does what."""


def prepared(scene: Scene, node: str, first: int) -> Attachment:
    """Return an attachment on a node that is to claim 12 addresses, which in two tables makes 24 routes."""
    key, owner = scene.place(node, "bounds"), scene.lab.ec2.account
    if node in GUESTS:
        key.policy(roles={owner: f"arn:aws:iam::{owner}:role/floatip"})
    own, *more = (f"192.168.0.{first + n}/32" for n in range(12))
    return scene.attach(key, own, timeout=60, keys={"destination": more})


@pytest.mark.thorough(
    sample="tests/conformance/test_delete.py::test_D14_within_ten_seconds_whatever_happens[client]"
)
def test_del_of_24_routes_is_answered_in_time_and_the_rest_is_recorded(scene: Scene) -> None:
    """The cases wait side by side, each on a node of its own."""
    faults = scene.lab.ec2.faults
    attachments = {why: prepared(scene, SLOW[why][0], 20 * n) for n, why in enumerate(SLOW, start=1)}
    for adding in [Calling(attachment) for attachment in attachments.values()]:
        assert adding.answer().code == 0, str(adding.answer())
    for node, plant in SLOW.values():
        plant(faults, node)
    calls = {why: Calling(attachment, "DEL") for why, attachment in attachments.items()}
    for why, call in calls.items():
        answer, attachment = call.answer(), attachments[why]
        assert answer.code == 0, f"{why}: {answer}"
        assert answer.seconds < PROMISE, f"{why}: {answer}"
        assert ours_in(attachment.pod) == [], why
        claim = attachment.claim()
        assert claim, why
        assert len(claim.routes) == 24, why
        left = {str(r.key) for r in claim.routes if r.state == "releasing"}
        assert left, f"{why}: nothing was slow"
        assert not claim.live, why
        assert left >= there(scene, attachment), why
    faults.clear()
    for why, attachment in attachments.items():
        attachment.place.collect()
        assert attachment.place.alive() == [], why
        assert there(scene, attachment) == set(), why


def there(scene: Scene, attachment: Attachment) -> set[str]:
    """Return which of its routes EC2 has: "rtb-1 192.168.0.2/32"."""
    return {
        f"{scene.lab.tables[table]} {destination}"
        for destination in (attachment.address, *attachment.keys["destination"])
        for table in scene.routes(destination)
    }
