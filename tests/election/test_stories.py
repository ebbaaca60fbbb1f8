"""What happens, told whole: a cluster of members, one thing that breaks, and what each does about it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cni_floatip.election.events import PodSeen
from cni_floatip.election.member import GroupRules
from cni_floatip.model.route_write import WriteOutcome
from cni_floatip.model.values import RouteTarget
from tests.election.cluster import KEYS, Cluster

HAND_OVER = 0.6
"""Seconds for event, offer, event, swap and write."""
DEATH = 2.6
"""Seconds from a node's death to the write, at most: ``lease``, a renewal's event, GET, swap, write."""


def settled(names: str = "ab", rules: GroupRules | None = None) -> Cluster:
    """Return a cluster at rest: ``a`` is active, every member is registered and fit."""
    cluster = Cluster(names, rules)
    cluster.run(40)
    assert cluster.holder == "a"
    assert cluster.leads_to("a")
    assert cluster.group
    assert all(entry.fit for entry in cluster.group.members)
    assert len(cluster.group.members) == len(names)
    cluster.log.clear()
    return cluster


def swaps(cluster: Cluster) -> list[str]:
    """Return what was changed in the group Lease, but for the register."""
    verbs = ("take", "offer", "withdraw", "nobody")
    return [line for line in cluster.log if line.split(" ", 1)[1].startswith(verbs)]


def writes(cluster: Cluster) -> int:
    return cluster.count(" writes ")


def test_a_node_dies() -> None:
    cluster = settled("abc")
    cluster.kill("a")
    assert cluster.until(lambda: cluster.leads_to("b") or cluster.leads_to("c"), 10) <= DEATH
    cluster.run(200)
    assert len(swaps(cluster)) == writes(cluster) == 1


def test_the_best_of_the_register_died_too() -> None:
    cluster = settled("abc")
    best = cluster.hosts["c"].member.pods[0].status
    assert best
    cluster.change_pod("uid-c", created=best.created + 10)
    cluster.run(30)
    cluster.cordon("c")  # any change writes its entry
    cluster.run(5)
    cluster.cordon("c", cordoned=False)
    cluster.run(30)
    cluster.kill("a")
    cluster.kill("c")
    took = cluster.until(lambda: cluster.leads_to("b"), 10)
    assert 2.0 < took <= DEATH + 0.3


def test_an_active_that_terminates_is_replaced_before_it_ends() -> None:
    cluster = settled()
    cluster.change_pod("uid-a", terminating=True)
    assert cluster.until(lambda: cluster.leads_to("b"), 5) <= HAND_OVER
    cluster.run(1)
    cluster.end_pod("a", "uid-a")
    cluster.run(200)
    assert swaps(cluster) == ["a offer: terminating", "b take: offered, terminating"]
    assert cluster.leads_to("b")
    assert writes(cluster) == 1


def test_without_a_standby_the_route_stays_and_goes_for_good() -> None:
    cluster = settled("a")
    cluster.change_pod("uid-a", terminating=True)
    cluster.run(30)
    assert cluster.leads_to("a")
    assert cluster.group
    assert str(cluster.group.offer) == "terminating"
    cluster.end_pod("a", "uid-a")
    cluster.run(59)
    assert cluster.leads_to("a")
    cluster.run(12)
    assert cluster.holder is None
    assert set(cluster.routes.values()) == {None}
    assert cluster.group
    assert cluster.group.members == ()
    cluster.run(1300)
    assert cluster.group is None
    assert not cluster.hosts["a"].member.holding


def test_for_good_with_keep_deletes_no_route() -> None:
    cluster = settled("a")
    host = cluster.hosts["a"]
    host.claims["uid-a"] = replace(host.claims["uid-a"], keep=True)
    cluster.end_pod("a", "uid-a")
    cluster.run(100)
    assert cluster.holder is None
    assert cluster.leads_to("a")


def test_a_pod_that_comes_back_in_its_grace_keeps_the_route() -> None:
    cluster = settled("a")
    cluster.end_pod("a", "uid-a")
    cluster.run(20)
    cluster.add_pod("a", "new")
    cluster.run(200)
    assert cluster.group
    assert cluster.group.holder
    assert cluster.group.holder.uid == "uid-new"
    assert cluster.leads_to("a")
    assert cluster.count("releases") == 0


def test_an_unready_active_is_replaced_after_its_patience() -> None:
    cluster = settled()
    cluster.change_pod("uid-a", ready=False)
    cluster.run(1.9)
    assert swaps(cluster) == []
    assert cluster.until(lambda: cluster.leads_to("b"), 5) <= 0.1 + HAND_OVER


def test_a_kubelet_restart_moves_nothing() -> None:
    cluster = settled()
    cluster.change_pod("uid-a", ready=False)
    cluster.run(1.0)
    cluster.change_pod("uid-a", ready=True)
    cluster.run(60)
    assert swaps(cluster) == []
    assert writes(cluster) == 0


def test_nobody_hands_over_to_nobody() -> None:
    """A control-plane partition marks every pod not Ready."""
    cluster = settled()
    for uid in ("uid-a", "uid-b"):
        cluster.change_pod(uid, ready=False)
    cluster.run(60)
    assert cluster.holder == "a"
    assert cluster.leads_to("a")
    cluster.change_pod("uid-a", ready=True)
    cluster.run(30)
    assert swaps(cluster) == ["a offer: unready", "a withdraw: fit again"]
    assert writes(cluster) == 0


def test_an_untaken_offer_is_mended_within_bounds() -> None:
    cluster = settled("a")
    cluster.change_pod("uid-a", ready=False)
    cluster.run(30)
    cluster.routes[KEYS[0]] = None
    cluster.until(lambda: cluster.leads_to("a"), 15)
    cluster.run(60)
    cycle = ["a offer: unready", "a withdraw for one write", "a offer: unready"]
    assert swaps(cluster) == cycle
    assert writes(cluster) == 1


def test_a_mend_whose_write_is_not_answered_backs_off() -> None:
    cluster = settled("a")
    cluster.change_pod("uid-a", ready=False)
    cluster.run(30)
    cluster.hosts["a"].ec2_writes = False
    cluster.routes[KEYS[0]] = None
    cluster.run(1500)
    assert 4 <= writes(cluster) <= 9  # after 10, 20, 40, ... 600 s


def test_terminating_ends_the_mend_before_its_write() -> None:
    cluster = settled("a")
    cluster.change_pod("uid-a", ready=False)
    cluster.run(30)
    cluster.routes[KEYS[0]] = None
    cluster.until(lambda: cluster.count("withdraw for one write") == 1, 15, step=0.005)
    cluster.set_pod("uid-a", replace(cluster.pods["uid-a"], terminating=True))
    host = cluster.hosts["a"]
    host.member = host.member.on(PodSeen(cluster.now, "uid-a", cluster.pods["uid-a"]))
    cluster.run(30)
    assert writes(cluster) == 0


def test_an_agent_that_is_upgraded_moves_nothing() -> None:
    cluster = settled()
    cluster.crash("a")
    cluster.run(20)
    cluster.start("a")
    cluster.run(60)
    assert swaps(cluster) == []
    assert writes(cluster) == 0


def test_a_pod_that_ends_while_its_agent_is_away_is_handed_over() -> None:
    cluster = settled()
    cluster.crash("a")
    cluster.run(5)
    cluster.change_pod("uid-a", terminating=True)
    assert cluster.until(lambda: cluster.leads_to("b"), 5) <= 1.6


def test_an_agent_away_for_long_is_dead() -> None:
    cluster = settled()
    cluster.crash("a")
    cluster.run(58)
    assert swaps(cluster) == []
    cluster.run(5)
    assert cluster.leads_to("b")


def test_a_host_that_dies_in_its_agents_absence_is_dead() -> None:
    cluster = settled()
    cluster.crash("a")
    cluster.run(20)
    cluster.kill("a")
    assert cluster.until(lambda: cluster.leads_to("b"), 10) <= 5


def test_an_api_outage_moves_nothing() -> None:
    for seconds in (1, 3, 30):
        cluster = settled()
        cluster.api_up = False
        cluster.run(seconds)
        cluster.api_up = True
        cluster.run(60)
        assert (swaps(cluster), writes(cluster)) == ([], 0), seconds


def test_the_standby_gets_the_api_back_first() -> None:
    cluster = settled()
    cluster.api_up = False
    cluster.hosts["a"].answers_probes = False
    cluster.run(30)
    cluster.hosts["a"].api = False
    cluster.api_up = True
    cluster.run(9)
    cluster.hosts["a"].api = True
    cluster.run(60)
    assert swaps(cluster) == []


def _until_b_has_it(cluster: Cluster) -> float:
    return cluster.until(lambda: cluster.leads_to("b"), 15)


def test_a_death_in_an_api_outage() -> None:
    for seconds, most in ((3, 2.9), (30, 10.9)):
        cluster = settled()
        cluster.api_up = False
        cluster.run(seconds - 2)
        cluster.kill("a")
        cluster.run(2)
        cluster.api_up = True
        assert _until_b_has_it(cluster) <= most, seconds


def test_an_active_that_is_cut_off_serves_on() -> None:
    cluster = settled()
    cluster.hosts["a"].api = False
    cluster.run(55)
    assert swaps(cluster) == []
    cluster.hosts["a"].api = True
    cluster.run(60)
    assert swaps(cluster) == []
    assert writes(cluster) == 0


def test_a_deposed_active_that_comes_back_writes_nothing() -> None:
    """Its watch is behind, too."""
    cluster = settled()
    cluster.hosts["a"].api = cluster.hosts["a"].watching = False
    cluster.run(70)
    assert cluster.leads_to("b")
    cluster.hosts["a"].api = True
    cluster.run(300)
    assert cluster.count("a writes") == 0
    assert cluster.leads_to("b")
    assert len(swaps(cluster)) == 1


def test_a_standby_that_is_cut_off_moves_nothing() -> None:
    cluster = settled()
    cluster.hosts["b"].api = False
    cluster.run(100)
    cluster.hosts["b"].api = True
    cluster.run(60)
    assert swaps(cluster) == []
    assert writes(cluster) == 0


def test_a_stalled_watch_moves_nothing_and_delays_a_move() -> None:
    cluster = settled()
    cluster.hosts["b"].watching = False
    cluster.run(60)
    assert swaps(cluster) == []
    cluster.change_pod("uid-a", terminating=True)
    assert cluster.until(lambda: cluster.leads_to("b"), 15) <= 11


def test_a_cordon_moves_to_a_node_that_is_not() -> None:
    cluster = settled("abc")
    cluster.cordon("b")
    cluster.run(5)
    cluster.cordon("a")
    assert cluster.until(lambda: cluster.leads_to("c"), 5) <= HAND_OVER
    cluster.run(100)
    assert swaps(cluster) == ["a offer: level 1", "c take: offered, level 1"]


def test_with_every_node_cordoned_the_active_goes_on_mending() -> None:
    cluster = settled()
    cluster.cordon("a")
    cluster.cordon("b")
    cluster.run(60)
    count = len(swaps(cluster))
    cluster.run(900)
    assert cluster.holder == "a"
    assert len(swaps(cluster)) == count <= 2
    cluster.routes[KEYS[0]] = None
    cluster.until(lambda: cluster.leads_to("a"), 60)
    cluster.kill("a")
    assert cluster.until(lambda: cluster.leads_to("b"), 10) <= DEATH


def test_a_soft_offer_is_made_once_until_the_member_changes() -> None:
    """The standby's agent is away, so its entry says fit and nobody takes."""
    cluster = settled()
    cluster.crash("b")
    cluster.cordon("a")
    cluster.run(500)
    assert swaps(cluster) == ["a offer: level 1", "a withdraw: nobody took"]
    cluster.start("b")
    cluster.run(20)
    assert cluster.leads_to("b")


