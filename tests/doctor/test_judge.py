"""What each judgement says of which facts: tables, with no lab and no look."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from string import Formatter
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from cni_floatip import cli
from cni_floatip.config.nodeconf import AllowedRouteTables, NodeConf
from cni_floatip.doctor import judge
from cni_floatip.doctor.catalog import KINDS, Kind
from cni_floatip.doctor.causes import is_out_of_reach, whom
from cni_floatip.doctor.checks import CHECKS
from cni_floatip.doctor.ec2_reads import Ec2Reads
from cni_floatip.doctor.facts import (
    AclEntry,
    Choice,
    ClaimedPod,
    DryRun,
    Ec2Interface,
    EndpointAnswer,
    FloatingLink,
    Identity,
    NetworkAcl,
    Rules,
    SecurityGroup,
    TgwAttachment,
    slot,
)
from cni_floatip.doctor.finding import Finding, list_names, not_read
from cni_floatip.doctor.judge import cluster, firewall, interfaces, node, ranges, tables
from cni_floatip.doctor.link_names import is_primary, named_by_index
from cni_floatip.model.errors import Ec2Error, Ec2Fault
from cni_floatip.model.values import Eni, RouteKey, RouteTable, RouteTarget, Subnet
from docs import generate_doctor
from tests.core.shape import CORE, imports, ours, room
from tests.docs.commands import _value as chart_value
from tests.docs.commands import complaints

NET, NET6, DUMMY, VPC = map(ip_network, ("192.168.0.0/24", "fd00:192::/64", "10.0.254.0/28", "10.0.0.0/16"))
ENI = Ec2Interface(
    "eni-1", 1, "subnet-1", ("sg-1",), checked=False, tags={"node.k8s.amazonaws.com/no_manage": "true"}
)
METADATA = Eni("eni-1", "02:00", 1, "vpc-1", "subnet-1", (), ())
TAKEN = {"node.k8s.amazonaws.com/instance_id": "i-1", "eks:eni:owner": "amazon-vpc-cni"}
LINK = FloatingLink("eni-1", "02:00", "1", "eth1", 3, up=True, carrier=True, mtu=9001, by_index=True)


def ids(result: Any) -> list[str]:
    return [finding.id for finding in result]


def table(routes: dict[str, RouteTarget] | None = None, **more: Any) -> RouteTable:
    cells = {ip_network(cidr): target for cidr, target in (routes or {}).items()}
    return RouteTable(more.pop("id", "rtb-1"), "vpc-1", "1", cells, **more)


ENI_ROUTE, TGW = RouteTarget("eni-9", is_eni=True), RouteTarget("tgw-1", is_eni=False)
LOCAL, DEAD = RouteTarget("local", is_eni=False), RouteTarget("eni-9", is_eni=True, active=False)
PROPAGATED = RouteTarget("vgw-1", is_eni=False, propagated=True)


@pytest.mark.parametrize(
    ("routes", "wanted"),
    [
        ({"192.168.0.7/32": ENI_ROUTE}, []),
        ({"192.168.0.7/32": TGW}, ["route-conflict"]),
        ({"192.168.0.7/32": PROPAGATED}, ["route-conflict"]),
        ({"192.168.0.7/32": replace(ENI_ROUTE, propagated=True)}, ["route-conflict"]),
        ({"192.168.0.7/32": DEAD}, ["route-blackhole"]),
        ({"192.168.0.0/24": TGW}, ["route-conflict"]),
        ({"192.168.0.0/25": TGW}, []),
        ({"192.168.0.0/16": TGW, "0.0.0.0/0": TGW}, []),
        ({"10.0.254.0/28": TGW}, ["route-conflict"]),
        ({"fd00:192::7/128": TGW}, ["route-conflict"]),
        ({"10.9.0.1/32": DEAD, "10.0.0.0/16": LOCAL}, []),
    ],
    ids=str,
)
def test_routes_in_the_way(routes: dict[str, Any], wanted: list[Any]) -> None:
    assert ids(tables.conflicts([table(routes)], [NET, NET6, DUMMY])) == wanted


@pytest.mark.parametrize(
    ("destination", "stands", "option"),
    [
        ("172.16.9.0/28", LOCAL, ""),
        ("172.16.7.16/28", TGW, "--destination-cidr-block 172.16.7.16/28"),
        ("172.16.7.0/27", TGW, ""),
        ("fd00:7:1::/64", TGW, "--destination-ipv6-cidr-block fd00:7:1::/64"),
        ("fd00:7:1::/56", TGW, ""),
    ],
)
def test_what_may_be_claimed_is_a_subnet_or_an_address(destination: str, stands: Any, option: str) -> None:
    wide = [ip_network("172.16.0.0/12"), ip_network("fd00:7::/32")]
    findings = list(tables.conflicts([table({destination: stands})], wide))
    assert len(findings) == bool(option)
    assert all(f"{option};" in finding.remedy for finding in findings)


@pytest.mark.parametrize(
    ("used", "wanted"),
    [(44, []), (45, ["50"]), (50, ["50"]), (51, []), (450, ["500"]), (900, ["1000"]), (1001, ["1000"])],
)
def test_quota_is_near_whichever_it_may_be(used: int, wanted: list[Any]) -> None:
    routes = {f"10.{n >> 8}.{n & 255}.0/24": TGW for n in range(used)} | {"172.16.0.0/12": PROPAGATED}
    findings = list(tables.quota([table(routes)], [NET]))
    assert [finding.what.split("limit is ")[1].split()[0] for finding in findings] == wanted


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        (AllowedRouteTables(tags={"floatip": "*"}), []),
        (AllowedRouteTables(tags={"floatip": "b"}), ["no-tables"]),
        (AllowedRouteTables(ids=frozenset({"rtb-1"})), []),
        (AllowedRouteTables(ids=frozenset({"rtb-1", "rtb-2"})), ["table-missing"]),
        (AllowedRouteTables(ids=frozenset({"rtb-2"})), ["table-missing", "no-tables"]),
    ],
    ids=["tag", "no table has it", "id", "one is not there", "none is there"],
)
def test_tables_of_policy(policy: AllowedRouteTables, wanted: list[Any]) -> None:
    there = [table(tags={"floatip": "a"})]
    chosen = [route_table for route_table in there if policy.allows(route_table)]
    assert ids(tables.allowed(there, policy, chosen, "vpc-1")) == wanted


def test_attachment_subnet_without_a_table_of_its_own_uses_the_main_one() -> None:
    attached = [TgwAttachment("tgw-attach-1", "tgw-1", ("subnet-8", "subnet-9"))]
    there = [table(id="rtb-main", main=True), table(subnets=frozenset({"subnet-1"}))]
    findings = list(tables.transit(attached, there, AllowedRouteTables(ids=frozenset({"rtb-1"}))))
    assert [finding.subject for finding in findings] == ["rtb-main"], "once, not for each subnet"
    assert not list(tables.transit(attached, there, AllowedRouteTables(ids=frozenset({"rtb-main"}))))


def test_attachment_table_in_which_a_claim_has_no_route() -> None:
    there = [table(id="rtb-a"), table(id="rtb-tgw", subnets=frozenset({"subnet-1"}))]
    attached = [TgwAttachment("tgw-attach-1", "tgw-1", ("subnet-1",))]
    policy = AllowedRouteTables(ids=frozenset({"rtb-a", "rtb-tgw"}))

    def result(*chosen: str) -> list[Finding]:
        routes = tuple(RouteKey(table, ip_network("192.168.0.7/32")) for table in chosen)
        claims = [ClaimedPod("default/db", "net1", "/run/netns/x", "eni-1", (), routes)]
        return list(tables.transit(attached, there, policy, claims))

    (missing,) = result("rtb-a")
    assert (missing.id, missing.subject) == ("transit-unselected", "rtb-tgw")
    assert "default/db" in missing.what
    assert not result("rtb-a", "rtb-tgw")
    assert not result(), "a claim whose tables are not known"


@pytest.mark.parametrize(
    ("here", "attached", "wanted"),
    [
        ("euc1-az1", ["euc1-az1", "euc1-az2"], ""),
        ("euc1-az3", ["euc1-az1", "euc1-az2"], "transit-zone"),
        ("euc1-az3", ["euc1-az1", ""], "not-checked"),
        ("euc1-az1", ["euc1-az1", ""], ""),
        ("", ["euc1-az1"], "not-checked"),
        ("usw2-lax1-az1", ["usw2-az1"], "not-checked"),
    ],
    ids=["one is here", "none is here", "one not shown", "here, one not shown", "ours not shown", "local"],
)
def test_zone_in_which_a_transit_gateway_is_not_attached(here: str, attached: list[str], wanted: str) -> None:
    zones = {"subnet-node": here} | {f"subnet-{number}": zone for number, zone in enumerate(attached)}
    there = [Subnet(id_, "vpc-1", "1", (), zone) for id_, zone in zones.items() if zone]
    to = TgwAttachment("tgw-attach-1", "tgw-1", tuple(id_ for id_ in zones if id_ != "subnet-node"))
    findings = list(tables.zones([to], there, "subnet-node"))
    assert ids(findings) == ([wanted] if wanted else [])
    if wanted == "transit-zone":
        assert "in euc1-az1, euc1-az2, and this node is in euc1-az3" in findings[0].what


def test_each_transit_gateway_is_attached_somewhere_of_its_own() -> None:
    there = [Subnet(f"subnet-{n}", "vpc-1", "1", (), f"euc1-az{n}") for n in (1, 2)]
    to = [TgwAttachment(f"tgw-attach-{n}", f"tgw-{n}", (f"subnet-{n}",)) for n in (1, 2)]
    (finding,) = tables.zones(to, there, "subnet-1")
    assert finding.subject == "tgw-attach-2"
    assert "--transit-gateway-attachment-id tgw-attach-2 --add-subnet-ids" in finding.remedy


@pytest.mark.parametrize(
    ("name", "slots"),
    [
        ("floatip1", ["1"]),
        ("eth1", ["1"]),
        ("device-number-1", ["1"]),
        ("device-number-1.0", ["1"]),
        ("floatip2-1", ["2-1"]),
        ("floatip1-0", ["1-0"]),
        ("device-number-0.1", ["1-0"]),
        ("eth11", []),
        ("ens6", []),
        ("eni-1", []),
    ],
)
def test_names_by_card_and_device_index(name: str, slots: list[Any]) -> None:
    enis = [replace(METADATA, network_card=card, device_number=n) for card, n in ((0, 1), (1, 0), (2, 1))]
    of = [slot(eni.device_number, eni.network_card) for eni in enis if named_by_index(name, eni)]
    assert of == slots


def test_device_zero_of_another_network_card_is_not_the_primary_one() -> None:
    assert is_primary(replace(METADATA, device_number=0))
    assert not is_primary(replace(METADATA, device_number=0, network_card=1))


def rules(*cidrs: str, lists: tuple[str, ...] = ()) -> Rules:
    return Rules(frozenset(map(ip_network, cidrs)), frozenset(lists))


@pytest.mark.parametrize(
    ("inbound", "outbound", "wanted"),
    [
        (rules("192.168.0.0/16"), rules("0.0.0.0/0"), []),
        (rules(), rules("0.0.0.0/0"), ["security-group-inbound"]),
        (rules("10.0.0.0/8"), rules("0.0.0.0/0"), ["security-group-inbound"]),
        (rules("0.0.0.0/0"), rules("10.0.0.0/8"), ["security-group-outbound"]),
        (rules("192.168.0.7/32"), rules("192.168.0.0/24"), []),
        (rules(lists=("pl-1",)), rules(lists=("pl-2",)), []),
        (rules("::/0"), rules("::/0"), ["security-group-inbound", "security-group-outbound"]),
    ],
)
def test_findings_about_security_groups(inbound: Rules, outbound: Rules, wanted: list[Any]) -> None:
    findings = list(firewall.security_groups([ENI], [SecurityGroup("sg-1", inbound, outbound)], [NET]))
    assert ids(findings) == wanted


def test_any_of_an_enis_groups_suffices() -> None:
    eni = Ec2Interface("eni-1", 1, "subnet-1", ("sg-1", "sg-2"), checked=False)
    groups = [
        SecurityGroup("sg-1", rules(), rules("0.0.0.0/0")),
        SecurityGroup("sg-2", rules("0.0.0.0/0"), rules()),
    ]
    assert not list(firewall.security_groups([eni], groups, [NET]))


def test_every_enis_groups_are_judged_and_only_what_is_missing_is_to_be_added() -> None:
    other = replace(ENI, id="eni-2", groups=("sg-2",))
    groups = [
        SecurityGroup("sg-1", rules("0.0.0.0/0", "::/0"), rules("0.0.0.0/0", "::/0")),
        SecurityGroup("sg-2", rules("0.0.0.0/0"), rules("0.0.0.0/0", "::/0")),
    ]
    (finding,) = firewall.security_groups([ENI, other], groups, [NET, NET6])
    assert (finding.id, finding.subject) == ("security-group-inbound", "sg-2")
    assert """'[{"IpProtocol":"-1","Ipv6Ranges":[{"CidrIpv6":"fd00:192::/64"}]}]'""" in finding.remedy


def entry(
    number: int, action: str, cidr: str = "0.0.0.0/0", *, outbound: bool = False, all_: bool = True
) -> AclEntry:
    return AclEntry(number, outbound, action == "allow", ip_network(cidr), all_)


OUT = [entry(100, "allow", outbound=True)]


def test_groups_that_admit_ours_by_reference() -> None:
    peers = [SecurityGroup("sg-8", rules(), rules()), SecurityGroup("sg-9", rules("192.168.0.0/16"), rules())]
    (finding,) = firewall.references(peers, [NET])
    assert (finding.id, finding.subject) == ("security-group-reference", "sg-8")
    assert '"CidrIp":"192.168.0.0/24"' in finding.remedy


@pytest.mark.parametrize(
    ("inbound", "wanted"),
    [
        ([entry(100, "allow"), entry(32767, "deny")], ""),
        ([entry(32767, "deny")], "rule *"),
        ([], "rule *"),
        ([entry(100, "allow", "10.0.0.0/8"), entry(32767, "deny")], "rule *"),
        ([entry(50, "deny", "192.168.0.0/16"), entry(100, "allow")], "rule 50"),
        ([entry(50, "allow", "192.168.0.0/24"), entry(60, "deny", "192.168.0.0/16")], ""),
        ([entry(50, "deny", "192.168.0.128/25"), entry(100, "allow")], "rule 50"),
        ([entry(50, "deny", all_=False), entry(100, "allow")], ""),
        ([entry(50, "deny", "::/0"), entry(100, "allow")], ""),
        ([entry(50, "allow", "192.168.0.0/25"), entry(60, "allow", "192.168.0.128/25")], ""),
        ([entry(50, "allow", "192.168.0.0/25"), entry(32767, "deny")], "rule *"),
        (
            [entry(50, "allow", "192.168.0.0/25"), entry(60, "deny", "192.168.0.64/26"), entry(70, "allow")],
            "",
        ),
    ],
    ids=[
        *(
            "default",
            "closed",
            "empty",
            "vpc only",
            "denied first",
            "allowed first",
            "part",
            "a port",
            "IPv6",
        ),
        *("in two parts", "half", "denied what was allowed"),
    ],
)
def test_findings_about_network_acls(inbound: list[Any], wanted: str) -> None:
    acl = NetworkAcl("acl-1", frozenset({"subnet-1"}), (*inbound, *OUT))
    findings = list(firewall.network_acls([ENI], [acl], [NET]))
    assert len(findings) == bool(wanted)
    assert all(wanted in finding.what and "inbound" in finding.what for finding in findings)


def test_the_last_rule_of_ipv6_has_a_number_of_its_own() -> None:
    acl = NetworkAcl("acl-1", frozenset({"subnet-1"}), (entry(32768, "deny", "::/0"),))
    inbound, _ = firewall.network_acls([ENI], [acl], [NET6])
    assert "by rule *" in inbound.what
    assert "--ipv6-cidr-block fd00:192::/64" in inbound.remedy


def test_option_and_range_of_the_command_belong_together() -> None:
    acl = NetworkAcl("acl-1", frozenset({"subnet-1"}), ())
    for first, *others in ([NET6, NET], [NET, NET6]):
        for finding in firewall.network_acls([ENI], [acl], [first, *others]):
            option = "--cidr-block" if first.version == 4 else "--ipv6-cidr-block"
            assert f"allow {option} {first}," in finding.remedy


def test_network_acl_is_judged_both_ways() -> None:
    acl = NetworkAcl("acl-1", frozenset({"subnet-1"}), (entry(100, "allow"),))
    (finding,) = firewall.network_acls([ENI], [acl], [NET])
    assert "outbound" in finding.what
    assert "--egress" in finding.remedy


@pytest.mark.parametrize(
    ("range_", "occupied", "wanted"),
    [
        ("192.168.0.0/24", [], []),
        ("10.0.254.0/28", [], []),
        ("10.0.254.0/28", ["subnet-dummy"], ["range-populated"]),
        ("10.0.254.0/24", ["subnet-1"], []),
        ("10.0.254.0/30", ["subnet-dummy"], ["range-populated", "range-without-subnet"]),
        ("10.0.1.0/24", ["subnet-1"], ["range-populated"]),
        ("10.0.77.0/28", [], ["range-without-subnet"]),
        ("10.0.0.0/16", ["subnet-1"], ["range-contains-vpc"]),
        ("10.0.0.0/8", ["subnet-1"], ["range-contains-vpc"]),
    ],
)
def test_findings_about_ranges(range_: str, occupied: list[Any], wanted: list[Any]) -> None:
    subnets = [
        Subnet("subnet-1", "vpc-1", "1", (ip_network("10.0.1.0/24"),)),
        Subnet("subnet-dummy", "vpc-1", "1", (DUMMY,)),
    ]
    there = dict.fromkeys(occupied, "eni-5")
    assert ids(ranges.ranges([ip_network(range_)], [VPC], subnets, there, "vpc-1")) == wanted


def test_a_subnet_of_ipv6_alone_is_made_as_such() -> None:
    block = ip_network("2001:db8:77::/56")
    (finding,) = ranges.ranges([ip_network("2001:db8:77:5::/64")], [VPC, block], [], {}, "vpc-1")
    assert "--vpc-id vpc-1 --ipv6-native --ipv6-cidr-block 2001:db8:77:5::/64;" in finding.remedy


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, []),
        ({"name": ""}, ["link-missing"]),
        ({"up": False, "carrier": False}, ["link-down"]),
        ({"carrier": False}, ["no-carrier"]),
        ({"mtu": 1500}, ["mtu-small"]),
        ({"by_index": False, "name": "ens6"}, ["link-name"]),
    ],
    ids=str,
)
def test_findings_about_links(changes: dict[str, Any], wanted: list[Any]) -> None:
    link = replace(LINK, **changes)
    assert ids(interfaces.links([link])) == wanted
    if wanted and wanted[0] in ("link-down", "no-carrier"):
        claims = [ClaimedPod("default/db", "net1", "/run/netns/x", "eni-1", ())]
        (used,) = interfaces.links([link], frozenset(), claims)
        assert used.id == {"link-down": "link-down-in-use"}.get(wanted[0], wanted[0])
        assert (used.severity, "default/db" in used.what) == ("error", True)
    if wanted == ["link-missing"]:
        assert not list(interfaces.links([link], frozenset({"eni-1"}))), "a pod has it: host-device"


@pytest.mark.parametrize(
    ("checked", "policy", "used", "wanted"),
    [
        (True, "disable", False, []),
        (True, "disable", True, ["check-on"]),
        (True, "require", False, ["check-on"]),
        (True, "ignore", False, ["check-on"]),
        (False, "require", True, []),
    ],
)
def test_findings_about_source_dest_check(checked: bool, policy: str, used: bool, wanted: list[Any]) -> None:
    eni = Ec2Interface("eni-1", 1, "subnet-1", (), checked=checked)
    in_use = frozenset({"eni-1"} if used else ())
    assert ids(interfaces.source_dest_check([eni], policy, in_use)) == wanted


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"all": "0", "default": "0", "eth1": "0"}, []),
        ({"all": "1", "default": "0", "eth1": "0"}, ["eth1", "default"]),
        ({"all": "1", "default": "2", "eth1": "2"}, []),
        ({"all": "0", "default": "1", "eth1": "2"}, ["default"]),
        ({"all": "", "default": "", "eth1": ""}, []),
    ],
    ids=str,
)
def test_rp_filter_is_the_larger_of_both(values: dict[str, str], wanted: list[Any]) -> None:
    assert [finding.subject for finding in interfaces.rp_filter([LINK], values)] == wanted


def test_forwarding_matters_where_floating_ips_are() -> None:
    values, used = {(4, "eth1"): "1", (6, "eth1"): "1"}, replace(LINK, in_use=True)
    assert not list(interfaces.forwarding([LINK], values, {}))
    assert not list(interfaces.forwarding([used], values, {"eth1": {4, 6}}))
    assert not list(interfaces.forwarding([used], {**values, (4, "eth1"): "0"}, {"eth1": {6}}))
    for stopped, wanted in (({}, ["IPv4", "IPv6"]), ({"eth1": {4}}, ["IPv6"])):
        findings = list(interfaces.forwarding([used], values, stopped))
        assert [finding.what.split()[3].rstrip(",") for finding in findings] == wanted


def daemonset(*containers: dict[str, Any], **status: int) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": list(containers)}}}, "status": status}


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({}, ["snat"]),
        ({"AWS_VPC_K8S_CNI_EXTERNALSNAT": "true"}, []),
        ({"AWS_VPC_K8S_CNI_EXTERNALSNAT": "false", "ENABLE_IPv4": "true", "ENABLE_IPv6": "false"}, ["snat"]),
        ({"ENABLE_IPv4": "false", "ENABLE_IPv6": "true"}, []),
        ({"ENABLE_IPv4": "true", "ENABLE_IPv6": "true"}, ["snat"]),
        ({"AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS": "192.168.0.0/16"}, []),
        ({"AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS": "10.1.0.0/16, 192.168.0.0/24"}, []),
        ({"AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS": "192.168.0.0/25"}, ["snat"]),
        ({"AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS": "nonsense"}, ["snat"]),
    ],
    ids=str,
)
def test_findings_about_snat(env: dict[str, Any], wanted: list[Any]) -> None:
    container = {"name": "aws-node", "env": [{"name": name, "value": value} for name, value in env.items()]}
    assert ids(cluster.snat(daemonset(container), [NET, NET6])) == wanted


def test_one_command_excludes_every_range_from_snat() -> None:
    env = [{"name": "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", "value": "172.16.0.0/16"}]
    (finding,) = cluster.snat(
        daemonset({"name": "aws-node", "env": env}), [NET, NET6, ip_network("198.18.0.0/24")]
    )
    assert "=172.16.0.0/16,192.168.0.0/24,198.18.0.0/24 " in finding.remedy


@pytest.mark.parametrize("said", ["10.0.0.0/8, 172.16.0.0/12", " 10.0.0.0/8 ,x y,,172.16.0.0/12, "])
def test_what_is_excluded_already_is_one_word_of_the_command(said: str) -> None:
    """VPC CNI takes spaces around a range, and passes over what is none; a shell would split there."""
    env = [{"name": "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", "value": said}]
    (finding,) = cluster.snat(daemonset({"name": "aws-node", "env": env}), [NET])
    assert "CIDRS=10.0.0.0/8,172.16.0.0/12,192.168.0.0/24 (" in finding.remedy


@pytest.mark.parametrize(
    ("container", "wanted"),
    [
        (
            {
                "command": ["/usr/src/multus-cni/bin/multus-daemon"],
                "resources": {"limits": {"memory": "50Mi"}},
            },
            1,
        ),
        ({"image": "ghcr.io/multus-cni:snapshot-thick", "resources": {"limits": {"memory": "200Mi"}}}, 1),
        (
            {
                "command": ["/usr/src/multus-cni/bin/multus-daemon"],
                "resources": {"limits": {"memory": "256Mi"}},
            },
            0,
        ),
        (
            {
                "command": ["/usr/src/multus-cni/bin/multus-daemon"],
                "resources": {"limits": {"memory": "1Gi"}},
            },
            0,
        ),
        ({"command": ["/usr/src/multus-cni/bin/multus-daemon"]}, 0),
        ({"command": ["/thin_entrypoint"], "resources": {"limits": {"memory": "50Mi"}}}, 0),
    ],
)
def test_findings_about_multus_memory(container: dict[str, Any], wanted: int) -> None:
    assert ids(cluster.multus(daemonset(container))) == ["multus-memory"] * wanted


@pytest.mark.parametrize(
    ("image", "old"),
    [
        ("602401143452.dkr.ecr.us-west-2.amazonaws.com/eks/multus-cni:v3.7.2-eksbuild.1", True),
        ("ghcr.io/k8snetworkplumbingwg/multus-cni:v3.9.3", True),
        ("registry:5000/multus-cni:3.8", True),
        ("multus:v3.9.3@sha256:40", True),
        ("602401143452.dkr.ecr.us-west-2.amazonaws.com/eks/multus-cni:v4.1.4-eksbuild.3_thick", False),
        ("ghcr.io/k8snetworkplumbingwg/multus-cni:v4.0.2-thick", False),
        ("multus:v10.1", False),
        ("ghcr.io/k8snetworkplumbingwg/multus-cni:snapshot-thick", False),
        ("registry:3.14/multus-cni", False),
        ("registry:5000/multus-cni", False),
        ("multus-cni@sha256:3.4", False),
        ("", False),
    ],
)
def test_multus_of_an_old_release(image: str, old: bool) -> None:
    assert ids(cluster.multus(daemonset({"image": image}))) == ["multus-old"] * old


@pytest.mark.parametrize(
    ("quantity", "size"),
    [
        ("50Mi", 50 << 20),
        ("268435456", 1 << 28),
        ("256M", 256e6),
        ("1.5Gi", 1.5 * (1 << 30)),
        ("?", float("inf")),
    ],
)
def test_quantities_of_memory_are_parsed(quantity: str, size: Any) -> None:
    assert cluster.size(quantity) == size


GONE_ROUTE = {"table": "rtb", "destination": "1.2.3.4/32", "error": "denied", "state": "gone"}


@pytest.mark.parametrize(
    ("document", "wanted"),
    [
        ({"agent": {"problems": [], "warnings": []}, "claims": []}, []),
        ({"agent": {"problems": ["no namespace is visible"]}, "claims": []}, ["agent-not-ready"]),
        ({"agent": {"warnings": ["the ENI 02:.. is not guarded"]}, "claims": []}, ["agent-warns"]),
        ({"agent": {}, "claims": [], "records": [{"path": "x", "reason": "y"}]}, ["agent-claims"]),
        (
            {
                "agent": {},
                "claims": [{"routes": [{"table": "rtb", "destination": "1.2.3.4/32", "error": "denied"}]}],
            },
            ["agent-claims"],
        ),
        ({"agent": {}, "claims": [{"routes": [GONE_ROUTE]}]}, []),
    ],
)
def test_what_the_agent_tells(document: dict[str, Any], wanted: list[Any]) -> None:
    assert ids(node.agent(document)) == wanted


@pytest.mark.parametrize(
    ("ahead", "wanted"),
    [(0.0, []), (-59.0, []), (61.0, ["clock-skew"]), (-301.0, ["clock-skew"]), (None, ["not-checked"])],
)
def test_findings_about_the_clock(ahead: float | None, wanted: list[Any]) -> None:
    findings = list(node.clock(EndpointAnswer("https://ec2", 0.1, ahead)))
    assert ids(findings) == wanted
    if ahead and wanted:
        assert findings[0].what == f"{abs(ahead):.0f} s {'behind' if ahead > 0 else 'ahead of'} EC2's"


@pytest.mark.parametrize(("seconds", "wanted"), [(0.1, []), (0.6, ["endpoint-slow"])])
def test_findings_about_latency(seconds: float, wanted: list[Any]) -> None:
    assert ids(node.endpoint(EndpointAnswer("https://ec2", seconds, 0), "eu-central-1")) == wanted


@pytest.mark.parametrize(
    ("how", "wanted"), [("assume-role-with-web-identity", []), ("iam-role", ["identity-of-node"])]
)
def test_findings_about_identity(how: str, wanted: list[Any]) -> None:
    assert ids(node.identity(Identity("arn:aws:sts::1:x", "1", how))) == wanted


def test_findings_from_dry_runs() -> None:
    runs = [
        DryRun("CreateRoute", "arn:rtb-1", allowed=True),
        DryRun(
            "CreateRoute", "arn:rtb-2", False, "not authorized. Encoded authorization failure message: 2x8"
        ),
        DryRun("DeleteRoute", "arn:rtb-1", allowed=None, answer="throttled"),
        DryRun("DeleteRoute", "arn:rtb-2", allowed=None, answer="throttled"),
    ]
    denied, unclear = node.permissions(runs, "arn:role")
    assert '"Resource": "arn:rtb-2"' in denied.remedy
    assert denied.what.endswith("not authorized."), "a page of base64 tells nobody anything"
    assert "ec2:CreateRoute" in denied.remedy
    assert "arn:role" in denied.remedy
    assert (unclear.id, "arn:rtb-1, arn:rtb-2" in unclear.what) == ("not-checked", True)


def test_a_dry_run_that_is_carried_out_is_no_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    audit = Ec2Reads("eu-central-1", {})
    monkeypatch.setattr(audit.vpc, "call", lambda *_, **__: {})
    assert audit.dry_run("create_route", {}, "rtb").allowed is None


@pytest.mark.parametrize(
    ("code", "allowed"),
    [("DryRunOperation", True), ("UnauthorizedOperation", False), ("RequestLimitExceeded", None), ("", None)],
)
def test_what_a_dry_run_says(monkeypatch: pytest.MonkeyPatch, code: str, allowed: bool | None) -> None:
    audit = Ec2Reads("eu-central-1", {})

    def refuse(*_: object, **__: object) -> None:
        raise Ec2Error(Ec2Fault.REFUSED, "CreateRoute", code, "")

    monkeypatch.setattr(audit.vpc, "call", refuse)
    assert audit.dry_run("create_route", {}, "rtb").allowed is allowed


@pytest.mark.parametrize(
    ("region", "start"),
    [("eu-central-1", "arn:aws:"), ("cn-north-1", "arn:aws-cn:"), ("us-gov-west-1", "arn:aws-us-gov:")],
)
def test_arns_of_other_partitions(region: str, start: str) -> None:
    assert node.table_arn(region, "1", "rtb-1") == f"{start}ec2:{region}:1:route-table/rtb-1"
    assert node.eni_arn(region, "1", "eni-1") == f"{start}ec2:{region}:1:network-interface/eni-1"


@pytest.mark.parametrize(
    ("fault", "code", "out_of_reach"),
    [
        (Ec2Fault.NOT_SENT, "", True),
        (Ec2Fault.UNANSWERED, "", True),
        (Ec2Fault.REFUSED, "", True),  # a certificate that is not AWS's
        (Ec2Fault.UNANSWERED, "Unavailable", False),
        (Ec2Fault.DENIED, "", False),  # no credentials
        (Ec2Fault.DENIED, "AuthFailure", False),
    ],
)
def test_what_is_out_of_reach(fault: Any, code: str, out_of_reach: bool) -> None:
    assert is_out_of_reach(Ec2Error(fault, "DescribeRouteTables", code, "")) is out_of_reach


def test_an_endpoint_that_gives_no_answer_is_named_also_if_it_is_stss() -> None:
    refused = Ec2Error(Ec2Fault.NOT_SENT, "DescribeRouteTables", "", "no way")
    assert whom(refused, "https://ec2/") == "https://ec2"
    refused.__cause__ = EndpointConnectionError(endpoint_url="https://sts.eu-central-1.amazonaws.com/")
    assert whom(refused, "https://ec2") == "https://sts.eu-central-1.amazonaws.com"


def test_policy_that_allows_nothing() -> None:
    findings = list(node.policy("/etc/floatip/config.json", NodeConf()))
    assert [finding.subject for finding in findings] == ["allowedDestinations", "allowedRouteTables"]
    for chosen in (AllowedRouteTables(ids=frozenset({"rtb-1"})), AllowedRouteTables(tags={"floatip": "*"})):
        (only,) = node.policy("x", NodeConf(allowed_route_tables=chosen))
        assert only.subject == "allowedDestinations"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("SOCKET = '/run/a.sock'\nRELEASE = '1.0'\n", []),
        ("SOCKET = '/run/b.sock'\n", ["client-elsewhere"]),
        ("RELEASE = '0.9'\n", ["client-of-another-release"]),
        ("#!/bin/sh\n", []),
        ("SOCKET = sys.argv[1]\n", []),
    ],
)
def test_client_by_its_text(text: str, wanted: list[Any]) -> None:
    assert ids(node.client("/opt/cni/bin/floatip", text, "/run/a.sock", "1.0")) == wanted


@pytest.mark.parametrize(
    ("eni", "cni"),
    [
        (ENI, False),
        (Ec2Interface("e", 1, "s", (), True, "aws-K8S-i-0123"), True),
        (Ec2Interface("e", 1, "s", (), True, "aws-k8s-trunk-eni"), True),
        (Ec2Interface("e", 1, "s", (), True, tags={"eks:eni:owner": "eks-vpc-resource-controller"}), True),
        (Ec2Interface("e", 1, "s", (), True, tags=TAKEN), False),
    ],
)
def test_whose_an_eni_is(eni: Any, cni: bool) -> None:
    assert eni.is_vpc_cni is cni


@pytest.mark.parametrize(
    ("eni", "why"),
    [
        (ENI, None),
        (replace(ENI, type="efa"), None),
        (replace(ENI, type="efa-only"), "EFA-only"),
        (replace(ENI, tags=TAKEN), None),
        (replace(ENI, description="aws-K8S-i-0123"), "VPC CNI's own"),
    ],
)
def test_what_floating_ips_can_never_use(eni: Any, why: str | None) -> None:
    """EFA with ENA has a link like any other; what VPC CNI took may have been meant for us."""
    assert eni.never is None if why is None else eni.never.startswith(why)


OURS = Choice("eni-1", "1", frozenset({"eni-1", "ens6", "floatip1"}))
OTHER = Choice("eni-2", "2", frozenset({"eni-2", "ens7"}))
BUSY = Choice("eni-3", "3", frozenset({"eni-3", "ens8"}), in_use=True)
THEIRS = Choice("eni-4", "4", frozenset({"eni-4", "ens9"}), never="VPC CNI's own", in_use=True)


@pytest.mark.parametrize(
    ("only", "judged", "out", "wrong"),
    [
        ((), ["eni-1", "eni-2", "eni-3"], [], []),
        (("floatip1",), ["eni-1", "eni-3"], ["eni-2"], []),
        (("eni-2", "ens6"), ["eni-1", "eni-2", "eni-3"], [], []),
        (("ens8",), ["eni-3"], ["eni-1", "eni-2"], []),
        (("ens9",), ["eni-3"], ["eni-1", "eni-2"], ["ens9"]),
        (("ens6", "nsx"), ["eni-1", "eni-3"], ["eni-2"], ["nsx"]),
        (("",), ["eni-3"], ["eni-1", "eni-2"], [""]),
    ],
    ids=["all", "altname", "id and link", "busy", "VPC CNI's", "mistyped", "empty"],
)
def test_which_enis_are_judged(
    only: tuple[Any, ...], judged: list[str], out: list[Any], wrong: list[Any]
) -> None:
    choices = [OURS, OTHER, BUSY, THEIRS]
    assert [choice.eni for choice in choices if choice.is_judged(only)] == judged
    assert [finding.subject for finding in interfaces.left_out(choices, only)] == out
    assert [finding.subject for finding in interfaces.unknown(choices, only)] == wrong


def test_enis_without_the_tag() -> None:
    assert ids(interfaces.enis([], "i-1")) == ["no-floating-eni"]
    assert ids(interfaces.enis([], "i-1", others=1)) == [], "there is one, and it was not asked for"
    assert ids(interfaces.enis([ENI], "i-1")) == []
    bare = Ec2Interface(
        "eni-2", 2, "subnet-1", (), checked=False, tags={"node.k8s.amazonaws.com/no_manage": "false"}
    )
    assert ids(interfaces.enis([ENI, bare], "i-1")) == ["eni-managed"]


@pytest.mark.parametrize(
    ("tags", "used", "only", "wanted"),
    [
        ({}, False, True, ["eni-not-allowed"]),
        ({}, False, False, []),
        ({}, True, False, ["eni-not-allowed"]),
        ({"team": "core"}, True, False, ["eni-not-allowed"]),
    ],
)
def test_enis_without_the_tags_of_policy(
    tags: dict[str, Any], used: bool, only: bool, wanted: list[Any]
) -> None:
    lacking, in_use = [replace(ENI, tags=tags)], frozenset({"eni-1"} if used else ())
    findings = list(interfaces.not_allowed(lacking, in_use, {"team": "core", "floatip": "*"}, only=only))
    assert ids(findings) == wanted
    for finding in findings:
        assert finding.what.endswith("floatip" if tags else "team, floatip")
        assert "--resources eni-1 --tags Key=team,Value=core Key=floatip,Value=...;" in finding.remedy


def test_an_eni_that_vpc_cni_took_once_is_free_again_with_the_tag() -> None:
    """At its start VPC CNI tags whatever it may manage; nobody takes its tags away afterwards."""
    (taken,) = interfaces.enis([replace(ENI, tags=TAKEN)], "i-1")
    assert (taken.id, "has taken it" in taken.what) == ("eni-managed", True)
    assert not list(interfaces.enis([replace(ENI, tags={**ENI.tags, **TAKEN})], "i-1"))


def test_findings_about_router_advertisements() -> None:
    claim = ClaimedPod("default/db", "net1", "/run/netns/x", "eni-1", ())
    assert not list(interfaces.router_advertisements(claim, []))
    assert ids(interfaces.router_advertisements(claim, ["fe80::1"])) == ["ra-default-route"]


# -- the catalog ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.id)
def test_every_kind_says_what_to_do(kind: Kind) -> None:
    assert kind.check in {check.id for check in CHECKS}
    assert kind.title
    assert not kind.title.endswith(".")
    assert kind.why.endswith((".", ")"))
    names = {name for _, name, _, _ in Formatter().parse(kind.remedy) if name}
    filled = kind.remedy.format(**{name: name.upper() for name in names})
    assert filled
    for words in commands_of_ours(filled):
        cli.parser().parse_args(words)
    for command in re.findall(r"\b(?:aws|kubectl|helm) [a-z0-9-]+ [^;()]*", filled):
        assert not complaints(command.replace("'", "")), command
    for value in re.findall(r"chart: ([a-z]\w*\.[\w.]+)", filled):
        assert not list(chart_value(value)), value


def commands_of_ours(text: str) -> list[list[str]]:
    """The floatipctl commands in a remedy, each up to where its sentence goes on."""
    results = []
    for part in text.split("floatipctl ")[1:]:
        command = part
        for end in (";", " (", ")", ", or", " --dry-run;"):
            command = command.split(end)[0]
        results.append(["192.168.0.0/24" if word == "RANGE" else word for word in command.split()])
    return results


def test_documents_are_the_catalogs() -> None:
    written = (Path(generate_doctor.__file__).parent / "doctor.md").read_text()
    assert written == generate_doctor.document(), "run make docs"
    assert all(f"`{name}`" in written for name in KINDS)


def test_judgement_looks_at_nothing() -> None:
    allowed = {*CORE, "doctor"}
    for path in Path(judge.__file__).parent.glob("*.py"):
        result = imports(path)
        assert set(map(room, ours(result))) <= allowed, path
        beside = {name for name in ours(result) if name.startswith("doctor.")}
        may = ("catalog", "facts", "finding", "judge", "judge.node", "judge.tables")
        assert beside <= {f"doctor.{name}" for name in may}, path
        assert not {"os", "socket", "subprocess", "pathlib", "time"} & {name.split(".")[0] for name in result}


def test_long_lists_are_cut() -> None:
    assert list_names(["a", "b"], 2) == "a, b"
    assert list_names([str(number) for number in range(300)]).endswith("8, 9 and 290 more")


@pytest.mark.parametrize(("fault", "helps"), [(Ec2Fault.DENIED, True), (Ec2Fault.UNANSWERED, False)])
def test_a_permission_mends_only_what_was_denied(fault: Any, helps: bool) -> None:
    finding = not_read(
        "network ACLs", Ec2Error(fault, "DescribeNetworkAcls", "", "no"), "ec2:DescribeNetworkAcls"
    )
    assert ("ec2:DescribeNetworkAcls" in finding.remedy) is helps
    assert finding.id == "not-checked"


def test_findings_are_values() -> None:
    assert Finding.__dataclass_params__.frozen  # type: ignore[attr-defined]
