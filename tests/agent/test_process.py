"""What an agent's process is tuned to, as the process itself sees it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from lab.node import Node
from lab.world import Lab
from tests.support.dialogue import call
from tests.support.two_nodes import Place, Scene

pytestmark = pytest.mark.lab(azs=1, nodes_per_az=1)

SCRIPT = """
import gc, weakref
from cni_floatip.agent import process
class Loop: pass
loop = Loop()
loop.itself, end = loop, weakref.ref(loop)
del loop
process.spare_what_stays()
print(gc.get_freeze_count() > 1000, end() is None, gc.isenabled(), gc.get_threshold()[0])
"""
AGENT = """
import gc, sys
from cni_floatip import cli
status = cli.main(["agent"])
print("kept out of the collector's way:", gc.get_freeze_count() > 10_000, file=sys.stderr)
sys.exit(status)
"""

UNCOLLECTED = """
import gc, sys
from cni_floatip import cli
from cni_floatip.agent import process
from cni_floatip.agent.server.connection import Connection
process.spare_what_stays = gc.disable
status = cli.main(["agent"])
left = sum(type(item) is Connection for item in gc.get_objects())
print("calls left to the collector:", left, file=sys.stderr)
sys.exit(status)
"""


def test_the_collector_passes_over_the_modules_and_keeps_no_garbage() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True", "10000"]


def test_the_agents_modules_are_kept_out_of_the_collectors_way(node: Node) -> None:
    node.agent.command = [sys.executable, "-c", AGENT]
    node.start_agent()
    assert node.agent.stop() == 0
    assert "kept out of the collector's way: True" in node.agent.log


def test_nothing_of_a_call_is_left_to_the_collector(lab: Lab, node: Node) -> None:
    """Else what calls have read stays until there is much of it, and other memory comes between."""
    node.agent.command = [sys.executable, "-c", UNCOLLECTED]
    node.start_agent()
    attachment = Scene(lab).attach(Place(lab, node, "direct"), "192.168.0.2/32")

    def run(verb: str, **more: Any) -> dict[str, Any]:
        config, netns = attachment.config() | more, attachment.pod.netns
        code, result = call(node.agent.socket, verb, config, container="web", netns=netns)
        assert code == 0, result
        return result

    run("CHECK", prevResult=run("ADD"))
    run("DEL")
    node.remove_pod(attachment.pod)
    assert node.agent.stop() == 0
    assert "calls left to the collector: 0" in node.agent.log