def test_a_soft_offer_is_made_again_after_ten_minutes() -> None:
    cluster = settled()
    cluster.crash("b")
    cluster.cordon("a")
    cluster.run(700)
    assert swaps(cluster).count("a offer: level 1") == 2


def test_a_cordoned_active_that_terminates_offers_to_all() -> None:
    cluster = settled()
    cluster.crash("b")
    cluster.cordon("a")
    cluster.run(3)
    assert cluster.group
    assert str(cluster.group.offer) == "level 1"
    cluster.change_pod("uid-a", terminating=True)
    cluster.run(1)
    assert str(cluster.group.offer) == "terminating"


def test_a_cordon_that_ends_withdraws_the_offer() -> None:
    cluster = settled()
    cluster.crash("b")
    cluster.cordon("a")
    cluster.run(3)
    cluster.cordon("a", cordoned=False)
    cluster.run(1)
    assert swaps(cluster) == ["a offer: level 1", "a withdraw: level 0"]


def test_ec2_away_for_the_active_alone() -> None:
    cluster = settled()
    cluster.hosts["a"].ec2_reads = cluster.hosts["a"].ec2_writes = False
    cluster.run(150)
    assert swaps(cluster) == ["a offer: ec2-lost", "b take: offered, ec2-lost"]
    assert cluster.leads_to("b")


