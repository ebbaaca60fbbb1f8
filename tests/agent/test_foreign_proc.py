"""A real agent whose ``/proc`` belongs to a PID namespace that the agent is not in: it says so."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from lab.errors import LabError
from lab.node import Node
from lab.world import Lab
from tests.support.waiting import until

pytestmark = [
    pytest.mark.needs("root", "ip", "unshare", "nsenter", "macvlan-plugin", "static-plugin"),
    pytest.mark.lab(azs=1, nodes_per_az=1, agents=True, policy={"reconcileSeconds": 1}),
]
FOREIGN = "unshare --pid --fork mount -t proc proc /proc"
SAYS = "does not see itself in /proc"


def says(node: Node, sentence: str) -> bool:
    """Whether a line of the agent's log says ``sentence``, and why."""
    return any(sentence in line and SAYS in line for line in node.agent.log.splitlines())


def test_it_does_not_start(lab_as_new: Lab) -> None:
    node = lab_as_new.nodes["a1"]
    node.agent.kill()
    with pytest.raises(LabError, match=SAYS):
        node.start_agent(sees=[FOREIGN])
    assert "is gone" not in str(node.agent)


def test_what_becomes_foreign_later_is_no_pod_that_is_gone(lab_as_new: Lab) -> None:
    lab, node = lab_as_new, lab_as_new.nodes["a1"]
    node.agent.kill()
    node.start_agent(sees=["true"])  # in a mount namespace of its own
    chain: dict[str, Any] = lab.conflist(["192.168.0.2/32"])
    pod, late = node.pod("web"), node.pod("late")
    node.add(pod, chain)
    mount = ["nsenter", f"--mount=/proc/{node.agent.pid}/ns/mnt", *FOREIGN.split()]
    subprocess.run(mount, check=True, timeout=30)

    other = lab.conflist(["192.168.0.3/32"], eth="ens7", name="other")
    with pytest.raises(Exception, match=SAYS):
        node.add(late, other)
    with pytest.raises(Exception, match=SAYS):
        node.check(pod, {**chain, "plugins": chain["plugins"][-1:]})
    until(lambda: says(node, "pod is not as ADD left it"), node.agent)
    node.delete(pod, chain)
    until(lambda: says(node, "cannot clear the pod"), node.agent)
    assert "is gone" not in node.agent.log
    assert "Traceback" not in node.agent.log
