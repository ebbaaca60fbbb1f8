"""What becomes of a claim when the pod's addresses are others than they were: with everything in memory."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.agent.recovery import end_by_restart
from cni_floatip.edges.podnet import Parent
from cni_floatip.model.errors import Ec2Fault, InvalidConfig, NotAsClaimed, TryAgain
from cni_floatip.model.values import Attachment, Interface, Link
from cni_floatip.operations.check import check
from cni_floatip.operations.release import attachment_lock
from cni_floatip.operations.sync_addresses import SyncResult, WatchRequest, sync_addresses
from cni_floatip.operations.world import World
from tests.fakes.podnet import FakeLink, FakePod, FakePods
from tests.support.watched_pods import ENI, Place

NETNS = "/run/netns/web"
VIP = "192.168.5.5"
OF_THE_ADD = ["from 192.168.0.2/32 lookup 100", "from 0.0.0.0/0 oif net1 lookup 100"]


class Pod:
    """A pod in memory with one ADDed interface."""

    def __init__(self, tmp_path: Path, *addresses: str, **keys: Any) -> None:
        self.link = FakeLink("net1", addresses=list(addresses or ["192.168.0.2/24"]))
        self.pod = FakePod([self.link])
        policy = keys.pop("policy", {})
        self.place = Place(tmp_path, FakePods({NETNS: self.pod}), lambda _: 7, **policy)
        self.ec2 = self.place.ec2
        self.attachment = self.place.add(NETNS, *self.link.addresses, **keys)
        self.dealt: dict[Any, float] | None = {}
        self.room = 99
        self.lost: set[Any] = set()
        self.ec2.calls.clear()

    def put(self, address: str, made: float = 5.0) -> None:
        self.link.addresses.append(address)
        self.link.made[address] = made

    def take(self, address: str) -> None:
        self.link.addresses.remove(address)

    def look(self, **more: Any) -> SyncResult:
        request = WatchRequest(
            self.attachment,
            self.dealt,
            lambda wanted: min(wanted, self.room),
            self.lost.__contains__,
            **more,
        )
        result = sync_addresses(request, self.place.world)
        self.dealt = dict(result.dates)
        return result

    @property
    def states(self) -> dict[str, str]:
        return self.place.states(self.attachment)

    @property
    def rules(self) -> list[str]:
        return [str(rule) for rule in self.pod.our_rules]


@pytest.fixture
def mover(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


def names(interfaces: Iterable[Interface]) -> list[str]:
    return [str(interface.ip) for interface in interfaces]


def test_what_has_not_changed_is_left(mover: Pod) -> None:
    result = mover.look()
    assert not result.appeared
    assert not result.vanished
    assert mover.ec2.calls == []
    assert mover.states == {"192.168.0.2/32": "held"}


def test_an_address_that_appears_is_claimed_like_an_add(mover: Pod) -> None:
    mover.ec2.point(f"{VIP}/32", "eni-elsewhere")
    recorded = []
    mover.ec2.before_write = lambda _: recorded.append(mover.states[f"{VIP}/32"])
    mover.put(f"{VIP}/24")
    result = mover.look()
    assert names(result.appeared) == [VIP]
    assert mover.ec2.leads(f"{VIP}/32") == ["eni-here", "eni-here"]
    assert recorded == ["claiming", "claiming"]  # on disk before the first write
    assert mover.states == {"192.168.0.2/32": "held", f"{VIP}/32": "held"}
    assert f"from {VIP}/32 lookup 100" in mover.rules
    assert not [line for line in mover.pod.lines() if line.startswith("192.168.5.0/24")]
    assert mover.place.claim(mover.attachment).watched[0].ip == ip_address(VIP)
    assert not mover.look().appeared
    assert mover.place.woken


def test_an_address_that_a_group_elects_is_refused_like_an_add(mover: Pod) -> None:
    mover.place.election.groups = {ip_network(f"{VIP}/32"): "core/web"}
    mover.put(f"{VIP}/24")
    result = mover.look()
    assert "the group core/web elects" in result.refused[ip_address(VIP)]
    assert mover.ec2.calls == []


@pytest.mark.parametrize("network", ["192.168.0.0/16", "172.16.0.0/16"], ids=["allowed", "refused"])
def test_a_look_at_a_crowd_of_addresses_costs_as_much_as_there_are(mover: Pod, network: str) -> None:
    def seconds(count: int) -> float:
        """Return the processor's time for a look when least disturbed."""
        mover.link.addresses[1:] = [f"{ip_network(network)[1000 + n]}/32" for n in range(count)]
        mover.room, results = 0, []
        for _ in range(3):
            began = time.process_time()
            mover.look()
            results.append(time.process_time() - began)
        return min(results)

    assert seconds(2400) < 2 * 4 * seconds(600)


