"""What an agent's process is tuned to, as the process itself sees it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lab.node import Node

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


def test_the_collector_passes_over_the_modules_and_keeps_no_garbage() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True", "10000"]


def test_the_agents_modules_are_kept_out_of_the_collectors_way(node: Node) -> None:
    node.agent.command = [sys.executable, "-c", AGENT]
    node.start_agent()
    assert node.agent.stop() == 0
    assert "kept out of the collector's way: True" in node.agent.log
