"""Decides which caller sends the next request to EC2: the wait for a token of its buckets (``ratelimit``).

ADDs go first. Turns go round the waiting namespaces, so that one that wants hundreds of routes keeps no other
waiting. Within a namespace the caller that has wanted its route longest is first: the runtime repeats an ADD
that failed, and the repeated ADD gets its old place back. Then come the addresses that pods gave themselves,
then the keeper. A token that is not spent is given back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import NamedTuple

from ...model import waiting
from ...model.errors import Ec2Error, Ec2Fault
from .ratelimit import PUBLISHED, FirstSeen, Priority, Token, WaitQueue


class ApiAction(NamedTuple):
    """An action that has a bucket of its own. ``account`` is that of the role ("": our own identity)."""

    account: str
    region: str
    name: str


class RequestQueue:
    """The queues of all buckets, and the waiting in them. For many threads.

    ``clock`` is that of the deadlines; ``wait`` waits for a condition for so many seconds at most.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        wait: Callable[[threading.Condition, float], object] = threading.Condition.wait,
    ) -> None:
        self._clock = clock
        self._wait = wait
        self._lock = threading.Lock()
        self._lines: dict[ApiAction, WaitQueue] = {}
        self._first_seen = FirstSeen()

    def acquire(
        self,
        action: ApiAction,
        priority: Priority,
        deadline: float,
        cancelled: Callable[[], str | None] = lambda: None,
        key: Hashable = None,
        group: str = "",
    ) -> Token:
        """Wait until ``action`` may be sent once more. A caller that returns with the same ``key`` gets its
        old place; turns go round the ``group``s.

        Raises Ec2Error (THROTTLED) at ``deadline``, TryAgain when ``cancelled`` gives a reason. With
        ``deadline`` = now this does not wait: it returns a token or raises.
        """
        condition = threading.Condition(self._lock)
        with self._lock:
            line, now = self._line(action), self._clock()
            since = now if key is None else self._first_seen.since(key, now)
            place = line.add(priority, since, condition.notify, group)

        def attempt() -> Token | waiting.Later:
            now = self._clock()
            due = line.due(place, now)
            return line.take(now, place) if due == 0 else waiting.Later(due or waiting.STEP_SECONDS)

        try:
            return waiting.wait_for(
                condition, attempt, lambda: deadline - self._clock(), waiting.unless(cancelled), self._wait
            )
        except TimeoutError as e:
            text = (
                f"timed out waiting for a request token ({len(line)} calls wait): EC2's request rate"
                " limit is exhausted (RequestLimitExceeded)"
            )
            raise Ec2Error(Ec2Fault.THROTTLED, action.name, "", text) from e
        finally:
            with self._lock:
                line.remove(place)

    def acquire_at_once(self, action: ApiAction) -> Token:
        """Take a token without waiting, because the request goes out in any case."""
        with self._lock:
            return self._line(action).take(self._clock())

    def spend(self, action: ApiAction, token: Token) -> None:
        """Note that the request goes out now."""
        with self._lock:
            self._line(action).spend(token)

    def put_back(self, action: ApiAction, token: Token) -> None:
        """Give back a token for which nothing was sent. Idempotent."""
        with self._lock:
            self._line(action).put_back(token)

    def on_answer(self, action: ApiAction, token: Token, fault: Ec2Fault | None) -> None:
        """Report a request's outcome: the bucket learns from a refusal, and from a request that passed."""
        with self._lock:
            line = self._line(action)
            if fault is Ec2Fault.THROTTLED:
                line.bucket.on_refusal(token, self._clock())
            elif fault is Ec2Fault.NOT_SENT:
                line.bucket.put_back()
                line.wake_next()
            else:
                line.bucket.on_success()

    def forget(self, key: Hashable) -> None:
        """Forget the place of ``key``, because its request was done."""
        with self._lock:
            self._first_seen.forget(key)

    def wake(self) -> None:
        """Make every waiting caller check again whether to give up."""
        with self._lock:
            for line in self._lines.values():
                line.wake_all()

    def waiting(self) -> int:
        """Return how many callers wait now, in all queues."""
        with self._lock:
            return sum(len(line) for line in self._lines.values())

    def _line(self, action: ApiAction) -> WaitQueue:
        if action not in self._lines:
            self._lines[action] = WaitQueue(PUBLISHED[action.name], self._clock())
        return self._lines[action]
