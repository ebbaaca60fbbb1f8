"""ADD's write loop: it reaches its aim or says why, and never touches what is not a network interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_floatip.config.netconf import NetConf, RouteTableSelector
from cni_floatip.model.claim_state import State
from cni_floatip.model.errors import AwsRefused, Ec2Error, Ec2Fault, RouteConflict
from cni_floatip.model.values import Network, RouteKey, RouteTarget
from cni_floatip.operations.write_routes import (
    FRESH_SECONDS,
    Attempt,
    RouteRead,
    Written,
    retry,
    write_routes,
    write_until_done,
)
from tests.fakes.vpc import FakeTime, FakeVpc
from tests.support.claims import a_claim, a_route
from tests.support.simulated_cluster import SimulatedCluster

VIP = ip_network("192.168.0.2/32")
PLACE = RouteKey("rtb-a", VIP)
PASSING = [fault for fault in Ec2Fault if fault.is_transient]
OURS, OTHER = RouteTarget("eni-here", is_eni=True), RouteTarget("eni-there", is_eni=True)
DEAD = RouteTarget("eni-dead", is_eni=True, active=False)
GATEWAY = RouteTarget("igw-1", is_eni=False)
CONF = NetConf("1.1.0", "net", RouteTableSelector(all=True))


def world(target: RouteTarget | None, *script: Any) -> FakeVpc:
    return FakeVpc({"rtb-a": {VIP: target} if target else {}}, list(script))


def take(vpc: FakeVpc, time: Any, read: RouteRead, go_on: Any, deadline: float = 60) -> None:
    route = a_route(State.CLAIMING, PLACE.table, str(VIP))
    claim = a_claim(route, eni="eni-here")
    write_until_done(Attempt(time, vpc, CONF, claim, time.at + deadline), route, read, go_on)


def write(
    vpc: FakeVpc,
    time: FakeTime,
    *,
    target: RouteTarget | None,
    deadline: float = 60,
    go_on: Any = lambda: None,
) -> None:
    take(vpc, time, RouteRead(target, time.at), go_on, deadline)


@pytest.mark.parametrize(
    ("there", "seen", "calls"),
    [
        pytest.param(None, None, ["create"], id="first ADD"),
        pytest.param(OTHER, OTHER, ["replace"], id="fail-over"),
        pytest.param(DEAD, DEAD, ["replace"], id="fail-over from a dead node"),
        pytest.param(OURS, OURS, ["replace"], id="read as ours already: written all the same"),
        pytest.param(None, OTHER, ["replace", "create"], id="released between read and write"),
        pytest.param(OTHER, None, ["create", "replace"], id="claimed between read and write"),
    ],
)
def test_write_reaches_its_aim(there: Any, seen: Any, calls: list[str]) -> None:
    vpc = world(there)
    write(vpc, FakeTime(), target=seen)
    assert str(vpc) == "vpc rtb-a 192.168.0.2/32 -> eni-here"
    assert [call.split()[0] for call in vpc.calls] == calls


def test_answer_that_never_came_may_have_been_applied() -> None:
    vpc = world(None, ("lost", Ec2Fault.UNANSWERED))
    write(vpc, FakeTime(), target=None)
    assert str(vpc) == "vpc rtb-a 192.168.0.2/32 -> eni-here"
    assert [call.split()[0] for call in vpc.calls] == ["create", "create", "replace"]


@pytest.mark.parametrize("seen", [GATEWAY, None], ids=["seen before", "appeared since"])
def test_route_to_a_gateway_is_a_conflict(seen: Any) -> None:
    vpc = world(GATEWAY)
    with pytest.raises(
        RouteConflict, match=r"rtb-a 192\.168\.0\.2/32: a route is there that is not ours .*igw-1"
    ):
        write(vpc, FakeTime(), target=seen)
    assert str(vpc) == "vpc rtb-a 192.168.0.2/32 -> igw-1"
    assert not [call for call in vpc.calls if call.startswith("replace")]


def test_stale_read_after_route_exists_is_read_again() -> None:
    vpc = world(GATEWAY)
    vpc.stale = [{"rtb-a": {}}, {"rtb-a": {}}]  # EC2 still shows nothing there
    with pytest.raises(RouteConflict):
        write(vpc, FakeTime(), target=None)
    assert vpc.calls == ["create rtb-a 192.168.0.2/32 -> eni-here"]


def test_a_route_that_cannot_be_read_is_read_again() -> None:
    vpc, time = world(OTHER), FakeTime()
    vpc.unreadable = 2
    write(vpc, time, target=None)
    assert str(vpc) == "vpc rtb-a 192.168.0.2/32 -> eni-here"
    assert time.slept == [0.1, 0.2]


def test_decision_is_good_for_five_seconds() -> None:
    vpc, time = world(OTHER, *[Ec2Fault.THROTTLED] * 7), FakeTime()
    read = RouteRead(OTHER, time.at)

    def gateway_appears() -> None:
        if time.at > read.at + 3:
            vpc.tables["rtb-a"][VIP] = GATEWAY

    with pytest.raises(RouteConflict):
        take(vpc, time, read, gateway_appears)
    assert time.slept[:5] == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert time.at - read.at < 12


def test_go_on_stops_before_the_next_write() -> None:
    vpc, time = world(OTHER, Ec2Fault.THROTTLED), FakeTime()
    stops = iter([None, None])

    def go_on() -> None:
        if next(stops, "stop") == "stop":
            raise RouteConflict("stopped")

    vpc.script = [Ec2Fault.THROTTLED] * 5
    with pytest.raises(RouteConflict, match="stopped"):
        write(vpc, time, target=OTHER, go_on=go_on)
    assert len(vpc.calls) == 2


class Traced(FakeVpc):
    """Its calls tell of the looks too."""

    def route_tables(self, filters: Any, account: str = "") -> Any:
        self.calls.append("look")
        return super().route_tables(filters, account)


@pytest.mark.parametrize(
    ("there", "seen", "script", "calls"),
    [
        pytest.param(OTHER, OTHER, [], ["look", "go on", "replace"], id="read long ago"),
        pytest.param(
            OTHER, None, [], ["look", "go on", "replace"], id="read long ago, and there is one by now"
        ),
        pytest.param(
            OTHER,
            OTHER,
            [Ec2Fault.ROUTE_EXISTS],
            ["look", "go on", "replace", "look", "go on", "replace"],
            id="somebody was quicker",
        ),
        pytest.param(
            OTHER,
            OTHER,
            [Ec2Fault.THROTTLED] * 2,
            ["look", *["go on", "replace"] * 3],
            id="throttled",
        ),
    ],
)
def test_go_on_is_asked_directly_before_each_write(
    there: Any, seen: Any, script: Any, calls: list[Any]
) -> None:
    """A look may take long: what was answered before it is no permission to write after it."""
    vpc, time = Traced({"rtb-a": {VIP: there}}, script), FakeTime()
    old = RouteRead(seen, time.at - FRESH_SECONDS - 1)
    take(vpc, time, old, lambda: vpc.calls.append("go on"))
    assert [call if call == "go on" else call.split()[0] for call in vpc.calls] == calls


def test_route_that_comes_and_goes_all_the_time_ends_at_the_deadline() -> None:
    """Each answer contradicts the one before: another node creates and deletes it."""
    vpc, time = world(OTHER, *[Ec2Fault.NO_ROUTE, Ec2Fault.ROUTE_EXISTS] * 999), FakeTime()
    with pytest.raises(Ec2Error):
        write(vpc, time, target=OTHER, deadline=30)
    assert 1010 < time.at < 1030
    assert len(vpc.calls) < 30


@pytest.mark.parametrize("fault", [Ec2Fault.DENIED, Ec2Fault.QUOTA, Ec2Fault.REFUSED, Ec2Fault.NO_TABLE])
def test_what_does_not_pass_is_said_at_once(fault: Any) -> None:
    vpc, time = world(OTHER, fault), FakeTime()
    with pytest.raises(Ec2Error) as caught:
        write(vpc, time, target=OTHER)
    assert caught.value.fault is fault
    assert (len(vpc.calls), time.slept) == (1, [])


def test_new_network_interface_is_waited_for_and_an_unknown_one_is_not() -> None:
    vpc, time = world(None, *[Ec2Fault.NO_ENI] * 3), FakeTime()
    write(vpc, time, target=None)
    assert str(vpc) == "vpc rtb-a 192.168.0.2/32 -> eni-here"
    vpc, time = world(None, *[Ec2Fault.NO_ENI] * 99), FakeTime()
    with pytest.raises(Ec2Error):
        write(vpc, time, target=None)
    assert time.at < 1000 + 20


def test_throttling_ends_at_the_deadline() -> None:
    vpc, time = world(OTHER, *[Ec2Fault.THROTTLED] * 999), FakeTime()
    with pytest.raises(Ec2Error) as caught:
        write(vpc, time, target=OTHER, deadline=30)
    assert caught.value.fault is Ec2Fault.THROTTLED
    assert time.at < 1030


def test_a_pause_that_lasts_beyond_the_deadline_ends_with_what_ec2_said() -> None:
    class Oversleeping(FakeTime):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds + 100)

    vpc, time = world(OTHER, Ec2Fault.THROTTLED), Oversleeping()
    deadline = time.at + 60

    def go_on() -> None:
        assert time.at < deadline, "the ADD would say that no time is left, and not why"

    with pytest.raises(Ec2Error) as caught:
        write(vpc, time, target=OTHER, go_on=go_on)
    assert caught.value.fault is Ec2Fault.THROTTLED


def test_reading_repeats_what_passes() -> None:
    answers = iter([Ec2Fault.THROTTLED, Ec2Fault.UNANSWERED, None])

    def read() -> str:
        fault = next(answers)
        if fault:
            raise Ec2Error(fault, "DescribeRouteTables", "", "planted")
        return "tables"

    time = FakeTime()
    assert retry(time, time.at + 10, read) == "tables"
    assert time.slept == [0.1, 0.2]


targets = st.sampled_from([None, OURS, OTHER, DEAD, GATEWAY])
verdicts = st.one_of(
    st.none(), st.sampled_from(list(Ec2Fault)), st.tuples(st.just("lost"), st.sampled_from(PASSING))
)


@given(there=targets, seen=targets, script=st.lists(verdicts, max_size=12))
def test_any_faults_end_at_our_eni_or_in_an_error(there: Any, seen: Any, script: Any) -> None:
    """Whatever fails in whatever order: success means ours, and a gateway's route is never touched."""
    vpc = world(there, *script)
    try:
        write(vpc, FakeTime(), target=seen)
    except (Ec2Error, RouteConflict):
        pass
    else:
        assert vpc.tables["rtb-a"][VIP] == OURS
    if there is GATEWAY and seen in (None, GATEWAY):
        assert vpc.tables["rtb-a"][VIP] is GATEWAY


