"""Routes and rules in a pod: the same expectations of the kernel and of the fake."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from cni_floatip.edges.podnet import NoInterface
from cni_floatip.model.errors import PodNetworkFailure
from cni_floatip.model.values import PodRoute, PodRule
from tests.edges.podnet.pods import KernelPod, MemoryPod

UNTOUCHED = [
    "0.0.0.0/0 via 169.254.1.1 dev eth0 table 254 proto 4",
    "169.254.1.1/32 dev eth0 table 254 proto 4",
    "192.168.0.0/29 dev net1 table 254 proto 2",
    "fd00::/64 dev net1 table 254 proto 2",
]


def route(destination: str, gateway: str = "10.10.1.1", table: int = 100, mtu: int | None = None) -> PodRoute:
    return PodRoute(ip_network(destination), ip_address(gateway), table, mtu)


def unreachable(destination: str, table: int = 100) -> PodRoute:
    return PodRoute(ip_network(destination), None, table, kind="unreachable")


def throw(destination: str, table: int = 100) -> PodRoute:
    return PodRoute(ip_network(destination), None, table, kind="throw")


def rule(source: str, table: int = 100) -> PodRule:
    return PodRule(ip_network(source), table)


def bound(source: str, barred: str | None = None, oif: str = "net1") -> PodRule:
    return PodRule(ip_network(source), 100, oif, unreachable_to=ip_network(barred) if barred else None)


EVERYTHING: list[PodRoute | PodRule] = [
    route("0.0.0.0/0", mtu=8500),
    route("::/0", "fe80:ec2::1", mtu=8500),
    route("10.0.0.0/8", table=254),
    unreachable("169.254.0.0/16"),
    unreachable("fd00:ec2::/32"),
    throw("100.64.8.0/22"),
    throw("fd00:64::/56"),
    rule("100.64.8.0/22"),
    rule("192.168.0.2/32"),
    rule("fd00::2/128"),
    bound("0.0.0.0/0"),
    bound("::/0"),
    bound("::/0", barred="fd00:ec2::/32"),
]
EVERYTHING_SHOWN = [
    "0.0.0.0/0 via 10.10.1.1 dev net1 table 100 proto 241 mtu 8500",
    "10.0.0.0/8 via 10.10.1.1 dev net1 table 254 proto 241",
    "::/0 via fe80:ec2::1 dev net1 table 100 proto 241 mtu 8500",
    "from 0.0.0.0/0 oif net1 lookup 100 proto 241",
    "from 100.64.8.0/22 lookup 100 proto 241",
    "from 192.168.0.2/32 lookup 100 proto 241",
    "from ::/0 oif net1 lookup 100 proto 241",
    "from ::/0 to fd00:ec2::/32 oif net1 unreachable proto 241",
    "from fd00::2/128 lookup 100 proto 241",
    "throw 100.64.8.0/22 table 100 proto 241",
    "throw fd00:64::/56 table 100 proto 241",
    "unreachable 169.254.0.0/16 table 100 proto 241",
    "unreachable fd00:ec2::/32 table 100 proto 241",
]


def shown(pod: Any) -> list[Any]:
    """What is there beyond what a pod comes with, which must be there still."""
    lines = pod.lines()
    assert [line for line in lines if line in UNTOUCHED] == UNTOUCHED
    return [line for line in lines if line not in UNTOUCHED]


def test_a_fresh_pod_holds_nothing_of_ours(any_pod: KernelPod | MemoryPod) -> None:
    with any_pod.open() as pod:
        assert pod.routes() == frozenset()
        assert pod.rules() == frozenset()
    assert any_pod.lines() == UNTOUCHED


def test_what_is_added_is_there_and_read_back(any_pod: KernelPod | MemoryPod) -> None:
    with any_pod.open() as pod:
        for item in EVERYTHING:
            pod.add(item)
        assert pod.routes() | pod.rules() == set(EVERYTHING)
    assert shown(any_pod) == EVERYTHING_SHOWN


def test_adding_twice_is_adding_once(any_pod: KernelPod | MemoryPod) -> None:
    with any_pod.open() as pod:
        for item in EVERYTHING * 2:
            pod.add(item)
    assert shown(any_pod) == EVERYTHING_SHOWN


def test_what_is_removed_is_gone_and_the_rest_stays(any_pod: KernelPod | MemoryPod) -> None:
    with any_pod.open() as pod:
        for item in EVERYTHING:
            pod.add(item)
        for item in EVERYTHING[:2] + EVERYTHING[5:6]:
            pod.remove(item)
        assert pod.routes() | pod.rules() == set(EVERYTHING[2:5] + EVERYTHING[6:])


def test_removing_nothing_succeeds(any_pod: KernelPod | MemoryPod) -> None:
    with any_pod.open() as pod:
        for item in EVERYTHING * 2:
            pod.remove(item)
    assert any_pod.lines() == UNTOUCHED


def test_a_route_is_removed_whatever_its_mtu(any_pod: KernelPod | MemoryPod) -> None:
    with any_pod.open() as pod:
        pod.add(route("10.0.0.0/8", mtu=1400))
        pod.remove(route("10.0.0.0/8", mtu=8500))
    assert any_pod.lines() == UNTOUCHED


def test_tables_of_more_than_eight_bits(any_pod: KernelPod | MemoryPod) -> None:
    with any_pod.open() as pod:
        for item in (route("10.0.0.0/8", table=70_000), rule("192.168.0.2/32", 4_000_000_000)):
            pod.add(item)
            pod.add(item)
        assert pod.routes() == {route("10.0.0.0/8", table=70_000)}
        assert pod.rules() == {rule("192.168.0.2/32", 4_000_000_000)}
        pod.remove(route("10.0.0.0/8", table=70_000))
        pod.remove(rule("192.168.0.2/32", 4_000_000_000))
    assert any_pod.lines() == UNTOUCHED


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("10.0.0.0/8 via 169.254.1.1 dev eth0 table 254 proto 4", route("10.0.0.0/8", table=254)),
        ("0.0.0.0/0 via 169.254.1.1 dev eth0 table 254 proto 4", route("0.0.0.0/0", table=254)),
        ("192.168.0.0/29 dev net1 table 254 proto 2", route("192.168.0.0/29", table=254)),
        ("fd00::/64 dev net1 table 254 proto 2", route("fd00::/64", "fe80:ec2::1", table=254)),
        ("10.0.0.0/8 via 169.254.1.1 dev eth0 table 100 proto 99", route("10.0.0.0/8")),
        ("10.0.0.0/8 via 169.254.1.1 dev eth0 table 100 proto 99", unreachable("10.0.0.0/8")),
    ],
    ids=["main", "main default", "connected v4", "connected v6", "our table", "unreachable"],
)
def test_somebody_elses_route_is_shown_and_stays(
    any_pod: KernelPod | MemoryPod, theirs: str, ours: Any
) -> None:
    if theirs not in any_pod.lines():
        any_pod.put_route(theirs)
    before = any_pod.lines()
    with any_pod.open() as pod, pytest.raises(PodNetworkFailure) as failure:
        pod.add(ours)
    assert theirs in failure.value.msg
    assert any_pod.lines() == before


@pytest.mark.parametrize(
    "other",
    [route("10.0.0.0/8", "10.10.1.2"), route("10.0.0.0/8", mtu=1400), unreachable("10.0.0.0/8")],
    ids=["next hop", "mtu", "unreachable"],
)
def test_our_own_route_is_not_replaced_by_a_different_one(any_pod: KernelPod | MemoryPod, other: Any) -> None:
    with any_pod.open() as pod:
        pod.add(route("10.0.0.0/8"))
        with pytest.raises(PodNetworkFailure, match=r"10\.0\.0\.0/8 via 10\.10\.1\.1 dev net1 table 100"):
            pod.add(other)
        assert pod.routes() == {route("10.0.0.0/8")}


def test_our_route_through_another_interface_is_in_the_way_and_not_removed(
    any_pod: KernelPod | MemoryPod,
) -> None:
    with any_pod.open("eth0") as eth0, any_pod.open() as net1:
        eth0.add(route("10.0.0.0/8"))
        with pytest.raises(PodNetworkFailure, match="dev eth0"):
            net1.add(route("10.0.0.0/8"))
        net1.remove(route("10.0.0.0/8"))
        assert net1.routes() == frozenset()
        assert eth0.routes() == {route("10.0.0.0/8")}


@pytest.mark.parametrize("table", [50, 100], ids=["other table", "same table"])
def test_somebody_elses_rule_for_the_source_is_shown_and_stays(
    any_pod: KernelPod | MemoryPod, table: int
) -> None:
    any_pod.put_rule(f"from 192.168.0.2/32 lookup {table} proto 99")
    with any_pod.open() as pod:
        with pytest.raises(PodNetworkFailure, match=f"from 192.168.0.2/32 lookup {table} proto 99"):
            pod.add(rule("192.168.0.2/32"))
        pod.remove(rule("192.168.0.2/32", table))
        assert pod.rules() == frozenset()
    assert shown(any_pod) == [f"from 192.168.0.2/32 lookup {table} proto 99"]


def test_a_rule_for_what_is_bound_is_in_the_way_of_its_like_only(any_pod: KernelPod | MemoryPod) -> None:
    any_pod.put_rule("from 0.0.0.0/0 oif net1 lookup 50 proto 99")
    any_pod.put_rule("from 192.168.0.2/32 oif net1 lookup 50 proto 99")
    with any_pod.open() as pod:
        for pod_rule in (rule("192.168.0.2/32"), bound("::/0"), bound("0.0.0.0/0", oif="eth0")):
            pod.add(pod_rule)
        with pytest.raises(PodNetworkFailure, match=r"from 0\.0\.0\.0/0 oif net1 lookup 50 proto 99"):
            pod.add(bound("0.0.0.0/0"))
        for pod_rule in (rule("192.168.0.2/32"), bound("0.0.0.0/0"), bound("::/0")):
            pod.remove(pod_rule)
        assert pod.rules() == {bound("0.0.0.0/0", oif="eth0")}


def test_remove_all_leaves_others_and_our_other_interface(any_pod: KernelPod | MemoryPod) -> None:
    any_pod.put_rule("from 192.168.0.9/32 lookup 100 proto 99")
    any_pod.put_route("10.9.0.0/16 via 169.254.1.1 dev eth0 table 100 proto 99")
    with any_pod.open("eth0") as eth0, any_pod.open() as net1:
        for item in EVERYTHING:
            net1.add(item)
        theirs: list[PodRoute | PodRule] = [
            route("0.0.0.0/0", table=101),
            unreachable("fd00:ec2::/32", 101),
            throw("fd00:64::/56", 101),
            rule("10.0.0.7/32", 101),
        ]
        for their in theirs:
            eth0.add(their)
        net1.remove_all(100)
        net1.remove_all(100)
    assert shown(any_pod) == [
        "0.0.0.0/0 via 10.10.1.1 dev eth0 table 101 proto 241",
        "10.9.0.0/16 via 169.254.1.1 dev eth0 table 100 proto 99",
        "from 10.0.0.7/32 lookup 101 proto 241",
        "from 192.168.0.9/32 lookup 100 proto 99",
        "throw fd00:64::/56 table 101 proto 241",
        "unreachable fd00:ec2::/32 table 101 proto 241",
    ]


def test_clear_pod_removes_what_an_unplugged_interface_leaves(any_pod: KernelPod | MemoryPod) -> None:
    with any_pod.open() as pod:
        for item in EVERYTHING:
            pod.add(item)
    with any_pod.open("eth0") as eth0:
        eth0.add(rule("10.0.0.7/32", 101))
    any_pod.put_rule("from 192.168.0.9/32 lookup 100 proto 99")
    any_pod.unplug("net1")
    left = [item for item in any_pod.lines() if "proto 241" in item]
    assert "from 192.168.0.2/32 lookup 100 proto 241" in left
    with pytest.raises(NoInterface, match="net1 does not exist"), any_pod.open():
        pass
    any_pod.clear(100)
    any_pod.clear(100)
    assert [item for item in any_pod.lines() if item not in UNTOUCHED] == [
        "from 10.0.0.7/32 lookup 101 proto 241",
        "from 192.168.0.9/32 lookup 100 proto 99",
    ]


def test_clear_pod_removes_the_routes_and_rules_that_it_is_given(any_pod: KernelPod | MemoryPod) -> None:
    with any_pod.open() as pod:
        for item in EVERYTHING:
            pod.add(item)
    any_pod.unplug("net1")
    any_pod.clear(
        None,
        routes=[unreachable("fd00:ec2::/32"), throw("100.64.8.0/22"), route("10.0.0.0/8")],
        rules=[rule("fd00::2/128")],
    )
    assert [item for item in any_pod.lines() if "proto 241" in item] == [
        "from 0.0.0.0/0 oif net1 lookup 100 proto 241",
        "from 100.64.8.0/22 lookup 100 proto 241",
        "from 192.168.0.2/32 lookup 100 proto 241",
        "from ::/0 oif net1 lookup 100 proto 241",
        "from ::/0 to fd00:ec2::/32 oif net1 unreachable proto 241",
        "throw fd00:64::/56 table 100 proto 241",
        "unreachable 169.254.0.0/16 table 100 proto 241",
    ]


def test_free_table_passes_by_what_any_route_or_rule_names(any_pod: KernelPod | MemoryPod) -> None:
    with any_pod.open() as pod:
        assert pod.free_table() == 100
        any_pod.put_route("10.9.0.0/16 via 169.254.1.1 dev eth0 table 100 proto 99")
        any_pod.put_rule("from fd00::9/128 lookup 101 proto 99")
        pod.add(unreachable("fd00:ec2::/32", 102))
        assert pod.free_table() == 103
        assert pod.free_table(253) == 256


def test_foreign_routes_show_others_and_not_ours(any_pod: KernelPod | MemoryPod) -> None:
    any_pod.put_route("10.9.0.0/16 via 169.254.1.1 dev eth0 table 100 proto 99")
    with any_pod.open() as pod:
        pod.add(route("10.0.0.0/8"))
        pod.add(route("10.0.0.0/8", table=254))
        assert [str(other_route) for other_route in pod.foreign_routes(100)] == [
            "10.9.0.0/16 via 169.254.1.1 dev eth0 table 100 proto 99"
        ]
        main = {
            (str(other_route.destination), other_route.ifname, str(other_route.gateway))
            for other_route in pod.foreign_routes(254)
        }
        assert {
            ("0.0.0.0/0", "eth0", "169.254.1.1"),
            ("169.254.1.1/32", "eth0", "None"),
            ("192.168.0.0/29", "net1", "None"),
            ("fd00::/64", "net1", "None"),
        } == {item for item in main if item[0] != "fe80::/64"}
        assert ("10.9.0.0/16", "eth0", "169.254.1.1") in {
            (str(other_route.destination), other_route.ifname, str(other_route.gateway))
            for other_route in pod.foreign_routes()
        }


def test_other_addresses_are_the_cluster_networks(any_pod: KernelPod | MemoryPod) -> None:
    with any_pod.open() as pod:
        assert pod.other_addresses() == (ip_interface("10.0.0.7/32"),)


def test_connected_routes_are_removed_and_restored(any_pod: KernelPod | MemoryPod) -> None:
    with any_pod.open() as pod:
        assert pod.connected() == {ip_network("192.168.0.0/29"), ip_network("fd00::/64")}
        for network in (ip_network("192.168.0.0/29"), ip_network("fd00::/64")) * 2:
            pod.remove_connected(network)
        assert pod.connected() == frozenset()
        assert any_pod.lines() == UNTOUCHED[:2]
        for address in (ip_interface("192.168.0.2/29"), ip_interface("fd00::2/64")) * 2:
            pod.restore_connected(address)
    assert any_pod.lines() == UNTOUCHED


def test_the_connected_route_of_an_address_that_is_gone_stays_away(any_pod: KernelPod | MemoryPod) -> None:
    with any_pod.open() as pod:
        pod.restore_connected(ip_interface("192.168.7.1/24"))
        pod.restore_connected(ip_interface("192.168.0.2/32"))
    assert any_pod.lines() == UNTOUCHED


def test_addresses_that_are_there_need_no_waiting(any_pod: KernelPod | MemoryPod) -> None:
    slept: list[float] = []
    with any_pod.open() as pod:
        addresses = [ip_interface("192.168.0.2/29"), ip_address("fd00::2")]
        pod.wait_addresses(addresses, 5.0, slept.append, clock=lambda: 0.0)
        with pytest.raises(PodNetworkFailure, match=r"192\.168\.0\.3 is not on net1"):
            pod.wait_addresses([ip_address("192.168.0.3")], 5.0, slept.append, clock=lambda: 0.0)
    assert slept == []
