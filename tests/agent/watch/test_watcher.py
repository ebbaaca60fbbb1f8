"""The watch in a node with real pods: kernel events in, VPC routes out."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.agent.observe.recorder import NullRecorder
from cni_floatip.agent.watch.history import AddressHistory
from cni_floatip.agent.watch.interface import MOST_TOLD
from cni_floatip.agent.watch.namespaces import NamespaceEvents
from cni_floatip.agent.watch.watched_pods import WatchedPods
from cni_floatip.agent.watch.watcher import Hooks, Watcher
from cni_floatip.edges import host, podnet
from cni_floatip.edges.podnet.events import Event, Events, open_events
from cni_floatip.model.claim import Claim
from cni_floatip.model.claim_state import State
from cni_floatip.model.errors import Ec2Fault, TryAgain
from cni_floatip.model.recorded_config import RecordedConfig
from cni_floatip.model.values import Attachment
from tests.agent.watch.pods_in_kernel import Pod, ip
from tests.support.claims import a_claim, a_route
from tests.support.waiting import throughout, until
from tests.support.watched_pods import Place, running

pytestmark = pytest.mark.needs("root", "ip")

VIP = "192.168.5.5"


class Counted(NullRecorder):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def watch(self, what: str) -> None:
        self.seen.append(what)


class Node:
    """A node with an agent's watch, that can be started and ended."""

    def __init__(self, directory: Path, **policy: Any) -> None:
        self.place = Place(directory, podnet, host.inode, **policy)
        self.ec2 = self.place.ec2
        self.counts = Counted()
        self.watch: Watcher
        self.asked: list[str] = []
        self.rounds = 0

    def vpc(self, region: str, who: str, stop: Callable[[], str | None]) -> Any:
        self.asked.append(f"{region} {who} {stop() or ''}".strip())
        return self.ec2

    def beat(self) -> None:
        self.rounds += 1

    @contextmanager
    def agent(self, listen_in: Callable[..., Any] = open_events) -> Iterator[Watcher]:
        self.place.restart()
        appearances = AddressHistory(str(self.place.directory), "boot-1")
        self.pods = WatchedPods(self.place.world, self.counts)
        self.watch = Watcher(
            self.place.world,
            self.counts,
            appearances,
            self.pods,
            Hooks(vpc=self.vpc, beat=self.beat, listen_in=listen_in),
        )
        self.watch.subscribe(self.place.claims.listen)
        with running(self.watch.run):
            yield self.watch

    def add(self, pod: Pod, address: str = "192.168.0.2/24", container: str = "c1", **keys: Any) -> Any:
        pod.ip(f"addr add {address} dev net1")
        self.place.metadata.known.append(pod.net1_mac)
        attachment = self.place.add(pod.path, address, container=container, mac=pod.net1_mac, **keys)
        until(lambda: attachment in self.watch.watching())
        return attachment

    def addresses_on_disk(self, who: Attachment) -> set[str]:
        """Return the addresses that the next agent reads of the attachment."""
        return {str(ip) for ip in AddressHistory(str(self.place.directory), "boot-1").get(who) or ()}

    def writes(self, destination: str) -> int:
        return len([call for call in self.ec2.calls if f" {destination} " in call])


@pytest.fixture
def watcher(tmp_path: Path) -> Node:
    return Node(tmp_path)


SOON = 20.0
"""On however busy a machine: long before anybody would look by themselves (``UNSEEN_SECONDS``)."""


def plugs(pod: Pod) -> bool:
    """Give a pod its interface; false while a namespace that is ending still has the parent."""
    with contextlib.suppress(subprocess.CalledProcessError):
        pod.plug()
        return True
    return False