class Writing:
    """An ADD that has recorded its claim of three addresses in two tables, and is about to write."""

    def __init__(self, directory: Path, *, conf: NetConf = CONF) -> None:
        node = SimulatedCluster(directory, "a").nodes["a"]
        node.netns["/run/netns/pod"] = 1
        self.addresses = [ip_network(f"192.168.0.{number}/32") for number in (2, 3, 4)]
        routes = [
            a_route(State.CLAIMING, table, str(to)) for table in ("rtb-a", "rtb-b") for to in self.addresses
        ]
        claim = a_claim(*routes, eni="eni-here", created_at=node.cluster.now())
        node.claims.put(claim)
        self.world = replace(node.world, run_in_thread=alone)  # one after the other, in order
        self.vpc = FakeVpc({"rtb-a": {}, "rtb-b": {}})
        self.attempt = Attempt(self.world, self.vpc, conf, claim, self.world.clock() + 60)

    def reads(self, *addresses: Network) -> dict[RouteKey, RouteRead]:
        """Return where the routes to ``addresses`` (default: all) lead now."""
        return {
            RouteKey(table, to): RouteRead(routes.get(to), self.world.clock())
            for table, routes in self.vpc.tables.items()
            for to in addresses or self.addresses
        }

    def calls(self) -> list[str]:
        return [
            call.partition(" -> ")[0].replace("192.168.0.", "").replace("/32", "") for call in self.vpc.calls
        ]


