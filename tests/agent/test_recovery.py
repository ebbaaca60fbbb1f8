"""What an agent makes of the records that it finds: a full disk, a wall clock that was set."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cni_floatip.agent.claim_cache import ClaimCache
from cni_floatip.agent.recovery import clamp_times, monotonic_wall_clock, recover
from cni_floatip.model.claim import Claim
from cni_floatip.model.claim_state import State
from cni_floatip.model.errors import IoFailure
from tests.support.simulated_cluster import SimulatedCluster, SimulatedNode

GRACE = 60


class FullDisk(ClaimCache):
    """As if nothing were known to end in memory, either."""

    def put(self, claim: Claim) -> None:
        raise IoFailure("No space left on device")


class Node(SimulatedNode):
    """A node whose wall clock may be set: ``off`` seconds from where it was."""

    off = 0.0

    def start(self) -> None:
        super().start()
        clock = self.cluster.clock
        now = monotonic_wall_clock(lambda: self.cluster.now() + self.off, clock)
        self.world = replace(self.world, now=now)
        recover(self.world)
        self.keeper._world = self.keeper._repairer._world = self.keeper._reconciler._world = self.world


def node(tmp_path: Path) -> Node:
    simulated_node = SimulatedCluster(tmp_path, "a", node=Node).nodes["a"]
    assert isinstance(simulated_node, Node)
    return simulated_node


def test_the_agents_clock_goes_on_whatever_becomes_of_the_walls() -> None:
    wall, up = 5000.0, 100.0
    now = monotonic_wall_clock(lambda: wall, lambda: up)
    wall, up = 1000.0, 107.0
    assert now() == 5007.0


def test_a_clock_that_was_set_back_delays_no_release_by_more_than_a_grace(tmp_path: Path) -> None:
    a = node(tmp_path)
    pod = a.add()
    a.cluster.pass_time(100)
    a.delete(pod)
    a.off = -86400.0
    a.start()
    a.cluster.pass_time(GRACE + 30)
    assert a.state(pod) == "gone"
    assert a.cluster.leads() == ""


def test_times_to_come_are_those_of_a_clock_that_was_ahead(tmp_path: Path) -> None:
    a = node(tmp_path)
    pod = a.add()
    claim = a.claims.get(pod)
    assert isinstance(claim, Claim)
    now = claim.created_at - 3600
    result = clamp_times(claim.release(now + 7200, now + 3600), now, GRACE)
    assert [(r.held_since, r.not_before) for r in result.routes] == [(now, now + GRACE)]
    assert (result.created_at, result.last_write_at) == (now, now)
    assert result.created_at < result.deleted_at < now + 1
    sound = claim.release(claim.last_write_at + 2 * GRACE - 1, claim.last_write_at)
    assert clamp_times(sound, claim.last_write_at + 1, GRACE) == sound


def test_an_agent_starts_with_a_full_disk(tmp_path: Path) -> None:
    a = node(tmp_path)
    pod = a.add()
    a.boot_id = "another"
    a.claims.put = FullDisk.put.__get__(a.claims)  # type: ignore[method-assign]
    assert recover(a.world) == 1
    assert "No space left" in a.said[-1]
    del a.claims.put
    assert recover(a.world) == 1
    claim = a.claims.get(pod)
    assert isinstance(claim, Claim)
    assert claim.state is State.RELEASING


@pytest.mark.needs("root", "unshare", "/proc/self/ns/time")
def test_the_clock_counts_the_time_that_the_machine_slept() -> None:
    """In a time namespace whose boot is a day longer ago than its monotonic clock says."""
    program = "import time; from cni_floatip.edges import host; print(host.clock() - time.monotonic())"
    argv = ["unshare", "--time", "--boottime", "86400", sys.executable, "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert float(done.stdout) > 86000
