"""ADD, CHECK, DEL and GC of a pod whose routes an election gives: with its node in memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.agent import recovery
from cni_floatip.config import election
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
from tests.support.elected_pod import OTHER, VIP, ElectedPod

ELSEWHERE = ["eni-elsewhere", "eni-elsewhere"]


@pytest.fixture(autouse=True)
def _released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(election, "RELEASED", True)


@pytest.fixture
def web(tmp_path: Path) -> ElectedPod:
    return ElectedPod(tmp_path)


def writes(pod: ElectedPod) -> list[str]:
    return [call for call in pod.place.ec2.calls if not call.startswith("disable")]


# -- ADD ----------------------------------------------------------------------------------------------------


def test_an_add_does_all_but_the_writes(web: ElectedPod, monkeypatch: pytest.MonkeyPatch) -> None:
    ec2 = web.place.ec2
    ec2.point(VIP, "eni-elsewhere")
    checked = NetworkInterface(checks_source=True, tags={"node.k8s.amazonaws.com/no_manage": "true"})
    monkeypatch.setattr(ec2, "network_interface", lambda eni: checked)
    web.add()
    assert ec2.calls == ["disable eni-here"]
    assert ec2.leads(VIP) == ELSEWHERE
    assert (ec2.reads, web.states) == (1, {VIP: "standby"})
    assert f"from {VIP} lookup 100 proto 241" in web.pod.lines()
    assert (web.claim.group, web.claim.elected) == ("", True)


def test_its_claim_is_on_disk_before_its_pod_is_changed(web: ElectedPod, monkeypatch: Any) -> None:
    observed: list[tuple[str, int]] = []
    put = web.place.claims.put

    def note(claim: Claim) -> None:
        put(claim)
        observed.append((claim.state.value, len(web.pod.lines())))

    monkeypatch.setattr(web.place.claims, "put", note)
    web.add()
    assert observed == [("claiming", 0), ("standby", len(web.pod.lines()))]


def test_the_group_that_the_network_names_is_on_record(tmp_path: Path) -> None:
    web = ElectedPod(tmp_path, election={"group": "core"})
    web.add()
    assert web.claim.group == "core"


def test_elections_that_are_off_are_a_refusal(web: ElectedPod) -> None:
    web.place.election = NoElections()  # type: ignore[assignment]
    with pytest.raises(PolicyRefused):
        web.add()
    assert (web.place.claims.all()[0], writes(web)) == ([], [])


def test_kubernetes_that_refuses_the_agent_is_a_refusal_and_nothing_is_waited_for(web: ElectedPod) -> None:
    web.place.election.refused = TryAgain("Kubernetes refuses this agent: 403")
    with pytest.raises(TryAgain, match="refuses this agent"):
        web.add()
    assert (web.place.ec2.reads, web.place.claims.all()[0], web.pod.ours) == (0, [], {})


@pytest.mark.parametrize(
    ("prepare", "error"),
    [
        (lambda web: web.place.ec2.point(VIP, "igw-1", is_eni=False), RouteConflict),
        (lambda web: web.keys.update(routeTables={"ids": ["rtb-a", "rtb-c"]}), PolicyRefused),
    ],
    ids=["101", "102"],
)
def test_what_an_add_cannot_have_it_cannot_be_elected_for(
    web: ElectedPod, prepare: Callable[[ElectedPod], None], error: type[CniError]
) -> None:
    web.place.ec2.tables["rtb-c"] = {}
    prepare(web)
    with pytest.raises(error):
        web.add()
    assert (web.place.claims.all()[0], writes(web), web.pod.ours) == ([], [], {})


def test_an_add_that_fails_leaves_nothing_and_writes_nothing(web: ElectedPod) -> None:
    web.place.ec2.point(VIP, "eni-here")  # of a pod before it: it stays for the group
    web.pod.fail("remove_connected")
    web.link.addresses[:] = ["192.168.0.2/24"]
    web.addresses = ("192.168.0.2/24",)
    with pytest.raises(CniError):
        web.add()
    assert writes(web) == []
    assert web.place.ec2.leads(VIP) == ["eni-here", "eni-here"]
    assert not any(claim.routes for claim in web.place.claims.all()[0])


def test_a_repeated_add_of_an_elected_pod_leaves_it_elected(web: ElectedPod) -> None:
    web.add()
    web.elect()
    web.add()
    assert web.states == {VIP: "active"}
    assert writes(web) == []


# -- a plain ADD beside groups ------------------------------------------------------------------------------


def test_a_plain_add_of_an_elected_destination_is_refused_with_its_group(web: ElectedPod) -> None:
    web.place.election.groups = {ip_network(VIP): "core/web"}
    with pytest.raises(RouteConflict, match=r"the group core/web elects .* scale its pods to zero") as error:
        web.add_plain()
    assert error.value.code == 101
    assert (writes(web), web.place.claims.all()[0]) == ([], [])


def test_a_plain_add_without_a_list_of_groups_goes_on(web: ElectedPod) -> None:
    web.place.election.groups = {ip_network("192.168.0.3/32"): "core/other"}
    web.add_plain()
    assert web.place.ec2.leads(VIP) == ["eni-here", "eni-here"]


# -- CHECK --------------------------------------------------------------------------------------------------


def test_check_compares_the_routes_of_the_active_alone(web: ElectedPod) -> None:
    web.add()
    web.place.ec2.point(VIP, "eni-elsewhere")
    reads = web.place.ec2.reads
    web.check()
    assert web.place.ec2.reads == reads
    web.elect()
    web.place.clock = iter(range(1000, 100_000, 10)).__next__
    with pytest.raises(NotAsClaimed, match="leads to eni-elsewhere, not to eni-here"):
        web.check()


def test_check_compares_the_pod_of_a_standby(web: ElectedPod) -> None:
    web.add()
    web.pod.our_rules.clear()
    with pytest.raises(NotAsClaimed, match="pod: rule"):
        web.check()


# -- DEL and GC ---------------------------------------------------------------------------------------------

ENDS = {"DEL": ElectedPod.delete, "GC": ElectedPod.gc}


@pytest.mark.parametrize("keep", ["release", "keep"])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_the_end_of_a_standby_is_local(tmp_path: Path, end: Callable[[ElectedPod], None], keep: str) -> None:
    """Its former route stays too: the next elected pod's node replaces it."""
    web = ElectedPod(tmp_path, onDelete=keep)
    web.add()
    web.elect()
    write(web.world, web.routes, web.place.clock() + 9)
    assert record_role(web.world, [web.attachment], active=False)
    reads, calls = web.place.ec2.reads, list(web.place.ec2.calls)
    end(web)
    process_backlog(web.world, web.place.clock() + 60)
    assert web.place.claims.all()[0] == []
    assert (web.place.ec2.reads, web.place.ec2.calls) == (reads, calls)
    assert web.place.ec2.leads(VIP) == ["eni-here", "eni-here"]
    assert web.pod.lines() == []


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_the_end_of_the_active_leaves_its_route_to_the_election(
    web: ElectedPod, end: Callable[[ElectedPod], None]
) -> None:
    web.add()
    web.elect()
    write(web.world, web.routes, web.place.clock() + 9)
    web.place.election.kept = {web.claim.pod.uid}
    end(web)
    collect(web.world)
    assert web.states == {VIP: "releasing"}
    web.place.election.kept.clear()  # another pod has them
    calls = list(web.place.ec2.calls)
    collect(web.world)
    assert web.states == {VIP: "gone"}
    assert web.place.ec2.calls == calls
    assert web.place.ec2.leads(VIP) == ["eni-here", "eni-here"]


