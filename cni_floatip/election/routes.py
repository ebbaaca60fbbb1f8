"""What an active knows of its routes and of EC2: which write is due when, which tables refuse, what is lost.

A write has three kinds of answer. *Written*, or a refusal that says nothing against this node (the table is
full, the route is not an ENI's): the other members would get the same answer, so nobody offers. *Denied*
(access, policy), or unanswered while looks are answered: another member may be luckier, so the table is
*marked*, and a mark ends by a write that is allowed, never by time. *Unanswered* like the looks: EC2 is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ..model.route_write import WriteOutcome
from ..model.values import RouteKey, RouteTarget
from .fitness import PodClaims
from .timing import NEVER, PAST, Clock, Instant, Timing

DENIALS = (WriteOutcome.DENIED, WriteOutcome.POLICY)
"""What marks a table: credentials or policy of this node refuse the write."""
ALLOWED = (WriteOutcome.WRITTEN, WriteOutcome.FULL, WriteOutcome.NOT_ENI)
"""What ends a mark: EC2 answered, and did not deny."""
MOST_TRIES = 8
"""Beyond so many the pause between tries grows no more, whatever the timing."""


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A route table that this node cannot write, while another might. ``cause``: of a ``WriteOutcome``."""

    table: str
    cause: str


@dataclass(frozen=True, slots=True)
class Ec2View:
    """How EC2 answers this agent, for the account of the group's route tables.

    ``called`` and ``answered``: when the newest call began, and whether it was answered; ``looked`` and
    ``look_answered``: the same of looks. ``looks_fail`` and ``writes_fail``: since when none was answered.
    """

    called: Instant = PAST
    answered: bool = False
    looked: Instant = PAST
    look_answered: bool = False
    looks_fail: Instant | None = None
    writes_fail: Instant | None = None

    def call(self, began: Instant, *, answered: bool) -> Ec2View:
        """Return the view after any call."""
        return replace(self, called=began, answered=answered) if began >= self.called else self

    def look(self, began: Instant, *, answered: bool) -> Ec2View:
        """Return the view after a look."""
        since = self.looks_fail if self.looks_fail is not None else began
        view = replace(self, looked=began, look_answered=answered, looks_fail=None if answered else since)
        return view.call(began, answered=answered)

    def write(self, began: Instant, outcomes: Iterable[WriteOutcome]) -> Ec2View:
        """Return the view after writes. Throttling is no loss, and what was not sent tells nothing."""
        results = {item for item in outcomes if item not in (WriteOutcome.THROTTLED, WriteOutcome.NOT_SENT)}
        if results & {*ALLOWED, WriteOutcome.DENIED}:
            return replace(self, writes_fail=None).call(began, answered=True)
        if WriteOutcome.UNANSWERED not in results:
            return self
        since = self.writes_fail if self.writes_fail is not None else began
        return replace(self, writes_fail=since).call(began, answered=False)

    def lost(self, clock: Clock, timing: Timing) -> bool:
        """Return whether EC2 is lost to an active: looks fail for long, or writes and the look after them."""
        if self.looks_fail is not None and clock.past(self.looks_fail + timing.look_patience):
            return True
        return self._writes_lost(clock, timing) and not self.look_answered

    def only_reads(self, clock: Clock, timing: Timing) -> bool:
        """Return whether EC2 answers looks and not writes."""
        return self._writes_lost(clock, timing) and self.look_answered

    def _writes_lost(self, clock: Clock, timing: Timing) -> bool:
        """Return whether writes fail for long, and a look begun since then tells how reads fare."""
        since = self.writes_fail
        return since is not None and clock.past(since + timing.write_patience) and self.looked >= since


@dataclass(frozen=True, slots=True)
class RouteWork:
    """One route of an active. ``due``: when it is written next; ``tries``: how often in a row that failed.

    ``refusal``: the newest outcome that was not ``WRITTEN``, for the people who ask why.
    """

    key: RouteKey
    due: Instant = NEVER
    tries: int = 0
    refusal: WriteOutcome | None = None

    @property
    def untried(self) -> bool:
        """Whether it waits for its first try in this holding."""
        return self.due != NEVER and self.tries == 0

    def settle(self, now: Instant) -> RouteWork:
        """Return the work as equal to all that is due, if it is due."""
        return replace(self, due=PAST) if PAST < self.due <= now else self

    def rest(self) -> RouteWork:
        """Return the work after the route was seen, or written, to be ours."""
        return RouteWork(self.key)

    def retry(self, outcome: WriteOutcome, now: Instant, pause: float) -> RouteWork:
        """Return the work after a write that failed."""
        return replace(self, due=now + pause, tries=min(self.tries + 1, MOST_TRIES), refusal=outcome)

    def after(self, outcome: WriteOutcome, now: Instant, timing: Timing, *, patient: bool) -> RouteWork:
        """Return the work after a write. ``patient``: one without an answer is not tried again soon."""
        match outcome:
            case WriteOutcome.WRITTEN:
                return self.rest()
            case WriteOutcome.NOT_SENT if not patient:
                return replace(self, due=PAST)
            case WriteOutcome.THROTTLED:
                return replace(self, due=now + timing.quick_retry, refusal=outcome)
            case WriteOutcome.UNANSWERED if not patient:
                return self.retry(outcome, now, timing.quick_retry)
            case _:
                pause = min(timing.retry * 2.0**self.tries, timing.longest_retry)
                return self.retry(outcome, now, pause)


def is_ours(claims: PodClaims, key: RouteKey, target: RouteTarget | None) -> bool:
    """Return whether a route leads to the ENI of the pod."""
    return target is not None and target.is_eni and target.id == claims.eni(key)


def is_replaceable(target: RouteTarget | None) -> bool:
    """Return whether the active may put its own in the place of what a look saw."""
    return target is None or (target.is_eni and not target.propagated)


def is_foreign(target: RouteTarget | None, enis: Sequence[str]) -> bool:
    """Return whether a working route leads through an ENI of no member: another writer put it there."""
    return target is not None and target.is_eni and target.active and target.id not in enis


def marked(marks: Iterable[Mark], table: str) -> bool:
    """Return whether a table has a mark."""
    return any(mark.table == table for mark in marks)
