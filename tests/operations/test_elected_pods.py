"""ADD, CHECK, DEL and GC of a pod whose routes an election gives: with its node in memory."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.agent import recovery
from cni_floatip.model.claim import Claim
from cni_floatip.model.errors import (
    CniError,
    IoFailure,
    NotAsClaimed,
    PolicyRefused,
    RouteConflict,
    TryAgain,
)
from cni_floatip.model.values import NetworkInterface, RouteTarget
from cni_floatip.operations import collect, delete
from cni_floatip.operations.backlog import process_backlog
from cni_floatip.operations.election import NoElections
from cni_floatip.operations.take import record_role, write
from tests.fakes.election import FakeElection
from tests.fakes.podnet import FakePodNet
from tests.support.elected_pod import OTHER, VIP, ElectedPod

ELSEWHERE = ["eni-elsewhere", "eni-elsewhere"]


pytestmark = pytest.mark.usefixtures("elections")


@pytest.fixture
def member(tmp_path: Path) -> ElectedPod:
    return ElectedPod(tmp_path)


def writes(pod: ElectedPod) -> list[str]:
    return [call for call in pod.place.ec2.calls if not call.startswith("disable")]


# -- ADD ----------------------------------------------------------------------------------------------------


def test_an_add_does_all_but_the_writes(member: ElectedPod, monkeypatch: pytest.MonkeyPatch) -> None:
    ec2 = member.place.ec2
    ec2.point(VIP, "eni-elsewhere")
    checked = NetworkInterface(checks_source=True, tags={"node.k8s.amazonaws.com/no_manage": "true"})
    monkeypatch.setattr(ec2, "network_interface", lambda eni: checked)
    member.add()
    assert ec2.calls == ["disable eni-here"]
    assert ec2.leads(VIP) == ELSEWHERE
    assert (ec2.reads, member.states) == (1, {VIP: "standby"})
    assert f"from {VIP} lookup 100 proto 241" in member.pod.lines()
    assert (member.claim.group, member.claim.elected) == ("", True)


def test_its_claim_is_on_disk_before_its_pod_is_changed(member: ElectedPod, monkeypatch: Any) -> None:
    observed: list[tuple[str, int]] = []
    put = member.place.claims.put

    def note(claim: Claim) -> None:
        put(claim)
        observed.append((claim.state.value, len(member.pod.lines())))

    monkeypatch.setattr(member.place.claims, "put", note)
    member.add()
    assert observed == [("claiming", 0), ("standby", len(member.pod.lines()))]


def test_the_group_that_the_network_names_is_on_record(tmp_path: Path) -> None:
    member = ElectedPod(tmp_path, election={"group": "core"})
    member.add()
    assert member.claim.group == "core"


def test_elections_that_are_off_are_a_refusal(member: ElectedPod) -> None:
    member.place.election = NoElections()  # type: ignore[assignment]
    with pytest.raises(PolicyRefused):
        member.add()
    assert (member.place.claims.all()[0], writes(member)) == ([], [])


def test_kubernetes_that_refuses_the_agent_is_a_refusal_and_nothing_is_waited_for(member: ElectedPod) -> None:
    member.place.election.refused = TryAgain("Kubernetes refuses this agent: 403")
    with pytest.raises(TryAgain, match="refuses this agent"):
        member.add()
    assert (member.place.ec2.reads, member.place.claims.all()[0], member.pod.ours) == (0, [], {})


@pytest.mark.parametrize(
    ("prepare", "error"),
    [
        (lambda member: member.place.ec2.point(VIP, "igw-1", is_eni=False), RouteConflict),
        (lambda member: member.keys.update(routeTables={"ids": ["rtb-a", "rtb-c"]}), PolicyRefused),
    ],
    ids=["101", "102"],
)
def test_what_an_add_cannot_have_it_cannot_be_elected_for(
    member: ElectedPod, prepare: Callable[[ElectedPod], None], error: type[CniError]
) -> None:
    member.place.ec2.tables["rtb-c"] = {}
    prepare(member)
    with pytest.raises(error):
        member.add()
    assert (member.place.claims.all()[0], writes(member), member.pod.ours) == ([], [], {})


def test_an_add_that_fails_leaves_nothing_and_writes_nothing(member: ElectedPod) -> None:
    member.place.ec2.point(VIP, "eni-here")  # of a pod before it: it stays for the group
    member.pod.fail("remove_connected")
    member.link.addresses[:] = ["192.168.0.2/24"]
    member.addresses = ("192.168.0.2/24",)
    with pytest.raises(CniError):
        member.add()
    assert writes(member) == []
    assert member.place.ec2.leads(VIP) == ["eni-here", "eni-here"]
    assert not any(claim.routes for claim in member.place.claims.all()[0])


def test_a_del_ends_the_add_that_is_running(member: ElectedPod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["cni_floatip.operations.delete"], "LOCK_SECONDS", 0.0)
    deleted: list[Any] = []

    def come(address: Any) -> None:
        """Let DEL come while ADD configures the pod: its mark ends the ADD, which it does not wait for."""
        if not deleted:
            deleted.append(address)
            member.delete()

    monkeypatch.setattr(FakePodNet, "skip_detection", lambda _, addresses: come(addresses))
    with pytest.raises(TryAgain, match="deleted meanwhile"):
        member.add()
    assert not any(claim.routes for claim in member.place.claims.all()[0])
    assert (writes(member), member.pod.lines()) == ([], [])


def test_a_repeated_add_of_an_elected_pod_leaves_it_elected(member: ElectedPod) -> None:
    member.add()
    member.elect()
    member.add()
    assert member.states == {VIP: "active"}
    assert writes(member) == []


# -- a plain ADD beside groups ------------------------------------------------------------------------------


def test_a_plain_add_of_an_elected_destination_is_refused_with_its_group(member: ElectedPod) -> None:
    member.place.election.groups = {ip_network(VIP): "core/web"}
    with pytest.raises(RouteConflict, match=r"the group core/web elects .* scale its pods to zero") as error:
        member.add_plain()
    assert error.value.code == 101
    assert (writes(member), member.place.claims.all()[0]) == ([], [])


@pytest.mark.parametrize("elects", [FakeElection(), NoElections()], ids=["elects", "does not elect"])
def test_a_plain_add_makes_not_one_call_more(
    member: ElectedPod, monkeypatch: pytest.MonkeyPatch, elects: Any
) -> None:
    """Neither to EC2 nor to the disk."""
    member.place.election = elects
    calls = member.place.ec2.calls

    def watch(owner: Any, verb: str) -> None:
        real = getattr(owner, verb)

        def noted(*args: Any, **kwargs: Any) -> Any:
            calls.append(verb)
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, verb, noted)

    for verb in ("route_tables", "subnets", "interfaces_in", "network_interface", "wait_turn"):
        watch(member.place.ec2, verb)
    for verb in ("put", "update", "delete"):
        watch(member.place.claims, verb)
    member.add_plain()
    assert Counter(call.split()[0] for call in calls) == {
        "route_tables": 1,
        "network_interface": 1,
        "put": 2,
        "wait_turn": 2,
        "create": 2,
    }


def test_a_plain_add_without_a_list_of_groups_goes_on(member: ElectedPod) -> None:
    member.place.election.groups = {ip_network("192.168.0.3/32"): "core/other"}
    member.add_plain()
    assert member.place.ec2.leads(VIP) == ["eni-here", "eni-here"]


# -- CHECK --------------------------------------------------------------------------------------------------


def test_check_compares_the_routes_of_the_active_alone(member: ElectedPod) -> None:
    member.add()
    member.place.ec2.point(VIP, "eni-elsewhere")
    reads = member.place.ec2.reads
    member.check()
    assert member.place.ec2.reads == reads
    member.elect()
    member.place.clock = iter(range(1000, 100_000, 10)).__next__
    with pytest.raises(NotAsClaimed, match="leads to eni-elsewhere, not to eni-here"):
        member.check()


def test_check_compares_the_pod_of_a_standby(member: ElectedPod) -> None:
    member.add()
    member.pod.our_rules.clear()
    with pytest.raises(NotAsClaimed, match="pod: rule"):
        member.check()


# -- DEL and GC ---------------------------------------------------------------------------------------------

ENDS = {"DEL": ElectedPod.delete, "GC": ElectedPod.gc}


@pytest.mark.parametrize("keep", ["release", "keep"])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_the_end_of_a_standby_is_local(tmp_path: Path, end: Callable[[ElectedPod], None], keep: str) -> None:
    """Its former route stays too: the next elected pod's node replaces it."""
    member = ElectedPod(tmp_path, onDelete=keep)
    member.add()
    member.elect()
    write(member.world, member.routes, member.place.clock() + 9)
    assert record_role(member.world, [member.attachment], active=False)
    reads, calls = member.place.ec2.reads, list(member.place.ec2.calls)
    end(member)
    process_backlog(member.world, member.place.clock() + 60)
    assert member.place.claims.all()[0] == []
    assert (member.place.ec2.reads, member.place.ec2.calls) == (reads, calls)
    assert member.place.ec2.leads(VIP) == ["eni-here", "eni-here"]
    assert member.pod.lines() == []


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_the_end_of_the_active_leaves_its_route_to_the_election(
    member: ElectedPod, end: Callable[[ElectedPod], None]
) -> None:
    member.add()
    member.elect()
    write(member.world, member.routes, member.place.clock() + 9)
    member.place.election.kept = {member.claim.pod.uid}
    end(member)
    collect(member.world)
    assert member.states == {VIP: "releasing"}
    member.place.election.kept.clear()  # another pod has them
    calls = list(member.place.ec2.calls)
    collect(member.world)
    assert member.states == {VIP: "gone"}
    assert member.place.ec2.calls == calls
    assert member.place.ec2.leads(VIP) == ["eni-here", "eni-here"]


