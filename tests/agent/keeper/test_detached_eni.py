"""An ENI that is detached under a live pod, or is another node's by now: nothing is written through it."""

from __future__ import annotations

import pytest

from cni_floatip.agent.observe import status
from cni_floatip.agent.observe.metrics import Metrics
from cni_floatip.commands.status_view import text, wrong
from cni_floatip.model.values import Attachment, RouteKey, RouteTarget
from cni_floatip.operations import sweep
from tests.support.simulated_cluster import FLOATING, SimulatedCluster, SimulatedNode

WORDS = "delete the pod, or attach it again"
GRACE = 60


def detach(cluster: SimulatedCluster, node: SimulatedNode, eni: str) -> None:
    cluster.ec2.alive.discard(eni)
    node.enis = tuple(item for item in node.enis if item != eni)
    cluster.ec2.writes.clear()


def attach(cluster: SimulatedCluster, node: SimulatedNode, eni: str) -> None:
    cluster.ec2.alive.add(eni)
    node.enis = (eni, *node.enis)


def held(cluster: SimulatedCluster) -> tuple[SimulatedNode, Attachment]:
    a = cluster.nodes["a"]
    pod = a.add()
    cluster.pass_time(200)
    return a, pod


@pytest.mark.parametrize("after", [0, 200], ids=["fresh", "old"])
def test_nothing_is_written_for_a_pod_whose_eni_was_detached(cluster: SimulatedCluster, after: int) -> None:
    a = cluster.nodes["a"]
    a.add()
    cluster.pass_time(after)
    detach(cluster, a, "eni-a")
    cluster.pass_time(3600)
    assert cluster.ec2.writes == []
    assert cluster.leads() == "eni-a (blackhole)"
    assert sum(WORDS in answer for answer in a.said) == 1


@pytest.mark.parametrize(
    ("own", "said"),
    [(("eni-a",), "the agent mends it"), (("eni-a2",), "delete the pod, or attach eni-a again")],
)
def test_a_sweep_says_the_same(cluster: SimulatedCluster, own: tuple[str], said: str) -> None:
    a, _ = held(cluster)
    around = sweep._OwnVpc("vpc-1", "r", "", ())
    judge = sweep._Evaluation(a.world, cluster.ec2, around, [FLOATING], own, stopped=False)  # type: ignore[arg-type]
    blackhole = sweep.Blackhole(
        RouteKey("rtb-1", FLOATING), RouteTarget("eni-dead", is_eni=True, active=False), "r", ""
    )
    assert said in str(judge._of_target(blackhole, {}))


def test_it_is_created_when_the_eni_is_back(cluster: SimulatedCluster) -> None:
    a, pod = held(cluster)
    detach(cluster, a, "eni-a")
    del cluster.ec2.tables["rtb-1"][FLOATING]  # by hand, or by a sweep
    cluster.pass_time(600)
    assert cluster.ec2.writes == []
    attach(cluster, a, "eni-a")
    cluster.pass_time(130)
    assert (cluster.leads(), a.state(pod)) == ("eni-a", "held")
    assert sum("attached to this node again" in answer for answer in a.said) == 1


def test_status_and_metric_say_it(cluster: SimulatedCluster) -> None:
    a, _ = held(cluster)
    detach(cluster, a, "eni-a")
    cluster.pass_time(70)
    facts = status.Facts("0", 1, 0.0)
    claims = a.claims.all()[0]
    probe = status.KeeperLooks(a.keeper.route_reports(), a.keeper.outage)
    message = status.document(facts, claims, (), probe, now=cluster.now())
    assert wrong(message)
    assert message["claims"][0]["cutOff"]
    row = next(line for line in text(message).splitlines() if "rtb-1" in line)
    assert "cut off" in row
    assert WORDS in row
    metrics = Metrics("0")
    metrics.routes(status.routes_by_state(claims, probe.outage))
    page = metrics.page().body.decode()
    assert 'floatip_routes{state="cut off"} 1.0' in page
    assert 'floatip_routes{state="held"} 0.0' in page


def test_the_end_of_its_pod_removes_the_blackhole(cluster: SimulatedCluster) -> None:
    a, pod = held(cluster)
    detach(cluster, a, "eni-a")
    a.delete(pod)
    cluster.pass_time(GRACE + 5)
    assert cluster.ec2.writes == ["delete rtb-1 192.168.0.2/32"]
    assert a.state(pod) == "gone"