def test_an_address_that_vanishes_is_released_after_the_grace(mover: Pod) -> None:
    mover.put(f"{VIP}/32")
    mover.look()
    mover.take(f"{VIP}/32")
    mover.ec2.calls.clear()
    result = mover.look()
    assert names(result.vanished) == [VIP]
    assert mover.states == {"192.168.0.2/32": "held", f"{VIP}/32": "releasing"}
    after = {route.not_before for route in mover.place.claim(mover.attachment).routes if not route.state.live}
    assert after
    assert min(after) > time.time() + 50
    assert mover.ec2.calls == []
    assert mover.rules == OF_THE_ADD
    assert mover.place.claim(mover.attachment).watched == ()
    mover.put(f"{VIP}/32", made=9.0)
    assert names(mover.look().appeared) == [VIP]
    assert mover.states == {"192.168.0.2/32": "held", f"{VIP}/32": "held"}
    assert all(route.not_before == 0 for route in mover.place.claim(mover.attachment).routes)


def test_an_address_that_was_away_between_two_looks_has_appeared(mover: Pod) -> None:
    mover.put(f"{VIP}/32", made=5.0)
    mover.look()
    mover.ec2.point(f"{VIP}/32", "eni-elsewhere")
    mover.link.made[f"{VIP}/32"] = 6.0
    assert names(mover.look().appeared) == [VIP]
    assert mover.ec2.leads(f"{VIP}/32") == ["eni-here", "eni-here"]


def test_the_address_of_the_add_is_followed_and_its_claim_stands_by(mover: Pod) -> None:
    mover.take("192.168.0.2/24")
    assert names(mover.look().vanished) == ["192.168.0.2"]
    claim = mover.place.claim(mover.attachment)
    assert mover.states == {"192.168.0.2/32": "releasing"}
    assert claim.awaits_address
    assert not claim.live
    mover.put("192.168.0.2/24", made=9.0)
    mover.pod.ours.clear()  # the kernel flushes an interface's routes with its last address
    assert names(mover.look().appeared) == ["192.168.0.2"]
    claim = mover.place.claim(mover.attachment)
    assert mover.states == {"192.168.0.2/32": "held"}
    assert not claim.awaits_address
    assert set(claim.pod_routes) == set(mover.pod.ours)


def test_destinations_of_a_list_stay_claimed(tmp_path: Path) -> None:
    pod = Pod(tmp_path, destination=["192.168.0.0/24"])
    pod.take("192.168.0.2/24")
    pod.look()
    assert pod.states == {"192.168.0.2/32": "releasing", "192.168.0.0/24": "held"}


def test_a_listed_subnet_of_the_add_is_not_written_again(tmp_path: Path) -> None:
    pod = Pod(tmp_path, "10.10.254.5/28", destination=["10.10.254.0/28"])
    pod.ec2.point("10.10.254.0/28", "eni-elsewhere")  # another ADD was later
    for _ in range(3):
        assert not pod.look().appeared
    assert pod.ec2.calls == []


