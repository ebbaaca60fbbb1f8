"""What an election has done: roles on disk, writes under a proof, releases for good. EC2 is in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.model.claim import Claim
from cni_floatip.model.errors import Ec2Error, Ec2Fault, TryAgain
from cni_floatip.model.route_write import WriteOutcome
from cni_floatip.model.values import RouteKey, RouteTarget
from cni_floatip.operations.release import attachment_lock
from cni_floatip.operations.take import await_turns, record_role, release_for_good, try_writes, write
from cni_floatip.operations.write_routes import place_lock
from tests.support.elected_pod import OTHER, VIP, ElectedPod

NET = ip_network(VIP)
HERE = ["eni-here", "eni-here"]


pytestmark = pytest.mark.usefixtures("elections")


@pytest.fixture
def member(tmp_path: Path) -> ElectedPod:
    """Return an elected pod whose routes lead elsewhere, and a clock that stands still."""
    member = ElectedPod(tmp_path)
    member.place.ec2.point(VIP, "eni-elsewhere")
    member.add()
    member.elect()
    member.place.ec2.calls.clear()
    member.place.clock = lambda: member.at
    return member


def outcomes(member: ElectedPod, until: float = 1001.5) -> list[WriteOutcome]:
    return [result.outcome for result in write(member.world, member.routes, until)]


def calls(member: ElectedPod) -> list[str]:
    return sorted(call.split(" ->")[0] for call in member.place.ec2.calls)


# -- the role on disk ---------------------------------------------------------------------------------------


def test_the_role_is_on_disk_before_the_first_write(member: ElectedPod) -> None:
    observed: list[str] = []

    def read(_: str) -> None:
        member.place.restart()
        observed.append(member.states[VIP])

    member.place.ec2.before_write = read
    assert outcomes(member) == [WriteOutcome.WRITTEN] * 2
    assert observed == ["active", "active"]


def test_a_pod_that_was_deleted_is_not_elected(member: ElectedPod) -> None:
    assert record_role(member.world, [member.attachment], active=False)
    member.delete()
    assert not record_role(member.world, [member.attachment], active=True)
    assert member.place.claims.all()[0] == []


def test_a_plain_claim_gets_no_role(member: ElectedPod) -> None:
    plain = member.place.add(OTHER, VIP, container="plain", watchAddresses=None)
    assert not record_role(member.world, [plain], active=True)
    assert member.place.states(plain) == {VIP: "held"}


def test_a_claim_whose_add_runs_is_not_elected(member: ElectedPod) -> None:
    def begun(claim: Claim) -> Claim:
        return replace(claim, routes=tuple(type(r).begin(r.key, r.account) for r in claim.routes))

    member.place.claims.update(member.attachment, begun)
    assert not record_role(member.world, [member.attachment], active=True)
    assert member.states == {VIP: "claiming"}


# -- writes -------------------------------------------------------------------------------------------------


def test_a_take_replaces_with_no_read_before_it(member: ElectedPod) -> None:
    reads = member.place.ec2.reads
    assert outcomes(member) == [WriteOutcome.WRITTEN] * 2
    assert calls(member) == [f"replace rtb-a {VIP}", f"replace rtb-b {VIP}"]
    assert (member.place.ec2.leads(VIP), member.place.ec2.reads) == (HERE, reads)
    assert {route.target for route in member.claim.routes} == {"eni-here"}


def test_where_there_is_no_route_it_creates(member: ElectedPod) -> None:
    del member.place.ec2.tables["rtb-b"][NET]
    assert outcomes(member) == [WriteOutcome.WRITTEN] * 2
    assert calls(member) == [f"create rtb-b {VIP}", f"replace rtb-a {VIP}", f"replace rtb-b {VIP}"]
    assert member.place.ec2.leads(VIP) == HERE


def test_a_blackhole_is_replaced(member: ElectedPod) -> None:
    member.place.ec2.point(VIP, "eni-dead", active=False)
    assert outcomes(member) == [WriteOutcome.WRITTEN] * 2


@pytest.mark.parametrize("late", [1001.5, 1002.0])
def test_nothing_is_sent_once_the_proof_is_too_old(member: ElectedPod, late: float) -> None:
    member.at = late
    results = write(member.world, member.routes, 1001.5)
    assert {result.outcome for result in results} == {WriteOutcome.NOT_SENT}
    assert "proof" in results[0].why
    assert calls(member) == []


def test_each_request_looks_at_the_proof_anew(member: ElectedPod) -> None:
    """The first answer takes longer than the proof is good: no CreateRoute follows it."""
    member.place.ec2.tables["rtb-a"].clear()
    member.place.ec2.tables["rtb-b"].clear()

    def slow(_: str) -> None:
        member.at = 1003.0

    member.place.ec2.before_write = slow
    assert WriteOutcome.WRITTEN not in outcomes(member)
    assert not [call for call in calls(member) if call.startswith("create")]


def step_back(member: ElectedPod) -> None:
    assert record_role(member.world, [member.attachment], active=False)


@pytest.mark.parametrize("end", [ElectedPod.delete, step_back])
def test_a_pod_that_ended_or_stepped_back_writes_no_more(
    member: ElectedPod, end: Callable[[ElectedPod], None]
) -> None:
    routes = member.routes
    end(member)
    assert {result.outcome for result in write(member.world, routes, 1001.5)} == {WriteOutcome.NOT_SENT}
    assert calls(member) == []


def test_a_del_between_two_requests_of_one_route_stops_the_second(member: ElectedPod) -> None:
    member.place.ec2.tables["rtb-a"].clear()
    routes = replace(member.routes, keys=(member.key("rtb-a"),))
    member.place.ec2.before_write = lambda _: member.delete()
    results = write(member.world, routes, 1001.5)
    assert [result.outcome for result in results] == [WriteOutcome.NOT_SENT]
    assert (calls(member), member.place.ec2.tables["rtb-a"]) == ([f"replace rtb-a {VIP}"], {})


def test_a_route_that_is_no_enis_is_left_as_the_last_look_saw_it(member: ElectedPod) -> None:
    member.place.ec2.tables["rtb-b"][NET] = RouteTarget("nat-1", is_eni=False)
    note = lambda r: r.see("nat-1", "") if r.key.table == "rtb-b" else r  # noqa: E731
    member.place.claims.update(member.attachment, lambda claim: claim.see(note))
    assert outcomes(member) == [WriteOutcome.WRITTEN, WriteOutcome.NOT_ENI]
    assert member.place.ec2.leads(VIP) == ["eni-here", "nat-1"]


def test_a_route_that_came_between_replace_and_create_is_read(member: ElectedPod) -> None:
    """A gateway's is left and remembered; an ENI's is replaced."""
    for routes in member.place.ec2.tables.values():
        routes.clear()
    came = {"rtb-a": RouteTarget("nat-1", is_eni=False), "rtb-b": RouteTarget("eni-quick", is_eni=True)}

    def come(what: str) -> None:
        verb, table, *_ = what.split()
        if verb == "create":
            member.place.ec2.tables[table][NET] = came[table]

    member.place.ec2.before_write = come
    assert outcomes(member) == [WriteOutcome.NOT_ENI, WriteOutcome.WRITTEN]
    assert member.place.ec2.leads(VIP) == ["nat-1", "eni-here"]
    member.place.ec2.before_write = lambda what: None
    assert outcomes(member) == [WriteOutcome.NOT_ENI, WriteOutcome.WRITTEN]
    assert member.place.ec2.leads(VIP) == ["nat-1", "eni-here"]


@pytest.mark.parametrize("how", ["the table", "the destination"])
def test_policy_is_asked_again_before_a_write(member: ElectedPod, how: str) -> None:
    routes = member.routes
    if how == "the table":
        routes = replace(routes, withheld={"rtb-a", "rtb-b"})
    else:
        member.place.policy = replace(member.place.policy, allowed_destinations=())
    results = write(member.world, routes, 1001.5)
    assert {result.outcome for result in results} == {WriteOutcome.POLICY}
    assert calls(member) == []


FAULTS = {
    Ec2Fault.QUOTA: WriteOutcome.FULL,
    Ec2Fault.NO_TABLE: WriteOutcome.FULL,
    Ec2Fault.DENIED: WriteOutcome.DENIED,
    Ec2Fault.NO_ENI: WriteOutcome.DENIED,
    Ec2Fault.REFUSED: WriteOutcome.DENIED,
    Ec2Fault.THROTTLED: WriteOutcome.THROTTLED,
    Ec2Fault.BUSY: WriteOutcome.THROTTLED,
    Ec2Fault.UNANSWERED: WriteOutcome.UNANSWERED,
    Ec2Fault.NOT_SENT: WriteOutcome.UNANSWERED,
}


@pytest.mark.parametrize(("fault", "outcome"), FAULTS.items(), ids=str)
def test_each_answer_is_told_apart(member: ElectedPod, fault: Ec2Fault, outcome: WriteOutcome) -> None:
    member.place.ec2.script = [fault, fault]
    results = write(member.world, member.routes, 1001.5)
    assert {result.outcome for result in results} == {outcome}
    assert all(result.why for result in results)
    assert len(member.place.ec2.calls) == 2


def test_every_fault_has_an_outcome() -> None:
    assert {fault: WriteOutcome.of(fault) for fault in Ec2Fault} == FAULTS | {
        Ec2Fault.ROUTE_EXISTS: WriteOutcome.THROTTLED,
        Ec2Fault.NO_ROUTE: WriteOutcome.THROTTLED,
    }


def test_one_full_table_keeps_no_other_from_being_written(member: ElectedPod) -> None:
    del member.place.ec2.tables["rtb-b"][NET]
    real = member.place.ec2.create

    def full(key: RouteKey, eni: str, account: str = "") -> None:
        raise Ec2Error(Ec2Fault.QUOTA, "CreateRoute", "RouteLimitExceeded", key.table)

    member.place.ec2.create = full  # type: ignore[method-assign]
    assert outcomes(member) == [WriteOutcome.WRITTEN, WriteOutcome.FULL]
    member.place.ec2.create = real  # type: ignore[method-assign]
    assert outcomes(member) == [WriteOutcome.WRITTEN, WriteOutcome.WRITTEN]


def test_a_key_that_is_not_claimed_has_an_outcome_too(member: ElectedPod) -> None:
    other = RouteKey("rtb-z", NET)
    results = write(member.world, replace(member.routes, keys=(other, member.key())), 1001.5)
    assert [(result.key, result.outcome) for result in results] == [
        (other, WriteOutcome.NOT_SENT),
        (member.key(), WriteOutcome.WRITTEN),
    ]


def test_when_it_returns_no_request_is_under_way(member: ElectedPod) -> None:
    """So that an active offers only after its own writes have ended."""
    held, sent = threading.Event(), threading.Event()
    under_way: list[str] = []

    def hold(what: str) -> None:
        under_way.append(what)
        if len(under_way) == 2:
            sent.set()
        assert held.wait(30)
        under_way.remove(what)

    member.place.ec2.before_write = hold
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.extend(outcomes(member)))
    thread.start()
    assert sent.wait(30)
    assert (len(under_way), results) == (2, [])
    held.set()
    thread.join(30)
    assert (under_way, results) == ([], [WriteOutcome.WRITTEN] * 2)


def test_a_route_that_another_call_is_writing_is_not_written_beside_it(member: ElectedPod) -> None:
    clock = iter([1000.0 + n / 4 for n in range(100)])
    member.place.clock = lambda: next(clock)
    with member.place.claims.lock(place_lock(member.key()), 0) as mine:
        assert mine
        results = write(member.world, replace(member.routes, keys=(member.key(),)), 1000.5)
    assert [result.outcome for result in results] == [WriteOutcome.NOT_SENT]
    assert calls(member) == []


def test_turns_are_those_of_replace_route_for_every_route(
    member: ElectedPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[tuple[str, str, float]] = []
    wait = lambda action, key, account, deadline: turns.append((action, key.table, deadline))  # noqa: E731
    monkeypatch.setattr(member.place.ec2, "wait_turn", wait)
    await_turns(member.world, member.routes, 1009.0)
    assert sorted(turns) == [("ReplaceRoute", "rtb-a", 1009.0), ("ReplaceRoute", "rtb-b", 1009.0)]


@pytest.mark.parametrize(
    "error", [TryAgain("over"), Ec2Error(Ec2Fault.THROTTLED, "ReplaceRoute", "", "no turn")]
)
def test_a_turn_that_does_not_come_is_an_error(
    member: ElectedPod, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def wait(*_: Any) -> None:
        raise error

    monkeypatch.setattr(member.place.ec2, "wait_turn", wait)
    with pytest.raises(type(error)):
        await_turns(member.world, member.routes, 1009.0)


# -- dry runs -----------------------------------------------------------------------------------------------


def test_a_standby_learns_whether_it_could_write_and_writes_nothing(member: ElectedPod) -> None:
    assert record_role(member.world, [member.attachment], active=False)
    member.place.ec2.script = [None, None, Ec2Fault.DENIED]
    results = try_writes(member.world, member.routes)
    assert [result.outcome for result in results] == [WriteOutcome.WRITTEN, WriteOutcome.DENIED]
    assert calls(member) == [
        f"{what} {VIP}" for what in ("try-create rtb-a", "try-replace rtb-a", "try-replace rtb-b")
    ]
    assert member.place.ec2.leads(VIP) == ["eni-elsewhere", "eni-elsewhere"]


def test_a_right_to_replace_alone_is_none_to_write(member: ElectedPod) -> None:
    """A mark for a denied CreateRoute would end, and the member would take what it cannot write."""
    member.place.ec2.script = [None, Ec2Fault.DENIED]
    first, second = try_writes(member.world, member.routes)
    assert (first.outcome, second.outcome) == (WriteOutcome.DENIED, WriteOutcome.WRITTEN)


def test_what_policy_does_not_give_is_not_even_tried(member: ElectedPod) -> None:
    results = try_writes(member.world, replace(member.routes, withheld={"rtb-a"}))
    assert [result.outcome for result in results] == [WriteOutcome.POLICY, WriteOutcome.WRITTEN]
    assert calls(member) == [f"try-create rtb-b {VIP}", f"try-replace rtb-b {VIP}"]


# -- releases for good --------------------------------------------------------------------------------------


@pytest.fixture
def gone(member: ElectedPod) -> ElectedPod:
    """Return an elected pod that has ended, whose routes lead to it still."""
    assert outcomes(member) == [WriteOutcome.WRITTEN] * 2
    member.place.election.kept = {"uid-1"}
    member.delete()
    member.place.ec2.calls.clear()
    return member


def test_what_is_ours_is_deleted_for_good(gone: ElectedPod) -> None:
    assert release_for_good(gone.world, gone.routes, 1001.5)
    assert gone.place.ec2.leads(VIP) == ["-", "-"]
    assert gone.states == {VIP: "gone"}
    calls_before = list(gone.place.ec2.calls)
    assert release_for_good(gone.world, gone.routes, 1001.5)
    assert gone.place.ec2.calls == calls_before


@pytest.mark.parametrize(
    "target",
    [RouteTarget("eni-taker", is_eni=True), RouteTarget("igw-1", is_eni=False), None],
    ids=["another pod has it", "a gateway", "nothing"],
)
def test_what_is_not_ours_stays(gone: ElectedPod, target: RouteTarget | None) -> None:
    for routes in gone.place.ec2.tables.values():
        routes.pop(NET)
        if target:
            routes[NET] = target
    assert release_for_good(gone.world, gone.routes, 1001.5)
    assert gone.place.ec2.leads(VIP) == [str(target or "-")] * 2
    assert calls(gone) == []


def test_no_delete_is_sent_once_the_proof_is_too_old(
    gone: ElectedPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn is not waited for, but credentials may be."""

    def renew(*_: Any) -> None:
        gone.at = 1003.0

    monkeypatch.setattr(gone.place.ec2, "wait_turn", renew)
    assert not release_for_good(gone.world, gone.routes, 1001.5)
    assert (calls(gone), gone.states) == ([], {VIP: "releasing"})


