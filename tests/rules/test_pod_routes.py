"""Which routes and rules a pod has: by default, of pools, in the main table, and none."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_floatip.model.errors import InvalidConfig
from cni_floatip.model.values import (
    MAIN_TABLE,
    PodRoute,
    PodRule,
)
from cni_floatip.rules import destinations, pod_routes
from tests.rules.vpc_sample import ENI, SUBNETS, conf, interfaces


def plan(addresses: list[str], **keys: object) -> pod_routes.PodPlan:
    net_conf = conf(**keys)
    results = interfaces(*addresses)
    return pod_routes.pod_plan(
        net_conf, results, destinations.destinations(net_conf, results, ENI, SUBNETS), ENI, 100, "net1"
    )


def test_pod_routes_by_default() -> None:
    pod_plan = plan(["192.168.0.2/29", "fd00::2/128"])
    assert [str(item) for item in (*pod_plan.routes, *pod_plan.rules, *pod_plan.connected)] == [
        "0.0.0.0/0 via 10.10.1.1 table 100",
        "::/0 via fe80:ec2::1 table 100",
        "fe80::/64 on the link table 100",
        "unreachable 169.254.0.0/16 table 100",
        "unreachable fd00:ec2::/32 table 100",
        "from 192.168.0.2/32 lookup 100",
        "from fd00::2/128 lookup 100",
        "from 0.0.0.0/0 oif net1 lookup 100",
        "from ::/0 oif net1 lookup 100",
        "from ::/0 to fd00:ec2::/32 oif net1 unreachable",
        "192.168.0.2/29",
    ]


def test_pod_routes_of_pattern_2_keep_the_subnet_on_the_link() -> None:
    pod_plan = plan(["10.10.254.2/28"])
    assert PodRoute(ip_network("10.10.254.0/28"), None, 100) in pod_plan.routes
    assert pod_plan.connected == ()


def test_prefix_wider_than_the_claimed_subnet_is_not_on_the_link() -> None:
    assert plan(["10.10.254.2/16"]).connected == tuple(interfaces("10.10.254.2/16"))


def test_a_listed_pool_leaves_like_the_address_and_is_found_behind_the_pod() -> None:
    listed = ["100.64.8.0/22", "fd00:64::/56", "192.168.0.0/24"]
    pod_plan = plan(["192.168.0.2/32"], destination=listed)
    ours = [str(item) for item in (*pod_plan.routes, *pod_plan.rules) if "oif" not in str(item)]
    assert ours == [
        "0.0.0.0/0 via 10.10.1.1 table 100",
        "unreachable 169.254.0.0/16 table 100",
        "throw 100.64.8.0/22 table 100",  # not the range around the pod's own address: others are in it
        "from 192.168.0.2/32 lookup 100",
        "from 100.64.8.0/22 lookup 100",  # not the pool of a family that the interface has no route for
        "from 192.168.0.0/24 lookup 100",
    ]


def test_a_pool_that_is_to_be_asked_through_the_interface_is_not_behind_the_pod() -> None:
    pod_plan = plan(["192.168.0.2/32"], destination=["100.64.8.0/22"], podRoutes={"to": ["100.64.8.0/22"]})
    assert [str(route) for route in pod_plan.routes if route.destination == ip_network("100.64.8.0/22")] == [
        "100.64.8.0/22 via 10.10.1.1 table 100"
    ]


def test_no_rule_for_a_pool_without_source_routing() -> None:
    pod_plan = plan(
        ["192.168.0.2/32"],
        destination=["100.64.8.0/22"],
        podRoutes={"to": ["10.20.0.0/16"], "sourceRouting": False},
    )
    assert (len(pod_plan.routes), pod_plan.rules) == (1, ())


def test_pod_routes_in_the_main_table() -> None:
    output = {
        "to": ["10.20.0.0/16", "fd20::/32"],
        "sourceRouting": False,
        "mtu": 8500,
        "gateway": "10.10.1.9",
    }
    pod_plan = plan(["192.168.0.2/32"], podRoutes=output)
    assert pod_plan.routes == (
        PodRoute(ip_network("10.20.0.0/16"), ip_address("10.10.1.9"), MAIN_TABLE, 8500),
    )
    assert pod_plan.rules == ()


def test_no_pod_routes() -> None:
    assert plan(["192.168.0.2/32"], podRoutes=False) == pod_routes.PodPlan()


@pytest.mark.parametrize(
    ("to", "covered"),
    [
        ("10.10.0.0/16", "the pod's address 10.10.0.77"),
        ("10.10.0.0/25", "the node's primary subnet"),
        ("10.20.0.0/16", None),
    ],
)
def test_routes_of_the_main_table_leave_the_cluster_alone(to: str, covered: str | None) -> None:
    net_conf = conf(podRoutes={"to": [to], "sourceRouting": False})
    arguments = (net_conf, lambda: interfaces("10.10.0.77/32"), [ip_network("10.10.0.0/24")])
    if covered:
        with pytest.raises(InvalidConfig, match=f"covers {covered}.*use sourceRouting"):
            pod_routes.refuse_cluster_routes(*arguments)
    else:
        pod_routes.refuse_cluster_routes(*arguments)


prefixes = st.integers(0, 2**32 - 1).flatmap(
    lambda number: st.integers(16, 32).map(lambda size: f"{ip_address(number)}/{size}")
)


@given(addresses=st.lists(prefixes, min_size=1, max_size=4))
def test_every_pattern_1_address_has_its_rule_and_no_misleading_route(addresses: Any) -> None:
    results = [interface for interface in interfaces(*addresses) if interface.ip not in ENI.vpc_cidrs[0]]
    wants = destinations.destinations(conf(), results, ENI, ())
    made = pod_routes.pod_plan(conf(), results, wants, ENI, 100, "net1")
    by_source = [rule for rule in made.rules if not rule.oif]
    assert {rule.source.network_address for rule in by_source} == {interface.ip for interface in results}
    assert [str(rule) for rule in made.rules if rule.oif] == ["from 0.0.0.0/0 oif net1 lookup 100"]
    assert {interface for interface in results if interface.network.prefixlen < 32} == set(made.connected)
    assert all(route.table == 100 for route in made.routes)
    assert all(isinstance(rule, PodRule) and rule.table == 100 for rule in made.rules)
