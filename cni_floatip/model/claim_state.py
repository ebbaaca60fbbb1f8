"""The state machine of a claimed route. The only module that sets a state.

``TRANSITIONS`` is the whole table. An event without a row for a state leaves a route in that state as it is.
docs/protocol.md draws the table and says what each state means.

To add a state, add its rows to ``TRANSITIONS``; mypy then names every property below that must handle it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from ipaddress import ip_network
from typing import Any, Self, assert_never

from .record import Record
from .values import RouteKey


class State(StrEnum):
    """How far a claimed route is."""

    CLAIMING = "claiming"
    HELD = "held"
    SUPERSEDED = "superseded"
    STANDBY = "standby"
    ACTIVE = "active"
    RELEASING = "releasing"
    GONE = "gone"

    @cached_property
    def live(self) -> bool:
        """Whether a pod (or an ADD under way) wants the route."""
        match self:
            case State.CLAIMING | State.HELD | State.SUPERSEDED | State.STANDBY | State.ACTIVE:
                return True
            case State.RELEASING | State.GONE:
                return False
            case _:
                assert_never(self)

    @cached_property
    def wants_route(self) -> bool:
        """Whether the route is to lead to the claim's ENI: a standby has a pod, and waits for its turn."""
        match self:
            case State.CLAIMING | State.HELD | State.SUPERSEDED | State.ACTIVE:
                return True
            case State.STANDBY | State.RELEASING | State.GONE:
                return False
            case _:
                assert_never(self)

    @cached_property
    def settled(self) -> bool:
        """Whether a pod has the route: its ADD has answered, and the keeper reconciles it."""
        match self:
            case State.HELD | State.SUPERSEDED | State.ACTIVE:
                return True
            case State.CLAIMING | State.STANDBY | State.RELEASING | State.GONE:
                return False
            case _:
                assert_never(self)

    @cached_property
    def rank(self) -> int:
        """The order of the states: a claim's own state is that of its lowest-ranked route."""
        match self:
            case State.CLAIMING:
                return 0
            case State.RELEASING:
                return 1
            case State.SUPERSEDED:
                return 2
            case State.STANDBY:
                return 3
            case State.HELD:
                return 4
            case State.ACTIVE:
                return 5
            case State.GONE:
                return 6
            case _:
                assert_never(self)


class Event(StrEnum):
    """An event of the state machine, in the words of the diagram."""

    # A route comes into a record.
    ADD_BEGINS = "ADD begins"
    FOUND_TAKEN = "a watched address was there, its route works for another"
    TABLE_MATCHES = "a route table matches"
    TABLE_MATCHES_ELECTED = "a route table matches an elected claim"
    RECORD_LOST = "DEL finds no record"

    # Its ADD goes on, or another begins.
    WRITTEN = "ADD wrote the route"
    ADD_FAILED = "ADD failed"
    ADD_DIED = "ADD died"
    NOT_CLAIMED_AGAIN = "the next ADD does not claim it"

    # The agents elect which pod of a group has its routes.
    ADMITTED = "ADD ended, its pod may be elected"
    ELECTED = "its pod is elected"
    DEPOSED = "another pod is elected"

    # The keeper looks.
    SEEN_OURS = "seen at our ENI"
    SEEN_ELSEWHERE = "seen working for another ENI"

    # A DEL comes, the pod is gone, it took an address away, or a table matches no more; then a release.
    ENDED = "no pod wants it"
    RELEASED = "deleted, or not ours"


STARTS: Mapping[Event, State] = {
    Event.ADD_BEGINS: State.CLAIMING,
    Event.FOUND_TAKEN: State.SUPERSEDED,
    Event.TABLE_MATCHES: State.HELD,
    Event.TABLE_MATCHES_ELECTED: State.STANDBY,
    Event.RECORD_LOST: State.RELEASING,
}
"""Events that put a route into a record. They replace an existing route in whatever state."""

