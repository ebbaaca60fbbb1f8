"""What real pods lose is put back on events, at a bounded price, and one pod's trouble is no other's."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.agent.watch import watched_pods
from cni_floatip.agent.watch.watched_pods import EVENT_LOOKS, WatchedPod
from cni_floatip.edges.podnet.events import (
    AddressEvent,
    Event,
    Events,
    LinkChanged,
    OursLost,
    Overrun,
    open_events,
)
from cni_floatip.model.errors import PodNetworkFailure
from cni_floatip.model.values import Attachment
from cni_floatip.operations.pod_repair import RepairResult
from tests.agent.watch.pods_in_kernel import Pod
from tests.agent.watch.test_address_events import heard
from tests.agent.watch.test_watcher import Node
from tests.support.claims import a_claim
from tests.support.waiting import until

pytestmark = pytest.mark.needs("root", "ip")


@pytest.fixture
def watcher(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.fixture
def other(host: str) -> Iterator[Pod]:
    made = Pod(host)
    yield made
    made.remove()


def add(node: Node, pod: Pod, address: str = "192.168.0.2/32", container: str = "c1") -> Any:
    """Make the ADD of a pod whose addresses nobody follows."""
    pod.ip(f"addr add {address} dev net1")
    node.place.metadata.known.append(pod.net1_mac)
    attachment = node.place.add(pod.path, address, container=container, mac=pod.net1_mac, watchAddresses=None)
    until(lambda: (side := node.pods.get(attachment)) and side.listening and side.index)
    return attachment


def table(pod: Pod) -> str:
    return pod.ip("route show table 100", check=False)


def rules(pod: Pod) -> set[str]:
    """Return the rules without their priorities."""
    return {line.partition(":")[2] for line in pod.ip("rule").splitlines()}


def descriptors() -> int:
    gc.collect()  # what earlier tests have left closes now, and not while this one counts
    return len(list(Path("/proc/self/fd").iterdir()))


# -- events -------------------------------------------------------------------------------------------------


def losses(events: Events) -> list[Event]:
    """Return what was heard, but for links and addresses: a link that has come up makes some for seconds."""
    return [event for event in heard(events) if isinstance(event, (OursLost, Overrun))]


def test_only_the_loss_of_ours_is_heard_of_routes_and_rules(pod: Pod) -> None:
    """A BGP speaker's routes would fill the socket, and our own writes would never end."""
    events = open_events(pod.path, pod.inode, buffer=4096)
    try:
        ours = "10.9.0.0/16 dev net1 table 100 proto 241"
        pod.batch(
            *(f"route add 10.8.{n}.0/24 dev net1 proto bgp" for n in range(200)),
            *(f"route add fd00:8:{n}::/48 dev net1 proto bgp" for n in range(200)),
            f"route add {ours}",
            "rule add from 10.9.0.1 lookup 100 proto 241",
            "rule add from 10.9.0.2 lookup 300",
            "route flush proto bgp",
            "rule del from 10.9.0.2 lookup 300",
        )
        pod.ip("-6 route flush proto bgp")
        assert losses(events) == []
        pod.ip(f"route del {ours}")
        assert losses(events) == [OursLost()]
        pod.ip("rule del from 10.9.0.1 lookup 100 proto 241")
        assert losses(events) == [OursLost()]
        pod.ip("route add fd00:9::/48 dev net1 table 100 proto 241")
        pod.ip("-6 route flush table 100")
        assert losses(events) == [OursLost()]
        pod.ip("link set net1 down")
        assert any(isinstance(event, LinkChanged) for event in heard(events))
    finally:
        events.close()


def test_put_back_on_an_event_and_the_pods_own_stays(pod: Pod, watcher: Node) -> None:
    with watcher.agent():
        add(watcher, pod)
        pod.batch("route add 10.60.0.0/16 dev net1 table 100", "rule add from 10.9.9.9 lookup 300")
        before = table(pod), rules(pod)
        pod.batch("route del default table 100", "route del unreachable 169.254.0.0/16 table 100")
        pod.ip("rule del from 192.168.0.2 lookup 100")
        until(lambda: (table(pod), rules(pod)) == before)
        until(lambda: any("put back into the pod" in line for line in watcher.place.logged))
        (text,) = [line for line in watcher.place.logged if "put back into the pod" in line]
        assert "core/web-0" in text
        assert "route 0.0.0.0/0 via 10.10.1.1 table 100 is missing" in text
        assert "rule from 192.168.0.2/32 lookup 100 is missing" in text


