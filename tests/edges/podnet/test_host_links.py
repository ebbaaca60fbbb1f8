"""The memory of the node's links: what it saves, and each event that must end it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from cni_floatip.edges.podnet import host_links, links, namespace
from cni_floatip.edges.podnet.events import READ_AT_ONCE, Event, LinkChanged
from cni_floatip.edges.podnet.host_links import HostLinks
from cni_floatip.edges.podnet.pod import open_pod
from cni_floatip.edges.podnet.rtnetlink import Refused
from cni_floatip.model.values import Link
from tests.edges.podnet.pods import NETNS, KernelPod, fresh_number, ip, ip_json
from tests.support.waiting import until


class NodeLinks:
    """A node's namespace with one link, and a memory of its links that lives in there."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = str(NETNS / name)
        number = fresh_number()
        self.eth, self.wire, self.index = f"eth{number}", f"w{number}", 1000 + number
        self.links = HostLinks()
        self.reads = 0
        self.plug()

    def ip(self, command: str) -> None:
        ip(*command.split(), netns=self.name)

    def plug(self, mac: str = "02:00:00:00:00:01") -> None:
        self.ip(f"link add {self.eth} index {self.index} address {mac} type veth peer name {self.wire}")
        self.ip(f"link set {self.eth} up")
        self.ip(f"link set {self.wire} up")
        until(lambda: "LOWER_UP" in self.shown(self.eth)["flags"])
        self.links.close()  # the kernel tells of the carrier later

    def shown(self, name: str) -> dict[str, list[str]]:
        return next(iter(ip_json("link", "show", name, netns=self.name)))

    def ask(self) -> Link:
        self.reads += 1
        with namespace.enter(self.path) as kernel:
            return links.link_of(kernel.get("link", index=self.index))

    def get(self, ask: Callable[[], Link] | None = None) -> Link:
        """Return the link as a thread of an agent on this node gets it."""

        def look() -> Link | Refused:
            try:
                return self.links.get(self.index, ask or self.ask)
            except Refused as refused:
                return refused

        result = namespace.make_inside(self.path, look)
        if isinstance(result, Refused):
            raise result
        return result

    def is_remembered(self) -> bool:
        before = self.reads
        self.get()
        return self.reads == before


@pytest.fixture
def eni(node_ns: str) -> Iterator[NodeLinks]:
    result = NodeLinks(node_ns)
    until(lambda: result.get().carrier and result.is_remembered())
    result.reads = 0
    yield result
    result.links.close()
    ip("link", "del", result.wire, netns=node_ns, check=False)


def test_a_link_that_does_not_change_is_read_once(eni: NodeLinks) -> None:
    link = eni.get()
    assert [eni.get() for _ in range(3)] == [link] * 3
    assert eni.reads == 0
    assert (link.name, link.index, link.mac) == (eni.eth, eni.index, "02:00:00:00:00:01")
    assert (link.up, link.carrier) == (True, True)


def test_another_links_change_leaves_it_remembered(eni: NodeLinks) -> None:
    eni.ip(f"link set {eni.wire} mtu 1400")
    assert eni.is_remembered()


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ("link set {eth} down", "up", False),
        ("link set {eth} address 02:00:00:00:00:02", "mac", "02:00:00:00:00:02"),
        ("link set {eth} down name {eth}x", "name", "{eth}x"),
    ],
    ids=["down", "another MAC", "another name"],
)
def test_a_change_is_seen_at_the_next_use(eni: NodeLinks, change: str, field: str, value: object) -> None:
    eni.ip(change.format(eth=eni.eth))
    expected = value.format(eth=eni.eth) if isinstance(value, str) else value
    assert getattr(eni.get(), field) == expected
    assert eni.reads == 1


def test_an_eni_that_is_detached_is_gone_at_the_next_use(eni: NodeLinks) -> None:
    eni.ip(f"link del {eni.eth}")
    with pytest.raises(Refused, match="ENODEV"):
        eni.get()


def test_an_eni_that_was_moved_into_a_pod_is_gone_at_the_next_use(eni: NodeLinks) -> None:
    pod = f"{eni.name}-pod{fresh_number()}"
    ip("netns", "add", pod)
    try:
        eni.ip(f"link set {eni.eth} netns {pod}")
        with pytest.raises(Refused, match="ENODEV"):
            eni.get()
    finally:
        ip("netns", "del", pod)


