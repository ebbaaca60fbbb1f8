"""A pod with NET_ADMIN wants the node's credentials: it removes what keeps its packets from metadata."""

from __future__ import annotations

import http.client
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from cni_floatip.edges.podnet import forwarding, guard, link_by_mac
from lab import netns
from lab.pod import Pod
from lab.router import METADATA
from lab.world import Lab
from tests.support.waiting import until

pytestmark = [
    pytest.mark.needs("root", "ip", "tc"),
    pytest.mark.lab(
        azs=1, nodes_per_az=1, agents=True, policy={"reconcileSeconds": 5, "logFormat": "json"}, warm=True
    ),
]

V4, V6 = "192.168.0.2", "fd00:192:168::2"
SOURCES = dict(zip((str(address) for address in METADATA), (V4, V6), strict=True))
SOON = 0.7
"""Metadata answers in milliseconds, or not at all."""


@pytest.fixture
def hostile_pod(lab: Lab) -> Iterator[Any]:
    """A pod with a floating IP, whose own hands have removed every route that says ``unreachable``."""
    node = lab.nodes["a1"]
    made = node.pod("hostile")
    chain = lab.conflist([f"{V4}/32", f"{V6}/128"])
    node.add(made, chain)
    yield made
    node.delete(made, chain)
    node.remove_pod(made)


def remove_its_routes(pod: Any) -> None:
    for family in ("-4", "-6"):
        command = ["ip", "-n", pod.ns, family, "route", "flush", "type", "unreachable", "table", "all"]
        subprocess.run(command, check=True)


def reachable(pod: Any) -> list[Any]:
    """Return the metadata addresses that give the pod a session token."""

    def token(address: Any) -> bool:
        connection = http.client.HTTPConnection(
            address, 80, timeout=SOON, source_address=(SOURCES[address], 0)
        )
        try:
            connection.request(
                "PUT", "/latest/api/token", headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"}
            )
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    return [address for address in SOURCES if netns.inside(pod.ns, token, address)]


def on_eni(lab: Lab, what: Any) -> Any:
    node = lab.nodes["a1"]

    def act() -> Any:
        return what(link_by_mac(node.eni("eth1").mac))

    return netns.inside(node.ns, act)


def test_without_its_routes_the_guard_still_stops_it(lab: Lab, hostile_pod: Pod) -> None:
    assert reachable(hostile_pod) == []
    lab.nodes["a1"].agent.freeze()  # so that nobody puts back what this proves the need of
    try:
        remove_its_routes(hostile_pod)
        assert reachable(hostile_pod) == []
        on_eni(lab, guard.remove)
        assert reachable(hostile_pod) == list(SOURCES), "the lab answers, so it was the guard"
    finally:
        lab.nodes["a1"].agent.thaw()


def test_the_agent_puts_the_guard_back_and_counts_it(lab: Lab, hostile_pod: Pod) -> None:
    remove_its_routes(hostile_pod)
    on_eni(lab, guard.remove)
    until(lambda: on_eni(lab, guard.present))
    assert reachable(hostile_pod) == []
    repaired = 'floatip_repairs_total{what="guard"}'
    agent = lab.nodes["a1"].agent
    until(lambda: agent.metrics().get(repaired, 0) >= 1, agent.metrics)


def test_what_it_is_there_for_still_works(lab: Lab, hostile_pod: Pod) -> None:
    remove_its_routes(hostile_pod)
    for client in lab.clients.values():
        for address in (V4, V6):
            assert client.ask(address, timeout=5) == "hostile"


def test_the_guard_outlives_the_agent(lab: Lab, hostile_pod: Pod) -> None:
    node = lab.nodes["a1"]
    remove_its_routes(hostile_pod)
    node.agent.kill()
    try:
        assert reachable(hostile_pod) == []
        on_eni(lab, guard.remove)
        assert reachable(hostile_pod) == list(SOURCES)
    finally:
        node.start_agent()
    until(lambda: on_eni(lab, guard.present))
    assert reachable(hostile_pod) == []


def test_the_host_forwards_nothing_from_the_eni(lab: Lab, hostile_pod: Pod) -> None:
    assert netns.inside(lab.nodes["a1"].ns, forwarding.stopped, "eth1") == {4, 6}
    assert netns.inside(lab.nodes["a1"].ns, forwarding.names) == {"eth1"}
