"""Two hundred ADDs at once, by the installed client, against a running agent and EC2's real request rates."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from bench import running
from bench.pods import Pod
from bench.running import Ran
from bench.scene import ENI, Scene
from cni_floatip.agent.ec2.shared import CONNECTIONS
from cni_floatip.agent.worker_pool import MOST
from tests.conftest import require
from tests.support.waiting import until

SECONDS = 12
"""What each ADD may take. EC2's rate gives only some of them their turn in it."""
RATES = {60: (15, 1), 200: (50, 5)}
"""The size and refill (per second) of EC2's bucket, by how many ADDs come at once."""


@pytest.fixture(scope="module")
def crowd() -> Iterator[Scene]:
    require("root", "ip")
    with Scene(tables=1) as scene:
        yield scene


def descriptors(scene: Scene) -> int:
    return len(os.listdir(f"/proc/{scene.agent.pid}/fd"))  # noqa: PTH208


def outcome(ran: Ran) -> tuple[int, dict[str, Any]]:
    answer = json.loads(ran.stdout)
    return (answer["code"] if ran.status else 0), answer


def leads_here(scene: Scene, pods: list[Pod]) -> set[str]:
    (routes,) = scene.order(tables=True)["tables"].values()
    return {pod.address for pod in pods if routes.get(f"{pod.address}/32") == ENI}


@pytest.mark.parametrize(
    "flood",
    [
        60,
        pytest.param(
            200,
            marks=pytest.mark.thorough(sample="test_a_flood_of_adds_succeeds_or_is_told_to_try_again[60]"),
        ),
    ],
)
def test_a_flood_of_adds_succeeds_or_is_told_to_try_again(crowd: Scene, flood: int) -> None:
    rate = RATES[flood]
    crowd.add(crowd.make_pods(1)[0])
    pods = crowd.make_pods(flood)
    until(lambda: crowd.working() == 0)
    before, threads = descriptors(crowd), crowd.threads()
    crowd.routes_elsewhere(pods)
    crowd.order(buckets=dict.fromkeys(("CreateRoute", "ReplaceRoute", "DeleteRoute"), rate), latency=0.03)
    done = running.run_all(
        crowd.command("ADD", pod, crowd.container(), timeoutSeconds=SECONDS) for pod in pods
    )
    results = [outcome(ran) for ran in done]
    assert {code for code, _ in results} <= {0, 11}, results
    assert max(ran.wall for ran in done) < SECONDS + 5
    held = {pod.address for pod, (code, _) in zip(pods, results, strict=True) if code == 0}
    assert len(held) >= rate[0]
    assert held <= leads_here(crowd, pods)
    sentences = [answer["msg"] for code, answer in results if code]
    assert any("request rate limit is exhausted" in item for item in sentences), sentences
    assert crowd.agent.poll() is None
    crowd.order(buckets={}, latency=0.0)
    until(lambda: crowd.working() == 0)
    until(lambda: crowd.threads() <= threads + MOST)
    listening = len(held)  # in each pod's namespace, for what it loses
    until(lambda: descriptors(crowd) <= before + CONNECTIONS + listening)  # idle ones stay, for the next pod


def test_the_agent_works_on_as_before(crowd: Scene) -> None:
    pod, container = crowd.make_pods(1)[0], crowd.container()
    crowd.add(pod, container)
    crowd.delete(pod, container)
    assert crowd.memory()["rss"] < 150
