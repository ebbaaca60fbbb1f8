"""CreateRoute, ReplaceRoute and DeleteRoute of the simulated EC2: each rule, with where AWS states it.

Unless a line says otherwise the source is the Amazon EC2 API Reference or the Amazon VPC User Guide,
"Configure route tables"; what moto does instead is in lab/ec2/routes.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lab.ec2 import SimulatedEC2
from lab.ec2.sample import Sample

FLOATING, FLOATING6 = "192.168.0.2/32", "fd00::2/128"


def describe(aws: Any, table: Any) -> dict[Any, Any]:
    (result,) = aws.describe_route_tables(RouteTableIds=[table])["RouteTables"]
    return {
        route.get("DestinationCidrBlock") or route["DestinationIpv6CidrBlock"]: route
        for route in result["Routes"]
    }


@pytest.fixture
def writer(vpc: Sample, aws: Any) -> Any:
    """Write routes of table a: ``a.create(cidr, NetworkInterfaceId=...)``."""

    class Writer:
        table = vpc.tables["a"]

        def _call(self, what: Any, cidr: Any, **target: Any) -> Any:
            name = "DestinationIpv6CidrBlock" if ":" in cidr else "DestinationCidrBlock"
            return getattr(aws, what)(RouteTableId=self.table, **{name: cidr}, **target)

        def create(self, cidr: Any, **target: Any) -> Any:
            return self._call("create_route", cidr, **(target or {"NetworkInterfaceId": vpc.enis["a"]}))

        def replace(self, cidr: Any, **target: Any) -> Any:
            return self._call("replace_route", cidr, **(target or {"NetworkInterfaceId": vpc.enis["b"]}))

        def delete(self, cidr: Any, **more: Any) -> Any:
            return self._call("delete_route", cidr, **more)

    return Writer()


class TestCreate:
    @pytest.mark.parametrize("cidr", [FLOATING, FLOATING6])
    def test_a_host_route_outside_the_vpc(
        self, ec2: SimulatedEC2, vpc: Sample, aws: Any, writer: Any, cidr: Any
    ) -> None:
        assert writer.create(cidr)["Return"] is True
        assert str(ec2.truth(writer.table)[cidr]) == vpc.enis["a"]
        route = describe(aws, writer.table)[cidr]
        assert (route["NetworkInterfaceId"], route["State"], route["Origin"]) == (
            vpc.enis["a"],
            "active",
            "CreateRoute",
        )

    def test_an_eni_route_names_the_instance_and_its_owner(
        self, ec2: SimulatedEC2, vpc: Sample, aws: Any, writer: Any
    ) -> None:
        # Data type Route: InstanceId, InstanceOwnerId.
        writer.create(FLOATING)
        route = describe(aws, writer.table)[FLOATING]
        assert (route["InstanceId"], route["InstanceOwnerId"]) == (vpc.instances["a"], ec2.account)

    @pytest.mark.parametrize("cidr", [FLOATING, FLOATING6])
    @pytest.mark.parametrize("zone", ["a", "b"])
    def test_twice_is_an_error_whatever_the_target(
        self, ec2: SimulatedEC2, vpc: Sample, writer: Any, refused: Callable[..., Any], cidr: Any, zone: str
    ) -> None:
        # "Error codes": RouteAlreadyExists; message from hashicorp/terraform-provider-aws#23866.
        writer.create(cidr)
        with refused("RouteAlreadyExists") as output:
            writer.create(cidr, NetworkInterfaceId=vpc.enis[zone])
        assert output.message == f"The route identified by {cidr} already exists."
        assert ec2.truth(writer.table)[cidr].target == vpc.enis["a"]

    @pytest.mark.parametrize(
        ("typed", "stored"),
        [
            ("192.168.1.2/24", "192.168.1.0/24"),
            ("FD00:0:0::3/128", "fd00::3/128"),
            ("fd00::1/64", "fd00::/64"),
        ],
    )
    def test_destinations_are_stored_in_canonical_form(
        self, ec2: SimulatedEC2, writer: Any, refused: Callable[..., Any], typed: str, stored: str
    ) -> None:
        # CreateRoute, DestinationCidrBlock: "We modify the specified CIDR block to its canonical form".
        writer.create(typed)
        assert stored in ec2.truth(writer.table)
        with refused("RouteAlreadyExists"):
            writer.create(stored)

    @pytest.mark.parametrize("parameter", ["DestinationCidrBlock", "DestinationIpv6CidrBlock"])
    @pytest.mark.parametrize("cidr", ["nonsense", "192.168.0.2/33", "fd00::/129"])
    def test_no_cidr_block_at_all(
        self, vpc: Sample, aws: Any, refused: Callable[..., Any], parameter: str, cidr: str
    ) -> None:
        # Message: ansible-collections/amazon.aws#477.
        with refused("InvalidParameterValue") as output:
            aws.create_route(
                RouteTableId=vpc.tables["a"], NetworkInterfaceId=vpc.enis["a"], **{parameter: cidr}
            )
        name = parameter[0].lower() + parameter[1:]
        assert (
            output.message
            == f"Value ({cidr}) for parameter {name} is invalid. This is not a valid CIDR block."
        )

    def test_an_ipv6_block_in_the_ipv4_parameter(
        self, vpc: Sample, aws: Any, refused: Callable[..., Any]
    ) -> None:
        # ansible-collections/amazon.aws#477.
        with refused("InvalidParameterValue"):
            aws.create_route(
                RouteTableId=vpc.tables["a"], NetworkInterfaceId=vpc.enis["a"], DestinationCidrBlock=FLOATING6
            )

    def test_two_destinations_are_refused(self, vpc: Sample, aws: Any, refused: Callable[..., Any]) -> None:
        with refused("InvalidParameterCombination"):
            aws.create_route(
                RouteTableId=vpc.tables["a"],
                NetworkInterfaceId=vpc.enis["a"],
                DestinationCidrBlock=FLOATING,
                DestinationIpv6CidrBlock=FLOATING6,
            )

    def test_no_destination_and_no_target(self, vpc: Sample, aws: Any, refused: Callable[..., Any]) -> None:
        with refused("MissingParameter"):
            aws.create_route(RouteTableId=vpc.tables["a"], NetworkInterfaceId=vpc.enis["a"])
        with refused("MissingParameter"):
            aws.create_route(RouteTableId=vpc.tables["a"], DestinationCidrBlock=FLOATING)

    def test_two_targets_are_refused(self, vpc: Sample, writer: Any, refused: Callable[..., Any]) -> None:
        with refused("InvalidParameterCombination"):
            writer.create(FLOATING, NetworkInterfaceId=vpc.enis["a"], GatewayId=vpc.internet_gateway)

    def test_no_such_table_or_interface(
        self, vpc: Sample, aws: Any, writer: Any, refused: Callable[..., Any]
    ) -> None:
        with refused("InvalidRouteTableID.NotFound"):
            aws.create_route(
                RouteTableId="rtb-00000000000000000",
                DestinationCidrBlock=FLOATING,
                NetworkInterfaceId=vpc.enis["a"],
            )
        with refused("InvalidNetworkInterfaceID.NotFound"):
            writer.create(FLOATING, NetworkInterfaceId="eni-00000000000000000")

    def test_an_interface_of_another_vpc(
        self, ec2: SimulatedEC2, aws: Any, writer: Any, refused: Callable[..., Any]
    ) -> None:
        other = ec2.client()
        vpc = other.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
        subnet = other.create_subnet(VpcId=vpc, CidrBlock="10.20.1.0/24")["Subnet"]["SubnetId"]
        eni = other.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
        with refused("InvalidParameterValue") as output:
            writer.create(FLOATING, NetworkInterfaceId=eni)
        assert (
            output.message == f"route table {writer.table} and interface {eni} belong to different networks"
        )

    def test_an_instance_with_two_interfaces_is_no_target(
        self, vpc: Sample, writer: Any, refused: Callable[..., Any]
    ) -> None:
        # CreateRoute, InstanceId: "fails unless exactly one network interface is attached".
        with refused("InvalidInstanceID"):
            writer.create(FLOATING, InstanceId=vpc.instances["a"])

    @pytest.mark.parametrize("cidr", ["169.254.168.0/24", "169.254.171.255/32", "fd00:ec2::254/128"])
    def test_ranges_that_aws_keeps_for_itself(
        self, writer: Any, refused: Callable[..., Any], cidr: str
    ) -> None:
        # "Route table concepts", Destination: no subsets of 169.254.168.0/22 and fd00:ec2::/32.
        with refused("InvalidParameterValue"):
            writer.create(cidr)


class TestInsideTheVpc:
    @pytest.mark.parametrize("cidr", ["10.10.254.0/28", "fd10:0:0:fe::/64"])
    def test_a_whole_subnet_is_taken(self, ec2: SimulatedEC2, vpc: Sample, writer: Any, cidr: str) -> None:
        # "Routing for a middlebox appliance": more specific than local, if it is the entire CIDR of a subnet.
        writer.create(cidr)
        assert ec2.truth(writer.table)[cidr].target == vpc.enis["a"]
        writer.replace(cidr)
        assert ec2.truth(writer.table)[cidr].target == vpc.enis["b"]

    @pytest.mark.parametrize(
        "cidr", ["10.10.254.2/32", "10.10.254.0/29", "10.10.254.0/27", "fd10:0:0:fe::2/128", "fd10::/49"]
    )
    def test_anything_else_is_not(
        self, ec2: SimulatedEC2, writer: Any, refused: Callable[..., Any], cidr: str
    ) -> None:
        with refused("InvalidParameterValue"):
            writer.create(cidr)
        assert cidr not in ec2.truth(writer.table)

    def test_not_to_a_gateway(self, vpc: Sample, writer: Any, refused: Callable[..., Any]) -> None:
        # hashicorp/terraform#26018.
        with refused("InvalidParameterValue") as output:
            writer.create("10.10.254.0/28", GatewayId=vpc.internet_gateway)
        assert (
            output.message
            == "Route target is not supported. This route only supports interface and instance targets."
        )

    def test_the_local_route_exists_already(self, writer: Any, refused: Callable[..., Any]) -> None:
        # hashicorp/terraform-provider-aws#23866.
        with refused("RouteAlreadyExists"):
            writer.create("10.10.0.0/16")

    def test_a_supernet_is_none_of_this_rule(self, ec2: SimulatedEC2, writer: Any) -> None:
        writer.create("10.0.0.0/8")
        assert "10.0.0.0/8" in ec2.truth(writer.table)


class TestGatewayTable:
    """A table with an edge association ("Gateway route tables")."""

    def test_takes_nothing_outside_the_vpc(
        self, ec2: SimulatedEC2, vpc: Sample, writer: Any, refused: Callable[..., Any]
    ) -> None:
        writer.table = vpc.edge_table
        with refused("InvalidParameterValue") as output:
            writer.create(FLOATING)
        assert output.message == "You cannot add routes to any CIDR blocks outside of the ranges in your VPC."
        with refused("InvalidParameterValue"):
            writer.create(FLOATING6)

    def test_takes_a_subnet(self, ec2: SimulatedEC2, vpc: Sample, writer: Any) -> None:
        writer.table = vpc.edge_table
        writer.create("10.10.254.0/28")
        assert ec2.truth(writer.table)["10.10.254.0/28"].target == vpc.enis["a"]


class TestPrefixLists:
    """A managed prefix list is a destination too ("Route priority for prefix lists", VPC User Guide)."""

    @pytest.fixture
    def prefixes(self, aws: Any) -> Any:
        made = aws.create_managed_prefix_list(
            PrefixListName="far", AddressFamily="IPv4", MaxEntries=5, Entries=[{"Cidr": FLOATING}]
        )
        return made["PrefixList"]["PrefixListId"]

    @pytest.mark.parametrize("target", ["NetworkInterfaceId", "GatewayId"])
    def test_of_any_target_is_taken_shown_moved_and_removed(
        self,
        ec2: SimulatedEC2,
        vpc: Sample,
        aws: Any,
        prefixes: Any,
        refused: Callable[..., Any],
        target: str,
    ) -> None:
        cell = {"RouteTableId": vpc.tables["a"], "DestinationPrefixListId": prefixes}
        to = {"NetworkInterfaceId": vpc.enis["a"], "GatewayId": vpc.internet_gateway}[target]
        aws.create_route(**cell, **{target: to})
        (result,) = aws.describe_route_tables(RouteTableIds=[vpc.tables["a"]])["RouteTables"]
        (route,) = (item for item in result["Routes"] if "DestinationPrefixListId" in item)
        assert (route["DestinationPrefixListId"], route[target], route["State"]) == (prefixes, to, "active")
        assert not {"DestinationCidrBlock", "DestinationIpv6CidrBlock"} & set(route)
        with refused("RouteAlreadyExists"):
            aws.create_route(**cell, NetworkInterfaceId=vpc.enis["b"])
        aws.replace_route(**cell, NetworkInterfaceId=vpc.enis["b"])
        assert ec2.truth(vpc.tables["a"])[prefixes].target == vpc.enis["b"]
        aws.create_route(
            RouteTableId=vpc.tables["a"], DestinationCidrBlock=FLOATING, NetworkInterfaceId=vpc.enis["a"]
        )
        aws.delete_route(**cell)
        assert prefixes not in ec2.truth(vpc.tables["a"])

    def test_one_that_does_not_exist(self, vpc: Sample, aws: Any, refused: Callable[..., Any]) -> None:
        for target in ({"NetworkInterfaceId": vpc.enis["a"]}, {"GatewayId": vpc.internet_gateway}):
            with refused("InvalidPrefixListID.NotFound"):
                aws.create_route(
                    RouteTableId=vpc.tables["a"], DestinationPrefixListId="pl-00000000", **target
                )


class TestReplace:
    @pytest.mark.parametrize("cidr", [FLOATING, FLOATING6])
    def test_points_a_route_elsewhere(self, ec2: SimulatedEC2, vpc: Sample, writer: Any, cidr: Any) -> None:
        writer.create(cidr)
        writer.replace(cidr)
        assert str(ec2.truth(writer.table)[cidr]) == vpc.enis["b"]

    def test_finds_a_destination_however_it_is_written(
        self, ec2: SimulatedEC2, vpc: Sample, writer: Any
    ) -> None:
        writer.create("192.168.1.0/24")
        writer.replace("192.168.1.77/24")
        assert ec2.truth(writer.table)["192.168.1.0/24"].target == vpc.enis["b"]

    @pytest.mark.parametrize("cidr", [FLOATING, FLOATING6])
    def test_a_missing_route_is_an_invalid_parameter(
        self, ec2: SimulatedEC2, writer: Any, refused: Callable[..., Any], cidr: Any
    ) -> None:
        # getmoto/moto#6425: checked on AWS by its author, who opened a case.
        with refused("InvalidParameterValue") as output:
            writer.replace(cidr)
        assert output.message == (
            f"There is no route defined for '{cidr}' in the route table. Use CreateRoute instead."
        )
        assert cidr not in ec2.truth(writer.table)

    def test_the_local_route_stays(self, ec2: SimulatedEC2, writer: Any, refused: Callable[..., Any]) -> None:
        with refused("InvalidParameterValue"):
            writer.replace("10.10.0.0/16")
        assert ec2.truth(writer.table)["10.10.0.0/16"].target == "local"

    def test_an_eni_takes_the_place_of_a_gateway(self, ec2: SimulatedEC2, vpc: Sample, writer: Any) -> None:
        writer.create("0.0.0.0/0", GatewayId=vpc.internet_gateway)
        writer.replace("0.0.0.0/0")
        assert str(ec2.truth(writer.table)["0.0.0.0/0"]) == vpc.enis["b"]


class TestDelete:
    @pytest.mark.parametrize(("cidr", "typed"), [(FLOATING, FLOATING), ("fd00::2/128", "fd00:0::2/128")])
    def test_delete_removes_a_route(self, ec2: SimulatedEC2, writer: Any, cidr: Any, typed: Any) -> None:
        writer.create(cidr)
        writer.delete(typed)
        assert cidr not in ec2.truth(writer.table)

    def test_a_missing_route(self, writer: Any, refused: Callable[..., Any]) -> None:
        with refused("InvalidRoute.NotFound"):
            writer.delete(FLOATING)

    def test_the_local_route_stays(self, ec2: SimulatedEC2, writer: Any, refused: Callable[..., Any]) -> None:
        # hashicorp/terraform-provider-aws: "cannot remove local route".
        with refused("InvalidParameterValue") as output:
            writer.delete("10.10.0.0/16")
        assert output.message.startswith("cannot remove local route 10.10.0.0/16")
        assert "10.10.0.0/16" in ec2.truth(writer.table)


class TestState:
    """Data type Route, State: "blackhole indicates that the route's target isn't available"."""

    def test_the_interface_is_detached(self, ec2: SimulatedEC2, vpc: Sample, aws: Any, writer: Any) -> None:
        writer.create(FLOATING)
        (eni,) = aws.describe_network_interfaces(NetworkInterfaceIds=[vpc.enis["a"]])["NetworkInterfaces"]
        aws.detach_network_interface(AttachmentId=eni["Attachment"]["AttachmentId"])
        route = describe(aws, writer.table)[FLOATING]
        assert (route["State"], route["NetworkInterfaceId"]) == ("blackhole", vpc.enis["a"])
        assert "InstanceId" not in route
        aws.delete_network_interface(NetworkInterfaceId=vpc.enis["a"])
        assert describe(aws, writer.table)[FLOATING]["State"] == "blackhole"

    def test_the_instance_stops_and_starts(
        self, ec2: SimulatedEC2, vpc: Sample, aws: Any, writer: Any
    ) -> None:
        writer.create(FLOATING)
        aws.stop_instances(InstanceIds=[vpc.instances["a"]])
        assert str(ec2.truth(writer.table)[FLOATING]) == f"{vpc.enis['a']} (blackhole)"
        aws.start_instances(InstanceIds=[vpc.instances["a"]])
        assert str(ec2.truth(writer.table)[FLOATING]) == vpc.enis["a"]

    def test_the_instance_is_terminated(self, vpc: Sample, aws: Any, writer: Any) -> None:
        writer.create(FLOATING)
        aws.terminate_instances(InstanceIds=[vpc.instances["a"]])
        assert describe(aws, writer.table)[FLOATING]["State"] == "blackhole"

    def test_the_gateway_is_detached(self, vpc: Sample, aws: Any, writer: Any) -> None:
        writer.create("0.0.0.0/0", GatewayId=vpc.internet_gateway)
        aws.detach_internet_gateway(InternetGatewayId=vpc.internet_gateway, VpcId=vpc.vpc)
        assert describe(aws, writer.table)["0.0.0.0/0"]["State"] == "blackhole"


class TestPropagated:
    """ansible/ansible#43415: a propagated route cannot be replaced; a static one takes precedence."""

    def test_is_listed_as_such(self, ec2: SimulatedEC2, aws: Any, writer: Any) -> None:
        ec2.propagate(writer.table, "192.168.0.0/24", "vgw-1")
        route = describe(aws, writer.table)["192.168.0.0/24"]
        assert (route["Origin"], route["GatewayId"], route["State"]) == (
            "EnableVgwRoutePropagation",
            "vgw-1",
            "active",
        )

    def test_cannot_be_replaced_but_created_over(
        self, ec2: SimulatedEC2, vpc: Sample, writer: Any, refused: Callable[..., Any]
    ) -> None:
        ec2.propagate(writer.table, FLOATING, "vgw-1")
        with refused("InvalidParameterValue"):
            writer.replace(FLOATING)
        writer.create(FLOATING)
        assert ec2.truth(writer.table)[FLOATING].target == vpc.enis["a"]
        writer.delete(FLOATING)
        assert ec2.truth(writer.table)[FLOATING].target == "vgw-1"
        with refused("InvalidRoute.NotFound"):
            writer.delete(FLOATING)