def test_an_address_of_a_listed_subnet_is_written_when_it_appears_and_not_again(tmp_path: Path) -> None:
    pod = Pod(tmp_path, "10.10.254.5/28", destination=["10.10.254.0/28"])
    for made in (5.0, 9.0):
        pod.put("10.10.254.6/28", made)
        assert names(pod.look().appeared) == ["10.10.254.6"]
        assert len(pod.ec2.calls) == 2
        assert not pod.look().appeared
        pod.take("10.10.254.6/28")
        assert names(pod.look().vanished) == ["10.10.254.6"]
        assert not pod.look().vanished
        assert len(pod.ec2.calls) == 2
        assert not [rule for rule in pod.rules if "10.10.254.6" in rule]
        assert pod.states == {"10.10.254.0/28": "held"}
        pod.ec2.calls.clear()


def test_the_address_of_the_add_in_a_listed_subnet_goes_and_comes(tmp_path: Path) -> None:
    pod = Pod(tmp_path, "10.10.254.5/28", destination=["10.10.254.0/28"])
    given = list(pod.rules)
    pod.look()
    pod.take("10.10.254.5/28")
    assert names(pod.look().vanished) == ["10.10.254.5"]
    assert not pod.look().vanished
    pod.ec2.point("10.10.254.0/28", "eni-elsewhere")
    pod.put("10.10.254.5/28", made=9.0)
    assert names(pod.look().appeared) == ["10.10.254.5"]
    assert pod.ec2.leads("10.10.254.0/28") == ["eni-here", "eni-here"]
    assert set(pod.rules) == set(given)
    assert not pod.look().appeared


def test_a_listed_host_route_is_written_once(tmp_path: Path) -> None:
    pod = Pod(tmp_path, destination=[f"{VIP}/32", "192.168.5.0/24"])
    pod.put(f"{VIP}/32")
    assert names(pod.look().appeared) == [VIP]
    pod.ec2.calls.clear()
    assert not pod.look().appeared
    pod.put("192.168.5.6/32")
    assert names(pod.look().appeared) == ["192.168.5.6"]  # the wider one is not its own
    assert pod.ec2.leads("192.168.5.6/32") == ["eni-here", "eni-here"]
    pod.ec2.calls.clear()
    pod.look()
    assert pod.ec2.calls == []


def test_the_last_address_of_a_family_takes_along_what_the_family_was_given(tmp_path: Path) -> None:
    allowed = [{"cidr": "192.168.0.0/16"}, {"cidr": "fd00:5::/64"}]
    pod = Pod(tmp_path, policy={"allowedDestinations": allowed})
    before = pod.pod.lines()
    pod.put("fd00:5::5/128")
    pod.look()
    assert [rule for rule in pod.rules if rule.startswith("from ::/0")] == [
        "from ::/0 oif net1 lookup 100",
        "from ::/0 to fd00:ec2::/32 oif net1 unreachable",
    ]
    pod.take("fd00:5::5/128")
    pod.look()
    assert pod.pod.lines() == before


def test_keep_leaves_the_route_of_a_vanished_address(tmp_path: Path) -> None:
    pod = Pod(tmp_path, onDelete="keep")
    pod.put(f"{VIP}/32")
    pod.look()
    pod.take(f"{VIP}/32")
    pod.look()
    assert pod.states == {"192.168.0.2/32": "held"}
    assert pod.ec2.leads(f"{VIP}/32") == ["eni-here", "eni-here"]


