"""A real agent, killed and started again: ``floatipctl status`` keeps its dates, also those of a release that
recorded none.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.agent.observe.status import _date
from lab import agent
from lab.node import Node
from lab.world import Lab
from tests.support.waiting import until

pytestmark = [
    pytest.mark.needs("root", "ip", "macvlan-plugin", "static-plugin"),
    pytest.mark.lab(azs=1, nodes_per_az=1, agents=True),
]
HOURS = 5 * 3600.0


def routes(node: Node) -> list[dict[str, Any]]:
    output = node.run([str(agent.PROGRAM), "status", "--json"]).stdout
    return [route for claim in json.loads(output)["claims"] for route in claim["routes"]]


def shows(node: Node, since: str | None) -> Callable[[], bool]:
    """Say whether the agent has looked at each route, and shows ``since`` for it."""
    return lambda: all(route["seen"]["at"] and route["seen"]["since"] == since for route in routes(node))


def age(route: dict[str, Any]) -> float:
    """Let the route have been as it is for hours."""
    route["changed"] -= HOURS
    return float(route["changed"])


def forget(route: dict[str, Any]) -> float:
    """Let the route be as release 0.3 recorded it, whose ADD was hours ago."""
    for key in ("target", "outage", "changed"):
        del route[key]
    route["since"] -= HOURS
    return float(route["since"])


@pytest.mark.parametrize("change", [age, forget])
def test_since_outlives_the_agent(lab_as_new: Lab, change: Callable[[dict[str, Any]], float]) -> None:
    lab = lab_as_new
    node = lab.nodes["a1"]
    node.add(node.pod("web"), lab.conflist(["192.168.0.2/32"]))
    table = node.run([str(agent.PROGRAM), "status"]).stdout
    assert "not seen yet" not in table  # an ADD has just written it
    node.agent.kill()
    path = next(iter(Path(node.data_dir).rglob("*.json")))
    document = json.loads(path.read_text())
    since = {_date(change(route)) for route in document["routes"]}
    path.write_text(json.dumps(document))
    node.start_agent()
    (expected,) = since
    until(shows(node, expected), lambda: routes(node), node.agent)
