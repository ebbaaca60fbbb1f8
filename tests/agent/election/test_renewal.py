"""The thread that renews the node Lease: what it writes, and that nothing keeps it from writing."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import pytest

from cni_floatip.agent.election.renewal import NodeRenewal
from cni_floatip.election.node import Renewal
from cni_floatip.election.timing import Timing
from cni_floatip.model.errors import ApiError, ApiFault
from tests.agent.election.scene import Scene
from tests.support.waiting import until


class Api:
    """One Lease and one Node. ``fault``: what the next write gets."""

    def __init__(self) -> None:
        self.node_uid = "node-1"
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.fault: ApiFault | None = None
        self.writes: list[dict[str, Any]] = []

    def get(self, resource: Any, name: str, namespace: str = "") -> Any:
        if resource.plural == "nodes":
            return {"metadata": {"name": name, "uid": self.node_uid}}
        if self.lease is None:
            raise ApiError(ApiFault.NOT_FOUND, "GET leases", "none")
        return deepcopy(self.lease)

    def create(self, resource: Any, document: Mapping[str, Any]) -> Any:
        if self.lease:
            raise ApiError(ApiFault.CONFLICT, "POST leases", "there")
        return self._put(document)

    def replace(self, resource: Any, document: Mapping[str, Any]) -> Any:
        known = self.lease["metadata"]["resourceVersion"] if self.lease else ""
        if document["metadata"]["resourceVersion"] != known:
            raise ApiError(ApiFault.CONFLICT, "PUT leases", "changed")
        return self._put(document)

    def _put(self, document: Mapping[str, Any]) -> Any:
        if self.fault:
            fault, self.fault = self.fault, None
            raise ApiError(fault, "PUT leases", "planted")
        self.version += 1
        self.lease = deepcopy(dict(document))
        self.lease["metadata"] |= {"uid": "lease-1", "resourceVersion": str(self.version)}
        self.writes.append(deepcopy(self.lease))
        return deepcopy(self.lease)


class Desk:
    """A renewal whose turns the test takes."""

    def __init__(self) -> None:
        self.now = 100.0
        self.api = Api()
        self.gaps: list[float] = []
        timing = Timing(renew=0.5, lease=2, veto=60)
        self.renewal = NodeRenewal(
            self.api,  # type: ignore[arg-type]
            Renewal("n", "", "", timing),
            "boot-1",
            "elections",
            lambda: self.now,
            self.gaps.append,
        )

    def turns(self, number: int = 4) -> None:
        for _ in range(number):
            self.renewal.turn()

    def specs(self) -> list[tuple[str, int]]:
        specs = [write["spec"] for write in self.api.writes]
        return [(spec["holderIdentity"], spec["leaseDurationSeconds"]) for spec in specs]


@pytest.fixture
def renewing() -> Desk:
    return Desk()


def test_it_renews_only_while_this_node_holds_a_group(renewing: Desk) -> None:
    renewing.turns()
    assert renewing.api.writes == []
    renewing.renewal.renew(True)
    renewing.turns()
    assert renewing.specs() == [("node-1/boot-1", 2)]
    renewing.now += 0.5
    renewing.turns()
    assert len(renewing.specs()) == 2
    renewing.renewal.renew(False)
    renewing.now += 0.5
    renewing.turns()
    assert len(renewing.specs()) == 2


def test_every_renewal_changes_the_lease_whatever_the_wall_clock_does(
    renewing: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 1_800_000_000.0)
    renewing.renewal.renew(True)
    for _ in range(3):
        renewing.turns()
        renewing.now += 0.5
    times = [write["spec"]["renewTime"] for write in renewing.api.writes]
    assert len(times) == len(set(times)) == 3
    assert times == sorted(times)


def test_an_ending_agent_announces_its_absence_at_once(renewing: Desk) -> None:
    renewing.renewal.renew(True)
    renewing.turns()
    renewing.renewal.announce_absence()
    renewing.turns()
    assert renewing.specs() == [("node-1/boot-1", 2), ("node-1/boot-1", 60)]


def test_a_renewal_that_was_not_the_newest_reads_and_goes_on(renewing: Desk) -> None:
    renewing.renewal.renew(True)
    renewing.turns()
    assert renewing.api.lease
    renewing.api.lease["metadata"]["resourceVersion"] = "99"  # a hedged renewal was applied twice
    renewing.now += 0.5
    renewing.turns()
    assert len(renewing.api.writes) == 2


def test_a_node_that_was_made_anew_is_named_anew(renewing: Desk) -> None:
    """Its Lease was collected with the former Node, and a new one of that owner would be, too."""
    renewing.renewal.renew(True)
    renewing.turns()
    renewing.api.node_uid, renewing.api.lease = "node-2", None
    renewing.now += 0.5
    renewing.turns()
    assert renewing.specs()[-1] == ("node-2/boot-1", 2)
    assert renewing.api.writes[-1]["metadata"]["ownerReferences"][0]["uid"] == "node-2"


def test_an_unanswered_renewal_is_tried_again_after_a_period(renewing: Desk) -> None:
    renewing.renewal.renew(True)
    renewing.turns()
    renewing.now += 0.5
    renewing.api.fault = ApiFault.UNANSWERED
    renewing.turns()
    assert len(renewing.api.writes) == 1
    assert "planted" in renewing.renewal.report.error
    renewing.now += 0.5
    renewing.turns()
    assert len(renewing.api.writes) == 2
    assert (renewing.gaps, renewing.renewal.report.error) == ([1.0], "")


def test_nothing_that_hangs_keeps_it_from_renewing(agents: Scene) -> None:
    """Not the driver, not a claim that is being written, not the log, not EC2."""
    node = agents.node("a")
    pod = agents.pod(node, "web-1")
    agents.until_active(pod)
    assert node.elections
    released = threading.Event()
    hung = threading.Event()

    def hang() -> None:
        with node.log.lock, node.claims._writing[0], node.claims._index, node.claims._freed:
            hung.set()
            released.wait()

    node.elections.driver.post(hang)
    try:
        assert hung.wait(60)
        for _ in range(3):
            before = agents.renewals("a")
            until(partial(agents.has_renewed, "a", before), agents.dump)
    finally:
        released.set()