def test_an_address_is_followed_there_and_back(pod: Pod, watcher: Node) -> None:
    with watcher.agent():
        who = watcher.add(pod)
        watcher.ec2.point(f"{VIP}/32", "eni-elsewhere")
        began = time.monotonic()
        pod.ip(f"addr add {VIP}/32 dev net1")
        until(lambda: watcher.place.states(who).get(f"{VIP}/32") == "held")
        assert time.monotonic() - began < SOON
        assert watcher.ec2.leads(f"{VIP}/32") == ["eni-here", "eni-here"]
        assert f"from {VIP} lookup 100" in pod.ip("rule")
        pod.ip(f"addr del {VIP}/32 dev net1")
        until(lambda: watcher.place.states(who)[f"{VIP}/32"] == "releasing")
        assert f"from {VIP} lookup 100" not in pod.ip("rule")
        until(lambda: watcher.counts.seen == ["appeared", "vanished"])


BOTH_FAMILIES = {
    "allowedDestinations": [{"cidr": "192.168.0.0/16"}, {"cidr": "fd00:5::/64"}],
    "allowedRouteTables": {"ids": ["rtb-a", "rtb-b"]},
    "allowHostDevice": True,
}
VIP6 = "fd00:5::5/128"


def detects_for(pod: Pod, seconds: int) -> None:
    """Let duplicate address detection of net1 take so long."""
    path = "/proc/sys/net/ipv6/conf/net1/dad_transmits"
    write = ["ip", "netns", "exec", pod.name, "sh", "-c", f"echo {seconds} > {path}"]
    subprocess.run(write, check=True)


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "after detection"])
def test_an_ipv6_address_is_claimed_once_it_can_be_used(pod: Pod, watcher: Node, waits: bool) -> None:
    watcher.place.policy = watcher.place.policy.parse(BOTH_FAMILIES)
    known = []
    with watcher.agent():
        who = watcher.add(pod, duplicateAddressDetection=waits)
        watcher.ec2.before_write = lambda what: known.append(pod.ip("-6 addr show dev net1"))
        detects_for(pod, 1 if waits else 250)  # the second is longer than the test waits
        pod.ip(f"addr add {VIP6} dev net1")
        until(lambda: watcher.place.states(who).get(VIP6) == "held")
        shown = known[0].split(VIP6)[1].splitlines()[0]
        assert "tentative" not in shown
        assert ("nodad" not in shown) is waits
        assert "from fd00:5::5 lookup 100" in pod.ip("-6 rule")
        until(lambda: "fd00:5::5" in watcher.addresses_on_disk(who))
    assert watcher.writes(VIP6) == 2  # one for each table: the second date was no second appearance


def test_the_last_ipv4_address_takes_the_pods_routes_along(pod: Pod, watcher: Node) -> None:
    with watcher.agent():
        who = watcher.add(pod)
        pod.ip("addr del 192.168.0.2/24 dev net1")
        until(lambda: watcher.place.states(who)["192.168.0.2/32"] == "releasing")
        assert "default" not in pod.ip("route show table 100", check=False)
        pod.ip("addr add 192.168.0.2/24 dev net1")
        until(lambda: watcher.place.states(who)["192.168.0.2/32"] == "held")
        assert "default via 10.10.1.1" in pod.ip("route show table 100")
        assert "192.168.0.0/24" not in pod.ip("route")


def test_a_namespace_without_path_is_let_go_within_a_second(pod: Pod, watcher: Node) -> None:
    with watcher.agent() as watch:
        watcher.add(pod)
        pod.ip(f"addr add {VIP}/32 dev net1")
        until(lambda: "appeared" in watcher.counts.seen)
        pod.unlink()
        until(lambda: watch.watching() == {})
        again = Pod(pod.host, parent=pod.parent, plugged=False)
        until(lambda: plugs(again))
        again.ip(f"addr add {VIP}/32 dev net1")
        watcher.add(again, "192.168.0.2/32", container="c2")
        again.remove()


def test_a_process_is_a_path_too(pod: Pod, watcher: Node) -> None:
    process = subprocess.Popen(["ip", "netns", "exec", pod.name, "sleep", "60"])
    try:
        until(lambda: Path(f"/proc/{process.pid}/ns/net").stat().st_ino == pod.inode)
        pod.path = f"/proc/{process.pid}/ns/net"
        with watcher.agent() as watch:
            watcher.add(pod)
            pod.unlink()
            throughout(lambda: len(watch.watching()) == 1, 0.7)
            process.kill()
            process.wait()
            until(lambda: not watch.watching())
    finally:
        process.kill()
        process.wait()


