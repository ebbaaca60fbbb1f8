"""EC2 as the agent asks it, over HTTP: one client for all, reads folded, writes in turn, all counted."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest

from cni_floatip.agent.ec2.ratelimit import UNSPENT_SECONDS, Priority
from cni_floatip.agent.ec2.read_limit import AT_ONCE
from cni_floatip.agent.ec2.request_queue import ApiAction
from cni_floatip.agent.ec2.shared import SUBNET_SECONDS, CallEc2, Caller, SharedEc2
from cni_floatip.agent.observe.recorder import NullRecorder
from cni_floatip.config.nodeconf import NodeConf
from cni_floatip.edges.ec2.client import Vpc
from cni_floatip.edges.ec2.proxies import proxied_metadata, without_password
from cni_floatip.edges.ec2.sessions import Sdk
from cni_floatip.model.errors import Ec2Error, Ec2Fault, TryAgain
from cni_floatip.model.values import RouteKey, RouteTable
from lab.ec2.sample import Sample
from lab.ec2.simulated import SimulatedEC2
from tests.support.waiting import until

VIP = ip_network("192.168.0.2/32")


class Counted(NullRecorder):
    """What was counted of EC2."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.throttles: list[str] = []

    def ec2(self, action: str, outcome: str, seconds: float) -> None:
        assert 0 <= seconds < 30
        self.calls.append((action, outcome))

    def throttled(self, action: str) -> None:
        self.throttles.append(action)


