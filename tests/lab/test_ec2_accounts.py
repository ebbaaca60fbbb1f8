"""Accounts of the simulated EC2: STS, and VPCs that one account shares with another.

Sources: AWS STS API Reference; "Share your VPC subnets with other accounts" and "Responsibilities and
permissions for owners and participants", Amazon VPC User Guide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lab.ec2 import SimulatedEC2
from lab.ec2.sample import Sample

OTHER = "444455556666"
FLOATING = "192.168.0.2/32"


def assumed(connect: Any, role_arn: Any, caller: str = "a1") -> Any:
    """Return an EC2 client with the credentials of a role."""
    got = connect(caller, "sts").assume_role(RoleArn=role_arn, RoleSessionName="floatip")["Credentials"]
    return connect(
        caller,
        aws_access_key_id=got["AccessKeyId"],
        aws_secret_access_key=got["SecretAccessKey"],
        aws_session_token=got["SessionToken"],
    )


class TestIdentity:
    def test_the_access_key_says_which_account(self, ec2: SimulatedEC2, connect: Callable[..., Any]) -> None:
        assert connect("a1", "sts").get_caller_identity()["Account"] == ec2.account
        assert connect("a1", "sts", account=OTHER).get_caller_identity()["Account"] == OTHER

    def test_a_foreign_key_is_the_default_account(
        self, ec2: SimulatedEC2, connect: Callable[..., Any]
    ) -> None:
        sts = connect("a1", "sts", aws_access_key_id="AKIAIOSFODNN7EXAMPLE", aws_secret_access_key="x")
        assert sts.get_caller_identity()["Account"] == ec2.account

    def test_a_role_of_another_account(self, connect: Callable[..., Any]) -> None:
        role = f"arn:aws:iam::{OTHER}:role/routes"
        sts = connect("a1", "sts")
        got = sts.assume_role(RoleArn=role, RoleSessionName="floatip")
        assert got["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{OTHER}:assumed-role/routes/floatip"
        keys = got["Credentials"]
        as_role = connect(
            "a1",
            "sts",
            aws_access_key_id=keys["AccessKeyId"],
            aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys["SessionToken"],
        )
        identity = as_role.get_caller_identity()
        assert (identity["Account"], identity["Arn"]) == (OTHER, got["AssumedRoleUser"]["Arn"])

    def test_accounts_do_not_see_each_other(
        self, vpc: Sample, connect: Callable[..., Any], refused: Callable[..., Any]
    ) -> None:
        stranger = connect(account=OTHER)
        with refused("InvalidRouteTableID.NotFound"):
            stranger.describe_route_tables(RouteTableIds=[vpc.tables["a"]])
        with refused("InvalidRouteTableID.NotFound"):
            stranger.create_route(
                RouteTableId=vpc.tables["a"], DestinationCidrBlock=FLOATING, NetworkInterfaceId=vpc.enis["a"]
            )
        with refused("InvalidNetworkInterfaceID.NotFound"):
            stranger.modify_network_interface_attribute(
                NetworkInterfaceId=vpc.enis["a"], SourceDestCheck={"Value": False}
            )

    def test_a_refused_role_is_worded_as_sts_does(
        self, ec2: SimulatedEC2, connect: Callable[..., Any], refused: Callable[..., Any]
    ) -> None:
        ec2.faults.error("AssumeRole", "AccessDenied", "not authorized to perform: sts:AssumeRole")
        with refused("AccessDenied", status=403) as output:
            assumed(connect, f"arn:aws:iam::{OTHER}:role/routes")
        assert "sts:AssumeRole" in output.message


class TestSharedVpc:
    """The VPC belongs to the default account; OTHER takes part and runs a node in it."""

    @pytest.fixture
    def participant(self, ec2: SimulatedEC2, vpc: Sample, connect: Callable[..., Any]) -> Any:
        ec2.share_vpc(vpc.vpc, OTHER)
        return connect("b1", account=OTHER)

    @pytest.fixture
    def eni(self, vpc: Sample, participant: Any) -> Any:
        """An ENI of the participant's own instance in the shared subnet b."""
        started = participant.run_instances(
            ImageId="ami-0123456789abcdef0", MinCount=1, MaxCount=1, SubnetId=vpc.subnets["b"]
        )
        made = participant.create_network_interface(SubnetId=vpc.subnets["b"])["NetworkInterface"]
        participant.attach_network_interface(
            InstanceId=started["Instances"][0]["InstanceId"],
            NetworkInterfaceId=made["NetworkInterfaceId"],
            DeviceIndex=1,
        )
        return made["NetworkInterfaceId"]

    def test_a_participant_sees_subnets_and_their_tables(
        self, ec2: SimulatedEC2, vpc: Sample, participant: Any
    ) -> None:
        of_vpc = [{"Name": "vpc-id", "Values": [vpc.vpc]}]
        subnets = participant.describe_subnets(Filters=of_vpc)["Subnets"]
        assert {s["OwnerId"] for s in subnets} == {ec2.account}
        tables = participant.describe_route_tables(Filters=of_vpc)["RouteTables"]
        assert {t["RouteTableId"] for t in tables} == {vpc.main_table, *vpc.tables.values()}
        assert {t["OwnerId"] for t in tables} == {ec2.account}

    def test_a_participant_changes_no_route(
        self, ec2: SimulatedEC2, vpc: Sample, participant: Any, eni: Any, refused: Callable[..., Any]
    ) -> None:
        table = {"RouteTableId": vpc.tables["a"], "DestinationCidrBlock": FLOATING}
        with refused("UnauthorizedOperation", status=403):
            participant.create_route(**table, NetworkInterfaceId=eni)
        with refused("UnauthorizedOperation", status=403):
            participant.create_route(**table, NetworkInterfaceId=eni, DryRun=True)
        with refused("UnauthorizedOperation", status=403):
            participant.replace_route(**table, NetworkInterfaceId=eni)
        with refused("UnauthorizedOperation", status=403):
            participant.delete_route(**table)
        with refused("UnauthorizedOperation", status=403):
            participant.create_route_table(VpcId=vpc.vpc)
        assert FLOATING not in ec2.truth(vpc.tables["a"])

    def test_the_owners_role_routes_to_the_participants_eni(
        self,
        ec2: SimulatedEC2,
        vpc: Sample,
        connect: Callable[..., Any],
        participant: Any,
        eni: Any,
        refused: Callable[..., Any],
    ) -> None:
        owner = assumed(connect, f"arn:aws:iam::{ec2.account}:role/routes", "b1")
        table = {"RouteTableId": vpc.tables["a"], "DestinationCidrBlock": FLOATING}
        owner.create_route(**table, NetworkInterfaceId=eni)
        (result,) = owner.describe_route_tables(RouteTableIds=[vpc.tables["a"]])["RouteTables"]
        (route,) = (r for r in result["Routes"] if r.get("DestinationCidrBlock") == FLOATING)
        assert (route["NetworkInterfaceId"], route["State"], route["InstanceOwnerId"]) == (
            eni,
            "active",
            OTHER,
        )
        participant.stop_instances(InstanceIds=[route["InstanceId"]])
        assert ec2.truth(vpc.tables["a"])[FLOATING].state == "blackhole"
        owner.delete_route(**table)

    def test_interfaces_in_a_shared_subnet(
        self,
        vpc: Sample,
        connect: Callable[..., Any],
        participant: Any,
        eni: Any,
        refused: Callable[..., Any],
    ) -> None:
        # Owners can describe the participants' network interfaces, participants only their own.
        assert connect().describe_network_interfaces(NetworkInterfaceIds=[eni])["NetworkInterfaces"]
        with refused("InvalidNetworkInterfaceID.NotFound"):
            participant.describe_network_interfaces(NetworkInterfaceIds=[vpc.enis["a"]])
        participant.modify_network_interface_attribute(
            NetworkInterfaceId=eni, SourceDestCheck={"Value": False}
        )

    def test_a_vpc_that_does_not_exist(self, ec2: SimulatedEC2) -> None:
        with pytest.raises(Exception, match=r"InvalidVpcID\.NotFound"):
            ec2.share_vpc("vpc-0", OTHER)
