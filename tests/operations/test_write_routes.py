"""ADD's write loop: it reaches its aim or says why, and never touches what is not a network interface."""

from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_floatip.config.netconf import NetConf, RouteTableSelector
from cni_floatip.model.claim import Claim
from cni_floatip.model.claim_state import ClaimedRoute, State
from cni_floatip.model.errors import Ec2Error, Ec2Fault, RouteConflict
from cni_floatip.model.values import Attachment, Place, PodIdentity, Target
from cni_floatip.operations.write_routes import FRESH_SECONDS, Attempt, Seen, repeated, write_until_done
from tests.fakes.vpc import FakeTime, FakeVpc

VIP = ip_network("192.168.0.2/32")
PLACE = Place("rtb-a", VIP)
PASSING = [fault for fault in Ec2Fault if fault.passes]
OURS, OTHER = Target("eni-here", is_eni=True), Target("eni-there", is_eni=True)
DEAD = Target("eni-dead", is_eni=True, active=False)
GATEWAY = Target("igw-1", is_eni=False)
CONF = NetConf("1.1.0", "net", RouteTableSelector(all=True))
CLAIM = Claim(
    Attachment("net", "c", "net1"), "eni-here", "region", "", 0, "boot", PodIdentity("", "", ""), "keep", ()
)


def world(target: Target | None, *script: object) -> FakeVpc:
    return FakeVpc({"rtb-a": {VIP: target} if target else {}}, list(script))


def take(vpc: FakeVpc, time: FakeTime, seen: Seen, go_on, deadline: float = 60) -> None:
    route = ClaimedRoute(PLACE, State.CLAIMING)
    claim = replace(CLAIM, routes=(route,))
    write_until_done(Attempt(time, vpc, CONF, claim, time.at + deadline), route, seen, go_on)


def write(
    vpc: FakeVpc, time: FakeTime, *, seen: Target | None, deadline: float = 60, go_on=lambda: None
) -> None:
    take(vpc, time, Seen(seen, time.at), go_on, deadline)


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
def test_write_reaches_its_aim(there, seen, calls):
    vpc = world(there)
    write(vpc, FakeTime(), seen=seen)
    assert str(vpc) == "vpc rtb-a 192.168.0.2/32 -> eni-here"
    assert [call.split()[0] for call in vpc.calls] == calls


def test_answer_that_never_came_may_have_been_applied():
    vpc = world(None, ("lost", Ec2Fault.UNANSWERED))
    write(vpc, FakeTime(), seen=None)
    assert str(vpc) == "vpc rtb-a 192.168.0.2/32 -> eni-here"
    assert [call.split()[0] for call in vpc.calls] == ["create", "create", "replace"]


@pytest.mark.parametrize("seen", [GATEWAY, None], ids=["seen before", "appeared since"])
def test_route_to_a_gateway_is_a_conflict(seen):
    vpc = world(GATEWAY)
    with pytest.raises(
        RouteConflict, match=r"rtb-a 192\.168\.0\.2/32: a route is there that is not ours .*igw-1"
    ):
        write(vpc, FakeTime(), seen=seen)
    assert str(vpc) == "vpc rtb-a 192.168.0.2/32 -> igw-1"
    assert not [call for call in vpc.calls if call.startswith("replace")]


def test_stale_read_after_route_exists_is_read_again():
    vpc = world(GATEWAY)
    vpc.stale = [{"rtb-a": {}}, {"rtb-a": {}}]  # EC2 still shows nothing there
    with pytest.raises(RouteConflict):
        write(vpc, FakeTime(), seen=None)
    assert vpc.calls == ["create rtb-a 192.168.0.2/32 -> eni-here"]


def test_decision_is_good_for_five_seconds():
    vpc, time = world(OTHER, *[Ec2Fault.THROTTLED] * 7), FakeTime()
    seen = Seen(OTHER, time.at)

    def gateway_appears() -> None:
        if time.at > seen.at + 3:
            vpc.tables["rtb-a"][VIP] = GATEWAY

    with pytest.raises(RouteConflict):
        take(vpc, time, seen, gateway_appears)
    assert time.slept[:5] == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert time.at - seen.at < 12


