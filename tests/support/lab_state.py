"""A lab for tests that drive the plugin by a runtime: built once per module, lent to each test as new."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.demo.story import claim_states
from lab.node import Node
from lab.vpc import FLOATING, FLOATING6
from lab.world import Lab

FLOATIP = Path(sys.executable).with_name("floatip")
FLOATIPCTL = Path(sys.executable).with_name("floatipctl")


@contextmanager
def as_new(lab: Lab) -> Iterator[Lab]:
    """Lend the lab to one test: afterwards no pod, no claim, no floating route and no fault is left of it.

    Where nodes run the agent, it has just started when the test begins.
    """
    try:
        for node in lab.nodes.values():
            if lab.agents and not node.agent.is_running:
                node.write_config(lab.node_config())
                node.start_agent(wait=False)
        for node in lab.nodes.values():
            if lab.agents:
                node.agent.wait_ready()
        yield lab
    finally:
        lab.ec2.faults.clear()
        for node in lab.nodes.values():
            node.agent.kill()
            shutil.rmtree(node.agent.spool, ignore_errors=True)
            if not node.is_up:
                node.recover()
            for pod in list(node.pods):
                node.remove_pod(pod)
            shutil.rmtree(node.data_dir, ignore_errors=True)
            node.data_dir.mkdir()
        for table in lab.tables.values():
            _remove_floating_routes(lab, table)


def _remove_floating_routes(lab: Lab, table: str) -> None:
    for destination in lab.ec2.truth(table):
        if destination.startswith(str(FLOATING[0])[:-1]):
            lab.ec2.client().delete_route(RouteTableId=table, DestinationCidrBlock=destination)
        elif destination.startswith(str(FLOATING6[0])[:-1]):
            lab.ec2.client().delete_route(RouteTableId=table, DestinationIpv6CidrBlock=destination)


def plugin_directory(directory: Path, floatip: Path = FLOATIP) -> Path:
    """Return a directory that holds ``floatip`` as an administrator would install it, under its own name."""
    directory.mkdir(parents=True)
    (directory / "floatip").symlink_to(floatip)
    return directory


def targets(lab: Lab, destination: str) -> set[str | None]:
    """Return where the lab's route tables send a destination; ``None`` is a table without a route.

    By then the router has them too: a packet that is sent next goes there.
    """
    routes = [lab.ec2.truth(table).get(destination) for table in lab.tables.values()]
    lab.follow()  # what was read may be of a change that the router is only being told of
    return {route.target if route else None for route in routes}


def only(node: Node, ifname: str = "eth1") -> set[str | None]:
    """What ``targets`` says when every table sends to this node's ENI."""
    return {node.eni(ifname).id}


def claims(node: Node) -> list[str]:
    """Return the states of the claims on the node's disk, as floatipctl shows them."""
    listed = json.loads(node.run([str(FLOATIPCTL), "claims", "--json"]).stdout)
    return sorted(claim["state"] for claim in listed["claims"])


def report_of(node: Node) -> Callable[[], str]:
    """Return what shows the states of a node's claims and its agent's log when it is called."""
    return lambda: f"-- {node}: {sorted(claim_states(node))}\n{node.agent}"


NOWHERE: set[str | None] = {None}
