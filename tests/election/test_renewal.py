"""The own node Lease, and what the members of a node see in common."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

from cni_floatip.election.lease import GroupLease, Holder, NodeLease
from cni_floatip.election.node import (
    ApiAnswered,
    ApiFailed,
    GroupsListed,
    Holds,
    HostProbed,
    NodeLeaseRead,
    NodeLeaseSeen,
    OwnNodeLeaseRead,
    ReadOwnNodeLease,
    Renewal,
    RenewalFailed,
    Renewed,
    RenewNodeLease,
    Surroundings,
)
from cni_floatip.election.timing import NEVER

NET = ip_network("192.168.0.2/32")
LEASE = NodeLease("a", "u", "5")
IDLE = Renewal("a", "node/boot", "node")
HOLDING = IDLE.on(Holds(10.0, holds=True))


def test_a_node_without_a_group_renews_nothing() -> None:
    assert IDLE.wants(99.0) == ()
    assert IDLE.next_at(99.0) == NEVER
    released = HOLDING.on(OwnNodeLeaseRead(10.1, LEASE)).on(Holds(11.0, holds=False))
    assert released.wants(99.0) == ()


def test_it_renews_at_once_after_winning_and_then_each_half_second() -> None:
    assert HOLDING.wants(10.0) == (ReadOwnNodeLease("a"),)
    known = HOLDING.on(OwnNodeLeaseRead(10.1, LEASE))
    renewed = replace(LEASE, holder="node/boot", duration=2, owner="node")
    assert known.wants(10.1) == (RenewNodeLease(renewed),)
    after = known.on(Renewed(10.2, 10.1, replace(renewed, version="6")))
    assert after.wants(10.59) == ()
    assert after.next_at(10.2) == 10.6
    assert after.wants(10.6) == (RenewNodeLease(replace(renewed, version="6")),)


def test_an_ending_agent_announces_its_absence_at_once() -> None:
    known = HOLDING.on(OwnNodeLeaseRead(10.1, LEASE)).on(Renewed(10.2, 10.1, LEASE))
    assert known.on(Holds(10.3, holds=True)).wants(10.3) == ()
    (wish,) = known.on(Holds(10.3, holds=True, ending=True)).wants(10.3)
    assert isinstance(wish, RenewNodeLease)
    assert wish.lease.duration == 60


def test_a_renewal_that_is_not_the_newest_is_read_and_made_again() -> None:
    known = HOLDING.on(OwnNodeLeaseRead(10.1, LEASE)).on(Renewed(10.2, 10.1, None))
    assert known.wants(10.2) == (ReadOwnNodeLease("a"),)


def test_a_renewal_without_an_answer_is_repeated_after_one_period() -> None:
    known = HOLDING.on(OwnNodeLeaseRead(10.1, LEASE)).on(RenewalFailed(11.1))
    assert known.wants(11.5) == ()
    assert known.wants(11.6) != ()


def test_a_node_lease_that_is_not_there_is_created() -> None:
    (wish,) = HOLDING.on(OwnNodeLeaseRead(10.1, None)).wants(10.1)
    assert isinstance(wish, RenewNodeLease)
    assert (wish.lease.uid, wish.lease.version) == ("", "")


def test_exactly_the_nodes_of_holders_are_followed() -> None:
    around = Surroundings("b").follow(frozenset("ac"))
    after = around.on(NodeLeaseSeen(5.0, "a", LEASE))
    assert [item.node for item in after.followed] == ["a", "c"]
    assert after.follow(frozenset("a")).node_of("a") == after.node_of("a")
    assert after.on(NodeLeaseSeen(5.0, "z", LEASE)).node_of("z") is None


def test_what_counts_as_an_answer_of_the_api() -> None:
    around = Surroundings("b").follow(frozenset("a"))
    for event in (
        ApiAnswered(5.0),
        NodeLeaseSeen(5.0, "a", LEASE),
        NodeLeaseRead(5.0, 4.9, "a", None),
        GroupsListed(5.0, ()),
    ):
        assert around.on(event).answers.last == 5.0
    assert around.on(HostProbed(5.0, 4.9, "a", answered=True)).answers == around.answers
    assert around.on(ApiFailed(5.0)).answers.failed_at == 5.0


def test_the_older_group_has_the_destination() -> None:
    holder = Holder("p", "n", "u")
    groups = tuple(
        GroupLease(group, "u", "1", created, who, destinations=(NET,))
        for group, created, who in (("ns/b", 7, holder), ("ns/a", 9, holder), ("ns/c", 1, None))
    )
    around = Surroundings("n").on(GroupsListed(1.0, groups))
    assert around.older_rival(9, "ns/a", [NET]) == "ns/b"
    assert around.older_rival(7, "ns/b", [NET]) is None
    assert around.older_rival(7, "ns/aa", [NET]) is None  # by name, of one age
    assert around.older_rival(7, "ns/bb", [NET]) == "ns/b"
    assert around.older_rival(0, "ns/x", [NET]) == "ns/b"  # not created yet
    assert around.older_rival(9, "ns/a", [ip_network("192.168.0.3/32")]) is None
