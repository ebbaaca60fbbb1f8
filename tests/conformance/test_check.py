"""K01 to K07: CHECK compares, writes nothing, and reports every difference."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conformance.harness import Bench, Sandbox, address
from tests.support.waiting import until

VIP, VIP6 = "192.168.0.10/32", "fd00:192:168::10/128"


@pytest.fixture
def aged_pod(bench: Bench) -> Sandbox:
    """A pod that was added a while ago: what is found now is no echo of a write."""
    made = bench.sandbox(VIP, VIP6)
    bench.add(made).ok()
    bench.age_claims()
    bench.lab.ec2.journal.clear()
    return made


def nothing_written(bench: Bench) -> None:
    assert bench.written() == []
    assert bench.states() == [{"held"}]


@pytest.mark.one_in(4)
@pytest.mark.parametrize("version", ["0.3.0", "0.3.1"])
def test_K01_before_there_was_a_check(bench: Bench, aged_pod: Sandbox, version: str) -> None:
    bench.check(aged_pod, version).refused(1, version, "CHECK", "0.4.0")


@pytest.mark.one_in(4)
@pytest.mark.parametrize("prev", [..., None, {}], ids=["absent", "null", "empty"])
def test_K02_without_a_previous_result(bench: Bench, aged_pod: Sandbox, prev: object) -> None:
    bench.check(aged_pod, prevResult=prev).refused(7, "$.prevResult")


@pytest.mark.one_in(4)
@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_K03_all_is_well_and_it_says_nothing(bench: Bench, aged_pod: Sandbox, version: str) -> None:
    answer = bench.check(aged_pod, version)
    answer.ok()
    assert answer.stdout == b""
    nothing_written(bench)


def test_K03_of_what_was_never_added(bench: Bench) -> None:
    bench.check(bench.sandbox(VIP)).refused(104, "floating", "net1", "no claim")


def test_K03_an_address_that_was_not_claimed(bench: Bench, aged_pod: Sandbox) -> None:
    prev = aged_pod.prev(ips=[address(VIP, interface=0), address("192.168.0.110/32", interface=0)])
    bench.check(aged_pod, prevResult=prev).refused(104, "192.168.0.110")


CHANGES = {
    "route missing": (["route del default dev net1 table 100"], ["0.0.0.0/0 via 10.10.1.1", "missing"]),
    "route missing, IPv6": (["-6 route del default dev net1 table 100"], ["::/0 via fe80:ec2::1", "missing"]),
    "gateway changed": (
        [
            "route del default dev net1 table 100",
            "route add default via 10.10.1.9 dev net1 onlink table 100 proto 241",
        ],
        ["0.0.0.0/0 via 10.10.1.1", "is now", "10.10.1.9"],
    ),
    "guard missing": (["route del unreachable 169.254.0.0/16 table 100"], ["unreachable 169.254.0.0/16"]),
    "rule missing": (
        ["rule del from 192.168.0.10 lookup 100"],
        ["from 192.168.0.10/32 lookup 100", "missing"],
    ),
    "rule elsewhere": (
        ["rule del from 192.168.0.10 lookup 100", "rule add from 192.168.0.10 lookup 101"],
        ["from 192.168.0.10/32 lookup 100"],
    ),
    "rule for what is bound missing": (
        ["rule del oif net1 lookup 100"],
        ["from 0.0.0.0/0 oif net1 lookup 100", "missing"],
    ),
    "rule that bars metadata missing": (
        ["-6 rule del oif net1 to fd00:ec2::/32 unreachable"],
        ["from ::/0 to fd00:ec2::/32 oif net1 unreachable", "missing"],
    ),
    "address missing": (["addr del 192.168.0.10/32 dev net1"], ["192.168.0.10", "missing"]),
    "interface down": (["link set net1 down"], ["0.0.0.0/0 via 10.10.1.1"]),
    "interface gone": (["link del net1"], ["net1", "does not exist"]),
}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("change", CHANGES)
def test_K04_the_pod_has_changed(bench: Bench, aged_pod: Sandbox, change: str) -> None:
    lines, texts = CHANGES[change]
    for line in lines:
        family, _, rest = line.partition(" ") if line.startswith("-") else ("", "", line)
        aged_pod.node.run(["ip", "-n", aged_pod.pod.ns, *([family] if family else []), *rest.split()])
    bench.check(aged_pod).refused(104, *texts)
    nothing_written(bench)


def test_K04_a_connected_route_is_back(bench: Bench) -> None:
    """Somebody took the interface down and up: its prefix is on the link again, where nothing is."""
    pod = bench.sandbox("192.168.0.10/24")
    bench.add(pod).ok()
    bench.age_claims()
    bench.check(pod).ok()
    pod.ip("route add 192.168.0.0/24 dev net1 proto kernel scope link src 192.168.0.10")
    bench.check(pod).refused(104, "192.168.0.0/24")


def missing(bench: Bench, pod: Sandbox) -> list[str]:
    bench.unpoint(VIP, "client")
    return [bench.lab.tables["client"], VIP, pod.eni, "missing"]


def elsewhere(bench: Bench, pod: Sandbox) -> list[str]:
    other = bench.lab.nodes["b1"].eni("eth1").id
    bench.unpoint(VIP, "client")
    bench.point(VIP, ["client"], NetworkInterfaceId=other)
    return [bench.lab.tables["client"], VIP, other]


def gateway(bench: Bench, pod: Sandbox) -> list[str]:
    bench.unpoint(VIP, "client")
    bench.point(VIP, ["client"], TransitGatewayId=bench.lab.vpc.tgw)
    return [bench.lab.tables["client"], VIP, bench.lab.vpc.tgw]


def blackhole(bench: Bench, pod: Sandbox) -> list[str]:
    """EC2 takes the instance for stopped, as after a network partition."""
    ec2, instance = bench.lab.ec2.client(), pod.node.instance_id
    ec2.stop_instances(InstanceIds=[instance])
    bench.after.append(lambda: ec2.start_instances(InstanceIds=[instance]))
    return [bench.lab.tables["client"], VIP, pod.eni, "blackhole"]


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    "change", [missing, elsewhere, gateway, blackhole], ids=lambda change: change.__name__
)
def test_K05_the_vpc_has_changed(
    bench: Bench, aged_pod: Sandbox, change: Callable[[Bench, Sandbox], list[str]]
) -> None:
    texts = change(bench, aged_pod)
    before = bench.vpc(VIP, state=True)
    bench.check(aged_pod).refused(104, *texts)
    assert bench.vpc(VIP, state=True) == before
    nothing_written(bench)


def test_K05_the_source_dest_check_is_back_on(bench: Bench, aged_pod: Sandbox) -> None:
    bench.lab.ec2.client().modify_network_interface_attribute(
        NetworkInterfaceId=aged_pod.eni, SourceDestCheck={"Value": True}
    )
    bench.check(aged_pod).refused(104, aged_pod.eni, "source/dest check")
    nothing_written(bench)


def test_K04_K05_every_difference_and_not_the_first(bench: Bench, aged_pod: Sandbox) -> None:
    bench.unpoint(VIP, "client")
    bench.unpoint(VIP6, "tgw")
    aged_pod.ip("rule del from 192.168.0.10 lookup 100", "route del unreachable 169.254.0.0/16 table 100")
    text = bench.check(aged_pod).refused(104)
    for word in (
        f"{bench.lab.tables['client']} {VIP}",
        f"{bench.lab.tables['tgw']} {VIP6}",
        "from 192.168.0.10/32",
        "169.254.0.0/16",
    ):
        assert word in text


def test_K06_what_others_added_is_theirs(bench: Bench, aged_pod: Sandbox) -> None:
    """Also what Multus does after us (a default route), and plugins that come later in the chain."""
    aged_pod.ip(
        "addr add 192.168.0.111/32 dev net1",
        "route add 10.60.0.0/16 dev net1",
        "route add 10.61.0.0/16 dev net1 table 100",
        "rule add from 192.168.0.10 lookup 300 priority 100",
        "route replace default via 169.254.1.1 dev eth0 metric 5",
    )
    bench.point("10.62.0.0/16", NetworkInterfaceId=bench.lab.nodes["b1"].eni("eth1").id)
    prev = aged_pod.prev(routes=[{"dst": "10.60.0.0/16"}], dns={"nameservers": ["10.0.0.2"]})
    bench.check(aged_pod, prevResult=prev).ok()
    nothing_written(bench)


def test_K07_right_after_add_and_the_reads_are_stale(bench: Bench) -> None:
    """EC2 shows a state from before our writes for a while: CHECK looks again before it complains."""
    pod = bench.sandbox(VIP)
    bench.lab.ec2.faults.stale_reads(600.0)
    bench.add(pod).ok()
    journal = bench.lab.ec2.journal
    journal.clear()
    with ThreadPoolExecutor(1) as pool:
        checked = pool.submit(bench.check, pod)
        until(lambda: len(journal.of(action="DescribeRouteTables")) > 1)  # the first shows what was before
        bench.lab.ec2.faults.stale_reads(0.0)
        checked.result().ok()
    nothing_written(bench)


def test_check_without_ec2(bench: Bench, aged_pod: Sandbox) -> None:
    """No difference was found, none was looked for: try again, or say who refused."""
    bench.lab.ec2.faults.error("DescribeRouteTables", "UnauthorizedOperation", "no", times=None)
    bench.check(aged_pod).refused(100, "UnauthorizedOperation")