def test_ec2_away_for_all_moves_nothing() -> None:
    cluster = settled()
    for host in cluster.hosts.values():
        host.ec2_reads = host.ec2_writes = False
    cluster.run(400)
    assert swaps(cluster) == ["a offer: ec2-lost"]
    for host in cluster.hosts.values():
        host.ec2_reads = host.ec2_writes = True
    cluster.run(200)
    assert len(swaps(cluster)) == 2
    assert writes(cluster) <= 1


def test_ec2_away_for_the_taker_goes_to_the_next() -> None:
    cluster = settled("abc")
    cluster.hosts["b"].ec2_reads = cluster.hosts["b"].ec2_writes = False
    cluster.run(70)
    cluster.kill("a")
    assert cluster.until(lambda: cluster.leads_to("c"), 10) <= DEATH


@pytest.mark.parametrize("outcome", [WriteOutcome.DENIED, WriteOutcome.POLICY, WriteOutcome.UNANSWERED])
def test_writes_that_all_nodes_are_refused_move_it_at_most_once_each(outcome: WriteOutcome) -> None:
    names = "abc" if outcome is WriteOutcome.DENIED else "ab"
    cluster = settled(names)
    for host in cluster.hosts.values():
        host.outcome = outcome
    cluster.routes[KEYS[0]] = None
    cluster.run(200)
    assert cluster.count("take:") == len(names) - 1
    cluster.run(800)
    assert cluster.count("take:") == len(names) - 1


