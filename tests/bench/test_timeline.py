"""An outage split into who spent it: parts sum up, what was answered does not count, EC2 counts once."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from bench.timeline import PARTS, Marks, Span, coverage, silence, split

OUTAGE = Span(100.0, 147.0)
STEPS = Marks(
    noticed=141.0,
    created=146.0,
    bound=146.1,
    add_began=146.5,
    add_ended=146.7,
    started=146.8,
    calls=[Span(146.55, 146.65)],
)


def parts(**seconds: float) -> Any:
    return pytest.approx({**dict.fromkeys(PARTS, 0.0), **seconds})


def test_the_time_between_two_marks_belongs_to_the_step_that_ends() -> None:
    assert split(OUTAGE, STEPS) == parts(
        noticing=41.0, eviction=5.0, scheduling=0.1, sandbox=0.5, ADD=0.1, EC2=0.1, application=0.2
    )


def test_what_passed_before_the_outage_does_not_count() -> None:
    """A rollout: the old pod answers until EC2 leads the address to the new one."""
    assert split(Span(146.6, 156.6), STEPS) == parts(EC2=0.05, ADD=0.05, sandbox=0.1, application=9.8)


def test_what_passed_after_the_outage_does_not_count() -> None:
    """The new pod answers before the runtime says that it runs."""
    assert split(Span(146.0, 146.6), STEPS) == parts(scheduling=0.1, sandbox=0.4, ADD=0.05, EC2=0.05)


def test_a_step_that_is_not_there_takes_no_time() -> None:
    """A drain: nobody has to notice anything."""
    marks = Marks(created=101.0, bound=101.5, add_began=102.0, add_ended=102.5, started=103.0)
    assert split(Span(100.0, 104.0), marks) == parts(
        eviction=1.0, scheduling=0.5, sandbox=1.0, ADD=0.5, application=1.0
    )


def test_without_any_mark_all_of_it_is_the_application() -> None:
    assert split(OUTAGE, Marks()) == parts(application=47.0)


def test_a_mark_that_is_earlier_than_the_one_before_takes_nothing_back() -> None:
    """The sidecar's last write is later than the start of the application beside it."""
    marks = Marks(created=101.0, bound=102.0, add_began=103.0, add_ended=106.0, started=104.0)
    assert split(Span(100.0, 107.0), marks) == parts(
        eviction=1.0, scheduling=1.0, sandbox=1.0, ADD=3.0, application=1.0
    )


def test_calls_that_overlap_count_once() -> None:
    calls = [Span(3.0, 4.0), Span(1.0, 2.0), Span(1.5, 2.5), Span(1.6, 1.7)]
    assert coverage(calls, Span(0.0, 10.0)) == pytest.approx(2.5)


def test_calls_count_only_within_add() -> None:
    """The keeper looks at any time."""
    calls = [Span(0.0, 1.2), Span(1.8, 9.0), Span(20.0, 30.0)]
    assert coverage(calls, Span(1.0, 2.0)) == pytest.approx(0.4)
    marks = Marks(add_began=1.0, add_ended=2.0, calls=calls)
    assert split(Span(0.0, 3.0), marks) == parts(sandbox=1.0, ADD=0.6, EC2=0.4, application=1.0)


def test_the_parts_sum_up_to_the_outage_whatever_the_marks() -> None:
    chance = random.Random(13)  # noqa: S311 - no secret
    for _ in range(500):
        begin, end = sorted(chance.uniform(0, 100) for _ in range(2))
        steps = ("noticed", "created", "bound", "add_began", "add_ended", "started")
        marks: dict[str, Any] = {step: chance.choice([None, chance.uniform(-20, 120)]) for step in steps}
        calls = [Span(at, at + chance.uniform(0, 30)) for at in (chance.uniform(-20, 120) for _ in range(4))]
        result = split(Span(begin, end), Marks(**marks, calls=calls))
        assert sum(result.values()) == pytest.approx(end - begin)
        assert min(result.values()) >= -1e-9
        assert tuple(result) == PARTS


def test_the_silence_is_the_longest_time_between_two_answers() -> None:
    within = Span(10.0, 30.0)
    assert silence([5.0, 11.0, 12.0, 19.0, 20.0, 40.0], within) == Span(20.0, 30.0)
    assert silence([11.0, 25.0, 12.0], within) == Span(12.0, 25.0)
    assert silence([], within) == within
    for answers in itertools.permutations([18.0, 12.0, 27.0]):
        assert silence(answers, within) == Span(18.0, 27.0)
