"""What moves a group and what does not: real threads, sockets and time; Kubernetes and EC2 stand in."""

from __future__ import annotations

from tests.agent.election.scene import Pod, Scene
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
    second = scene.pod(b, "web-2")
    until(lambda: len(registered(scene, first)) == 2, scene.dump)
    swaps, writes = len(scene.holders()), len(scene.ec2.calls)
    a.kill()
    until(lambda: b.suspects("a"), scene.dump)
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
