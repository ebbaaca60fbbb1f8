"""What moves a group and what does not: real threads, sockets and time; Kubernetes and EC2 stand in."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from cni_floatip.agent.election import polls
from cni_floatip.agent.election.followers import Following
from cni_floatip.election.lease import GroupLease
from cni_floatip.model.errors import Ec2Fault, TryAgain
from lab.kubernetes.standin import TOKEN, Key
from tests.agent.election.scene import ADDRESS, NAMESPACE, Pod, Scene
from tests.support.waiting import throughout, until


def test_the_first_ready_pod_becomes_active(scene: Scene) -> None:
    node = scene.node("a")
    pod = scene.pod(node, "web-1", ready=False)
    until(lambda: node.role(pod.full_group) == "standby", scene.dump)
    assert scene.leads() == ["-", "-"]
    pod.publish(ready=True)
    scene.until_active(pod)
    until(lambda: node.role(pod.full_group) == "active", scene.dump)


def test_a_dead_node_s_group_is_taken(scene: Scene) -> None:
    a, b = scene.node("a"), scene.node("b")
    first = scene.pod(a, "web-1")
    scene.until_active(first)
    second = scene.pod(b, "web-2")
    until(lambda: b.role(second.full_group) == "standby", scene.dump)
    until(lambda: len(registered(scene, first)) == 2, scene.dump)
    a.die()
    scene.until_active(second)
    assert b.log.events.count("elected") == 1


def test_a_node_whose_host_answers_keeps_its_group_while_its_agent_is_away(scene: Scene) -> None:
    a, b = scene.node("a"), scene.node("b")
    first = scene.pod(a, "web-1")
    scene.until_active(first)
    scene.pod(b, "web-2")
    until(lambda: len(registered(scene, first)) == 2, scene.dump)
    swaps, writes = len(scene.holders()), len(scene.ec2.calls)
    a.kill()
    until(lambda: b.silence("a") > 3, scene.dump)
    a.start()
    until(lambda: scene.renewals("a") != "", scene.dump)
    seen = scene.renewals("a")
    until(lambda: scene.renewals("a") != seen, scene.dump)
    assert scene.holder(first) == "web-1"
    assert (len(scene.holders()), len(scene.ec2.calls)) == (swaps, writes), scene.dump()
    assert a.role(first.full_group) == "active"


def test_a_terminating_pod_hands_over(scene: Scene) -> None:
    a, b = scene.node("a"), scene.node("b")
    first = scene.pod(a, "web-1")
    scene.until_active(first)
    second = scene.pod(b, "web-2")
    until(lambda: len(registered(scene, first)) == 2, scene.dump)
    first.publish(terminating=True)
    scene.until_active(second)
    a.delete(first)
    first.remove()
    until(lambda: len(registered(scene, second)) == 1, scene.dump)
    assert set(scene.leads()) == {"eni-b"}


def test_nothing_moves_while_the_api_is_away(scene: Scene) -> None:
    a, b = scene.node("a"), scene.node("b")
    first = scene.pod(a, "web-1")
    scene.until_active(first)
    scene.pod(b, "web-2")
    until(lambda: len(registered(scene, first)) == 2, scene.dump)
    swaps, writes = len(scene.holders()), len(scene.ec2.calls)
    scene.api.storage.stop()
    throughout(lambda: set(scene.leads()) == {"eni-a"}, 5, scene.dump)
    scene.api.storage.start()
    seen = scene.renewals("a")
    until(lambda: scene.renewals("a") != seen, scene.dump)
    throughout(lambda: scene.holder(first) == "web-1", 3, scene.dump)
    assert (len(scene.holders()), len(scene.ec2.calls)) == (swaps, writes)


def test_an_offer_that_nobody_takes_is_withdrawn(scene: Scene) -> None:
    a = scene.node("a")
    first = scene.pod(a, "web-1")
    scene.until_active(first)
    first.publish(ready=False)
    until(lambda: a.role(first.full_group) == "offered", scene.dump)
    first.publish(ready=True)
    until(lambda: a.role(first.full_group) == "active", scene.dump)
    until(lambda: "withdrawn" in a.log.events, scene.dump)
    assert set(scene.leads()) == {"eni-a"}


def test_two_groups_of_one_pair_of_nodes_move_apart(scene: Scene) -> None:
    a, b = scene.node("a"), scene.node("b")
    one = scene.pod(a, "one-1", address="192.168.0.5/32")
    two = scene.pod(a, "two-1", address="192.168.0.6/32")
    scene.until_active(one)
    scene.until_active(two)
    other = scene.pod(b, "one-2", address="192.168.0.5/32")
    scene.pod(b, "two-2", address="192.168.0.6/32")
    until(lambda: len(registered(scene, one)) == len(registered(scene, two)) == 2, scene.dump)
    one.publish(terminating=True)
    scene.until_active(other)
    assert scene.holder(two) == "two-1"
    assert set(scene.leads("192.168.0.6/32")) == {"eni-a"}


def registered(scene: Scene, pod: Pod) -> list[str]:
    """Return the fit members of a pod's group."""
    lease = scene.lease(pod)
    return [entry.pod for entry in lease.members if entry.fit] if lease else []


