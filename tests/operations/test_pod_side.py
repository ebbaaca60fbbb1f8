"""What one look into a pod puts back, reports and leaves alone: with pods in memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.edges.podnet import OtherRoute, Parent
from cni_floatip.model.claim import Claim
from cni_floatip.model.errors import PodNetworkFailure
from cni_floatip.model.values import Link, PodRoute
from cni_floatip.operations.pod_repair import RepairResult, repair_pod
from tests.fakes.podnet import FakeLink, FakePod, FakePodNet, FakePods
from tests.support.watched_pods import ENI_MAC, Place

NETNS = "/run/netns/web"
VIP, VIP6 = "192.168.0.2/24", "fd00:192:168::2/128"


class Scene:
    """A node with one pod that was added."""

    def __init__(self, directory: Path, **keys: Any) -> None:
        self.inode = 7
        self.link = FakeLink("net1", ENI_MAC, addresses=[VIP, VIP6])
        self.pod = FakePod([self.link])
        self.pods = FakePods({NETNS: self.pod})
        allowed = [{"cidr": "192.168.0.0/16"}, {"cidr": "fd00:192:168::/48"}]
        self.place = Place(directory, self.pods, self.inode_of, allowedDestinations=allowed)
        keys = {"watchAddresses": None, **keys}
        self.attachment = self.place.add(NETNS, VIP, VIP6, **keys)
        self.added = self.pod.lines()

    def inode_of(self, path: str) -> int:
        return self.inode if path in self.pods.pods else 0

    def keep(self) -> RepairResult:
        return repair_pod(self.attachment, self.place.world)

    @property
    def claim(self) -> Claim:
        return self.place.claim(self.attachment)


@pytest.fixture
def case(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_all_is_well_and_nothing_is_touched(case: Scene) -> None:
    for verb in ("add", "remove", "remove_connected"):
        case.pod.fail(verb)
    kept = case.keep()
    assert (kept.repaired, kept.lost, kept.index) == ((), (), case.link.index)


def test_each_thing_that_can_be_lost_is_put_back(case: Scene) -> None:
    routes, rules = list(case.claim.pod_routes), list(case.claim.pod_rules)
    for item in [*routes, *rules]:
        if isinstance(item, PodRoute):
            case.pod.ours.pop(item, None)
        case.pod.our_rules = [rule for rule in case.pod.our_rules if rule != item]
        assert case.keep().repaired == (f"{'rule' if item in rules else 'route'} {item} is missing",)
        assert case.pod.lines() == case.added
    case.pod._connect(case.link, case.claim.connected[0])
    assert "connected route 192.168.0.0/24 is back" in case.keep().repaired[0]
    assert case.pod.lines() == case.added


def test_routes_come_before_the_rules_that_make_them_count(case: Scene) -> None:
    case.pod.ours.clear()
    case.pod.our_rules.clear()
    repaired = case.keep().repaired
    kinds = [item.split()[0] for item in repaired]
    assert kinds == sorted(kinds)
    assert len(repaired) == len(case.claim.pod_routes) + len(case.claim.pod_rules)


def test_nothing_is_put_over_somebody_elses_and_the_rest_is_put_back(case: Scene) -> None:
    default = next(route for route in case.claim.pod_routes if str(route.destination) == "0.0.0.0/0")
    theirs = OtherRoute(default.destination, 100, None, "net1", 3)
    case.pod.ours.clear()
    case.pod.others.append(theirs)
    kept = case.keep()
    assert len(kept.repaired) == len(case.claim.pod_routes) - 1
    (lost,) = kept.lost
    assert "another route is there" in lost
    assert theirs in case.pod.others
    case.pod.others.remove(theirs)
    assert len(case.keep().repaired) == 1
    assert case.pod.lines() == case.added


def test_an_address_and_an_interface_that_are_gone_are_said_and_not_put_back(case: Scene) -> None:
    case.link.addresses.remove(VIP6)
    kept = case.keep()
    assert kept == RepairResult(
        index=case.link.index, lost=("address fd00:192:168::2 is missing",), lost_since=kept.lost_since
    )
    assert VIP6 not in case.link.addresses
    case.pod.unplug("net1")
    assert case.keep().lost == (f"net1 does not exist in the pod ({NETNS})",)


def test_what_is_lost_is_lost_since_then_for_the_next_agent_too(case: Scene) -> None:
    assert case.keep().lost_since == 0.0
    before = time.time()
    case.link.addresses.remove(VIP6)
    since = case.keep().lost_since
    assert before <= since <= time.time()
    case.place.restart()
    assert case.keep().lost_since == since
    case.pod.unplug("net1")  # another loss: the pod has not been whole in between
    assert case.keep().lost_since == since


def test_a_pod_that_is_whole_again_has_lost_nothing(case: Scene) -> None:
    case.link.addresses.remove(VIP6)
    assert case.keep().lost_since
    case.link.addresses.append(VIP6)
    assert case.keep().lost_since == 0.0
    case.place.restart()
    assert case.claim.pod_lost_since == 0.0


@pytest.mark.parametrize("verb", ["addresses", "routes", "rules", "parent", "add"])
def test_a_kernel_that_refuses_is_said(case: Scene, verb: str) -> None:
    case.pod.our_rules.clear()
    case.pod.fail(verb, "the kernel did not answer in time")
    assert all("did not answer in time" in item for item in case.keep().lost)
    assert case.keep().lost
    case.pod.trouble.clear()
    case.keep()
    assert case.pod.lines() == case.added


def test_a_pod_that_gave_its_address_away_is_not_fought(tmp_path: Path) -> None:
    """With ``watchAddresses`` it is the pod's to move; the kernel takes its family's routes along."""
    scene = Scene(tmp_path, watchAddresses=["192.168.0.0/16"])
    scene.link.addresses.remove(VIP)
    of4 = [route for route in scene.pod.ours if route.destination.version == 4]
    for pod_route in of4:
        del scene.pod.ours[pod_route]
    before = scene.pod.lines()
    assert scene.keep() == RepairResult(index=scene.link.index)
    assert scene.pod.lines() == before
    scene.link.addresses.append(VIP)
    assert len(scene.keep().repaired) == len(of4)
    assert scene.pod.lines() == scene.added


def gone(scene: Scene) -> None:
    del scene.pods.pods[NETNS]


def elsewhere(scene: Scene) -> None:
    scene.inode = 8


def ended(scene: Scene) -> None:
    scene.place.claims.update(scene.attachment, lambda now: now.release(0.0, 1.0))


def rebooted(scene: Scene) -> None:
    scene.place.claims.put(replace(scene.claim, boot="boot-0"))


def erased(scene: Scene) -> None:
    scene.place.claims.delete(scene.attachment)


@pytest.mark.parametrize("change", [gone, elsewhere, ended, rebooted, erased], ids=lambda c: c.__name__)
def test_what_is_no_pod_of_ours_any_more_is_not_touched(case: Scene, change: Callable[[Scene], None]) -> None:
    case.pod.ours.clear()
    change(case)
    assert case.keep() == RepairResult(claim_ended=True)
    assert not case.pod.ours


def test_while_its_own_call_is_at_work_it_waits(case: Scene) -> None:
    from cni_floatip.operations.release import attachment_lock

    case.pod.ours.clear()
    with case.place.claims.lock(attachment_lock(case.attachment), 0):
        assert case.keep() == RepairResult(busy=True)
    assert not case.pod.ours


def test_a_del_that_comes_meanwhile_finds_the_pod_empty(case: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for nobody: it may have cleared the pod just before something was put back."""
    case.pod.our_rules.clear()
    case.pod.ours.clear()
    real = FakePodNet.add
    known: list[Any] = []

    def add(self: FakePodNet, wanted: Any) -> None:
        if not known:
            ended(case)  # and the pod is clear already
        known.append(wanted)
        real(self, wanted)

    monkeypatch.setattr(FakePodNet, "add", add)
    assert case.keep() == RepairResult(claim_ended=True)
    assert known
    assert not case.pod.ours
    assert not case.pod.our_rules


