"""EC2 through our door: what is read, and what each of AWS's errors means to us."""

from __future__ import annotations

import time
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.config.netconf import RouteTableSelector
from cni_floatip.edges.ec2 import answers, client, faults, sessions
from cni_floatip.model.errors import AwsRefused, Ec2Error, Ec2Fault, TryAgain
from cni_floatip.model.values import RouteKey, RouteTarget
from cni_floatip.rules import destinations
from lab.ec2.sample import Sample
from lab.ec2.simulated import SimulatedEC2

VIP, VIP6 = ip_network("192.168.0.2/32"), ip_network("fd00:192::2/128")


@pytest.fixture
def edge(ec2: SimulatedEC2) -> Any:
    return client.Vpc(ec2.region, {})


def fault_of(call: Any, *arguments: Any) -> Ec2Fault:
    with pytest.raises(Ec2Error) as caught:
        call(*arguments)
    return caught.value.fault


@pytest.mark.parametrize("destination", [VIP, VIP6], ids=["IPv4", "IPv6"])
def test_a_route_is_created_moved_and_removed(
    ec2: SimulatedEC2, world: Sample, edge: Any, destination: Any
) -> None:
    key = RouteKey(world.tables["a"], destination)
    a, b = world.enis["a"], world.enis["b"]

    def there() -> str | None:
        view = ec2.truth(key.table).get(str(destination))
        return view.target if view else None

    assert fault_of(edge.replace, key, a) is Ec2Fault.NO_ROUTE
    edge.create(key, a)
    assert there() == a
    assert fault_of(edge.create, key, b) is Ec2Fault.ROUTE_EXISTS
    edge.replace(key, b)
    assert there() == b
    edge.delete(key)
    assert there() is None
    assert fault_of(edge.delete, key) is Ec2Fault.NO_ROUTE


def test_a_try_writes_nothing_and_says_whether_a_write_would_be_allowed(
    ec2: SimulatedEC2, world: Sample, edge: Any
) -> None:
    key, eni = RouteKey(world.tables["a"], VIP), world.enis["a"]
    for action, ask in (("ReplaceRoute", edge.try_replace), ("CreateRoute", edge.try_create)):
        ask(key, eni)
        assert ec2.truth(key.table).get(str(VIP)) is None
        ec2.faults.error(action, "UnauthorizedOperation", "no", times=1, status=403)
        assert fault_of(ask, key, eni) is Ec2Fault.DENIED


def test_a_table_as_it_is(ec2: SimulatedEC2, world: Sample, edge: Any) -> None:
    a = world.tables["a"]
    edge.create(RouteKey(a, VIP), world.enis["a"])
    ec2.client().create_route(
        RouteTableId=a, DestinationCidrBlock="0.0.0.0/0", GatewayId=world.internet_gateway
    )
    ec2.propagate(a, "172.31.0.0/16")
    ec2.propagate(a, "172.30.0.0/16", world.enis["b"])
    ec2.client().stop_instances(InstanceIds=[world.instances["a"]])
    (table,) = edge.route_tables({"route-table-id": [a]})
    assert table.vpc == world.vpc
    assert table.account == ec2.account
    assert table.tags["Name"] == "a"
    assert table.subnets == {world.subnets["a"]}
    assert not table.main
    assert not table.is_gateway_table
    assert table.routes[VIP] == RouteTarget(world.enis["a"], is_eni=True, active=False)
    assert table.routes[ip_network("0.0.0.0/0")] == RouteTarget(world.internet_gateway, is_eni=False)
    assert table.routes[ip_network("172.31.0.0/16")].propagated
    assert table.routes[ip_network("172.30.0.0/16")] == RouteTarget(
        world.enis["b"], is_eni=True, propagated=True
    )
    assert table.routes[ip_network("10.10.0.0/16")] == RouteTarget("local", is_eni=False)


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ({"all": True}, ["main", "edge", "a", "b"]),
        ({"tags": {"Name": "a"}}, ["a"]),
        ({"tags": {"floatip": "*"}}, ["edge", "a", "b"]),
        ({"tags": {"floatip": "y*"}}, []),
        ({"tags": {"floatip": "yes", "Name": "b"}}, ["b"]),
    ],
    ids=str,
)
def test_filters_find_what_the_selector_means(
    world: Sample, edge: Any, selector: dict[str, Any], names: list[Any]
) -> None:
    filters = destinations.table_filters(RouteTableSelector.of(selector), world.vpc)
    known = {"main": world.main_table, "edge": world.edge_table, **world.tables}
    raw = {table.id: table for table in edge.route_tables(filters)}
    assert set(raw) == {known[name] for name in names}
    if "edge" in names:
        assert raw[world.edge_table].is_gateway_table
    if "main" in names:
        assert raw[world.main_table].main


