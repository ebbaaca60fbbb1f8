"""Rules 7 and 8: who counts as dead, by a table of situations. Moments count from the last renewal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cni_floatip.election.lease import NodeLease
from cni_floatip.election.timing import PAST, Clock, Timing
from cni_floatip.election.verdict import ApiAnswers, FollowedNode, Silence

TIMING = Timing()
LEASE = NodeLease("a", "u", "5", duration=2)
ANSWERS = ApiAnswers(last=0.0, since=-100.0, long_gap=False)


def node(**changes: object) -> FollowedNode:
    """Return a node whose Lease changed at 0, and whose host had answered and is silent since."""
    known = FollowedNode("a", LEASE, 0.0, read_began=-50.0, answered_at=-10.0, silent=(1.0, 1.3, 1.7))
    return replace(known, **changes)  # type: ignore[arg-type]


def is_dead(known: FollowedNode, at: float, learned: float = -90.0, answers: ApiAnswers = ANSWERS) -> bool:
    """Return the verdict at a moment, by a GET that began 0.02 s earlier."""
    known = replace(known, read_began=at - 0.02, read_at=at)
    silence = Silence.of(known, replace(answers, last=at), learned, TIMING)
    return silence.confirmed(silence.expires_at, Clock(at))


@pytest.mark.parametrize(
    ("known", "alive", "dead"),
    [
        pytest.param(node(), 2.01, 2.03, id="silent for its length"),
        pytest.param(node(answered_at=1.8, silent=()), 60.0, 60.03, id="the host answers"),
        pytest.param(node(answered_at=PAST, silent=()), 60.0, 60.03, id="no probe yet"),
        pytest.param(node(silent=(1.0, 1.3)), 60.0, 60.03, id="too few probes"),
        pytest.param(node(silent=(0.5, 1.3, 1.7)), 60.0, 60.03, id="a probe of the first half"),
        pytest.param(node(answered_at=PAST), 2.01, 2.03, id="firewall"),
        pytest.param(
            node(answered_at=PAST, lease=replace(LEASE, duration=60)), 60.0, 60.03, id="firewall, announced"
        ),
        pytest.param(
            node(answered_at=PAST, lease=replace(LEASE, duration=9999)), 60.0, 60.03, id="announced for ever"
        ),
        pytest.param(
            node(answered_at=PAST, lease=replace(LEASE, duration=0)), 2.01, 2.03, id="no length of its own"
        ),
        pytest.param(node(lease=replace(LEASE, duration=60)), 2.01, 2.03, id="announced, and the host died"),
        pytest.param(node(lease=None), 2.01, 2.03, id="a missing Lease is silent"),
    ],
)
def test_when_a_node_is_dead(known: FollowedNode, alive: float, dead: float) -> None:
    assert not is_dead(known, alive)
    assert is_dead(known, dead)


def test_the_clock_belongs_to_one_holding() -> None:
    """A silent, B took and gave back: the clock of A's former holding does not run against the new one."""
    known = node(changed_at=-500.0, silent=(101.0, 101.3, 101.7))
    assert not is_dead(known, 101.9, learned=100.0)
    assert is_dead(known, 102.1, learned=100.0)


def test_a_gap_in_the_own_answers_starts_the_clock_anew() -> None:
    known = node(silent=(31.0, 31.3, 31.7))
    answers = ApiAnswers(last=0.0, since=-100.0, long_gap=False)
    short = replace(answers, last=29.0).answered(30.5, TIMING)
    assert not is_dead(known, 32.4, answers=short)
    assert is_dead(replace(known, silent=(31.6, 31.9, 32.2)), 32.6, answers=short)


def test_after_a_long_gap_nobody_is_dead_for_ten_seconds() -> None:
    known = node(silent=(31.1, 31.4, 31.8))
    long = ANSWERS.answered(30.0, TIMING)
    assert (long.since, long.long_gap) == (30.0, True)
    assert not is_dead(known, 39.9, answers=long)
    assert is_dead(known, 40.1, answers=long)


def test_a_short_gap_does_not_shorten_the_wait_after_a_long_one() -> None:
    long = ANSWERS.answered(30.0, TIMING)
    assert long.answered(32.0, TIMING) == ApiAnswers(32.0, 32.0, long_gap=True)
    assert long.answered(41.0, TIMING).long_gap
    later = long
    for at in range(301, 450, 5):
        later = later.answered(at / 10, TIMING)
    assert later.answered(46.5, TIMING) == ApiAnswers(46.5, 46.5, long_gap=False)