class Clock:
    """Runs as time does, and can be moved on, or stand still."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._stopped: float | None = None

    def stop(self) -> None:
        self._stopped = time.monotonic()

    def __call__(self) -> float:
        return (time.monotonic() if self._stopped is None else self._stopped) + self.ahead


@pytest.fixture
def counts() -> Counted:
    return Counted()


@pytest.fixture
def ec2_clock() -> Clock:
    return Clock()


@pytest.fixture
def warm(ec2: SimulatedEC2, counts: Counted, ec2_clock: Clock) -> SharedEc2:
    return SharedEc2(NodeConf(reconcile_seconds=60, allowed_interfaces={}), counts, ec2_clock)


@pytest.fixture
def view(ec2: SimulatedEC2, warm: SharedEc2) -> CallEc2:
    return warm.for_call(ec2.region)


def at_once(n: int, work: Callable[..., Any]) -> list[Any]:
    """Run ``work(i)`` in so many threads; return what came of each."""
    results: list[Any] = [None] * n
    begin = threading.Barrier(n)

    def run(i: int) -> None:
        begin.wait()
        try:
            results[i] = work(i)
        except Exception as e:  # noqa: BLE001 (looked at by the test)
            results[i] = e

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def asked(ec2: SimulatedEC2, action: str) -> int:
    return len(ec2.journal.of(action=action))


def test_one_route_through_its_life(
    ec2: SimulatedEC2, world: Sample, view: CallEc2, counts: Counted, ec2_clock: Clock
) -> None:
    key, a, b = RouteKey(world.tables["a"], VIP), world.enis["a"], world.enis["b"]
    writes: list[tuple[str, Callable[[], object]]] = [
        ("CreateRoute", lambda: view.create(key, a)),
        ("ReplaceRoute", lambda: view.replace(key, b)),
        ("DeleteRoute", lambda: view.delete(key)),
    ]
    for action, write in writes:
        view.wait_turn(action, key, "", ec2_clock() + 5)
        write()
    assert str(VIP) not in ec2.truth(key.table)
    assert counts.calls == [("CreateRoute", "ok"), ("ReplaceRoute", "ok"), ("DeleteRoute", "ok")]


@pytest.mark.parametrize(
    ("name", "ask"), [("CreateRoute", CallEc2.try_create), ("ReplaceRoute", CallEc2.try_replace)]
)
def test_a_try_waits_for_its_turn_and_writes_nothing(
    ec2: SimulatedEC2,
    world: Sample,
    warm: SharedEc2,
    counts: Counted,
    ec2_clock: Clock,
    name: str,
    ask: Callable[[CallEc2, RouteKey, str], None],
) -> None:
    key, eni, action = RouteKey(world.tables["a"], VIP), world.enis["a"], ApiAction("", ec2.region, name)
    ask(warm.for_call(ec2.region), key, eni)
    assert str(VIP) not in ec2.truth(key.table)
    ec2_clock.stop()
    for _ in range(60):
        warm.queue.spend(action, warm.queue.acquire_at_once(action))
    with pytest.raises(Ec2Error) as error:
        ask(warm.for_call(ec2.region, Caller(until=ec2_clock())), key, eni)
    assert error.value.fault is Ec2Fault.THROTTLED
    assert counts.calls == [(name, "DryRunOperation")]


def test_reads_at_once_are_one_read_or_two(ec2: SimulatedEC2, world: Sample, warm: SharedEc2) -> None:
    ec2.faults.latency(0.1)
    ask = {"vpc-id": [world.vpc]}
    results = at_once(40, lambda _: warm.for_call(ec2.region).route_tables(ask))
    assert {len(tables) for tables in results} == {4}
    assert asked(ec2, "DescribeRouteTables") <= 3


def test_read_shows_what_was_written_before_it_was_asked_for(
    ec2: SimulatedEC2, world: Sample, warm: SharedEc2, ec2_clock: Clock
) -> None:
    """While others read all the time, nobody is given an answer from before his own question."""
    ec2.faults.latency(0.01, "DescribeRouteTables")
    table, over = world.tables["a"], threading.Event()

    def read_on() -> None:
        while not over.is_set():
            warm.for_call(ec2.region).route_tables({"route-table-id": [table]})

    threads = [threading.Thread(target=read_on) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        view = warm.for_call(ec2.region)
        for n in range(1, 15):
            destination = ip_network(f"192.168.0.{n}/32")
            view.create(RouteKey(table, destination), world.enis["a"])
            (read,) = view.route_tables({"route-table-id": [table]})
            assert destination in read.routes
    finally:
        over.set()
        for thread in threads:
            thread.join()


class Later(threading.Thread):
    """A thread that asks for tables, by their names in the sample."""

    def __init__(self, view: CallEc2, world: Sample, **filters: str) -> None:
        super().__init__(daemon=True)
        self._ask = {"vpc-id": [world.vpc]} | {
            name.replace("_", "-").replace("tag-Name", "tag:Name"): [value] for name, value in filters.items()
        }
        self._view = view
        self.tables: tuple[RouteTable, ...] = ()
        self.start()

    def run(self) -> None:
        self.tables = self._view.route_tables(self._ask)


def test_networks_of_one_vpc_share_a_read(
    ec2: SimulatedEC2, world: Sample, warm: SharedEc2, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also such as select other tables: while one read is under way, the others gather for the next."""
    monkeypatch.setattr("cni_floatip.agent.ec2.singleflight.GATHER_SECONDS", 60)
    a, b = world.tables["a"], world.tables["b"]
    ec2.faults.hold("DescribeRouteTables")
    first = Later(warm.for_call(ec2.region), world, route_table_id=a)
    until(lambda: ec2.faults.held == 1)
    wanted = [{"tag_Name": "a"}, {"tag_Name": "b"}, {"tag_Name": "b"}, {"tag_Name": "none"}]
    others = [Later(warm.for_call(ec2.region), world, **filters) for filters in wanted]
    (calls,) = warm.single_flight._calls.values()
    until(lambda: [call.callers for call in calls.gathering] == [4])
    for name in ("a", "b"):
        warm.for_call(ec2.region).create(RouteKey(world.tables[name], VIP), world.enis["a"])
    ec2.faults.clear()
    for thread in (first, *others):
        thread.join(60)
    assert [table.id for table in first.tables] == [a]
    assert [[table.id for table in thread.tables] for thread in others] == [[a], [b], [b], []]
    assert all(table.routes[VIP] for thread in others for table in thread.tables)
    assert len(ec2.journal.of(action="DescribeRouteTables")) == 2