class TestQuota:
    """Amazon VPC quotas, "Routes per route table": enforced separately for IPv4 and IPv6."""

    def test_families_count_separately_and_local_routes_not(
        self, ec2: SimulatedEC2, writer: Any, refused: Callable[..., Any]
    ) -> None:
        ec2.faults.route_quota(2)
        writer.create("192.168.0.1/32")
        writer.create("192.168.0.2/32")
        with refused("RouteLimitExceeded"):
            writer.create("192.168.0.3/32")
        writer.create("fd00::1/128")
        writer.create("fd00::2/128")
        with refused("RouteLimitExceeded"):
            writer.create("fd00::3/128")
        writer.delete("192.168.0.1/32")
        writer.create("192.168.0.3/32")

    def test_fifty_by_default(self, ec2: SimulatedEC2, vpc: Sample, refused: Callable[..., Any]) -> None:
        aws = ec2.client()
        target = {"RouteTableId": vpc.tables["a"], "NetworkInterfaceId": vpc.enis["a"]}
        for n in range(50):
            aws.create_route(DestinationCidrBlock=f"192.168.0.{n}/32", **target)
        with refused("RouteLimitExceeded"):
            aws.create_route(DestinationCidrBlock="192.168.0.50/32", **target)


class TestDryRun:
    """Parameter DryRun: always an error, DryRunOperation or UnauthorizedOperation, and no change."""

    def test_a_dry_run_changes_nothing(
        self, ec2: SimulatedEC2, vpc: Sample, aws: Any, writer: Any, refused: Callable[..., Any]
    ) -> None:
        with refused("DryRunOperation", status=412):
            writer.create(FLOATING, NetworkInterfaceId=vpc.enis["a"], DryRun=True)
        assert FLOATING not in ec2.truth(writer.table)
        writer.create(FLOATING)
        with refused("DryRunOperation", status=412):
            writer.replace(FLOATING, NetworkInterfaceId=vpc.enis["b"], DryRun=True)
        with refused("DryRunOperation", status=412):
            writer.delete(FLOATING, DryRun=True)
        assert ec2.truth(writer.table)[FLOATING].target == vpc.enis["a"]

    @pytest.mark.parametrize(
        "action", ["describe_route_tables", "describe_subnets", "describe_network_interfaces"]
    )
    def test_a_dry_run_of_describe_calls(
        self, vpc: Sample, aws: Any, refused: Callable[..., Any], action: str
    ) -> None:
        with refused("DryRunOperation", status=412):
            getattr(aws, action)(DryRun=True)

    def test_of_source_dest_check(self, vpc: Sample, aws: Any, refused: Callable[..., Any]) -> None:
        with refused("DryRunOperation", status=412):
            aws.modify_network_interface_attribute(
                NetworkInterfaceId=vpc.enis["a"], SourceDestCheck={"Value": False}, DryRun=True
            )
        (eni,) = aws.describe_network_interfaces(NetworkInterfaceIds=[vpc.enis["a"]])["NetworkInterfaces"]
        assert eni["SourceDestCheck"] is True
