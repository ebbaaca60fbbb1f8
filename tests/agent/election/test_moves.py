"""What moves a group and what does not: real threads, sockets and time; Kubernetes and EC2 stand in."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from cni_floatip.agent.election import polls
from cni_floatip.agent.election.followers import Following
from cni_floatip.election.lease import GroupLease
from cni_floatip.model.errors import Ec2Fault, TryAgain
from lab.kubernetes.standin import TOKEN, Key
from tests.agent.election.scene import ADDRESS, NAMESPACE, AgentNode, Pod, Scene
from tests.support.waiting import throughout, until


def registered(agents: Scene, pod: Pod) -> list[str]:
    """Return the fit members of a pod's group."""
    lease = agents.lease(pod)
    return [entry.pod for entry in lease.members if entry.fit] if lease else []


def two_members(agents: Scene) -> tuple[AgentNode, AgentNode, Pod, Pod]:
    """Return two nodes and their pods: the first pod is active, the second a fit standby."""
    a, b = agents.node("a"), agents.node("b")
    first = agents.pod(a, "web-1")
    agents.until_active(first)
    second = agents.pod(b, "web-2")
    until(lambda: len(registered(agents, first)) == 2, agents.dump)
    return a, b, first, second


def test_the_first_ready_pod_becomes_active(agents: Scene) -> None:
    node = agents.node("a")
    pod = agents.pod(node, "web-1", ready=False)
    until(lambda: node.role(pod.full_group) == "standby", agents.dump)
    assert agents.leads() == ["-", "-"]
    pod.publish(ready=True)
    agents.until_active(pod)
    until(lambda: node.role(pod.full_group) == "active", agents.dump)


def test_a_dead_node_s_group_is_taken(agents: Scene) -> None:
    a, b = agents.node("a"), agents.node("b")
    first = agents.pod(a, "web-1")
    agents.until_active(first)
    second = agents.pod(b, "web-2")
    until(lambda: b.role(second.full_group) == "standby", agents.dump)
    until(lambda: len(registered(agents, first)) == 2, agents.dump)
    a.die()
    agents.until_active(second)
    assert b.log.events.count("elected") == 1


def test_a_node_whose_host_answers_keeps_its_group_while_its_agent_is_away(agents: Scene) -> None:
    a, b, first, _ = two_members(agents)
    swaps, writes = len(agents.holders()), len(agents.ec2.calls)
    a.kill()
    until(lambda: b.silence("a") > 3, agents.dump)
    a.start()
    until(lambda: agents.renewals("a") != "", agents.dump)
    before = agents.renewals("a")
    until(lambda: agents.renewals("a") != before, agents.dump)
    assert agents.holder(first) == "web-1"
    assert (len(agents.holders()), len(agents.ec2.calls)) == (swaps, writes), agents.dump()
    assert a.role(first.full_group) == "active"


def test_a_terminating_pod_hands_over(agents: Scene) -> None:
    a, _, first, second = two_members(agents)
    first.publish(terminating=True)
    agents.until_active(second)
    a.delete(first)
    first.remove()
    until(lambda: len(registered(agents, second)) == 1, agents.dump)
    assert set(agents.leads()) == {"eni-b"}


def test_nothing_moves_while_the_api_is_away(agents: Scene) -> None:
    _, _, first, _ = two_members(agents)
    swaps, writes = len(agents.holders()), len(agents.ec2.calls)
    agents.api.storage.stop()
    throughout(lambda: set(agents.leads()) == {"eni-a"}, 5, agents.dump)
    agents.api.storage.start()
    before = agents.renewals("a")
    until(lambda: agents.renewals("a") != before, agents.dump)
    throughout(lambda: agents.holder(first) == "web-1", 3, agents.dump)
    assert (len(agents.holders()), len(agents.ec2.calls)) == (swaps, writes)


def test_an_offer_that_nobody_takes_is_withdrawn(agents: Scene) -> None:
    a = agents.node("a")
    first = agents.pod(a, "web-1")
    agents.until_active(first)
    first.publish(ready=False)
    until(lambda: a.role(first.full_group) == "offered", agents.dump)
    first.publish(ready=True)
    until(lambda: a.role(first.full_group) == "active", agents.dump)
    until(lambda: "withdrawn" in a.log.events, agents.dump)
    assert set(agents.leads()) == {"eni-a"}


