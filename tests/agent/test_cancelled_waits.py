"""Whoever waits can be ended: by its client, its pod's end or a DEL, and by its deadline.

One test, all places where a call can wait.

Each place is something that a call can wait for. Something stands in its way for as long as the test lasts.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from cni_floatip import operations
from cni_floatip.agent.claim_cache import ClaimCache
from cni_floatip.agent.ec2.ratelimit import Priority
from cni_floatip.agent.ec2.request_queue import ApiAction, RequestQueue
from cni_floatip.agent.ec2.singleflight import Same, SingleFlight
from cni_floatip.agent.metadata import MetadataCache
from cni_floatip.edges.store import Store
from cni_floatip.model import waiting
from cni_floatip.model.errors import CniError, Ec2Error, Ec2Fault, TryAgain
from cni_floatip.model.values import Attachment, RouteKey
from cni_floatip.operations.release import attachment_lock
from cni_floatip.operations.write_routes import place_lock, retry
from tests.support.cluster_with_pods import ClusterWithPods, NodeWithPods

ENDED = 1.0
"""A call has ended so long after it was told to; the rest is for a busy machine."""
BUSY = 4.0


@dataclass
class Call:
    """One that waits: why it is over, and until when it may."""

    deadline: float
    why: str = ""
    began: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> str:
        self.began.set()
        return self.why

    def go_on(self) -> None:
        waiting.unless(self.stop)()

    def left(self) -> float:
        return self.deadline - time.monotonic()


Wait = Callable[[Call], object]


def store(directory: Path) -> Store:
    return Store(str(directory), sleep=time.sleep, clock=time.monotonic)


def lock_of(what: str) -> Callable[[Path, ExitStack], Wait]:
    def place(directory: Path, ends: ExitStack) -> Wait:
        claims = ClaimCache(store(directory), time.time)
        assert ends.enter_context(claims.lock(what, 0))

        def wait(call: Call) -> None:
            with claims.lock(what, call.left(), call.go_on) as free:
                assert not free, "it is held by somebody else"
                raise TimeoutError

        return wait

    return place


def directory_of_another(directory: Path, ends: ExitStack) -> Wait:
    """The data directory, which a call in direct mode has."""
    assert ends.enter_context(store(directory).lock(0))

    def wait(call: Call) -> None:
        with store(directory).lock(call.left(), call.go_on) as free:
            assert not free, "it is held by somebody else"
            raise TimeoutError

    return wait


def line(directory: Path, ends: ExitStack) -> Wait:
    """The line before EC2's request rate, which is used up."""
    turns, action = RequestQueue(time.monotonic), ApiAction("", "r", "CreateRoute")
    for _ in range(1000):
        try:
            turns.spend(action, turns.acquire(action, Priority.ADD, 0.0))
        except Ec2Error:
            break
    ends.callback(turns.wake)
    # A keeper waits behind ADDs, of which there is always one more.
    busy = threading.Event()
    ends.callback(busy.set)

    def others() -> None:
        while not busy.is_set():
            try:
                token = turns.acquire(
                    action, Priority.ADD, time.monotonic() + 30, lambda: "over" * busy.is_set()
                )
            except (CniError, Ec2Error):
                return
            turns.spend(action, token)

    for _ in range(8):
        threading.Thread(target=others, daemon=True).start()
    return lambda call: turns.acquire(action, Priority.KEEPER, call.deadline, call.stop)


def flight(directory: Path, ends: ExitStack) -> Wait:
    """A read that another call is to make, and does not come to."""
    flights, over, first = SingleFlight(), threading.Event(), threading.Event()

    def turn() -> None:
        first.set()
        over.wait(60)

    def pilot() -> None:
        flights.do(Same("tables"), 0, lambda: None, turn, lambda *_: ())

    thread = threading.Thread(target=pilot, daemon=True)
    thread.start()
    assert first.wait(20)
    ends.callback(thread.join, 20)
    ends.callback(over.set)
    return lambda call: flights.do(Same("tables"), 0, call.stop, lambda: None, lambda *_: (), call.left)


def metadata(directory: Path, ends: ExitStack) -> Wait:
    """Instance metadata that has answered nobody yet, and is asked by one at a time."""
    over, question = threading.Event(), threading.Event()

    class Silent:
        def macs(self) -> tuple[str, ...]:
            question.set()
            over.wait(60)
            return ()

        def close(self) -> None:
            """Nothing is open."""

    remembered = MetadataCache(lambda _: Silent(), time.monotonic)  # type: ignore[arg-type,return-value]
    thread = threading.Thread(target=lambda: remembered(time.monotonic() + 60).macs(), daemon=True)
    thread.start()
    assert question.wait(20)
    ends.callback(thread.join, 20)
    ends.callback(over.set)
    return lambda call: remembered(call.deadline, call.go_on).macs()


