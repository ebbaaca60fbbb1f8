"""What ends a call that waits for EC2: its client, its pod, a DEL for its attachment."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass
from dataclasses import field as factory
from pathlib import Path

import pytest

from cni_floatip.agent.claim_cache import ClaimCache
from cni_floatip.agent.ec2.ratelimit import Priority
from cni_floatip.agent.ec2.request_queue import ApiAction
from cni_floatip.agent.main import Agent
from cni_floatip.agent.observe import lines, logs
from cni_floatip.agent.server.cancellation import PATH_SECONDS, Cancellation
from cni_floatip.agent.server.connection import Connection
from cni_floatip.config.nodeconf import NodeConf
from cni_floatip.edges.store import Store
from cni_floatip.model.claim import Claim
from cni_floatip.model.errors import TryAgain
from cni_floatip.model.values import Attachment, PodIdentity
from cni_floatip.protocol.request import Request
from tests.support.claims import a_claim
from tests.support.waiting import until

WHO = Attachment("net", "c1", "net1")
ADD = Request("ADD", "1.0.0", WHO, "/run/netns/web", {}, PodIdentity("core", "web", "uid"))


def record(created: float) -> Claim:
    return a_claim(attachment=WHO, created_at=created)


@dataclass
class Scene:
    """The world as an ADD's end sees it."""

    claims: ClaimCache
    at: float = 1000.0
    client: str = ""
    inodes: list[int] = factory(default_factory=lambda: [7])
    looks: int = 0

    def now(self) -> float:
        return self.at

    def clock(self) -> float:
        return self.at

    def inode(self, _: str) -> int:
        self.looks += 1
        return self.inodes[-1]

    def ends(self) -> Cancellation:
        return Cancellation(ADD, lambda: self.client, self)  # type: ignore[arg-type]


@pytest.fixture
def cancelled_add(tmp_path: Path) -> Scene:
    return Scene(ClaimCache(Store(str(tmp_path), sleep=time.sleep, clock=time.monotonic), time.time))


def test_a_call_goes_on_for_its_client_and_its_pod(cancelled_add: Scene) -> None:
    ends = cancelled_add.ends()
    cancelled_add.claims.put(record(cancelled_add.at))
    cancelled_add.at += 100
    assert ends.reason() is None
    cancelled_add.client = "the client is gone"
    assert ends.reason() == "the client is gone"


def test_a_del_ends_it_whatever_was_recorded_before(cancelled_add: Scene) -> None:
    ends = cancelled_add.ends()
    cancelled_add.at += 1
    cancelled_add.claims.put(record(cancelled_add.at).release(0.0, cancelled_add.at))
    assert ends.reason() == f"{WHO} was deleted meanwhile"


def test_a_del_that_came_before_the_call_does_not_end_it(cancelled_add: Scene) -> None:
    cancelled_add.claims.put(record(cancelled_add.at).release(0.0, cancelled_add.at))
    cancelled_add.at += 1
    assert cancelled_add.ends().reason() is None


def test_a_namespace_that_is_gone_ends_it_though_the_client_lives(cancelled_add: Scene) -> None:
    ends = cancelled_add.ends()
    cancelled_add.inodes.append(0)
    cancelled_add.at += 2 * PATH_SECONDS
    assert ends.reason() == f"the pod's namespace {ADD.netns} is gone"
    cancelled_add.inodes.append(7)
    assert ends.reason(), "it does not come back"


def test_the_namespace_is_looked_at_a_few_times_a_second_at_most(cancelled_add: Scene) -> None:
    ends = cancelled_add.ends()
    before = cancelled_add.looks
    for _ in range(1000):
        cancelled_add.at += 0.001
        ends.reason()
    assert cancelled_add.looks - before <= 4


def test_a_namespace_that_is_not_to_be_seen_from_here_ends_nothing(cancelled_add: Scene) -> None:
    cancelled_add.inodes.append(0)
    ends = cancelled_add.ends()
    cancelled_add.at += 1
    assert ends.reason() is None


def test_a_del_wakes_an_add_that_waits_for_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cni_floatip.model.waiting.STEP_SECONDS", 60.0)
    policy = NodeConf.parse({"dataDir": str(tmp_path / "data"), "spoolDir": str(tmp_path / "spool")})
    store = Store(policy.data_dir, sleep=time.sleep, clock=time.monotonic)
    agent = Agent(policy, logs.Log({}, lines.LineWriter("error", "json", Nowhere())), store)
    agent.attend()
    action, turns = ApiAction("", "eu", "CreateRoute"), agent.ec2.queue
    for _ in range(1000):  # for minutes there is no room
        turns.spend(action, turns.acquire_at_once(action))
    ends = Cancellation(ADD, lambda: None, agent.world)
    outcome: list[str] = []

    def wait() -> None:
        try:
            turns.acquire(action, Priority.ADD, agent.world.clock() + 60, ends.reason)
        except TryAgain as e:
            outcome.append(e.msg)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    until(turns.waiting)
    now = agent.world.now()
    with agent.claims.lock(f"attachment {WHO}", 0):
        agent.claims.put(record(now).release(0.0, now))
    thread.join(10)
    assert outcome == [f"stopped: {WHO} was deleted meanwhile"]


class Nowhere:
    def write(self, text: str) -> None:
        """Keep nothing."""


def test_a_client_that_is_gone_ends_its_call_though_nobody_has_told() -> None:
    """On a busy machine EC2 answers before the thread that hears clients has its turn."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        talk = Connection(ours, 0.0, 0.0)
        assert talk.cancelled() is None
        theirs.shutdown(socket.SHUT_WR)  # it has said all, and waits for the answer
        assert talk.cancelled() is None
        theirs.close()
        assert talk.cancelled() == "the client is gone"