def test_two_groups_of_one_pair_of_nodes_move_apart(agents: Scene) -> None:
    a, b = agents.node("a"), agents.node("b")
    one = agents.pod(a, "one-1", address="192.168.0.5/32")
    two = agents.pod(a, "two-1", address="192.168.0.6/32")
    agents.until_active(one)
    agents.until_active(two)
    other = agents.pod(b, "one-2", address="192.168.0.5/32")
    agents.pod(b, "two-2", address="192.168.0.6/32")
    until(lambda: len(registered(agents, one)) == len(registered(agents, two)) == 2, agents.dump)
    one.publish(terminating=True)
    agents.until_active(other)
    assert agents.holder(two) == "two-1"
    assert set(agents.leads("192.168.0.6/32")) == {"eni-a"}


def test_an_agent_that_ends_announces_it_and_keeps_its_groups(agents: Scene) -> None:
    """Where a firewall hides the host, the announcement alone keeps it."""
    a, b = agents.node("a"), agents.node("b")
    a.answers = False
    first = agents.pod(a, "web-1")
    agents.until_active(first)
    agents.pod(b, "web-2")
    until(lambda: len(registered(agents, first)) == 2, agents.dump)
    holders = len(agents.holders())
    a.end()
    assert agents.node_lease("a")["spec"]["leaseDurationSeconds"] == 60
    until(lambda: b.silence("a") > 4, agents.dump)
    a.start()
    until(lambda: agents.node_lease("a")["spec"]["leaseDurationSeconds"] == 2, agents.dump)
    assert len(agents.holders()) == holders
    assert set(agents.leads()) == {"eni-a"}


def test_a_pod_that_ended_while_its_agent_was_away_is_replaced(agents: Scene) -> None:
    a, _, first, second = two_members(agents)
    a.kill()
    first.remove()
    agents.until_active(second)


def test_a_cordoned_node_s_group_moves_and_comes_back_to_nobody(agents: Scene) -> None:
    a, _, _, second = two_members(agents)
    a.publish(cordoned=True)
    agents.until_active(second)
    holders = len(agents.holders())
    a.publish(cordoned=False)
    until(lambda: len(registered(agents, second)) == 2, agents.dump)
    throughout(lambda: len(agents.holders()) == holders, 2, agents.dump)


def test_who_cannot_write_in_ec2_hands_on(agents: Scene) -> None:
    a, b, c = (agents.node(name) for name in "abc")
    first = agents.pod(a, "web-1")
    agents.until_active(first)
    third = agents.pod(c, "web-3")
    until(lambda: len(registered(agents, first)) == 2, agents.dump)
    agents.pod(b, "web-2")  # the newest is first in rank
    until(lambda: len(registered(agents, first)) == 3, agents.dump)
    b.ec2.fault = Ec2Fault.UNANSWERED
    first.publish(terminating=True)
    agents.until_active(third)


def test_a_holder_whose_claims_are_lost_offers(agents: Scene) -> None:
    """The disk of its node is new, and the pod is gone."""
    a = agents.node("a")
    first = agents.pod(a, "web-1")
    agents.until_active(first)
    a.kill()
    for path in (a.directory / "claims").iterdir():
        path.unlink()
    first.remove()
    b = agents.node("b")
    second = agents.pod(b, "web-2")
    a.start()
    agents.until_active(second)


def test_a_group_lease_that_somebody_deletes_is_made_anew(agents: Scene) -> None:
    _, _, first, _ = two_members(agents)
    agents.api.remove("leases", GroupLease(first.full_group).name, NAMESPACE)
    until(lambda: agents.lease(first), agents.dump)
    until(lambda: agents.holder(first) != "", agents.dump)
    agents.until_active(agents.pods[agents.holder(first)])


