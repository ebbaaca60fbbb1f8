"""What a live pod loses of what ADD gave it is put back, through the client and a real agent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lab.agent import PROGRAM
from tests.conformance.harness import Bench, Sandbox
from tests.conformance.through import HASTENED, PODS_LEFT_ALONE, Agents
from tests.support.waiting import until

OWN = ("route add 10.60.0.0/16 dev net1 table 100", "rule add from 10.9.9.9 lookup 300 pref 90")
"""What a pod put there itself: not ours to touch, and not ours to put back."""

NO_LOOKS = 3600
"""``reconcileSeconds`` with which nothing but an event brings about a look."""


@pytest.fixture
def caring(bench: Bench) -> Iterator[Bench]:
    """The agent looks into pods as it does in a cluster, but not by itself."""
    assert isinstance(bench.agents, Agents)
    bench.agents.hastened = dict(HASTENED)
    bench.policy(reconcileSeconds=NO_LOOKS)
    yield bench
    bench.agents.hastened = HASTENED | PODS_LEFT_ALONE


def status(bench: Bench) -> tuple[int, dict[str, Any], str]:
    """Return exit status, document and text of ``floatipctl status``."""
    node = bench.lab.nodes["a1"]
    done = node.run([str(PROGRAM), "status", "--json"])
    return done.returncode, json.loads(done.stdout), node.run([str(PROGRAM), "status"]).stdout


def lost(bench: Bench, pod: Sandbox) -> list[str]:
    """Return what ``status`` says the pod lacks."""
    claims = status(bench)[1]["claims"]
    result = next(claim["podLost"] for claim in claims if claim["containerId"] == pod.container)
    return result["what"] if result else []


def repairs(bench: Bench, what: str) -> float:
    metrics = bench.lab.nodes["a1"].agent.metrics()
    return metrics.get(f'floatip_repairs_total{{what="{what}"}}', 0.0)


def bounce(pod: Sandbox) -> None:
    pod.ip("link set net1 down", "link set net1 up")


def flush_rules(pod: Sandbox) -> None:
    pod.ip("rule flush", "rule add pref 32766 lookup main", "rule add pref 32767 lookup default")


def test_what_a_pod_loses_is_put_back(caring: Bench) -> None:
    """By events, in one agent; then what was lost while no agent ran, by the next agent's first look."""
    bench = caring
    node = bench.lab.nodes["a1"]
    flapped = bench.sandbox("192.168.0.9/24", name="flapped")
    flapped6 = bench.sandbox("fd00:192:168::9/128", name="flapped6", kind="veth")
    flushed = bench.sandbox("192.168.0.19/32", "fd00:192:168::19/128", name="flushed", kind="veth")
    robbed = bench.sandbox("192.168.0.29/32", name="robbed", kind="veth")
    pods = flapped, flapped6, flushed, robbed
    for pod in pods:
        bench.add(pod).ok()
    robbed.ip(*OWN)
    before = {pod: pod.network() for pod in pods}
    assert flapped.main_routes() == []

    def whole() -> bool:
        return all(pod.network() == before[pod] for pod in pods) and flapped.main_routes() == []

    def lose() -> None:
        bounce(flapped)
        bounce(flapped6)
        flush_rules(flushed)
        robbed.ip("route del default table 100", "route del unreachable 169.254.0.0/16 table 100")

    def output(pod: Sandbox) -> bool:
        lines = (line for line in node.agent.log.splitlines() if "put back into the pod" in line)
        return any(f"default/{pod.pod.name}" in line for line in lines)

    lose()
    until(whole)
    until(lambda: all(map(output, pods)))
    until(lambda: repairs(bench, "pod-route") >= len(pods))
    shown = robbed.node.run(["ip", "-n", robbed.pod.ns, "route", "show", "table", "100"]).stdout
    assert "10.60.0.0/16" in shown
    assert "90:" in robbed.node.run(["ip", "-n", robbed.pod.ns, "rule"]).stdout

    # The address went with the link, as IPv6 addresses do: the pod's own to put back, and said meanwhile.
    until(lambda: lost(bench, flapped6) == ["address fd00:192:168::9 is missing"])
    code, _, text = status(bench)
    assert code == 1
    assert "default/flapped6 net1: since 20" in text
    assert node.agent.metrics()["floatip_incomplete_pods"] == 1
    flapped6.ip("addr add fd00:192:168::9/128 dev net1")
    until(lambda: not lost(bench, flapped6))

    # Over a restart: all that is needed is on disk.
    node.agent.kill()
    lose()
    flapped6.ip("addr add fd00:192:168::9/128 dev net1")
    bench.status().ok()
    until(whole)
    bench.check(flushed).ok()
    for pod in pods:
        bench.delete(pod).ok()
    assert [pod.network() for pod in pods] == [[]] * 4


def test_what_cannot_be_put_back_is_said_and_tried_again_at_each_look(caring: Bench) -> None:
    """Another's route is in the way; the ENI's link is down, and comes up as it does for an ADD."""
    bench = caring
    assert bench.agents is not None
    bench.agents.hastened = HASTENED | {
        "cni_floatip.agent.watch.watched_pods.SETTLE_SECONDS": 3600
    }  # no event's look
    bench.policy(reconcileSeconds=1)
    node = bench.lab.nodes["a1"]
    pod = bench.sandbox("192.168.0.9/32")
    bench.add(pod).ok()
    before = pod.network()
    theirs = "default via 10.10.1.9 dev net1 onlink table 100"
    pod.ip(f"route replace {theirs}")
    until(lambda: any("another route is there" in item for item in lost(bench, pod)))
    assert pod.network() == [line for line in before if not line.startswith("0.0.0.0/0 via")]
    assert "via 10.10.1.9" in node.run(["ip", "-n", pod.pod.ns, "route", "show", "table", "100"]).stdout
    pod.ip(f"route del {theirs}")  # no event of ours says so
    until(lambda: pod.network() == before)
    until(lambda: not lost(bench, pod))

    node.run(["ip", "link", "set", pod.eth, "down"])
    until(lambda: "UP" in json.loads(node.run(["ip", "-j", "link", "show", pod.eth]).stdout)[0]["flags"])
    until(lambda: repairs(bench, "link") == 1)
    until(lambda: f"{pod.eth}, the ENI's link" in node.agent.log)
    until(lambda: not lost(bench, pod))
