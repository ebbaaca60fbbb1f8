"""The rate limiter: in simulated time against EC2's buckets as the lab knows them, then with real threads."""

from __future__ import annotations

import heapq
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_floatip.agent.ec2.ratelimit import (
    MOST_REMEMBERED,
    PUBLISHED,
    REMEMBER_SECONDS,
    UNSPENT_SECONDS,
    FirstSeen,
    Priority,
    Rate,
    Token,
    TokenBucket,
    WaitQueue,
)
from cni_floatip.agent.ec2.request_queue import ApiAction, RequestQueue
from cni_floatip.model.errors import Ec2Error, Ec2Fault, TryAgain
from lab.ec2.throttle import Buckets, rate
from tests.support.waiting import until

WRITE = "ReplaceRoute"
HERE = ApiAction("", "eu-central-1", WRITE)


def test_we_start_with_what_ec2_publishes() -> None:
    for action, published in PUBLISHED.items():
        real = rate(action, {"Filters": "some"})
        assert (published.burst, published.refill) == (real.burst, real.refill)


def test_turns_go_round_the_namespaces_that_wait_and_within_one_by_arrival() -> None:
    line = WaitQueue(Rate(1, 1), 0.0)
    waiting = {}
    for number in range(100):
        waiting[f"greedy {number}"] = line.add(Priority.ADD, float(number), group="greedy")
    for number in range(2):
        waiting[f"modest {number}"] = line.add(Priority.ADD, 200.0 + number, group="modest")
    waiting["other 0"] = line.add(Priority.ADD, 300.0, group="other")
    waiting["keeper"] = line.add(Priority.KEEPER, 0.0)
    order, now = [], 0.0
    while waiting:
        now += 2.0
        (name,) = [name for name, waiter in waiting.items() if line.due(waiter, now) == 0]
        line.spend(line.take(now, waiting[name]))
        line.remove(waiting.pop(name))
        order.append(name)
    assert order[:6] == ["greedy 0", "modest 0", "other 0", "greedy 1", "modest 1", "greedy 2"]
    assert order[6:-1] == [f"greedy {number}" for number in range(3, 100)]
    assert order[-1] == "keeper"


def test_namespaces_that_were_served_are_remembered_in_bounded_memory() -> None:
    line = WaitQueue(Rate(1, 1), 0.0)
    for number in range(2000):
        waiter = line.add(Priority.ADD, float(number), group=f"namespace {number}")
        line.spend(line.take(float(number), waiter))
        line.remove(waiter)
    assert len(line._served) < 300


# -- many writes at once, in simulated time ---------------------------------------------------------------