def test_go_on_stops_before_the_next_write():
    vpc, time = world(OTHER, Ec2Fault.THROTTLED), FakeTime()
    stops = iter([None, None])

    def go_on() -> None:
        if next(stops, "stop") == "stop":
            raise RouteConflict("stopped")

    vpc.script = [Ec2Fault.THROTTLED] * 5
    with pytest.raises(RouteConflict, match="stopped"):
        write(vpc, time, seen=OTHER, go_on=go_on)
    assert len(vpc.calls) == 2


class Traced(FakeVpc):
    """Its calls tell of the looks too."""

    def route_tables(self, filters, account=""):
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
def test_go_on_is_asked_directly_before_each_write(there, seen, script, calls):
    """A look may take long: what was answered before it is no permission to write after it."""
    vpc, time = Traced({"rtb-a": {VIP: there}}, script), FakeTime()
    old = Seen(seen, time.at - FRESH_SECONDS - 1)
    take(vpc, time, old, lambda: vpc.calls.append("go on"))
    assert [call if call == "go on" else call.split()[0] for call in vpc.calls] == calls


def test_route_that_comes_and_goes_all_the_time_ends_at_the_deadline():
    """Each answer contradicts the one before: another node creates and deletes it."""
    vpc, time = world(OTHER, *[Ec2Fault.NO_ROUTE, Ec2Fault.ROUTE_EXISTS] * 999), FakeTime()
    with pytest.raises(Ec2Error):
        write(vpc, time, seen=OTHER, deadline=30)
    assert 1010 < time.at < 1030
    assert len(vpc.calls) < 30


@pytest.mark.parametrize("fault", [Ec2Fault.DENIED, Ec2Fault.QUOTA, Ec2Fault.REFUSED, Ec2Fault.NO_TABLE])
def test_what_does_not_pass_is_said_at_once(fault):
    vpc, time = world(OTHER, fault), FakeTime()
    with pytest.raises(Ec2Error) as caught:
        write(vpc, time, seen=OTHER)
    assert caught.value.fault is fault
    assert (len(vpc.calls), time.slept) == (1, [])


def test_new_network_interface_is_waited_for_and_an_unknown_one_is_not():
    vpc, time = world(None, *[Ec2Fault.NO_ENI] * 3), FakeTime()
    write(vpc, time, seen=None)
    assert str(vpc) == "vpc rtb-a 192.168.0.2/32 -> eni-here"
    vpc, time = world(None, *[Ec2Fault.NO_ENI] * 99), FakeTime()
    with pytest.raises(Ec2Error):
        write(vpc, time, seen=None)
    assert time.at < 1000 + 20


def test_throttling_ends_at_the_deadline():
    vpc, time = world(OTHER, *[Ec2Fault.THROTTLED] * 999), FakeTime()
    with pytest.raises(Ec2Error) as caught:
        write(vpc, time, seen=OTHER, deadline=30)
    assert caught.value.fault is Ec2Fault.THROTTLED
    assert time.at < 1030


def test_reading_repeats_what_passes():
    answers = iter([Ec2Fault.THROTTLED, Ec2Fault.UNANSWERED, None])

    def read() -> str:
        fault = next(answers)
        if fault:
            raise Ec2Error(fault, "DescribeRouteTables", "", "planted")
        return "tables"

    time = FakeTime()
    assert repeated(time, time.at + 10, read) == "tables"
    assert time.slept == [0.1, 0.2]


targets = st.sampled_from([None, OURS, OTHER, DEAD, GATEWAY])
verdicts = st.one_of(
    st.none(), st.sampled_from(list(Ec2Fault)), st.tuples(st.just("lost"), st.sampled_from(PASSING))
)


@given(there=targets, seen=targets, script=st.lists(verdicts, max_size=12))
def test_any_faults_end_at_our_eni_or_in_an_error(there, seen, script):
    """Whatever fails in whatever order: success means ours, and a gateway's route is never touched."""
    vpc = world(there, *script)
    try:
        write(vpc, FakeTime(), seen=seen)
    except (Ec2Error, RouteConflict):
        pass
    else:
        assert vpc.tables["rtb-a"][VIP] == OURS
    if there is GATEWAY and seen in (None, GATEWAY):
        assert vpc.tables["rtb-a"][VIP] is GATEWAY