def test_an_active_whose_network_keeps_routes_leaves_them_at_its_del(tmp_path: Path) -> None:
    web = ElectedPod(tmp_path, onDelete="keep")
    web.add()
    web.elect()
    write(web.world, web.routes, web.place.clock() + 9)
    web.delete()
    collect(web.world)
    assert web.place.claims.all()[0] == []
    assert web.place.ec2.leads(VIP) == ["eni-here", "eni-here"]


def test_without_elections_an_elected_claim_keeps_what_it_has(web: ElectedPod) -> None:
    web.add()
    web.elect()
    write(web.world, web.routes, web.place.clock() + 9)
    web.place.election = NoElections()  # type: ignore[assignment]
    calls = list(web.place.ec2.calls)
    collect(web.world)
    assert web.states == {VIP: "active"}
    web.delete()
    collect(web.world)
    assert web.states == {VIP: "releasing"}
    assert web.place.ec2.calls == calls


def test_a_del_without_a_readable_record_leaves_the_route_to_the_election(web: ElectedPod) -> None:
    web.add()
    web.place.ec2.point(VIP, "eni-here")
    for path in (web.place.directory / "claims").iterdir():
        path.write_text("{")
    web.place.restart()
    web.delete()
    web.place.election.kept = {"uid-1"}
    collect(web.world)
    assert web.states == {VIP: "releasing"}
    assert web.claim.elected
    assert writes(web) == []


