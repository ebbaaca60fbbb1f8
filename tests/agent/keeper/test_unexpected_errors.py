"""What nobody expected in a look: it fails, alone, says so with its traceback, and is tried again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from cni_floatip.agent.keeper import repair
from cni_floatip.agent.keeper.loop import Keeper
from cni_floatip.agent.observe.lines import LineWriter
from cni_floatip.agent.observe.logs import DedupLog, Log
from cni_floatip.agent.observe.recorder import NullRecorder
from cni_floatip.model.claim import Claim
from cni_floatip.model.values import RouteKey
from cni_floatip.rules.reconcile import HELD_PATIENCE
from tests.support.simulated_cluster import FLOATING, SimulatedCluster


class Written:
    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


def explodes(*_: Any, **__: Any) -> Any:
    raise RuntimeError("nobody expected this")


def failing(
    cluster: SimulatedCluster, node: Any, chores: tuple[Callable[[], None], ...] = ()
) -> tuple[Keeper, Written]:
    """Give a node a keeper with a real log."""
    written = Written()
    log = DedupLog(Log({}, LineWriter("info", "json", written)), clock=cluster.now)
    node.keeper = Keeper(
        node.world, NullRecorder(), present=lambda: node.enis, chores=chores, failed=log.failure
    )
    return node.keeper, written


def test_a_look_that_fails_is_tried_again_and_the_rest_is_done(
    cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, done = cluster.nodes["a"], []
    keeper, written = failing(cluster, node, (explodes, lambda: done.append(1)))
    node.add()
    monkeypatch.setattr(node.claims, "flush", explodes)
    cluster.pass_time(300)
    assert "nobody expected this" in str(keeper.ready_problem())
    assert written.text.count("in explodes") <= 4, "said with its traceback, and not with each look"
    assert done, "a chore is done although a look and another chore fail"
    monkeypatch.undo()
    del cluster.ec2.tables["rtb-1"][FLOATING]
    cluster.pass_time(400)
    assert cluster.leads() == "eni-a"


def test_what_failed_is_said_until_the_same_part_goes_well(cluster: SimulatedCluster) -> None:
    """The looks right after an ADD do no chores: that they go well says nothing of one."""
    node, works = cluster.nodes["a"], [False]
    keeper, _ = failing(cluster, node, (lambda: None if works[0] else explodes(),))
    node.claims.listen(keeper.on_claim_change)
    cluster.pass_time(200)
    assert "nobody expected this" in str(keeper.ready_problem())
    node.add()
    for _ in range(20):
        cluster.pass_time(2)
        assert "nobody expected this" in str(keeper.ready_problem())
    works[0] = True
    cluster.pass_time(200)
    assert keeper.ready_problem() is None


def test_the_other_groups_are_looked_after_while_one_fails(
    cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, other = cluster.nodes["a"], ip_network("192.168.0.3/32")
    keeper, _ = failing(cluster, node)
    node.add()
    claim = node.claims.get(node.add(other))
    assert isinstance(claim, Claim)
    routes = tuple(replace(route, account="222233334444") for route in claim.routes)
    node.claims.put(replace(claim, routes=routes))
    answer = type(cluster.ec2).route_tables

    def tables(self: Any, filters: Any, account: str = "") -> Any:
        return answer(self, filters, account) if account else explodes()

    monkeypatch.setattr(type(cluster.ec2), "route_tables", tables)
    del cluster.ec2.tables["rtb-1"][FLOATING]
    del cluster.ec2.tables["rtb-1"][other]
    cluster.pass_time(400)
    assert "nobody expected this" in str(keeper.ready_problem())
    assert cluster.leads(destination=other) == "eni-a"
    assert cluster.leads() == ""


def test_a_group_that_failed_is_tried_again(
    cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = cluster.nodes["a"]
    keeper, written = failing(cluster, node)
    node.add()
    answer = type(cluster.ec2).route_tables
    bad = True

    def tables(self: Any, filters: Any, account: str = "") -> Any:
        return explodes() if bad else answer(self, filters, account)

    monkeypatch.setattr(type(cluster.ec2), "route_tables", tables)
    cluster.pass_time(200)
    assert "nobody expected this" in str(keeper.ready_problem())
    assert '"level": "error"' in written.text
    bad = False
    cluster.pass_time(200)
    assert keeper.ready_problem() is None


def test_a_repair_that_fails_does_not_put_off_the_others(
    cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A route that is lost beside it is mended when patience ends, not at some later look."""
    node, other = cluster.nodes["a"], ip_network("192.168.0.3/32")
    keeper, _ = failing(cluster, node)
    ended = node.add()
    node.add(other)
    monkeypatch.setattr(repair, "release", explodes)
    node.delete(ended)
    cluster.pass_time(1000)
    assert "nobody expected this" in str(keeper.ready_problem())
    assert keeper.last_look() < cluster.now() - 900, "a look in which something failed is not complete"
    del cluster.ec2.tables["rtb-1"][other]
    lost = RouteKey("rtb-1", other)
    while keeper.route_reports()[lost].target:
        cluster.pass_time(1)
    cluster.pass_time(HELD_PATIENCE + 2)
    assert cluster.leads(destination=other) == "eni-a"
    assert node.state(ended) == "releasing", "it is tried again, and its record stays"
