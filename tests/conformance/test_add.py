"""A01 to A16: ADD."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_interface
from typing import Any

import pytest

from lab import netns
from tests.conformance.harness import VERSIONS, Bench, Sandbox, address
from tests.support.waiting import until

VIP, VIP6 = "192.168.0.7/32", "fd00:192:168::7/128"


# -- the result ---------------------------------------------------------------------------------------------


def rich(pod: Sandbox, version: str) -> dict[str, Any]:
    """A result with everything that ``version`` knows, and what no version knows."""
    mac = pod.node.eni(pod.eth).mac
    newest = {"mtu": 9001, "socketPath": "/run/x.sock", "pciID": "0000:00:06.0"} if version == "1.1.0" else {}
    routes: list[dict[str, Any]] = [{"dst": "10.1.0.0/16", "gw": "192.168.0.1"}, {"dst": "fd01::/64"}]
    if version == "1.1.0":
        routes.append(
            {"dst": "10.2.0.0/16", "mtu": 1400, "advmss": 1300, "priority": 7, "table": 99, "scope": 0}
        )
    return {
        "interfaces": [
            {"name": "veth1", "mac": "02:00:00:00:00:99"},
            {"name": pod.ifname, "mac": mac, "sandbox": pod.netns, **newest, "x-unknown": [1, None, 2.50]},
        ],
        "cniVersion": version,
        "ips": [
            address(VIP, version, gateway="192.168.0.1", interface=1, **{"x-unknown": {"ä": "ö"}}),
            address("10.7.7.7/24", version, interface=0),
        ],
        "routes": routes,
        "dns": {"nameservers": ["10.0.0.2"], "domain": "ö", "search": [], "options": ["ndots:2"]},
        "x-vendor": {"big": 12345678901234567890, "tiny": 1e-07, "nested": {"b": 1, "a": [[], {}, ""]}},
    }


@pytest.mark.one_in(3)
@pytest.mark.parametrize("version", VERSIONS)
def test_A01_A02_the_result_is_what_came_in(bench: Bench, version: str) -> None:
    """Text for text, in the order in which it came, when we add nothing to it."""
    pod = bench.sandbox(VIP)
    prev = rich(pod, version)
    answer = bench.add(pod, version, prevResult=prev, podRoutes=False)
    assert answer.ok()["cniVersion"] == version
    ordered = {"cniVersion": version} | prev
    assert answer.stdout.decode() == json.dumps(ordered, ensure_ascii=False) + "\n"
    assert bench.vpc(VIP) == bench.everywhere(pod.eni)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("version", VERSIONS)
def test_A01_A13_routes_are_appended_and_the_rest_stays(bench: Bench, version: str) -> None:
    """Those of the source table only where the version can name a table (1.1.0)."""
    pod = bench.sandbox(VIP)
    prev = rich(pod, version)
    raw = bench.add(pod, version, prevResult=prev).ok()
    ours = [{"dst": "0.0.0.0/0", "gw": "10.10.1.1", "table": 100}] if version == "1.1.0" else []
    assert raw.pop("routes") == prev.pop("routes") + ours
    assert raw == prev


@pytest.mark.one_in(3)
@pytest.mark.parametrize("version", ["0.3.1", "1.0.0", "1.1.0"])
def test_A13_routes_of_the_main_table_are_in_every_result(bench: Bench, version: str) -> None:
    pod = bench.sandbox(VIP)
    output = {"to": ["10.99.0.0/16"], "sourceRouting": False, "mtu": 8500}
    raw = bench.add(pod, version, podRoutes=output).ok()
    mtu = {"mtu": 8500} if version == "1.1.0" else {}  # which no older version can say
    assert raw["routes"] == [{"dst": "10.99.0.0/16", "gw": "10.10.1.1", **mtu}]
    assert pod.network() == ["10.99.0.0/16 via 10.10.1.1 dev net1 table 254 mtu 8500"]
    assert bench.delete(pod).ok() == {}
    assert pod.network() == []


@pytest.mark.parametrize("prev", [..., None, {}, [], "x"], ids=repr)
def test_A03_without_a_previous_result(bench: Bench, prev: object) -> None:
    pod = bench.sandbox(VIP)
    text = bench.add(pod, prevResult=prev).refused(7, "$.prevResult")
    assert "must be called as a chained plugin" in text or prev in ([], "x")


# -- whose addresses ----------------------------------------------------------------------------------------


def test_A04_addresses_of_the_interface_and_of_no_other(bench: Bench) -> None:
    ours = ["192.168.0.70/32", "192.168.0.71/32", "192.168.0.72/32"]
    others = ["192.168.0.73/32", "192.168.0.74/32", "192.168.0.75/32"]
    pod = bench.sandbox(*ours, *others)
    mac = pod.node.eni("eth1").mac
    interfaces = [
        {"name": "net1", "mac": "02:00:00:00:00:77"},  # on the host: no sandbox
        {"name": "net1", "mac": mac, "sandbox": pod.netns},
        {"name": "net2", "mac": mac, "sandbox": pod.netns},
        {"name": "eth0", "sandbox": pod.netns},
    ]
    ips = [
        address(ours[0], interface=1),
        address(ours[1]),  # the index is missing
        address(ours[2], interface=-1),
        *(address(other, interface=index) for other, index in zip(others, (0, 2, 3), strict=True)),
    ]
    bench.add(pod, prevResult=pod.prev(interfaces=interfaces, ips=ips)).ok()
    claimed = {item for item in (*ours, *others) if bench.vpc(item)}
    assert claimed == set(ours)
    rules = [f"from {ip_interface(our).ip} lookup 100" for our in ours]
    assert [line for line in pod.network() if line.startswith("from 192")] == rules


@pytest.mark.parametrize("index", [1, 99])
def test_A04_an_index_that_leads_nowhere(bench: Bench, index: int) -> None:
    pod = bench.sandbox(VIP)
    prev = pod.prev(ips=[address(VIP, interface=index)])
    bench.add(pod, prevResult=prev).refused(7, "$.prevResult.ips[0].interface", str(index))


def test_A04_no_interfaces_at_all(bench: Bench) -> None:
    pod = bench.sandbox(VIP)
    prev = {"ips": [address(VIP)]}
    assert bench.add(pod, prevResult=prev).ok()["ips"] == prev["ips"]
    assert bench.vpc(VIP) == bench.everywhere(pod.eni)


V4 = [
    "0.0.0.0/0 via 10.10.1.1 dev net1 table 100",
    "from 192.168.0.7 lookup 100",
    "from all oif net1 lookup 100",
]
V6 = [
    "::/0 via fe80:ec2::1 dev net1 table 100",
    "fe80::/64 dev net1 table 100",
    "from fd00:192:168::7 lookup 100",
    "from all oif net1 lookup 100 (IPv6)",
    "from all to fd00:ec2::/32 oif net1 unreachable (IPv6)",
]
GUARD4, GUARD6 = "unreachable 169.254.0.0/16 table 100", "unreachable fd00:ec2::/32 table 100"


@pytest.mark.parametrize(
    ("addresses", "network"),
    [
        ([VIP], [*V4, GUARD4]),
        ([VIP6], [*V6, GUARD6]),
        ([VIP, VIP6], [*V4, *V6, GUARD4, GUARD6]),
    ],
    ids=["v4", "v6", "dual"],
)
def test_A05_each_family_alone_and_both(bench: Bench, addresses: list[str], network: list[str]) -> None:
    pod = bench.sandbox(*addresses)
    bench.add(pod).ok()
    assert pod.network() == sorted(network)
    for item in addresses:
        assert bench.vpc(item) == bench.everywhere(pod.eni)
    assert len(bench.written("CreateRoute")) == len(addresses) * len(bench.lab.tables)


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "after detection"])
def test_A05_no_address_is_tentative_when_add_answers(bench: Bench, waits: bool) -> None:
    pod = bench.sandbox(VIP, VIP6)
    probes = 1 if waits else 250  # one each second: more than an ADD would wait for
    netns.sysctl(pod.pod.ns, {"ipv6/conf/net1/dad_transmits": probes})
    shown = ["ip", "-n", pod.pod.ns, "-6", "-o", "addr", "show", "dev", "net1", "to", VIP6]
    pod.ip(f"addr del {VIP6} dev net1", f"addr add {VIP6} dev net1")
    until(lambda: "tentative" in subprocess.run(shown, capture_output=True, text=True, check=True).stdout)
    bench.add(pod, duplicateAddressDetection=waits).ok()
    after = subprocess.run(shown, capture_output=True, text=True, check=True).stdout
    assert VIP6 in after
    assert "tentative" not in after
    assert ("nodad" not in after) is waits


def test_A05_an_address_of_the_vpc_claims_its_whole_empty_subnet(bench: Bench) -> None:
    """Pattern 2, both families; a pattern 1 address beside it keeps its host route."""
    subnet = bench.lab.dummy_subnets[0]
    inside, inside6 = f"{subnet.cidr[5]}/28", f"{subnet.cidr6[5]}/64"
    pod = bench.sandbox(inside, inside6, VIP)
    bench.add(pod).ok()
    for destination in (str(subnet.cidr), str(subnet.cidr6), VIP):
        assert bench.vpc(destination) == bench.everywhere(pod.eni)
    assert bench.vpc(f"{subnet.cidr[5]}/32") == {}
    assert f"{subnet.cidr} dev net1 table 100" in pod.network()
    assert str(subnet.cidr) in pod.main_routes()  # its other pods share the ENI: they are on the link


def test_A05_a_prefix_that_means_nothing_to_the_vpc(bench: Bench) -> None:
    """The connected route of a pattern 1 prefix goes, and comes back with DEL."""
    pod = bench.sandbox("192.168.0.7/24")
    assert pod.main_routes() == ["192.168.0.0/24"]
    bench.add(pod).ok()
    assert pod.main_routes() == []
    assert bench.vpc(VIP) == bench.everywhere(pod.eni)
    assert bench.vpc("192.168.0.0/24") == {}
    bench.delete(pod).ok()
    assert pod.main_routes() == ["192.168.0.0/24"]


@pytest.mark.parametrize("ips", [..., None, []], ids=repr)
def test_A06_no_addresses(bench: Bench, ips: object) -> None:
    pod = bench.sandbox(VIP)
    prev = {key: value for key, value in pod.prev(ips=ips).items() if value is not ...}
    bench.add(pod, prevResult=prev).refused(7, "$.prevResult.ips", "net1", "ipam")


def test_A06_only_addresses_of_others(bench: Bench) -> None:
    pod = bench.sandbox(VIP)
    prev = pod.prev(interfaces=[{"name": "eth0", "sandbox": pod.netns}])
    bench.add(pod, prevResult=prev).refused(7, "$.prevResult.ips", "net1")


@pytest.mark.parametrize("gateway", [None, "0.0.0.0", "::", "192.168.0.1"], ids=str)
def test_A07_the_gateway_of_the_previous_result_is_not_ours(bench: Bench, gateway: str | None) -> None:
    """The next hop is the VPC router; what stands in ``ips`` (route-override writes zeros) stays there."""
    pod = bench.sandbox(VIP)
    prev = pod.prev(ips=[address(VIP, gateway=gateway, interface=0)])
    assert bench.add(pod, prevResult=prev).ok()["ips"] == prev["ips"]
    assert V4[0] in pod.network()


# -- again, from elsewhere, in vain -------------------------------------------------------------------------


def test_A08_the_same_attachment_again(bench: Bench) -> None:
    pod = bench.sandbox(VIP, VIP6)
    first = bench.add(pod, onDelete="release").ok()
    before = pod.network()
    bench.lab.ec2.journal.clear()
    assert bench.add(pod, onDelete="release").ok() == first
    assert pod.network() == before
    assert bench.vpc(VIP) == bench.everywhere(pod.eni)
    assert bench.states() == [{"held"}]
    # A read may be stale, so "ours already" is never taken on trust.
    assert bench.written() == ["ReplaceRoute ok"] * 2 * len(bench.lab.tables)
    bench.delete(pod).ok()
    assert (bench.vpc(VIP), pod.network()) == ({}, [])


def test_A09_a_route_to_another_eni_is_replaced(bench: Bench) -> None:
    other = bench.lab.nodes["b1"].eni("eth1").id
    bench.point(VIP, ["a", "client"], NetworkInterfaceId=other)
    pod = bench.sandbox(VIP)
    bench.lab.ec2.journal.clear()
    bench.add(pod).ok()
    assert bench.vpc(VIP) == bench.everywhere(pod.eni)
    writes = [item for item in bench.written() if "Route" in item]
    # Creates first: they can fail for a quota, and then nothing that works has been touched.
    assert writes == ["CreateRoute ok"] * 3 + ["ReplaceRoute ok"] * 2


def test_A10_what_was_half_done_is_taken_back(bench: Bench) -> None:
    pod = bench.sandbox(VIP)
    bench.lab.ec2.faults.error("CreateRoute", "RouteLimitExceeded", "50 is the limit", times=1)
    text = bench.add(pod).refused(100, "192.168.0.7/32", "RouteLimitExceeded", "50 is the limit")
    assert sum(table in text for table in bench.lab.tables.values()) == 1
    assert len(bench.written("CreateRoute", outcome="ok")) == 4
    assert (bench.vpc(VIP), pod.network()) == ({}, [])
    assert bench.states() == [{"gone"}]

    bench.delete(pod).ok()
    assert bench.vpc(VIP) == {}


def test_A10_what_cannot_be_taken_back_is_left_to_del(bench: Bench) -> None:
    """``keep`` is the default, but nobody was told that the routes of a failed ADD exist."""
    pod = bench.sandbox(VIP)
    faults = bench.lab.ec2.faults
    faults.error("CreateRoute", "UnauthorizedOperation", "no", times=1)
    faults.error("DeleteRoute", "UnauthorizedOperation", "no", times=None)
    bench.add(pod).refused(100)
    assert len(bench.vpc(VIP)) == 4
    assert bench.states() == [{"gone", "releasing"}]

    bench.delete(pod).ok()
    assert len(bench.vpc(VIP)) == 4
    faults.clear()
    bench.delete(pod).ok()
    assert bench.vpc(VIP) == {}
    assert bench.states() == [{"gone"}]


def test_A10_the_pod_refuses_and_the_vpc_is_taken_back(bench: Bench) -> None:
    """Another next hop is there already: it is shown, and stays."""
    pod = bench.sandbox(VIP)
    pod.ip("route add 10.99.0.0/16 via 169.254.1.1 dev eth0")
    output = {"to": ["10.99.0.0/16"], "sourceRouting": False}
    bench.add(pod, podRoutes=output).refused(103, "10.99.0.0/16", "169.254.1.1", "eth0")
    assert (bench.vpc(VIP), pod.network()) == ({}, [])
    assert "via 169.254.1.1" in pod.node.run(["ip", "-n", pod.pod.ns, "route", "show", "10.99.0.0/16"]).stdout


def test_A11_the_interface_is_gone(bench: Bench) -> None:
    pod = bench.sandbox(VIP)
    pod.ip("link del net1")
    bench.add(pod).refused(103, "net1", pod.netns)
    assert (bench.vpc(VIP), bench.written(), bench.claims()) == ({}, [], [])


def test_A11_the_address_is_not_on_the_interface(bench: Bench) -> None:
    pod = bench.sandbox("192.168.0.70/32")
    bench.add(pod, prevResult=pod.prev(ips=[address(VIP, interface=0)])).refused(103, "192.168.0.7", "net1")
    assert (bench.vpc(VIP), pod.network()) == ({}, [])


def test_A11_the_namespace_goes_while_add_is_at_work(bench: Bench) -> None:
    pod = bench.sandbox(VIP)
    bench.add(bench.sandbox("192.168.0.70/32", eth="ens7")).ok()  # warm: an agent has read its all
    bench.lab.ec2.journal.clear()
    bench.lab.ec2.faults.hold("DescribeRouteTables")
    with ThreadPoolExecutor(1) as pool:
        adding = pool.submit(bench.add, pod)
        until(lambda: bench.lab.ec2.faults.held)
        netns.remove([pod.pod.ns])
        bench.lab.ec2.faults.clear()
        answer = adding.result()
        # The agent may notice while it waits for EC2: whatever is stopped there may be tried again.
        answer.refused(11 if bench.agents and answer.code == 11 else 103, pod.netns)
    assert (bench.vpc(VIP), bench.written("CreateRoute")) == ({}, [])


def test_A12_the_namespace_is_missing(bench: Bench) -> None:
    pod = bench.sandbox(VIP)
    config = bench.config(prevResult=pod.prev())
    nowhere = "/run/netns/fl-no-such-pod"
    bench.call("ADD", config, pod, CNI_NETNS=nowhere).refused(103, nowhere)
    assert bench.asked() == []
    assert bench.claims() == []
    assert subprocess.run(["test", "-e", nowhere], check=False).returncode == 1  # it is not made


@pytest.mark.parametrize("path", ["/etc/hostname", "/", "/proc/self/ns/uts"])
def test_A12_the_path_is_no_network_namespace(bench: Bench, path: str) -> None:
    pod = bench.sandbox(VIP)
    bench.call("ADD", bench.config(prevResult=pod.prev()), pod, CNI_NETNS=path).refused(8, path)
    assert bench.asked() == []


# -- AWS is busy --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["DescribeRouteTables", "CreateRoute"])
def test_A14_throttled_to_the_end(bench: Bench, action: str) -> None:
    pod = bench.sandbox(VIP)
    bench.lab.ec2.faults.error(action, "RequestLimitExceeded", "Request limit exceeded.", times=None)
    answer = bench.add(pod, timeoutSeconds=5)
    answer.refused(11, "RequestLimitExceeded")
    assert answer.seconds < 15
    assert len(bench.lab.ec2.journal.of(action=action)) > 2
    assert (bench.vpc(VIP), pod.network()) == ({}, [])


def test_A14_throttled_for_a_moment(bench: Bench) -> None:
    pod = bench.sandbox(VIP)
    bench.lab.ec2.faults.error("*", "RequestLimitExceeded", times=6)
    bench.add(pod).ok()
    assert bench.vpc(VIP) == bench.everywhere(pod.eni)


# -- many at once -------------------------------------------------------------------------------------------


def together(calls: list[Any]) -> list[Any]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [item.result() for item in [pool.submit(call) for call in calls]]


def test_A15_many_containers_in_parallel(bench: Bench) -> None:
    """Of one node, on one ENI: each gets its route and takes only its own back."""
    pods = [bench.sandbox(f"192.168.0.{80 + n}/32", kind="veth", name=f"web{n}") for n in range(6)]
    for answer in together([lambda pod=pod: bench.add(pod, onDelete="release") for pod in pods]):
        answer.ok()
    for pod in pods:
        assert bench.vpc(pod.addresses[0]) == bench.everywhere(pod.eni)
        assert len(pod.network()) == 4
    assert bench.states() == [{"held"}] * 6

    for answer in together([lambda pod=pod: bench.delete(pod) for pod in pods[:4]]):
        answer.ok()
    assert [bool(bench.vpc(pod.addresses[0])) for pod in pods] == [False] * 4 + [True] * 2


def test_A15_one_address_wanted_by_two_nodes_at_the_same_time(bench: Bench) -> None:
    """Kubernetes can start two owners. Both may succeed; every table then leads to one of them."""
    pods = [bench.sandbox(VIP), bench.sandbox(VIP, on="b1")]
    answers = together([lambda pod=pod: bench.add(pod) for pod in pods])
    assert [answer.status for answer in answers] == [0, 0]
    assert set(bench.vpc(VIP)) == set(bench.lab.tables)
    assert set(bench.vpc(VIP).values()) <= {pod.eni for pod in pods}


def test_A16_the_last_add_wins_and_the_old_del_does_nothing(bench: Bench) -> None:
    old, new = bench.sandbox(VIP), bench.sandbox(VIP, on="b1")
    bench.add(old, onDelete="release").ok()
    bench.add(new, onDelete="release").ok()
    assert bench.vpc(VIP) == bench.everywhere(new.eni)
    bench.lab.ec2.journal.clear()
    bench.delete(old, prevResult=old.prev()).ok()
    assert bench.vpc(VIP) == bench.everywhere(new.eni)
    assert bench.written() == []
    assert old.network() == []


# -- what else an ADD does ----------------------------------------------------------------------------------


def test_the_source_dest_check_is_turned_off(bench: Bench) -> None:
    ec2 = bench.lab.ec2.client()
    pod = bench.sandbox(VIP)
    ec2.modify_network_interface_attribute(NetworkInterfaceId=pod.eni, SourceDestCheck={"Value": True})
    bench.add(pod).ok()
    (eni,) = ec2.describe_network_interfaces(NetworkInterfaceIds=[pod.eni])["NetworkInterfaces"]
    assert eni["SourceDestCheck"] is False


def test_a_parent_that_is_down_is_brought_up(bench: Bench) -> None:
    """On AL2023 a hot-plugged ENI is down, and not called eth2."""
    node = bench.lab.nodes["a1"]
    netns.ip(node.ns, ["link set ens7 down"])
    pod = bench.sandbox(VIP, eth="ens7")
    bench.add(pod).ok()
    assert bench.vpc(VIP) == bench.everywhere(node.eni("ens7").id)
    assert " UP " in node.run(["ip", "-br", "link", "show", "ens7"]).stdout


def test_networks_behind_the_pod_are_claimed_in_addition(bench: Bench) -> None:
    bench.policy(allowedDestinations=[{"cidr": "192.168.0.0/24"}, {"cidr": "172.16.0.0/12"}])
    pod = bench.sandbox(VIP)
    bench.add(pod, destination=["172.16.0.0/12", "172.20.4.0/24"]).ok()
    for destination in (VIP, "172.16.0.0/12", "172.20.4.0/24"):
        assert bench.vpc(destination) == bench.everywhere(pod.eni)


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        (lambda lab: {"ids": [lab.tables["a"], lab.tables["tgw"]]}, {"a", "tgw"}),
        (lambda lab: {"tags": {"Name": "client", "floatip": "*"}}, {"client"}),
        (lambda lab: {"subnets": [lab.vpc.subnets["b"].id, lab.vpc.subnets["a-nodes"].id]}, {"b", "main"}),
        (lambda lab: {"all": True}, {"main", "a", "b", "client", "tgw"}),
    ],
    ids=["ids", "tags", "subnets", "all"],
)
def test_route_tables_are_selected(bench: Bench, selector: Any, names: set[str]) -> None:
    pod = bench.sandbox(VIP)
    bench.add(pod, routeTables=selector(bench.lab)).ok()
    assert set(bench.vpc(VIP)) == names


@pytest.mark.parametrize("said", [200, True], ids=["a number", "a free one"])
def test_the_table_for_source_routing(bench: Bench, said: object) -> None:
    pod = bench.sandbox(VIP)
    pod.ip("route add 10.0.0.0/8 via 169.254.1.1 dev eth0 table 100")  # somebody else's
    bench.add(pod, podRoutes={"sourceRouting": said}).ok()
    table = 200 if said == 200 else 101
    assert f"from 192.168.0.7 lookup {table}" in pod.network()
    assert bench.claims()[0]["table"] == table