def alone(_: Callable[[], None]) -> None:
    raise RuntimeError("can't start new thread")


@pytest.fixture
def writing(tmp_path: Path) -> Writing:
    return Writing(tmp_path)


def test_the_first_create_of_each_table_goes_alone_and_replaces_come_last(writing: Writing) -> None:
    writing.vpc.tables["rtb-a"][writing.addresses[0]] = OTHER
    written = write_routes(writing.attempt, writing.reads())
    first, others = writing.calls()[:2], writing.calls()[2:5]
    assert sorted(first) == ["create rtb-a 3", "create rtb-b 2"]
    assert sorted(others) == ["create rtb-a 4", "create rtb-b 3", "create rtb-b 4"]
    assert writing.calls()[5:] == ["replace rtb-a 2"]
    assert (set(written.written), set(written.vanished), written.failed) == (set(writing.reads()), set(), {})


@pytest.mark.parametrize("fault", [Ec2Fault.QUOTA, Ec2Fault.DENIED])
def test_what_ec2_refuses_of_a_table_is_asked_for_once(writing: Writing, fault: Ec2Fault) -> None:
    writing.vpc.script = [fault]
    parts = [writing.reads(address) for address in writing.addresses]
    written = write_routes(writing.attempt, *parts)
    assert len(written.failed) == 3, "of one table"
    (refused,) = {key.table for key in written.failed}
    assert [call for call in writing.calls() if refused in call] == writing.calls()[:1]
    assert all(isinstance(error, AwsRefused) for error in written.failed.values())
    others = [error.msg for error in written.failed.values() if str(fault) not in error.msg]
    assert others.count(f"{refused}: stopped, because EC2 refuses routes there") == 2


