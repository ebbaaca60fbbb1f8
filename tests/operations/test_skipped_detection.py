"""When an ADD skips duplicate address detection, and what a failure leaves: with pods in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cni_floatip.edges.podnet import Parent
from cni_floatip.model.errors import NotAsClaimed, PodNetworkFailure
from cni_floatip.model.values import Attachment, Link
from cni_floatip.operations.add import add
from cni_floatip.operations.check import check
from cni_floatip.operations.delete import delete
from tests.fakes.podnet import FakeLink, FakePod, FakePodNet, FakePods
from tests.support.watched_pods import ENI_MAC, Place

NETNS = "/run/netns/web"
VIP, VIP6 = "192.168.0.2/24", "fd00:192:168::2/64"
LOST = "fd00:192:168::2 cannot be added again: Address already assigned to an ipvlan device"


class Scene:
    """A node and a pod whose IPv6 address the plugin before us left tentative: in memory it stays so."""

    def __init__(self, directory: Path) -> None:
        self.link = FakeLink("net1", ENI_MAC, addresses=[VIP, VIP6], tentative={VIP6})
        self.pod = FakePod([self.link])
        self.pods = FakePods({NETNS: self.pod})
        allowed = [{"cidr": "192.168.0.0/16"}, {"cidr": "fd00:192:168::/48"}]
        self.place = Place(directory, self.pods, lambda _: 7, allowedDestinations=allowed)
        self.place.clock = self.clock
        self.now = 0.0

    def clock(self) -> float:
        """Return a time that passes quickly, so that nothing waits for long."""
        self.now += 1.0
        return self.now

    def request(self, verb: str, **keys: Any) -> Any:
        return self.place.request(verb, NETNS, VIP, VIP6, watchAddresses=None, **keys)

    def add(self, **keys: Any) -> Attachment:
        request = self.request("ADD", **keys)
        add(request, self.place.world)
        attachment: Attachment = request.attachment
        return attachment


@pytest.fixture
def tentative_pod(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_it_comes_after_the_record_and_before_routes_and_rules(
    tentative_pod: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DEL needs the record; the connected route, which comes back with the address, is then removed."""
    before, looks = tentative_pod.pod.lines(), []
    real = FakePodNet.skip_detection

    def look_first(pod: FakePodNet, addresses: Any) -> None:
        states = tentative_pod.place.states(Attachment("floating", "c1", "net1"))
        looks.append((set(states.values()), tentative_pod.pod.lines(), list(tentative_pod.place.ec2.calls)))
        real(pod, addresses)

    monkeypatch.setattr(FakePodNet, "skip_detection", look_first)
    tentative_pod.add()
    (states, lines, calls) = looks[0]
    assert len(looks) == 1
    assert states == {"claiming"}
    assert lines == before
    assert not [call for call in calls if call.startswith(("create", "replace"))]
    assert not tentative_pod.link.tentative
    assert "fd00:192:168::/64 dev net1 table 254 proto 2" not in tentative_pod.pod.lines()


def test_a_network_that_wants_detection_gets_it(tentative_pod: Scene) -> None:
    with pytest.raises(PodNetworkFailure, match="fd00:192:168::2 on net1 cannot be used yet: tentative"):
        tentative_pod.add(duplicateAddressDetection=True)
    assert tentative_pod.link.tentative == {VIP6}


def test_where_others_are_on_the_link_it_is_waited_for(tentative_pod: Scene) -> None:
    tentative_pod.link.kind, tentative_pod.link.parent = (
        "vlan",
        Parent(Link("eth1", 9, ENI_MAC, ""), here=True),
    )
    with pytest.raises(PodNetworkFailure, match="cannot be used yet: tentative"):
        tentative_pod.add()


def test_a_duplicate_keeps_its_error(tentative_pod: Scene) -> None:
    tentative_pod.link.duplicate.add(VIP6)
    with pytest.raises(PodNetworkFailure, match="fd00:192:168::2 on net1 is a duplicate"):
        tentative_pod.add()


def test_an_add_that_loses_the_address_is_undone_and_every_later_call_says_so(tentative_pod: Scene) -> None:
    before = [line for line in tentative_pod.pod.lines() if "fd00:" not in line]
    tentative_pod.pod.fail("skip_detection", LOST)
    with pytest.raises(PodNetworkFailure, match="cannot be added again: Address already assigned"):
        tentative_pod.add()
    assert not [call for call in tentative_pod.place.ec2.calls if call.startswith(("create", "replace"))]
    tentative_pod.pod.trouble.clear()
    tentative_pod.link.addresses.remove(VIP6)
    tentative_pod.pod.others = [route for route in tentative_pod.pod.others if route.destination.version == 4]
    assert tentative_pod.pod.lines() == before
    with pytest.raises(PodNetworkFailure, match="fd00:192:168::2 is not on net1"):
        tentative_pod.add()
    with pytest.raises(NotAsClaimed, match="recorded as"):
        check(tentative_pod.request("CHECK"), tentative_pod.place.world)
    delete(tentative_pod.request("DEL"), tentative_pod.place.world)
    assert tentative_pod.pod.lines() == before
