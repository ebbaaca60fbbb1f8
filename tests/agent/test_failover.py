"""A floating IP moves between nodes that run the agent, and whatever goes wrong meanwhile.

Times are a twentieth of what they are by default, with the same order among them: staleness of reads, then
grace and patience (``ARCHITECTURE.md``). Every test asks EC2 for what its tables really hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lab import agent, netns
from lab.chain import PluginError
from lab.demo.story import claim_states
from lab.node import Node
from lab.pod import Pod
from lab.world import Lab
from tests.support.lab_state import NOWHERE, only, report_of, targets
from tests.support.waiting import throughout, until

GRACE = 3.0
RECONCILE = 3.0
VIP = "192.168.0.2"
ROUTE = f"{VIP}/32"
WRITES = ("CreateRoute", "ReplaceRoute", "DeleteRoute")

pytestmark = [
    pytest.mark.needs("root", "ip", "unshare", "macvlan-plugin", "static-plugin"),
    pytest.mark.lab(
        nodes_per_az=1,
        agents=True,
        warm=True,
        policy={"releaseGraceSeconds": GRACE, "reconcileSeconds": RECONCILE},
    ),
    pytest.mark.usefixtures("lab_as_new"),
]


@pytest.fixture
def a(lab: Lab) -> Node:
    return lab.nodes["a1"]


@pytest.fixture
def b(lab: Lab) -> Node:
    return lab.nodes["b1"]


@pytest.fixture
def chain(lab: Lab) -> dict[str, Any]:
    return lab.conflist([ROUTE])


def added(node: Node, chain: dict[str, Any], name: str = "") -> Pod:
    pod = node.pod(name or f"web-{node}")
    node.add(pod, chain)
    return pod


def let_go(node: Node) -> Callable[[], bool]:
    """Say whether the node wants no route any more, and has none to take back."""
    return lambda: claim_states(node) <= {"gone"}


def stays(lab: Lab, expected: set[str | None], seconds: float) -> None:
    """Fail if any table ever leads elsewhere meanwhile."""
    throughout(lambda: targets(lab, ROUTE) == expected, seconds)


def writes(lab: Lab, *actions: str) -> list[str]:
    """Return the writes that reached EC2."""
    return [f"{c.caller} {c.action} {c.outcome}" for c in lab.ec2.journal if c.action in (actions or WRITES)]


# -- a pod moves --------------------------------------------------------------------------------------------


def test_a_zone_is_lost_and_comes_back(lab: Lab, a: Node, b: Node, chain: dict[str, Any]) -> None:
    """One write per table moves the address; the late DEL of the lost node writes nothing at all."""
    old = added(a, chain)
    assert lab.clients["vpc"].ask(VIP) == "web-a1"
    lab.azs["a"].fail()
    lab.ec2.journal.clear()

    added(b, chain)
    assert lab.clients["vpc"].ask(VIP) == lab.clients["tgw"].ask(VIP) == "web-b1"
    assert writes(lab) == ["b1 ReplaceRoute ok"] * len(lab.tables)

    lab.azs["a"].recover()
    lab.ec2.journal.clear()
    until(lambda: claim_states(a) == {"superseded"}, report_of(a))
    a.delete(old, chain)
    until(let_go(a), report_of(a))
    assert writes(lab) == []
    assert targets(lab, ROUTE) == only(b)
    assert lab.clients["vpc"].ask(VIP) == "web-b1"


def test_a_pod_is_rescheduled_and_its_route_is_never_absent(
    lab: Lab, a: Node, b: Node, chain: dict[str, Any]
) -> None:
    """DEL comes first, as in a rolling update: the grace leaves the route for the next owner to replace."""
    old = added(a, chain)
    lab.ec2.journal.clear()
    a.delete(old, chain)
    assert targets(lab, ROUTE) == only(a)
    added(b, chain)
    stays(lab, only(b), GRACE + 1)
    until(let_go(a), report_of(a))
    assert writes(lab) == ["b1 ReplaceRoute ok"] * len(lab.tables)


@pytest.mark.thorough(sample="test_a_zone_is_lost_and_comes_back")
def test_a_del_while_the_zone_is_lost_is_done_when_it_is_back(
    lab: Lab, a: Node, b: Node, chain: dict[str, Any]
) -> None:
    old = added(a, chain)
    lab.azs["a"].fail()
    began = time.monotonic()
    a.delete(old, chain)
    assert time.monotonic() - began < 10
    until(lambda: claim_states(a) == {"releasing"})
    throughout(lambda: claim_states(a) == {"releasing"}, GRACE + 1)
    assert targets(lab, ROUTE) == only(a)

    lab.azs["a"].recover()
    until(lambda: targets(lab, ROUTE) == NOWHERE, report_of(a))
    until(let_go(a), report_of(a))
    added(b, chain)
    stays(lab, only(b), 2)


@pytest.mark.thorough(sample="test_a_zone_is_lost_and_comes_back")
def test_there_and_back_while_reads_are_stale(lab: Lab, a: Node, b: Node, chain: dict[str, Any]) -> None:
    """A -> B -> A: what a node reads may show the time when the route was its own."""
    lab.ec2.faults.stale_reads(1.5, 0.8)
    first = added(a, chain, "first")
    second = added(b, chain, "second")
    a.delete(first, chain)
    a.remove_pod(first)
    added(a, chain, "third")
    b.delete(second, chain)
    lab.ec2.journal.clear()
    stays(lab, only(a), 2 * GRACE + 2 * RECONCILE)
    assert writes(lab) == []
    assert lab.clients["vpc"].ask(VIP) == "third"
    until(let_go(b), report_of(b))


# -- an agent ends and starts -------------------------------------------------------------------------------


@pytest.mark.one_in(2)
@pytest.mark.parametrize("end", [Node.stop_agent, lambda node: node.agent.kill()], ids=["TERM", "KILL"])
def test_the_agent_is_restarted_while_its_pod_lives(
    lab: Lab, a: Node, chain: dict[str, Any], end: Callable[[Node], None]
) -> None:
    pod = added(a, chain)
    lab.ec2.journal.clear()
    end(a)
    assert lab.clients["vpc"].ask(VIP) == "web-a1"
    a.start_agent()
    stays(lab, only(a), GRACE)
    assert claim_states(a) == {"held"}
    assert writes(lab) == []

    a.delete(pod, chain)
    until(lambda: targets(lab, ROUTE) == NOWHERE, report_of(a))


@pytest.mark.thorough(sample="test_the_agent_is_restarted_while_its_pod_lives[TERM]")
def test_the_agent_dies_in_the_grace(lab: Lab, a: Node, chain: dict[str, Any]) -> None:
    pod = added(a, chain)
    a.delete(pod, chain)
    a.agent.kill()
    assert targets(lab, ROUTE) == only(a)
    a.start_agent()
    until(lambda: targets(lab, ROUTE) == NOWHERE, report_of(a))
    until(let_go(a), report_of(a))


def test_the_pod_has_moved_while_the_agent_was_away(
    lab: Lab, a: Node, b: Node, chain: dict[str, Any]
) -> None:
    old = added(a, chain)
    a.agent.kill()
    added(b, chain)
    a.delete(old, chain)  # nobody takes it: it lies in the spool
    assert list(a.agent.spool.glob("*.del"))
    lab.ec2.journal.clear()
    a.start_agent()
    until(let_go(a), report_of(a))
    assert list(a.agent.spool.glob("*.del")) == []
    assert writes(lab) == []
    assert targets(lab, ROUTE) == only(b)


def test_the_agent_dies_while_an_add_waits_for_ec2(lab: Lab, a: Node, chain: dict[str, Any]) -> None:
    """The client asks the next one, which does it all."""
    pod = a.pod("web-a1")
    lab.ec2.faults.hold("CreateRoute")
    with ThreadPoolExecutor(1) as pool:
        adding = pool.submit(a.add, pod, chain)
        until(lambda: lab.ec2.faults.held > 0 and claim_states(a) == {"claiming"}, report_of(a))
        a.agent.kill()
        lab.ec2.faults.clear()
        a.start_agent()
        adding.result()
    assert targets(lab, ROUTE) == only(a)
    assert claim_states(a) == {"held"}
    assert lab.clients["vpc"].ask(VIP) == "web-a1"


def test_the_node_loses_power_and_boots(lab: Lab, a: Node, chain: dict[str, Any]) -> None:
    """No DEL ever comes for its pods: their routes are taken back, since they are of another boot."""
    added(a, chain)
    a.crash()
    assert targets(lab, ROUTE) == only(a)
    a.boot()
    until(lambda: targets(lab, ROUTE) == NOWHERE, report_of(a))
    until(let_go(a), report_of(a))


@pytest.mark.thorough(sample="test_the_node_loses_power_and_boots")
def test_the_node_boots_when_the_pod_is_elsewhere(lab: Lab, a: Node, b: Node, chain: dict[str, Any]) -> None:
    added(a, chain)
    a.crash()
    added(b, chain)
    lab.ec2.journal.clear()
    a.boot()
    until(let_go(a), report_of(a))
    assert writes(lab) == []
    assert targets(lab, ROUTE) == only(b)


# -- an agent that cannot see --------------------------------------------------------------------------------


@pytest.mark.thorough(sample="test_a_zone_is_lost_and_comes_back")
def test_an_agent_without_run_netns_releases_nothing_and_is_not_ready(
    lab: Lab, a: Node, chain: dict[str, Any]
) -> None:
    """Its pod was started without the host's /run/netns: that no namespace is there proves nothing."""
    added(a, chain)
    a.agent.kill()
    lab.ec2.journal.clear()
    a.start_agent(sees=[agent.BLIND])
    stays(lab, only(a), GRACE + 2 * RECONCILE)
    assert claim_states(a) == {"held"}
    assert writes(lab) == []
    status, why = a.agent.readiness()
    assert status == 503
    assert "netns" in why

    a.agent.kill()
    a.start_agent()
    a.agent.wait_ready()
    assert claim_states(a) == {"held"}