TRANSITIONS: Mapping[tuple[State, Event], State] = {
    (State.CLAIMING, Event.WRITTEN): State.HELD,
    (State.CLAIMING, Event.ADMITTED): State.STANDBY,
    (State.CLAIMING, Event.ADD_FAILED): State.RELEASING,
    (State.CLAIMING, Event.ADD_DIED): State.RELEASING,
    (State.CLAIMING, Event.NOT_CLAIMED_AGAIN): State.RELEASING,
    (State.CLAIMING, Event.ENDED): State.RELEASING,
    (State.HELD, Event.WRITTEN): State.HELD,
    (State.HELD, Event.NOT_CLAIMED_AGAIN): State.RELEASING,
    (State.HELD, Event.SEEN_OURS): State.HELD,
    (State.HELD, Event.SEEN_ELSEWHERE): State.SUPERSEDED,
    (State.HELD, Event.ENDED): State.RELEASING,
    (State.SUPERSEDED, Event.WRITTEN): State.HELD,
    (State.SUPERSEDED, Event.ADD_FAILED): State.RELEASING,
    (State.SUPERSEDED, Event.NOT_CLAIMED_AGAIN): State.RELEASING,
    (State.SUPERSEDED, Event.SEEN_OURS): State.HELD,
    (State.SUPERSEDED, Event.SEEN_ELSEWHERE): State.SUPERSEDED,
    (State.SUPERSEDED, Event.ENDED): State.RELEASING,
    (State.STANDBY, Event.ELECTED): State.ACTIVE,
    (State.STANDBY, Event.NOT_CLAIMED_AGAIN): State.GONE,
    (State.STANDBY, Event.ENDED): State.GONE,
    (State.ACTIVE, Event.DEPOSED): State.STANDBY,
    (State.ACTIVE, Event.NOT_CLAIMED_AGAIN): State.RELEASING,
    (State.ACTIVE, Event.ENDED): State.RELEASING,
    (State.RELEASING, Event.NOT_CLAIMED_AGAIN): State.RELEASING,
    (State.RELEASING, Event.RELEASED): State.GONE,
    (State.GONE, Event.NOT_CLAIMED_AGAIN): State.RELEASING,
    (State.GONE, Event.RELEASED): State.GONE,
}
"""The next state of a route. An event that keeps the state may still set a time, as ``WRITTEN`` does."""


def of_claim(states: Iterable[State]) -> State:
    """Return the state of a claim whose routes are in ``states``: that of its least settled route."""
    return min(states, key=lambda state: state.rank, default=State.GONE)