@pytest.mark.parametrize(
    ("address", "says"),
    [
        pytest.param("172.16.0.9/32", "not allowed for namespace core", id="policy"),
        pytest.param("10.10.2.5/32", "where eni-of-somebody lives", id="subnet that is lived in"),
        pytest.param("10.10.77.5/32", "in none of its subnets", id="VPC address without a subnet"),
        pytest.param("192.168.7.7/32", "not ours to replace", id="route to a gateway"),
    ],
)
def test_what_is_refused_does_not_touch_the_rest(mover: Pod, address: str, says: str) -> None:
    mover.ec2.point("192.168.7.7/32", "nat-1", is_eni=False)
    mover.put(address)
    mover.put(f"{VIP}/32")
    result = mover.look()
    assert names(result.appeared) == [VIP]
    assert says in result.refused[ip_address(address.split("/")[0])]
    assert mover.states == {"192.168.0.2/32": "held", f"{VIP}/32": "held"}
    assert f"from {VIP}/32 lookup 100" in mover.rules
    assert len(mover.rules) == len(OF_THE_ADD) + 1
    mover.ec2.calls.clear()
    assert mover.look(resting=set(result.refused)).refused == {}
    assert mover.ec2.calls == []


def test_a_vpc_address_claims_its_subnet_whatever_its_prefix(mover: Pod) -> None:
    mover.put("10.10.254.5/32")
    assert names(mover.look().appeared) == ["10.10.254.5"]
    assert mover.ec2.leads("10.10.254.0/28") == ["eni-here", "eni-here"]
    mover.put("10.10.254.6/32")
    mover.look()
    mover.take("10.10.254.5/32")
    mover.look()
    assert mover.states["10.10.254.0/28"] == "held"  # the other one needs it
    mover.take("10.10.254.6/32")
    mover.look()
    assert mover.states["10.10.254.0/28"] == "releasing"


@pytest.mark.parametrize("kind", ["tentative", "duplicate", "temporary"])
def test_addresses_that_cannot_be_used_or_do_not_stay_are_not_claimed(mover: Pod, kind: str) -> None:
    address = "fd00:5::9/128" if kind == "temporary" else f"{VIP}/32"
    mover.put(address)
    getattr(mover.link, kind).add(address)
    mover.put("fe80::1/64")
    result = mover.look()
    assert not result.appeared
    assert not result.refused
    assert not mover.ec2.calls


VIP6 = "fd00:5::9/128"


def tentative(mover: Pod, address: str = VIP6, made: float = 5.0) -> None:
    mover.put(address, made)
    mover.link.tentative.add(address)


@pytest.fixture
def mover6(tmp_path: Path) -> Pod:
    allowed = [{"cidr": "192.168.0.0/16"}, {"cidr": "fd00:5::/64"}]
    return Pod(tmp_path, policy={"allowedDestinations": allowed})


def test_a_tentative_address_that_appeared_is_made_ready_and_then_claimed(mover6: Pod) -> None:
    tentative(mover6)
    result = mover6.look()
    assert names(result.ready) == ["fd00:5::9"]
    assert not mover6.link.tentative
    assert not result.appeared
    assert names(mover6.look().appeared) == ["fd00:5::9"]


@pytest.mark.parametrize(
    ("dealt", "address"),
    [
        (None, VIP6),
        ({ip_address("fd00:5::9"): 5.0}, VIP6),
        ({}, "fd00:6::9/128"),
        ({}, "2001:db8::9/128"),
    ],
    ids=["after a restart", "there before", "not allowed", "not watched"],
)
def test_other_tentative_addresses_keep_their_date(mover6: Pod, dealt: Any, address: str) -> None:
    """An address that is added again is dated anew, and would take a route that works for another."""
    tentative(mover6, address)
    mover6.dealt = dealt
    assert not mover6.look().ready
    assert mover6.link.tentative == {address}
    assert mover6.link.made[address] == 5.0


def test_a_claimed_address_whose_detection_starts_again_keeps_its_date(mover6: Pod) -> None:
    mover6.put(VIP6)
    mover6.look()
    mover6.ec2.point(VIP6, "eni-elsewhere")
    mover6.ec2.calls.clear()
    mover6.link.tentative.add(VIP6)
    for _ in range(2):
        assert not mover6.look().ready
    assert mover6.ec2.calls == []