def test_more_tables_than_one_page(ec2: SimulatedEC2, world: Sample, edge: Any) -> None:
    for _ in range(120):
        ec2.client().create_route_table(VpcId=world.vpc)
    assert len(edge.route_tables({"vpc-id": [world.vpc]})) == 124
    assert len(ec2.journal.of(action="DescribeRouteTables")) >= 2


def test_subnets_and_who_lives_in_them(world: Sample, edge: Any) -> None:
    raw = {str(subnet.cidrs[0]): subnet for subnet in edge.subnets({"vpc-id": [world.vpc]})}
    dummy = raw["10.10.254.0/28"]
    assert dummy.cidrs[1] == ip_network("fd10:0:0:fe::/64")
    occupied = edge.interfaces_in([dummy.id, world.subnets["a"]])
    assert set(occupied) == {world.subnets["a"]}
    assert occupied[world.subnets["a"]].startswith("eni-")


def test_source_dest_check(world: Sample, edge: Any) -> None:
    assert edge.network_interface(world.enis["a"]).checks_source
    edge.disable_source_dest_check(world.enis["a"])
    assert not edge.network_interface(world.enis["a"]).checks_source
    assert fault_of(edge.network_interface, "eni-0123456789abcdef0") is Ec2Fault.NO_ENI


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ({"GatewayId": "igw-1"}, "igw-1"),
        ({"CoreNetworkArn": "arn:aws:x:core"}, "arn:aws:x:core"),
        ({"OdbNetworkArn": "arn:aws:x:odb"}, "OdbNetworkArn arn:aws:x:odb"),
        ({"IpAddress": "169.254.1.1"}, "IpAddress 169.254.1.1"),
        ({"InstanceOwnerId": "1", "IpAddress": "169.254.1.1"}, "IpAddress 169.254.1.1"),
        ({}, "an unknown target"),
    ],
)
def test_what_a_route_that_is_in_the_way_leads_to(target: dict[str, Any], shown: str) -> None:
    """Of a kind that has no name here yet the key says what it is."""
    output = {"DestinationCidrBlock": str(VIP), "Origin": "CreateRoute", "State": "active", **target}
    of_a_list = {**output, "DestinationCidrBlock": None, "DestinationPrefixListId": "pl-1"}
    ((_, route_target),) = answers.routes_of([of_a_list, output])
    assert str(route_target) == shown
    assert f"(to {shown})" in destinations.conflict(RouteKey("rtb-1", VIP), route_target)


