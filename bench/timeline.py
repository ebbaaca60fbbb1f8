"""Splits an outage into who spent it: a pure function of times that watchers of the cluster took.

What brings an address back goes through the same steps in every scenario, and a mark is the end of a step.
The time between two marks belongs to the step that the later one ends, and only that part of it counts in
which the client had no answer. So the parts always sum up to the outage.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PARTS = ("noticing", "eviction", "scheduling", "sandbox", "ADD", "EC2", "application")


@dataclass(frozen=True, slots=True)
class Span:
    """A time from ``begin`` to ``end``, both by ``time.monotonic``."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Marks:
    """When each step ended (``time.monotonic``); None is a step that the scenario does not have.

    ``noticed``: the API shows the node as not ready. ``created``: the API has the replacement, so the old pod
    is evicted or ended. ``bound``: the replacement has a node. ``add_began``, ``add_ended``: floatip's ADD.
    ``started``: the application's container runs. ``calls``: EC2's calls, from arrival to answer.
    """

    noticed: float | None = None
    created: float | None = None
    bound: float | None = None
    add_began: float | None = None
    add_ended: float | None = None
    started: float | None = None
    calls: Sequence[Span] = ()


def split(outage: Span, marks: Marks) -> dict[str, float]:
    """Return the seconds of an outage by who spent them: ``PARTS``, whose sum is the outage.

    A step that is not marked took no time; what passed meanwhile belongs to the next one. EC2's calls are
    taken out of ADD, whichever of them overlap. The sandbox goes on after ADD until the container runs.
    """
    steps = (
        ("noticing", marks.noticed),
        ("eviction", marks.created),
        ("scheduling", marks.bound),
        ("sandbox", marks.add_began),
        ("ADD", marks.add_ended),
        ("sandbox", marks.started),
        ("application", outage.end),
    )
    parts = dict.fromkeys(PARTS, 0.0)
    at = outage.begin
    for part, mark in steps:
        end = at if mark is None else min(max(mark, at), outage.end)
        parts[part] += end - at
        if part == "ADD":
            in_ec2 = coverage(marks.calls, Span(at, end))
            parts["ADD"] -= in_ec2
            parts["EC2"] = in_ec2
        at = end
    return parts


def coverage(calls: Iterable[Span], within: Span) -> float:
    """Return how many seconds of a span at least one of the calls covers."""
    total, at = 0.0, within.begin
    for call in sorted(calls, key=lambda call: call.begin):
        begin, end = max(call.begin, at), min(call.end, within.end)
        if end > begin:
            total += end - begin
            at = end
    return total


def silence(answers: Iterable[float], within: Span) -> Span:
    """Return the longest time without an answer; the ends of ``within`` bound the first and the last one."""
    heard = sorted(at for at in answers if within.begin < at < within.end)
    marks = [within.begin, *heard, within.end]
    return max((Span(*pair) for pair in itertools.pairwise(marks)), key=lambda span: span.seconds)