@dataclass(frozen=True, slots=True)
class ClaimedRoute:
    """One VPC route of a claim. ``account`` owns the table; ``successor`` is the ENI it is handed over to.

    Times are seconds since the epoch. ``held_since``: when the ADD that claimed it had written it, or its pod
    was elected. ``not_before``: a ``releasing`` route is not taken back before then: while its pod moves, the
    next owner replaces it. ``target`` is where the last look, or the ADD, saw it lead ("": nowhere; None: not
    known) and ``outage`` why it then did not serve its claim ("": it did). ``changed_at``: since when it is
    as ``is_as`` compares it (0: not known), for people and across restarts of the agent. Nothing decides by
    these three, but that a write for an elected pod spares a ``target`` that is no ENI.
    """

    key: RouteKey
    state: State
    account: str = ""
    successor: str = ""
    held_since: float = 0.0
    not_before: float = 0.0
    target: str | None = None
    outage: str = ""
    changed_at: float = 0.0

    @classmethod
    def begin(cls, key: RouteKey, account: str) -> Self:
        """Claim ``key`` for an ADD, or for a watched address that appeared: not written yet."""
        return cls(key, STARTS[Event.ADD_BEGINS], account)

    @classmethod
    def begin_superseded(cls, key: RouteKey, account: str) -> Self:
        """Claim ``key`` as superseded: a watched address was there before, and another has the route."""
        return cls(key, STARTS[Event.FOUND_TAKEN], account)

    @classmethod
    def join(cls, key: RouteKey, account: str) -> Self:
        """Claim ``key`` in a table that the configuration selects by now; the keeper creates the route."""
        return cls(key, STARTS[Event.TABLE_MATCHES], account)

    @classmethod
    def join_elected(cls, key: RouteKey, account: str) -> Self:
        """Claim ``key`` in a table that an elected claim's configuration selects by now."""
        return cls(key, STARTS[Event.TABLE_MATCHES_ELECTED], account)

    @classmethod
    def recover(cls, key: RouteKey, account: str, after: float) -> Self:
        """Return a route of an ended claim whose record was lost."""
        return cls(key, STARTS[Event.RECORD_LOST], account, not_before=after)

    @classmethod
    def parse(cls, record: Record) -> Self:
        """Read a route of a record. Raises KeyError or ValueError when it is not one."""
        return cls(
            RouteKey(record.text("table"), ip_network(record.text("destination"))),
            State(record.text("state")),
            record.text("account"),
            record.text("successor"),
            record.time("since", 0.0),
            record.time("after", 0.0),
            None if record.is_null("target") else record.text("target"),
            record.text("outage", ""),
            record.time("changed", 0.0),
        )

    def document(self) -> dict[str, Any]:
        """Return the route as it stands in a record."""
        return {
            "table": self.key.table,
            "destination": str(self.key.destination),
            "state": self.state.value,
            "account": self.account,
            "successor": self.successor,
            "since": self.held_since,
            "after": self.not_before,
            "target": self.target,
            "outage": self.outage,
            "changed": self.changed_at,
        }

    def is_as(self, other: ClaimedRoute) -> bool:
        """Whether state, target and outage are those of ``other``."""
        return (self.state, self.target, self.outage) == (other.state, other.target, other.outage)

    def hold(self, now: float, target: str) -> Self:
        """Return the route after its ADD had written it ``now``, to lead to the ENI ``target``."""
        return self._on(Event.WRITTEN, held_since=now, target=target, outage="")

    def see(self, target: str, outage: str) -> Self:
        """Return the route after a look showed where it leads, and why it does not serve its claim."""
        if (self.target, self.outage) == (target, outage):
            return self
        return replace(self, target=target, outage=outage)

    def admit(self) -> Self:
        """Return the route of an elected claim after its ADD had done all but the write."""
        return self._on(Event.ADMITTED)

    def elect(self, now: float) -> Self:
        """Return the route after its pod was elected ``now``: it is to be written."""
        return self._on(Event.ELECTED, held_since=now)

    def depose(self) -> Self:
        """Return the route after another pod of the group was elected."""
        return self._on(Event.DEPOSED)

    def give_up(self) -> Self:
        """Return the route after the ADD that claimed it failed: it is released without a grace."""
        return self._on(Event.ADD_FAILED)

    def abandon(self) -> Self:
        """Return the route after the ADD that claimed it died: its runtime never got an answer."""
        return self._on(Event.ADD_DIED)

    def drop(self) -> Self:
        """Return the route after another ADD dropped it: to be released, so read again if it was ``gone``."""
        return self._on(Event.NOT_CLAIMED_AGAIN)

    def release(self, after: float) -> Self:
        """Return the route after its pod ended, or no longer wants it; it stays until ``not_before``."""
        return self._on(Event.ENDED, not_before=after)

    def hand_over(self, successor: str) -> Self:
        """Return the route as recorded before it is deleted for ``successor``.

        Records the end of the pod too, because a full disk may have kept it out of the record.
        """
        return replace(self._on(Event.ENDED), successor=successor)

    def finish(self) -> Self:
        """Return the route after it was released: deleted, handed over, or not ours.

        Records the end of the pod too, because a full disk may have kept it out of the record.
        """
        return self._on(Event.ENDED)._on(Event.RELEASED, successor="")

    def observe(self, event: Event) -> Self:
        """Return the route after the keeper read it, unless a call has changed its state since."""
        return self._on(event)

    def end_grace(self) -> Self:
        """Return the route without its grace: if it has ended, it is released at once."""
        return self if self.state.live else replace(self, not_before=0.0)

    def _on(self, event: Event, **times: Any) -> Self:
        state = TRANSITIONS.get((self.state, event))
        if state is self.state and not times:
            return self
        return self if state is None else replace(self, state=state, **times)