@dataclass
class Storm:
    """Nodes of one account that all want to write at once. Each repeats what is refused."""

    nodes: int
    writes: int
    way: tuple[float, float] = (0.005, 0.08)
    others: float = 0.0
    seed: int = 0
    at: float = 0.0
    done: int = 0
    refused: int = 0
    last: float = 0.0
    events: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311 (no secret)
        self.account = Buckets(lambda: self.at)
        self.lines = [WaitQueue(PUBLISHED[WRITE], 0.0) for _ in range(self.nodes)]
        self.next_look = dict.fromkeys(map(id, self.lines), float("inf"))
        self.number = 0

    def run(self) -> Storm:
        for line in self.lines:
            for _ in range(self.writes // self.nodes):
                line.add(Priority.ADD, 0.0)
            self.later(self.random.random() / 10, self.send, line)
        if self.others:
            self.later(0, self.other)
        while self.done < self.writes and self.at < 10_000:
            self.at, _, what, arguments = heapq.heappop(self.events)
            what(*arguments)
        return self

    def later(self, seconds: float, what: Callable[..., Any], *arguments: Any) -> None:
        self.number += 1
        heapq.heappush(self.events, (self.at + seconds, self.number, what, arguments))

    def send(self, line: WaitQueue) -> None:
        while len(line):
            first = line._waiting[0]
            if due := line.due(first, self.at):
                if not self.at < self.next_look[id(line)] <= self.at + due:
                    self.next_look[id(line)] = self.at + due
                    self.later(due, self.send, line)
                return
            token = line.take(self.at)
            line.remove(first)
            line.spend(token)
            self.later(self.random.uniform(*self.way) / 2, self.arrive, line, token)

    def arrive(self, line: WaitQueue, token: Token) -> None:
        passes = self.account.take("account", WRITE, {})
        self.later(self.random.uniform(*self.way) / 2, self.answer, line, token, passes)

    def answer(self, line: WaitQueue, token: Token, passes: bool) -> None:
        if passes:
            line.bucket.on_success()
            self.done, self.last = self.done + 1, self.at
        else:
            line.bucket.on_refusal(token, self.at)
            self.refused += 1
            self.later(self.random.random() / 10, self.again, line)
        self.send(line)

    def again(self, line: WaitQueue) -> None:
        line.add(Priority.ADD, 0.0)
        self.send(line)

    def other(self) -> None:
        self.account.take("account", WRITE, {})
        self.later(self.random.expovariate(self.others), self.other)


BOUND = (500 - 50) / 5


@pytest.mark.parametrize("way", [(0.005, 0.08), (0.3, 3.0)], ids=["near", "far"])
@pytest.mark.parametrize("seed", range(3))
def test_500_writes_at_once_take_as_long_as_the_bucket(way: tuple[float, float], seed: int) -> None:
    storm = Storm(1, 500, way=way, seed=seed).run()
    assert storm.done == 500
    assert storm.last <= 1.1 * BOUND
    assert storm.refused <= 5


@pytest.mark.parametrize("nodes", [2, 5, 20])
def test_nodes_that_know_nothing_of_each_other_share_the_bucket(nodes: int) -> None:
    storm = Storm(nodes, 500).run()
    assert storm.done == 500
    assert storm.last <= 1.5 * BOUND
    assert storm.refused <= 1000


def test_bucket_that_was_empty_when_we_started() -> None:
    storm = Storm(1, 500)
    for _ in range(50):
        storm.account.take("account", WRITE, {})
    storm.run()
    assert storm.last <= 1.1 * 500 / 5
    assert storm.refused <= 60  # the first burst, and hardly any more


def test_others_who_use_the_account_are_given_way_to() -> None:
    storm = Storm(1, 300, others=3.0).run()
    assert storm.done == 300
    assert storm.refused < 150
    assert storm.lines[0].bucket.rate < 5


def test_rate_comes_back_when_the_others_are_gone() -> None:
    bucket = TokenBucket(Rate(50, 5), 0.0)
    for at in range(1, 200, 5):
        bucket.on_refusal(bucket.take(at), at + 0.1)
    slow = bucket.rate
    assert slow < 1
    bucket.due(1000.0)
    assert bucket.rate == 5
    assert bucket.due(1000.0) == 0


# -- the books --------------------------------------------------------------------------------------------


@given(
    steps=st.lists(st.tuples(st.floats(0, 30), st.sampled_from(["take", "unsent", "refused"])), max_size=200)
)
def test_no_more_is_sent_than_the_published_bucket_gives(steps: list[tuple[float, str]]) -> None:
    line, now, sent = WaitQueue(Rate(50, 5), 0.0), 0.0, []
    for passed, step in steps:
        now += passed
        waiting = line.add(Priority.ADD, now)
        if line.due(waiting, now) == 0:
            token = line.take(now)
            if step == "unsent":
                line.put_back(token)
                line.put_back(token)
            else:
                line.spend(token)
                sent.append(now)
            if step == "refused":
                line.bucket.on_refusal(token, now)
        line.remove(waiting)
    assert not len(line)
    for first in range(len(sent)):
        for last in range(first, len(sent)):
            assert last - first + 1 <= 50 + 5 * (sent[last] - sent[first]) + 1e-3


@given(st.lists(st.tuples(st.sampled_from(Priority), st.integers(0, 20)), min_size=1, max_size=40))
def test_adds_first_and_the_oldest_of_them(arrivals: list[tuple[Priority, int]]) -> None:
    line = WaitQueue(Rate(1000, 5), 0.0)
    waiting = {id(w): w for w in [line.add(priority, since) for priority, since in arrivals]}
    order = []
    while waiting:
        (first,) = (w for w in waiting.values() if line.due(w, 0.0) is not None)
        order.append((first.priority, first.since, first.number))
        line.remove(waiting.pop(id(first)))
    assert all(before < after for before, after in pairwise(order))


def test_token_that_nobody_spends_comes_back_and_is_owed_if_it_is_spent_after_all() -> None:
    line = WaitQueue(Rate(1, 0.001), 0.0)
    first = line.add(Priority.ADD, 0.0)
    token = line.take(0.0)
    assert (line.due(first, 1.0) or 0) > 100
    assert line.due(first, UNSPENT_SECONDS + 1) == 0
    line.spend(token)
    assert (line.due(first, UNSPENT_SECONDS + 1) or 0) > 100


def test_who_comes_back_within_minutes_has_waited_all_along() -> None:
    arrivals = FirstSeen()
    assert arrivals.since("pod", 0.0) == 0
    assert arrivals.since("pod", REMEMBER_SECONDS) == 0
    assert arrivals.since("pod", 2 * REMEMBER_SECONDS) == 0
    assert arrivals.since("pod", 4 * REMEMBER_SECONDS) == 4 * REMEMBER_SECONDS
    arrivals.forget("pod")
    assert arrivals.since("pod", 4 * REMEMBER_SECONDS + 1) == 4 * REMEMBER_SECONDS + 1


def test_memory_of_places_is_bounded() -> None:
    arrivals = FirstSeen()
    for n in range(3 * MOST_REMEMBERED):
        arrivals.since(n, n / 1000)
    assert len(arrivals) == MOST_REMEMBERED
    arrivals.since("late", 10 * REMEMBER_SECONDS)
    assert len(arrivals) == 1


# -- the waiting ------------------------------------------------------------------------------------------


class Clock:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at

    def wait(self, condition: threading.Condition, seconds: float) -> None:
        self.at += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def turns(clock: Clock) -> RequestQueue:
    return RequestQueue(clock, clock.wait)


def send(turns: RequestQueue, deadline: float, **how: Any) -> None:
    token = turns.acquire(HERE, Priority.ADD, deadline, **how)
    turns.spend(HERE, token)
    turns.on_answer(HERE, token, None)


def test_burst_at_once_and_then_five_a_second(clock: Clock, turns: RequestQueue) -> None:
    for _ in range(500):
        send(turns, clock.at + 1000)
    assert clock.at - 1000 == pytest.approx(BOUND, abs=0.1)


def test_actions_and_accounts_have_buckets_of_their_own(clock: Clock, turns: RequestQueue) -> None:
    for action in (HERE, HERE._replace(name="CreateRoute"), HERE._replace(account="111122223333")):
        for _ in range(50):
            turns.spend(action, turns.acquire(action, Priority.ADD, clock.at))
    assert clock.at == 1000


def test_deadline_ends_the_waiting(clock: Clock, turns: RequestQueue) -> None:
    for _ in range(50):
        send(turns, clock.at)
    with pytest.raises(Ec2Error, match="ReplaceRoute: timed out waiting for a request token") as caught:
        send(turns, clock.at + 0.1)
    assert caught.value.fault is Ec2Fault.THROTTLED
    assert clock.at == pytest.approx(1000.1)
    assert turns.waiting() == 0


def test_call_that_is_over_sends_nothing_and_takes_no_token(clock: Clock, turns: RequestQueue) -> None:
    for _ in range(50):
        send(turns, clock.at)
    reasons = iter(["", "the client is gone"])
    with pytest.raises(TryAgain, match="stopped: the client is gone"):
        turns.acquire(HERE, Priority.ADD, clock.at + 100, lambda: next(reasons))
    with pytest.raises(TryAgain):
        turns.acquire(HERE, Priority.ADD, clock.at + 100, lambda: "gone")
    began = clock.at
    clock.at += 10  # as many tokens as if nobody had waited
    for _ in range(50):
        send(turns, clock.at)
    assert clock.at == began + 10


def test_request_that_never_left_costs_nothing(clock: Clock, turns: RequestQueue) -> None:
    for _ in range(200):
        token = turns.acquire(HERE, Priority.ADD, clock.at)
        turns.spend(HERE, token)
        turns.on_answer(HERE, token, Ec2Fault.NOT_SENT)
    assert clock.at == 1000


def test_refusal_is_waited_out(clock: Clock, turns: RequestQueue) -> None:
    token = turns.acquire(HERE, Priority.ADD, clock.at)
    turns.spend(HERE, token)
    turns.on_answer(HERE, token, Ec2Fault.THROTTLED)
    with pytest.raises(Ec2Error):
        turns.acquire(HERE, Priority.ADD, clock.at)
    turns.acquire(HERE, Priority.ADD, clock.at + 10)
    assert clock.at == pytest.approx(1000.2, abs=0.01)


def test_threads_are_served_in_order_and_a_retry_keeps_its_place() -> None:
    turns, served, lock = RequestQueue(time.monotonic), [], threading.Lock()
    for _ in range(50):
        send(turns, time.monotonic())
    with pytest.raises(Ec2Error):
        turns.acquire(HERE, Priority.ADD, time.monotonic() + 0.01, key="retried")

    def take(name: str, priority: Priority) -> None:
        turns.acquire(HERE, priority, time.monotonic() + 20, key=name)
        with lock:
            served.append(name)

    callers = [("keeper", Priority.KEEPER), ("first", Priority.ADD), ("second", Priority.ADD)]
    threads = []
    for name, priority in [*callers, ("retried", Priority.ADD)]:
        threads.append(threading.Thread(target=take, args=(name, priority)))
        threads[-1].start()
        until(lambda: turns.waiting() >= len(threads) - len(served))
    for thread in threads:
        thread.join()
    assert served.index("retried") <= 1  # the first token may have gone before it came back
    assert served.index("first") < served.index("second") < served.index("keeper")


def test_an_add_passes_all_addresses_that_pods_gave_themselves() -> None:
    line = WaitQueue(Rate(1, 5), 0.0)
    line.spend(line.take(0.0))
    flapping = [line.add(Priority.WATCH, 0.0) for _ in range(200)]
    keeper = line.add(Priority.KEEPER, 0.0)
    add = line.add(Priority.ADD, 1.0)
    assert line.due(add, 1.0) == 0
    line.remove(add)
    assert line.due(flapping[0], 1.0) == 0
    for waiter in flapping:
        line.remove(waiter)
    assert line.due(keeper, 1.0) == 0


def test_who_waits_can_be_woken_to_give_up() -> None:
    turns, over = RequestQueue(time.monotonic), threading.Event()
    for _ in range(50):
        send(turns, time.monotonic())
    for _ in range(20):
        turns.acquire_at_once(HERE)  # owed: nobody's turn comes soon
    failures = []

    def wait() -> None:
        try:
            turns.acquire(HERE, Priority.ADD, time.monotonic() + 30, lambda: "over" if over.is_set() else "")
        except TryAgain as e:
            failures.append(str(e))

    threads = [threading.Thread(target=wait) for _ in range(5)]
    for thread in threads:
        thread.start()
    until(lambda: turns.waiting() == 5)
    over.set()
    turns.wake()
    for thread in threads:
        thread.join(timeout=10)
    assert failures == ["stopped: over"] * 5
    assert turns.waiting() == 0
