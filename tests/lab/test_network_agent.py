"""Nodes of the lab run the real agent, and nothing of it is left behind."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab import leftovers
from lab.errors import LabError
from lab.world import Lab

pytestmark = pytest.mark.needs("root", "ip", "macvlan-plugin", "static-plugin", "floatip")

START = """
import sys
from lab.world import Lab
with Lab(azs=1, nodes_per_az=1, agents=True) as lab:
    print(lab.nodes["a1"].agent.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def lab():
    with Lab(azs=1, nodes_per_az=1, fast_dad=True, agents=True) as running:
        yield running


@pytest.fixture
def node(lab):
    node = lab.nodes["a1"]
    if not node.agent.is_running:
        node.start_agent()
    return node


def test_the_runtime_finds_the_client_first(lab, node):
    pod = node.pod("web")
    try:
        node.add(pod, lab.conflist())
        assert node.runtime.runs[-1].plugin == "floatip"
        assert [line["verb"] for line in node.agent.said() if line.get("verb")] == ["ADD"]
        assert lab.clients["vpc"].ask("192.168.0.2") == "web"
    finally:
        node.delete(pod, lab.conflist())
        node.remove_pod(pod)


def test_it_says_how_it_is(node):
    node.agent.wait_ready()
    assert node.agent.readiness()[0] == 200
    assert 10 < node.agent.rss / 2**20 < 200
    assert any(name.startswith("floatip_") for name in node.agent.metrics())


def test_it_ends_when_it_is_told_to(node):
    pid = node.agent.pid
    node.stop_agent()
    assert not leftovers.Owner.of(pid).started
    with pytest.raises(LabError, match="does not run"):
        node.stop_agent()


def test_one_that_refuses_its_configuration_is_an_error_with_its_words(lab, node):
    node.agent.kill()
    node.write_config({"allowedDestinations": 7})
    try:
        with pytest.raises(LabError, match="allowedDestinations"):
            node.start_agent()
    finally:
        node.write_config(lab.node_config())


@pytest.fixture
def another():
    """A lab in a process of its own; yields the process and its agent."""
    process = subprocess.Popen(
        [sys.executable, "-c", START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )
    agent = leftovers.Owner.of(int(process.stdout.readline()))
    yield process, agent
    process.kill()
    process.communicate()
    leftovers.sweep()


def test_the_agent_of_a_killed_lab_is_swept(another):
    process, agent = another
    assert agent.alive
    process.kill()
    process.wait(timeout=10)
    leftovers.sweep()  # as another lab, too, may do at any time
    assert not agent.alive


@pytest.mark.thorough(sample="test_the_agent_of_a_killed_lab_is_swept")
@pytest.mark.parametrize("interrupted", [True, False])
def test_the_end_of_a_lab_is_the_end_of_its_agents(another, interrupted):
    process, agent = another
    if interrupted:
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert not agent.alive
