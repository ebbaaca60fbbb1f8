"""Address events as the kernel tells them, in real namespaces."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_interface
from pathlib import Path

import pytest

from cni_floatip.edges import podnet
from cni_floatip.edges.podnet.events import AddressEvent, Event, Events, LinkGone, Overrun, open_events
from cni_floatip.model.errors import InvalidNetns
from tests.agent.watch.pods_in_kernel import Pod, ip
from tests.support.waiting import throughout, until

pytestmark = pytest.mark.needs("root", "ip")


@pytest.fixture
def events(pod: Pod) -> Iterator[Events]:
    with podnet.open_pod(pod.path, "net1"):
        opened = open_events(pod.path, pod.inode)
    yield opened
    opened.close()


def heard(events: Events, seconds: float = 0.3) -> list[Event]:
    """Return what comes until nothing has come for a while."""
    results: list[Event] = []
    while select.select([events], [], [], seconds)[0]:
        results += events.read()
    return results


def addresses(results: list[Event]) -> list[tuple[str, bool, bool]]:
    """Return the address events but those of the link-local address, whose detection ends at some time."""
    events = [e for e in results if isinstance(e, AddressEvent) and not e.interface.ip.is_link_local]
    return [(str(e.interface), e.present, e.tentative) for e in events]


def test_addresses_come_and_go(pod: Pod, events: Events) -> None:
    pod.ip("addr add 192.168.5.5/32 dev net1")
    pod.ip("addr add 192.168.5.6/24 dev net1")
    pod.ip("addr del 192.168.5.5/32 dev net1")
    with podnet.open_pod(pod.path, "net1") as opened:
        index = opened.link.index
    results = [e for e in heard(events) if isinstance(e, AddressEvent) and e.interface.version == 4]
    assert results == [
        AddressEvent(index, ip_interface("192.168.5.5/32"), present=True),
        AddressEvent(index, ip_interface("192.168.5.6/24"), present=True),
        AddressEvent(index, ip_interface("192.168.5.5/32"), present=False),
    ]
    assert events.read() == []


def test_an_ipv6_address_is_tentative_first(pod: Pod, events: Events) -> None:
    heard(events)
    pod.ip("addr add fd00:5::5/128 dev net1")
    results = [event for event in addresses(heard(events, 3.0)) if event[0].startswith("fd00")]
    assert results == [("fd00:5::5/128", True, True), ("fd00:5::5/128", True, False)]


def test_the_end_of_the_link(pod: Pod, events: Events) -> None:
    pod.ip("addr add 192.168.5.5/32 dev net1")
    heard(events)
    pod.ip("link del net1")
    results = heard(events)
    assert ("192.168.5.5/32", False, False) in addresses(results)
    assert any(isinstance(item, LinkGone) for item in results)


def test_leaving_a_bridge_is_not_the_end_of_the_link(pod: Pod, events: Events) -> None:
    pod.batch("link add br0 type bridge", "link add v0 type veth peer name v1", "link set v0 master br0")
    heard(events)
    pod.ip("link set v0 nomaster")
    assert not [event for event in heard(events) if isinstance(event, LinkGone)]


def test_too_many_events_are_an_overrun_and_not_the_end(pod: Pod) -> None:
    events = open_events(pod.path, pod.inode, buffer=4096)
    try:
        pod.batch(*(f"addr add 192.168.{n // 250}.{n % 250}/32 dev net1" for n in range(300)))
        results = heard(events)
        assert Overrun() in results
        assert len(addresses(results)) < 300
        pod.ip("addr add 192.168.9.9/32 dev net1")
        assert addresses(heard(events)) == [("192.168.9.9/32", True, False)]
    finally:
        events.close()


def test_only_the_kernel_is_believed(pod: Pod, events: Events) -> None:
    heard(events)
    pod.ip("addr add 192.168.5.5/32 dev net1")
    select.select([events], [], [], 3)
    message = socket.socket(fileno=os.dup(events.fileno())).recv(1 << 16)

    def forge() -> None:  # a process of the pod, with CAP_NET_ADMIN
        from cni_floatip.edges.podnet import namespace

        def make() -> socket.socket:
            return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)

        with namespace.make_inside(pod.path, make) as forger:
            forger.sendto(message, (socket.socket(fileno=os.dup(events.fileno())).getsockname()[0], 0))

    forge()
    assert heard(events) == []


def test_the_kernel_dates_addresses(pod: Pod) -> None:
    def made() -> dict[str, float]:
        with podnet.open_pod(pod.path, "net1") as opened:
            return {str(address.interface.ip): address.made for address in opened.addresses()}

    pod.ip("addr add 192.168.5.5/32 dev net1")
    first = made()["192.168.5.5"]
    pod.ip("addr change 192.168.5.5/32 dev net1 valid_lft 1000 preferred_lft 1000")
    assert made()["192.168.5.5"] == first > 0
    time.sleep(0.05)
    pod.ip("addr del 192.168.5.5/32 dev net1")
    pod.ip("addr add 192.168.5.5/32 dev net1")
    assert made()["192.168.5.5"] > first


def test_another_namespace_at_the_path_is_not_listened_to(pod: Pod) -> None:
    with pytest.raises(podnet.NoNamespace, match="another namespace"):
        open_events(pod.path, pod.inode + 1)
    with pytest.raises(podnet.NoNamespace, match="does not exist"):
        open_events(pod.path + "-gone", pod.inode)
    with pytest.raises(InvalidNetns, match="host's own"):
        open_events("/proc/self/ns/net", Path("/proc/self/ns/net").stat().st_ino)


def test_one_descriptor_no_thread_and_the_namespace_goes_with_it(pod: Pod) -> None:
    before, threads = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    events = open_events(pod.path, pod.inode)
    assert len(list(Path("/proc/self/fd").iterdir())) == before + 1
    assert threading.active_count() == threads
    pod.unlink()
    # It lives where nobody sees it: the parent is taken.
    throughout(lambda: "macvlan" not in _children(pod) and not _free(pod), 0.3)
    events.close()
    until(lambda: _free(pod))


def _children(pod: Pod) -> str:
    return ip("-d", "link", "show", "type", "macvlan", netns=pod.host)


def _free(pod: Pod) -> bool:
    ip(
        "link",
        "add",
        "x",
        "link",
        pod.parent,
        "type",
        "macvlan",
        "mode",
        "passthru",
        netns=pod.host,
        check=False,
    )
    return " x@" in _children(pod)