def test_an_agent_that_ends_announces_it_and_keeps_its_groups(scene: Scene) -> None:
    """Where a firewall hides the host, the announcement alone keeps it."""
    a, b = scene.node("a"), scene.node("b")
    a.answers = False
    first = scene.pod(a, "web-1")
    scene.until_active(first)
    scene.pod(b, "web-2")
    until(lambda: len(registered(scene, first)) == 2, scene.dump)
    holders = len(scene.holders())
    a.end()
    assert scene.node_lease("a")["spec"]["leaseDurationSeconds"] == 60
    until(lambda: b.silence("a") > 4, scene.dump)
    a.start()
    until(lambda: scene.node_lease("a")["spec"]["leaseDurationSeconds"] == 2, scene.dump)
    assert len(scene.holders()) == holders
    assert set(scene.leads()) == {"eni-a"}


def test_a_pod_that_ended_while_its_agent_was_away_is_replaced(scene: Scene) -> None:
    a, b = scene.node("a"), scene.node("b")
    first = scene.pod(a, "web-1")
    scene.until_active(first)
    second = scene.pod(b, "web-2")
    until(lambda: len(registered(scene, first)) == 2, scene.dump)
    a.kill()
    first.remove()
    scene.until_active(second)


def test_a_cordoned_node_s_group_moves_and_comes_back_to_nobody(scene: Scene) -> None:
    a, b = scene.node("a"), scene.node("b")
    first = scene.pod(a, "web-1")
    scene.until_active(first)
    second = scene.pod(b, "web-2")
    until(lambda: len(registered(scene, first)) == 2, scene.dump)
    a.publish(cordoned=True)
    scene.until_active(second)
    holders = len(scene.holders())
    a.publish(cordoned=False)
    until(lambda: len(registered(scene, second)) == 2, scene.dump)
    throughout(lambda: len(scene.holders()) == holders, 2, scene.dump)


def test_who_cannot_write_in_ec2_hands_on(scene: Scene) -> None:
    a, b, c = (scene.node(name) for name in "abc")
    first = scene.pod(a, "web-1")
    scene.until_active(first)
    third = scene.pod(c, "web-3")
    until(lambda: len(registered(scene, first)) == 2, scene.dump)
    scene.pod(b, "web-2")  # the newest is first in rank
    until(lambda: len(registered(scene, first)) == 3, scene.dump)
    b.ec2.fault = Ec2Fault.UNANSWERED
    first.publish(terminating=True)
    scene.until_active(third)


def test_a_holder_whose_claims_are_lost_offers(scene: Scene) -> None:
    """The disk of its node is new, and the pod is gone."""
    a = scene.node("a")
    first = scene.pod(a, "web-1")
    scene.until_active(first)
    a.kill()
    for path in (a.directory / "claims").iterdir():
        path.unlink()
    first.remove()
    b = scene.node("b")
    second = scene.pod(b, "web-2")
    a.start()
    scene.until_active(second)


def test_a_group_lease_that_somebody_deletes_is_made_anew(scene: Scene) -> None:
    a, b = scene.node("a"), scene.node("b")
    first = scene.pod(a, "web-1")
    scene.until_active(first)
    scene.pod(b, "web-2")
    until(lambda: len(registered(scene, first)) == 2, scene.dump)
    scene.api.remove("leases", GroupLease(first.full_group).name, NAMESPACE)
    until(lambda: scene.lease(first), scene.dump)
    until(lambda: scene.holder(first) != "", scene.dump)
    scene.until_active(scene.pods[scene.holder(first)])


def test_a_holder_that_cannot_be_read_is_robbed_by_nobody(scene: Scene) -> None:
    a, b = scene.node("a"), scene.node("b")
    first = scene.pod(a, "web-1")
    scene.until_active(first)
    scene.pod(b, "web-2")
    until(lambda: len(registered(scene, first)) == 2, scene.dump)
    name = GroupLease(first.full_group).name
    document = scene.api.storage.get(Key("leases", NAMESPACE, name))
    assert document
    sound = document["spec"]["holderIdentity"]
    document["spec"]["holderIdentity"] = "somebody"
    scene.put("leases", name, document, NAMESPACE)
    until(lambda: b.elections and b.elections.driver.members[first.full_group].unreadable, scene.dump)
    first.publish(terminating=True)
    throughout(lambda: set(scene.leads()) == {"eni-a"}, 3, scene.dump)
    document["spec"]["holderIdentity"] = sound
    scene.put("leases", name, document, NAMESPACE)
    scene.until_active(scene.pods["web-2"])


