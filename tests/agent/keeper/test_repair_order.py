"""Who mends first, and when: the newest owner, as soon as it has been patient, whatever the looks' gap is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cni_floatip.config.nodeconf import NodeConf
from cni_floatip.model.errors import Ec2Error, Ec2Fault
from cni_floatip.model.values import RouteKey, RouteTarget
from tests.support.simulated_cluster import FLOATING, SimulatedCluster, SimulatedNode

GRACE = 60
SEEDS = 10


def policy(**keys: Any) -> NodeConf:
    return NodeConf.parse(
        {
            "allowedDestinations": [{"cidr": "192.168.0.0/16"}],
            "allowedRouteTables": {"tags": {"floatip": "yes"}},
            **keys,
        }
    )


def cluster_of(directory: Path, seed: int, reconcile: float = 60) -> SimulatedCluster:
    given = policy(reconcileSeconds=reconcile)

    class Node(SimulatedNode):
        def __init__(self, cluster: SimulatedCluster, name: str, directory: Path) -> None:
            super().__init__(cluster, name, directory, given)

    cluster = SimulatedCluster(directory / str(seed), node=Node)
    cluster.random.seed(seed)
    return cluster


def lose(cluster: SimulatedCluster) -> None:
    """Delete the route by a third hand."""
    del cluster.ec2.tables["rtb-1"][FLOATING]


def until_mended(cluster: SimulatedCluster, seconds: float = 600) -> float:
    began = cluster.at
    while not cluster.leads() and cluster.at < began + seconds:
        cluster.pass_time(0.5)
    return cluster.at - began


class TestOfTwoLivePods:
    @pytest.mark.parametrize("reconcile", [5, 10, 20, 30, 60])
    def test_the_newest_mends_whatever_the_gap_between_looks_is(self, tmp_path: Path, reconcile: int) -> None:
        for seed in range(SEEDS):
            cluster = cluster_of(tmp_path, seed, reconcile)
            a, b = cluster.nodes.values()
            a.add()
            cluster.pass_time(200)
            b.add()
            cluster.pass_time(200 + seed)
            lose(cluster)
            until_mended(cluster)
            assert cluster.leads() == "eni-b", f"seed {seed}"

    @pytest.mark.parametrize("before", [3, 150], ids=["as it is lost", "before it is lost"])
    def test_the_newest_mends_though_its_looks_are_throttled(self, tmp_path: Path, before: int) -> None:
        for seed in range(SEEDS):
            cluster = cluster_of(tmp_path, seed)
            a, b = cluster.nodes.values()
            a.add()
            cluster.pass_time(200)
            b.add()
            cluster.pass_time(200 + 3 * seed)
            throttle(b, 5)
            cluster.pass_time(before)
            lose(cluster)
            until_mended(cluster, 1500)
            assert cluster.leads() == "eni-b", f"seed {seed}"


def throttle(node: SimulatedNode, times: int) -> None:
    """Let the node's next looks be refused for the account's request rate."""
    real, left = node.ec2, [times]

    class Throttled:
        def __getattr__(self, name: str) -> Any:
            return getattr(real(), name)

        def route_tables(self, *args: Any) -> Any:
            if left[0]:
                left[0] -= 1
                raise Ec2Error(Ec2Fault.THROTTLED, "DescribeRouteTables", "RequestLimitExceeded", "planted")
            return real().route_tables(*args)

    node.ec2 = Throttled  # type: ignore[method-assign,assignment]


def test_a_route_is_mended_when_patience_ends_not_a_look_later(tmp_path: Path) -> None:
    took = []
    for seed in range(SEEDS):
        cluster = cluster_of(tmp_path, seed)
        cluster.nodes["a"].add()
        cluster.pass_time(200 + 3 * seed)
        lose(cluster)
        took.append(until_mended(cluster))
    assert min(took) >= 30
    assert max(took) <= 30 + 66 + 3, "one gap between looks, patience, and the rounding of both"


def test_what_a_dead_node_left_goes_when_the_patience_of_the_one_behind_it_ends(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path, 1)
    a, b = cluster.nodes.values()
    a.add()
    b.add()
    cluster.pass_time(200)
    b.up = False
    cluster.ec2.alive -= set(b.enis)
    began = cluster.at
    while cluster.leads() != "eni-a" and cluster.at < began + 600:
        cluster.pass_time(0.5)
    assert cluster.at - began <= 120 + 66 + 4


class TestSupersededIsSaidWhenItIsSo:
    @pytest.mark.parametrize("stale", [0, 2, 5])
    def test_not_in_an_ordinary_move_with_stale_reads(self, tmp_path: Path, stale: int) -> None:
        for seed in range(SEEDS):
            cluster = cluster_of(tmp_path, seed)
            cluster.ec2.random.seed(seed)
            a, b = cluster.nodes.values()
            old = a.add()
            cluster.pass_time(300)
            a.delete(old)
            cluster.pass_time(20)
            cluster.ec2.stale = stale
            b.add()
            cluster.pass_time(120)
            assert b.superseded == 0, f"seed {seed}"
            assert not any("superseded" in text for text in b.said)

    @pytest.mark.parametrize("after", [0.5, 5, 300], ids=["at once", "soon", "later"])
    def test_once_when_another_takes_it(self, tmp_path: Path, after: float) -> None:
        cluster = cluster_of(tmp_path, 1)
        a, b = cluster.nodes.values()
        a.add()
        cluster.pass_time(after)
        b.add()
        cluster.pass_time(300)
        assert (a.superseded, sum("superseded" in text for text in a.said)) == (1, 1)
        a.start()  # a restart does not say it again
        cluster.pass_time(300)
        assert a.superseded == 1

    def test_again_when_it_was_given_back_and_taken_again(self, tmp_path: Path) -> None:
        cluster = cluster_of(tmp_path, 1)
        a, b = cluster.nodes.values()
        a.add()
        cluster.pass_time(100)
        new = b.add()
        cluster.pass_time(100)
        b.delete(new)
        cluster.pass_time(GRACE + 240)
        assert cluster.leads() == "eni-a"
        b.add()
        cluster.pass_time(100)
        assert a.superseded == 2


class TestGrace:
    """A pod that restarts on its node and then moves: the first claim has ended before (U5)."""

    @pytest.mark.parametrize("between", [5, 75, 500])
    def test_holds_though_the_node_had_the_address_before(self, tmp_path: Path, between: int) -> None:
        cluster = cluster_of(tmp_path, 1)
        a = cluster.nodes["a"]
        first = a.add()
        cluster.pass_time(100)
        a.delete(first)
        cluster.pass_time(2)
        second = a.add()
        cluster.pass_time(between)
        a.delete(second)
        cluster.pass_time(GRACE - 2)
        assert cluster.leads() == "eni-a"
        cluster.pass_time(6)
        assert cluster.leads() == ""
        cluster.pass_time(100)
        assert {a.state(first), a.state(second)} == {"gone"}

    def test_holds_on_the_nodes_other_eni_too(self, tmp_path: Path) -> None:
        cluster = cluster_of(tmp_path, 1)
        a = cluster.nodes["a"]
        stays = a.add(eni=0)
        first = a.add(eni=1)
        cluster.pass_time(100)
        a.delete(first)
        cluster.pass_time(2)
        second = a.add(eni=1)
        cluster.pass_time(5)
        a.delete(second)
        cluster.pass_time(GRACE - 2)
        assert cluster.leads() == "eni-a2"
        cluster.pass_time(6)
        assert (cluster.leads(), a.state(stays)) == ("eni-a", "held")

    def test_holds_against_an_add_that_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It takes back at once what it wrote, but not what another pod's grace keeps."""
        cluster = SimulatedCluster(tmp_path, "a", ("rtb-1", "rtb-2"))
        a = cluster.nodes["a"]
        first = a.add()
        cluster.pass_time(100)
        a.delete(first)
        cluster.pass_time(2)
        real = cluster.ec2.replace

        def replace(key: RouteKey, eni: str, account: str = "") -> None:
            if key.table == "rtb-2":
                raise Ec2Error(Ec2Fault.DENIED, "ReplaceRoute", "UnauthorizedOperation", "planted")
            real(key, eni, account)

        monkeypatch.setattr(cluster.ec2, "replace", replace)
        with pytest.raises(TimeoutError):
            a.add()
        cluster.pass_time(GRACE - 5)
        assert [cluster.leads(table) for table in ("rtb-1", "rtb-2")] == ["eni-a", "eni-a"]
        cluster.pass_time(10)
        assert [cluster.leads(table) for table in ("rtb-1", "rtb-2")] == ["", ""]

    def test_ends_with_sigterm_for_all(self, tmp_path: Path) -> None:
        cluster = cluster_of(tmp_path, 1)
        a = cluster.nodes["a"]
        for pod in (a.add(), a.add()):
            a.delete(pod)
        a.keeper.drain(cluster.clock() + 10)
        assert cluster.leads() == ""