def again(directory: Path, ends: ExitStack) -> Wait:
    """The pauses between attempts at what EC2 does not answer."""

    def away() -> None:
        raise Ec2Error(Ec2Fault.NOT_SENT, "DescribeRouteTables", "", "EC2 is away")

    @dataclass
    class Pauses:
        sleep: Callable[[float], object]
        clock: Callable[[], float] = time.monotonic
        jitter: Callable[[], float] = lambda: 1.0

    def wait(call: Call) -> object:
        world = Pauses(lambda seconds: waiting.pause(seconds, time.sleep, call.go_on))
        return retry(world, call.deadline, away)

    return wait


ATTACHMENT = attachment_lock(Attachment("net", "c1", "net1"))
PLACE = place_lock(RouteKey("rtb-1", ip_network("192.168.0.2/32")))

PLACES: dict[str, Callable[[Path, ExitStack], Wait]] = {
    "the attachment": lock_of(ATTACHMENT),
    "the place": lock_of(PLACE),
    "the data directory": directory_of_another,
    "its turn": line,
    "another's read": flight,
    "metadata": metadata,
    "another attempt": again,
}


@pytest.fixture
def ends() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def begun(wait: Wait, call: Call) -> tuple[threading.Thread, list[BaseException]]:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            wait(call)
        except (CniError, Ec2Error, TimeoutError) as e:
            raised.append(e)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, raised


@pytest.mark.parametrize("place", PLACES)
def test_one_that_waits_is_ended_within_a_second(tmp_path: Path, ends: ExitStack, place: str) -> None:
    call = Call(time.monotonic() + 60)
    thread, raised = begun(PLACES[place](tmp_path, ends), call)
    assert call.began.wait(20), "it does not ask whether to go on"
    assert thread.is_alive()
    call.why = "the client has gone"
    thread.join(ENDED + BUSY)
    assert not thread.is_alive()
    assert isinstance(raised[0], TryAgain)
    assert "the client has gone" in str(raised[0])


@pytest.mark.parametrize("place", PLACES)
def test_one_that_waits_ends_at_its_deadline(tmp_path: Path, ends: ExitStack, place: str) -> None:
    wait = PLACES[place](tmp_path, ends)
    call = Call(time.monotonic() + 0.7)
    thread, raised = begun(wait, call)
    thread.join(0.7 + BUSY)
    assert not thread.is_alive()
    assert isinstance(raised[0], TimeoutError | TryAgain | Ec2Error), raised
    assert "stopped" not in str(raised[0])


def test_an_add_that_waits_for_anothers_write_ends_with_its_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pattern 2: all pods of one subnet on a node want the same place, and EC2 does not answer the first."""
    monkeypatch.setattr(NodeWithPods, "sleep", lambda _, seconds: time.sleep(seconds))
    cluster = ClusterWithPods(tmp_path, "a")
    monkeypatch.setattr(cluster, "clock", time.monotonic)
    a = cluster.nodes["a"]
    a.start()
    first, second = (a.pod(cluster.destination(2)) for _ in range(2))
    entered, over = threading.Event(), threading.Event()
    create = cluster.ec2.create

    def slow(key: RouteKey, eni: str, account: str = "") -> None:
        entered.set()
        over.wait(60)
        create(key, eni, account)

    monkeypatch.setattr(cluster.ec2, "create", slow)

    def add(pod: Attachment, call: Call) -> tuple[threading.Thread, list[BaseException]]:
        question = a.request_of("ADD", pod)
        return begun(lambda call: operations.add(question, replace(a.world, cancelled=call.stop)), call)

    writer, refused = add(first, Call(math.inf))
    assert entered.wait(20)
    call = Call(math.inf)
    thread, raised = add(second, call)
    locked = threading.Event()
    while not locked.wait(0.01) and thread.is_alive():  # until it waits for the place, with its claim on disk
        if a.claims.get(second):
            locked.set()
    call.why = "the client has gone"
    thread.join(ENDED + BUSY)
    ended = not thread.is_alive()
    over.set()
    writer.join(20)
    assert ended
    assert "the client has gone" in str(raised[0])
    assert refused == []


def test_a_pause_has_the_length_that_was_asked_for() -> None:
    slept: list[float] = []
    waiting.pause(1.2, slept.append, waiting.always)
    assert sum(slept) == pytest.approx(1.2)
    assert max(slept) <= waiting.STEP_SECONDS


def test_with_no_time_there_is_one_attempt() -> None:
    condition = threading.Condition()
    assert waiting.wait_for(condition, lambda: "there", lambda: 0.0, waiting.always) == "there"
    with pytest.raises(TimeoutError):
        waiting.wait_for(condition, waiting.Later, lambda: 0.0, waiting.always)
