"""What ADD refuses, whatever else is right: before any write, on any table, and with what to do about it.

Deny by default, and never touch what policy does not give.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

import pytest

from lab import netns
from lab.vpc import NO_MANAGE
from lab.world import Lab
from tests.conformance.harness import Bench, Sandbox, address

VIP = "192.168.0.8/32"
ALLOW_ALL = [{"cidr": "0.0.0.0/0"}, {"cidr": "::/0"}]


@dataclass(frozen=True)
class Row:
    """One refusal. ``addresses`` are those of ``prevResult``; ``said`` is in the answer, ids filled in."""

    name: str
    code: int
    said: tuple[str, ...]
    addresses: tuple[str, ...] = (VIP,)
    keys: dict[str, Any] = field(default_factory=dict)
    policy: dict[str, Any] | None = None


def destination(cidr: str, code: int, *output: str, policy: list[dict[str, Any]] | None = None) -> Row:
    allowed = policy or [{"cidr": "192.168.0.0/24"}, *ALLOW_ALL]
    return Row(
        f"to {cidr}", code, output, keys={"destination": [cidr]}, policy={"allowedDestinations": allowed}
    )


def floating(reason: str, *ips: str) -> Row:
    """Every one of ``ips`` is refused for ``reason``, in one answer."""
    hosts = tuple(str(ip_network(ip)) for ip in ips)
    output = tuple(f"address {ip}: " for ip in ips)
    return Row(f"at {ips[0]} ...", 102, (reason, *output), hosts, policy={"allowedDestinations": ALLOW_ALL})


def inside(address: str, *output: str) -> Row:
    return Row(f"at {address}", 102, output, (address,), policy={"allowedDestinations": ALLOW_ALL})


NEVER = "never a destination"
ROWS = [
    # Never, whatever policy says: as a destination in addition ...
    destination("0.0.0.0/0", 7, "$.destination[0]", "default route", NEVER),
    destination("::/0", 7, "$.destination[0]", "default route", NEVER),
    destination("127.0.0.0/8", 7, "loopback", NEVER),
    destination("::1/128", 7, "loopback", NEVER),
    destination("169.254.10.0/24", 7, "link-local", NEVER),
    destination("169.254.168.0/22", 7, "169.254.168.0/22", NEVER),
    destination("169.254.169.254/32", 7, "169.254.169.254/32", NEVER),
    destination("169.0.0.0/8", 7, "169.254.0.0/16", NEVER),
    destination("fd00:ec2::/32", 7, "AWS's own", NEVER),
    destination("fd00:ec2::254/128", 7, "AWS's own", NEVER),
    destination("fc00::/7", 7, "fd00:ec2::/32", NEVER),
    destination("fe80::/64", 7, "link-local", NEVER),
    destination("224.0.0.0/24", 7, "multicast", NEVER),
    destination("ff02::/16", 7, "multicast", NEVER),
    destination("0.0.0.0/8", 7, "0.0.0.0/8", NEVER),
    # ... and as an address of the pod.
    floating(NEVER, "169.254.169.254", "127.0.0.5", "169.254.7.7", "169.254.168.9", "224.0.0.18", "0.0.0.7"),
    floating(NEVER, "fd00:ec2::254", "::1", "fe80::7", "ff02::12", "::ffff:c0a8:8"),
    # Inside the VPC: exactly a subnet, and an empty one.
    inside("10.10.1.77/32", "10.10.1.0/24", "{subnet a}", "eni-", "without network interfaces"),
    inside("10.10.101.77/24", "10.10.101.0/24", "eni-", "without network interfaces"),
    inside("2001:db8:10:1::77/128", "2001:db8:10:1::/64", "eni-", "without network interfaces"),
    inside("10.10.77.7/32", "10.10.77.7", "none of its subnets", "make a subnet"),
    destination("10.10.254.0/29", 102, "10.10.254.0/29", "not a whole subnet", "whole subnets only"),
    destination("10.10.1.0/24", 102, "{subnet a}", "eni-", "without network interfaces"),
    # So wide that the administrator must have meant exactly this.
    destination(
        "10.0.0.0/8", 102, "must name exactly 10.0.0.0/8", policy=[{"cidr": VIP}, {"cidr": "10.0.0.0/7"}]
    ),
    destination(
        "10.10.0.0/15", 102, "must name exactly 10.10.0.0/15", policy=[{"cidr": VIP}, {"cidr": "10.0.0.0/8"}]
    ),
    destination("172.16.0.0/12", 102, "shorter than /16", "must name exactly 172.16.0.0/12"),
    destination("fd77::/32", 102, "IPv6 /48", "must name exactly fd77::/32"),
    # An assertion that does not hold.
    Row(
        "a host route inside the VPC", 7, ("$.destination", "10.10.254.5", "use"), ("10.10.254.5/28",),
        {"destination": "address"},
    ),
    Row(
        "a subnet outside the VPC", 7, ("$.destination", "192.168.0.8", "use"),
        keys={"destination": "subnet"},
    ),
    # What policy does not give.
    Row(
        "nothing is allowed", 102, ("192.168.0.8/32", "add it to allowedDestinations"),
        policy={"allowedDestinations": []},
    ),
    Row(
        "another range is allowed", 102, ("192.168.0.8/32", "add it to allowedDestinations"),
        policy={"allowedDestinations": [{"cidr": "192.168.0.0/29"}]},
    ),
    Row(
        "another namespace is allowed", 102, ("namespace default", "add it to allowedDestinations"),
        policy={"allowedDestinations": [{"cidr": "192.168.0.0/24", "namespaces": ["core-*", "default-2"]}]},
    ),
    Row(
        "one of two addresses is not allowed", 102, ("192.168.1.8/32", "allowedDestinations"),
        (VIP, "192.168.1.8/32"),
    ),
    Row(
        "only some tables are allowed", 102, ("{table b}", "{table client}", "add the id or a tag"),
        policy={"allowedRouteTables": {"tags": {"Name": "a"}}},
    ),
    Row("no table is allowed", 102, ("{table a}", "add the id or a tag"), policy={"allowedRouteTables": {}}),
    # Tables that are not there.
    Row(
        "no table has the tag", 7, ("$.routeTables", "no=such"),
        keys={"routeTables": {"tags": {"no": "such"}}},
    ),
    Row("no such table", 7, ("$.routeTables.ids", "rtb-0123"), keys={"routeTables": {"ids": ["rtb-0123"]}}),
    Row("no such subnet", 7, ("subnet-0123",), keys={"routeTables": {"subnets": ["subnet-0123"]}}),
    # Routes of the main table that would draw off the pod's cluster traffic.
    Row(
        "a default route in the main table", 7, ("$.podRoutes.to[0]", "use sourceRouting"),
        keys={"podRoutes": {"to": ["0.0.0.0/0"], "sourceRouting": False}},
    ),
    Row(
        "a default route by default", 7, ("$.podRoutes", "0.0.0.0/0", "use sourceRouting"),
        keys={"podRoutes": {"sourceRouting": False}},
    ),
    Row(
        "the cluster network", 7, ("$.podRoutes.to", "10.10.0.0/16", "{pod}", "use sourceRouting"),
        keys={"podRoutes": {"to": ["10.99.0.0/16", "10.10.0.0/16"], "sourceRouting": False}},
    ),
    Row(
        "the nodes' subnet", 7, ("10.10.101.0/25", "use sourceRouting"),
        keys={"podRoutes": {"to": ["10.10.101.0/25"], "sourceRouting": False}},
    ),
    Row(
        "instance metadata", 7, ("$.podRoutes.to[0]", "no floating interface reaches it"),
        keys={"podRoutes": {"to": ["169.254.169.254/32"]}},
    ),
    Row(
        "an election", 2, ('$.activate: "ready"', "not in this release"),
        keys={"activate": "ready", "election": {"group": "core"}},
    ),
]  # fmt: skip


def nothing_happened(bench: Bench, pod: Sandbox, before: dict[str, dict[str, str]]) -> None:
    """No write reached EC2, on any table; nothing is claimed, nothing is in the pod."""
    assert bench.written() == []
    assert tables(bench) == before
    assert bench.claims() == []
    assert pod.network() == []


def tables(bench: Bench) -> dict[str, dict[str, str]]:
    truth = {name: bench.lab.ec2.truth(table) for name, table in bench.lab.tables.items()}
    return {name: {cidr: str(route) for cidr, route in views.items()} for name, views in truth.items()}


def ids(bench: Bench, pod: Sandbox) -> dict[str, str]:
    return {
        **{f"{{table {name}}}": table for name, table in bench.lab.tables.items()},
        **{f"{{subnet {name}}}": subnet.id for name, subnet in bench.lab.vpc.subnets.items()},
        "{pod}": str(pod.pod.address),
    }


@pytest.mark.one_in(3)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_refused_before_any_write(bench: Bench, row: Row) -> None:
    pod, before = bench.sandbox(), tables(bench)
    if row.policy is not None:
        bench.policy(**row.policy)
    prev = pod.prev(ips=[address(item, interface=0) for item in row.addresses])
    text = bench.add(pod, prevResult=prev, **row.keys).refused(row.code)
    known = ids(bench, pod)
    missing = [word for word in row.said if known.get(word, word) not in text]
    assert missing == [], text
    nothing_happened(bench, pod, before)


def test_everything_that_is_refused_is_said_at_once(bench: Bench) -> None:
    pod, before = bench.sandbox(VIP), tables(bench)
    bench.policy(allowedRouteTables={}, sourceDestCheck="require")
    source_check(bench.lab, pod.eni, on=True)
    prev = pod.prev(ips=[address("192.168.1.8/32"), address("10.10.1.8/32")])
    text = bench.add(pod, prevResult=prev).refused(102, "192.168.1.8", "10.10.1.0/24", "allowedRouteTables")
    assert "source/dest check" in text
    nothing_happened(bench, pod, before)


# -- what is in the way -------------------------------------------------------------------------------------


def internet_gateway(bench: Bench) -> dict[str, str]:
    ec2 = bench.lab.ec2.client()
    made = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=made, VpcId=bench.lab.vpc.id)
    bench.after.append(lambda: ec2.delete_internet_gateway(InternetGatewayId=made))
    bench.after.append(lambda: ec2.detach_internet_gateway(InternetGatewayId=made, VpcId=bench.lab.vpc.id))
    bench.after.append(lambda: bench.unpoint(VIP, "client"))
    return {"GatewayId": made}


def nat_gateway(bench: Bench) -> dict[str, str]:
    ec2 = bench.lab.ec2.client()
    made = ec2.create_nat_gateway(SubnetId=bench.lab.vpc.subnets["client"].id, ConnectivityType="private")
    gateway = made["NatGateway"]["NatGatewayId"]
    bench.after.append(lambda: ec2.delete_nat_gateway(NatGatewayId=gateway))
    bench.after.append(lambda: bench.unpoint(VIP, "client"))
    return {"NatGatewayId": gateway}


def transit_gateway(bench: Bench) -> dict[str, str]:
    return {"TransitGatewayId": bench.lab.vpc.tgw}


@pytest.mark.one_in(3)
@pytest.mark.parametrize("target", [internet_gateway, nat_gateway, transit_gateway], ids=lambda t: t.__name__)
def test_a_route_to_something_else_is_never_replaced(
    bench: Bench, target: Callable[[Bench], dict[str, str]]
) -> None:
    """In one table of five, and then none of them is written."""
    output = target(bench)
    bench.point(VIP, ["client"], **output)
    pod, before = bench.sandbox(VIP), tables(bench)
    bench.lab.ec2.journal.clear()
    table, (gateway,) = bench.lab.tables["client"], output.values()
    bench.add(pod).refused(101, table, VIP, gateway, "not ours to replace", "remove it")
    nothing_happened(bench, pod, before)


@pytest.mark.parametrize("by", ["gateway", "route server"])
def test_a_propagated_route_is_never_replaced(bench: Bench, by: str) -> None:
    lab, ec2 = bench.lab, bench.lab.ec2.client()
    tags = [{"Key": "floatip", "Value": "lab"}]
    made = ec2.create_route_table(
        VpcId=lab.vpc.id, TagSpecifications=[{"ResourceType": "route-table", "Tags": tags}]
    )["RouteTable"]["RouteTableId"]
    bench.after.append(lambda: ec2.delete_route_table(RouteTableId=made))
    target = {"gateway": "vgw-0123456789abcdef0", "route server": lab.nodes["b1"].enis[1].id}[by]
    lab.ec2.propagate(made, VIP, target)
    pod, before = bench.sandbox(VIP), tables(bench)
    bench.add(pod).refused(101, made, VIP, "propagated", target, "remove it")
    nothing_happened(bench, pod, before)


def test_the_subnets_own_route_is_not_taken_for_a_conflict(bench: Bench) -> None:
    """A covering route (local, or to a gateway) is no obstacle: only one for the very destination is."""
    pod = bench.sandbox(VIP)
    bench.point("192.168.0.0/25", TransitGatewayId=bench.lab.vpc.tgw)
    bench.add(pod).ok()
    assert bench.vpc(VIP) == bench.everywhere(pod.eni)


def test_a_prefix_list_that_holds_the_address_is_passed_by(bench: Bench) -> None:
    """EC2 prefers the route of the address itself."""
    ec2, table = bench.lab.ec2.client(), bench.lab.tables["client"]
    made = ec2.create_managed_prefix_list(
        PrefixListName="far", AddressFamily="IPv4", MaxEntries=5, Entries=[{"Cidr": VIP}]
    )
    cell = {"RouteTableId": table, "DestinationPrefixListId": made["PrefixList"]["PrefixListId"]}
    ec2.create_route(**cell, NetworkInterfaceId=bench.lab.nodes["b1"].enis[1].id)
    bench.after.append(lambda: ec2.delete_route(**cell))
    pod = bench.sandbox(VIP)
    bench.add(pod).ok()
    assert bench.vpc(VIP) == bench.everywhere(pod.eni)
    shown = ec2.describe_route_tables(RouteTableIds=[table])["RouteTables"][0]["Routes"]
    assert [route for route in shown if "DestinationPrefixListId" in route], "it is still there"


# -- the policy file ----------------------------------------------------------------------------------------


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, ("does not exist", "allowedDestinations", "allowedRouteTables")),
        ("", ("not JSON",)),
        ("{", ("not JSON",)),
        ("[]", ("object",)),
        ('{"allowedDestinations": "everything"}', ("$.allowedDestinations",)),
        ('{"allowedRouteTable": {}}', ("allowedRouteTable",)),
        ('{"allowedDestinations": [{"cidr": "10.0.0.1/8"}]}', ("$.allowedDestinations[0].cidr", "host bits")),
        ('{"elections": {}}', ("$.elections", "not in this release")),
    ],
    ids=["absent", "empty", "broken", "list", "type", "unknown key", "meaning", "elections"],
)
def test_without_a_sound_policy_nothing_is_allowed(
    bench: Bench, text: str | None, said: tuple[str, ...]
) -> None:
    pod, before = bench.sandbox(VIP), tables(bench)
    path = bench.lab.nodes["a1"].state / "other.json"
    path.unlink(missing_ok=True)
    if text is not None:
        path.write_text(text)
    config = bench.config(prevResult=pod.prev())
    bench.call("ADD", config, pod, FLOATIP_CONFIG=str(path)).refused(7, str(path), *said)
    nothing_happened(bench, pod, before)


def test_a_pod_of_the_right_namespace(bench: Bench) -> None:
    """The counterpart to the refusals: patterns match, an exact wide entry is enough."""
    bench.policy(
        allowedDestinations=[{"cidr": "192.168.0.0/24", "namespaces": ["core-*"]}, {"cidr": "172.16.0.0/12"}]
    )
    pod = bench.sandbox(VIP, namespace="core-2")
    bench.add(pod, destination=["172.16.0.0/12"]).ok()
    assert bench.vpc("172.16.0.0/12") == bench.everywhere(pod.eni)


def test_a_pod_without_a_namespace_has_nothing_that_is_for_namespaces(bench: Bench) -> None:
    bench.policy(allowedDestinations=[{"cidr": "192.168.0.0/24", "namespaces": ["*"]}])
    pod = bench.sandbox(VIP)
    config = bench.config(prevResult=pod.prev())
    bench.call("ADD", config, pod, CNI_ARGS="").refused(102, "without a namespace")


# -- the interface ------------------------------------------------------------------------------------------


def test_the_primary_eni(bench: Bench) -> None:
    pod, before = bench.sandbox(VIP, eth="eth0", kind="veth"), tables(bench)
    bench.add(pod).refused(7, pod.eni, "primary ENI", "use another ENI")
    nothing_happened(bench, pod, before)


def test_an_interface_with_no_eni_behind_it(bench: Bench) -> None:
    pod, before = bench.sandbox(VIP, kind="veth"), tables(bench)
    pod.ip("link set net1 address 02:00:00:00:be:ef")
    bench.add(pod).refused(7, "net1", "02:00:00:00:be:ef", "no ENI", 'use ipvlan with an ENI as "master"')
    nothing_happened(bench, pod, before)


def test_macvlan_with_a_mac_of_its_own(bench: Bench) -> None:
    pod, before = bench.sandbox(VIP), tables(bench)
    pod.ip("link del net1")
    netns.ip(pod.node.ns, [f"link add link eth1 name net1 netns {pod.pod.ns} type macvlan mode bridge"])
    pod.ip(f"addr add {VIP} dev net1", "link set net1 up")
    bench.add(pod).refused(7, "net1", "macvlan", "EC2 drops", "use ipvlan in mode l2")
    nothing_happened(bench, pod, before)


def test_a_parent_without_carrier(bench: Bench) -> None:
    pod = bench.sandbox(VIP, eth="ens7")
    router, link = bench.lab.router.netns, "a1-ens7"
    netns.ip(router, [f"link set {link} down"])
    bench.after.append(lambda: netns.ip(router, [f"link set {link} up"]))
    before = tables(bench)
    bench.add(pod).refused(103, "ens7", "carrier")
    nothing_happened(bench, pod, before)


def test_a_source_table_that_is_in_use(bench: Bench) -> None:
    pod, before = bench.sandbox(VIP), tables(bench)
    pod.ip("route add 10.0.0.0/8 via 169.254.1.1 dev eth0 table 150")
    output = {"sourceRouting": 150}
    bench.add(pod, podRoutes=output).refused(
        7, "$.podRoutes.sourceRouting", "150", "10.0.0.0/8", "another number"
    )
    nothing_happened(bench, pod, before)


# -- the source/dest check ----------------------------------------------------------------------------------


def source_check(lab: Lab, eni: str, *, on: bool) -> None:
    lab.ec2.client().modify_network_interface_attribute(NetworkInterfaceId=eni, SourceDestCheck={"Value": on})


@pytest.mark.parametrize(("on", "code"), [(True, 102), (False, 0)], ids=["on", "off"])
def test_a_source_dest_check_that_is_required_to_be_off(bench: Bench, on: bool, code: int) -> None:
    bench.policy(sourceDestCheck="require")
    pod = bench.sandbox(VIP)
    source_check(bench.lab, pod.eni, on=on)
    answer = bench.add(pod)
    assert answer.code == code
    if on:
        answer.refused(102, pod.eni, "source/dest check", "turn it off")
    assert bench.written("ModifyNetworkInterfaceAttribute") == []
    assert bool(bench.vpc(VIP)) is not on


def untag(lab: Lab, eni: str, *keys: str) -> None:
    lab.ec2.client().delete_tags(Resources=[eni], Tags=[{"Key": key} for key in keys])


@pytest.mark.one_in(4)
@pytest.mark.parametrize("check", ["disable", "ignore"])
def test_an_eni_without_the_tag_is_not_touched(bench: Bench, check: str) -> None:
    bench.policy(sourceDestCheck=check)
    pod = bench.sandbox(VIP)
    untag(bench.lab, pod.eni, *NO_MANAGE)
    bench.after.append(lambda: retag(bench.lab, pod.eni, NO_MANAGE))
    source_check(bench.lab, pod.eni, on=True)
    missing = "node.k8s.amazonaws.com/no_manage"
    command = f"aws ec2 create-tags --resources {pod.eni} --tags 'Key={missing},Value=true'"
    bench.add(pod).refused(102, pod.eni, f"no tag {missing}=true", "allowedInterfaces", command)
    assert bench.vpc(VIP) == {}
    assert bench.written("ModifyNetworkInterfaceAttribute") == []
    bench.policy(sourceDestCheck=check, allowedInterfaces={})
    assert bench.add(pod).code == 0


def test_tags_of_allowed_interfaces_must_all_be_there(bench: Bench) -> None:
    bench.policy(allowedInterfaces={"tags": {"team": "core", "floatip": "*"}})
    pod = bench.sandbox(VIP)
    bench.after.append(lambda: untag(bench.lab, pod.eni, "team", "floatip"))
    retag(bench.lab, pod.eni, {"team": "core"})
    bench.add(pod).refused(102, "no tag floatip=*,", "--tags 'Key=floatip,Value='")
    retag(bench.lab, pod.eni, {"floatip": "anything"})
    assert bench.add(pod).code == 0


def retag(lab: Lab, eni: str, tags: Mapping[str, str]) -> None:
    lab.ec2.client().create_tags(Resources=[eni], Tags=[{"Key": k, "Value": v} for k, v in tags.items()])


def test_a_source_dest_check_that_is_nobody_s_business(bench: Bench) -> None:
    bench.policy(sourceDestCheck="ignore")
    pod = bench.sandbox(VIP)
    source_check(bench.lab, pod.eni, on=True)
    bench.add(pod).ok()
    assert bench.written("ModifyNetworkInterfaceAttribute") == []


def test_an_agent_has_the_node(bench: Bench) -> None:
    """Direct mode is not for a node with an agent: the data directory is locked for one or the other."""
    from cni_floatip.edges.store import Store

    pod, before = bench.sandbox(VIP), tables(bench)
    data = bench.lab.nodes["a1"].data_dir
    store = Store(str(data), sleep=lambda _: None, clock=lambda: 0.0)
    with store.lock(0, as_agent=True) as mine:
        assert mine
        bench.add(pod).refused(11, "agent", str(data))
        bench.call("STATUS", bench.config()).refused(50, "agent")
        bench.delete(pod).ok()
    nothing_happened(bench, pod, before)
    assert json.loads(bench.add(pod).stdout)["ips"]
