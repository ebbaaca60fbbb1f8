"""Writes that wait in line for nobody are not sent: a newer ADD wants the same route, or a DEL has come."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cni_floatip import operations
from cni_floatip.agent.ec2.newest_add import NewestAdd
from cni_floatip.agent.ec2.request_queue import ApiAction
from cni_floatip.agent.ec2.shared import Caller, SharedEc2
from cni_floatip.agent.observe.recorder import NullRecorder
from cni_floatip.model.claim_state import State
from cni_floatip.model.errors import CniError, TryAgain
from cni_floatip.model.values import Attachment, RouteTarget
from tests.support.claims import a_claim, a_route
from tests.support.cluster_with_pods import ClusterWithPods
from tests.support.simulated_cluster import FLOATING, POLICY, REGION
from tests.support.waiting import until


class Crowded:
    """A node whose account has used its rate of ReplaceRoute up, and whose route leads elsewhere."""

    def __init__(self, directory: Path) -> None:
        cluster = ClusterWithPods(directory, "a")
        self.ec2 = cluster.ec2
        self.ec2.tables["rtb-1"][FLOATING] = RouteTarget("eni-elsewhere", is_eni=True)
        self.node = cluster.nodes["a"]
        self.wishes = NewestAdd()
        self.node.claims.listen(self.wishes.on_claim)
        self.warm = SharedEc2(POLICY, NullRecorder(), time.monotonic, connect=lambda _: self.ec2)
        self.pool = ThreadPoolExecutor(4)

    def use_up(self, seconds: float) -> None:
        """Let the next turn come after so long."""
        action = ApiAction("", REGION, "ReplaceRoute")
        for _ in range(50 + int(5 * seconds)):
            self.warm.queue.spend(action, self.warm.queue.acquire_at_once(action))

    def call(self, verb: str, attachment: Attachment) -> Future[Any]:
        """Begin a call; an ADD has come as far as the line when this returns."""

        def view(region: str) -> Any:
            caller = Caller(superseded_by=lambda key: self.wishes.superseded_by(attachment, key))
            return self.warm.for_call(region, caller)

        world = replace(self.node.world, clock=time.monotonic, sleep=time.sleep, now=time.time, vpc=view)
        act = operations.add if verb == "ADD" else operations.delete
        waiting = self.warm.queue.waiting()
        done = self.pool.submit(act, self.node.request_of(verb, attachment), world)
        until(lambda: verb != "ADD" or self.warm.queue.waiting() != waiting or done.done())
        return done


@pytest.fixture
def crowded(tmp_path: Path) -> Crowded:
    return Crowded(tmp_path)


def test_the_newest_of_those_who_want_a_route_through_another_eni_writes_it(crowded: Crowded) -> None:
    crowded.use_up(2)
    old, new = crowded.node.pod(FLOATING, 0), crowded.node.pod(FLOATING, 1)
    first, second = crowded.call("ADD", old), crowded.call("ADD", new)
    with pytest.raises(TryAgain, match=f"superseded by a newer ADD, of {new}"):
        first.result(60)
    second.result(60)
    assert crowded.ec2.writes == [f"replace rtb-1 {FLOATING} -> eni-a2"]
    assert crowded.node.state(old) in ("gone", "erased")


def test_those_who_want_it_through_the_same_eni_are_in_nobodys_way(crowded: Crowded) -> None:
    crowded.use_up(1)
    pods = [crowded.node.pod(FLOATING) for _ in range(2)]
    for call in [crowded.call("ADD", pod) for pod in pods]:
        call.result(20)
    assert set(crowded.ec2.writes) == {f"replace rtb-1 {FLOATING} -> eni-a"}


def test_a_del_takes_an_add_out_of_the_line(crowded: Crowded) -> None:
    crowded.use_up(60)
    pod = crowded.node.pod(FLOATING)
    adding = crowded.call("ADD", pod)
    began = time.monotonic()
    crowded.call("DEL", pod).result(60)
    with pytest.raises(CniError, match="deleted"):
        adding.result(60)
    assert time.monotonic() - began < 30, "neither waits until there would have been a turn"
    assert crowded.ec2.writes == []


def test_an_add_of_an_elected_pod_takes_no_turn_from_another(crowded: Crowded) -> None:
    """It writes nothing, so it is no newer writer."""
    elected = a_claim(a_route(State.CLAIMING), container="elected", eni="eni-a2", created_at=2.0, group="")
    plain = a_claim(a_route(State.CLAIMING), container="plain", eni="eni-a", created_at=1.0)
    for claim in (plain, elected):
        crowded.wishes.on_claim(claim.attachment, claim)
    assert crowded.wishes.superseded_by(plain.attachment, plain.routes[0].key) is None


def test_nothing_is_kept_of_adds_that_have_ended(crowded: Crowded) -> None:
    pods = [crowded.node.pod(FLOATING, number % 2) for number in range(4)]
    for pod in pods:
        crowded.call("ADD", pod).result(20)
    assert len(crowded.wishes) == 0
    assert crowded.wishes._claims == {}