def test_what_was_lost_while_no_agent_ran(pod: Pod, watcher: Node) -> None:
    with watcher.agent():
        add(watcher, pod)
        before = table(pod)
    pod.ip("route flush table 100")
    with watcher.agent():
        until(lambda: table(pod) == before)


# -- what one pod may cost ----------------------------------------------------------------------------------


def test_one_that_flushes_for_ever_costs_little_and_delays_nobody(
    pod: Pod, other: Pod, watcher: Node
) -> None:
    with watcher.agent():
        hostile, victim = add(watcher, pod), add(watcher, other, "192.168.0.3/32", "c2")
        looks: list[Any] = []
        kernel = watcher.place.kernel

        class Counting:
            def __getattr__(self, name: str) -> Any:
                return getattr(kernel, name)

            def open_pod(self, netns: str, *given: Any, **named: Any) -> Any:
                looks.append(netns)
                return kernel.open_pod(netns, *given, **named)

        watcher.place.kernel = Counting()
        before = table(other)
        stop = threading.Event()

        def flush() -> None:
            lines = ["route flush table 100 proto 241", "link set net1 down", "link set net1 up"] * 20
            while not stop.is_set():
                with contextlib.suppress(subprocess.CalledProcessError):
                    pod.batch(*lines)

        flushing = threading.Thread(target=flush)
        began = time.monotonic()
        flushing.start()
        try:
            until(lambda: looks.count(pod.path) >= EVENT_LOOKS.burst)
            other.ip("route flush table 100")
            until(lambda: table(other) == before)
            assert looks.count(other.path) <= EVENT_LOOKS.burst
            until(lambda: time.monotonic() > began + 3)
        finally:
            stop.set()
            flushing.join()
        most = EVENT_LOOKS.burst + (time.monotonic() - began) / EVENT_LOOKS.seconds_per_change + 1
        assert looks.count(pod.path) <= most
        assert watcher.place.claim(hostile).live
        assert watcher.place.claim(victim).live


def test_one_that_hangs_delays_nobody(pod: Pod, other: Pod, watcher: Node) -> None:
    """Neither another pod, nor the watch, nor the keeper that asks for the look."""
    with watcher.agent() as watch:
        add(watcher, pod), add(watcher, other, "192.168.0.3/32", "c2")
        kernel, entered, go = watcher.place.kernel, threading.Event(), threading.Event()

        class Hanging:
            def __getattr__(self, name: str) -> Any:
                return getattr(kernel, name)

            def open_pod(self, netns: str, *given: Any, **named: Any) -> Any:
                if netns == pod.path:
                    entered.set()
                    assert go.wait(60)
                return kernel.open_pod(netns, *given, **named)

        watcher.place.kernel = Hanging()
        try:
            pod.ip("route flush table 100")
            assert entered.wait(60)
            before, rounds = table(other), watcher.rounds
            other.ip("route flush table 100")
            until(lambda: table(other) == before)
            watch.look_at_pods()
            until(lambda: watcher.rounds > rounds + 1)
        finally:
            go.set()
        until(lambda: "default" in table(pod))


def test_a_namespace_that_is_gone_is_let_go_and_not_reported(pod: Pod, other: Pod, watcher: Node) -> None:
    with watcher.agent() as watch:
        before = descriptors()
        gone = add(watcher, pod)
        add(watcher, other, "192.168.0.3/32", "c2")
        until(lambda: descriptors() == before + 2)
        pod.ip("addr del 192.168.0.2/32 dev net1")
        until(lambda: gone in watcher.pods.lost())
        pod.unlink()
        until(lambda: descriptors() == before + 1)
        watch.look_at_pods()
        until(lambda: gone not in watcher.pods.lost())
        table_before = table(other)
        other.ip("route flush table 100")
        until(lambda: table(other) == table_before)
    assert descriptors() <= before
    assert not [line for line in watcher.place.logged if "cannot look into" in line]