def test_an_eni_that_is_attached_at_the_same_index_is_another(eni: NodeLinks) -> None:
    eni.ip(f"link del {eni.eth}")
    number, mac = eni.index, "02:00:00:00:00:03"
    eni.ip(f"link add {eni.eth} index {number} address {mac} type veth peer name {eni.wire}")
    assert eni.get().mac == mac


def test_a_lost_carrier_is_seen_when_the_kernel_tells_of_it(eni: NodeLinks) -> None:
    eni.ip(f"link set {eni.wire} down")
    until(lambda: not eni.get().carrier)
    eni.ip(f"link set {eni.wire} up")
    until(lambda: eni.get().carrier)


@pytest.mark.parametrize(
    "change", ["link set {eth} down", "link set {wire} down"], ids=["down", "no carrier"]
)
def test_a_link_that_carries_nothing_is_not_remembered(eni: NodeLinks, change: str) -> None:
    eni.ip(change.format(eth=eni.eth, wire=eni.wire))
    until(lambda: not eni.get().carrier)
    assert not any(eni.is_remembered() for _ in range(5))


def test_events_that_the_kernel_dropped_end_the_memory_of_every_link(eni: NodeLinks) -> None:
    """The link's own event comes last, when there is no room for it any more."""
    for mtu in range(1300, 1380):
        eni.ip(f"link set {eni.wire} mtu {mtu}")
    eni.ip(f"link set {eni.eth} address 02:00:00:00:00:04")
    assert eni.get().mac == "02:00:00:00:00:04"


def test_an_answer_that_is_older_than_a_change_is_not_remembered(eni: NodeLinks) -> None:
    """The link changes after the kernel has answered, and before the answer is stored."""
    eni.links.close()

    def ask() -> Link:
        old = eni.ask()
        eni.ip(f"link set {eni.eth} address 02:00:00:00:00:05")
        return old

    assert eni.get(ask).mac == "02:00:00:00:00:01"
    assert eni.get().mac == "02:00:00:00:00:05"


def test_another_threads_use_takes_no_event_from_an_answer_that_is_under_way(eni: NodeLinks) -> None:
    eni.links.close()

    def ask() -> Link:
        old = eni.ask()
        eni.ip(f"link set {eni.eth} address 02:00:00:00:00:06")
        eni.links.get(1, lambda: old)  # reads the event
        return old

    eni.get(ask)
    assert eni.get().mac == "02:00:00:00:00:06"


def test_without_a_socket_every_use_asks(eni: NodeLinks, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(24, "Too many open files")

    eni.links.close()
    monkeypatch.setattr(host_links, "open_link_events", refuse)
    assert not any(eni.is_remembered() for _ in range(3))


class Flood:
    """Events that never end."""

    ends = 0

    def read(self) -> list[Event]:
        return [LinkChanged(1)]

    def close(self) -> None:
        self.ends += 1


def test_a_flood_of_events_delays_nobody_and_nothing_is_remembered(
    eni: NodeLinks, monkeypatch: pytest.MonkeyPatch
) -> None:
    flood = Flood()
    eni.links.close()
    monkeypatch.setattr(host_links, "open_link_events", lambda _: flood)
    assert not any(eni.is_remembered() for _ in range(3))
    assert flood.ends == 3


def test_one_read_takes_all_that_the_kernel_keeps(eni: NodeLinks) -> None:
    """Else a read of nothing but foreign events would look as if there were none left."""
    smallest = 768  # of a message with its bookkeeping (SKB_TRUESIZE)
    assert 2 * host_links.BUFFER_BYTES // smallest + 1 < READ_AT_ONCE


def test_a_pods_parent_is_remembered_only_where_it_is_the_nodes(kernel_pod: KernelPod) -> None:
    """Here the parent lives in a third namespace: the node's, and not that of this process."""
    indexes: list[int] = []

    def remember(index: int, ask: Callable[[], Link]) -> Link:
        indexes.append(index)
        return ask()

    with open_pod(kernel_pod.path, "net1", host_link=remember) as pod:
        parent = pod.parent()
    assert parent
    assert (parent.here, parent.link.name, indexes) == (False, kernel_pod.parent, [])