def test_an_agent_that_starts_waits_as_after_a_long_gap() -> None:
    assert ApiAnswers().answered(7.0, TIMING) == ApiAnswers(7.0, 7.0, long_gap=True)


@pytest.mark.parametrize(("at", "gap"), [(0.9, False), (1.0, False), (1.1, True)])
def test_a_gap_is_longer_than_two_renewals(at: float, gap: bool) -> None:
    assert (ANSWERS.answered(at, TIMING).since == at) is gap


@pytest.mark.parametrize(
    ("began", "read_at", "failed", "last", "confirmed"),
    [
        pytest.param(2.01, 2.1, PAST, 2.1, True, id="begun afterwards"),
        pytest.param(1.99, 2.1, PAST, 2.1, False, id="begun too early"),
        pytest.param(2.01, 1.7, PAST, 2.1, False, id="a verdict lives for one renewal"),
        pytest.param(2.01, 2.1, 2.05, 2.1, False, id="a call failed since"),
        pytest.param(2.01, 2.1, 2.0, 2.1, True, id="a call failed before"),
        pytest.param(2.01, 2.1, PAST, 1.1, False, id="the API does not answer now"),
    ],
)
def test_a_verdict_needs_a_fresh_get(
    began: float,
    read_at: float,
    failed: float,
    last: float,
    confirmed: bool,
) -> None:
    known = node(read_began=began, read_at=read_at)
    silence = Silence.of(known, replace(ANSWERS, last=last, failed_at=failed), PAST, TIMING)
    assert silence.confirmed(silence.expires_at, Clock(2.2)) is confirmed


def test_a_change_restarts_the_silence_and_a_late_event_does_not() -> None:
    known = node()
    assert known.see(replace(LEASE, version="6"), 1.5).changed_at == 1.5
    assert known.see(LEASE, 1.5).changed_at == 0.0
    assert known.see(replace(LEASE, version="4"), 1.5) == known
    assert known.see(replace(LEASE, version="4", uid="anew"), 1.5).changed_at == 1.5
    assert known.see(None, 1.5).changed_at == 1.5  # a renewal may have vanished with it
    assert known.see(None, 1.5).see(None, 2.5).changed_at == 1.5
    assert known.read(LEASE, 1.4, 1.5).changed_at == 0.0


def test_probes_count_since_the_last_answer() -> None:
    known = node(silent=())
    for began in (1.0, 1.3, 1.6, 1.9):
        known = known.probed(began, began + 0.1, TIMING, answered=False)
    assert known.silent == (1.3, 1.6, 1.9)
    assert known.probed(2.0, 2.01, TIMING, answered=True).silent == ()


@pytest.mark.parametrize(
    ("known", "at", "due"),
    [
        pytest.param(node(probed_at=PAST), 0.1, True, id="when following begins"),
        pytest.param(node(probed_at=0.0, silent=()), 0.9, False, id="in the first half"),
        pytest.param(node(probed_at=0.0, silent=()), 1.0, True, id="the second half begins"),
        pytest.param(node(probed_at=1.0, silent=(1.0,)), 1.2, False, id="three in the second half"),
        pytest.param(node(probed_at=1.0, silent=(1.0,)), 1.34, True, id="the next of three"),
        pytest.param(node(probed_at=1.7), 1.99, False, id="three were silent"),
        pytest.param(node(probed_at=1.1, answered_at=1.2, silent=()), 2.0, False, id="vetoed"),
        pytest.param(node(probed_at=1.1, answered_at=1.2, silent=()), 2.2, True, id="vetoed, each second"),
        pytest.param(node(probed_at=-59.0, changed_at=0.9), 1.1, True, id="each minute"),
    ],
)
def test_when_the_host_is_probed(known: FollowedNode, at: float, due: bool) -> None:
    silence = Silence.of(known, replace(ANSWERS, last=at), PAST, TIMING)
    assert silence.probe_due(Clock(at)) is due


@pytest.mark.parametrize(("at", "suspected"), [(0.5, False), (0.59, False), (0.61, True)])
def test_suspicion_begins_when_a_renewal_was_missed(at: float, suspected: bool) -> None:
    assert Silence.of(node(), ANSWERS, PAST, TIMING).suspected(Clock(at)) is suspected


def test_in_suspicion_the_lease_is_read_each_renewal_and_at_the_verdict() -> None:
    silence = Silence.of(node(read_began=1.7), ANSWERS, PAST, TIMING)
    assert not silence.read_due(2.0, 2.0, Clock(1.9))
    assert silence.read_due(2.0, 2.0, Clock(2.0))
    assert silence.read_due(9.0, 9.0, Clock(2.2))
    assert silence.read_due(9.0, 2.1, Clock(2.1))