def test_the_enis_link_comes_up_as_for_an_add(case: Scene) -> None:
    down = Link("eth1", 99, ENI_MAC, up=False, carrier=False)
    case.pods.host[99] = down
    case.link.parent = Parent(down, here=True)
    assert case.keep().raised == "eth1"
    assert case.pods.host[99].up
    case.link.parent = Parent(case.pods.host[99], here=True)
    assert case.keep().raised == ""
    case.pods.dead.add("eth1")
    case.link.parent = Parent(down, here=True)
    assert "no carrier" in case.keep().lost[0]
    case.link.parent = Parent(replace(down, up=True), here=True)
    assert case.keep().lost == ("eth1, on which the interface is, has no carrier",)
    case.link.parent = Parent(down, here=False)  # another pod's, or the ENI's own end
    assert case.keep() == RepairResult(index=case.link.index)


def test_a_record_of_an_earlier_release_is_kept_by(case: Scene) -> None:
    """It knows nothing of rules for what is bound: what it lists is put back, and no more."""
    document = case.claim.document()
    for key in ("mac", "vpc", "watched", "standby", "deleted"):
        del document[key]
    document["podRules"] = [item for item in document["podRules"] if not item["oif"]]
    for item in document["podRules"]:
        del item["oif"], item["barred"]
    earlier = Claim.parse(document)
    case.place.claims.put(earlier)
    case.pod.ours.clear()
    case.pod.our_rules.clear()
    assert len(case.keep().repaired) == len(earlier.pod_routes) + len(earlier.pod_rules)
    assert set(case.pod.our_rules) == set(earlier.pod_rules)
    assert not any(rule.oif for rule in case.pod.our_rules)


def test_one_failure_does_not_hide_the_next(case: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def add(self: FakePodNet, wanted: Any) -> None:
        raise PodNetworkFailure(f"{wanted}: the interface is down")

    case.pod.ours.clear()
    monkeypatch.setattr(FakePodNet, "add", add)
    assert len(case.keep().lost) == len(case.claim.pod_routes)
