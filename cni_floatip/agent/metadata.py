"""Caches instance metadata for all calls: what cannot change for good, an ENI for a minute.

An ENI may be plugged in at any time. So an unknown MAC is asked for again before it is called unknown, and a
call asks again before it refuses because of an answer that is older than the call. The service limits its
callers, so equal questions are coalesced.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..model import waiting
from ..model.errors import TryAgain
from ..model.values import Eni, Node
from ..operations.world import Metadata

T = TypeVar("T")

ENI_SECONDS = 60.0
TURN_SECONDS = 3.0
"""How long one caller may wait for the service before the next one may."""
LEAST_SECONDS = 1.0
"""What is left of a turn after the wait for it, at least."""
NEARLY = 1.5
"""By how much sooner a conversation may give up: it makes no attempt if its next pause would be too long."""
FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class CachedRead(Generic[T]):
    """An answer, when its read began, and which read it was."""

    answer: T
    at: float
    number: int


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """A question: an answer ``seconds`` old counts if ``is_answer``, a read that begins now always."""

    key: Hashable
    seconds: float
    read: Callable[[Metadata], T]
    is_answer: Callable[[T], bool] = lambda _: True


class MetadataCache:
    """Instance metadata for all calls; called as ``World.metadata`` is. For many threads.

    ``connect`` opens a conversation with the service that ends at a deadline of ``clock``.
    """

    def __init__(self, connect: Callable[[float], Metadata], clock: Callable[[], float]) -> None:
        self._connect = connect
        self.clock = clock
        self._known: dict[Hashable, CachedRead[Any]] = {}
        self._reads = 0
        self._asking = False
        self._asked = threading.Condition()

    def __call__(self, deadline: float, go_on: Callable[[], object] = waiting.always) -> CallMetadata:
        """Return metadata for one call. It raises TryAgain at ``deadline``, or what ``go_on`` raises."""
        return CallMetadata(self, deadline, go_on)

    def ask(self, question: Question[T], deadline: float, go_on: Callable[[], object]) -> CachedRead[T]:
        """Return a cached answer, else read it now; at most one caller reads at a time.

        While the service does not answer, callers take turns, because each has a deadline of its own.
        """
        while True:
            began = self.clock()
            turn = min(deadline, began + TURN_SECONDS)
            try:
                return self._ask(question, deadline, turn, go_on)
            except TryAgain:  # at once: this is the answer; after a whole turn: try again
                if turn >= deadline or self.clock() < turn - NEARLY:
                    raise
            time.sleep(0.02)  # so that a waiting thread takes the next turn before this one

    def _ask(
        self, question: Question[T], deadline: float, turn: float, go_on: Callable[[], object]
    ) -> CachedRead[T]:
        since, reads = self.clock() - question.seconds, self._reads
        known: CachedRead[T] | None = self._known.get(question.key)
        if known and known.at > since and question.is_answer(known.answer):
            return known
        self._take_turn(deadline, go_on)
        try:
            known = self._known.get(question.key)
            if known and (known.number > reads or (known.at > since and question.is_answer(known.answer))):
                return known  # another caller has read it since we asked
            self._reads += 1
            number, at = self._reads, self.clock()
            service = self._connect(max(turn, min(deadline, at + LEAST_SECONDS)))
            try:
                read = CachedRead(question.read(service), at, number)
            finally:
                service.close()
            self._known[question.key] = read
            return read
        finally:
            with self._asked:
                self._asking = False
                self._asked.notify()

    def _take_turn(self, deadline: float, go_on: Callable[[], object]) -> None:
        until = time.monotonic() + deadline - self.clock()

        def attempt() -> bool | waiting.Later:
            if self._asking:
                return waiting.Later()
            self._asking = True
            return True

        try:
            waiting.wait_for(self._asked, attempt, lambda: until - time.monotonic(), go_on)
        except TimeoutError as e:
            raise TryAgain("instance metadata does not answer, and other calls wait for it too") from e

    def keep_only(self, macs: tuple[str, ...]) -> None:
        """Forget the ENIs that are not plugged in any more."""
        for key in list(self._known):
            if isinstance(key, tuple) and key[1] not in macs:
                self._known.pop(key, None)


class CallMetadata:
    """Instance metadata for one call: ``world.Metadata``."""

    def __init__(self, remembered: MetadataCache, deadline: float, go_on: Callable[[], object]) -> None:
        self._remembered = remembered
        self._deadline = deadline
        self._go_on = go_on
        self._began = remembered.clock()
        self._rests_on_older = False
        self._again = False

    def ask_again(self) -> bool:
        """From now on use no answer that is older than this call; say whether any was used."""
        self._again = True
        return self._rests_on_older

    def _ask(
        self,
        key: Hashable,
        seconds: float,
        read: Callable[[Metadata], T],
        is_answer: Callable[[T], bool] = lambda _: True,
    ) -> T:
        if self._again:
            seconds = min(seconds, self._remembered.clock() - self._began)
        question = Question(key, seconds, read, is_answer)
        cached_read = self._remembered.ask(question, self._deadline, self._go_on)
        self._rests_on_older = self._rests_on_older or cached_read.at < self._began
        return cached_read.answer

    def node(self) -> Node:
        """Return this instance."""
        return self._ask("node", FOREVER, lambda service: service.node())

    def macs(self) -> tuple[str, ...]:
        """Return the MAC addresses of this instance's network interfaces as they are now."""
        return self._ask("macs", 0, self._read_macs)

    def knows(self, mac: str) -> bool:
        """Return whether ``mac`` is an interface's of this instance; asks again before it says no."""
        results = self._ask("macs", ENI_SECONDS, self._read_macs, lambda macs: mac in macs)
        return mac in results

    def primary_mac(self) -> str:
        """Return the MAC address of the primary network interface."""
        return self._ask("primary", FOREVER, lambda service: service.primary_mac())

    def role(self) -> str:
        """Return the name of the instance profile's role; asks again before it returns none ("")."""
        return self._ask("role", ENI_SECONDS, lambda service: service.role(), bool)

    def eni(self, mac: str) -> Eni:
        """Return the network interface with ``mac``, from an answer that is a minute old at most."""
        return self._ask(("eni", mac), ENI_SECONDS, lambda service: service.eni(mac))

    def interface_id(self, mac: str) -> str:
        """Return the id of the network interface with ``mac``."""
        return self._ask(("id", mac), ENI_SECONDS, lambda service: service.interface_id(mac))

    def close(self) -> None:
        """Do nothing, because one call opens nothing of its own."""

    def _read_macs(self, service: Metadata) -> tuple[str, ...]:
        macs = service.macs()
        self._remembered.keep_only(macs)
        return macs