@pytest.mark.thorough(sample="test_a_zone_is_lost_and_comes_back")
def test_a_mount_that_does_not_follow_the_host_ends_no_pod(lab: Lab, a: Node, chain: dict[str, Any]) -> None:
    """/run/netns without mount propagation: of a namespace made later only an empty file is to be seen."""
    a.agent.kill()
    a.start_agent(sees=[agent.DETACHED])
    added(a, chain)
    stays(lab, only(a), GRACE + 2 * RECONCILE)
    assert claim_states(a) == {"held"}


def test_a_pod_that_is_gone_without_a_del_is_noticed(lab: Lab, a: Node, chain: dict[str, Any]) -> None:
    """Another namespace is to be seen, so the path that is not there is evidence."""
    a.pod("bystander")
    other = lab.conflist(["192.168.0.3/32"], eth="ens7", name="other")
    added(a, other, "stays")
    pod = added(a, chain)
    netns.remove([pod.ns])
    until(lambda: targets(lab, ROUTE) == NOWHERE, report_of(a), seconds=90)
    assert targets(lab, "192.168.0.3/32") == only(a, "ens7")


# -- EC2 has its bad days -----------------------------------------------------------------------------------


def test_del_ends_an_add_that_is_throttled(lab: Lab, a: Node, chain: dict[str, Any]) -> None:
    pod = a.pod("web-a1")
    lab.ec2.faults.error("CreateRoute", "RequestLimitExceeded", "Request limit exceeded.", times=None)
    with ThreadPoolExecutor(1) as pool:
        adding = pool.submit(a.add, pod, chain)
        until(lambda: len(lab.ec2.journal.of(action="CreateRoute")) > 2, report_of(a))
        began = time.monotonic()
        a.runtime.delete(pod, {**chain, "plugins": chain["plugins"][1:]}, "net1")
        assert time.monotonic() - began < 10
        with pytest.raises(PluginError) as refused:
            adding.result(timeout=60)
    assert refused.value.code == 11
    lab.ec2.faults.clear()
    until(let_go(a), report_of(a))
    assert targets(lab, ROUTE) == NOWHERE


