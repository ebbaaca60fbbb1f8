"""How many reads of route tables run at once, and which is next."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator

import pytest

from cni_floatip.agent.ec2.read_limit import ROUND, ReadLimit
from cni_floatip.model.errors import TryAgain
from tests.support.waiting import until


@pytest.fixture
def limit() -> Iterator[ReadLimit]:
    result = ReadLimit(1)
    yield result
    assert not len(result)


def acquire(limit: ReadLimit, urgency: int = 0, left: float = math.inf) -> None:
    limit.acquire(urgency, lambda: None, lambda: left)


def test_most_urgent_is_next_and_then_the_first(limit: ReadLimit) -> None:
    order: list[str] = []
    acquire(limit)

    def wait(name: str, urgency: int) -> None:
        acquire(limit, urgency)
        order.append(name)
        limit.release()

    threads = []
    for number, (name, urgency) in enumerate([("keeper", 2), ("ADD", 0), ("watch", 1), ("second ADD", 0)], 1):
        threads.append(threading.Thread(target=wait, args=(name, urgency)))
        threads[-1].start()
        until(lambda number=number: len(limit) == number)  # type: ignore[misc]
    assert not order
    limit.release()
    for thread in threads:
        thread.join(60)
    assert order == ["ADD", "second ADD", "watch", "keeper"]


def test_stream_of_urgent_ones_does_not_keep_another_waiting_for_ever(limit: ReadLimit) -> None:
    """One ADD always waits, as where a read lasts longer than the next ADD takes to come."""
    over, order = threading.Event(), list[str]()
    acquire(limit)

    def read(name: str, urgency: int) -> None:
        acquire(limit, urgency)
        order.append(name)
        if name == "keeper":
            over.set()
        elif not over.is_set():
            begin(name, urgency)
        limit.release()

    def begin(name: str, urgency: int) -> None:
        waiting = len(limit)
        threads.append(threading.Thread(target=read, args=(name, urgency)))
        threads[-1].start()
        until(lambda: len(limit) > waiting or over.is_set() or len(order) > 3 * ROUND)

    threads: list[threading.Thread] = []
    begin("keeper", 2)
    begin("ADD", 0)
    limit.release()
    until(lambda: over.is_set() or len(order) > 3 * ROUND)
    late = not over.is_set()
    over.set()
    for thread in threads:
        thread.join(60)
    assert not late
    assert order[:ROUND] == [*["ADD"] * (ROUND - 2), "keeper", "ADD"]


def test_one_that_gives_up_keeps_nobody_waiting(limit: ReadLimit) -> None:
    acquire(limit)
    with pytest.raises(TimeoutError):
        acquire(limit, left=0)
    with pytest.raises(TryAgain, match="the client is gone"):
        limit.acquire(0, lambda: "the client is gone", lambda: 60)
    limit.release()
    acquire(limit, urgency=9, left=0)
    limit.release()


def test_waiting_one_is_woken_to_give_up(limit: ReadLimit) -> None:
    acquire(limit)
    over, ended = threading.Event(), threading.Event()

    def wait() -> None:
        with pytest.raises(TryAgain):
            limit.acquire(0, lambda: "over" if over.is_set() else None, lambda: 60)
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: len(limit))
    over.set()
    limit.wake()
    assert ended.wait(60)
    thread.join()
    limit.release()