def test_a_write_that_one_node_is_denied_moves_it_once() -> None:
    cluster = settled()
    cluster.hosts["a"].outcome = WriteOutcome.DENIED
    cluster.routes[KEYS[0]] = None
    cluster.run(1000)
    assert swaps(cluster) == ["a offer: level 2", "b take: offered, level 2"]
    assert cluster.leads_to("b")


def test_a_marked_standby_is_taken_for_better_after_a_dry_run() -> None:
    cluster = settled()
    cluster.hosts["a"].outcome = WriteOutcome.DENIED
    cluster.routes[KEYS[0]] = None
    cluster.run(100)
    assert cluster.hosts["a"].member.marks
    cluster.run(1000)
    assert cluster.hosts["a"].member.marks  # never by time alone
    cluster.hosts["a"].outcome = WriteOutcome.WRITTEN
    cluster.run(610)
    assert not cluster.hosts["a"].member.marks
    assert cluster.holder == "b"


@pytest.mark.parametrize("outcome", [WriteOutcome.FULL, WriteOutcome.NOT_ENI, WriteOutcome.THROTTLED])
def test_a_refusal_that_others_would_get_too_is_no_offer(outcome: WriteOutcome) -> None:
    cluster = settled()
    cluster.hosts["a"].outcome = outcome
    cluster.routes[KEYS[0]] = None
    cluster.run(300)
    assert swaps(cluster) == []


