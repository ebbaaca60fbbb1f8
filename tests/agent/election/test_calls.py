"""What answers of Kubernetes and EC2 mean to a member, and how old a proof is."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

import pytest

from cni_floatip.agent.election.api_calls import ApiCalls, swap_outcome
from cni_floatip.agent.election.ec2_calls import Ec2Calls, ElectedPod
from cni_floatip.election.events import (
    AwaitTurn,
    DeleteGroup,
    GroupRead,
    GroupSwapped,
    GroupUnreadable,
    PodRead,
    ReadGroup,
    ReadNodeLease,
    ReadPod,
    ReleaseRoutes,
    RoutesReleased,
    RoutesWritten,
    Swap,
    SwapGroup,
    TurnCame,
    WriteRoutes,
)
from cni_floatip.election.lease import GroupLease, Holder, NodeLease
from cni_floatip.election.node import ApiAnswered, ApiFailed, NodeLeaseRead
from cni_floatip.model.errors import ApiError, ApiFault, Ec2Error, Ec2Fault
from cni_floatip.model.route_write import RouteWrite, WriteOutcome
from cni_floatip.model.values import RouteKey
from cni_floatip.operations import take

KEY = RouteKey("rtb-a", ip_network("192.168.0.5/32"))
LEASE = GroupLease("core/a", "u1", "7", holder=Holder("web", "n", "uid-1"))
POD = {
    "metadata": {"name": "web", "namespace": "core", "uid": "uid-1"},
    "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
}


class Api:
    """Answers each call with ``answer`` a second after it was sent."""

    def __init__(self, clock: Clock, answer: Any) -> None:
        self._clock = clock
        self.answer = answer
        self.sent: list[tuple[str, Any]] = []

    def _call(self, verb: str, what: Any) -> Any:
        self.sent.append((verb, what))
        self._clock.now += 1.0
        if isinstance(self.answer, ApiError):
            raise self.answer
        return self.answer

    def get(self, resource: Any, name: str, namespace: str = "") -> Any:
        return self._call("get", name)

    def create(self, resource: Any, document: Mapping[str, Any]) -> Any:
        return self._call("create", document)

    def replace(self, resource: Any, document: Mapping[str, Any]) -> Any:
        return self._call("replace", document)

    def delete(self, resource: Any, document: Mapping[str, Any]) -> None:
        self._call("delete", document)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def error(fault: ApiFault) -> ApiError:
    return ApiError(fault, "GET leases/x", "planted")


def calls(answer: Any) -> tuple[ApiCalls, Api, list[ApiError]]:
    clock = Clock()
    errors: list[ApiError] = []
    api = Api(clock, answer)
    return ApiCalls(api, "elections", clock, 0.5, errors.append, lambda *_: None), api, errors


def test_a_proof_is_as_old_as_its_question() -> None:
    made, _, _ = calls(LEASE.document("elections"))
    answer = made.read_group(ReadGroup("core/a"))
    assert isinstance(answer.member, GroupRead)
    assert (answer.member.began, answer.member.at) == (100.0, 101.0)
    assert answer.member.lease
    assert answer.member.lease.holder == LEASE.holder
    assert answer.node == ApiAnswered(101.0)


def test_a_swap_is_as_old_as_its_question() -> None:
    made, _, _ = calls(LEASE.document("elections"))
    event = made.swap(SwapGroup(LEASE, "x")).member
    assert isinstance(event, GroupSwapped)
    assert (event.began, event.at, event.outcome) == (100.0, 101.0, Swap.DONE)


def test_reads_of_pods_and_nodes_are_as_old_as_their_questions() -> None:
    made, _, _ = calls(POD)
    event = made.read_pod(ReadPod("web", "uid-1"), "core").member
    assert isinstance(event, PodRead)
    assert (event.began, event.status is not None and event.status.ready) == (100.0, True)
    made, _, _ = calls(NodeLease("x", "u", "3", "me", 2).document("elections", "now"))
    lease_read = made.read_node_lease(ReadNodeLease("x")).node
    assert isinstance(lease_read, NodeLeaseRead)
    assert (lease_read.began, lease_read.lease and lease_read.lease.version) == (100.0, "3")


def test_the_first_swap_creates_and_a_later_one_replaces() -> None:
    for lease, verb in ((GroupLease("core/a"), "create"), (LEASE, "replace")):
        made, api, _ = calls(LEASE.document("elections"))
        made.swap(SwapGroup(lease, "x"))
        assert api.sent[0][0] == verb
    made, api, _ = calls(None)
    made.delete(DeleteGroup("core/a", "u1", "7"))
    meta = api.sent[0][1]["metadata"]
    assert (api.sent[0][0], meta["uid"], meta["resourceVersion"]) == ("delete", "u1", "7")


def test_a_pod_of_another_uid_is_not_there() -> None:
    made, _, _ = calls(POD)
    event = made.read_pod(ReadPod("web", "uid-2"), "core").member
    assert isinstance(event, PodRead)
    assert event.status is None


def test_what_is_not_there_is_an_answer() -> None:
    made, _, errors = calls(error(ApiFault.NOT_FOUND))
    assert made.read_group(ReadGroup("core/a")).member == GroupRead(101.0, 100.0, None)
    assert isinstance(made.read_node_lease(ReadNodeLease("x")).node, NodeLeaseRead)
    assert errors == []


def test_a_lease_that_cannot_be_read_is_told() -> None:
    document = LEASE.document("elections")
    document["spec"]["holderIdentity"] = "me"
    made, _, _ = calls(document)
    assert isinstance(made.read_group(ReadGroup("core/a")).member, GroupUnreadable)


@pytest.mark.parametrize("fault", [fault for fault in ApiFault if fault is not ApiFault.NOT_FOUND])
def test_a_read_that_fails_tells_a_member_nothing_and_rests(fault: ApiFault) -> None:
    made, _, errors = calls(error(fault))
    answer = made.read_group(ReadGroup("core/a"))
    assert (answer.member, answer.rest) == (None, 0.5)
    answered = fault not in (ApiFault.UNANSWERED, ApiFault.SERVER, ApiFault.THROTTLED)
    assert isinstance(answer.node, ApiAnswered if answered else ApiFailed)
    assert len(errors) == 1


def test_whether_a_failed_swap_was_applied() -> None:
    """By hand: what may have been applied is read, what was not is tried again."""
    assert {fault.name: swap_outcome(fault).name for fault in ApiFault} == {
        "UNANSWERED": "UNKNOWN",
        "SERVER": "UNKNOWN",
        "THROTTLED": "REFUSED",
        "REFUSED": "REFUSED",
        "NOT_FOUND": "CONFLICT",
        "CONFLICT": "CONFLICT",
        "EXPIRED": "REFUSED",
        "INVALID": "REFUSED",
    }
    for fault in ApiFault:
        made, _, _ = calls(error(fault))
        event = made.swap(SwapGroup(LEASE, "x")).member
        assert isinstance(event, GroupSwapped)
        assert event.outcome is swap_outcome(fault)


# -- EC2 ------------------------------------------------------------------------------------------------

OURS = ElectedPod("uid-1", "core", "eu-west-1", ())


class Caller:
    """EC2 for one caller."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


