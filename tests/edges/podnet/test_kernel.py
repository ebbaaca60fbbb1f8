"""What only the kernel can answer: namespaces, parents, carriers, duplicate address detection, refusals."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.edges import podnet
from cni_floatip.model.errors import InvalidNetns, PodNetworkFailure
from cni_floatip.model.values import PodRoute, PodRule
from tests.edges.podnet.pods import KernelPod, ip, ip_json
from tests.support.waiting import throughout

DEFAULT = PodRoute(ip_network("::/0"), ip_address("fe80:ec2::1"), 100)


def in_node(node: Any, code: Any, *wrapped: Any) -> str:
    """Run Python in a node's namespace, as the plugin runs on one; return what it prints."""
    argv = ["ip", "netns", "exec", node, *wrapped, sys.executable, "-c", code]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def held() -> int:
    """Count the descriptors (and the one that counts)."""
    return len(list(Path("/proc/self/fd").iterdir()))


# -- namespaces


def test_a_missing_namespace_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "gone"
    with (
        pytest.raises(podnet.NoNamespace, match=f"{path} does not exist"),
        podnet.open_pod(str(path), "net1"),
    ):
        pass
    assert not path.exists()
    podnet.clear_pod(str(path), 100)


@pytest.mark.parametrize("kind", ["file", "pipe", "directory", "mount namespace"])
def test_what_is_no_network_namespace_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "other"
    if kind == "file":
        path.touch()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path = Path("/proc/self/ns/mnt")
    with (
        pytest.raises(InvalidNetns, match=r"is not a namespace|not a network"),
        podnet.open_pod(str(path), "lo"),
    ):
        pass


def test_the_empty_file_that_a_reboot_leaves_has_nothing_to_clear(tmp_path: Path) -> None:
    path = tmp_path / "cni-1234"
    path.touch()
    podnet.clear_pod(str(path), 100, [DEFAULT], [PodRule(ip_network("192.168.0.2/32"), 100)])


def test_the_own_namespace_is_refused_unless_overridden() -> None:
    own = f"/proc/{os.getpid()}/ns/net"
    with pytest.raises(InvalidNetns, match="host's own"), podnet.open_pod(own, "lo"):
        pass
    with pytest.raises(InvalidNetns, match="host's own"):
        podnet.clear_pod(own, 100)
    with podnet.open_pod(own, "lo", override=True) as pod:
        assert pod.link.index == 1


def test_a_namespace_is_opened_through_a_descriptor(kernel_pod: KernelPod) -> None:
    with (
        Path(kernel_pod.path).open("rb") as file,
        podnet.open_pod(f"/proc/self/fd/{file.fileno()}", "net1") as pod,
    ):
        assert pod.link.name == "net1"


@pytest.mark.parametrize("ifname", ["net7", "a-name-that-is-too-long"])
def test_a_missing_interface_is_named(kernel_pod: KernelPod, ifname: str) -> None:
    with pytest.raises(PodNetworkFailure, match=ifname), kernel_pod.open(ifname):
        pass


def test_no_descriptor_and_no_thread_is_left_after_200_calls(kernel_pod: KernelPod, tmp_path: Path) -> None:
    with kernel_pod.open():
        pass
    before, threads = held(), threading.active_count()
    for number in range(200):
        with kernel_pod.open() as pod:
            pod.parent()
            if number % 20 == 0:
                pod.add(DEFAULT)
                pod.remove(DEFAULT)
        for path, ifname in (
            (kernel_pod.path, "net7"),
            (str(tmp_path), "net1"),
            (str(tmp_path / "no"), "net1"),
        ):
            with pytest.raises((PodNetworkFailure, InvalidNetns)), podnet.open_pod(path, ifname):
                pass
        podnet.clear_pod(kernel_pod.path, 100)
        podnet.link_by_mac("02:00:00:00:00:99")
    # What earlier tests of this process left may be collected meanwhile; a leak of ours would be 200.
    assert held() <= before
    assert threading.active_count() <= threads


