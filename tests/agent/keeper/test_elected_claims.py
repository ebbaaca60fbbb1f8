"""The keeper beside an election: it looks, keeps the list of tables, and writes nothing for elected pods."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cni_floatip.config import election
from cni_floatip.model.claim import LATE_SECONDS
from cni_floatip.model.errors import Ec2Fault
from cni_floatip.model.values import RouteKey, RouteTarget
from cni_floatip.operations.election import NoElections
from tests.support.elected_cluster import ElectedCluster, ElectedNode
from tests.support.simulated_cluster import FLOATING, POLICY

GRACE = 60
TABLES = ("rtb-1", "rtb-2")
KEYS = [RouteKey(table, FLOATING) for table in TABLES]


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ElectedCluster:
    monkeypatch.setattr(election, "RELEASED", True)
    return ElectedCluster(tmp_path, tables=TABLES)


def point(group: ElectedCluster, target: RouteTarget | None) -> None:
    for routes in group.ec2.tables.values():
        routes.pop(FLOATING, None)
        if target:
            routes[FLOATING] = target
    group.ec2.writes.clear()


TARGETS = {
    "nothing": None,
    "another ENI": RouteTarget("eni-b", is_eni=True),
    "a blackhole": RouteTarget("eni-dead", is_eni=True),
    "a gateway": RouteTarget("igw-1", is_eni=False),
    "its own ENI": RouteTarget("eni-a", is_eni=True),
    "its node's other ENI": RouteTarget("eni-a2", is_eni=True),
}


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_a_standby_is_left_alone_whatever_its_routes_do(
    group: ElectedCluster, target: RouteTarget | None
) -> None:
    a = group.nodes["a"]
    pod = a.add_elected()
    point(group, target)
    group.pass_time(1000)
    assert (group.ec2.writes, a.state(pod), a.events) == ([], "standby", [])
    assert all(a.keeper.outage(a.claim(pod), route) is None for route in a.claim(pod).routes)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_what_an_active_lacks_is_shown_and_left_to_its_election(
    group: ElectedCluster, target: RouteTarget | None
) -> None:
    a = group.nodes["a"]
    pod = a.add_elected()
    group.elect(a, pod)
    group.pass_time(100)
    point(group, target)
    group.pass_time(1000)
    assert (group.ec2.writes, a.state(pod)) == ([], "active")
    outages = {str(a.keeper.outage(a.claim(pod), route)) for route in a.claim(pod).routes}
    expected = {
        "nothing": "absent",
        "another ENI": "superseded",
        "a blackhole": "blackhole",
        "a gateway": "not an ENI",
        "its own ENI": "None",
        "its node's other ENI": "superseded",
    }
    assert outages == {expected[next(name for name, t in TARGETS.items() if t == target)]}


def test_the_election_hears_what_each_look_shows(group: ElectedCluster) -> None:
    a = group.nodes["a"]
    a.add_elected(routeTables={"all": True})
    point(group, TARGETS["another ENI"])
    group.ec2.untagged.add("rtb-2")
    began = group.clock()
    group.pass_time(70)
    look = a.election.looks[-1]
    assert (look.region, look.account, look.vpc, look.fault) == ("eu-central-1", "", "vpc-1", None)
    assert began <= look.began <= group.clock()
    assert look.routes == dict.fromkeys(KEYS, TARGETS["another ENI"])
    assert look.withheld == {"rtb-2"}


def test_the_election_hears_of_each_look_that_fails(group: ElectedCluster) -> None:
    a = group.nodes["a"]
    a.add_elected()
    group.pass_time(70)
    a.election.looks.clear()
    group.ec2.down = True
    group.pass_time(70)
    assert a.election.looks
    assert {look.fault for look in a.election.looks} == {Ec2Fault.NOT_SENT}
    assert not any(look.routes for look in a.election.looks)


def test_a_node_without_elected_claims_tells_nothing(group: ElectedCluster) -> None:
    a = group.nodes["a"]
    a.add_pod(FLOATING)
    group.pass_time(200)
    group.ec2.down = True
    group.pass_time(200)
    assert a.election.looks == []


@pytest.fixture
def seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ElectedCluster:
    """A cluster whose nodes look each five minutes."""
    monkeypatch.setattr(election, "RELEASED", True)
    policy = replace(POLICY, reconcile_seconds=300)

    class SeldomNode(ElectedNode):
        def __init__(self, cluster: ElectedCluster, name: str, directory: Path) -> None:
            super().__init__(cluster, name, directory, policy)

    class SeldomCluster(ElectedCluster):
        node = SeldomNode  # type: ignore[assignment]

    return SeldomCluster(tmp_path, "a")


def test_a_node_with_a_standby_looks_each_minute(seldom: ElectedCluster) -> None:
    seldom.nodes["a"].add_elected()
    seldom.pass_time(300)
    before = seldom.ec2.reads
    seldom.pass_time(600)
    assert 10 <= seldom.ec2.reads - before <= 12


def test_its_looks_are_not_stretched_while_ec2_throttles(group: ElectedCluster) -> None:
    a = group.nodes["a"]
    a.add_elected()
    group.pass_time(100)
    group.ec2.faults = [Ec2Fault.THROTTLED] * 5
    group.pass_time(30)
    assert not group.ec2.faults
    a.election.looks.clear()
    group.pass_time(600)
    assert len(a.election.looks) >= 10


def test_after_a_failed_look_it_looks_each_five_seconds(seldom: ElectedCluster) -> None:
    a = seldom.nodes["a"]
    a.add_elected()
    seldom.pass_time(100)
    seldom.ec2.down = True
    seldom.pass_time(200)
    a.election.looks.clear()
    seldom.pass_time(100)
    assert 19 <= len(a.election.looks) <= 22


def test_a_plain_node_looks_as_seldom_as_before(seldom: ElectedCluster) -> None:
    seldom.nodes["a"].add_pod(FLOATING)
    seldom.pass_time(300)
    before = seldom.ec2.reads
    seldom.pass_time(600)
    assert seldom.ec2.reads - before <= 3


def test_it_looks_at_once_after_the_add_of_a_standby(seldom: ElectedCluster) -> None:
    """Its pod is fit only once EC2 has answered."""
    a = seldom.nodes["a"]
    seldom.pass_time(100)
    a.add_elected()
    seldom.pass_time(1)
    assert len(a.election.looks) == 1


def test_an_election_gets_a_look_when_it_wants_one(seldom: ElectedCluster) -> None:
    a = seldom.nodes["a"]
    a.add_elected()
    seldom.pass_time(100)
    a.election.looks.clear()
    a.keeper.look_soon()
    seldom.pass_time(1)
    assert len(a.election.looks) == 1


@pytest.mark.parametrize(("active", "state"), [(False, "standby"), (True, "active")])
def test_it_joins_tables_that_came_later(group: ElectedCluster, state: str, *, active: bool) -> None:
    a = group.nodes["a"]
    group.ec2.untagged.add("rtb-2")
    pod = a.add_elected()
    if active:
        group.elect(a, pod)
    group.ec2.untagged.clear()
    group.ec2.writes.clear()
    group.pass_time(70)
    states = {route.key.table: route.state.value for route in a.claim(pod).routes}
    assert states == dict.fromkeys(TABLES, state)
    assert {key.table for key in a.election.looks[-1].routes} == set(TABLES)
    assert group.ec2.writes == []


def test_a_standby_leaves_a_table_without_a_delete(group: ElectedCluster) -> None:
    a = group.nodes["a"]
    pod = a.add_elected()
    group.elect(a, pod)
    a.step_back(pod)
    group.holder = ""
    group.ec2.untagged.add("rtb-2")
    group.ec2.writes.clear()
    group.pass_time(200)
    assert [route.key.table for route in a.claim(pod).routes] == ["rtb-1"]
    assert (group.ec2.writes, group.leads("rtb-2")) == ([], "eni-a")


@pytest.mark.parametrize(("holds", "leads"), [(True, ""), (False, "eni-a")])
def test_an_active_deletes_what_it_leaves_while_it_holds_its_group(
    group: ElectedCluster, leads: str, *, holds: bool
) -> None:
    a = group.nodes["a"]
    pod = a.add_elected()
    group.elect(a, pod)
    if not holds:
        group.holder = "another"
    group.ec2.untagged.add("rtb-2")
    group.pass_time(200)
    assert (group.leads("rtb-1"), group.leads("rtb-2")) == ("eni-a", leads)
    states = {route.key.table: route.state.value for route in a.claim(pod).routes}
    assert (states.pop("rtb-2", "gone"), states) == ("gone", {"rtb-1": "active"})


# -- beside plain claims ------------------------------------------------------------------------------------


@pytest.mark.parametrize("eni", [0, 1])
def test_a_plain_pod_here_never_takes_the_route_of_an_elected_one(group: ElectedCluster, eni: int) -> None:
    a = group.nodes["a"]
    plain = a.add_pod(FLOATING, eni)
    pod = a.add_elected()
    group.elect(a, pod)
    group.ec2.writes.clear()
    group.pass_time(1000)
    point(group, None)
    group.pass_time(1000)
    assert (group.ec2.writes, a.state(pod)) == ([], "active")
    assert plain
    assert a.state(plain) in ("held", "superseded")


@pytest.mark.parametrize("eni", [0, 1])
def test_a_plain_pod_that_ends_deletes_nothing_of_an_elected_one(group: ElectedCluster, eni: int) -> None:
    a = group.nodes["a"]
    plain = a.add_pod(FLOATING, eni)
    pod = a.add_elected()
    group.elect(a, pod)
    assert plain
    a.end_pod(plain)
    group.ec2.writes.clear()
    group.pass_time(GRACE + 10)
    a.step_back(pod)  # offered, and nobody has taken it yet
    group.pass_time(600)
    assert (group.ec2.writes, group.leads()) == ([], "eni-a")


def test_a_plain_pod_beside_a_standby_is_kept_as_before(group: ElectedCluster) -> None:
    a = group.nodes["a"]
    plain = a.add_pod(FLOATING)
    a.add_elected(1)
    group.pass_time(100)
    point(group, None)
    group.pass_time(200)
    assert group.leads() == "eni-a"
    assert plain
    a.end_pod(plain)
    group.pass_time(GRACE + 10)
    assert group.leads() == ""


# -- the end ------------------------------------------------------------------------------------------------


def test_the_route_of_an_active_that_ended_stays_until_its_election_is_done(group: ElectedCluster) -> None:
    a = group.nodes["a"]
    pod = a.add_elected()
    group.elect(a, pod)
    a.end_pod(pod)
    group.ec2.writes.clear()
    group.pass_time(3 * LATE_SECONDS)
    assert (group.ec2.writes, group.leads(), a.state(pod)) == ([], "eni-a", "releasing")
    group.empty(a, pod)
    assert (group.leads(), a.state(pod)) == ("", "gone")
    group.pass_time(LATE_SECONDS + 100)
    assert a.state(pod) == "erased"


def test_a_plain_pod_here_does_not_take_what_nobody_has_taken_yet(group: ElectedCluster) -> None:
    a = group.nodes["a"]
    plain = a.add_pod(FLOATING, 1)
    pod = a.add_elected()
    group.elect(a, pod)
    a.end_pod(pod)
    group.ec2.writes.clear()
    group.pass_time(600)
    assert (group.ec2.writes, group.leads(), a.state(pod)) == ([], "eni-a", "releasing")
    group.empty(a, pod)
    group.pass_time(300)
    assert group.leads() == "eni-a2"
    assert plain


def test_what_another_pod_has_taken_is_forgotten_without_a_write(group: ElectedCluster) -> None:
    a, b = group.nodes.values()
    pod, standby = a.add_elected(), b.add_elected()
    group.elect(a, pod)
    a.end_pod(pod)
    group.elect(b, standby)
    group.ec2.writes.clear()
    group.pass_time(GRACE + 70)
    assert (group.ec2.writes, group.leads(), a.state(pod)) == ([], "eni-b", "gone")
    point(group, TARGETS["its own ENI"])  # a write of ours lands late: the active's agent mends it
    group.pass_time(LATE_SECONDS + 100)
    assert (group.ec2.writes, a.state(pod)) == ([], "erased")


def test_an_ending_agent_releases_nothing_of_an_election(group: ElectedCluster) -> None:
    a = group.nodes["a"]
    pod = a.add_elected()
    group.elect(a, pod)
    a.end_pod(pod)
    before = a.claim(pod)
    a.keeper.drain(group.clock() + 20)
    assert (group.leads(), a.claim(pod)) == ("eni-a", before)


def test_a_standby_whose_pod_is_gone_without_del_ends_locally(group: ElectedCluster) -> None:
    a = group.nodes["a"]
    a.add_pod(group.destination(9))  # another namespace is evidence
    pod = a.add_elected()
    group.ec2.writes.clear()
    a.end_pod(pod, message=False)
    group.pass_time(200)
    assert (a.state(pod), group.ec2.writes) == ("erased", [])


def test_without_elections_nothing_of_it_is_written_or_forgotten(group: ElectedCluster) -> None:
    a = group.nodes["a"]
    pod = a.add_elected()
    group.elect(a, pod)
    a.world = replace(a.world, election=NoElections())
    object.__setattr__(a.keeper._world, "election", NoElections())
    point(group, None)
    group.pass_time(600)
    assert (group.ec2.writes, a.state(pod)) == ([], "active")
    a.end_pod(pod)
    group.pass_time(600)
    assert (group.ec2.writes, a.state(pod)) == ([], "releasing")