def ec2_calls(monkeypatch: pytest.MonkeyPatch, await_turns: Any, write: Any) -> tuple[Ec2Calls, list[Caller]]:
    monkeypatch.setattr(take, "await_turns", await_turns)
    monkeypatch.setattr(take, "write", write)
    callers: list[Caller] = []
    clock = Clock()

    def caller(_: ElectedPod) -> Any:
        callers.append(Caller())
        return callers[-1]

    world: Any = SimpleNamespace(clock=clock, log=lambda *_, **__: None)
    return Ec2Calls(world, caller, frozenset), callers


def test_a_turn_has_come_when_it_was_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GET that proves must begin after it."""

    def wait(world: Any, *_: Any) -> None:
        world.clock.now += 7.0

    made, _ = ec2_calls(monkeypatch, wait, None)
    assert made.await_turn(AwaitTurn((KEY,)), OURS).member == TurnCame(107.0)


def test_a_write_spends_the_turns_that_were_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Any] = []

    def write(_: Any, routes: take.Routes, until: float) -> tuple[RouteWrite, ...]:
        used.append((routes.vpc, until))
        return (RouteWrite(KEY, WriteOutcome.WRITTEN),)

    made, callers = ec2_calls(monkeypatch, lambda *_: None, write)
    made.await_turn(AwaitTurn((KEY,)), OURS)
    event = made.write(WriteRoutes("uid-1", (KEY,), 101.5), OURS).member
    assert isinstance(event, RoutesWritten)
    assert (event.began, event.outcomes) == (100.0, ((KEY, WriteOutcome.WRITTEN),))
    assert used == [(callers[0], 101.5)]
    assert (len(callers), callers[0].closed) == (1, 1)


def test_nothing_is_kept_of_a_pod_whose_routes_are_released(monkeypatch: pytest.MonkeyPatch) -> None:
    made, callers = ec2_calls(monkeypatch, lambda *_: None, None)
    monkeypatch.setattr(take, "release_for_good", lambda *_: True)
    made.await_turn(AwaitTurn((KEY,)), OURS)
    event = made.release(ReleaseRoutes("uid-1", (KEY,), 101.5), OURS).member
    assert event == RoutesReleased(100.0, 100.0, done=True)
    assert ([caller.closed for caller in callers], made._turns) == ([1], {})


def test_a_turn_that_does_not_come_leaves_it_to_the_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """The write has an outcome by which the member judges; a turn has none."""

    def wait(*_: Any) -> None:
        raise Ec2Error(Ec2Fault.THROTTLED, "ReplaceRoute", "", "planted")

    made, _ = ec2_calls(monkeypatch, wait, None)
    assert isinstance(made.await_turn(AwaitTurn((KEY,)), OURS).member, TurnCame)
