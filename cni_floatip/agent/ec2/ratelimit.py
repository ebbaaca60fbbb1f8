"""The state of the rate limiter: EC2's token buckets as we estimate them, and the queue before each.

EC2 gives each account and Region a bucket of tokens per action (Amazon EC2 Developer Guide, "Request
throttling"). Everybody in the account draws from it, so the published rates are where we start, and refusals
are what we learn from. A refused request costs the account no token, and us the time to the next one.

Nothing here waits, locks or reads a clock: every method is told the time.
"""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

UNSPENT_SECONDS = 6.0
"""How long an acquired token is reserved; a request that has not been sent by then is too old."""
REMEMBER_SECONDS = 600.0
"""How long an absent caller keeps its place: kubelet repeats a failed ADD within five minutes."""
MOST_REMEMBERED = 4096
MOST_GROUPS = 256
"""How many groups that do not wait now are remembered as served."""
EPSILON = 1e-6
"""How much a sum of fractions may lack of a whole token."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How many requests at once, and how many more per second."""

    burst: float
    refill: float


PUBLISHED: Mapping[str, Rate] = {
    "CreateRoute": Rate(50, 5),
    "ReplaceRoute": Rate(50, 5),
    "DeleteRoute": Rate(50, 5),
    "DescribeRouteTables": Rate(100, 20),
    "DescribeSubnets": Rate(100, 20),
    "DescribeNetworkInterfaces": Rate(100, 20),
    "ModifyNetworkInterfaceAttribute": Rate(100, 5),
}
"""EC2 Developer Guide, "Request token bucket sizes and refill rates", for the actions that we call."""


class Priority(IntEnum):
    """Whose request it is: an ADD has a pod waiting for it, the keeper has time.

    An address that a pod gave itself comes between: pods may do that as often as they like.
    """

    ADD = 0
    WATCH = 1
    KEEPER = 2


@dataclass(slots=True, eq=False)
class Token:
    """Permission to send one request."""

    taken: float
    spent: bool = False


class TokenBucket:
    """Our estimate of EC2's bucket; what others take out of it shows in refusals only."""

    SLOWER = 0.8
    """Factor on the rate when refusals are frequent: attempts cost little, so little is taken off."""
    FASTER = 0.03
    """How much of itself the rate gains per second, up to the published one: a fifth in seven seconds."""
    SELDOM = 10
    """One refusal in so many answers is jitter on the way there; more mean that others share the bucket."""
    LEAST = 1 / 50

    def __init__(self, published: Rate, now: float) -> None:
        self._published = published
        self.rate = published.refill
        self._tokens = published.burst
        self._at = now
        self._last_refusal = now - 1
        self._answers = self.SELDOM

    def due(self, now: float) -> float:
        """Return in how many seconds there will be a token: 0 for now."""
        self._settle(now)
        return 0.0 if self._tokens >= 1 - EPSILON else (1 - self._tokens) / self.rate

    def take(self, now: float) -> Token:
        """Take a token. Where there is none, go into debt: the request could not wait."""
        self._settle(now)
        self._tokens -= 1
        return Token(now)

    def put_back(self) -> None:
        """Take back a token that was not spent."""
        self._tokens += 1

    def on_success(self) -> None:
        """Learn that EC2 let a request pass."""
        self._answers += 1

    def on_refusal(self, token: Token, now: float) -> None:
        """Learn that EC2's bucket was empty. Requests that were under way together count as one refusal."""
        self._settle(now)
        self._tokens = min(self._tokens, 0.0)
        if token.taken > self._last_refusal:
            if self._answers < self.SELDOM:
                self.rate = max(self.rate * self.SLOWER, self._published.refill * self.LEAST)
            self._last_refusal, self._answers = now, 0

    def _settle(self, now: float) -> None:
        passed = max(0.0, now - self._at)
        self._at = max(now, self._at)
        self._tokens = min(self._published.burst, self._tokens + passed * self.rate)
        self.rate = min(self._published.refill, self.rate * (1 + self.FASTER) ** min(passed, 600))


