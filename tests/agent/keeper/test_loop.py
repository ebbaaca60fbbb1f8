"""The keeper at work: real keepers and real records, EC2 in memory, simulated time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.agent.keeper.look import Look
from cni_floatip.agent.keeper.loop import SLEEP_SECONDS
from cni_floatip.model.claim import LATE_SECONDS, Claim
from cni_floatip.model.errors import Ec2Error, Ec2Fault, IoFailure
from cni_floatip.model.recorded_config import RecordedConfig
from cni_floatip.model.values import RouteKey, RouteTarget
from cni_floatip.rules.reconcile import Outage
from tests.support.simulated_cluster import FLOATING, POLICY, SimulatedCluster

GRACE = 60


@pytest.fixture
def three(tmp_path: Path) -> SimulatedCluster:
    return SimulatedCluster(tmp_path, "abc")


def full(claim: object) -> None:
    raise IoFailure("No space left on device")


def lose(cluster: SimulatedCluster, table: str = "rtb-1") -> None:
    del cluster.ec2.tables[table][FLOATING]


class TestALiveClaim:
    def test_mends_at_once_what_is_lost_within_a_minute_of_its_add(self, cluster: SimulatedCluster) -> None:
        cluster.nodes["a"].add()
        lose(cluster)
        cluster.pass_time(4)
        assert cluster.leads() == "eni-a"

    def test_mends_what_is_lost_later(self, cluster: SimulatedCluster) -> None:
        cluster.nodes["a"].add()
        cluster.pass_time(600)
        lose(cluster)
        cluster.pass_time(140)
        assert cluster.leads() == "eni-a"
        assert cluster.nodes["a"].repaired == ["create"]

    def test_looks_as_often_as_designed_and_then_once_a_minute(self, cluster: SimulatedCluster) -> None:
        cluster.nodes["a"].add()
        before = cluster.ec2.reads
        cluster.pass_time(50)
        assert 6 <= cluster.ec2.reads - before <= 8
        before = cluster.ec2.reads
        cluster.pass_time(600)
        assert 9 <= cluster.ec2.reads - before <= 12

    def test_never_takes_back_what_another_node_claimed(self, cluster: SimulatedCluster) -> None:
        robbed = cluster.nodes["a"].add()
        cluster.pass_time(5)
        cluster.nodes["b"].add()
        cluster.pass_time(1000)
        assert cluster.leads() == "eni-b"
        assert cluster.nodes["a"].state(robbed) == "superseded"
        assert sum("superseded" in text for text in cluster.nodes["a"].said) == 1

    def test_comes_back_when_the_other_has_gone_for_good(self, cluster: SimulatedCluster) -> None:
        a, b = cluster.nodes.values()
        old = a.add()
        new = b.add()
        cluster.pass_time(100)
        b.delete(new)
        cluster.pass_time(GRACE + 240)
        assert cluster.leads() == "eni-a"
        assert a.state(old) == "held"

    def test_deletes_anothers_blackhole_and_creates_never_replaces(self, cluster: SimulatedCluster) -> None:
        a, b = cluster.nodes.values()
        a.add()
        b.add()
        cluster.pass_time(100)
        b.up = False
        cluster.ec2.alive -= set(b.enis)
        cluster.ec2.writes.clear()
        cluster.pass_time(300)
        assert cluster.leads() == "eni-a"
        assert cluster.ec2.writes == ["delete rtb-1 192.168.0.2/32", "create rtb-1 192.168.0.2/32 -> eni-a"]

    def test_leaves_a_gateways_route_and_reports_it_once(self, cluster: SimulatedCluster) -> None:
        cluster.nodes["a"].add()
        cluster.pass_time(100)
        cluster.ec2.tables["rtb-1"][FLOATING] = RouteTarget("igw-1", is_eni=False)
        cluster.pass_time(600)
        assert cluster.leads() == "igw-1"
        assert sum("not ours" in text for text in cluster.nodes["a"].said) == 1
        key = RouteKey("rtb-1", FLOATING)
        assert "not ours" in cluster.nodes["a"].keeper.route_reports()[key].error

    def test_says_where_its_route_leads(self, cluster: SimulatedCluster) -> None:
        cluster.nodes["a"].add()
        cluster.pass_time(5)
        report = cluster.nodes["a"].keeper.route_reports()[RouteKey("rtb-1", FLOATING)]
        assert (report.target, report.error) == ("eni-a", "")
        assert 0 <= cluster.now() - report.since <= 5


def test_a_change_wakes_it_only_for_what_is_due_before_its_next_round(cluster: SimulatedCluster) -> None:
    """Each call changes a claim, and a round for nothing would delay its answer."""
    node = cluster.nodes["a"]
    keeper, woken = node.keeper, node.keeper._woken
    woken.clear()
    keeper._wakes_at = cluster.clock() + SLEEP_SECONDS
    pod = node.add()
    assert not woken.is_set(), "an ADD: the first look is due in a second"
    node.delete(pod)
    assert not woken.is_set(), "a DEL: its grace is long"
    claim = node.claims.get(pod)
    assert isinstance(claim, Claim)
    node.claims.put(claim.end_grace())
    assert woken.is_set(), "the end of the grace"
    cluster.pass_time(10)
    assert node.state(pod) == "gone", "what did not wake it is done all the same"


class TestTheEnd:
    def test_the_route_stays_for_its_successor_then_goes(self, cluster: SimulatedCluster) -> None:
        gone = cluster.nodes["a"].add()
        cluster.pass_time(100)
        cluster.nodes["a"].delete(gone)
        cluster.pass_time(GRACE - 2)
        assert cluster.leads() == "eni-a"
        cluster.pass_time(5)
        assert cluster.leads() == ""
        assert cluster.nodes["a"].state(gone) == "gone"

    def test_a_move_replaces_the_route_once(self, cluster: SimulatedCluster) -> None:
        a, b = cluster.nodes.values()
        old = a.add()
        cluster.pass_time(100)
        cluster.ec2.writes.clear()
        a.delete(old)
        cluster.pass_time(20)
        b.add()
        cluster.pass_time(300)
        assert cluster.ec2.writes == ["replace rtb-1 192.168.0.2/32 -> eni-b"]
        assert cluster.leads() == "eni-b"

    def test_a_write_that_lands_late_is_found_and_deleted(self, cluster: SimulatedCluster) -> None:
        gone = cluster.nodes["a"].add()
        cluster.nodes["a"].delete(gone)
        cluster.pass_time(GRACE + 30)
        cluster.ec2.tables["rtb-1"][FLOATING] = RouteTarget("eni-a", is_eni=True)
        cluster.pass_time(140)
        assert cluster.leads() == ""

    def test_it_is_forgotten_when_nothing_can_land_any_more(self, cluster: SimulatedCluster) -> None:
        gone = cluster.nodes["a"].add()
        cluster.nodes["a"].delete(gone)
        cluster.pass_time(LATE_SECONDS)
        assert cluster.nodes["a"].state(gone) == "gone"
        cluster.pass_time(GRACE + 200)
        assert cluster.nodes["a"].state(gone) == "erased"
        reads = cluster.ec2.reads
        cluster.pass_time(1000)
        assert cluster.ec2.reads == reads, "there is nothing to look after"

    def test_on_sigterm_nothing_waits_for_its_grace(self, cluster: SimulatedCluster) -> None:
        gone, live = cluster.nodes["a"].add(), cluster.nodes["a"].add(FLOATING.supernet(8))
        cluster.nodes["a"].delete(gone)
        cluster.nodes["a"].keeper.drain(cluster.clock() + 10)
        assert cluster.leads() == ""
        assert cluster.leads(destination=FLOATING.supernet(8)) == "eni-a"
        assert cluster.nodes["a"].state(live) == "held"

    def test_through_another_eni_of_the_node_it_is_handed_over(self, cluster: SimulatedCluster) -> None:
        a = cluster.nodes["a"]
        stays = a.add(eni=0)
        cluster.pass_time(100)
        goes = a.add(eni=1)
        cluster.pass_time(100)
        assert (cluster.leads(), a.state(stays)) == ("eni-a2", "superseded")
        a.delete(goes)
        cluster.pass_time(GRACE + 5)
        assert (cluster.leads(), a.state(stays)) == ("eni-a", "held")


class TestOutages:
    def test_a_day_without_ec2_is_bounded_work_and_caught_up_with(self, cluster: SimulatedCluster) -> None:
        a = cluster.nodes["a"]
        gone, robbed = a.add(), a.add(FLOATING.supernet(8))
        cluster.pass_time(100)
        cluster.ec2.down = True
        a.delete(gone)
        rounds: list[float] = []
        look = a.keeper._reconciler.check_routes

        def counted(reconcile: float) -> Look:
            rounds.append(reconcile)
            return look(reconcile)

        a.keeper._reconciler.check_routes = counted  # type: ignore[method-assign]
        cluster.pass_time(86400)
        assert len(rounds) < 86400 / 60 * 1.2 + 20
        assert a.state(gone) == "releasing"
        lose_other = FLOATING.supernet(8)
        del cluster.ec2.tables["rtb-1"][lose_other]
        cluster.ec2.down = False
        cluster.pass_time(200)
        assert cluster.leads() == ""
        assert cluster.leads(destination=lose_other) == "eni-a"
        assert a.state(robbed) == "held"

    def test_a_restart_of_the_agent_goes_on_where_it_was(self, cluster: SimulatedCluster) -> None:
        a = cluster.nodes["a"]
        gone = a.add()
        a.delete(gone)
        cluster.pass_time(20)
        a.start()
        cluster.pass_time(GRACE)
        assert cluster.leads() == ""

    def test_throttling_makes_looks_rarer_where_no_route_is_held(self, cluster: SimulatedCluster) -> None:
        cluster.nodes["a"].add()
        cluster.pass_time(5)
        cluster.nodes["b"].add()
        cluster.pass_time(100)
        cluster.nodes["b"].up = False  # and does not count
        before = cluster.ec2.reads
        cluster.ec2.faults = [Ec2Fault.THROTTLED] * 6
        cluster.pass_time(500)
        assert cluster.ec2.reads - before <= 5
        cluster.pass_time(2000)
        before = cluster.ec2.reads
        cluster.pass_time(600)
        assert cluster.ec2.reads - before >= 9

    def test_not_where_one_is(self, cluster: SimulatedCluster) -> None:
        """Else an older pod on a node that is not throttled would mend first (docs/protocol.md)."""
        cluster.nodes["a"].add()
        cluster.pass_time(200)
        for _ in range(4):
            cluster.ec2.faults = [Ec2Fault.THROTTLED] * 6
            before = cluster.ec2.reads
            cluster.pass_time(600)
            assert cluster.ec2.reads - before >= 8

    def test_a_release_that_is_refused_is_not_tried_without_end(self, cluster: SimulatedCluster) -> None:
        a = cluster.nodes["a"]
        gone = a.add()
        a.delete(gone)
        cluster.ec2.refused.add("delete")
        cluster.ec2.writes.clear()
        cluster.pass_time(3600)
        assert 30 <= len(cluster.ec2.writes) <= 130
        cluster.ec2.refused.clear()
        cluster.pass_time(100)
        assert (cluster.leads(), a.state(gone)) == ("", "gone")

    def test_an_end_that_found_the_disk_full_is_written_when_there_is_room(
        self, cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        a = cluster.nodes["a"]
        gone = a.add()
        store = a.claims._store
        monkeypatch.setattr(store, "put", full)
        a.delete(gone)
        cluster.pass_time(GRACE + 30)
        assert (cluster.leads(), a.state(gone)) == ("", "gone")
        monkeypatch.undo()
        cluster.pass_time(70)
        record = store.get(gone)
        assert isinstance(record, Claim)
        assert record.state == "gone"

    def test_one_vpc_that_cannot_be_seen_keeps_no_claims_of_others(self, cluster: SimulatedCluster) -> None:
        a = cluster.nodes["a"]
        strange, usual = a.add(), a.add(FLOATING.supernet(8))
        claim = a.claim(strange)
        routes = tuple(replace(route, account="999988887777") for route in claim.routes)
        a.claims.put(replace(claim, routes=routes))
        cluster.ec2.denied.add("999988887777")
        a.delete(usual)
        cluster.pass_time(LATE_SECONDS + GRACE + 300)
        assert a.state(usual) == "erased"
        assert a.state(strange) == "held"

    def test_a_create_of_the_keeper_that_lands_late_is_not_forgotten(self, cluster: SimulatedCluster) -> None:
        a = cluster.nodes["a"]
        pod = a.add()
        cluster.pass_time(LATE_SECONDS * 2)
        lose(cluster)
        cluster.ec2.lost.add("create")
        cluster.pass_time(200)
        assert "create rtb-1 192.168.0.2/32 -> eni-a" in cluster.ec2.writes[1:]
        a.delete(pod)
        cluster.pass_time(GRACE + 120)
        assert a.state(pod) == "gone"
        cluster.pass_time(LATE_SECONDS - 500)
        cluster.ec2.tables["rtb-1"][FLOATING] = RouteTarget("eni-a", is_eni=True)
        cluster.pass_time(140)
        assert cluster.leads() == ""

    def test_what_nobody_looked_at_was_not_seen_broken(self, cluster: SimulatedCluster) -> None:
        a, b = cluster.nodes.values()
        a.add()
        b.add()
        cluster.pass_time(100)
        lose(cluster)
        cluster.pass_time(2)
        a.up = False
        cluster.pass_time(600)
        assert cluster.leads() == "eni-b"
        lose(cluster)
        a.up = True
        cluster.pass_time(200)
        assert cluster.leads() == "eni-b"

    def test_looks_that_fail_do_not_put_off_what_comes_with_an_ordinary_one(
        self, cluster: SimulatedCluster
    ) -> None:
        a = cluster.nodes["a"]
        chores: list[float] = []
        a.keeper._chores = (lambda: chores.append(cluster.at),)
        a.add()
        cluster.ec2.denied.add("")
        for _ in range(90):
            cluster.pass_time(40)
            claim = a.claims.all()[0][0]
            a.claims.put(claim.hold([route.key for route in claim.routes], cluster.now()))
        assert len(chores) >= 45

    def test_an_answer_without_any_table_is_no_word_about_routes(self, cluster: SimulatedCluster) -> None:
        a = cluster.nodes["a"]
        held = a.add()
        tables, cluster.ec2.tables = cluster.ec2.tables, {}
        cluster.pass_time(600)
        cluster.ec2.tables = tables
        cluster.pass_time(100)
        assert (a.state(held), cluster.leads()) == ("held", "eni-a")


class TestTables:
    def test_a_new_one_joins_by_create(self, cluster: SimulatedCluster) -> None:
        cluster.nodes["a"].add()
        cluster.ec2.tables["rtb-2"] = {}
        cluster.pass_time(160)
        assert cluster.leads("rtb-2") == "eni-a"

    def test_a_new_one_in_which_another_is_active_is_not_replaced(self, cluster: SimulatedCluster) -> None:
        a = cluster.nodes["a"]
        held = a.add()
        cluster.ec2.tables["rtb-2"] = {FLOATING: RouteTarget("eni-b", is_eni=True)}
        cluster.pass_time(600)
        assert cluster.leads("rtb-2") == "eni-b"
        assert a.state(held) == "superseded"

    def test_one_that_no_longer_matches_is_left(self, tmp_path: Path) -> None:
        cluster = SimulatedCluster(tmp_path, tables=("rtb-1", "rtb-2"))
        a = cluster.nodes["a"]
        held = a.add()
        cluster.pass_time(60)
        cluster.ec2.untagged.add("rtb-2")
        cluster.pass_time(200)
        assert (cluster.leads("rtb-1"), cluster.leads("rtb-2")) == ("eni-a", "")
        cluster.pass_time(LATE_SECONDS + 100)
        cluster.ec2.untagged.clear()
        cluster.pass_time(200)
        assert cluster.leads("rtb-2") == "eni-a"
        assert a.state(held) == "held"

    def test_one_that_is_deleted_is_forgotten(self, tmp_path: Path) -> None:
        cluster = SimulatedCluster(tmp_path, tables=("rtb-1", "rtb-2"))
        a = cluster.nodes["a"]
        held = a.add()
        cluster.pass_time(60)
        del cluster.ec2.tables["rtb-2"]
        cluster.pass_time(200)
        claim = a.claim(held)
        assert [route.key.table for route in claim.routes] == ["rtb-1"]

    def test_none_that_matches_is_no_wish_to_be_nowhere(self, cluster: SimulatedCluster) -> None:
        a = cluster.nodes["a"]
        held = a.add()
        cluster.pass_time(60)
        cluster.ec2.untagged.add("rtb-1")
        cluster.pass_time(LATE_SECONDS * 2)
        assert (cluster.leads(), a.state(held)) == ("eni-a", "held")
        assert sum("no route table of vpc-1 matches" in text for text in a.said) == 1

    def test_none_that_policy_allows_any_more_is_no_wish_either(self, tmp_path: Path) -> None:
        cluster = SimulatedCluster(tmp_path, tables=("rtb-1", "rtb-2"))
        a = cluster.nodes["a"]
        held = a.add(tables=["rtb-1"])
        claim = a.claim(held)
        assert claim.config
        a.claims.put(
            replace(
                claim, config=RecordedConfig({**claim.config.document, "routeTables": {"ids": ["rtb-2"]}})
            )
        )
        cluster.ec2.untagged |= {"rtb-1", "rtb-2"}
        cluster.pass_time(LATE_SECONDS * 2)
        assert (cluster.leads(), a.state(held)) == ("eni-a", "held")
        assert sum("no longer in allowedRouteTables" in text for text in a.said) == 1

    def test_a_configuration_of_another_release_stops_nothing(self, cluster: SimulatedCluster) -> None:
        a = cluster.nodes["a"]
        strange, other = a.add(), a.add(FLOATING.supernet(8))
        claim = a.claim(strange)
        assert claim.config
        a.claims.put(replace(claim, config=RecordedConfig({**claim.config.document, "keyOfTheFuture": 1})))
        cluster.pass_time(100)
        for route in (FLOATING, FLOATING.supernet(8)):
            del cluster.ec2.tables["rtb-1"][route]
        cluster.pass_time(200)
        assert cluster.leads() == "eni-a"
        assert cluster.leads(destination=FLOATING.supernet(8)) == "eni-a"
        assert sum("keyOfTheFuture" in text for text in a.said) == 1
        assert a.state(other) == "held"

    def test_one_that_is_deleted_under_a_releasing_claim_is_nobodys(self, tmp_path: Path) -> None:
        cluster = SimulatedCluster(tmp_path, tables=("rtb-1", "rtb-2"))
        a = cluster.nodes["a"]
        gone = a.add()
        a.delete(gone)
        del cluster.ec2.tables["rtb-2"]
        cluster.pass_time(GRACE + 200)
        assert a.state(gone) == "gone"


class TestPodsThatAreGoneWithoutDel:
    def test_are_released_one_a_minute_where_another_namespace_is_seen(
        self, cluster: SimulatedCluster
    ) -> None:
        a = cluster.nodes["a"]
        places = [FLOATING.supernet(new_prefix=n) for n in (31, 30, 29)]
        gone = [a.add(place) for place in places]
        a.add()
        cluster.pass_time(100)
        for attachment in gone:
            a.delete(attachment, message=False)
        cluster.pass_time(70)
        assert sorted(a.state(g) for g in gone) == ["held", "held", "releasing"]
        cluster.pass_time(400)
        assert {a.state(g) for g in gone} == {"gone"}
        assert cluster.leads() == "eni-a"

    def test_nothing_is_released_when_none_can_be_seen(self, cluster: SimulatedCluster) -> None:
        a = cluster.nodes["a"]
        held = [a.add(), a.add(FLOATING.supernet(8))]
        a.netns.clear()
        cluster.pass_time(1000)
        assert {a.state(h) for h in held} == {"held"}
        assert "none of the namespaces of 2 claims" in str(a.keeper.ready_problem())


def test_a_source_dest_check_that_somebody_turned_on_is_turned_off(cluster: SimulatedCluster) -> None:
    cluster.nodes["a"].add()
    cluster.ec2.checks["eni-a"] = True
    cluster.pass_time(70)
    assert cluster.ec2.checks["eni-a"] is False
    assert cluster.nodes["a"].repaired == ["source-dest-check"]


@pytest.mark.parametrize("wanted", ["require", "disable"])
def test_a_source_dest_check_that_stays_on_is_an_outage(tmp_path: Path, wanted: Any) -> None:
    """``require``: it is somebody else's to turn off; ``disable``: EC2 refuses it."""
    cluster = SimulatedCluster(tmp_path)
    node = cluster.nodes["a"]
    node._policy = replace(POLICY, source_dest_check=wanted)
    node.start()
    node.add()
    cluster.pass_time(200)
    (claim,) = node.claims.all()[0]

    def refuse(eni: str) -> None:
        raise Ec2Error(Ec2Fault.DENIED, "ModifyNetworkInterfaceAttribute", "UnauthorizedOperation", eni)

    cluster.ec2.disable_source_dest_check = refuse  # type: ignore[method-assign]
    cluster.ec2.checks["eni-a"] = True
    cluster.pass_time(200)
    assert node.keeper.outage(claim, claim.routes[0]) is Outage.CHECKED
    ended = claim.release(0.0)
    assert node.keeper.outage(ended, ended.routes[0]) is None
    cluster.ec2.checks["eni-a"] = False
    cluster.pass_time(200)
    assert node.keeper.outage(claim, claim.routes[0]) is None
    assert [event for _, event, _ in node.events] == ["source/dest check", "unchecked"]


