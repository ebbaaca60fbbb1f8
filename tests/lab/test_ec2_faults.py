"""What can go wrong on the way to the simulated EC2, seen by botocore over HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, ReadTimeoutError
from botocore.exceptions import ConnectionError as NoConnection

from lab.ec2 import SimulatedEC2
from lab.ec2.sample import Sample
from lab.ec2.throttle import Buckets, Rate, rate
from tests.support.waiting import until

FLOATING = "192.168.0.2/32"


@pytest.fixture
def create(vpc: Sample, connect: Callable[..., Any]) -> Callable[..., Any]:
    """Create a route of table a as some caller."""

    def write(cidr: Any = FLOATING, caller: str = "a1") -> Any:
        return connect(caller).create_route(
            RouteTableId=vpc.tables["a"], DestinationCidrBlock=cidr, NetworkInterfaceId=vpc.enis["a"]
        )

    return write


@pytest.fixture
def held(ec2: SimulatedEC2, vpc: Sample) -> Callable[..., Any]:
    """Say whether EC2 really holds the route."""
    return lambda cidr=FLOATING: cidr in ec2.truth(vpc.tables["a"])


class TestErrors:
    def test_refused_before_it_is_applied(
        self,
        ec2: SimulatedEC2,
        create: Callable[..., Any],
        held: Callable[..., Any],
        refused: Callable[..., Any],
    ) -> None:
        ec2.faults.error("CreateRoute", "InternalError", "An internal error has occurred", times=2)
        for _ in range(2):
            with refused("InternalError", status=500):
                create()
            assert not held()
        create()
        assert held()

    def test_of_one_caller_by_wildcard(
        self, ec2: SimulatedEC2, create: Callable[..., Any], refused: Callable[..., Any]
    ) -> None:
        ec2.faults.error("*Route", "UnauthorizedOperation", times=None, caller="a1")
        create("192.168.0.9/32", caller="b1")
        for _ in range(3):
            with refused("UnauthorizedOperation", status=403):
                create()

    def test_cleared_faults_are_gone(self, ec2: SimulatedEC2, create: Callable[..., Any]) -> None:
        ec2.faults.error("*", "Unavailable", times=None)
        ec2.faults.clear()
        create()


class TestLoss:
    def test_an_answer_is_lost_after_the_change(
        self,
        ec2: SimulatedEC2,
        create: Callable[..., Any],
        held: Callable[..., Any],
        refused: Callable[..., Any],
    ) -> None:
        ec2.faults.lose_answer("CreateRoute")
        with pytest.raises(ConnectionClosedError):
            create()
        assert held()
        with refused("RouteAlreadyExists"):
            create()

    def test_a_request_is_lost_before_it(
        self, ec2: SimulatedEC2, create: Callable[..., Any], held: Callable[..., Any]
    ) -> None:
        ec2.faults.lose_request("CreateRoute")
        with pytest.raises(ConnectionClosedError):
            create()
        assert not held()
        create()

    def test_a_hanging_call_is_never_applied(
        self, ec2: SimulatedEC2, create: Callable[..., Any], held: Callable[..., Any]
    ) -> None:
        ec2.faults.hang("CreateRoute", 0.3)
        started = time.monotonic()
        with pytest.raises((ConnectionClosedError, ReadTimeoutError)):
            create()
        assert time.monotonic() - started >= 0.3
        assert not held()

    def test_unless_it_lands_late(
        self, ec2: SimulatedEC2, create: Callable[..., Any], held: Callable[..., Any]
    ) -> None:
        ec2.faults.hang("CreateRoute", 0.3, late=True)
        with pytest.raises((ConnectionClosedError, ReadTimeoutError)):
            create()
        assert held()
        assert [call.outcome for call in ec2.journal.of("CreateRoute")] == ["<late>"]


class TestLatency:
    def test_of_one_action(self, ec2: SimulatedEC2, aws: Any, create: Callable[..., Any]) -> None:
        def took(call: Any, *arguments: Any) -> float:
            started = time.monotonic()
            call(*arguments)
            return time.monotonic() - started

        ec2.faults.latency(0.5, "CreateRoute")
        assert took(aws.describe_route_tables) < 0.5
        assert took(create) >= 0.5
        ec2.faults.latency(0, "CreateRoute")
        assert took(create, "192.168.0.3/32") < 0.5

    def test_calls_that_are_held_wait_side_by_side_until_they_are_let_go(
        self, ec2: SimulatedEC2, aws: Any, create: Callable[..., Any], held: Callable[..., Any]
    ) -> None:
        ec2.faults.hold("CreateRoute")
        threads = [threading.Thread(target=create, args=(f"192.168.0.{n}/32", f"n{n}")) for n in range(6)]
        for thread in threads:
            thread.start()
        until(lambda: ec2.faults.held == 6)
        aws.describe_route_tables()
        assert not any(held(f"192.168.0.{n}/32") for n in range(6))
        ec2.faults.clear()
        for thread in threads:
            thread.join()
        assert ec2.faults.held == 0
        assert all(held(f"192.168.0.{n}/32") for n in range(6))


class TestCut:
    def test_refuses_one_caller_only(
        self, ec2: SimulatedEC2, create: Callable[..., Any], held: Callable[..., Any]
    ) -> None:
        create("192.168.0.8/32")  # a connection that is kept alive
        ec2.faults.cut("a1")
        with pytest.raises((NoConnection, EndpointConnectionError, ConnectionClosedError)):
            create()
        create("192.168.0.9/32", caller="b1")
        ec2.faults.heal("a1")
        create()
        assert held()

    def test_a_cut_caller_hears_nothing(
        self, ec2: SimulatedEC2, vpc: Sample, connect: Callable[..., Any], held: Callable[..., Any]
    ) -> None:
        aws = connect("quiet")
        ec2.faults.cut("quiet", silent=True)
        failed = []

        def call() -> None:
            try:
                aws.create_route(
                    RouteTableId=vpc.tables["a"],
                    DestinationCidrBlock=FLOATING,
                    NetworkInterfaceId=vpc.enis["a"],
                )
            except (NoConnection, ConnectionClosedError) as e:
                failed.append(e)

        thread = threading.Thread(target=call)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive(), "no answer, no refusal"
        assert not held()
        ec2.faults.heal("quiet")
        thread.join(5)
        assert not thread.is_alive()
        assert held()
        assert not failed

    def test_a_call_under_way_is_cut_as_well(self, ec2: SimulatedEC2, create: Callable[..., Any]) -> None:
        ec2.faults.latency(0.3)
        threading.Timer(0.1, ec2.faults.cut, ["a1"]).start()
        with pytest.raises((NoConnection, ConnectionClosedError)):
            create()


class TestThrottling:
    """Request throttling for the Amazon EC2 API, "Request token bucket sizes and refill rates"."""

    @pytest.mark.parametrize(
        ("action", "params", "expected"),
        [
            ("CreateRoute", {}, Rate(50, 5)),
            ("ReplaceRoute", {}, Rate(50, 5)),
            ("DeleteRoute", {}, Rate(50, 5)),
            ("ModifyNetworkInterfaceAttribute", {}, Rate(100, 5)),
            ("DescribeRouteTables", {}, Rate(100, 20)),
            ("DescribeSubnets", {}, Rate(100, 20)),
            ("DescribeNetworkInterfaces", {}, Rate(50, 10)),
            ("DescribeNetworkInterfaces", {"Filters": [{}]}, Rate(100, 20)),
            ("DescribeNetworkInterfaces", {"MaxResults": 5}, Rate(100, 20)),
        ],
    )
    def test_buckets_have_the_published_sizes(
        self, action: str, params: dict[str, Any], expected: Rate
    ) -> None:
        assert rate(action, params) == expected

    def test_a_bucket_refills(self) -> None:
        now = [0.0]
        buckets = Buckets(lambda: now[0])
        taken = [buckets.take("1", "CreateRoute", {}) for _ in range(51)]
        assert taken == [True] * 50 + [False]
        assert buckets.take("1", "DeleteRoute", {}), "one bucket per action"
        assert buckets.take("2", "CreateRoute", {}), "and account"
        now[0] = 0.2
        assert buckets.take("1", "CreateRoute", {})
        assert not buckets.take("1", "CreateRoute", {})
        now[0] = 1000.0
        assert sum(buckets.take("1", "CreateRoute", {}) for _ in range(60)) == 50

    def test_throttling_over_http(self, ec2: SimulatedEC2, vpc: Sample, aws: Any) -> None:
        ec2.faults.throttle()
        codes = []
        for _ in range(60):
            try:
                aws.delete_route(RouteTableId=vpc.tables["a"], DestinationCidrBlock=FLOATING)
            except ClientError as e:
                codes.append((e.response["Error"]["Code"], e.response["ResponseMetadata"]["HTTPStatusCode"]))
        assert codes[:50] == [("InvalidRoute.NotFound", 400)] * 50
        assert ("RequestLimitExceeded", 503) in codes[50:]
        ec2.faults.throttle(False)
        with pytest.raises(ClientError, match=r"InvalidRoute\.NotFound"):
            aws.delete_route(RouteTableId=vpc.tables["a"], DestinationCidrBlock=FLOATING)

    def test_the_lab_itself_is_never_throttled(self, ec2: SimulatedEC2, vpc: Sample) -> None:
        ec2.faults.throttle()
        for _ in range(60):  # the bucket holds 50
            ec2.client().describe_network_interfaces()


class TestStaleReads:
    """ "Eventual consistency", Amazon EC2 Developer Guide: a describe may not show what was just changed."""

    @pytest.fixture
    def seen(self, vpc: Sample, aws: Any) -> Callable[..., Any]:
        def look() -> bool:
            (table,) = aws.describe_route_tables(RouteTableIds=[vpc.tables["a"]])["RouteTables"]
            return any(route.get("DestinationCidrBlock") == FLOATING for route in table["Routes"])

        return look

    def test_show_the_past(
        self,
        ec2: SimulatedEC2,
        vpc: Sample,
        create: Callable[..., Any],
        seen: Callable[..., Any],
        held: Callable[..., Any],
    ) -> None:
        ec2.faults.stale_reads(30)
        create()
        assert held()
        assert not seen()
        (table,) = ec2.client().describe_route_tables(RouteTableIds=[vpc.tables["a"]])["RouteTables"]
        assert FLOATING in {route.get("DestinationCidrBlock") for route in table["Routes"]}

    def test_stale_reads_catch_up(
        self, ec2: SimulatedEC2, create: Callable[..., Any], seen: Callable[..., Any]
    ) -> None:
        ec2.faults.stale_reads(0.2)
        create()
        until(seen, seconds=5)

    def test_may_flip_back(
        self, ec2: SimulatedEC2, create: Callable[..., Any], seen: Callable[..., Any]
    ) -> None:
        # hashicorp/terraform-provider-aws#21629: a good read followed by a stale one.
        ec2.faults.stale_reads(30, probability=0.5)
        create()
        assert {seen() for _ in range(40)} == {True, False}

    def test_stale_reads_can_be_turned_off(
        self, ec2: SimulatedEC2, create: Callable[..., Any], seen: Callable[..., Any]
    ) -> None:
        ec2.faults.stale_reads(30)
        create()
        ec2.faults.stale_reads(0)
        assert seen()

    def test_of_one_caller(
        self,
        ec2: SimulatedEC2,
        vpc: Sample,
        connect: Callable[..., Any],
        create: Callable[..., Any],
        seen: Callable[..., Any],
    ) -> None:
        ec2.faults.stale_reads(30, caller="b1")
        create()
        assert seen()