def test_what_somebody_deletes_is_put_back() -> None:
    cluster = settled()
    cluster.routes[KEYS[0]] = None
    assert cluster.until(lambda: cluster.leads_to("a"), 70) < 12
    cluster.run(1)
    assert cluster.count("event Restored") == 1


def test_a_late_write_of_the_former_active_is_mended() -> None:
    cluster = settled()
    cluster.change_pod("uid-a", terminating=True)
    cluster.until(lambda: cluster.leads_to("b"), 5)
    cluster.run(600)
    for _ in range(8):  # not bounded: it is a member's
        cluster.routes[KEYS[0]] = RouteTarget("eni-a", True)
        assert cluster.until(lambda: cluster.leads_to("b"), 70) < 12


def test_another_writer_is_written_over_four_times_and_then_seldom() -> None:
    cluster = settled()
    for _ in range(140):
        cluster.routes[KEYS[0]] = RouteTarget("eni-stranger", True)
        cluster.run(5)
    assert writes(cluster) == 5  # four, and one each ten minutes
    assert cluster.count("event ContestedByWriter") >= 1
    assert cluster.hosts["a"].member.contested


def test_a_route_that_is_not_an_eni_is_left() -> None:
    cluster = settled()
    cluster.routes[KEYS[0]] = RouteTarget("igw-1", False)
    cluster.run(100)
    assert writes(cluster) == 0
    cluster.routes[KEYS[0]] = None
    cluster.until(lambda: cluster.leads_to("a"), 70)


def test_a_group_lease_that_is_deleted_is_made_anew_by_its_holder() -> None:
    cluster = settled()
    cluster.group = None
    cluster.run(60)
    assert cluster.holder == "a"
    assert cluster.leads_to("a")


def test_a_group_lease_that_is_deleted_with_its_node_goes_to_another() -> None:
    cluster = settled()
    cluster.kill("a")
    cluster.group = None
    cluster.until(lambda: cluster.leads_to("b"), 20)


def test_flapping_readiness_moves_four_times_and_then_seldom() -> None:
    cluster = settled()
    for _ in range(60):
        holder = cluster.holder
        cluster.change_pod(f"uid-{holder}", ready=False)
        cluster.run(6)
        cluster.change_pod(f"uid-{holder}", ready=True)
        cluster.run(4)
    takes = cluster.count("take:")
    assert 4 + 10 <= takes <= 4 + 22  # 600 s


def test_a_death_is_not_damped() -> None:
    cluster = settled("abc")
    host = cluster.hosts["b"]
    bucket = host.member.damping
    for _ in range(8):
        bucket = bucket.spend(cluster.now, 30)
    for name in "bc":
        cluster.hosts[name].member = replace(cluster.hosts[name].member, damping=bucket)
    cluster.kill("a")
    assert cluster.until(lambda: cluster.holder != "a", 10) <= DEATH


def test_failback_goes_to_the_best_zone_once_it_was_fit_for_long() -> None:
    cluster = Cluster("ab", GroupRules(zones=("b", "a"), failback=20))
    cluster.hosts["b"].agent = False
    cluster.run(40)
    assert cluster.holder == "a"
    cluster.start("b")
    cluster.run(15)
    assert cluster.holder == "a"
    cluster.run(20)
    assert cluster.leads_to("b")
    assert cluster.count("zone") == 2
    cluster.run(600)
    assert cluster.count("zone") == 2


