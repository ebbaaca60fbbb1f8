"""``floatip-alerts.yaml``: which writes are reported. What agents really call: ``test_iam_policies``."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cni_floatip import __version__
from lab.ec2.journal import Call
from tests.aws import policies
from tests.aws.patterns import ROUTES, event, matches
from tests.aws.template import ALERTS, Stack, plain

OURS = f"cni-floatip/{__version__} Botocore/1.44.5"
TABLES = "rtb-0a,rtb-0b"


@pytest.fixture(scope="module")
def pattern() -> dict[str, Any]:
    stack = Stack(ALERTS, RouteTables=TABLES, Beginnings="192.168.0.,fd00:192:168:")
    (rule,) = stack.of("AWS::Events::Rule").values()
    pattern: dict[str, Any] = plain(rule["EventPattern"])
    return pattern


def told(action: str = "CreateRoute", program: str = OURS, outcome: str = "ok", **params: str) -> Any:
    call = Call(0, "n", action, {"RouteTableId": "rtb-0b", **params}, outcome, program=program)
    return event(call, "eu-central-1")


@pytest.mark.parametrize("destination", ["192.168.0.7/32", "192.168.0.255/32"])
@pytest.mark.parametrize("action", ROUTES)
def test_an_agents_writes_are_not(pattern: dict[str, Any], action: str, destination: str) -> None:
    assert not matches(pattern, told(action, DestinationCidrBlock=destination))
    assert not matches(pattern, told(action, DestinationIpv6CidrBlock="fd00:192:168::7/128"))


ELSEWHERE = {
    "another address": {"DestinationCidrBlock": "192.168.1.7/32"},
    "one that begins alike": {"DestinationCidrBlock": "192.168.07.1/32"},
    "everything": {"DestinationCidrBlock": "0.0.0.0/0"},
    "a range around": {"DestinationCidrBlock": "192.168.0.0/16"},
    "a range around, by an address inside": {"DestinationCidrBlock": "192.168.0.7/8"},
    "a range inside, which no pod has": {"DestinationCidrBlock": "192.168.0.0/28"},
    "another IPv6 address": {"DestinationIpv6CidrBlock": "fd00:192:169::7/128"},
    "everything in IPv6": {"DestinationIpv6CidrBlock": "::/0"},
    "a range around in IPv6": {"DestinationIpv6CidrBlock": "fd00:192:168::/12"},
    "an IPv6 address in another spelling": {"DestinationIpv6CidrBlock": "FD00:0192:168::7/128"},
    "a prefix list": {"DestinationPrefixListId": "pl-0a"},
}


@pytest.mark.parametrize("where", ELSEWHERE.values(), ids=ELSEWHERE)
@pytest.mark.parametrize("action", ROUTES)
def test_another_destination_is_whoever_it_says_it_is(
    pattern: dict[str, Any], action: str, where: dict[str, str]
) -> None:
    """A node's credentials come with any name: what it points elsewhere is told by the destination."""
    assert matches(pattern, told(action, **where))


@pytest.mark.parametrize("program", ["aws-cli/2.31.0", "console.amazonaws.com", "", "x cni-floatip/0.3.0"])
@pytest.mark.parametrize("outcome", ["ok", "UnauthorizedOperation"])
def test_another_program_is(pattern: dict[str, Any], program: str, outcome: str) -> None:
    output = told(program=program, outcome=outcome, DestinationCidrBlock="192.168.0.7/32")
    assert matches(pattern, output)
    del output["detail"]["userAgent"]
    assert matches(pattern, output)


def test_a_dry_run_is_not(pattern: dict[str, Any]) -> None:
    """Doctor asks so for a documentation address. Denied it is reported: a right is missing, or was tried."""
    where = {"DestinationCidrBlock": "192.0.2.1/32"}
    assert not matches(pattern, told(outcome="DryRunOperation", **where))
    assert matches(pattern, told(outcome="UnauthorizedOperation", **where))
    assert matches(pattern, told(**where))


def test_other_tables_and_other_calls_are_not(pattern: dict[str, Any]) -> None:
    where = {"DestinationCidrBlock": "0.0.0.0/0"}
    assert matches(pattern, told(program="x", **where))
    assert not matches(pattern, told(program="x", RouteTableId="rtb-0c", **where))
    assert not matches(pattern, told("DescribeRouteTables", program="x"))
    gateways = told(program="x", **where) | {"source": "aws.apigateway"}
    assert not matches(pattern, gateways)


def test_a_pattern_that_is_not_modelled_is_refused() -> None:
    with pytest.raises(AssertionError, match="not modelled"):
        matches({"a": [{"cidr": "10.0.0.0/8"}]}, {"a": "10.0.0.1"})


def test_the_rule_alone_publishes() -> None:
    stack = Stack(ALERTS, RouteTables=TABLES)
    (rule,) = stack.of("AWS::Events::Rule").values()
    (given,) = stack.of("AWS::SNS::TopicPolicy").values()
    assert [target["Arn"] for target in rule["Targets"]] == ["[Topic]"] == given["Topics"]
    policy = policies.parse(plain(given["PolicyDocument"]))
    by_rule = {"aws:SourceArn": "[Rule.Arn]"}

    def may(context: dict[str, str], service: str) -> bool:
        return policy.allows(policies.Request("sns:Publish", "[Topic]", context, service))

    assert may(by_rule, "events.amazonaws.com")
    assert not may({}, "events.amazonaws.com")
    assert not may(by_rule, "lambda.amazonaws.com")


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        (
            "Beginnings",
            ["192.168.0.", "10.10.", "192.168.0.2/", "fd00:192:168:", "2001:db8::"],
            ["192.168.0", "192.168.0.2", "192.", "fd00", "FD00:1:", "192.168.0.0/24", ""],
        ),
        ("Lengths", ["/32", "/128"], ["32", "/", "/32 ", ""]),
        ("RouteTables", ["rtb-0a1b"], ["", "core", "subnet-0a"]),
    ],
)
def test_alert_template_parameters(name: str, good: list[str], bad: list[str]) -> None:
    """A beginning ends where a number does: 192.168.0 would be that of 192.168.01 and 192.168.099, too."""
    allowed = Stack(ALERTS, RouteTables=TABLES).document["Parameters"][name]["AllowedPattern"]
    assert [text for text in good if not re.search(allowed, text)] == []
    assert [text for text in bad if re.search(allowed, text)] == []