def test_a_network_that_wants_detection_waits_for_it(tmp_path: Path) -> None:
    policy = {"allowedDestinations": [{"cidr": "192.168.0.0/16"}, {"cidr": "fd00:5::/64"}]}
    mover = Pod(tmp_path, policy=policy, duplicateAddressDetection=True)
    tentative(mover)
    assert not mover.look().ready
    assert mover.link.tentative == {VIP6}


def test_no_more_addresses_are_made_ready_than_may_be_claimed(mover6: Pod) -> None:
    for number in range(1, 30):
        tentative(mover6, f"fd00:5::{number:x}/128")
    assert len(mover6.look().ready) == mover6.place.world.policy.watch_limits.addresses


def test_an_address_that_cannot_be_made_ready_is_reported_and_tried_again(mover6: Pod) -> None:
    tentative(mover6)
    mover6.pod.fail("skip_detection", "fd00:5::9 cannot be added again")
    result = mover6.look()
    assert result.failed == {ip_address("fd00:5::9"): "skip_detection: fd00:5::9 cannot be added again"}
    assert not result.ready
    mover6.pod.trouble.clear()
    assert names(mover6.look().ready) == ["fd00:5::9"]


def test_a_claimed_address_that_is_probed_again_stays_claimed(mover: Pod) -> None:
    mover.link.tentative.add("192.168.0.2/24")
    mover.look()
    assert mover.states == {"192.168.0.2/32": "held"}


@pytest.mark.parametrize("dealt", [None, {ip_address(VIP): 5.0}], ids=["nobody knows", "dealt with"])
def test_an_old_address_takes_no_route_that_works_elsewhere(mover: Pod, dealt: Any) -> None:
    mover.ec2.point(f"{VIP}/32", "eni-elsewhere")
    mover.put(f"{VIP}/32")
    mover.dealt = dealt
    result = mover.look()
    assert names(result.elsewhere) == [VIP]
    assert not result.appeared
    assert mover.ec2.calls == []
    assert mover.states[f"{VIP}/32"] == "superseded"  # it gets the route when nobody else has it


@pytest.mark.parametrize("there", ["absent", "blackhole", "ours"])
@pytest.mark.parametrize("dealt", [None, {ip_address(VIP): 5.0}], ids=["nobody knows", "dealt with"])
def test_an_old_address_that_leads_nowhere_else_is_claimed(mover: Pod, there: str, dealt: Any) -> None:
    if there != "absent":
        mover.ec2.point(
            f"{VIP}/32", "eni-here" if there == "ours" else "eni-dead", active=there != "blackhole"
        )
    mover.put(f"{VIP}/32")
    mover.dealt = dealt
    assert names(mover.look().appeared) == [VIP]
    assert mover.ec2.leads(f"{VIP}/32") == ["eni-here", "eni-here"]


def test_a_crash_in_between_converges(mover: Pod) -> None:
    mover.put(f"{VIP}/32")
    records: list[Any] = []
    mover.ec2.before_write = lambda _: records.append(mover.place.claim(mover.attachment))
    dealt, _ = mover.dealt, mover.look()
    mover.place.claims.put(end_by_restart(records[0], "boot-1", 0.0))  # what a crash would have left
    mover.dealt = dealt
    assert mover.states == {"192.168.0.2/32": "held", f"{VIP}/32": "releasing"}
    assert names(mover.look().appeared) == [VIP]
    assert mover.states == {"192.168.0.2/32": "held", f"{VIP}/32": "held"}


def crashed(pod: Pod) -> Any:
    """Look, and put the record as a crash at the first write and a restart would have left it."""
    records: list[Any] = []
    pod.ec2.before_write = lambda _: records.append(pod.place.claim(pod.attachment))
    dealt, _ = pod.dealt, pod.look()
    pod.ec2.before_write = lambda _: None
    left = end_by_restart(records[0], "boot-1", 0.0)
    pod.place.claims.put(left)
    pod.dealt = dealt
    return left


