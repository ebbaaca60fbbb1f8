"""Whether the node that holds a group is dead: its Lease is silent, and so is its host, the second witness.

A follower has one clock of its own and compares no wall clocks. Its silence begins at the latest of three
moments: it saw the Lease change, it learnt of this holding, the API began to answer it without a gap. A
holding is a holder with its ``leaseTransitions``, so a node that took a group back is not judged by its
former silence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .lease import NodeLease, is_newer
from .timing import NEVER, PAST, Clock, Instant, Timing


@dataclass(frozen=True, slots=True)
class ApiAnswers:
    """How the API answers this agent. ``since``: from then on it answered without a gap.

    ``long_gap``: the gap before ``since`` was so long that a verdict waits longer. ``failed_at``: when the
    newest call ended that was not answered.
    """

    last: Instant = PAST
    since: Instant = NEVER
    long_gap: bool = True
    failed_at: Instant = PAST

    def answered(self, at: Instant, timing: Timing) -> ApiAnswers:
        """Return the record after an answer, or an event of a watch. A gap starts every clock anew."""
        gap = at - self.last
        if gap <= timing.api_gap * timing.renew:
            return replace(self, last=max(at, self.last))
        waits = self.long_gap and not at >= self.since + timing.long_gap_wait
        return replace(self, last=at, since=at, long_gap=gap > timing.long_gap or waits)

    def failed(self, at: Instant) -> ApiAnswers:
        """Return the record after a call that was not answered."""
        return replace(self, failed_at=at)

    def answering(self, clock: Clock, timing: Timing) -> bool:
        """Return whether the API answers: its last answer is not older than a gap."""
        return self.last > PAST and not clock.past(self.last + timing.api_gap * timing.renew)


@dataclass(frozen=True, slots=True)
class FollowedNode:
    """What this agent knows of a node that holds a group which one of its members follows.

    ``lease`` None: there is none. ``changed_at``: when it was last seen to change. ``read_began``,
    ``read_at``: of the newest GET that was answered. ``answered_at``: the newest probe that the host
    answered; ``silent``: when the newest probes began that it has not answered since, as many as a verdict
    needs.
    """

    node: str
    lease: NodeLease | None = None
    changed_at: Instant = PAST
    read_began: Instant = PAST
    read_at: Instant = PAST
    answered_at: Instant = PAST
    probed_at: Instant = PAST
    silent: tuple[Instant, ...] = ()

    def see(self, lease: NodeLease | None, at: Instant) -> FollowedNode:
        """Return the node after its Lease was read or watched. One that is missing is silent, not dead.

        That it vanished is a change, because its last renewal may have vanished with it.
        """
        if lease is None:
            return self if self.lease is None else replace(self, lease=None, changed_at=at)
        before = self.lease
        if before and before.uid == lease.uid and not is_newer(lease.version, before.version):
            return self
        return replace(self, lease=lease, changed_at=at)

    def read(self, lease: NodeLease | None, began: Instant, at: Instant) -> FollowedNode:
        """Return the node after a GET of its Lease."""
        return replace(self.see(lease, at), read_began=max(began, self.read_began), read_at=at)

    def probed(self, began: Instant, at: Instant, timing: Timing, *, answered: bool) -> FollowedNode:
        """Return the node after a probe of its host."""
        if answered:
            return replace(self, probed_at=began, answered_at=at, silent=())
        return replace(self, probed_at=began, silent=(*self.silent, began)[-timing.probes :])


@dataclass(frozen=True, slots=True)
class Silence:
    """The silence of a holder's node, as one member counts it from ``since`` on."""

    node: FollowedNode
    answers: ApiAnswers
    since: Instant
    timing: Timing

    @classmethod
    def of(cls, node: FollowedNode, answers: ApiAnswers, learned: Instant, timing: Timing) -> Silence:
        """Return the silence since the Lease changed, the holding was ``learned``, or the API answered."""
        return cls(node, answers, max(learned, node.changed_at, answers.since), timing)

    def suspected(self, clock: Clock) -> bool:
        """Return whether a renewal was missed."""
        return clock.past(self.since + self.timing.suspicion * self.timing.renew)

    @property
    def half(self) -> Instant:
        """Return when the second half of the wait begins."""
        return self.since + self.timing.lease / 2

    @property
    def host_silent(self) -> bool:
        """Whether the host answered none of the probes that the second half of the wait has."""
        silent = self.node.silent
        return len(silent) >= self.timing.probes and silent[0] >= self.half

    @property
    def lapsed_at(self) -> Instant:
        """Return when the Lease has been silent for its ordinary length, whatever the host says."""
        return self._after(self.timing.lease)

    @property
    def expires_at(self) -> Instant:
        """Return when the silence amounts to death, by what is known of the host.

        A host that answers lives: its agent has ``veto`` seconds to come back. Silence of a host that had
        answered is death, in an announced absence too. A host that never answered (a firewall) is judged by
        its Lease alone, the announcement included.
        """
        timing = self.timing
        if not self.host_silent:
            return self._after(timing.veto)
        if self.node.answered_at > PAST:
            return self._after(timing.lease)
        announced = self.node.lease.duration if self.node.lease else 0
        return self._after(min(max(timing.lease, announced), timing.veto))

    def _after(self, seconds: float) -> Instant:
        wait = self.timing.long_gap_wait if self.answers.long_gap else 0.0
        return max(self.since + seconds, self.answers.since + wait)

    def confirmed(self, moment: Instant, clock: Clock) -> bool:
        """Return whether a GET begun after ``moment`` showed the Lease unchanged, and that still counts.

        It counts for one renewal, and until a call fails, because one's own link may be what is dead.
        """
        node = self.node
        return (
            clock.past(moment)
            and node.read_began >= moment
            and self.answers.failed_at < node.read_began
            and self.answers.answering(clock, self.timing)
            and not clock.past(node.read_at + self.timing.renew)
        )

    def read_due(self, lapsed: Instant, expired: Instant, clock: Clock) -> bool:
        """Return whether the Lease is to be read now, in suspicion: each renewal, and after each moment."""
        began = self.node.read_began
        moments = (moment for moment in (lapsed, expired) if began < moment)
        return clock.past(began + self.timing.renew) or any(clock.past(moment) for moment in moments)

    def probe_due(self, clock: Clock) -> bool:
        """Return whether the host is to be probed now."""
        node, timing = self.node, self.timing
        if clock.past(node.probed_at + timing.probe_idle):
            return True
        if not clock.past(self.half) or self.host_silent:
            return False
        vetoed = node.answered_at >= self.half and not node.silent
        pause = timing.probe_veto if vetoed else timing.lease / 2 / timing.probes
        return node.probed_at < self.half or clock.past(node.probed_at + pause)