def test_the_last_pod_s_route_is_deleted_after_its_grace(scene: Scene) -> None:
    a = scene.node("a")
    first = scene.pod(a, "web-1")
    scene.until_active(first)
    first.publish(terminating=True)
    a.delete(first)
    first.remove()
    until(lambda: scene.leads() == ["-", "-"], scene.dump)
    until(lambda: scene.lease(first) and scene.holder(first) == "", scene.dump)


def test_a_standby_s_del_writes_nothing(scene: Scene) -> None:
    a, b = scene.node("a"), scene.node("b")
    first = scene.pod(a, "web-1")
    scene.until_active(first)
    second = scene.pod(b, "web-2")
    until(lambda: len(registered(scene, first)) == 2, scene.dump)
    calls = len(scene.ec2.calls)
    second.publish(terminating=True)
    b.delete(second)
    second.remove()
    until(lambda: len(registered(scene, first)) == 1, scene.dump)
    until(lambda: b.role(first.full_group) == "none", scene.dump)
    assert len(scene.ec2.calls) == calls


def test_a_token_that_is_rotated_moves_nothing(scene: Scene) -> None:
    a, b = scene.node("a"), scene.node("b")
    first = scene.pod(a, "web-1")
    scene.until_active(first)
    second = scene.pod(b, "web-2")
    until(lambda: len(registered(scene, first)) == 2, scene.dump)
    holders = len(scene.holders())
    scene.api.allow("another-token")
    scene.api.rotate("another-token")
    scene.api.refuse(TOKEN)
    for server in scene.api.servers:
        server.reset()
    seen = scene.renewals("a")
    until(lambda: scene.renewals("a") != seen, scene.dump)
    assert len(scene.holders()) == holders
    first.publish(terminating=True)
    scene.until_active(second)


def test_an_add_fails_while_kubernetes_refuses_the_agent(scene: Scene) -> None:
    a = scene.node("a")
    scene.api.allow(TOKEN, {"get nodes", "watch nodes", "get leases", "list pods", "watch pods"})
    refused = Pod(scene, a, "web-1")
    refused.publish(ready=False, phase="Pending")
    until(a.view.refusal, scene.dump)
    with pytest.raises(TryAgain, match="Kubernetes refuses"):
        a.add(refused)
    scene.api.allow(TOKEN)
    until(lambda: not a.view.refusal(), scene.dump)
    scene.until_active(scene.pod(a, "web-2"))


def test_without_watches_everything_is_read_anew(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Following, "want", lambda *_: None)
    monkeypatch.setattr(polls, "BUSY_SECONDS", 1.0)
    monkeypatch.setattr(polls, "IDLE_SECONDS", 1.0)
    a, b = scene.node("a"), scene.node("b")
    first = scene.pod(a, "web-1")
    scene.until_active(first)
    second = scene.pod(b, "web-2")
    until(lambda: len(registered(scene, first)) == 2, scene.dump)
    first.publish(terminating=True)
    scene.until_active(second)


def test_a_plain_add_of_an_elected_destination_is_refused(scene: Scene) -> None:
    a, b = scene.node("a"), scene.node("b")
    scene.until_active(scene.pod(a, "web-1"))
    scene.pod(b, "other-1", address="192.168.0.9/32")  # so that this node follows the Leases
    until(lambda: b.view.group_of(ip_network(ADDRESS)) == "core/192.168.0.5", scene.dump)


def test_each_change_is_one_event_on_the_pod(scene: Scene) -> None:
    a, b = scene.node("a"), scene.node("b")
    first = scene.pod(a, "web-1")
    scene.until_active(first)
    second = scene.pod(b, "web-2")
    until(lambda: len(registered(scene, first)) == 2, scene.dump)
    first.publish(terminating=True)
    scene.until_active(second)
    until(lambda: ("web-2", "Moved") in scene.events(), scene.dump)
    until(lambda: ("web-1", "Lost") in scene.events(), scene.dump)
    assert scene.events().count(("web-1", "Moved")) == 1
    [moved] = [event for event in scene.event_documents() if event["reason"] == "Moved"][:1]
    assert moved["involvedObject"]["uid"] == first.uid