def test_an_ec2_that_does_not_answer_is_no_release(gone: ElectedPod) -> None:
    gone.place.ec2.script = [Ec2Fault.DENIED]
    assert not release_for_good(gone.world, gone.routes, 1001.5)
    assert "releasing" in gone.states[VIP]
    assert release_for_good(gone.world, gone.routes, 1001.5)
    assert gone.place.ec2.leads(VIP) == ["-", "-"]


def test_an_elected_pod_keeps_its_routes(member: ElectedPod) -> None:
    assert outcomes(member) == [WriteOutcome.WRITTEN] * 2
    assert not release_for_good(member.world, member.routes, 1001.5)
    assert member.place.ec2.leads(VIP) == HERE


def test_what_the_new_holder_lacks_is_deleted_and_the_standby_stays(member: ElectedPod) -> None:
    assert outcomes(member) == [WriteOutcome.WRITTEN] * 2
    routes = replace(member.routes, keys=(member.key("rtb-b"),))
    assert record_role(member.world, [member.attachment], active=False)
    assert release_for_good(member.world, routes, 1001.5)
    assert member.place.ec2.leads(VIP) == ["eni-here", "-"]
    assert member.states == {VIP: "standby"}
    assert len(member.claim.routes) == 2


def test_another_pod_here_that_is_elected_keeps_the_route(gone: ElectedPod) -> None:
    heir = gone.place.add(OTHER, VIP, container="heir", watchAddresses=None, activate="ready")
    assert record_role(gone.world, [heir], active=True)
    assert release_for_good(gone.world, gone.routes, 1001.5)
    assert gone.place.ec2.leads(VIP) == HERE


def test_a_call_at_work_is_waited_for(gone: ElectedPod) -> None:
    with gone.place.claims.lock(attachment_lock(gone.attachment), 0) as mine:
        assert mine
        assert not release_for_good(gone.world, gone.routes, 1001.5)
    assert gone.place.ec2.leads(VIP) == HERE