HAND_COPIED = {
    "RouteAlreadyExists": Ec2Fault.ROUTE_EXISTS,
    "InvalidRoute.NotFound": Ec2Fault.NO_ROUTE,
    "InvalidRouteTableID.NotFound": Ec2Fault.NO_TABLE,
    "InvalidNetworkInterfaceID.NotFound": Ec2Fault.NO_ENI,
    "RouteLimitExceeded": Ec2Fault.QUOTA,
    "IncorrectState": Ec2Fault.BUSY,
    "DependencyViolation": Ec2Fault.BUSY,
    "RequestLimitExceeded": Ec2Fault.THROTTLED,
    "Throttling": Ec2Fault.THROTTLED,
    "ThrottlingException": Ec2Fault.THROTTLED,
    "ThrottledException": Ec2Fault.THROTTLED,
    "EC2ThrottledException": Ec2Fault.THROTTLED,
    "SlowDown": Ec2Fault.THROTTLED,
    "RequestThrottled": Ec2Fault.THROTTLED,
    "RequestThrottledException": Ec2Fault.THROTTLED,
    "TooManyRequestsException": Ec2Fault.THROTTLED,
    "PriorRequestNotComplete": Ec2Fault.THROTTLED,
    "BandwidthLimitExceeded": Ec2Fault.THROTTLED,
    "LimitExceededException": Ec2Fault.THROTTLED,
    "ProvisionedThroughputExceededException": Ec2Fault.THROTTLED,
    "TransactionInProgressException": Ec2Fault.THROTTLED,
    "RequestTimeout": Ec2Fault.UNANSWERED,
    "RequestTimeoutException": Ec2Fault.UNANSWERED,
    "Unavailable": Ec2Fault.UNANSWERED,
    "InternalError": Ec2Fault.UNANSWERED,
    "UnauthorizedOperation": Ec2Fault.DENIED,
    "AuthFailure": Ec2Fault.DENIED,
    "ExpiredToken": Ec2Fault.DENIED,
    "ExpiredTokenException": Ec2Fault.DENIED,
    "RequestExpired": Ec2Fault.DENIED,
    "InvalidParameterValue": Ec2Fault.REFUSED,
    "InvalidParameterCombination": Ec2Fault.REFUSED,
    "SomethingNew": Ec2Fault.REFUSED,
}


@pytest.mark.parametrize(("code", "fault"), HAND_COPIED.items())
def test_what_a_code_means(code: Any, fault: Any) -> None:
    assert faults.meaning(code, "as planted") is fault


@pytest.mark.parametrize(
    "code", ["RequestLimitExceeded", "RequestThrottled", "InternalError", "ExpiredToken", "New"]
)
def test_a_code_that_ec2_sends(ec2: SimulatedEC2, world: Sample, edge: Any, code: str) -> None:
    ec2.faults.error("CreateRoute", code, "as planted")
    key = RouteKey(world.tables["a"], VIP)
    with pytest.raises(Ec2Error, match=f"CreateRoute: {code}: as planted") as caught:
        edge.create(key, world.enis["a"])
    assert caught.value.fault is HAND_COPIED.get(code, Ec2Fault.REFUSED)
    assert len(ec2.journal.of(action="CreateRoute")) == 1  # the SDK repeats nothing
    assert isinstance(
        caught.value.to_cni_error("x"), TryAgain if caught.value.fault.is_transient else AwsRefused
    )


def test_the_sdk_has_no_code_for_throttling_that_is_not_listed_here() -> None:
    listed = {code for code, fault in HAND_COPIED.items() if fault is Ec2Fault.THROTTLED}
    assert listed == faults.THROTTLING, "the SDK has changed its list: is it right for EC2?"


OF_STS = {
    "IDPCommunicationError": True,
    "InvalidIdentityToken: Couldn't retrieve verification key from your identity provider": True,
    "InvalidIdentityToken: The ID Token provided is not a valid JWT": False,
    "Throttling: Rate exceeded": True,
    "TooManyRequestsException": True,
    "PriorRequestNotComplete": True,
    "InternalFailure": True,
    "ExpiredTokenException: Token expired": False,
    "AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity": False,
}
"""What STS says, and whether it is to be asked again: all of them with status 400 ("Common errors", STS)."""


@pytest.mark.parametrize("said", OF_STS)
def test_what_sts_means(said: Any) -> None:
    code, _, message = said.partition(": ")
    assert faults.meaning(code, message).is_transient == OF_STS[said]