def test_few_reads_of_tables_run_at_once(ec2: SimulatedEC2, world: Sample, warm: SharedEc2) -> None:
    """Whatever the number of calls: each answer may be of many megabytes."""
    ids = [world.main_table, world.edge_table, *world.tables.values()]
    ec2.faults.hold("DescribeRouteTables")
    results: list[Any] = []
    reads = threading.Thread(
        target=lambda: results.extend(
            at_once(4, lambda n: warm.for_call(ec2.region).route_tables({"route-table-id": [ids[n]]}))
        ),
        daemon=True,
    )
    reads.start()
    until(lambda: len(warm.table_reads) == len(ids) - AT_ONCE)
    until(lambda: ec2.faults.held == AT_ONCE)
    assert warm.for_call(ec2.region).subnets({"vpc-id": [world.vpc]})  # what is small waits for nothing
    ec2.faults.clear()
    reads.join(60)
    assert [[table.id for table in tables] for tables in results] == [[name] for name in ids]


@pytest.mark.parametrize("why", ["time", "client"])
def test_read_that_does_not_get_to_run_costs_no_token(
    ec2: SimulatedEC2, world: Sample, warm: SharedEc2, ec2_clock: Clock, why: str
) -> None:
    ec2_clock.stop()
    action, over = ApiAction("", ec2.region, "DescribeRouteTables"), threading.Event()
    before = tokens_left(warm, action, ec2_clock)
    for _ in range(AT_ONCE):
        warm.table_reads.acquire(Priority.ADD, lambda: None, lambda: 60)
    caller = Caller(
        until=ec2_clock() if why == "time" else math.inf,
        cancelled=lambda: "the client is gone" if over.is_set() else None,
    )

    def end() -> None:
        until(lambda: len(warm.table_reads))
        over.set()

    if why == "client":
        threading.Thread(target=end).start()
    with pytest.raises((TryAgain, Ec2Error), match=r"client is gone|other reads") as caught:
        warm.for_call(ec2.region, caller).route_tables({"vpc-id": [world.vpc]})
    if isinstance(caught.value, Ec2Error):
        assert caught.value.fault is Ec2Fault.NOT_SENT
    assert tokens_left(warm, action, ec2_clock) == before
    assert not len(ec2.journal)
    for _ in range(AT_ONCE):
        warm.table_reads.release()
    assert warm.for_call(ec2.region).route_tables({"vpc-id": [world.vpc]})


def test_failed_read_lets_the_next_one_run(ec2: SimulatedEC2, world: Sample, view: CallEc2) -> None:
    ec2.faults.error("DescribeRouteTables", "UnauthorizedOperation", times=AT_ONCE + 1)
    for _ in range(AT_ONCE + 1):
        with pytest.raises(Ec2Error, match="UnauthorizedOperation"):
            view.route_tables({"vpc-id": [world.vpc]})
    assert view.route_tables({"vpc-id": [world.vpc]})


def test_answers_differ_by_what_was_asked(ec2: SimulatedEC2, world: Sample, view: CallEc2) -> None:
    assert len(view.route_tables({"vpc-id": [world.vpc]})) == 4
    assert len(view.route_tables({"route-table-id": [world.tables["a"]]})) == 1
    assert view.interfaces_in([world.subnets["a"]])
    assert not view.interfaces_in([])


def test_subnets_are_remembered_for_a_minute(
    ec2: SimulatedEC2, world: Sample, view: CallEc2, ec2_clock: Clock
) -> None:
    for _ in range(3):
        assert len(view.subnets({"vpc-id": [world.vpc]})) == 3
    assert asked(ec2, "DescribeSubnets") == 1
    ec2_clock.ahead += SUBNET_SECONDS + 1
    view.subnets({"vpc-id": [world.vpc]})
    assert asked(ec2, "DescribeSubnets") == 2


