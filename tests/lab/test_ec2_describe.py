"""The Describe calls of the simulated EC2: filters, ids, pages.

Sources: the filter lists of the Amazon EC2 API Reference; wildcards from "List and filter using the CLI and
API", Amazon EC2 User Guide; pages from "Pagination", Amazon EC2 Developer Guide. moto answers HTTP 500 with
HTML to a filter that it does not know, and always returns one page.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.ec2 import SimulatedEC2
from lab.ec2.filters import pattern
from lab.ec2.sample import Sample

FLOATING, FLOATING6 = "192.168.0.2/32", "fd00::2/128"


def f(name: Any, *values: Any) -> dict[str, Any]:
    return {"Name": name, "Values": list(values)}


@pytest.fixture
def tables(aws: Any) -> Callable[..., Any]:
    """Return the ids of the route tables that pass the filters."""

    def find(*filters: Any, **more: Any) -> set[Any]:
        result = aws.describe_route_tables(Filters=list(filters), **more)["RouteTables"]
        return {table["RouteTableId"] for table in result}

    return find


class TestRouteTables:
    def test_route_tables_by_vpc(self, vpc: Sample, tables: Callable[..., Any]) -> None:
        assert tables(f("vpc-id", vpc.vpc)) == {vpc.main_table, vpc.edge_table, *vpc.tables.values()}

    def test_route_tables_by_id(
        self, vpc: Sample, tables: Callable[..., Any], refused: Callable[..., Any]
    ) -> None:
        a, b = vpc.tables.values()
        assert tables(RouteTableIds=[a, b]) == {a, b}
        assert tables(f("route-table-id", a)) == {a}
        assert tables(f("route-table-id", "rtb-00000000000000000")) == set()
        with refused("InvalidRouteTableID.NotFound"):
            tables(RouteTableIds=[a, "rtb-00000000000000000"])

    def test_route_tables_by_owner(self, ec2: SimulatedEC2, vpc: Sample, tables: Callable[..., Any]) -> None:
        assert vpc.main_table in tables(f("owner-id", ec2.account))
        assert tables(f("owner-id", "999999999999")) == set()

    def test_route_tables_by_tag(self, vpc: Sample, tables: Callable[..., Any]) -> None:
        a, b = vpc.tables.values()
        assert tables(f("tag:Name", "a")) == {a}
        assert tables(f("tag:Name", "a", "b")) == {a, b}
        assert tables(f("tag:Name", "a"), f("tag:floatip", "no")) == set()
        assert tables(f("tag-key", "floatip")) == {a, b, vpc.edge_table}
        assert tables(f("tag:name", "a")) == set(), "names and values are case-sensitive"

    def test_route_tables_by_association(self, vpc: Sample, tables: Callable[..., Any]) -> None:
        assert tables(f("association.subnet-id", vpc.subnets["b"])) == {vpc.tables["b"]}
        assert tables(f("association.main", "true"), f("vpc-id", vpc.vpc)) == {vpc.main_table}
        assert tables(f("association.gateway-id", vpc.internet_gateway)) == {vpc.edge_table}
        assert tables(f("association.gateway-id", "*")) == {vpc.edge_table}

    def test_implicit_associations_with_the_main_table_are_not_listed(
        self, ec2: SimulatedEC2, vpc: Sample, tables: Callable[..., Any]
    ) -> None:
        # DescribeRouteTables, association.subnet-id.
        dummy = ec2.client().describe_subnets(Filters=[f("cidr-block", "10.10.254.0/28")])["Subnets"][0]
        assert tables(f("association.subnet-id", dummy["SubnetId"])) == set()

    def test_route_tables_by_route(
        self, ec2: SimulatedEC2, vpc: Sample, aws: Any, tables: Callable[..., Any]
    ) -> None:
        a, b = vpc.tables.values()
        aws.create_route(RouteTableId=a, DestinationCidrBlock=FLOATING, NetworkInterfaceId=vpc.enis["a"])
        aws.create_route(RouteTableId=b, DestinationIpv6CidrBlock=FLOATING6, NetworkInterfaceId=vpc.enis["b"])
        ec2.propagate(b, "192.168.5.0/24")
        assert tables(f("route.destination-cidr-block", FLOATING)) == {a}
        assert tables(f("route.destination-ipv6-cidr-block", FLOATING6)) == {b}
        assert tables(f("route.origin", "CreateRoute")) == {a, b}
        assert tables(f("route.origin", "EnableVgwRoutePropagation")) == {b}
        assert tables(f("route.state", "blackhole")) == set()
        aws.stop_instances(InstanceIds=[vpc.instances["a"]])
        assert tables(f("route.state", "blackhole")) == {a}

    def test_a_gateway_association_has_a_gateway_id(self, vpc: Sample, aws: Any) -> None:
        (edge,) = aws.describe_route_tables(RouteTableIds=[vpc.edge_table])["RouteTables"]
        (association,) = edge["Associations"]
        assert association["GatewayId"] == vpc.internet_gateway
        assert "SubnetId" not in association

    @pytest.mark.parametrize("name", ["nonsense", "route.network-interface-id", "VPC-ID"])
    def test_an_unknown_filter(
        self, vpc: Sample, tables: Callable[..., Any], refused: Callable[..., Any], name: str
    ) -> None:
        with refused("InvalidParameterValue") as output:
            tables(f(name, "x"))
        assert output.message == f"The filter '{name}' is invalid"

    def test_more_than_200_values(
        self, vpc: Sample, tables: Callable[..., Any], refused: Callable[..., Any]
    ) -> None:
        with refused("FilterLimitExceeded"):
            tables(f("tag:Name", *(str(n) for n in range(201))))


class TestWildcards:
    @pytest.mark.parametrize(
        ("value", "tag", "found"),
        [
            ("*", "anything at all", True),
            ("*", "", True),
            ("prod-*", "prod-a", True),
            ("prod-*", "preprod-a", False),
            ("prod-?", "prod-a", True),
            ("prod-?", "prod-", False),
            ("prod", "prod-a", False),
            (r"\*amazon\?\\", "*amazon?\\", True),  # the example of the API reference
            (r"\*", "x", False),
            ("[ab]", "a", False),
            ("[ab]", "[ab]", True),
        ],
    )
    def test_in_tag_values(
        self, ec2: SimulatedEC2, vpc: Sample, tables: Callable[..., Any], value: str, tag: str, found: bool
    ) -> None:
        a = vpc.tables["a"]
        ec2.client().create_tags(Resources=[a], Tags=[{"Key": "stage", "Value": tag}])
        assert tables(f("tag:stage", value)) == ({a} if found else set())

    def test_in_tag_keys(self, vpc: Sample, tables: Callable[..., Any]) -> None:
        assert tables(f("tag-key", "float*")) == {vpc.edge_table, *vpc.tables.values()}

    @given(st.text())
    def test_an_escaped_value_finds_itself_alone(self, text: Any) -> None:
        escaped = "".join("\\" + c if c in "\\*?" else c for c in text)
        assert pattern(escaped).fullmatch(text)
        assert not pattern(escaped).fullmatch(text + "x")


class TestPages:
    @pytest.fixture
    def many(self, ec2: SimulatedEC2, vpc: Sample) -> set[Any]:
        aws = ec2.client()
        return {aws.create_route_table(VpcId=vpc.vpc)["RouteTable"]["RouteTableId"] for _ in range(12)}

    def test_all_and_each_once(self, vpc: Sample, aws: Any, many: set[Any]) -> None:
        pages = list(
            aws.get_paginator("describe_route_tables").paginate(
                Filters=[f("vpc-id", vpc.vpc)], PaginationConfig={"PageSize": 5}
            )
        )
        ids = [table["RouteTableId"] for page in pages for table in page["RouteTables"]]
        assert [len(page["RouteTables"]) for page in pages] == [5, 5, 5, 1]
        assert len(ids) == len(set(ids))
        assert set(ids) >= many

    def test_a_table_that_goes_away_between_pages_hides_no_other(
        self, ec2: SimulatedEC2, vpc: Sample, aws: Any, many: set[Any]
    ) -> None:
        query = {"Filters": [f("vpc-id", vpc.vpc)], "MaxResults": 5}
        first = aws.describe_route_tables(**query)
        shown = [table["RouteTableId"] for table in first["RouteTables"]]
        for table in set(shown) & many:
            aws.delete_route_table(RouteTableId=table)
        rest = aws.describe_route_tables(**query, NextToken=first["NextToken"])["RouteTables"]
        assert len(rest) == 5

    @pytest.mark.parametrize(
        ("action", "size"),
        [("describe_route_tables", 101), ("describe_subnets", 1001), ("describe_network_interfaces", 1001)],
    )
    def test_a_page_that_is_too_large(
        self, vpc: Sample, aws: Any, refused: Callable[..., Any], action: str, size: int
    ) -> None:
        # MaxResults: at most 100 (route tables) or 1000; the client itself holds to the minimum of 5.
        with refused("InvalidParameterValue"):
            getattr(aws, action)(MaxResults=size)

    def test_a_token_of_no_call(self, vpc: Sample, aws: Any, refused: Callable[..., Any]) -> None:
        with refused("InvalidPaginationToken"):
            aws.describe_route_tables(MaxResults=5, NextToken="x")

    def test_subnets_and_interfaces(self, ec2: SimulatedEC2, vpc: Sample, aws: Any) -> None:
        for action, key in (
            ("describe_subnets", "Subnets"),
            ("describe_network_interfaces", "NetworkInterfaces"),
        ):
            for n in range(5, 15):
                if key == "Subnets":
                    ec2.client().create_subnet(VpcId=vpc.vpc, CidrBlock=f"10.10.{n}.0/24")
                else:
                    ec2.client().create_network_interface(SubnetId=vpc.subnets["a"])
            query = {"Filters": [f("vpc-id", vpc.vpc)], "PaginationConfig": {"PageSize": 5}}
            pages = list(aws.get_paginator(action).paginate(**query))
            assert len(pages) == 3
            assert sum(len(page[key]) for page in pages) > 12

    def test_interfaces_by_id_have_no_pages(self, vpc: Sample, aws: Any, refused: Callable[..., Any]) -> None:
        # DescribeNetworkInterfaces, MaxResults: not with the network interface IDs parameter.
        with refused("InvalidParameterCombination"):
            aws.describe_network_interfaces(NetworkInterfaceIds=[vpc.enis["a"]], MaxResults=5)


class TestSubnets:
    def test_both_families_and_the_owner(self, ec2: SimulatedEC2, vpc: Sample, aws: Any) -> None:
        (subnet,) = aws.describe_subnets(SubnetIds=[vpc.subnets["a"]])["Subnets"]
        assert (subnet["CidrBlock"], subnet["OwnerId"], subnet["AvailabilityZone"]) == (
            "10.10.1.0/24",
            ec2.account,
            "eu-central-1a",
        )
        (v6,) = subnet["Ipv6CidrBlockAssociationSet"]
        assert (v6["Ipv6CidrBlock"], v6["Ipv6CidrBlockState"]["State"]) == ("fd10:0:0:1::/64", "associated")

    def test_filters(self, vpc: Sample, aws: Any, refused: Callable[..., Any]) -> None:
        def result(*filters: Any) -> set[Any]:
            return {s["SubnetId"] for s in aws.describe_subnets(Filters=list(filters))["Subnets"]}

        assert len(result(f("vpc-id", vpc.vpc))) == 3
        assert result(f("subnet-id", vpc.subnets["b"])) == {vpc.subnets["b"]}
        assert result(f("ipv6-cidr-block-association.ipv6-cidr-block", "fd10:0:0:1::/64")) == {
            vpc.subnets["a"]
        }
        with refused("InvalidParameterValue"):
            result(f("nonsense", "x"))
        with refused("InvalidSubnetID.NotFound"):
            aws.describe_subnets(SubnetIds=["subnet-00000000000000000"])


class TestNetworkInterfaces:
    def test_filters(self, vpc: Sample, aws: Any, refused: Callable[..., Any]) -> None:
        def result(name: Any, *values: Any) -> set[Any]:
            answer = aws.describe_network_interfaces(Filters=[f(name, *values)])
            return {eni["NetworkInterfaceId"] for eni in answer["NetworkInterfaces"]}

        (eni,) = aws.describe_network_interfaces(NetworkInterfaceIds=[vpc.enis["a"]])["NetworkInterfaces"]
        assert (eni["Attachment"]["InstanceId"], eni["Attachment"]["DeviceIndex"]) == (vpc.instances["a"], 1)
        assert eni["Ipv6Addresses"] == [{"Ipv6Address": "fd10:0:0:1::20"}]
        assert result("mac-address", eni["MacAddress"]) == {vpc.enis["a"]}
        assert result("network-interface-id", *vpc.enis.values()) == set(vpc.enis.values())
        assert len(result("attachment.instance-id", vpc.instances["a"])) == 2
        assert result("subnet-id", vpc.subnets["a"]) == result("attachment.instance-id", vpc.instances["a"])
        assert len(result("vpc-id", vpc.vpc)) == 4
        with refused("InvalidParameterValue"):
            result("nonsense", "x")
        with refused("InvalidNetworkInterfaceID.NotFound"):
            aws.describe_network_interfaces(NetworkInterfaceIds=["eni-00000000000000000"])

    def test_source_dest_check(self, vpc: Sample, aws: Any, refused: Callable[..., Any]) -> None:
        def check() -> Any:
            answer = aws.describe_network_interfaces(NetworkInterfaceIds=[vpc.enis["a"]])
            return answer["NetworkInterfaces"][0]["SourceDestCheck"]

        assert check() is True
        aws.modify_network_interface_attribute(
            NetworkInterfaceId=vpc.enis["a"], SourceDestCheck={"Value": False}
        )
        assert check() is False
        aws.modify_network_interface_attribute(
            NetworkInterfaceId=vpc.enis["a"], SourceDestCheck={"Value": True}
        )
        assert check() is True
        with refused("InvalidNetworkInterfaceID.NotFound"):
            aws.modify_network_interface_attribute(
                NetworkInterfaceId="eni-00000000000000000", SourceDestCheck={"Value": False}
            )


class TestActionsThatMotoServes:
    def test_an_unknown_filter_is_an_error_in_xml(
        self, vpc: Sample, aws: Any, refused: Callable[..., Any]
    ) -> None:
        with refused("InvalidParameterValue"):
            aws.describe_vpcs(Filters=[f("nonsense", "x")])
        with refused("InvalidParameterValue"):
            aws.describe_instances(Filters=[f("nonsense", "x")])

    def test_a_fault_of_moto_is_an_error_in_xml(
        self, vpc: Sample, aws: Any, refused: Callable[..., Any]
    ) -> None:
        # moto: KeyError, and HTML.
        with refused("InternalError", status=500):
            aws.delete_transit_gateway_route_table(TransitGatewayRouteTableId="tgw-rtb-0")

    def test_an_action_that_the_lab_has_not(self, aws: Any, refused: Callable[..., Any]) -> None:
        with refused("InvalidAction"):
            aws.describe_local_gateways()
