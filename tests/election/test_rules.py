"""Situations of one member, in which one rule decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network

import pytest

from cni_floatip.election.events import (
    AwaitTurn,
    ClaimsChanged,
    Ec2Called,
    GrantsChanged,
    GroupRead,
    GroupSeen,
    GroupSwapped,
    GroupUnreadable,
    LookAtRoutes,
    PodRead,
    PodSeen,
    ReadGroup,
    ReadPod,
    RecordRole,
    ReleaseRoutes,
    RoleRecorded,
    RoutesSeen,
    RoutesWritten,
    Sent,
    SurroundingsChanged,
    Swap,
    SwapGroup,
    Time,
    TryWrites,
    TurnCame,
    Wish,
    WriteRoutes,
    WritesTried,
)
from cni_floatip.election.fitness import ElectedInterface, PodClaims, PodStatus
from cni_floatip.election.lease import Entry, GroupLease, Holder, Offer, Reason
from cni_floatip.election.member import Member
from cni_floatip.election.node import ApiAnswered, Rival, Surroundings
from cni_floatip.model.route_write import WriteOutcome
from cni_floatip.model.values import RouteKey, RouteTarget
from tests.election.cluster import Cluster

NET = ip_network("192.168.0.2/32")
OTHER = ip_network("192.168.0.9/32")
KEY = RouteKey("rtb-1", NET)
MINE = RouteTarget("eni-me", True)
CLAIMS = PodClaims("me", "web-me", 0, (ElectedInterface("eni-me", (NET,)),), (KEY,), active_on_disk=True)
READY = PodStatus("me", ready=True, started=(1,))
PEER = Entry("peer", "web-peer", "there", "", 0, 5, 0, 0, ("eni-peer",), (NET,))
LEASE = GroupLease("ns/web", "lease", "10", 1, Holder("web-me", "here", "me"), 3, None, (NET,), (PEER,))
THEIRS = replace(LEASE, holder=Holder("web-peer", "there", "peer"))


def member(lease: GroupLease | None = LEASE, claims: PodClaims = CLAIMS, at: float = 100.0) -> Member:
    """Return a member on node ``here`` whose pod is fit, after it read this Lease."""
    around = Surroundings("here", rivals=()).on(ApiAnswered(at - 1))
    new = Member("ns/web", around).on(ClaimsChanged(at - 1, (claims,)))
    new = new.on(PodRead(at, at - 0.5, claims.uid, replace(READY, uid=claims.uid)))
    new = new.on(RoutesSeen(at, at - 0.5, ((KEY, MINE),)))
    return new.on(GroupRead(at, at - 0.1, lease)).on(SurroundingsChanged(at, around.on(ApiAnswered(at))))


def wishes(one: Member, kind: type[Wish], at: float = 100.0) -> list[Wish]:
    return [wish for wish in one.wants(at) if isinstance(wish, kind)]


def swap(one: Member, at: float = 100.0) -> str | None:
    """Return why the group Lease is changed now."""
    return next((wish.why for wish in one.wants(at) if isinstance(wish, SwapGroup)), None)


def make(one: Member, at: float, **changes: object) -> Member:
    """Return the member after its swap was made at once."""
    wish = next(wish for wish in one.wants(at) if isinstance(wish, SwapGroup))
    kept = replace(wish.lease, version=str(int(wish.lease.version or 0) + 1), uid=wish.lease.uid or "lease")
    return one.on(Sent(at, wish)).on(GroupSwapped(at, at, Swap.DONE, replace(kept, **changes)))  # type: ignore[arg-type]


def lost_route(one: Member, at: float = 102.0, target: RouteTarget | None = None) -> Member:
    return one.on(RoutesSeen(at, at - 0.1, ((KEY, target),)))


# Rule 1, 2: holding and proof.


def test_a_write_waits_for_a_turn_then_for_a_get_that_began_after_it() -> None:
    one = lost_route(member())
    assert wishes(one, AwaitTurn, 102)
    assert not wishes(one, WriteRoutes, 102)
    early = one.on(GroupRead(102.5, 102.4, LEASE)).on(TurnCame(103.0))
    assert not wishes(early, WriteRoutes, 103)  # the GET began before the turn
    assert wishes(early, ReadGroup, 103)
    proved = early.on(GroupRead(103.3, 103.1, LEASE))
    (write,) = wishes(proved, WriteRoutes, 103.3)
    assert write == WriteRoutes("me", (KEY,), 103.1 + 1.5)
    assert not wishes(proved, WriteRoutes, 104.6)
    assert wishes(proved, ReadGroup, 104.6)


def test_the_own_swap_proves_and_the_first_write_needs_no_read() -> None:
    one = make(member(replace(LEASE, holder=None)), 100.0)
    assert one.active == "me"
    one = one.on(TurnCame(100.1))
    assert wishes(one, WriteRoutes, 100.1) == [WriteRoutes("me", (KEY,), 101.5)]
    assert not wishes(one, WriteRoutes, 101.5)


def test_a_watch_proves_nothing() -> None:
    one = lost_route(member()).on(TurnCame(103.0)).on(GroupSeen(103.1, replace(LEASE, version="11")))
    assert not wishes(one, WriteRoutes, 103.1)


@pytest.mark.parametrize(
    "lease",
    [
        THEIRS,
        replace(LEASE, holder=Holder("web-me", "here", "former")),
        replace(LEASE, holder=None),
        replace(LEASE, offer=Offer(Reason.LEVEL, level=1)),
        replace(LEASE, offer=Offer(Reason.UNREADY)),
        None,
    ],
)
def test_a_get_that_shows_anything_else_ends_the_write(lease: GroupLease | None) -> None:
    one = lost_route(member()).on(TurnCame(103.0))
    lease = replace(lease, version="11") if lease else None
    one = one.on(GroupRead(103.3, 103.1, lease))
    assert not wishes(one, WriteRoutes, 103.3)
    assert one.turn is None


def test_a_swap_without_an_answer_is_looked_up_and_its_win_is_written_at_once() -> None:
    one = member(replace(LEASE, holder=None))
    wish = next(wish for wish in one.wants(100) if isinstance(wish, SwapGroup))
    one = one.on(Sent(100, wish)).on(GroupSwapped(101, 100, Swap.UNKNOWN))
    assert swap(one, 101) is None
    assert wishes(one, ReadGroup, 101)
    won = one.on(GroupRead(101.2, 101.1, replace(wish.lease, version="11")))
    assert wishes(won, AwaitTurn, 101.2)
    again = one.on(GroupRead(101.2, 101.1, replace(LEASE, holder=None)))
    assert swap(again, 101.2) == "take: nobody holds it"


def test_a_conflict_is_looked_up_before_the_next_swap() -> None:
    one = member(replace(LEASE, holder=None))
    wish = next(wish for wish in one.wants(100) if isinstance(wish, SwapGroup))
    one = one.on(Sent(100, wish)).on(GroupSwapped(100.1, 100, Swap.CONFLICT))
    assert (swap(one, 100.1), bool(wishes(one, ReadGroup, 100.1))) == (None, True)
    same = replace(LEASE, holder=None, version="11", members=())
    assert swap(one.on(GroupRead(100.2, 100.15, same)), 100.2) == "take: nobody holds it"


def test_an_event_of_the_watch_that_is_older_than_the_view_changes_nothing() -> None:
    one = member(replace(LEASE, version="20"))
    assert one.on(GroupSeen(101, replace(THEIRS, version="19"))) == one
    assert one.on(GroupSeen(101, replace(THEIRS, version="21"))).active is None


def test_a_get_that_is_older_than_the_view_changes_nothing() -> None:
    one = member(replace(LEASE, version="20"))
    late = one.on(GroupRead(101, 99.0, replace(THEIRS, version="19")))
    assert late.active == "me"
    assert one.on(GroupRead(101, 99.0, None)).active == "me"


def test_learning_that_the_pod_holds_writes_nothing_by_itself() -> None:
    """An agent was restarted: it looks first."""
    one = member()
    assert not wishes(one, AwaitTurn)
    assert wishes(member().on(Time(101)), LookAtRoutes, 101)


# Rule 3: what a look makes due.


@pytest.mark.parametrize(
    ("target", "due"),
    [
        (MINE, False),
        (RouteTarget("eni-me", True, active=False), False),
        (None, True),
        (RouteTarget("eni-peer", True), True),
        (RouteTarget("eni-gone", True, active=False), True),
        (RouteTarget("eni-stranger", True), True),
        (RouteTarget("tgw-1", False), False),
        (RouteTarget("eni-x", True, propagated=True), False),
    ],
    ids=str,
)
def test_whatever_is_not_ours_becomes_ours(target: RouteTarget | None, due: bool) -> None:
    assert bool(wishes(lost_route(member(), target=target), AwaitTurn, 102)) is due


@pytest.mark.parametrize(("working", "most"), [(True, 4), (False, 8)])
def test_only_a_working_route_is_left_to_another_writer(working: bool, most: int) -> None:
    """A look that shows ours refills nothing, or the active and another writer would fight for ever."""
    one, at, count = member(), 102.0, 0
    for _ in range(8):
        one = lost_route(one, at, RouteTarget("eni-stranger", True, active=working))
        if wishes(one, AwaitTurn, at):
            count += 1
            one = one.on(TurnCame(at + 0.1)).on(GroupRead(at + 0.3, at + 0.2, LEASE))
            (write,) = wishes(one, WriteRoutes, at + 0.3)
            one = one.on(Sent(at + 0.3, write))  # type: ignore[arg-type]
            one = one.on(RoutesWritten(at + 0.5, at + 0.3, ((KEY, WriteOutcome.WRITTEN),)))
        one = lost_route(one, at + 2, MINE)
        at += 5
    assert (count, one.contested) == (most, working)


def test_a_look_that_began_before_the_own_write_ended_is_not_believed() -> None:
    one = lost_route(member()).on(TurnCame(103)).on(GroupRead(103.2, 103.1, LEASE))
    (write,) = wishes(one, WriteRoutes, 103.2)
    one = one.on(Sent(103.2, write))  # type: ignore[arg-type]
    one = one.on(RoutesWritten(103.5, 103.2, ((KEY, WriteOutcome.WRITTEN),)))
    assert not wishes(one.on(RoutesSeen(103.6, 103.4, ((KEY, None),))), AwaitTurn, 103.6)
    assert wishes(one.on(RoutesSeen(103.8, 103.6, ((KEY, None),))), AwaitTurn, 103.8)


def test_a_new_table_joins_and_one_that_is_gone_leaves() -> None:
    joined = RouteKey("rtb-2", NET)
    one = member().on(RoutesSeen(102, 101.9, ((joined, None),)))
    assert one.holding
    assert [work.key for work in one.holding.routes] == [joined]
    assert wishes(one, AwaitTurn, 102) == [AwaitTurn((joined,))]


@pytest.mark.parametrize(
    "claims",
    [replace(CLAIMS, complete=False), replace(CLAIMS, ended_at=101.0)],
)
def test_only_while_the_pod_runs_here(claims: PodClaims) -> None:
    one = lost_route(member()).on(ClaimsChanged(102, (claims,)))
    assert not wishes(one, AwaitTurn, 102)


def test_a_first_write_waits_for_its_role_on_disk() -> None:
    one = make(member(replace(LEASE, holder=None), replace(CLAIMS, active_on_disk=False)), 100.0)
    assert wishes(one, RecordRole) == [RecordRole("me", active=True)]
    assert not wishes(one, AwaitTurn)
    assert wishes(one.on(RoleRecorded(100.1, "me", active=True, done=True)), AwaitTurn, 100.1)
    assert wishes(one.on(RoleRecorded(100.1, "me", active=True, done=False)), AwaitTurn, 100.1)


# Rule 4: a standby writes and deletes nothing.


def test_a_standby_writes_nothing_whatever_it_sees() -> None:
    one = member(THEIRS)
    for target in (None, MINE, RouteTarget("eni-stranger", True)):
        one = lost_route(one, target=target)
        assert not [
            wish for wish in one.wants(102) if isinstance(wish, AwaitTurn | WriteRoutes | ReleaseRoutes)
        ]
    ended = one.on(ClaimsChanged(103, (replace(CLAIMS, ended_at=103.0),)))
    assert not [wish for wish in ended.wants(999) if isinstance(wish, AwaitTurn | ReleaseRoutes)]


# Rule 5: offers.


def writing() -> Member:
    one = lost_route(member()).on(TurnCame(103)).on(GroupRead(103.2, 103.1, LEASE))
    (write,) = wishes(one, WriteRoutes, 103.2)
    return one.on(Sent(103.2, write))  # type: ignore[arg-type]


def test_an_offer_waits_for_the_answer_of_the_own_write() -> None:
    one = writing().on(PodSeen(103.3, "me", replace(READY, terminating=True)))
    assert swap(one, 103.3) is None
    assert swap(one, 108.3) == "offer: terminating"  # five seconds at most
    done = one.on(RoutesWritten(103.5, 103.2, ((KEY, WriteOutcome.WRITTEN),)))
    assert swap(done, 103.5) == "offer: terminating"


def test_nothing_is_written_while_an_offer_is_under_way() -> None:
    one = lost_route(member()).on(TurnCame(103)).on(GroupRead(103.2, 103.1, LEASE))
    one = one.on(PodSeen(103.2, "me", replace(READY, terminating=True)))
    assert not wishes(one, WriteRoutes, 103.2)
    offer = next(wish for wish in one.wants(103.2) if isinstance(wish, SwapGroup))
    assert not wishes(one.on(Sent(103.2, offer)), WriteRoutes, 103.2)


def test_nothing_is_written_while_a_soft_offer_is_under_way() -> None:
    one = cordoned(member())
    offer = next(wish for wish in one.wants(100) if isinstance(wish, SwapGroup))
    assert wishes(lost_route(one), AwaitTurn, 102)
    assert not wishes(lost_route(one.on(Sent(100, offer))), AwaitTurn, 102)


def test_an_active_that_has_a_reason_to_offer_offers_before_it_writes() -> None:
    one = lost_route(member().on(PodSeen(101, "me", replace(READY, ready=False))), 101.5)
    assert wishes(one, AwaitTurn, 102)
    assert (swap(one, 103), wishes(one, AwaitTurn, 103)) == ("offer: unready", [])


def test_a_withdrawal_is_a_new_holding() -> None:
    one = member(replace(LEASE, offer=Offer(Reason.UNREADY)))
    wish = next(wish for wish in one.wants(100) if isinstance(wish, SwapGroup))
    assert (wish.why, wish.lease.transitions, wish.lease.offer) == ("withdraw: fit again", 4, None)


def test_a_mend_is_a_new_holding_too() -> None:
    one = member().on(PodSeen(101, "me", replace(READY, ready=False)))
    one = make(one.on(Time(103.1)), 103.1)
    assert one.lease
    assert str(one.lease.offer) == "unready"
    wish = next(wish for wish in lost_route(one, 104).wants(104) if isinstance(wish, SwapGroup))
    assert (wish.mends, wish.lease.transitions, wish.lease.offer) == (True, 4, None)


def cordoned(one: Member, at: float = 100.0) -> Member:
    return one.on(SurroundingsChanged(at, replace(one.surroundings, cordoned=True)))


def test_a_soft_offer_waits_for_the_first_try_of_every_write() -> None:
    one = cordoned(make(member(replace(LEASE, holder=None)), 100.0))
    assert swap(one, 100.1) in (None, "register")
    one = one.on(TurnCame(100.1))
    (write,) = wishes(one, WriteRoutes, 100.1)
    one = one.on(Sent(100.1, write))  # type: ignore[arg-type]
    assert swap(one, 102) in (None, "register")
    for outcome in WriteOutcome:
        after = one.on(RoutesWritten(100.4, 100.1, ((KEY, outcome),)))
        waits = outcome in (WriteOutcome.NOT_SENT, WriteOutcome.THROTTLED)
        level = 2 if outcome in (WriteOutcome.DENIED, WriteOutcome.POLICY) else 1
        assert (swap(after, 100.4) == f"offer: level {level}") is not waits, outcome


@pytest.mark.parametrize(
    ("entry", "offers"),
    [
        (PEER, True),
        (replace(PEER, level=1), False),
        (replace(PEER, fit_since=0), False),
        (replace(PEER, destinations=(OTHER,)), False),
        (replace(PEER, node="here"), False),
    ],
)
def test_a_soft_offer_needs_a_better_member(entry: Entry, offers: bool) -> None:
    one = cordoned(member(replace(LEASE, members=(entry,))))
    assert (swap(one) == "offer: level 1") is offers


def test_a_member_that_left_an_offer_untaken_is_offered_to_again_when_it_changed() -> None:
    one = make(cordoned(member()), 100.0)
    assert swap(one, 114.9) in (None, "register")
    one = make(one.on(Time(115)), 115.0)
    assert one.lease
    assert one.lease.offer is None
    assert swap(one, 116) in (None, "register")
    for entry in (replace(PEER, fit_since=6), replace(PEER, uid="other")):
        changed = replace(one.lease, version="99", members=(entry,))
        assert swap(one.on(GroupSeen(117, changed)), 117) == "offer: level 1"
    late = one.on(Time(715.0))
    assert swap(late, 715) == "offer: level 1"


def test_a_member_that_changed_during_the_offer_is_offered_to_again() -> None:
    one = make(cordoned(member()), 100.0)
    assert one.lease
    changed = replace(one.lease, version="50", members=(replace(PEER, fit_since=6),))
    one = one.on(GroupSeen(105, changed)).on(Time(115))
    one = make(one, 115.0)
    assert swap(one, 115.1) == "offer: level 1"


def test_a_soft_offer_that_turns_plain_is_no_refusal_of_the_others() -> None:
    one = make(cordoned(member()), 100.0).on(PodSeen(101, "me", replace(READY, ready=False)))
    one = make(one.on(Time(103)), 103.0)
    assert one.lease
    assert str(one.lease.offer) == "unready"
    one = make(one.on(PodSeen(120, "me", READY)), 120.0)
    assert one.holding
    assert one.holding.untaken == ()


# Rule 6, 9, 13, 15: taking, polling, the register.


def test_a_pod_of_the_own_node_takes_once_the_own_write_has_ended() -> None:
    new = replace(CLAIMS, uid="new", pod="web-new", active_on_disk=False)
    one = writing().on(ClaimsChanged(103.2, (CLAIMS, new)))
    one = one.on(PodRead(103.3, 103.25, "new", replace(READY, uid="new")))
    assert swap(one, 103.3) in (None, "register")  # the former serves
    one = one.on(PodSeen(103.4, "me", replace(READY, terminating=True)))
    assert swap(one, 103.4) in (None, "register")
    done = one.on(RoutesWritten(103.5, 103.2, ((KEY, WriteOutcome.WRITTEN),)))
    assert swap(done, 103.5) == "take: terminating on this node"


def test_who_followed_a_lease_that_vanished_gives_its_holder_time() -> None:
    others, own = member(THEIRS), member()
    for one, at in ((others, 107.0), (own, 105.0)):
        gone = one.on(GroupSeen(104.8, None)).on(GroupRead(105.0, 104.9, None))
        assert swap(gone, at - 0.01) is None or one is own
        assert swap(gone, at) == "take: there is no Lease"


def test_only_a_pod_that_was_read_since_the_newest_gap_takes() -> None:
    one = member(replace(LEASE, holder=None))
    gap = one.on(SurroundingsChanged(105, one.surroundings.on(ApiAnswered(105))))
    assert swap(gap, 105) is None
    assert ReadPod("web-me", "me") in gap.wants(105)
    assert swap(gap.on(PodRead(105.2, 105.1, "me", READY)), 105.2) == "take: nobody holds it"


@pytest.mark.parametrize(
    "lease", [replace(LEASE, holder=None), replace(THEIRS, offer=Offer(Reason.TERMINATING)), None]
)
def test_without_ec2_nobody_takes(lease: GroupLease | None) -> None:
    assert swap(member(lease)) is not None
    assert swap(member(lease).on(Ec2Called(100, 99.9, answered=False))) is None


def test_each_rank_waits_longer() -> None:
    entries = (replace(PEER, uid="p1", created=9), replace(PEER, uid="p2", created=9))
    one = member(replace(LEASE, holder=None, members=entries))
    assert swap(one, 100.59) is None
    assert swap(one, 100.61) == "take: nobody holds it"


@pytest.mark.parametrize(
    ("reason", "takes"),
    [(Reason.TERMINATING, True), (Reason.GONE, True), (Reason.UNREADY, False), (Reason.EC2_LOST, False)],
)
def test_a_member_with_other_destinations_takes_only_what_ends(reason: Reason, takes: bool) -> None:
    claims = replace(CLAIMS, interfaces=(ElectedInterface("eni-me", (NET, OTHER)),))
    one = member(replace(THEIRS, offer=Offer(reason)), claims)
    assert (swap(one) == f"take: offered, {reason}") is takes
    if takes:
        assert (lease := make(one, 100.0).lease) is not None
        assert lease.destinations == (NET, OTHER)


def test_what_the_new_active_lacks_is_released_after_its_grace() -> None:
    both = RouteKey("rtb-1", OTHER)
    claims = replace(CLAIMS, interfaces=(ElectedInterface("eni-me", (NET, OTHER)),), keys=(KEY, both))
    one = member(replace(LEASE, destinations=(NET, OTHER)), claims)
    one = one.on(RoutesSeen(101, 100.9, ((KEY, MINE), (both, MINE))))
    one = one.on(GroupSeen(110, replace(THEIRS, version="11")))
    assert not wishes(one, AwaitTurn, 169.9)
    assert wishes(one, AwaitTurn, 170) == [AwaitTurn((both,))]
    one = one.on(TurnCame(170)).on(GroupRead(170.2, 170.1, replace(THEIRS, version="11")))
    assert [wish.keys for wish in one.wants(170.2) if isinstance(wish, ReleaseRoutes)] == [(both,)]
    again = replace(THEIRS, version="12", destinations=(NET, OTHER))
    assert not wishes(one.on(GroupRead(170.3, 170.2, again)), ReleaseRoutes, 170.3)


def test_everything_is_read_again_every_ten_seconds() -> None:
    one = member()
    assert not wishes(one, ReadGroup, 109.8)
    assert wishes(one, ReadGroup, 109.9)
    assert ReadPod("web-me", "me") in one.wants(109.5)


def test_an_entry_is_written_after_a_get_of_the_own_pod() -> None:
    """The watch still shows a pod that is gone: its entry would be written and removed in turn."""
    one = member(THEIRS)
    assert swap(one) is None  # the GET is older than the entry
    assert ReadPod("web-me", "me") in one.wants(100)
    assert swap(one.on(PodRead(100.2, 100.1, "me", READY)), 100.2) == "register"
    assert swap(one.on(PodRead(100.2, 100.1, "me", None)), 100.2) is None


def test_an_entry_is_written_not_more_often_than_every_two_seconds() -> None:
    one = make(member(THEIRS).on(PodRead(100.2, 100.1, "me", READY)), 100.2)
    assert one.lease
    assert one.lease.entry("me")
    one = cordoned(one, 100.5).on(PodRead(100.7, 100.6, "me", READY))
    assert swap(one, 102.1) is None
    assert swap(one, 102.2) == "register"


def test_an_entry_changes_when_its_member_becomes_fit_or_its_level_falls() -> None:
    one = member(THEIRS)
    first = one.pods[0].fit_since
    risen = cordoned(one, 101)
    assert (risen.pods[0].fit_since, risen.pods[0].level) == (first, 1)
    fallen = risen.on(SurroundingsChanged(102, one.surroundings))
    assert fallen.pods[0].fit_since > first
    unfit = fallen.on(PodSeen(102.1, "me", replace(READY, ready=False)))
    assert unfit.pods[0].fit_since == 0
    assert unfit.on(PodSeen(102.2, "me", READY)).pods[0].fit_since > fallen.pods[0].fit_since


def test_the_active_removes_entries_whose_pod_a_get_does_not_find() -> None:
    one = member()
    assert ReadPod("web-peer", "peer") in one.wants(160)
    one = one.on(PodRead(160.2, 160.1, "peer", None))
    assert swap(one, 160.2) == "register"
    assert make(one, 160.2).lease.members == ()  # type: ignore[union-attr]
    assert not any(entry.uid == "me" for entry in LEASE.members)


def test_a_pod_of_another_uid_is_not_found() -> None:
    one = member().on(PodRead(160.2, 160.1, "peer", replace(READY, uid="anew")))
    assert one.peer("peer")
    assert one.peer("peer").gone  # type: ignore[union-attr]


# Rule 10: EC2 lost, and marks.


def test_a_look_that_failed_is_repeated_after_five_seconds() -> None:
    one = member(THEIRS).on(RoutesSeen(110, 109.5, None))
    assert (wishes(one, LookAtRoutes, 114.4), len(wishes(one, LookAtRoutes, 114.5))) == ([], 1)


@pytest.mark.parametrize(("reconcile", "pause"), [(20.0, 20.0), (300.0, 60.0)])
def test_a_standby_looks_each_minute_at_least(reconcile: float, pause: float) -> None:
    one = member(THEIRS)
    timing = replace(one.timing, reconcile=reconcile)
    one = one.on(SurroundingsChanged(101, replace(one.surroundings, timing=timing)))
    one = one.on(RoutesSeen(110, 109.5, ((KEY, MINE),)))
    assert not wishes(one, LookAtRoutes, 109.4 + pause)
    assert wishes(one, LookAtRoutes, 109.5 + pause)


def test_a_write_without_an_answer_is_followed_by_a_look() -> None:
    """It tells whether EC2 is lost, or answers looks alone."""
    one = writing().on(RoutesWritten(103.5, 103.2, ((KEY, WriteOutcome.UNANSWERED),)))
    assert wishes(one, LookAtRoutes, 103.5)


def denied() -> Member:
    one = writing().on(RoutesWritten(103.5, 103.2, ((KEY, WriteOutcome.DENIED),)))
    assert one.marks
    return one


def test_a_mark_ends_by_an_allowed_write() -> None:
    one = denied()
    assert one.on(Time(9999)).marks
    assert one.on(RoutesSeen(104, 103.9, ((KEY, MINE),))).marks
    for outcome in (WriteOutcome.WRITTEN, WriteOutcome.FULL, WriteOutcome.NOT_ENI):
        assert not one.on(RoutesWritten(114, 113.9, ((KEY, outcome),))).marks
    assert one.on(RoutesWritten(114, 113.9, ((KEY, WriteOutcome.THROTTLED),))).marks


def test_a_marked_active_goes_on_trying_though_it_sees_its_route() -> None:
    """Else its mark would never end."""
    one = denied().on(RoutesSeen(104, 103.9, ((KEY, MINE),)))
    assert not wishes(one, AwaitTurn, 113.4)
    assert wishes(one, AwaitTurn, 113.5)


def test_a_table_with_one_denied_route_stays_marked() -> None:
    other = RouteKey("rtb-1", OTHER)
    outcomes = ((KEY, WriteOutcome.WRITTEN), (other, WriteOutcome.DENIED))
    one = denied()
    assert one.on(RoutesWritten(114, 113.9, outcomes)).marks
    standby = one.on(GroupSeen(104, replace(THEIRS, version="11")))
    assert standby.on(WritesTried(114, 113.9, outcomes)).marks
    assert not standby.on(WritesTried(114, 113.9, outcomes[:1])).marks


def test_a_mark_ends_by_new_credentials_and_the_write_is_tried_at_once() -> None:
    one = denied()
    assert not wishes(one, AwaitTurn, 103.6)
    granted = one.on(GrantsChanged(103.6))
    assert not granted.marks
    assert wishes(granted, AwaitTurn, 103.6)


def test_a_marked_standby_asks_by_a_dry_run_each_ten_minutes() -> None:
    one = denied().on(GroupSeen(104, replace(THEIRS, version="11")))
    assert not wishes(one, TryWrites, 703.4)
    assert wishes(one, TryWrites, 703.5) == [TryWrites("me", (KEY,))]


# Rule 11: for good.


@pytest.mark.parametrize("keep", [False, True])
def test_a_network_that_keeps_its_routes_keeps_them_for_good(keep: bool) -> None:
    """Also where the holder cannot be emptied yet."""
    gone = replace(LEASE, offer=Offer(Reason.GONE), members=())
    one = member(gone).on(ClaimsChanged(101, (replace(CLAIMS, keep=keep, ended_at=101.0),)))
    assert not wishes(one, AwaitTurn, 160.9)
    assert bool(wishes(one, AwaitTurn, 161)) is not keep
    assert (swap(one, 161) == "nobody took: for good") is keep


# Rule 12: one destination, two groups.


def test_the_younger_of_two_groups_is_contested() -> None:
    older, younger = Rival(0, "ns/older", (NET,)), Rival(9, "ns/younger", (NET,))
    for rival, writes in ((older, False), (younger, True)):
        one = lost_route(member())
        one = one.on(SurroundingsChanged(102, replace(one.surroundings, rivals=(rival,))))
        assert bool(wishes(one, AwaitTurn, 102)) is writes
        assert bool(one.pods[0].fit_since) is writes
        assert bool(one.notices) is not writes


def test_nobody_creates_a_lease_before_the_groups_are_listed() -> None:
    one = member(None)
    assert swap(one) == "take: there is no Lease"
    assert swap(one.on(SurroundingsChanged(100, replace(one.surroundings, rivals=None)))) is None


# What holds throughout.


def test_a_lease_that_cannot_be_read_stops_everything() -> None:
    one = lost_route(member()).on(TurnCame(103)).on(GroupUnreadable(103, "holderIdentity"))
    assert not [wish for wish in one.wants(103) if isinstance(wish, SwapGroup | WriteRoutes | AwaitTurn)]
    assert wishes(one.on(GroupRead(104, 103.9, LEASE)), AwaitTurn, 104)


def test_who_renews() -> None:
    new = Member("ns/web", Surroundings("here")).on(ClaimsChanged(1, (CLAIMS,)))
    assert new.renews  # the disk says active, and the Lease was not read
    assert member().renews
    assert not member(THEIRS).renews
    assert not member(replace(LEASE, holder=Holder("web-me", "here", "former"))).renews
    assert not member().on(ClaimsChanged(101, (replace(CLAIMS, ended_at=101.0),))).renews
    assert member(replace(LEASE, offer=Offer(Reason.UNREADY))).renews


def test_who_is_followed() -> None:
    assert (member().follows, member(THEIRS).follows, member(None).follows) == (None, "there", None)


def test_next_at_is_when_wants_changes_by_time_alone() -> None:
    """Else a driver sleeps over a rule, or spins."""
    cluster = Cluster("ab")
    cluster.run(20)
    events: tuple[Callable[[], None], ...] = (
        lambda: cluster.cordon("a"),
        lambda: cluster.change_pod("uid-b", ready=False),
        lambda: cluster.kill("a"),
        lambda: cluster.routes.update(dict.fromkeys(cluster.routes)),
        lambda: cluster.change_pod("uid-b", ready=True),
    )
    for event in events:
        event()
        for _ in range(60):
            cluster.run(0.173)
            for host in cluster.hosts.values():
                one, now = host.member.on(Time(cluster.now)), cluster.now
                end = min(one.next_at(now), now + 100)
                assert end > now
                for at in (now + (end - now) / 2, end - 1e-6):
                    assert one.on(Time(at)).wants(at) == one.wants(now)


def test_members_are_values() -> None:
    assert member() == member()
    assert hash(member()) == hash(member())
    assert {member(), member(THEIRS)} == {member(THEIRS), member()}