def test_a_pod_may_be_used_by_other_threads(kernel_pod: KernelPod) -> None:
    failures = []

    def use(pod: Any, number: Any) -> None:
        try:
            for _ in range(20):
                pod.add(PodRoute(ip_network(f"10.{number}.0.0/16"), ip_address("10.10.1.1"), 100))
                assert pod.link.name == "net1"
                assert pod.addresses()
        except BaseException as failure:  # noqa: BLE001 -- shown by the main thread
            failures.append(failure)

    with kernel_pod.open() as pod:
        threads = [threading.Thread(target=use, args=(pod, number)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(pod.routes()) == 4
    assert len(ip_json("route", "show", "table", "100", netns=kernel_pod.name)) == 4


def test_the_interface_may_vanish_while_it_is_held(kernel_pod: KernelPod) -> None:
    with kernel_pod.open() as pod:
        kernel_pod.unplug("net1")
        with pytest.raises(PodNetworkFailure, match="net1"):
            pod.add(DEFAULT)
        pod.remove(PodRule(ip_network("192.168.0.2/32"), 100))
        assert pod.routes() == frozenset()


# -- links


def test_the_parent_is_found_in_the_namespace_that_the_link_names(kernel_pod: KernelPod) -> None:
    expected = ip_json("link", "show", kernel_pod.parent, netns=kernel_pod.node)[0]
    with kernel_pod.open() as pod:
        parent = pod.parent()
        assert pod.link.kind == "macvlan"
        assert pod.link.mac == expected["address"]
    assert parent
    assert (parent.link.name, parent.link.index, parent.link.mac) == (
        expected["ifname"],
        expected["ifindex"],
        expected["address"],
    )
    assert parent.here is False


def test_the_parent_is_here_for_a_process_of_the_node(kernel_pod: KernelPod) -> None:
    code = f"""
from cni_floatip.edges.podnet import open_pod, host_link, link_by_mac
with open_pod({kernel_pod.path!r}, "net1") as pod:
    parent = pod.parent()
assert host_link(parent.link.index) == parent.link == link_by_mac(parent.link.mac.upper())
print(parent.here, parent.link.name, parent.link.up, parent.link.carrier)
"""
    assert in_node(kernel_pod.node, code) == f"True {kernel_pod.parent} True True"


def test_a_link_without_parent_has_none(kernel_pod: KernelPod) -> None:
    kernel_pod.ip("link", "add", "net9", "type", "bridge")  # no IFLA_LINK, as an ENI that was moved in
    with kernel_pod.open("net9") as pod:
        assert pod.parent() is None
        assert pod.link.kind == "bridge"


def test_a_parent_beside_its_child_is_found_and_not_here(kernel_pod: KernelPod) -> None:
    kernel_pod.ip("link", "add", "link", "eth0", "name", "net9", "type", "macvlan", "mode", "bridge")
    with kernel_pod.open("net9") as pod:
        parent = pod.parent()
    assert parent
    assert parent.link.name == "eth0"
    assert parent.here is False


def test_the_parent_and_not_its_child_has_the_mac(kernel_pod: KernelPod) -> None:
    mac = ip_json("link", "show", kernel_pod.parent, netns=kernel_pod.node)[0]["address"]
    kernel_pod.ip("link", "set", "net1", "netns", kernel_pod.node, "name", "a-child")
    assert sum(item["address"] == mac for item in ip_json("link", "show", netns=kernel_pod.node)) == 2
    result = in_node(
        kernel_pod.node, f"from cni_floatip.edges import podnet; print(podnet.link_by_mac({mac!r}).name)"
    )
    assert result == kernel_pod.parent
    ip("link", "del", "a-child", netns=kernel_pod.node)


def test_no_link_has_the_mac_and_no_link_has_the_index() -> None:
    assert podnet.link_by_mac("02:00:00:00:00:99") is None
    with pytest.raises(PodNetworkFailure, match="link 4242 of the host"):
        podnet.host_link(4242)


SET_UP = """
import time
from cni_floatip.edges import podnet
from cni_floatip.model import errors
with podnet.open_pod({path!r}, "net1") as pod:
    link = pod.parent().link
assert not link.up
try:
    print(podnet.set_up(link, time.monotonic() + {seconds}, time.sleep).carrier)
except errors.PodNetworkFailure as failure:
    print(failure)
"""


def test_a_parent_that_is_down_is_brought_up(kernel_pod: KernelPod) -> None:
    ip("link", "set", kernel_pod.parent, "down", netns=kernel_pod.node)
    assert in_node(kernel_pod.node, SET_UP.format(path=kernel_pod.path, seconds=2)) == "True"
    assert "UP" in ip_json("link", "show", kernel_pod.parent, netns=kernel_pod.node)[0]["flags"]
    with kernel_pod.open() as pod:
        assert pod.link.carrier


def test_a_parent_without_carrier_is_an_error(kernel_pod: KernelPod) -> None:
    for item in (kernel_pod.parent, kernel_pod.parent.replace("eth", "r")):
        ip("link", "set", item, "down", netns=kernel_pod.node)
    text = in_node(kernel_pod.node, SET_UP.format(path=kernel_pod.path, seconds=0.1))
    assert text.startswith(f"{kernel_pod.parent} (")
    assert text.endswith("has no carrier after it was brought up")
    with kernel_pod.open() as pod:
        assert not pod.link.carrier


def test_removed_connected_routes_survive_a_parent_that_goes_down_and_up(kernel_pod: KernelPod) -> None:
    with kernel_pod.open() as pod:
        for network in pod.connected():
            pod.remove_connected(network)
        for state in ("down", "up"):
            ip("link", "set", kernel_pod.parent, state, netns=kernel_pod.node)
        throughout(lambda: pod.connected() == frozenset(), 0.2)


# -- addresses


def test_addresses_are_what_ip_shows(kernel_pod: KernelPod) -> None:
    shown = ip_json("addr", "show", "net1", netns=kernel_pod.name)[0]["addr_info"]
    with kernel_pod.open() as pod:
        results = {str(address.interface) for address in pod.addresses()}
        own = [
            address for address in pod.addresses() if not address.interface.is_link_local
        ]  # the kernel probes it
        assert not any(address.tentative or address.duplicate for address in own)
    assert results == {f"{item['local']}/{item['prefixlen']}" for item in shown}


def with_detection(pod: Any) -> None:
    pod.run("sysctl", "-qw", "net.ipv6.conf.all.accept_dad=1", "net.ipv6.conf.net1.accept_dad=1")


def test_a_tentative_address_is_waited_for(kernel_pod: KernelPod) -> None:
    with_detection(kernel_pod)
    kernel_pod.ip("addr", "add", "fd00::7/128", "dev", "net1")
    slept: list[float] = []
    with kernel_pod.open() as pod:
        assert ip_interface("fd00::7/128") in {
            address.interface for address in pod.addresses() if address.tentative
        }
        wanted = [ip_interface("fd00::7/128"), ip_address("192.168.0.2")]
        with pytest.raises(PodNetworkFailure, match="fd00::7 on net1 cannot be used yet"):
            pod.wait_addresses(wanted, 0.0, slept.append, clock=lambda: 1.0)
        with pytest.raises(PodNetworkFailure, match="fd00::7"):
            pod.wait_addresses(wanted, time.monotonic() + 5, lambda seconds: True)
        assert slept == []
        pod.add(DEFAULT)  # a tentative address keeps no route out
        pod.wait_addresses(wanted, time.monotonic() + 5, time.sleep)
        assert not any(address.tentative for address in pod.addresses())


def test_a_duplicate_address_is_an_error_that_says_so(kernel_pod: KernelPod) -> None:
    with_detection(kernel_pod)
    router = kernel_pod.parent.replace("eth", "r")
    ip("addr", "add", "fd00::7/128", "dev", router, "nodad", netns=kernel_pod.node)
    kernel_pod.ip("addr", "add", "fd00::7/128", "dev", "net1")
    with kernel_pod.open() as pod, pytest.raises(PodNetworkFailure, match="fd00::7 on net1 is a duplicate"):
        pod.wait_addresses([ip_address("fd00::7")], time.monotonic() + 5, time.sleep)
    ip("addr", "del", "fd00::7/128", "dev", router, netns=kernel_pod.node)


def test_disabled_ipv6_matters_only_where_ipv6_is_wanted(kernel_pod: KernelPod) -> None:
    kernel_pod.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    with kernel_pod.open() as pod:
        pod.wait_addresses([ip_address("192.168.0.2")], 0.0, time.sleep)
        pod.add(PodRoute(ip_network("0.0.0.0/0"), ip_address("10.10.1.1"), 100))
        pod.add(PodRoute(ip_network("fd00:ec2::/32"), None, 100, kind="unreachable"))
        assert pod.free_table() == 101
        with pytest.raises(PodNetworkFailure) as failure:
            pod.wait_addresses([ip_address("fd00::2")], 0.0, time.sleep)
        assert "IPv6 is disabled" in failure.value.details
        with pytest.raises(PodNetworkFailure, match="IPv6 is disabled"):
            pod.add(DEFAULT)


# -- refusals and other people's routes


def test_the_kernels_reason_is_passed_on(kernel_pod: KernelPod) -> None:
    with kernel_pod.open() as pod, pytest.raises(PodNetworkFailure) as failure:
        pod.add(PodRoute(ip_network("10.0.0.0/8"), ip_address("192.168.0.2"), 100))
    assert failure.value.msg.startswith("add 10.0.0.0/8 via ")
    assert "EINVAL" in failure.value.details


def test_a_missing_privilege_is_named(kernel_pod: KernelPod) -> None:
    code = f"""
from ipaddress import *
from cni_floatip.edges import podnet
from cni_floatip.model import errors, values
try:
    with podnet.open_pod({kernel_pod.path!r}, "net1") as pod:
        pod.add(values.PodRule(ip_network("192.168.0.2/32"), 100))
except errors.PodNetworkFailure as failure:
    print(failure.msg)
"""
    lacking = "setpriv", "--inh-caps=-net_admin", "--bounding-set=-net_admin"
    assert in_node(kernel_pod.node, code, *lacking).endswith("CAP_NET_ADMIN is needed")
    lacking = "setpriv", "--inh-caps=-sys_admin", "--bounding-set=-sys_admin"
    assert "cannot be entered (CAP_SYS_ADMIN is needed)" in in_node(kernel_pod.node, code, *lacking)


def test_odd_routes_of_others_are_read(kernel_pod: KernelPod) -> None:
    kernel_pod.ip(
        "route",
        "add",
        "10.5.0.0/16",
        "nexthop",
        "via",
        "169.254.1.1",
        "dev",
        "eth0",
        "nexthop",
        "dev",
        "net1",
    )
    kernel_pod.ip("route", "add", "10.6.0.0/16", "via", "inet6", "fe80::1", "dev", "net1", "metric", "7")
    kernel_pod.ip("route", "add", "blackhole", "10.7.0.0/16", "table", "200")
    with kernel_pod.open() as pod:
        shown = {str(route) for route in pod.foreign_routes()}
        assert pod.free_table(200) == 201
    assert {
        "10.5.0.0/16 via 169.254.1.1 dev eth0 table 254 proto 3",
        "10.5.0.0/16 dev net1 table 254 proto 3",
        "10.6.0.0/16 via fe80::1 dev net1 table 254 proto 3 metric 7",
        "blackhole 10.7.0.0/16 table 200 proto 3",
    } <= shown


def test_a_rule_with_more_selectors_is_no_rule_for_the_source(kernel_pod: KernelPod) -> None:
    kernel_pod.ip("rule", "add", "from", "192.168.0.2", "fwmark", "7", "lookup", "50")
    with kernel_pod.open() as pod:
        pod.add(PodRule(ip_network("192.168.0.2/32"), 100))
        assert pod.rules() == {PodRule(ip_network("192.168.0.2/32"), 100)}


BOUND = [
    PodRule(ip_network("fd00::2/128"), 100),
    PodRule(ip_network("::/0"), 100, "net1"),
    PodRule(ip_network("::/0"), 100, "net1", unreachable_to=ip_network("fd00:ec2::/32")),
]


@pytest.mark.parametrize(
    "lost", [BOUND, BOUND[:1], BOUND[1:2], BOUND[:2], BOUND[2:]], ids=["all", "from", "oif", "both", "bar"]
)
def test_what_bars_metadata_stays_before_a_rule_that_is_put_back(kernel_pod: KernelPod, lost: Any) -> None:
    """Else what is bound to the interface would find the default route of the table first."""
    with kernel_pod.open() as pod:
        for rule in BOUND:
            pod.add(rule)
        for rule in lost:
            pod.remove(rule)
        for rule in lost:
            pod.add(rule)
    shown = [line for line in kernel_pod.ip("-6", "rule").splitlines() if "net1" in line or "fd00::2" in line]
    assert ["unreachable" in line for line in shown] == [True, False, False], shown


def test_where_all_rules_were_flushed_ours_can_be_flushed_again(kernel_pod: KernelPod) -> None:
    kernel_pod.ip("-6", "rule", "flush")
    with kernel_pod.open() as pod:
        for rule in BOUND:
            pod.add(rule)
    kernel_pod.ip("-6", "rule", "add", "pref", "32766", "lookup", "main")
    *first, last = kernel_pod.ip("-6", "rule").splitlines()
    assert last.startswith("32766:")
    assert ["unreachable" in line for line in first[1:]] == [True, False, False], first
    kernel_pod.ip("-6", "rule", "flush")
    assert "net1" not in kernel_pod.ip("-6", "rule")
