"""Tentative addresses that are made usable at once: what is kept of them, and what goes wrong on the way."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

import pytest

from cni_floatip.edges.podnet import dad, namespace
from cni_floatip.edges.podnet.rtnetlink import Refused, Rtnetlink
from cni_floatip.model.errors import PodNetworkFailure
from tests.edges.podnet.pods import PREFIX, KernelPod, fresh_number, ip, ip_json
from tests.support.waiting import until

LONG = 250
"""So many probes, one each second, that no detection ends before its test does."""
GIVEN = {
    "fd10::1": "addr add fd10::1/64 dev net1 valid_lft 1000 preferred_lft 500",
    "fd11::1": "addr add fd11::1/64 dev net1 noprefixroute",
    "fd12::1": "addr add fd12::1/128 dev net1 metric 77",
    "fd13::1": "addr add fd13::1/64 dev net1 preferred_lft 0",
    "fd14::1": "addr add fd14::1 peer fd14::2/128 dev net1",
    "fd15::1": "addr add fd15::1/64 dev net1 mngtmpaddr",
    "fd16::1": "addr add fd16::1/64 dev net1 home",
    "fd17::1": "addr add fd17::1/64 dev net1 metric 77",
}
HEADER_SECONDS = 60
"""How far lifetimes may have run down, on however busy a machine."""


@pytest.fixture
def slow_pod(kernel_pod: KernelPod) -> KernelPod:
    """A pod in which duplicate address detection does not end while a test looks."""
    for name in ("all", "net1"):
        kernel_pod.run("sysctl", "-qw", f"net.ipv6.conf.{name}.accept_dad=1")
    kernel_pod.run("sysctl", "-qw", f"net.ipv6.conf.net1.dad_transmits={LONG}")
    return kernel_pod


@pytest.fixture
def kernel(slow_pod: KernelPod) -> Iterator[Rtnetlink]:
    with namespace.enter(slow_pod.path) as conversation:
        yield conversation


@pytest.fixture
def second_ns() -> Iterator[str]:
    """A namespace that is neither the node's nor the pod's."""
    name = f"{PREFIX}-other{fresh_number()}"
    ip("netns", "add", name)
    yield name
    ip("netns", "del", name)


def shown(pod: KernelPod, link: str = "net1") -> list[dict[str, Any]]:
    """Return the global IPv6 addresses of a link as ``ip`` shows them, in the kernel's order."""
    items = ip_json("-d", "-6", "addr", "show", "dev", link, "scope", "global", netns=pod.name)
    return [info for item in items for info in item.get("addr_info", ()) if info]


def let_dates_differ() -> None:
    """Wait until the kernel, which counts hundredths of a second, dates later than now."""
    later = time.monotonic() + 0.02
    until(lambda: time.monotonic() > later)


def tentative(pod: KernelPod, link: str = "net1") -> set[str]:
    return {item["local"] for item in shown(pod, link) if item.get("tentative")}


