"""How often an interface may change what is claimed for it, and when it is looked at: with the time told."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

from cni_floatip.agent.watch.interface import (
    IDLE_SECONDS,
    MOST_TOLD,
    REFUSED_SECONDS,
    Allowance,
    WatchedInterface,
)
from cni_floatip.config.nodeconf import WatchLimits
from cni_floatip.model.values import Attachment
from cni_floatip.operations.sync_addresses import SyncResult

LIMITS = WatchLimits()
A, B = ip_address("192.168.5.5"), ip_address("192.168.5.6")


def watched(limits: WatchLimits = LIMITS) -> WatchedInterface:
    attachment = Attachment("floating", "c1", "net1")
    return WatchedInterface(
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
    interface = watched()
    interface.on_appeared(A, 100.0)
    assert interface.due == 100.0
    interface.begin(lambda n: n, 100.0)
    interface.allowance.take(4, 100.0)
    interface.end(SyncResult(appeared=[ip_interface("192.168.5.5/32")]), 100.0)
    assert interface.due is None
    interface.on_vanished(A, 100.5)
    interface.on_appeared(A, 100.6)
    assert interface.due is not None
    assert abs(interface.due - 105.0) < 1e-6


def test_a_flood_that_changes_nothing_is_looked_at_now_and_then() -> None:
    interface = watched()
    interface.begin(lambda n: n, 100.0)
    interface.end(SyncResult(), 100.0)
    interface.on_appeared(B, 100.01)
    assert interface.due == 100.0 + IDLE_SECONDS


def test_an_address_that_a_look_made_ready_is_claimed_by_the_next_without_a_pause() -> None:
    interface = watched()
    interface.begin(lambda n: n, 100.0)
    interface.on_appeared(B, 100.0)
    interface.end(SyncResult(ready=[ip_interface("192.168.5.6/32")]), 100.0)
    assert interface.due == 100.0


def test_a_pod_that_has_addresses_made_ready_all_the_time_is_looked_at_now_and_then() -> None:
    interface, ready = watched(), SyncResult(ready=[ip_interface("192.168.5.6/32")])
    for now, pause in ((100.0, 0.0), (101.0, IDLE_SECONDS), (102.0, 0.0)):
        interface.begin(lambda n: n, now)
        interface.end(ready, now)
        interface.on_appeared(B, now)
        assert interface.due == now + pause


def test_what_happens_during_a_look_is_looked_at_after_it() -> None:
    interface = watched()
    request = interface.begin(lambda n: n, 100.0)
    interface.on_vanished(A, 100.1)
    assert request.lost(A)
    assert interface.due is None
    interface.on_appeared(A, 100.2)
    assert not request.lost(A)
    interface.end(SyncResult(dates={A: 5.0}), 101.0)
    assert interface.due is not None
    assert interface.due <= 101.0 + IDLE_SECONDS
    assert interface.dates == {A: -1.0}  # it was away: whatever the kernel's date says


def test_failures_are_tried_again_ever_more_rarely() -> None:
    interface, pauses, now = watched(), [], 100.0
    for _ in range(9):
        interface.begin(lambda n: n, now)
        interface.end(SyncResult(failed={A: "throttled"}), now)
        assert interface.due is not None
        pauses.append(interface.due - now)
        now = interface.due
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    interface.on_appeared(B, now)
    interface.begin(lambda n: n, now)
    interface.end(None, now)
    assert interface.due == now + 1


def test_what_is_refused_rests() -> None:
    interface = watched()
    interface.begin(lambda n: n, 100.0)
    interface.end(SyncResult(refused={A: "policy"}, dates={A: 5.0}), 100.0)
    assert interface.due == 100.0 + REFUSED_SECONDS
    assert A in interface.begin(lambda n: n, 200.0).resting
    interface.end(SyncResult(dates={A: 5.0}), 200.0)
    assert A not in interface.begin(lambda n: n, 401.0).resting


def test_news_are_told_once() -> None:
    interface = watched()
    assert [interface.is_news(A, text, 0.0) for text in ("policy", "policy", "quota")] == [True, False, True]
    interface.forget([], 5.0)
    assert not interface.is_news(A, "quota", 6.0)  # it flaps
    interface.forget([], 100.0)
    assert interface.is_news(A, "quota", 101.0)
    interface.allowance.take(4, 0.0)
    assert [interface.begins_limit(True, at) for at in (0.0, 1.0, 11.0)] == [True, False, False]
    assert interface.begins_limit(True, 41.0)  # another episode: it was quiet for long enough


def test_of_a_crowd_of_addresses_some_are_told_of() -> None:
    """However many a pod gives itself, and takes away again: so many lines in a minute."""
    interface, crowd = watched(), [A + n for n in range(1, 1000)]
    assert sum(interface.is_news(ip, "policy", 0.0) for ip in crowd) == MOST_TOLD
    assert interface.silent
    assert interface.is_news(crowd[0], "quota", 1.0)  # it was told of
    assert interface.is_news("beyond", "16", 1.0)
    interface.forget([], 5.0)
    assert not interface.is_news(A, "policy", 6.0)
    interface.forget([], 100.0)
    assert not interface.silent
    assert sum(interface.is_news(ip, "policy", 101.0) for ip in crowd) == MOST_TOLD


def test_only_addresses_that_may_matter_concern_it() -> None:
    interface = watched()
    assert interface.concerns(A)
    assert interface.concerns(B)
    assert not interface.concerns(ip_address("192.168.6.5"))
    assert not interface.concerns(ip_address("fd00::1"))