def test_the_end_of_claim_or_interface_ends_the_watch(pod: Pod, watcher: Node) -> None:
    with watcher.agent() as watch:
        who = watcher.add(pod)
        pod.ip(f"addr add {VIP}/32 dev net1")
        until(lambda: watcher.place.states(who).get(f"{VIP}/32") == "held")
        pod.ip("link del net1")
        until(lambda: not watch.watching())
        assert set(watcher.place.states(who).values()) == {"releasing"}
        pod.plug()
        who = watcher.add(pod)
        watcher.place.claims.put(watcher.place.claim(who).release(0.0))
        until(lambda: not watch.watching(), seconds=0.4)


def test_what_cannot_be_seen_is_not_watched_and_told(pod: Pod, watcher: Node) -> None:
    with watcher.agent():
        who = watcher.add(pod)
    watcher.place.inode = lambda _: 0
    with watcher.agent() as watch:
        until(lambda: any("cannot be seen here" in line for line in watcher.place.logged))
        throughout(lambda: watch.watching() == {}, 0.6)
    assert watcher.place.states(who) == {"192.168.0.2/32": "held"}


def test_a_restart_is_no_appearance(pod: Pod, watcher: Node) -> None:
    with watcher.agent():
        who = watcher.add(pod, destination="auto")
        pod.ip(f"addr add {VIP}/32 dev net1")
        pod.ip("addr add 192.168.5.9/32 dev net1")
        until(lambda: watcher.place.states(who).get("192.168.5.9/32") == "held")
        until(lambda: watcher.place.states(who).get(f"{VIP}/32") == "held")
        until(lambda: {VIP, "192.168.5.9"} <= watcher.addresses_on_disk(who))
    for item in (VIP, "192.168.5.8"):
        watcher.ec2.point(f"{item}/32", "eni-elsewhere")
    claim = watcher.place.claim(who)
    routes = tuple(route for route in claim.routes if not str(route.key).endswith(f"{VIP}/32"))
    forgotten = type(claim)(**{**_fields(claim), "routes": routes, "watched": claim.watched[1:]})
    watcher.place.claims.put(forgotten)
    pod.ip("addr add 192.168.5.8/32 dev net1")  # while no agent is there
    with watcher.agent():
        until(lambda: watcher.place.states(who).get("192.168.5.8/32") == "held")
        until(lambda: watcher.place.states(who).get(f"{VIP}/32") == "superseded")
    assert watcher.ec2.leads("192.168.5.8/32") == ["eni-here", "eni-here"]
    assert watcher.ec2.leads(f"{VIP}/32") == ["eni-elsewhere", "eni-elsewhere"]


def _fields(claim: Any) -> dict[str, Any]:
    return {name: getattr(claim, name) for name in claim.__dataclass_fields__}


def test_a_pod_that_flaps_is_held_back_and_its_last_word_counts(pod: Pod, tmp_path: Path) -> None:
    node = Node(tmp_path, watchLimits={"secondsPerChange": 1})

    def limited() -> list[str]:
        return [line for line in node.place.logged if "change faster than one per 1 s" in line]

    with node.agent():
        who = node.add(pod)
        began = time.monotonic()
        for flap in range(400):
            if flap >= 40 and limited():  # on a busy machine the watcher sees few of the changes
                break
            pod.ip(f"addr add {VIP}/32 dev net1")
            time.sleep(0.05)
            pod.ip(f"addr del {VIP}/32 dev net1")
            time.sleep(0.05)
        pod.ip(f"addr add {VIP}/32 dev net1")
        took = time.monotonic() - began
        until(lambda: node.place.states(who).get(f"{VIP}/32") == "held")
        throughout(lambda: node.place.states(who)[f"{VIP}/32"] == "held", 1.5)
    changes = node.writes(f"{VIP}/32") / 2
    assert changes <= 4 + took + 3
    assert len(limited()) == 1
    assert "limited" in node.counts.seen