def without_state(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what has to differ: the flags of detection, and how much of a lifetime is left."""
    state = {"tentative", "nodad", "valid_life_time", "preferred_life_time"}
    return [{key: value for key, value in item.items() if key not in state} for item in items]


def index(pod: KernelPod) -> int:
    return int(ip_json("link", "show", "net1", netns=pod.name)[0]["ifindex"])


def test_an_address_can_be_used_at_once_and_is_otherwise_as_it_was(slow_pod: KernelPod) -> None:
    for command in GIVEN.values():
        slow_pod.ip(*command.split())
    before = shown(slow_pod)
    assert tentative(slow_pod) == set(GIVEN)
    with slow_pod.open() as pod:
        pod.skip_detection(map(ip_address, GIVEN))
    after = shown(slow_pod)
    assert tentative(slow_pod) == set()
    assert without_state(after) == without_state(before)  # in the same order, too
    for old, new in zip(before, after, strict=True):
        for lifetime in ("valid_life_time", "preferred_life_time"):
            assert 0 <= old[lifetime] - new[lifetime] < HEADER_SECONDS
    routes = {
        item["dst"]: item for item in ip_json("-6", "route", "show", "dev", "net1", netns=slow_pod.name)
    }
    assert {"fd10::/64", "fd13::/64", "fd14::2", "fd15::/64", "fd16::/64", "fd17::/64"} < set(routes)
    assert "fd11::/64" not in routes
    assert 0 < routes["fd10::/64"]["expires"] <= 1000
    assert routes["fd17::/64"]["metric"] == 77


def test_the_protocol_of_an_address_is_kept(slow_pod: KernelPod, kernel: Rtnetlink) -> None:
    """``ip`` of older distributions can neither set nor show it."""
    attrs = [("IFA_ADDRESS", "fd18::1"), ("IFA_PROTO", 0x42)]
    kernel.create("address", attrs, family=10, prefixlen=128, index=index(slow_pod))
    with slow_pod.open() as pod:
        pod.skip_detection([ip_address("fd18::1")])
    addresses = kernel.dump("address", index=index(slow_pod), family=10)
    protocols = {message.get_attr("IFA_ADDRESS"): message.get_attr("IFA_PROTO") for message in addresses}
    assert protocols["fd18::1"] == 0x42
    assert tentative(slow_pod) == set()


def test_only_what_is_named_is_touched_and_only_once(slow_pod: KernelPod) -> None:
    for item in ("fd20::1/128", "fd20::2/128", "192.168.0.9/32"):
        slow_pod.ip("addr", "add", item, "dev", "net1")
    wanted = [ip_address(text) for text in ("fd20::1", "192.168.0.9", "fd20::ffff")]
    with slow_pod.open() as pod:
        dates = {address.interface: address.made for address in pod.addresses()}
        let_dates_differ()
        pod.skip_detection(wanted)
        changed = {address.interface: address.made for address in pod.addresses()}
        assert {str(key.ip) for key in dates if changed[key] != dates[key]} == {"fd20::1"}
        assert tentative(slow_pod) == {"fd20::2"}
        let_dates_differ()
        pod.skip_detection(wanted)
        assert {address.interface: address.made for address in pod.addresses()} == changed


def test_a_duplicate_stays_an_error(kernel_pod: KernelPod) -> None:
    for name in ("all", "net1"):
        kernel_pod.run("sysctl", "-qw", f"net.ipv6.conf.{name}.accept_dad=1")
    router = kernel_pod.parent.replace("eth", "r")
    ip("addr", "add", "fd00::7/128", "dev", router, "nodad", netns=kernel_pod.node)
    kernel_pod.ip("addr", "add", "fd00::7/128", "dev", "net1")
    wanted = [ip_address("fd00::7")]
    with kernel_pod.open() as pod:
        for _ in range(2):  # once the kernel has heard the other, and from then on
            with pytest.raises(PodNetworkFailure, match="fd00::7 on net1 is a duplicate"):
                pod.wait_addresses(wanted, time.monotonic() + 30, time.sleep)
            pod.skip_detection(wanted)


# -- which links


LOOK = """
from ipaddress import ip_address
from cni_floatip.edges.podnet import open_pod
with open_pod({path!r}, "try") as pod:
    pod.skip_detection([ip_address("fd30::1")])
"""


@pytest.mark.parametrize(
    ("command", "alone"),
    [
        ("link add link {parent} name try netns {pod} type macvlan mode passthru", True),
        ("link add link {parent} name try netns {pod} type macvlan mode bridge", False),
        ("link add try netns {pod} type veth peer name other netns {pod}", False),
        ("link add try netns {pod} type veth peer name other", False),
        ("link add try netns {pod} type veth peer name other netns {elsewhere}", True),
        ("link add try netns {pod} type bridge", True),
    ],
    ids=[
        "the only child",
        "one of several children",
        "a link beside it below",
        "a link of the node below",
        "an ENI of the lab",
        "no link below, as of an ENI",
    ],
)
def test_detection_is_skipped_only_where_it_can_find_nobody(
    slow_pod: KernelPod, second_ns: str, command: str, alone: bool
) -> None:
    slow_pod.unplug("net1")  # a macvlan in mode passthru wants its parent for itself
    names = {"parent": slow_pod.parent, "pod": slow_pod.name, "elsewhere": second_ns}
    ip(*command.format(**names).split(), netns=slow_pod.node)
    slow_pod.run("sysctl", "-qw", "net.ipv6.conf.try.accept_dad=1")
    slow_pod.run("sysctl", "-qw", f"net.ipv6.conf.try.dad_transmits={LONG}")
    slow_pod.ip("link", "set", "try", "up")
    slow_pod.ip("addr", "add", "fd30::1/128", "dev", "try")
    argv = ["ip", "netns", "exec", slow_pod.node, sys.executable, "-c", LOOK.format(path=slow_pod.path)]
    subprocess.run(argv, check=True)
    assert tentative(slow_pod, "try") == (set() if alone else {"fd30::1"})


# -- what goes wrong on the way


class Disturbed:
    """The kernel, with something that happens right before, or instead of, the renewal of an address."""

    def __init__(self, kernel: Rtnetlink, renew: Callable[..., Any]) -> None:
        self._kernel = kernel
        self._renew = renew

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)

    def renew(self, *args: Any, **fields: Any) -> Any:
        return self._renew(self._kernel, *args, **fields)


def skip(kernel: Any, pod: KernelPod) -> None:
    dad.skip(kernel, index(pod), {ip_address("fd40::1")})


def test_an_address_that_another_takes_meanwhile_is_an_error_and_comes_back_where_it_can(
    slow_pod: KernelPod, kernel: Rtnetlink
) -> None:
    """As ipvlan refuses it where a sibling has taken it (``tests/uml`` shows the real one)."""
    slow_pod.ip("addr", "add", "fd40::1/64", "dev", "net1", "metric", "77")
    before = shown(slow_pod)
    refusal = Refused(errno.EADDRNOTAVAIL, "Address already assigned to an ipvlan device.")

    def refuse(real: Rtnetlink, subject: Any, key: Any, attrs: Any, **fields: int) -> Any:
        real.delete(subject, key, **fields)
        return None, refusal

    with pytest.raises(Refused) as refused:
        skip(Disturbed(kernel, refuse), slow_pod)
    assert refused.value.text == (
        "fd40::1 cannot be added again: Address already assigned to an ipvlan device"
    )
    assert shown(slow_pod) == before


def test_an_address_that_cannot_be_given_back_is_said_to_be_lost(
    slow_pod: KernelPod, kernel: Rtnetlink
) -> None:
    slow_pod.ip("addr", "add", "fd40::1/64", "dev", "net1")

    def refuse(real: Rtnetlink, subject: Any, key: Any, attrs: Any, **fields: int) -> Any:
        real.delete(subject, key, **fields)
        slow_pod.run("sysctl", "-qw", "net.ipv6.conf.net1.disable_ipv6=1")
        return None, Refused(errno.EACCES, "IPv6 is disabled on this device.")

    with pytest.raises(Refused, match=r"fd40::1 cannot be added again: .* the interface is left without it"):
        skip(Disturbed(kernel, refuse), slow_pod)


def test_an_address_that_is_removed_meanwhile_does_not_come_back(
    slow_pod: KernelPod, kernel: Rtnetlink
) -> None:
    slow_pod.ip("addr", "add", "fd40::1/64", "dev", "net1")

    def remove(real: Rtnetlink, subject: Any, key: Any, attrs: Any, **fields: int) -> Any:
        slow_pod.ip("addr", "del", "fd40::1/64", "dev", "net1")
        return real.renew(subject, key, attrs, **fields)

    with pytest.raises(Refused, match="fd40::1 was removed meanwhile"):
        skip(Disturbed(kernel, remove), slow_pod)
    assert "fd40::1" not in {item["local"] for item in shown(slow_pod)}


def test_a_process_that_is_killed_on_the_way_takes_no_address_along(slow_pod: KernelPod) -> None:
    """It dies with the first thing that it sends to change an address."""
    slow_pod.ip("addr", "add", "fd40::1/64", "dev", "net1")
    code = f"""
import os, signal, socket, struct
from ipaddress import ip_address
from cni_floatip.edges.podnet import open_pod
class Deadly:
    def __init__(self, real):
        self.real = real
    def __getattr__(self, name):
        return getattr(self.real, name)
    def send(self, data):
        self.real.send(data)
        if struct.unpack_from("H", data, 4)[0] in (20, 21):  # RTM_NEWADDR, RTM_DELADDR
            os.kill(os.getpid(), signal.SIGKILL)
with open_pod({slow_pod.path!r}, "net1") as pod:
    pod._kernel._socket = Deadly(pod._kernel._socket)
    pod.skip_detection([ip_address("fd40::1")])
"""
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert "fd40::1" in {item["local"] for item in shown(slow_pod)} - tentative(slow_pod)
