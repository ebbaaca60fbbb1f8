"""What a probe reports: losses, the longest silence, and who answered."""

from __future__ import annotations

from typing import Any

from lab.client import Datagram, Report

ANSWERED = [
    Datagram(0.0, 0.1, "old"),
    Datagram(1.0, 1.1, "old"),
    Datagram(2.0, None, None),
    Datagram(3.0, None, None),
    Datagram(4.0, 4.1, "new"),
]


def report(datagrams: Any, began: float = 0.0, ended: float = 5.0) -> Report:
    return Report(tuple(datagrams), began, ended)


def test_a_report_counts_losses_and_answers() -> None:
    observed = report(ANSWERED)
    assert (observed.sent, observed.received, observed.lost) == (5, 3, 2)
    assert observed.by == {"old": 2, "new": 1}
    assert round(observed.rtt, 3) == 0.1
    assert str(observed) == "5 sent, 2 lost, longest gap 3000 ms, answered by old 2, new 1"


def test_the_longest_silence_is_between_answers() -> None:
    assert report(ANSWERED).longest_silence == (1.1, 4.1)
    assert report(ANSWERED).first_from("new") == 4.1
    assert report(ANSWERED).first_from("nobody") is None


def test_silence_before_the_first_answer_counts() -> None:
    assert report(ANSWERED[4:], began=1.0).longest_silence == (1.0, 4.1)


def test_silence_after_the_last_answer_counts_as_long_as_somebody_asks() -> None:
    assert report(ANSWERED[:4], ended=9.0).longest_silence == (1.1, 3.0)


def test_nobody_ever_answers() -> None:
    observed = report(ANSWERED[2:4], began=2.0)
    assert (observed.lost, observed.max_gap, observed.rtt, observed.by) == (2, 1.0, 0.0, {})


def test_nothing_was_asked() -> None:
    assert (report([]).sent, report([]).max_gap) == (0, 5.0)


def test_a_part_of_it() -> None:
    part = report(ANSWERED).between(2.0, 4.5)
    assert (part.sent, part.lost, part.began) == (3, 2, 2.0)


def test_an_answer_that_comes_late_is_no_loss_but_a_gap() -> None:
    held_up = [
        Datagram(0.0, 0.1, "a"),
        Datagram(1.0, 3.0, "a"),
        Datagram(2.0, 3.0, "a"),
        Datagram(3.0, 3.1, "a"),
    ]
    assert (report(held_up).lost, round(report(held_up).max_gap, 1)) == (0, 2.9)