def test_a_crash_takes_nothing_from_an_address_of_the_same_subnet(mover: Pod) -> None:
    mover.put("10.10.254.5/32")
    mover.look()
    mover.put("10.10.254.6/32")
    assert crashed(mover).live
    assert mover.states["10.10.254.0/28"] == "held"
    assert names(mover.look().appeared) == ["10.10.254.6"]


def test_after_a_crash_a_pod_that_stood_by_is_followed_still(mover: Pod) -> None:
    mover.take("192.168.0.2/24")
    mover.look()
    mover.put("192.168.0.2/24", made=9.0)
    mover.pod.ours.clear()
    assert crashed(mover).watches
    assert names(mover.look().appeared) == ["192.168.0.2"]
    assert mover.states == {"192.168.0.2/32": "held"}
    assert not mover.place.claim(mover.attachment).awaits_address


def test_what_fails_is_taken_back_and_tried_again(mover: Pod) -> None:
    mover.put(f"{VIP}/32")
    mover.place.clock = iter(range(0, 10_000, 3)).__next__  # time flies
    mover.ec2.script = [Ec2Fault.THROTTLED] * 40
    result = mover.look()
    assert VIP in map(str, result.failed)
    assert not result.appeared
    assert mover.states == {"192.168.0.2/32": "held", f"{VIP}/32": "releasing"}
    assert mover.rules == OF_THE_ADD
    mover.place.clock = time.monotonic
    mover.ec2.script.clear()
    mover.ec2.point(f"{VIP}/32", "eni-elsewhere")
    assert names(mover.look().appeared) == [VIP]  # it has appeared still
    assert mover.ec2.leads(f"{VIP}/32") == ["eni-here", "eni-here"]


def test_a_failed_address_leaves_the_others(mover: Pod) -> None:
    mover.put(f"{VIP}/32")
    mover.put("192.168.5.6/32")

    def refuse(what: str) -> None:
        if "192.168.5.6" in what:
            raise TryAgain("not now")

    mover.ec2.before_write = refuse
    result = mover.look()
    assert names(result.appeared) == [VIP]
    assert list(map(str, result.failed)) == ["192.168.5.6"]
    assert mover.states[f"{VIP}/32"] == "held"
    assert mover.states["192.168.5.6/32"] == "releasing"


def test_del_cancels_it(mover: Pod) -> None:
    mover.put(f"{VIP}/32")

    def delete(_: str) -> None:
        claim = mover.place.claim(mover.attachment)
        if claim.live:
            mover.place.claims.put(claim.release(after=123.0))

    mover.ec2.before_write = delete
    result = mover.look()
    assert not result.appeared
    assert "deleted" in result.failed[ip_address(VIP)]
    assert mover.states == {"192.168.0.2/32": "releasing", f"{VIP}/32": "releasing"}
    assert not mover.place.claim(mover.attachment).awaits_address
    assert mover.look().claim_ended


def test_an_address_that_was_taken_away_meanwhile_is_not_written(mover: Pod) -> None:
    mover.put(f"{VIP}/32")
    mover.lost.add(ip_address(VIP))
    result = mover.look()
    assert "taken away" in result.failed[ip_address(VIP)]
    assert mover.ec2.calls == []


def test_the_call_of_the_attachment_goes_first(mover: Pod) -> None:
    mover.put(f"{VIP}/32")
    with mover.place.claims.lock(attachment_lock(mover.attachment), 0):
        assert mover.look().busy
    assert mover.ec2.calls == []


def test_an_attachment_that_has_ended_is_not_revived(mover: Pod) -> None:
    mover.place.claims.put(mover.place.claim(mover.attachment).release(0.0))
    mover.put(f"{VIP}/32")
    assert mover.look().claim_ended
    mover.attachment = Attachment("floating", "nobody", "net1")
    assert mover.look().claim_ended