def test_an_active_whose_network_keeps_routes_leaves_them_at_its_del(tmp_path: Path) -> None:
    member = ElectedPod(tmp_path, onDelete="keep")
    member.add()
    member.elect()
    write(member.world, member.routes, member.place.clock() + 9)
    member.delete()
    collect(member.world)
    assert member.place.claims.all()[0] == []
    assert member.place.ec2.leads(VIP) == ["eni-here", "eni-here"]


def test_without_elections_an_elected_claim_keeps_what_it_has(member: ElectedPod) -> None:
    member.add()
    member.elect()
    write(member.world, member.routes, member.place.clock() + 9)
    member.place.election = NoElections()  # type: ignore[assignment]
    calls = list(member.place.ec2.calls)
    collect(member.world)
    assert member.states == {VIP: "active"}
    member.delete()
    collect(member.world)
    assert member.states == {VIP: "releasing"}
    assert member.place.ec2.calls == calls


def test_a_del_without_a_readable_record_leaves_the_route_to_the_election(member: ElectedPod) -> None:
    member.add()
    member.place.ec2.point(VIP, "eni-here")
    for path in (member.place.directory / "claims").iterdir():
        path.write_text("{")
    member.place.restart()
    member.delete()
    member.place.election.kept = {"uid-1"}
    collect(member.world)
    assert member.states == {VIP: "releasing"}
    assert member.claim.elected
    assert writes(member) == []