def test_lost_events_are_made_up_for_by_a_look(pod: Pod, tmp_path: Path) -> None:
    node = Node(tmp_path, watchLimits={"burst": 16})
    gate = threading.Event()

    class Slow(Events):
        def read(self) -> list[Event]:
            gate.wait(10)
            return super().read()

    def listen_in(netns: str, inode: int) -> Events:
        opened = open_events(netns, inode, buffer=4096)
        return Slow(opened._socket)

    with node.agent(listen_in):
        who = node.add(pod)
        pod.batch(*(f"addr add 100.64.{n}.1/32 dev net1" for n in range(250)), f"addr add {VIP}/32 dev net1")
        gate.set()
        until(lambda: node.place.states(who).get(f"{VIP}/32") == "held")
    assert "overrun" in node.counts.seen


def test_slow_answers_for_one_pod_do_not_hold_up_another(pod: Pod, host: str, watcher: Node) -> None:
    other, stuck = Pod(host), threading.Event()
    with watcher.agent():
        slow, fast = watcher.add(pod), watcher.add(other, "192.168.0.3/24", container="c2")

        def wait(what: str) -> None:
            if f" {VIP}/32 " in what:
                stuck.wait(20)

        watcher.ec2.before_write = wait
        pod.ip(f"addr add {VIP}/32 dev net1")
        until(lambda: watcher.place.states(slow).get(f"{VIP}/32") == "claiming")
        other.ip("addr add 192.168.5.6/32 dev net1")
        until(lambda: watcher.place.states(fast).get("192.168.5.6/32") == "held")
        assert watcher.place.states(slow)[f"{VIP}/32"] == "claiming"
        stuck.set()
        until(lambda: watcher.place.states(slow)[f"{VIP}/32"] == "held")
    other.remove()


def test_throttled_claims_are_tried_again(pod: Pod, watcher: Node) -> None:
    with watcher.agent():
        who = watcher.add(pod)
        until_then = time.monotonic() + 1

        def refuse(_: str) -> None:  # whatever is tried, for a second
            if time.monotonic() < until_then:
                raise TryAgain("the account's request rate limit is exhausted")

        watcher.ec2.before_write = refuse
        pod.ip(f"addr add {VIP}/32 dev net1")
        until(lambda: watcher.place.states(who).get(f"{VIP}/32") == "held")
        assert len([line for line in watcher.place.logged if "is not claimed yet" in line]) == 1


def test_each_attempt_is_made_in_the_pods_name(pod: Pod, watcher: Node) -> None:
    with watcher.agent():
        who = watcher.add(pod)
        watcher.ec2.script = [Ec2Fault.QUOTA, Ec2Fault.QUOTA]
        for address in (VIP, "192.168.5.6"):
            pod.ip(f"addr add {address}/32 dev net1")
            until(lambda item=address: f"{item}/32" in watcher.place.states(who))  # type: ignore[misc]
        until(lambda: len(watcher.asked) > 1)
    assert set(watcher.asked) == {"eu-west-1 uid-1"}


def test_the_watch_comes_round_with_nothing_to_do(watcher: Node) -> None:
    with watcher.agent():
        until(lambda: watcher.rounds > 2)


def test_a_refusal_is_told_once(pod: Pod, watcher: Node) -> None:
    with watcher.agent():
        who = watcher.add(pod)
        watcher.ec2.script = [Ec2Fault.QUOTA, Ec2Fault.QUOTA]
        pod.ip(f"addr add {VIP}/32 dev net1")
        until(lambda: watcher.counts.seen == ["refused"])
        pod.ip("addr add 192.168.5.6/32 dev net1")
        until(lambda: watcher.place.states(who).get("192.168.5.6/32") == "held")
        assert watcher.place.states(who)[f"{VIP}/32"] == "releasing"
        until(lambda: watcher.counts.seen == ["refused", "appeared"])


