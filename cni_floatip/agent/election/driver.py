"""The thread with all members of this node: it hands them what has happened, and has done what they want.

What has happened comes through one queue, from any thread; a message is a function that this thread runs.
It waits for nothing else, so a slow call, an API that is away or a disk that hangs stops no member.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

from ...election.events import (
    AwaitTurn,
    DeleteGroup,
    Happening,
    LookAtRoutes,
    ProbeHost,
    Publish,
    ReadGroup,
    ReadNodeLease,
    ReadPod,
    RecordRole,
    ReleaseRoutes,
    RoutesSeen,
    Sent,
    SurroundingsChanged,
    SwapGroup,
    Time,
    TryWrites,
    Wish,
    WriteRoutes,
)
from ...election.lease import GroupLease
from ...election.member import Member
from ...election.node import NodeHappening, Surroundings
from .lanes import CallKind, Lanes

LONGEST_WAIT = 0.5
"""Seconds: the clock of decisions goes on while a machine sleeps, the one of waiting does not."""
AT_ONCE = 1000
"""Messages that are taken before members are asked again."""
LOOK_SECONDS = 30.0
"""Seconds that a look is awaited: it may wait for the request rate, and for a read that fails."""

KINDS: dict[type, CallKind] = {
    ReadGroup: CallKind.API,
    ReadNodeLease: CallKind.API,
    ReadPod: CallKind.API,
    SwapGroup: CallKind.API,
    DeleteGroup: CallKind.API,
    ProbeHost: CallKind.PROBE,
    AwaitTurn: CallKind.TURN,
    WriteRoutes: CallKind.WRITE,
    ReleaseRoutes: CallKind.WRITE,
    TryWrites: CallKind.WRITE,
    RecordRole: CallKind.DISK,
    Publish: CallKind.EVENT,
}
ANNOUNCED = (SwapGroup, DeleteGroup, WriteRoutes, ReleaseRoutes)
"""What a member learns of before it is sent."""
OF_THE_NODE = (ReadNodeLease, ProbeHost)
"""What all members share: one answer serves them all."""

Key = tuple[str, Wish]
"""What is under way: a wish, and the group whose it is ("": all members')."""


@dataclass(frozen=True, slots=True)
class CallAnswer:
    """What came of a call: what its member learns, and what all members learn (None: nothing).

    ``rest``: for how many seconds the same call is not sent again, because nothing came of it.
    """

    member: Happening | None = None
    node: NodeHappening | None = None
    rest: float = 0.0


@dataclass(frozen=True, slots=True)
class DriverHooks:
    """What the driver uses. Each is called by its thread, and none may wait.

    ``call`` returns the call that a wish asks for, for another thread. ``look`` has routes read soon, and
    ``Driver.looked`` follows. ``failed_call``: what a member learns of a call that broke. ``changed``: a
    member before and after something (None: there was, or is, none).
    ``renew``: whether this node renews its Lease. ``failed`` gets every unexpected error.
    """

    call: Callable[[str, Wish], Callable[[], CallAnswer]]
    look: Callable[[], object]
    failed_call: Callable[[str, Wish], CallAnswer]
    changed: Callable[[Member | None, Member | None], object]
    renew: Callable[[bool], object]
    failed: Callable[[str, Exception], object]


class Driver:
    """``run`` is the thread's body. Every other method but ``post`` is for that thread.

    ``names``: the groups of ``members`` by the names of their Leases.
    """

    def __init__(
        self, surroundings: Surroundings, lanes: Lanes, clock: Callable[[], float], hooks: DriverHooks
    ) -> None:
        self.surroundings = surroundings
        self.members: dict[str, Member] = {}
        self.names: dict[str, str] = {}
        self._lanes = lanes
        self._clock = clock
        self._hooks = hooks
        self._inbox: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._under_way: set[Key] = set()
        self._resting: dict[Key, float] = {}
        self._due: dict[str, float] = {}
        self._stale: set[str] = set()
        self._duties: dict[str, tuple[bool, str | None]] = {}
        self._looking: dict[Key, float] = {}

    # -- for other threads ----------------------------------------------------------------------------

    def post(self, message: Callable[[], object]) -> None:
        """Have the thread run ``message`` soon, in the order of posting."""
        self._inbox.put(message)

    # -- the thread -----------------------------------------------------------------------------------

    def run(self, stop: threading.Event, beat: Callable[[], object] = lambda: None) -> None:
        """Run until told to stop; ``post`` something to be noticed at once."""
        while not stop.is_set():
            beat()
            self.turn(self._pause())

    def turn(self, seconds: float = 0.0) -> None:
        """Take what has happened, waiting so long for the first; then do what members want."""
        for message in self._messages(seconds):
            self._guarded("a message to the elections", message)
        now = self._clock()
        for key, since in list(self._looking.items()):
            if now >= since + LOOK_SECONDS:
                self._end_look(key)
        self._stale |= {group for group, at in self._due.items() if at <= now}
        self._serve(now)

    def _messages(self, seconds: float) -> Iterable[Callable[[], object]]:
        try:
            yield self._inbox.get(timeout=seconds) if seconds > 0 else self._inbox.get_nowait()
            for _ in range(AT_ONCE):
                yield self._inbox.get_nowait()
        except queue.Empty:
            pass

    def _pause(self) -> float:
        if self._stale:
            return 0.0
        first = min(self._due.values(), default=math.inf)
        return max(0.0, min(first - self._clock(), LONGEST_WAIT))

    # -- what messages do -----------------------------------------------------------------------------

    def put(self, member: Member) -> None:
        """Add a member, or replace it."""
        before = self.members.get(member.group)
        self._keep(before, member)
        self._stale.add(member.group)

    def tell(self, group: str, event: Happening) -> None:
        """Hand an event to a member, if it is there."""
        member = self.members.get(group)
        if member is None:
            return
        try:
            after = self._current(member, event.at).on(event)
        except Exception as e:  # noqa: BLE001 (one group's mistake is not the others')
            self._hooks.failed(f"the election of {group} cannot take {type(event).__name__}", e)
            self._stale.add(group)
            return
        self._keep(member, after)
        self._stale.add(group)

    def tell_all(self, event: NodeHappening) -> None:
        """Hand an event to what all members share."""
        self.surround(self.surroundings.on(event))

    def surround(self, after: Surroundings) -> None:
        """Replace what all members share, and ask those again whom the change concerns."""
        before, self.surroundings = self.surroundings, after
        if before is after:
            return
        if _shared(before) != _shared(after):
            self._stale |= self.members.keys()
            return
        known = set(before.followed)
        changed = {node.node for node in after.followed if node not in known}
        if changed:
            self._stale |= {group for group, (_, node) in self._duties.items() if node in changed}

    # -- members --------------------------------------------------------------------------------------

    def _current(self, member: Member, now: float) -> Member:
        """Return the member with what all members share now."""
        if member.surroundings is self.surroundings:
            return member
        return member.on(SurroundingsChanged(now, self.surroundings))

    def _keep(self, before: Member | None, after: Member) -> None:
        if before is after:
            return
        self.members[after.group] = after
        if before is None:
            self.names[GroupLease(after.group).name] = after.group
        self._duties[after.group] = after.renews, after.follows
        self._hooks.changed(before, after)

    def _serve(self, now: float) -> None:
        """Ask every member that something concerns what it wants, and have it done: the urgent first."""
        stale, self._stale = self._stale, set()
        wanted: list[tuple[tuple[bool, int], str, Wish]] = []
        for group in stale:
            if group in self.members:
                wanted += [(_order(wish), group, wish) for wish in self._ask(group, now)]
        for _, group, wish in sorted(wanted, key=lambda item: item[0]):
            self._guarded(f"the election of {group}", partial(self._send, group, wish))
        for group in stale:
            if (member := self.members.get(group)) and member.finished:
                self._drop(group)
        self._look_around()

    def _ask(self, group: str, now: float) -> list[Wish]:
        """Return what a member wants that is not resting."""
        before = self.members[group]
        try:
            member = self._current(before, now).on(Time(now))
            wishes, due = member.wants(now), member.next_at(now)
        except Exception as e:  # noqa: BLE001 (one group's mistake is not the others')
            self._hooks.failed(f"the election of {group} cannot go on", e)
            self._due[group] = now + LONGEST_WAIT
            return []
        self._keep(before, member)
        fresh = []
        for wish in wishes:
            key = _key(group, wish)
            if (rest := self._resting.get(key, 0.0)) > now:
                due = min(due, rest)
                continue
            self._resting.pop(key, None)
            fresh.append(wish)
        self._due[group] = due
        return fresh

    def _send(self, group: str, wish: Wish) -> None:
        """Have a wish done, if it is one still and there is room."""
        key = _key(group, wish)
        if key in self._under_way:
            return
        if isinstance(wish, LookAtRoutes):
            self._look(key)
            return
        kind = KINDS[type(wish)]
        if not self._lanes.has_room(kind):
            self._lanes.await_room(kind, group)
            return
        before = member = self.members[group]
        if isinstance(wish, ANNOUNCED):
            now = self._clock()
            member = self._current(member, now)
            if wish not in member.wants(now):
                self._stale.add(group)
                return
            member = member.on(Sent(now, wish))
        call = self._hooks.call(group, wish)
        self._under_way.add(key)
        self._keep(before, member)
        self._due[group] = min(self._due.get(group, math.inf), member.next_at(self._clock()))
        try:
            self._lanes.begin(kind, partial(self._run, key, kind, call))
        except RuntimeError as e:  # no thread is to be had
            self._hooks.failed(f"{type(wish).__name__} of {group} cannot be sent", e)
            self._answered(key, None, self._hooks.failed_call(group, wish))

    def _look(self, key: Key) -> None:
        """Have routes read. One look serves all who asked before it began."""
        now = self._clock()
        self._under_way.add(key)
        self._looking[key] = now
        self._due[key[0]] = min(self._due.get(key[0], math.inf), now + LOOK_SECONDS)
        self._hooks.look()

    def looked(self, group: str, event: RoutesSeen) -> None:
        """Hand a look to a member, whether it has asked for one or not."""
        for key, at in list(self._looking.items()):
            if key[0] == group and at <= event.began:
                self._end_look(key)
        self.tell(group, event)

    def _end_look(self, key: Key) -> None:
        del self._looking[key]
        self._under_way.discard(key)
        self._stale.add(key[0])

    def _run(self, key: Key, kind: CallKind, call: Callable[[], CallAnswer]) -> None:
        """Make a call, in a thread of the pool."""
        group, wish = key
        try:
            answer = call()
        except Exception as e:  # noqa: BLE001 (a member waits for an answer, whatever happened)
            self._hooks.failed(f"{type(wish).__name__} failed unexpectedly", e)
            answer = self._hooks.failed_call(group, wish)
        self.post(partial(self._answered, key, kind, answer))

    def _answered(self, key: Key, kind: CallKind | None, answer: CallAnswer) -> None:
        """Take an answer: the same may be asked for again, by those who waited for room too."""
        group, wish = key
        self._under_way.discard(key)
        if kind is not None:
            self._stale |= self._lanes.end(kind)
        if answer.rest:
            self._resting[key] = self._clock() + answer.rest
        if answer.node:
            self.tell_all(answer.node)
        if answer.member:
            self.tell(group, answer.member)
        if isinstance(wish, OF_THE_NODE):
            self._stale |= {name for name, (_, node) in self._duties.items() if node == wish.node}
        self._stale.add(group)

    def _drop(self, group: str) -> None:
        member = self.members.pop(group)
        self.names.pop(GroupLease(group).name, None)
        self._due.pop(group, None)
        self._duties.pop(group, None)
        self._hooks.changed(member, None)

    def _look_around(self) -> None:
        """Renew while a member must, and follow whom members follow."""
        duties = self._duties.values()
        self._hooks.renew(any(renews for renews, _ in duties))
        self.surround(self.surroundings.follow(frozenset(node for _, node in duties if node)))

    def _guarded(self, what: str, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as e:  # noqa: BLE001 (the thread goes on: no other has the members)
            self._hooks.failed(f"{what} failed unexpectedly", e)


def _key(group: str, wish: Wish) -> Key:
    return "" if isinstance(wish, OF_THE_NODE) else group, wish


def _order(wish: Wish) -> tuple[bool, int]:
    """Return the order of sending: urgent first, then by the pods' priority."""
    return not wish.urgent, -getattr(wish, "priority", 0)


def _shared(surroundings: Surroundings) -> Surroundings:
    """Return of the surroundings what concerns every member at once; an answer of the API only puts off."""
    answers = replace(surroundings.answers, last=0.0, failed_at=0.0)
    return replace(surroundings, answers=answers, followed=())
