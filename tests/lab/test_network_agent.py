"""Nodes of the lab run the real agent, and nothing of it is left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import leftovers
from lab.errors import LabError
from lab.node import Node
from lab.world import Lab

pytestmark = [
    pytest.mark.needs("root", "ip", "macvlan-plugin", "static-plugin", "floatip"),
    pytest.mark.lab(azs=1, nodes_per_az=1, agents=True),
]

START = """
import sys
from lab.world import Lab
with Lab(azs=1, nodes_per_az=1, agents=True) as lab:
    print(lab.nodes["a1"].agent.pid, flush=True)
    sys.stdin.read()
"""


def test_the_runtime_finds_the_client_first(lab: Lab, node_with_agent: Node) -> None:
    pod = node_with_agent.pod("web")
    try:
        node_with_agent.add(pod, lab.conflist())
        assert node_with_agent.runtime.runs[-1].plugin == "floatip"
        assert [line["verb"] for line in node_with_agent.agent.said() if line.get("verb")] == ["ADD"]
        assert lab.clients["vpc"].ask("192.168.0.2") == "web"
    finally:
        node_with_agent.delete(pod, lab.conflist())
        node_with_agent.remove_pod(pod)


def test_it_says_how_it_is(node_with_agent: Node) -> None:
    node_with_agent.agent.wait_ready()
    assert node_with_agent.agent.readiness()[0] == 200
    assert 10 < node_with_agent.agent.rss / 2**20 < 200
    assert any(name.startswith("floatip_") for name in node_with_agent.agent.metrics())


def test_it_ends_when_it_is_told_to(node_with_agent: Node) -> None:
    pid = node_with_agent.agent.pid
    node_with_agent.stop_agent()
    assert not leftovers.Owner.of(pid).started
    with pytest.raises(LabError, match="does not run"):
        node_with_agent.stop_agent()


def test_one_that_refuses_its_configuration_is_an_error_with_its_words(
    lab: Lab, node_with_agent: Node
) -> None:
    node_with_agent.agent.kill()
    node_with_agent.write_config({"allowedDestinations": 7})
    try:
        with pytest.raises(LabError, match="allowedDestinations"):
            node_with_agent.start_agent()
    finally:
        node_with_agent.write_config(lab.node_config())


@pytest.fixture
def another() -> Iterator[tuple[Any, Any]]:
    """A lab in a process of its own; yields the process and its agent."""
    process = subprocess.Popen(
        [sys.executable, "-c", START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )
    assert process.stdout
    agent = leftovers.Owner.of(int(process.stdout.readline()))
    yield process, agent
    process.kill()
    process.communicate()
    leftovers.sweep()


def test_the_agent_of_a_killed_lab_is_swept(another: tuple[Any, Any]) -> None:
    process, agent = another
    assert agent.alive
    process.kill()
    process.wait(timeout=10)
    leftovers.sweep()  # as another lab, too, may do at any time
    assert not agent.alive


@pytest.mark.thorough(sample="test_the_agent_of_a_killed_lab_is_swept")
@pytest.mark.parametrize("interrupted", [True, False])
def test_the_end_of_a_lab_is_the_end_of_its_agents(another: tuple[Any, Any], interrupted: bool) -> None:
    process, agent = another
    if interrupted:
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert not agent.alive