# -- restarts and full disks --------------------------------------------------------------------------------


@pytest.mark.parametrize("active", [False, True])
def test_a_restart_of_the_agent_changes_nothing(member: ElectedPod, *, active: bool) -> None:
    member.add()
    if active:
        member.elect()
    member.place.restart()
    assert recovery.recover(member.world) == 0
    assert member.states == {VIP: "active" if active else "standby"}


@pytest.mark.parametrize(("active", "left"), [(False, {}), (True, {VIP: "releasing"})])
def test_a_reboot_ends_it(
    member: ElectedPod, monkeypatch: pytest.MonkeyPatch, left: dict[str, str], *, active: bool
) -> None:
    member.add()
    if active:
        member.elect()
    member.place.restart()
    claims = member.place.claims
    for claim in claims.all()[0]:
        claims.put(recovery.end_by_restart(claim, "boot-2", 9.0, member.world.now()))
    assert member.states == left


def test_a_full_disk_keeps_a_pod_from_being_elected_and_not_from_stepping_back(
    member: ElectedPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    member.add()
    member.elect()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert record_role(member.world, [member.attachment], active=False)
    assert member.states == {VIP: "standby"}
    assert not member.place.claims.is_persisted(member.attachment)
    assert not record_role(member.world, [member.attachment], active=True)
    assert member.states == {VIP: "standby"}
    with pytest.raises(IoFailure):
        member.place.add(OTHER, VIP, container="c9", watchAddresses=None, activate="ready")


def test_a_plain_claim_that_ends_leaves_a_route_that_an_elected_pod_here_has(member: ElectedPod) -> None:
    """Else its pod would be without the route until its election has it written again."""
    plain = member.add_plain()
    member.add()
    member.elect()
    write(member.world, member.routes, member.place.clock() + 9)
    calls = list(member.place.ec2.calls)
    member.place.policy = replace(member.place.policy, release_grace_seconds=0)
    delete(member.place.request("DEL", OTHER, container="plain"), member.world)
    collect(member.world)
    assert member.place.states(plain) == {VIP: "gone"}
    assert member.place.ec2.calls == calls
    assert member.place.ec2.tables["rtb-a"][ip_network(VIP)] == RouteTarget("eni-here", is_eni=True)


def test_a_plain_claim_here_does_not_keep_its_route_for_a_standby(member: ElectedPod) -> None:
    member.place.policy = replace(member.place.policy, release_grace_seconds=0)
    member.add_plain()
    member.add()
    delete(member.place.request("DEL", OTHER, container="plain"), member.world)
    collect(member.world)
    assert member.place.ec2.leads(VIP) == ["-", "-"]
    assert member.states == {VIP: "standby"}
