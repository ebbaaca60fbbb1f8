"""How often an interface may change what is claimed for it, and when it is looked at: with the time told."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

from cni_floatip.agent.watch.interface import IDLE_SECONDS, MOST_TOLD, REFUSED_SECONDS, Allowance, Watched
from cni_floatip.config.nodeconf import WatchLimits
from cni_floatip.model.values import Attachment
from cni_floatip.operations.sync_addresses import Followed

LIMITS = WatchLimits()
A, B = ip_address("192.168.5.5"), ip_address("192.168.5.6")


def watched(limits: WatchLimits = LIMITS) -> Watched:
    attachment = Attachment("floating", "c1", "net1")
    return Watched(
        attachment, 1.0, "/n", 7, 2, {A}, [ip_network("192.168.5.0/24")], {}, Allowance(limits, 0.0)
    )


def test_a_burst_and_then_one_change_per_five_seconds() -> None:
    room = Allowance(LIMITS, 0.0)
    assert room.take(6, 0.0) == 4
    assert [room.take(1, at) for at in (1.0, 4.9, 5.0, 6.0, 10.0)] == [0, 0, 1, 0, 1]
    assert room.due(11.0) == 15.0 - 1e-9 * 5 or abs(room.due(11.0) - 15.0) < 1e-6
    assert not room.full(20.0)
    assert room.full(30.0)


def test_the_administrator_alone_sets_the_limits() -> None:
    room = Allowance(WatchLimits(burst=10, seconds_per_change=0.5), 0.0)
    assert room.take(99, 0.0) == 10
    assert room.take(99, 1.0) == 2


def test_a_change_is_looked_at_at_once_and_without_room_when_there_is() -> None:
    each = watched()
    each.appeared(A, 100.0)
    assert each.due == 100.0
    each.begin(lambda n: n, 100.0)
    each.allowance.take(4, 100.0)
    each.end(Followed(appeared=[ip_interface("192.168.5.5/32")]), 100.0)
    assert each.due is None
    each.vanished(A, 100.5)
    each.appeared(A, 100.6)
    assert each.due is not None
    assert abs(each.due - 105.0) < 1e-6


def test_a_flood_that_changes_nothing_is_looked_at_now_and_then() -> None:
    each = watched()
    each.begin(lambda n: n, 100.0)
    each.end(Followed(), 100.0)
    each.appeared(B, 100.01)
    assert each.due == 100.0 + IDLE_SECONDS


def test_what_happens_during_a_look_is_looked_at_after_it() -> None:
    each = watched()
    asked = each.begin(lambda n: n, 100.0)
    each.vanished(A, 100.1)
    assert asked.lost(A)
    assert each.due is None
    each.appeared(A, 100.2)
    assert not asked.lost(A)
    each.end(Followed(dealt={A: 5.0}), 101.0)
    assert each.due is not None
    assert each.due <= 101.0 + IDLE_SECONDS
    assert each.dealt == {A: -1.0}  # it was away: whatever the kernel's date says


def test_failures_are_tried_again_ever_more_rarely() -> None:
    each, pauses, now = watched(), [], 100.0
    for _ in range(9):
        each.begin(lambda n: n, now)
        each.end(Followed(failed={A: "throttled"}), now)
        assert each.due is not None
        pauses.append(each.due - now)
        now = each.due
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    each.appeared(B, now)
    each.begin(lambda n: n, now)
    each.end(None, now)
    assert each.due == now + 1


def test_what_is_refused_rests() -> None:
    each = watched()
    each.begin(lambda n: n, 100.0)
    each.end(Followed(refused={A: "policy"}, dealt={A: 5.0}), 100.0)
    assert each.due == 100.0 + REFUSED_SECONDS
    assert A in each.begin(lambda n: n, 200.0).resting
    each.end(Followed(dealt={A: 5.0}), 200.0)
    assert A not in each.begin(lambda n: n, 401.0).resting


def test_news_are_told_once() -> None:
    each = watched()
    assert [each.news(A, text, 0.0) for text in ("policy", "policy", "quota")] == [True, False, True]
    each.forget([], 5.0)
    assert not each.news(A, "quota", 6.0)  # it flaps
    each.forget([], 100.0)
    assert each.news(A, "quota", 101.0)
    each.allowance.take(4, 0.0)
    assert [each.limited(True, at) for at in (0.0, 1.0, 11.0)] == [True, False, False]
    assert each.limited(True, 41.0)  # another episode: it was quiet for long enough


def test_of_a_crowd_of_addresses_some_are_told_of() -> None:
    """However many a pod gives itself, and takes away again: so many lines in a minute."""
    each, crowd = watched(), [A + n for n in range(1, 1000)]
    assert sum(each.news(ip, "policy", 0.0) for ip in crowd) == MOST_TOLD
    assert each.silent
    assert each.news(crowd[0], "quota", 1.0)  # it was told of
    assert each.news("beyond", "16", 1.0)
    each.forget([], 5.0)
    assert not each.news(A, "policy", 6.0)
    each.forget([], 100.0)
    assert not each.silent
    assert sum(each.news(ip, "policy", 101.0) for ip in crowd) == MOST_TOLD


def test_only_addresses_that_may_matter_concern_it() -> None:
    each = watched()
    assert each.concerns(A)
    assert each.concerns(B)
    assert not each.concerns(ip_address("192.168.6.5"))
    assert not each.concerns(ip_address("fd00::1"))