class TestAPolicyThatHasNarrowed:
    TWO = ("rtb-1", "rtb-2")

    def narrowed(self, directory: Path, **keys: Any) -> tuple[SimulatedCluster, SimulatedNode]:
        cluster = SimulatedCluster(directory, "a", self.TWO)
        a = cluster.nodes["a"]
        a.add()
        cluster.pass_time(200)
        a._policy = policy(**keys)
        a.start()
        cluster.pass_time(200)
        cluster.ec2.writes.clear()
        return cluster, a

    def test_a_table_that_it_does_not_give_any_more_is_not_written(self, tmp_path: Path) -> None:
        cluster, a = self.narrowed(tmp_path, allowedRouteTables={"ids": ["rtb-1"]})
        for table in self.TWO:
            del cluster.ec2.tables[table][FLOATING]
        cluster.pass_time(300)
        assert cluster.ec2.writes == ["create rtb-1 192.168.0.2/32 -> eni-a"]
        assert sum("policy does not give it" in text for text in a.said) == 1
        wrong = [report.error for report in a.keeper.route_reports().values() if report.error]
        assert len(wrong) == 1
        assert "policy does not give it any more: not mended" in wrong[0]

    def test_nor_is_a_blackhole_removed_from_it(self, tmp_path: Path) -> None:
        cluster, _ = self.narrowed(tmp_path, allowedRouteTables={"ids": ["rtb-1"]})
        cluster.ec2.tables["rtb-2"][FLOATING] = RouteTarget("eni-dead", is_eni=True)
        cluster.pass_time(600)
        assert cluster.ec2.writes == []

    def test_a_destination_that_it_does_not_give_any_more_is_not_written(self, tmp_path: Path) -> None:
        cluster, _ = self.narrowed(tmp_path, allowedDestinations=[{"cidr": "10.0.0.0/8"}])
        for table in self.TWO:
            del cluster.ec2.tables[table][FLOATING]
        cluster.pass_time(400)
        assert cluster.ec2.writes == []

    def test_nor_one_that_it_gives_to_other_namespaces(self, tmp_path: Path) -> None:
        entry = {"cidr": "192.168.0.0/16", "namespaces": ["other"]}
        cluster, _ = self.narrowed(tmp_path, allowedDestinations=[entry])
        del cluster.ec2.tables["rtb-1"][FLOATING]
        cluster.pass_time(400)
        assert cluster.ec2.writes == []

    def test_what_works_stays_and_goes_with_its_pod(self, tmp_path: Path) -> None:
        cluster, a = self.narrowed(tmp_path, allowedRouteTables={"ids": ["rtb-1"]})
        assert cluster.leads("rtb-2") == "eni-a"
        a.delete(a.claims.all()[0][0].attachment)
        cluster.pass_time(GRACE + 5)
        assert cluster.leads("rtb-2") == ""

    def test_a_route_is_not_handed_over_in_such_a_table(self, tmp_path: Path) -> None:
        cluster = SimulatedCluster(tmp_path, "a", self.TWO)
        a = cluster.nodes["a"]
        a.add(eni=0)
        cluster.pass_time(100)
        goes = a.add(eni=1)
        cluster.pass_time(100)
        a._policy = policy(allowedRouteTables={"ids": ["rtb-1"]})
        a.start()
        a.delete(goes)
        cluster.pass_time(GRACE + 200)
        assert (cluster.leads("rtb-1"), cluster.leads("rtb-2")) == ("eni-a", "")