class TestAnEniThatIsAnotherNodesNow:
    def move(self, cluster: SimulatedCluster) -> tuple[SimulatedNode, Attachment, Attachment]:
        a, old = held(cluster)
        b = cluster.nodes["b"]
        detach(cluster, a, "eni-a")
        b.enis = ("eni-a", "eni-b")
        cluster.ec2.alive.add("eni-a")
        new = b.add()
        cluster.pass_time(200)
        cluster.ec2.writes.clear()
        return a, old, new

    def test_its_route_is_the_other_nodes(self, cluster: SimulatedCluster) -> None:
        a, old, new = self.move(cluster)
        assert (a.state(old), cluster.nodes["b"].state(new)) == ("superseded", "held")

    def test_the_end_of_the_pod_here_leaves_it(self, cluster: SimulatedCluster) -> None:
        a, old, _ = self.move(cluster)
        a.delete(old)
        cluster.pass_time(GRACE + 120)
        assert (cluster.ec2.writes, cluster.leads()) == ([], "eni-a")
        assert a.state(old) == "gone"

    def test_so_does_sigterm(self, cluster: SimulatedCluster) -> None:
        a, old, _ = self.move(cluster)
        a.delete(old)
        a.keeper.drain(cluster.clock() + 10)
        assert (cluster.ec2.writes, cluster.leads()) == ([], "eni-a")

    def test_so_does_an_agent_that_cannot_see_its_interfaces(self, cluster: SimulatedCluster) -> None:
        """Metadata does not answer from the start: nobody knows which ENIs are here."""
        a, old, _ = self.move(cluster)
        a.delete(old)
        a.interfaces_hidden = True
        a.start()
        cluster.pass_time(3600)
        assert (cluster.ec2.writes, cluster.leads()) == ([], "eni-a")
        a.interfaces_hidden = False
        a.enis = ("eni-a", "eni-a2")  # it was this node's after all
        cluster.nodes["b"].enis = ("eni-b",)
        cluster.pass_time(130)
        assert cluster.ec2.writes == ["delete rtb-1 192.168.0.2/32"]


def test_without_metadata_live_claims_are_mended_all_the_same(cluster: SimulatedCluster) -> None:
    a, pod = held(cluster)
    a.interfaces_hidden = True
    a.start()
    del cluster.ec2.tables["rtb-1"][FLOATING]
    cluster.pass_time(130)
    assert (cluster.leads(), a.state(pod)) == ("eni-a", "held")


def test_a_pod_that_was_added_since_metadata_answered_is_not_cut_off(cluster: SimulatedCluster) -> None:
    a, _ = held(cluster)
    a.interfaces_hidden = True
    a.enis = ("eni-a3",)
    cluster.ec2.alive.add("eni-a3")
    other = FLOATING.supernet(8)
    a.add(other)
    del cluster.ec2.tables["rtb-1"][other]
    cluster.pass_time(130)
    assert cluster.leads(destination=other) == "eni-a3"
    assert not any(WORDS in answer for answer in a.said)


def test_a_route_is_not_handed_over_to_a_claim_that_is_cut_off(cluster: SimulatedCluster) -> None:
    a = cluster.nodes["a"]
    a.add(eni=0)
    cluster.pass_time(100)
    goes = a.add(eni=1)
    cluster.pass_time(100)
    detach(cluster, a, "eni-a")
    a.delete(goes)
    cluster.pass_time(GRACE + 200)
    assert cluster.ec2.writes == ["delete rtb-1 192.168.0.2/32"]


def test_a_successor_that_was_recorded_is_not_created_through_an_eni_that_left(
    cluster: SimulatedCluster,
) -> None:
    """The agent ended between the delete and the create of a hand-over."""
    a = cluster.nodes["a"]
    a.add(eni=0)
    cluster.pass_time(100)
    goes = a.add(eni=1)
    cluster.pass_time(100)
    a.delete(goes)
    cluster.ec2.refused.add("create")
    cluster.pass_time(GRACE + 5)
    assert cluster.leads() == ""
    detach(cluster, a, "eni-a")
    cluster.ec2.refused.clear()
    cluster.pass_time(300)
    assert not any("create" in write for write in cluster.ec2.writes)
    assert RouteKey("rtb-1", FLOATING) in a.keeper.route_reports()