def test_only_a_check_that_is_off_is_remembered(
    ec2: SimulatedEC2, world: Sample, warm: SharedEc2, ec2_clock: Clock
) -> None:
    view, eni = warm.for_call(ec2.region), world.enis["a"]
    for _ in range(2):
        assert view.network_interface(eni).checks_source
    assert asked(ec2, "DescribeNetworkInterfaces") == 2
    view.disable_source_dest_check(eni)
    for _ in range(3):
        assert not view.network_interface(eni).checks_source
    assert asked(ec2, "DescribeNetworkInterfaces") == 3
    ec2.client().modify_network_interface_attribute(NetworkInterfaceId=eni, SourceDestCheck={"Value": True})
    assert not view.network_interface(eni).checks_source
    assert warm.for_call(ec2.region, Caller(fresh=True)).network_interface(eni).checks_source
    assert view.network_interface(eni).checks_source  # what the keeper found counts for all
    view.disable_source_dest_check(eni)
    view.network_interface(eni)
    before = asked(ec2, "DescribeNetworkInterfaces")
    ec2_clock.ahead += 61
    view.network_interface(eni)
    assert asked(ec2, "DescribeNetworkInterfaces") == before + 1


def test_more_writes_than_the_bucket_holds_wait_and_are_not_refused(
    ec2: SimulatedEC2, world: Sample, warm: SharedEc2, ec2_clock: Clock, counts: Counted
) -> None:
    ec2.faults.throttle()
    ec2.faults.route_quota(1000)
    table, eni = world.tables["a"], world.enis["a"]
    view = warm.for_call(ec2.region)

    def write(n: int) -> str | None:
        key = RouteKey(table, ip_network(f"192.168.0.{n}/32"))
        for _ in range(5):
            view.wait_turn("CreateRoute", key, "", ec2_clock() + 30)
            try:
                view.create(key, eni)
                return None
            except Ec2Error as e:
                if e.fault is not Ec2Fault.THROTTLED:
                    raise
        return "never"

    assert at_once(58, write) == [None] * 58
    assert sum("192.168.0." in cidr for cidr in ec2.truth(table)) == 58
    assert len(counts.throttles) <= 3


def tokens_left(warm: SharedEc2, action: ApiAction, clock: Clock) -> int:
    """Count what EC2 would still let pass, by taking it."""
    taken: list[Any] = []
    try:
        while len(taken) < 1000:
            taken.append(warm.queue.acquire(action, Priority.ADD, clock(), lambda: None))
    except Ec2Error:
        pass
    for token in taken:
        warm.queue.put_back(action, token)
    return len(taken)


def test_each_page_of_a_read_takes_a_token(
    ec2: SimulatedEC2, world: Sample, warm: SharedEc2, ec2_clock: Clock
) -> None:
    ec2_clock.stop()
    action = ApiAction("", ec2.region, "DescribeRouteTables")
    for _ in range(120):
        ec2.client().create_route_table(VpcId=world.vpc)
    before = tokens_left(warm, action, ec2_clock)
    assert len(warm.for_call(ec2.region).route_tables({"vpc-id": [world.vpc]})) > 100
    assert asked(ec2, "DescribeRouteTables") == 2
    assert tokens_left(warm, action, ec2_clock) == before - 2


def test_refusal_is_counted_and_slows_us_down(
    ec2: SimulatedEC2, world: Sample, view: CallEc2, counts: Counted, ec2_clock: Clock
) -> None:
    key = RouteKey(world.tables["a"], VIP)
    ec2.faults.error("CreateRoute", "RequestLimitExceeded")
    with pytest.raises(Ec2Error) as caught:
        view.create(key, world.enis["a"])
    assert caught.value.fault is Ec2Fault.THROTTLED
    assert counts.throttles == ["CreateRoute"]
    with pytest.raises(Ec2Error, match="timed out waiting for a request token"):
        view.wait_turn("CreateRoute", key, "", ec2_clock())
    view.wait_turn("CreateRoute", key, "", ec2_clock() + 5)
    view.create(key, world.enis["a"])


def exhaust(view: CallEc2, action: str, clock: Clock) -> None:
    """Use the bucket up, with tokens that are not spent."""
    for n in range(50):
        view.wait_turn(action, RouteKey(f"rtb-{n}", VIP), "", clock())