# -- restarts and full disks --------------------------------------------------------------------------------


@pytest.mark.parametrize("active", [False, True])
def test_a_restart_of_the_agent_changes_nothing(web: ElectedPod, *, active: bool) -> None:
    web.add()
    if active:
        web.elect()
    web.place.restart()
    assert recovery.recover(web.world) == 0
    assert web.states == {VIP: "active" if active else "standby"}


@pytest.mark.parametrize(("active", "left"), [(False, {}), (True, {VIP: "releasing"})])
def test_a_reboot_ends_it(
    web: ElectedPod, monkeypatch: pytest.MonkeyPatch, left: dict[str, str], *, active: bool
) -> None:
    web.add()
    if active:
        web.elect()
    web.place.restart()
    claims = web.place.claims
    for claim in claims.all()[0]:
        claims.put(recovery.end_by_restart(claim, "boot-2", 9.0, web.world.now()))
    assert web.states == left


def test_a_full_disk_keeps_a_pod_from_being_elected_and_not_from_stepping_back(
    web: ElectedPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.add()
    web.elect()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert record_role(web.world, [web.attachment], active=False)
    assert web.states == {VIP: "standby"}
    assert not web.place.claims.is_persisted(web.attachment)
    assert not record_role(web.world, [web.attachment], active=True)
    assert web.states == {VIP: "standby"}
    with pytest.raises(IoFailure):
        web.place.add(OTHER, VIP, container="c9", watchAddresses=None, activate="ready")


def test_a_plain_claim_that_ends_leaves_a_route_that_an_elected_pod_here_has(web: ElectedPod) -> None:
    """Else its pod would be without the route until its election has it written again."""
    plain = web.add_plain()
    web.add()
    web.elect()
    write(web.world, web.routes, web.place.clock() + 9)
    calls = list(web.place.ec2.calls)
    web.place.policy = replace(web.place.policy, release_grace_seconds=0)
    delete(web.place.request("DEL", OTHER, container="plain"), web.world)
    collect(web.world)
    assert web.place.states(plain) == {VIP: "gone"}
    assert web.place.ec2.calls == calls
    assert web.place.ec2.tables["rtb-a"][ip_network(VIP)] == RouteTarget("eni-here", is_eni=True)


def test_a_plain_claim_here_does_not_keep_its_route_for_a_standby(web: ElectedPod) -> None:
    web.place.policy = replace(web.place.policy, release_grace_seconds=0)
    web.add_plain()
    web.add()
    delete(web.place.request("DEL", OTHER, container="plain"), web.world)
    collect(web.world)
    assert web.place.ec2.leads(VIP) == ["-", "-"]
    assert web.states == {VIP: "standby"}