def test_a_holder_that_cannot_be_read_is_robbed_by_nobody(agents: Scene) -> None:
    _, b, first, _ = two_members(agents)
    name = GroupLease(first.full_group).name
    document = agents.api.storage.get(Key("leases", NAMESPACE, name))
    assert document
    sound = document["spec"]["holderIdentity"]
    document["spec"]["holderIdentity"] = "somebody"
    agents.put("leases", name, document, NAMESPACE)
    until(lambda: b.elections and b.elections.driver.members[first.full_group].unreadable, agents.dump)
    first.publish(terminating=True)
    throughout(lambda: set(agents.leads()) == {"eni-a"}, 3, agents.dump)
    document["spec"]["holderIdentity"] = sound
    agents.put("leases", name, document, NAMESPACE)
    agents.until_active(agents.pods["web-2"])


def test_the_last_pod_s_route_is_deleted_after_its_grace(agents: Scene) -> None:
    a = agents.node("a")
    first = agents.pod(a, "web-1")
    agents.until_active(first)
    first.publish(terminating=True)
    a.delete(first)
    first.remove()
    until(lambda: agents.leads() == ["-", "-"], agents.dump)
    until(lambda: agents.lease(first) and agents.holder(first) == "", agents.dump)


def test_a_standby_s_del_writes_nothing(agents: Scene) -> None:
    _, b, first, second = two_members(agents)
    calls = len(agents.ec2.calls)
    second.publish(terminating=True)
    b.delete(second)
    second.remove()
    until(lambda: len(registered(agents, first)) == 1, agents.dump)
    until(lambda: b.role(first.full_group) == "none", agents.dump)
    assert len(agents.ec2.calls) == calls


def test_a_token_that_is_rotated_moves_nothing(agents: Scene) -> None:
    _, _, first, second = two_members(agents)
    holders = len(agents.holders())
    agents.api.allow("another-token")
    agents.api.rotate("another-token")
    agents.api.refuse(TOKEN)
    for server in agents.api.servers:
        server.reset()
    before = agents.renewals("a")
    until(lambda: agents.renewals("a") != before, agents.dump)
    assert len(agents.holders()) == holders
    first.publish(terminating=True)
    agents.until_active(second)


def test_an_add_fails_while_kubernetes_refuses_the_agent(agents: Scene) -> None:
    given = {"get endpointslices", "get nodes", "watch nodes", "get leases", "list pods", "watch pods"}
    agents.api.allow(TOKEN, given)
    a = agents.node("a")
    refused = Pod(agents, a, "web-1")
    refused.publish(ready=False, phase="Pending")
    until(a.view.refusal, agents.dump)
    with pytest.raises(TryAgain, match="Kubernetes refuses"):
        a.add(refused)
    agents.api.allow(TOKEN)
    until(lambda: not a.view.refusal(), agents.dump)
    agents.until_active(agents.pod(a, "web-2"))


def test_without_watches_everything_is_read_anew(agents: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Following, "want", lambda *_: None)
    monkeypatch.setattr(polls, "BUSY_SECONDS", 1.0)
    monkeypatch.setattr(polls, "IDLE_SECONDS", 1.0)
    _, _, first, second = two_members(agents)
    first.publish(terminating=True)
    agents.until_active(second)


def test_a_plain_add_of_an_elected_destination_is_refused(agents: Scene) -> None:
    a, b = agents.node("a"), agents.node("b")
    agents.until_active(agents.pod(a, "web-1"))
    agents.pod(b, "other-1", address="192.168.0.9/32")  # so that this node follows the Leases
    until(lambda: b.view.group_of(ip_network(ADDRESS)) == "core/192.168.0.5", agents.dump)


def test_each_change_is_one_event_on_the_pod(agents: Scene) -> None:
    _, _, first, second = two_members(agents)
    first.publish(terminating=True)
    agents.until_active(second)
    until(lambda: ("web-2", "Moved") in agents.events(), agents.dump)
    until(lambda: ("web-1", "Lost") in agents.events(), agents.dump)
    assert agents.events().count(("web-1", "Moved")) == 1
    [moved] = [event for event in agents.event_documents() if event["reason"] == "Moved"][:1]
    assert moved["involvedObject"]["uid"] == first.uid
