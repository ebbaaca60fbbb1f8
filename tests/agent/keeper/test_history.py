"""``status`` says since when a route is as it shows it, also after a restart of the agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cni_floatip.agent.observe import status
from cni_floatip.model.values import Attachment, RouteTarget
from tests.support.simulated_cluster import FLOATING, SimulatedCluster


def gateway(cluster: SimulatedCluster, _: Attachment) -> None:
    cluster.ec2.tables["rtb-1"][FLOATING] = RouteTarget("igw-1", is_eni=False)


def detach(cluster: SimulatedCluster, _: Attachment) -> None:
    cluster.nodes["a"].enis = ()


def nothing(*_: object) -> None:
    """The route stays as ADD wrote it."""


def shown(cluster: SimulatedCluster) -> dict[str, Any]:
    """Return what the agent of node a shows of the one route that it has ever claimed."""
    node = cluster.nodes["a"]
    looks = status.KeeperLooks(node.keeper.route_reports(), node.keeper.outage)
    facts = status.Facts("1", 1, cluster.now())
    document = status.document(facts, node.claims.all()[0], [], looks, now=cluster.now())
    ((route,),) = [claim["routes"] for claim in document["claims"]]
    return dict(route)


def date(cluster: SimulatedCluster) -> str:
    return str(status._date(cluster.now()))


@pytest.mark.parametrize(
    ("change", "state", "target"),
    [
        (nothing, "held", "eni-a"),
        (lambda cluster, _: cluster.nodes["b"].add(), "superseded", "eni-b"),
        (gateway, "not an ENI", "igw-1"),
        (detach, "cut off", "eni-a"),
        (lambda cluster, pod: cluster.nodes["a"].delete(pod), "releasing", "eni-a"),
    ],
    ids=["held", "superseded", "a gateway's", "cut off", "releasing"],
)
def test_it_is_since_then_for_the_next_agent_too(
    cluster: SimulatedCluster,
    change: Callable[[SimulatedCluster, Attachment], object],
    state: str,
    target: str,
) -> None:
    pod = cluster.nodes["a"].add()
    if change is not nothing:
        cluster.pass_time(400)
    began = date(cluster)
    change(cluster, pod)
    cluster.pass_time(40)
    before = shown(cluster)
    assert (before["outage"] or before["state"], before["seen"]["target"]) == (state, target)
    assert began <= before["seen"]["since"] < date(cluster)

    for _ in range(2):
        cluster.nodes["a"].start()
        at_once = shown(cluster)["seen"]
        assert at_once == before["seen"] | {"at": None}  # this agent has not looked yet
        cluster.pass_time(5)
        again = shown(cluster)
        assert again["seen"]["at"] > before["seen"]["at"]
        assert again["seen"]["since"] == before["seen"]["since"]
        assert (again["outage"] or again["state"]) == state


def test_what_happened_between_two_agents_is_since_the_first_look_of_the_second(
    cluster: SimulatedCluster,
) -> None:
    cluster.nodes["a"].add()
    cluster.pass_time(100)
    cluster.ec2.tables["rtb-1"][FLOATING] = RouteTarget("igw-1", is_eni=False)
    cluster.at += 1000  # nobody looks
    cluster.nodes["a"].start()
    began = date(cluster)
    cluster.pass_time(100)
    assert shown(cluster)["seen"]["since"] == began


def test_an_add_is_shown_before_the_first_look(cluster: SimulatedCluster) -> None:
    cluster.nodes["a"].add()
    assert shown(cluster)["seen"] == {"target": "eni-a", "at": None, "since": date(cluster)}


def test_a_route_that_stays_as_it_is_is_written_once(cluster: SimulatedCluster) -> None:
    node = cluster.nodes["a"]
    attachment = node.add()
    written = []
    node.claims.listen(lambda _, claim: written.append(claim))
    written.clear()
    cluster.pass_time(3600)
    assert written == []
    assert node.state(attachment) == "held"


def test_a_full_disk_makes_it_since_this_agent_saw_it(
    cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The date on record is that of another state: it must not be shown for this one."""
    node = cluster.nodes["a"]
    node.add()
    cluster.pass_time(400)
    monkeypatch.setattr(node.keeper._repairer, "change", lambda *_: False)
    began = date(cluster)
    cluster.ec2.tables["rtb-1"][FLOATING] = RouteTarget("igw-1", is_eni=False)
    cluster.pass_time(100)
    assert shown(cluster)["seen"]["since"] >= began