def test_an_eni_that_loses_its_tag_is_reported_and_its_pods_stay(cluster: SimulatedCluster) -> None:
    held = cluster.nodes["a"].add()
    cluster.ec2.managed.add("eni-a")
    cluster.pass_time(70)
    node = cluster.nodes["a"]
    assert "eni-a has pods, but no longer has the tags of allowedInterfaces" in node.said
    assert node.state(held) == "held"


class TestTheExploration:
    """Traces behind docs/protocol.md ("Why each rule"), played on."""

    def test_t2_an_older_claim_does_not_take_the_route_of_a_third_node(self, three: SimulatedCluster) -> None:
        a, b, c = three.nodes.values()
        a.add()
        b.add()
        three.pass_time(90)
        b.up = False
        three.ec2.alive -= set(b.enis)
        newest = c.add()
        three.pass_time(1000)
        assert three.leads() == "eni-c"
        assert c.state(newest) == "held"

    def test_t3_the_newest_owner_wins_the_re_creation(self, three: SimulatedCluster) -> None:
        a, b, c = three.nodes.values()
        old = a.add()
        three.pass_time(100)
        b.add()
        a.delete(old)
        three.pass_time(30)
        c.add()
        lose(three)  # a late delete of a hits c's route
        three.pass_time(300)
        assert three.leads() == "eni-c"

    def test_t4_the_older_pod_gets_its_route_back_when_the_newer_add_fails(
        self, cluster: SimulatedCluster
    ) -> None:
        a, b = cluster.nodes.values()
        old = a.add()
        cluster.pass_time(100)
        new = b.add()
        b.delete(new)
        cluster.pass_time(GRACE + 60 + 130)
        assert (cluster.leads(), a.state(old)) == ("eni-a", "held")

    @pytest.mark.parametrize("stale", [0, 5, 14])
    def test_a_pod_that_bounces_ends_where_it_was_added_last(
        self, three: SimulatedCluster, stale: int
    ) -> None:
        three.ec2.stale = stale
        a, b, c = three.nodes.values()
        old = a.add()
        for node in (b, a, c, a):
            three.pass_time(3)
            new = node.add()
            three.pass_time(1)
            for owner in (a, b, c):
                owner.delete(old)
            old = new
        three.pass_time(600)
        assert three.leads() == "eni-a"
        assert a.state(new) == "held"
