"""Rule 10: what an answer of EC2, or none, means; when a write is tried again; and the clock of the rules."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_floatip.config.election import Elections
from cni_floatip.election.holding import Holding
from cni_floatip.election.keeping import next_look
from cni_floatip.election.routes import Ec2View, RouteWork
from cni_floatip.election.timing import NEVER, PAST, Bucket, Clock, Timing
from cni_floatip.model.route_write import WriteOutcome
from cni_floatip.model.values import RouteKey

TIMING = Timing()
KEY = RouteKey("rtb-1", ip_network("192.168.0.2/32"))
NO = [WriteOutcome.UNANSWERED]
ANSWERED = Ec2View().look(0.0, answered=True)


@pytest.mark.parametrize(
    ("view", "at", "lost", "only_reads"),
    [
        pytest.param(ANSWERED.look(10.0, answered=False), 69.9, False, False, id="looks fail"),
        pytest.param(ANSWERED.look(10.0, answered=False), 70.0, True, False, id="looks fail for a minute"),
        pytest.param(
            ANSWERED.look(10.0, answered=False).look(60.0, answered=True),
            99.0,
            False,
            False,
            id="answered between",
        ),
        pytest.param(ANSWERED.write(10.0, NO), 99.0, False, False, id="no look tells since"),
        pytest.param(
            ANSWERED.write(10.0, NO).look(11.0, answered=False), 14.9, False, False, id="writes fail, shortly"
        ),
        pytest.param(
            ANSWERED.write(10.0, NO).look(11.0, answered=False), 15.0, True, False, id="writes and looks fail"
        ),
        pytest.param(
            ANSWERED.write(10.0, NO).look(11.0, answered=True), 15.0, False, True, id="EC2 answers only reads"
        ),
        pytest.param(
            ANSWERED.write(10.0, NO).look(11.0, answered=False).write(12.0, [WriteOutcome.FULL]),
            30.0,
            False,
            False,
            id="a refusal is an answer",
        ),
        pytest.param(
            ANSWERED.write(10.0, [WriteOutcome.THROTTLED]).look(11.0, answered=True),
            30.0,
            False,
            False,
            id="throttling is no loss",
        ),
        pytest.param(
            ANSWERED.write(10.0, [WriteOutcome.NOT_SENT, WriteOutcome.POLICY]).look(11.0, answered=True),
            30.0,
            False,
            False,
            id="EC2 was not asked",
        ),
    ],
)
def test_when_ec2_is_lost(view: Ec2View, at: float, lost: bool, only_reads: bool) -> None:
    clock = Clock(at)
    assert (view.lost(clock, TIMING), view.only_reads(clock, TIMING)) == (lost, only_reads)


def test_a_standby_is_as_fit_as_the_newest_call() -> None:
    assert not Ec2View().answered
    assert ANSWERED.answered
    assert not ANSWERED.look(5.0, answered=False).answered
    assert ANSWERED.look(5.0, answered=False).call(6.0, answered=True).answered
    assert ANSWERED.call(9.0, answered=True).call(8.0, answered=False).answered  # an older call ended later
    assert not ANSWERED.write(5.0, NO).answered


@pytest.mark.parametrize(
    ("outcome", "due", "tries"),
    [
        (WriteOutcome.WRITTEN, NEVER, 0),
        (WriteOutcome.NOT_SENT, PAST, 0),
        (WriteOutcome.THROTTLED, 101.0, 0),
        (WriteOutcome.UNANSWERED, 101.0, 1),
        (WriteOutcome.FULL, 110.0, 1),
        (WriteOutcome.NOT_ENI, 110.0, 1),
        (WriteOutcome.DENIED, 110.0, 1),
        (WriteOutcome.POLICY, 110.0, 1),
    ],
)
def test_when_a_write_is_tried_again(outcome: WriteOutcome, due: float, tries: int) -> None:
    work = RouteWork(KEY, PAST).after(outcome, 100.0, TIMING, patient=False)
    assert (work.due, work.tries) == (due, tries)
    assert work.untried is (outcome in (WriteOutcome.NOT_SENT, WriteOutcome.THROTTLED))


@pytest.mark.parametrize("outcome", [WriteOutcome.UNANSWERED, WriteOutcome.DENIED])
def test_the_pause_between_tries_doubles_up_to_ten_minutes(outcome: WriteOutcome) -> None:
    work, pauses = RouteWork(KEY, PAST), []
    for _ in range(10):
        work = work.after(outcome, 100.0, TIMING, patient=True)
        pauses.append(work.due - 100.0)
    assert pauses == [10, 20, 40, 80, 160, 320, 600, 600, 600, 600]


def test_a_mend_without_an_answer_is_not_repeated_soon() -> None:
    held = Holding("u", 90.0, (RouteWork(KEY, PAST),), mending=True)
    for outcome in (WriteOutcome.UNANSWERED, WriteOutcome.NOT_SENT):
        after = held.written([(KEY, outcome)], 100.0, TIMING, patient=False)
        assert (after.routes[0].due, after.mending) == (110.0, False), outcome


def test_when_an_active_looks() -> None:
    held, looked, moments = Holding("u", 1000.0), 1000.0, []
    for _ in range(9):
        looked = next_look(held, looked, TIMING)
        moments.append(looked - 1000.0)
    assert moments == [1, 3, 7, 15, 30, 45, 55, 65, 75]
    assert next_look(held, 2195.0, TIMING) == 2255.0
    assert next_look(held, 2185.0, TIMING) == 2195.0


def test_a_bucket_has_four_and_then_one_each_ten_minutes() -> None:
    bucket, now, spent = Bucket(), 0.0, []
    for _ in range(4000):
        if bucket.free_at(4, 600.0) <= now:
            bucket = bucket.spend(now, 600.0)
            spent.append(now)
        now += 1.0
    assert spent == [0, 1, 2, 3, 600, 1200, 1800, 2400, 3000, 3600]
    assert bucket.settle(10_000.0) == Bucket()


@given(st.lists(st.floats(-10, 10)), st.floats(-10, 10))
def test_a_clock_says_when_any_comparison_turns(moments: list[float], now: float) -> None:
    clock = Clock(now)
    answers = [clock.past(moment) for moment in moments]
    assert answers == [now >= moment for moment in moments]
    assert clock.next_at == min((moment for moment in moments if moment > now), default=NEVER)


def test_the_durations_of_a_policy() -> None:
    timing = Timing.of(Elections(renew_seconds=1, lease_seconds=5, veto_seconds=90), 300, 20)
    assert (timing.renew, timing.lease, timing.veto) == (1, 5.0, 90.0)
    assert (timing.reconcile, timing.release_grace) == (300, 20)
    assert Timing.of(Elections(), 60, 60) == Timing()