def test_a_part_that_has_failed_gets_no_further_write_and_another_does(writing: Writing) -> None:
    one, two, _ = writing.addresses
    writing.vpc.tables["rtb-b"] |= {one: OTHER, two: OTHER}
    writing.vpc.script = [Ec2Fault.REFUSED]  # of the create in rtb-a for one of them
    written = write_routes(writing.attempt, writing.reads(one), writing.reads(two))
    (failed,) = written.failed
    other = two if failed.destination == one else one
    assert set(written.written) == {RouteKey("rtb-a", other), RouteKey("rtb-b", other)}
    assert writing.vpc.tables["rtb-b"][failed.destination] == OTHER, "not replaced: it serves another"


def test_what_is_no_route_of_the_claim_is_not_written(writing: Writing) -> None:
    strange = RouteKey("rtb-a", ip_network("192.168.9.9/32"))
    written = write_routes(writing.attempt, {strange: RouteRead(None, writing.world.clock())})
    assert (writing.calls(), written) == ([], Written(set(), set(), {}))


def test_a_table_that_vanished_is_an_error_only_where_it_is_named(tmp_path: Path) -> None:
    by_id = NetConf("1.1.0", "net", RouteTableSelector(ids=("rtb-a", "rtb-b")))
    for conf, fails in ((CONF, False), (by_id, True)):
        writing = Writing(tmp_path / str(fails), conf=conf)
        reads = writing.reads(writing.addresses[0])
        del writing.vpc.tables["rtb-b"]
        written = write_routes(writing.attempt, reads)
        key = RouteKey("rtb-b", writing.addresses[0])
        assert (key in written.failed, key in written.vanished) == (fails, not fails)


def test_no_write_follows_a_del(writing: Writing, monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim's record alone says so, because nobody cancels the watch's write of a pod's addresses."""
    claim, create = writing.attempt.claim, writing.vpc.create

    def create_and_end(*args: Any) -> None:
        create(*args)
        writing.world.claims.put(claim.release(0.0))

    monkeypatch.setattr(writing.vpc, "create", create_and_end)
    outcome = write_routes(writing.attempt, writing.reads())
    assert len(writing.calls()) == len(outcome.written) == 1
    (error,) = outcome.failed.values()
    assert error.msg == f"stopped: {claim.attachment} was deleted meanwhile"


def test_what_is_cancelled_is_not_written(writing: Writing) -> None:
    one, two, _ = writing.addresses
    attempt = replace(
        writing.attempt, cancelled=lambda key: "it was taken away" if key.destination == one else None
    )
    written = write_routes(attempt, writing.reads(one), writing.reads(two))
    assert {error.msg for error in written.failed.values()} == {"stopped: it was taken away"}
    assert {key.destination for key in written.written} == {two}