def test_write_that_nobody_wants_any_more_is_not_sent(
    ec2: SimulatedEC2, world: Sample, warm: SharedEc2, ec2_clock: Clock
) -> None:
    key, over = RouteKey(world.tables["a"], VIP), threading.Event()
    view = warm.for_call(
        ec2.region, Caller(cancelled=lambda: "the client is gone" if over.is_set() else None)
    )
    over.set()
    with pytest.raises(TryAgain, match="the client is gone"):
        view.wait_turn("CreateRoute", key, "", ec2_clock() + 30)
    with pytest.raises(TryAgain, match="the client is gone"):
        view.route_tables({"vpc-id": [world.vpc]})
    assert not len(ec2.journal)


def test_tokens_of_a_call_that_ends_are_given_back(
    ec2: SimulatedEC2, world: Sample, warm: SharedEc2, ec2_clock: Clock
) -> None:
    ec2_clock.stop()  # the bucket fills with time
    key = RouteKey(world.tables["a"], VIP)
    first, second = warm.for_call(ec2.region), warm.for_call(ec2.region)
    exhaust(first, "CreateRoute", ec2_clock)
    with pytest.raises(Ec2Error):
        second.wait_turn("CreateRoute", key, "", ec2_clock())
    first.close()
    second.wait_turn("CreateRoute", key, "", ec2_clock())
    exhaust(first, "DeleteRoute", ec2_clock)
    ec2_clock.ahead += UNSPENT_SECONDS + 1  # nobody closed it
    exhaust(second, "DeleteRoute", ec2_clock)


def test_turn_for_another_action_gives_the_first_back(
    ec2: SimulatedEC2, world: Sample, warm: SharedEc2, ec2_clock: Clock
) -> None:
    view, key = warm.for_call(ec2.region), RouteKey(world.tables["a"], VIP)
    for _ in range(60):
        view.wait_turn("CreateRoute", key, "", ec2_clock())
        view.wait_turn("ReplaceRoute", key, "", ec2_clock())