def test_a_pod_cannot_flood_the_log_with_addresses(pod: Pod, watcher: Node) -> None:
    def refused() -> list[str]:
        return [line for line in watcher.place.logged if "allowedDestinations" in line]

    with watcher.agent():
        watcher.add(pod)
        for many in range(10, MOST_TOLD, 5):
            for n in range(5):
                pod.ip(f"addr add 172.16.0.{many + n}/32 dev net1")
            until(lambda: len(refused()) >= 5 * (many // 5 - 1))  # noqa: B023
        for n in range(10):
            pod.ip(f"addr add 172.16.1.{n}/32 dev net1")
        pod.ip(f"addr add {VIP}/32 dev net1")
        until(lambda: watcher.counts.seen.count("appeared") == 1)
        until(lambda: [line for line in watcher.place.logged if "the log names no more of them" in line])
    assert len(refused()) == watcher.counts.seen.count("refused") == MOST_TOLD


def test_nothing_is_left_open(pod: Pod, watcher: Node) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(2):
        with watcher.agent():
            until(lambda: True)
    with watcher.agent():
        watcher.add(pod)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    assert ip("link", "show", netns=pod.name)


@pytest.fixture
def hidden() -> set[str]:
    """Paths that cannot be seen for a while."""
    return set()


def test_a_namespace_that_cannot_be_seen_is_left_and_followed_again(
    pod: Pod, tmp_path: Path, hidden: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its socket is closed, because it would keep the pod's address busy; what is there has not appeared."""
    monkeypatch.setattr("cni_floatip.agent.watch.watcher.UNSEEN_SECONDS", 0.5)
    node = Node(tmp_path)
    node.place.inode = lambda path: 0 if path in hidden else host.inode(path)
    opened: list[Events] = []

    def listen_in(netns: str, inode: int) -> Events:
        opened.append(open_events(netns, inode))
        return opened[-1]

    with node.agent(listen_in) as watch:
        who = node.add(pod)
        pod.ip(f"addr add {VIP}/32 dev net1")
        until(lambda: node.place.states(who).get(f"{VIP}/32") == "held")
        until(lambda: node.counts.seen == ["appeared"])
        hidden.add(pod.path)
        until(lambda: who not in watch.watching())
        until(lambda: opened[0].fileno() == -1)
        node.ec2.point(f"{VIP}/32", "eni-elsewhere")
        writes = node.writes(f"{VIP}/32")
        hidden.clear()
        until(lambda: who in watch.watching())
        rounds = node.rounds
        until(lambda: node.rounds > rounds + 3)
        assert node.writes(f"{VIP}/32") == writes
        assert node.ec2.leads(f"{VIP}/32") == ["eni-elsewhere", "eni-elsewhere"]


def test_a_pod_that_is_added_does_not_wake_the_watch_unless_its_addresses_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ADD that is about to answer would be delayed. What ends keeps a namespace, and is heard at once."""
    wakes: list[str] = []
    monkeypatch.setattr(NamespaceEvents, "wake", lambda _: wakes.append("woken"))
    world, counts = Node(tmp_path).place.world, NullRecorder()
    history = AddressHistory(str(tmp_path), "boot-1")
    pods = WatchedPods(world, counts)
    learners: list[Callable[[Attachment, Claim | None], None]] = []
    Watcher(world, counts, history, pods).subscribe(learners.append)
    follows = RecordedConfig({"watchAddresses": ["192.168.0.0/16"]})

    def woken(claim: Claim | None) -> bool:
        wakes.clear()
        learners[0](held.attachment, claim)
        return bool(wakes)

    held = a_claim(a_route())
    assert not woken(a_claim(a_route(State.CLAIMING)))
    assert not woken(held)
    assert woken(replace(held, config=follows))
    assert woken(held.release(0.0))
    assert woken(None)
    pods.add(held, earlier=False)
    assert woken(replace(held, netns_inode=2)), "its former namespace is still open"