@pytest.mark.parametrize("said", [*[*OF_STS][1:3], "PriorRequestNotComplete", "InternalFailure"])
@pytest.mark.parametrize("action", ["AssumeRole", "AssumeRoleWithWebIdentity"])
def test_what_sts_sends(
    ec2: SimulatedEC2, world: Sample, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, action: str, said: Any
) -> None:
    code, _, message = said.partition(": ")
    ec2.faults.error(action, code, message or "as planted", times=None)
    account = ec2.account
    if action == "AssumeRoleWithWebIdentity":
        account = ""
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        (tmp_path / "token").write_text("a.b.c")
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
        monkeypatch.setenv("AWS_ROLE_ARN", f"arn:aws:iam::{ec2.account}:role/floatip")
    edge = client.Vpc(ec2.region, {ec2.account: f"arn:aws:iam::{ec2.account}:role/floatip-routes"})
    with pytest.raises(Ec2Error, match=code) as caught:
        edge.create(RouteKey(world.tables["a"], VIP), world.enis["a"], account)
    assert caught.value.action == action
    assert type(caught.value.to_cni_error("x")) is (TryAgain if OF_STS[said] else AwsRefused)
    assert caught.value.fault is not Ec2Fault.UNANSWERED, "the write itself was never sent"


def test_too_many_requests_whatever_the_code(ec2: SimulatedEC2, world: Sample, edge: Any) -> None:
    ec2.faults.error("CreateRoute", "SomethingNew", "as planted", status=429)
    assert fault_of(edge.create, RouteKey(world.tables["a"], VIP), world.enis["a"]) is Ec2Fault.THROTTLED


def test_answer_that_never_comes(ec2: SimulatedEC2, world: Sample, edge: Any) -> None:
    key = RouteKey(world.tables["a"], VIP)
    ec2.faults.lose_answer("CreateRoute")
    assert fault_of(edge.create, key, world.enis["a"]) is Ec2Fault.UNANSWERED
    assert str(VIP) in ec2.truth(key.table)
    ec2.faults.hang("DeleteRoute", 30)
    began = time.monotonic()
    assert fault_of(edge.delete, key) is Ec2Fault.UNANSWERED
    assert time.monotonic() - began < 2 * sessions.READ_SECONDS
    ec2.faults.clear()
    edge.delete(key)  # over a new connection: the pool was dropped


def test_ec2_out_of_reach(monkeypatch: pytest.MonkeyPatch, ec2: SimulatedEC2, world: Sample) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", "http://127.0.0.1:9")
    away = client.Vpc(ec2.region, {})
    assert fault_of(away.route_tables, {"vpc-id": [world.vpc]}) is Ec2Fault.NOT_SENT


def test_missing_credentials_are_an_ec2_error(
    monkeypatch: pytest.MonkeyPatch, ec2: SimulatedEC2, world: Sample
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert fault_of(client.Vpc(ec2.region, {}).route_tables, {"vpc-id": [world.vpc]}) is Ec2Fault.NOT_SENT


def test_tables_of_a_shared_vpc_are_written_in_the_owners_name(ec2: SimulatedEC2, world: Sample) -> None:
    """The owner's role is assumed for the owner's tables only; ENIs are asked about in our own name."""
    edge = client.Vpc(ec2.region, {ec2.account: f"arn:aws:iam::{ec2.account}:role/floatip-routes"})
    key = RouteKey(world.tables["a"], VIP)
    edge.create(key, world.enis["a"], ec2.account)
    elsewhere = RouteKey(world.tables["b"], VIP)
    assert fault_of(edge.create, elsewhere, world.enis["a"], "999988887777") is Ec2Fault.DENIED  # no role
    assert len(ec2.journal.of(action="AssumeRole")) == 1
    edge.route_tables({"vpc-id": [world.vpc]}, ec2.account)
    edge.network_interface(world.enis["a"])
    assert len(ec2.journal.of(action="AssumeRole")) == 1


def test_role_that_may_not_be_assumed(ec2: SimulatedEC2, world: Sample) -> None:
    ec2.faults.error("AssumeRole", "AccessDenied", "not you", times=None)
    edge = client.Vpc(ec2.region, {ec2.account: f"arn:aws:iam::{ec2.account}:role/other"})
    assert fault_of(edge.delete, RouteKey(world.tables["a"], VIP), ec2.account) is Ec2Fault.DENIED
