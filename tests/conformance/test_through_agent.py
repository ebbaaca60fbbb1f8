"""What client and agent do otherwise than direct mode, by design: see ``through.DIRECT_ONLY``."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.harness import Bench, Sandbox
from tests.support.waiting import until

VIP = "192.168.0.13/32"


def started(bench: Bench, pod: Sandbox, **keys: Any) -> subprocess.Popen[bytes]:
    """Start an ADD; whoever starts it also ends it."""
    process = bench.start(bench.environment("ADD", pod))
    assert process.stdin is not None
    process.stdin.write(json.dumps(bench.config(prevResult=pod.prev(), **keys)).encode())
    process.stdin.close()
    process.stdin = None
    return process


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_an_add_whose_client_is_killed_is_taken_back(bench: Bench, number: signal.Signals) -> None:
    """With no DEL, and without waiting for one: nobody will hear that it succeeded."""
    pod = bench.sandbox(VIP)
    bench.lab.ec2.faults.hold("CreateRoute")
    process = started(bench, pod)
    until(lambda: bench.lab.ec2.faults.held)
    process.send_signal(number)
    process.communicate()
    assert process.returncode == -number
    bench.lab.ec2.faults.clear()
    until(lambda: bench.states() == [{"gone"}])
    assert (bench.vpc(VIP), pod.network()) == ({}, [])
    bench.delete(pod).ok()


def test_a_write_that_lands_after_its_client_and_after_del_is_taken_back(bench: Bench) -> None:
    bench.policy(releaseGraceSeconds=0, reconcileSeconds=2)
    pod = bench.sandbox(VIP)
    bench.lab.ec2.faults.hold("CreateRoute")
    process = started(bench, pod, routeTables={"ids": [bench.lab.tables["a"]]})
    until(lambda: bench.lab.ec2.faults.held)
    process.kill()
    process.communicate()
    bench.delete(pod).ok()
    assert bench.vpc(VIP) == {}
    bench.lab.ec2.faults.clear()
    until(lambda: bench.written("CreateRoute", outcome="ok"))
    until(lambda: not bench.vpc(VIP), seconds=75)


def test_release_is_the_default(bench: Bench) -> None:
    pod = bench.sandbox(VIP)
    bench.add(pod).ok()
    bench.delete(pod).ok()
    assert (bench.vpc(VIP), pod.network(), bench.states()) == ({}, [], [{"gone"}])


def test_gc_releases_by_default(bench: Bench) -> None:
    pod = bench.sandbox(VIP)
    bench.add(pod).ok()
    bench.call("GC", bench.config(**{"cni.dev/valid-attachments": []})).ok()
    assert (bench.vpc(VIP), pod.network(), bench.states()) == ({}, [], [{"gone"}])


def test_the_route_stays_for_the_grace(bench: Bench) -> None:
    bench.policy(releaseGraceSeconds=2)
    pod = bench.sandbox(VIP)
    bench.add(pod).ok()
    config = json.dumps(bench.config()).encode()
    process = bench.start(bench.environment("DEL", pod))
    began = time.time()
    process.communicate(config, 60)
    assert process.returncode == 0
    assert pod.network() == []
    until(lambda: not bench.vpc(VIP))
    assert min(call.at for call in bench.lab.ec2.journal.of(action="DeleteRoute")) - began > 1.9


def test_ec2_is_out_of_reach_and_the_keeper_catches_up(bench: Bench) -> None:
    pod = bench.sandbox(VIP)
    bench.add(pod).ok()
    bench.lab.ec2.faults.cut("a1")
    bench.delete(pod).ok()
    assert bench.states() == [{"releasing"}]
    assert bench.vpc(VIP) == bench.everywhere(pod.eni)
    bench.lab.ec2.faults.heal("a1")
    until(lambda: bench.vpc(VIP) == {}, seconds=75)


@pytest.mark.parametrize("text", [None, "{", '{"allowedDestinations": 1}'], ids=["absent", "broken", "wrong"])
def test_without_a_sound_policy_there_is_no_agent(bench: Bench, text: str | None) -> None:
    """The client says so, the agent's log says why; a DEL succeeds and waits in the spool."""
    path = Path(bench.lab.nodes["a1"].env["FLOATIP_CONFIG"])
    path.unlink()
    if text:
        path.write_text(text)
    bench.call("STATUS", bench.config()).refused(50, "agent")
    pod = bench.sandbox(VIP)
    answer = bench.delete(pod)
    answer.ok()
    spooled = list(bench.lab.nodes["a1"].agent.spool.glob("*.del"))
    assert len(spooled) == 1, spooled
    assert str(path) in bench.told(answer)