def test_sixteen_addresses_and_no_more_in_order_of_appearance(mover: Pod) -> None:
    for number in range(20):
        mover.put(f"192.168.5.{number}/32", made=100.0 - number)
    result = mover.look()
    assert names(result.appeared) == [f"192.168.5.{n}" for n in reversed(range(4, 20))]
    assert sorted(names(result.beyond)) == [f"192.168.5.{n}" for n in range(4)]
    mover.take("192.168.5.19/32")
    result = mover.look()
    assert names(result.appeared) == ["192.168.5.3"]


def test_what_finds_no_room_waits(mover: Pod) -> None:
    mover.room = 1
    mover.put(f"{VIP}/32", made=5.0)
    mover.put("192.168.5.6/32", made=6.0)
    mover.ec2.point("192.168.5.6/32", "eni-elsewhere")
    result = mover.look()
    assert names(result.appeared) == [VIP]
    assert names(result.put_off) == ["192.168.5.6"]
    assert names(mover.look().appeared) == ["192.168.5.6"]  # it has appeared still


def test_an_interface_that_is_gone_has_no_addresses(mover: Pod) -> None:
    mover.put(f"{VIP}/32")
    mover.look()
    mover.pod.unplug("net1")
    assert names(mover.look(unplugged=True).vanished) == ["192.168.0.2", VIP]
    assert mover.pod.our_rules == []


def test_check_agrees_with_what_the_pod_has_given_up(mover: Pod) -> None:
    mover.put(f"{VIP}/32")
    mover.look()
    mover.take(f"{VIP}/32")
    mover.take("192.168.0.2/24")
    mover.look()
    check(mover.place.request("CHECK", NETNS, "192.168.0.2/24"), mover.place.world)
    mover.put("192.168.0.2/24", made=9.0)
    mover.look()
    mover.ec2.point("192.168.0.2/32", "eni-elsewhere")
    with pytest.raises(NotAsClaimed, match=r"192\.168\.0\.2/32 leads to eni-elsewhere"):
        check(mover.place.request("CHECK", NETNS, "192.168.0.2/24"), _later(mover.place.world))


def _later(world: World) -> World:
    """Return the world after EC2's answers have become true."""
    return replace(world, now=lambda: time.time() + 60)


# -- instance metadata that is late --------------------------------------------------------------------------


def test_an_address_is_refused_for_nothing_that_is_remembered(mover: Pod) -> None:
    """Metadata showed for a moment that the VPC had this network too."""
    wider = (*ENI.vpc_cidrs, ip_network("192.168.5.0/24"))
    mover.place.metadata.remembered = replace(ENI, vpc_cidrs=wider)
    mover.put(f"{VIP}/24")
    assert not mover.look().refused
    assert mover.states[f"{VIP}/32"] == "held"


@pytest.mark.parametrize(
    ("kind", "error", "says"),
    [("", TryAgain, "does not list eth1"), ("bridge", InvalidConfig, "no ENI of this instance behind it")],
    ids=["hardware", "a bridge"],
)
def test_a_parent_that_metadata_does_not_list(tmp_path: Path, kind: str, error: Any, says: str) -> None:
    """On EC2 only ENIs are hardware: metadata is to know such a link in a moment."""
    mac = "02:00:00:00:be:ef"
    parent = Parent(Link("eth1", 7, mac, kind), here=True)
    link = FakeLink("net1", mac, parent=parent, addresses=["192.168.0.2/24"])
    key = Place(tmp_path, FakePods({NETNS: FakePod([link])}), lambda _: 7)
    with pytest.raises(error, match=says):
        key.add(NETNS, *link.addresses)
    key.metadata.known.append(mac)
    key.add(NETNS, *link.addresses)


def test_an_interface_in_the_pod_that_metadata_does_not_list(tmp_path: Path) -> None:
    """Behind host-device."""
    link = FakeLink("net1", "02:00:00:00:be:ef", "", addresses=["192.168.0.2/24"])
    key = Place(tmp_path, FakePods({NETNS: FakePod([link])}), lambda _: 7)
    with pytest.raises(TryAgain, match="does not list net1"):
        key.add(NETNS, *link.addresses)