@pytest.mark.thorough(sample="test_a_zone_is_lost_and_comes_back")
def test_an_endpoint_address_of_a_dead_zone(lab: Lab, a: Node, b: Node, chain: dict[str, Any]) -> None:
    """The first connections of the surviving node lead into nowhere, as DNS still names them."""
    added(a, chain)
    lab.azs["a"].fail()
    lab.ec2.faults.hang("*", 60, times=2, caller="b1")
    began = time.monotonic()
    added(b, chain)
    assert time.monotonic() - began < 20
    assert targets(lab, ROUTE) == only(b)
    assert lab.clients["vpc"].ask(VIP) == "web-b1"


@pytest.mark.thorough(sample="test_a_pod_is_rescheduled_and_its_route_is_never_absent")
def test_one_table_at_its_quota_in_a_rolling_update(
    lab: Lab, a: Node, b: Node, chain: dict[str, Any]
) -> None:
    """A move needs no free place; what needs one is refused, and leaves no trace in the other tables."""
    old = added(a, chain)
    table = lab.tables["client"]
    taken = [c for c, route in lab.ec2.truth(table).items() if ":" not in c and route.target != "local"]
    lab.ec2.faults.route_quota(len(taken))
    a.delete(old, chain)
    added(b, chain)
    stays(lab, only(b), GRACE + 1)

    another = lab.conflist(["192.168.0.3/32"], eth="ens7", name="another")
    with pytest.raises(PluginError, match="RouteLimitExceeded") as refused:
        added(b, another, "another")
    assert (refused.value.code, table in str(refused.value)) == (100, True)
    until(lambda: targets(lab, "192.168.0.3/32") == NOWHERE, report_of(b))
    assert targets(lab, ROUTE) == only(b)