def test_without_failback_a_better_zone_takes_nothing_from_a_fit_active() -> None:
    cluster = Cluster("ab", GroupRules(zones=("b", "a")))
    cluster.hosts["b"].agent = False
    cluster.run(40)
    cluster.start("b")
    cluster.run(300)
    assert cluster.holder == "a"


@pytest.mark.parametrize("node", ["b", ""])
def test_an_operators_move(node: str) -> None:
    cluster = settled("abc" if node else "ab")
    assert cluster.group
    cluster.group = replace(cluster.group, move=node, version="900000000")
    cluster.until(lambda: cluster.leads_to("b"), 15)
    assert cluster.group
    assert cluster.group.move is None
    assert cluster.group.offer is None


def test_an_operators_move_that_nobody_can_take_ends() -> None:
    cluster = settled()
    assert cluster.group
    cluster.group = replace(cluster.group, move="z", version="900000000")
    cluster.run(30)
    assert cluster.holder == "a"
    assert cluster.group.move is None
    assert cluster.group.offer is None


def test_a_new_pod_of_the_holders_node_takes_inside_the_node() -> None:
    cluster = settled("a")
    cluster.add_pod("a", "new")
    cluster.run(20)
    assert swaps(cluster) == []
    cluster.change_pod("uid-a", terminating=True)
    cluster.run(2)
    assert swaps(cluster) == ["a take: terminating on this node"]
    assert cluster.group
    assert cluster.group.holder
    assert cluster.group.holder.uid == "uid-new"


def test_a_pod_that_is_not_fit_takes_nothing_inside_the_node() -> None:
    cluster = settled("a")
    cluster.add_pod("a", "new", ready=False)
    cluster.change_pod("uid-a", terminating=True)
    cluster.run(20)
    assert swaps(cluster) == ["a offer: terminating"]


def test_a_rebooted_holder_offers_until_its_pod_is_ready_anew() -> None:
    """The Lease names the pod's uid, the status still says Ready, and there is no claim until the ADD."""
    cluster = settled("a")
    host = cluster.hosts["a"]
    cluster.kill("a")
    cluster.run(30)
    host.up = host.agent = host.answers_probes = True
    host.claims.clear()
    cluster.start("a")
    cluster.run(5)
    assert cluster.group
    assert str(cluster.group.offer) == "gone"
    status = cluster.pods["uid-a"]
    cluster.add_pod("a")
    cluster.set_pod("uid-a", status)  # the kubelet has not written it anew
    cluster.run(30)
    assert str(cluster.group.offer) == "gone"
    cluster.set_pod("uid-a", replace(status, started=(1000 + int(cluster.now),)))
    cluster.run(12)
    assert cluster.group.offer is None
    assert cluster.holder == "a"


def test_a_holder_whose_disk_is_lost_is_emptied_and_its_route_stays() -> None:
    """Nothing on record says which routes it had."""
    cluster = settled("a")
    cluster.hosts["a"].claims.clear()
    cluster.start("a")
    cluster.run(100)
    assert cluster.holder is None
    assert cluster.leads_to("a")


def test_register_entries_of_pods_that_are_gone_are_removed() -> None:
    cluster = settled("abc")
    cluster.kill("c")
    cluster.pods.pop("uid-c")
    cluster.run(100)
    assert cluster.group
    assert [entry.node for entry in cluster.group.members] == ["a", "b"]


def test_at_rest_nothing_is_written() -> None:
    cluster = settled("abc")
    version = cluster.group.version if cluster.group else ""
    cluster.run(400)
    assert cluster.log == []
    assert cluster.group
    assert cluster.group.version == version
