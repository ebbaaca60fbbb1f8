"""What a VPC lets through by default, and the clock that an answer shows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from lab.ec2 import SimulatedEC2

MADE = "2001:db8:77::/56"


def ahead(answer: Any) -> float:
    date = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    return (date - datetime.now(UTC)).total_seconds()


@pytest.fixture
def dual_stack(aws: Any) -> Any:
    vpc = aws.create_vpc(CidrBlock="10.77.0.0/16")["Vpc"]["VpcId"]
    aws.associate_vpc_cidr_block(VpcId=vpc, Ipv6CidrBlock=MADE, Ipv6Pool="ipv6pool-ec2-x")
    return vpc


@pytest.mark.parametrize("egress", [False, True])
def test_default_acl_lets_both_families_through(aws: Any, dual_stack: Any, egress: bool) -> None:
    (acl,) = aws.describe_network_acls(Filters=[{"Name": "vpc-id", "Values": [dual_stack]}])["NetworkAcls"]
    allowed = {
        entry.get("CidrBlock") or entry.get("Ipv6CidrBlock")
        for entry in acl["Entries"]
        if entry["Egress"] is egress and entry["RuleAction"] == "allow"
    }
    assert allowed == {"0.0.0.0/0", "::/0"}


def test_default_group_lets_both_families_out(aws: Any, dual_stack: Any) -> None:
    (group,) = aws.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [dual_stack]}])[
        "SecurityGroups"
    ]
    out = group["IpPermissionsEgress"]
    assert [item["CidrIp"] for rule in out for item in rule["IpRanges"]] == ["0.0.0.0/0"]
    assert [item["CidrIpv6"] for rule in out for item in rule["Ipv6Ranges"]] == ["::/0"]


def test_answers_carry_a_date(aws: Any) -> None:
    assert abs(ahead(aws.describe_route_tables())) < 5


def test_clock_that_differs_shows_and_from_five_minutes_on_refuses(
    ec2: SimulatedEC2, aws: Any, refused: Callable[..., Any]
) -> None:
    ec2.faults.clock(120)
    assert 115 < ahead(aws.describe_route_tables()) < 125
    for far in (400, -400):
        ec2.faults.clock(far)
        with refused("RequestExpired"):
            aws.describe_route_tables()