class FirstSeen:
    """When each caller first wanted something; a caller that returns within minutes keeps that time."""

    def __init__(self) -> None:
        self._since: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def since(self, key: Hashable, now: float) -> float:
        """Return when ``key`` was first asked for."""
        first, last = self._since.get(key, (now, now))
        if now - last > REMEMBER_SECONDS:
            first = now
        self._since[key] = first, now
        self._since.move_to_end(key)
        while len(self._since) > MOST_REMEMBERED or self._oldest(now) > REMEMBER_SECONDS:
            self._since.popitem(last=False)
        return first

    def forget(self, key: Hashable) -> None:
        """Forget ``key``, because it was done: the next request for it is new."""
        self._since.pop(key, None)

    def _oldest(self, now: float) -> float:
        return now - next(iter(self._since.values()))[1]

    def __len__(self) -> int:
        return len(self._since)


@dataclass(slots=True, order=True)
class Waiter:
    """A caller in a queue; the earlier turn sorts first. ``group``: the namespace of its pod."""

    priority: Priority
    since: float
    number: int
    wake: Callable[[], None] = field(compare=False)
    group: str = field(default="", compare=False)


class WaitQueue:
    """The ordered queue for one bucket, and the tokens that were given out and not yet spent.

    Turns go round the waiting groups, so that a group that wants much keeps no other waiting. Within a group
    the first to arrive is first.
    """

    def __init__(self, published: Rate, now: float) -> None:
        self.bucket = TokenBucket(published, now)
        self._waiting: list[Waiter] = []
        self._served: dict[tuple[Priority, str], int] = {}
        self._serving = 0
        self._unspent: list[Token] = []
        self._number = 0

    def add(
        self, priority: Priority, since: float, wake: Callable[[], None] = lambda: None, group: str = ""
    ) -> Waiter:
        """Join the queue. ``wake`` is called when it may be this waiter's turn."""
        self._number += 1
        waiting = Waiter(priority, since, self._number, wake, group)
        insort(self._waiting, waiting)
        return waiting

    def remove(self, waiting: Waiter) -> None:
        """Leave the queue, with or without a token."""
        self._waiting.remove(waiting)
        self.wake_next()

    def due(self, waiting: Waiter, now: float) -> float | None:
        """Return the seconds until this waiter's turn as things are; None: others are before it."""
        if self._first() is not waiting:
            return None
        for token in [t for t in self._unspent if now - t.taken > UNSPENT_SECONDS]:
            self.put_back(token)
        return self.bucket.due(now)

    def _first(self) -> Waiter:
        """Return the next waiter: the first to arrive, of the group that was served longest ago."""
        urgent = self._waiting[0].priority
        firsts: dict[str, Waiter] = {}
        for waiter in self._waiting:
            if waiter.priority is not urgent:
                break
            firsts.setdefault(waiter.group, waiter)
        served = self._served
        return min(firsts.values(), key=lambda waiter: (served.get((urgent, waiter.group), 0), waiter))

    def take(self, now: float, waiting: Waiter | None = None) -> Token:
        """Give a token to a waiter, or to a caller that did not queue."""
        if waiting:
            self._serving += 1
            self._served[waiting.priority, waiting.group] = self._serving
            there = {(waiter.priority, waiter.group) for waiter in self._waiting}
            if len(self._served) > len(there) + MOST_GROUPS:
                self._served = {group: at for group, at in self._served.items() if group in there}
        token = self.bucket.take(now)
        self._unspent.append(token)
        return token

    def spend(self, token: Token) -> None:
        """Note that the request goes out now. A token whose reservation had run out is owed to the bucket."""
        if token in self._unspent:
            self._unspent.remove(token)
        elif not token.spent:
            self.bucket.take(token.taken)
        token.spent = True

    def put_back(self, token: Token) -> None:
        """Take back a token that was not spent."""
        if token in self._unspent:
            self._unspent.remove(token)
            self.bucket.put_back()
            self.wake_next()

    def wake_next(self) -> None:
        """Wake the waiter that is first now."""
        if self._waiting:
            self._first().wake()

    def wake_all(self) -> None:
        """Wake every waiter: some may have a reason to give up."""
        for waiting in self._waiting:
            waiting.wake()

    def __len__(self) -> int:
        return len(self._waiting)