def test_time_out_of_one_breaks_nobody_elses_call(ec2: SimulatedEC2, world: Sample, warm: SharedEc2) -> None:
    """The pool is dropped while others take connections from it."""
    ec2.faults.hang("CreateRoute", 30, times=3)
    over, failures = threading.Event(), []

    def read_on() -> None:
        while not over.is_set():
            try:
                warm.for_call(ec2.region).interfaces_in([world.subnets["a"]])
                warm.for_call(ec2.region).route_tables({"vpc-id": [world.vpc]})
            except Ec2Error as e:
                failures.append(e)

    threads = [threading.Thread(target=read_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    view = warm.for_call(ec2.region)
    hung = at_once(
        3, lambda n: view.create(RouteKey(world.tables["a"], ip_network(f"10.1.1.{n}/32")), world.enis["a"])
    )
    over.set()
    for thread in threads:
        thread.join()
    assert [e.fault for e in hung] == [Ec2Fault.UNANSWERED] * 3
    assert not failures
    ec2.faults.clear()
    until(lambda: asked(ec2, "CreateRoute") == 3)


def test_warm_has_credentials_connections_and_roles_ready(
    ec2: SimulatedEC2, world: Sample, counts: Counted, ec2_clock: Clock
) -> None:
    roles = {ec2.account: f"arn:aws:iam::{ec2.account}:role/floatip-routes"}
    warm = SharedEc2(NodeConf(roles=roles), counts, ec2_clock)
    assert warm.credentials_problem() is None
    assert not len(ec2.journal)
    warm.warm(ec2.region)
    output = [("DescribeRouteTables", "DryRunOperation"), ("AssumeRole", "ok")]
    assert counts.calls == [*output, output[0]]
    warm.for_call(ec2.region).route_tables({"vpc-id": [world.vpc]}, ec2.account)
    assert asked(ec2, "AssumeRole") == 1


def behind_a_proxy(monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("NO_PROXY", "no_proxy", "AWS_EC2_METADATA_DISABLED", "AWS_EC2_METADATA_SERVICE_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in more.items():
        monkeypatch.setenv(name, value)


def test_a_proxy_that_stands_before_the_credentials_is_named(
    monkeypatch: pytest.MonkeyPatch, ec2: SimulatedEC2, warm: SharedEc2
) -> None:
    """Twice: a failure that is remembered is of the same kind."""
    behind_a_proxy(monkeypatch, HTTP_PROXY="http://somebody:secret@127.0.0.1:9")
    for _ in range(2):
        text = warm.credentials_problem()
        assert text
        assert text.startswith("no AWS credentials: ProxyConnectionError: Failed to connect to proxy URL")
        assert "127.0.0.1:9" in str(text)
        assert "secret" not in str(text)


def test_a_proxy_that_answers_in_the_place_of_instance_metadata_is_named(
    monkeypatch: pytest.MonkeyPatch, ec2: SimulatedEC2, warm: SharedEc2
) -> None:
    behind_a_proxy(
        monkeypatch, HTTP_PROXY=os.environ["AWS_ENDPOINT_URL_EC2"], AWS_METADATA_SERVICE_NUM_ATTEMPTS="1"
    )
    text = warm.credentials_problem()
    assert text == (
        "no AWS credentials found; instance metadata is asked through the proxy"
        f" {os.environ['AWS_ENDPOINT_URL_EC2']}: name 169.254.169.254 in NO_PROXY"
    )
    monkeypatch.setenv("NO_PROXY", "169.254.169.254")
    assert proxied_metadata() is None


@pytest.mark.parametrize(
    ("proxy", "shown"),
    [
        ("http://somebody:se@cret@proxy:3128", "http://proxy:3128"),
        ("somebody:secret@proxy:3128", "proxy:3128"),
        ("proxy:3128", "proxy:3128"),
        ("", ""),
    ],
)
def test_a_proxys_password_is_not_shown(proxy: str, shown: str) -> None:
    assert without_password(proxy) == shown


def test_missing_credentials_are_reported(
    monkeypatch: pytest.MonkeyPatch, ec2: SimulatedEC2, warm: SharedEc2
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert warm.credentials_problem() == "no AWS credentials found"
    with pytest.raises(Ec2Error) as caught:
        warm.warm(ec2.region)
    assert caught.value.fault is Ec2Fault.NOT_SENT


def test_request_that_waits_for_a_role_in_vain_costs_no_turn(
    ec2: SimulatedEC2, world: Sample, counts: Counted, ec2_clock: Clock
) -> None:
    roles = {ec2.account: f"arn:aws:iam::{ec2.account}:role/floatip-routes"}
    view = SharedEc2(NodeConf(roles=roles), counts, ec2_clock).for_call(ec2.region)
    ec2.faults.error("AssumeRole", "AccessDenied", "not you", times=None)
    key = RouteKey(world.tables["a"], VIP)
    for _ in range(120):
        with pytest.raises(Ec2Error, match="AssumeRole"):
            view.wait_turn("CreateRoute", key, ec2.account, ec2_clock())
        with pytest.raises(Ec2Error, match="AssumeRole"):
            view.create(key, world.enis["a"], ec2.account)
    assert asked(ec2, "AssumeRole") <= 3  # a failure is remembered for two seconds


# -- credentials of a role --------------------------------------------------------------------------------


class Wall:
    """The time of day, which can be moved on."""

    ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def owner(ec2: SimulatedEC2, ec2_clock: Clock, wall: Wall) -> Vpc:
    """EC2 in the name of the table owner's role."""
    roles = {ec2.account: f"arn:aws:iam::{ec2.account}:role/floatip-routes"}
    return Vpc(ec2.region, roles, sdk=Sdk(roles, now=wall, clock=ec2_clock))


def test_role_is_assumed_again_before_its_credentials_end(
    ec2: SimulatedEC2, world: Sample, owner: Vpc, wall: Wall
) -> None:
    def read() -> tuple[RouteTable, ...]:
        return owner.route_tables({"vpc-id": [world.vpc]}, ec2.account)

    assert {len(tables) for tables in at_once(8, lambda _: read())} == {4}
    wall.ahead += timedelta(minutes=54)
    assert read()
    assert asked(ec2, "AssumeRole") == 1
    wall.ahead += timedelta(minutes=2)
    assert read()
    assert asked(ec2, "AssumeRole") == 2
    wall.ahead = timedelta()  # to STS no time has passed: what it gave is good from here
    assert read()
    assert asked(ec2, "AssumeRole") == 2


def test_credentials_that_cannot_be_renewed_are_used_to_their_end(
    ec2: SimulatedEC2, world: Sample, owner: Vpc, wall: Wall, ec2_clock: Clock
) -> None:
    def read() -> tuple[RouteTable, ...] | None:
        return owner.route_tables({"vpc-id": [world.vpc]}, ec2.account)

    read()
    ec2.faults.error("AssumeRole", "AccessDenied", "not you", times=None)
    wall.ahead += timedelta(minutes=58)
    for _ in range(5):
        assert read()
    assert asked(ec2, "AssumeRole") == 2  # and is not asked with every call
    ec2.faults.clear()
    ec2_clock.ahead += 3
    assert read()
    assert asked(ec2, "AssumeRole") == 3
    ec2.faults.error("AssumeRole", "AccessDenied", "not you", times=None)
    wall.ahead += timedelta(minutes=3)  # STS counts from the real time
    with pytest.raises(Ec2Error, match="AssumeRole: AccessDenied") as caught:
        read()
    assert caught.value.fault is Ec2Fault.DENIED


def test_credentials_that_are_expired_when_they_come(
    ec2: SimulatedEC2, world: Sample, owner: Vpc, wall: Wall, ec2_clock: Clock
) -> None:
    """This machine's clock is an hour ahead of STS's."""
    owner.route_tables({"vpc-id": [world.vpc]}, ec2.account)
    wall.ahead += timedelta(minutes=61)
    with pytest.raises(Ec2Error, match="still expired") as caught:
        owner.route_tables({"vpc-id": [world.vpc]}, ec2.account)
    assert caught.value.fault is Ec2Fault.DENIED


def test_one_who_waits_for_a_role_keeps_nobody_else_waiting(
    ec2: SimulatedEC2, world: Sample, owner: Vpc
) -> None:
    ec2.faults.hang("AssumeRole", 30)
    waits = threading.Thread(target=at_once, args=(1, lambda _: owner.route_tables({}, ec2.account)))
    waits.start()
    until(lambda: ec2.faults.spent("hang"))
    assert owner.route_tables({"vpc-id": [world.vpc]})
    assert waits.is_alive()
    ec2.faults.clear()
    waits.join()
    until(lambda: asked(ec2, "AssumeRole"))


def test_reads_that_wait_for_a_role_keep_no_other_read_waiting(
    ec2: SimulatedEC2, world: Sample, counts: Counted, ec2_clock: Clock
) -> None:
    """However many wait, although few reads of tables run at once."""
    roles = {ec2.account: f"arn:aws:iam::{ec2.account}:role/floatip-routes"}
    shared = SharedEc2(NodeConf(roles=roles), counts, ec2_clock)
    view, ids = shared.for_call(ec2.region), sorted(world.tables.values())[:AT_ONCE]
    assert view.route_tables({"vpc-id": [world.vpc]})
    ec2.faults.hang("AssumeRole", 30)
    waits = threading.Thread(
        target=at_once,
        args=(AT_ONCE, lambda n: view.route_tables({"route-table-id": [ids[n]]}, ec2.account)),
    )
    waits.start()
    until(lambda: len(shared.single_flight) == AT_ONCE)
    until(lambda: ec2.faults.spent("hang"))
    in_time = shared.for_call(ec2.region, Caller(until=ec2_clock()))  # waits for nothing
    assert in_time.route_tables({"vpc-id": [world.vpc]})
    assert waits.is_alive()
    ec2.faults.clear()
    waits.join()


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL_EC2", "AWS_ENDPOINT_URL"])
def test_endpoint_that_is_no_url(monkeypatch: pytest.MonkeyPatch, ec2: SimulatedEC2, name: str) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_EC2")
    monkeypatch.setenv(name, "ec2.internal")
    with pytest.raises(Ec2Error, match=f"{name}='ec2.internal' is not a URL like https://ec2") as caught:
        Vpc(ec2.region, {}).route_tables({})
    assert caught.value.fault is Ec2Fault.REFUSED