def test_without_events_the_keepers_look_finds_it(pod: Pod, watcher: Node) -> None:
    def deaf(netns: str, inode: int) -> Any:
        raise PodNetworkFailure("no socket")

    with watcher.agent(deaf) as watch:
        pod.ip("addr add 192.168.0.2/32 dev net1")
        watcher.place.metadata.known.append(pod.net1_mac)
        who = watcher.place.add(pod.path, "192.168.0.2/32", mac=pod.net1_mac, watchAddresses=None)
        until(lambda: (side := watcher.pods.get(who)) and side.index)
        before = table(pod)
        pod.ip("route flush table 100")
        watch.look_at_pods()
        until(lambda: table(pod) == before)
        assert len([line for line in watcher.place.logged if "inside the pod late: no socket" in line]) == 1


@pytest.mark.thorough(sample="test_one_that_flushes_for_ever_costs_little_and_delays_nobody")
def test_more_routes_of_ours_than_anybody_needs_are_not_read(
    pod: Pod, watcher: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever administers the pod's network can mark as many as there is memory for."""
    monkeypatch.setattr("cni_floatip.edges.podnet.rtnetlink.MOST_MESSAGES", 500)
    with watcher.agent():
        who = add(watcher, pod)
        many = [f"10.{n // 250}.{n % 250}.0/24 dev net1 table 100 proto 241" for n in range(600)]
        pod.batch(*(f"route add {item}" for item in many), "route del default table 100")
        until(lambda: any("more than 500" in item for item in _what(watcher, who)))
        pod.batch(*(f"route del {item}" for item in many))
        until(lambda: "default" in table(pod))


def _what(node: Node, who: Any) -> tuple[str, ...]:
    lost = node.pods.lost().get(who)
    return lost.what if lost else ()


# -- with the time told -------------------------------------------------------------------------------------


@pytest.fixture
def side() -> WatchedPod:
    return WatchedPod(a_claim(attachment=Attachment("floating", "c1", "net1")), 0.0)


def test_a_burst_of_looks_and_then_one_in_five_seconds(side: WatchedPod) -> None:
    at, now = [], 100.0
    while now < 130.0:
        side.on_event(now)
        assert side.due is not None
        now = side.due
        at.append(now)
        side.begin(now)
        side.end(RepairResult(), 0.0, now)
    assert len(at) <= EVENT_LOOKS.burst + 30 / EVENT_LOOKS.seconds_per_change + 1
    assert at[1] - at[0] == pytest.approx(watched_pods.SETTLE_SECONDS)
    assert at[-1] - at[-2] == pytest.approx(EVENT_LOOKS.seconds_per_change, abs=0.01)
    side.look_at(now + 0.1)  # the keeper's is not one of them
    assert side.due == now + 0.1


def test_one_that_takes_long_to_read_rests_for_long(side: WatchedPod) -> None:
    side.begin(100.0)
    side.on_event(100.5)
    assert side.due is None
    side.end(RepairResult(), 1.0, 101.0)
    assert side.due == 101.0 + watched_pods.REST
    side.begin(121.0)
    side.end(RepairResult(busy=True), 0.0, 122.0)
    assert side.due == 122.0 + watched_pods.BUSY_SECONDS


def test_what_happens_elsewhere_in_the_pod_brings_about_no_look(side: WatchedPod) -> None:
    assert side.concerns(LinkChanged(3))  # which one is ours is not known before the first look
    side.end(RepairResult(index=2), 0.0, 100.0)
    assert [side.concerns(changed) for changed in (LinkChanged(3), LinkChanged(2))] == [False, True]
    address = ip_interface("192.168.0.2/32")
    assert not side.concerns(AddressEvent(3, address, present=False))
    assert side.concerns(OursLost())
    assert side.concerns(Overrun())
