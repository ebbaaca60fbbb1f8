"""Instance metadata as the agent remembers it: what cannot change for good, an ENI for a minute.

An ENI may be plugged in at any time, so a MAC that is not known is asked for again before it is called
unknown. The service limits its callers: what several want to know at once is asked once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..errors import TryAgain
from ..model import Eni, Node
from ..world import Metadata

T = TypeVar("T")

ENI_SECONDS = 60.0
FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class _Read(Generic[T]):
    """An answer, when its read began, and which read it was."""

    answer: T
    at: float
    number: int


class Remembered:
    """Instance metadata for all calls: a thunk as ``World.metadata`` is one. For many threads.

    ``connect`` opens a conversation with the service that ends at a deadline of ``clock``.
    """

    def __init__(self, connect: Callable[[float], Metadata], clock: Callable[[], float]) -> None:
        self._connect = connect
        self._clock = clock
        self._known: dict[Hashable, _Read[Any]] = {}
        self._reads = 0
        self._asking = threading.Lock()

    def __call__(self, deadline: float) -> View:
        """Return what one call sees; every method raises TryAgain at ``deadline``."""
        return View(self, deadline)

    def ask(
        self,
        question: Hashable,
        seconds: float,
        deadline: float,
        read: Callable[[Metadata], T],
        is_answer: Callable[[T], bool] = lambda _: True,
    ) -> T:
        """Return what was read in the last ``seconds``, else read it now; at most one reads at a time.

        What was remembered counts only if ``is_answer``; what is read now does in any case.
        """
        since, reads = self._clock() - seconds, self._reads
        known: _Read[T] | None = self._known.get(question)
        if known and known.at > since and is_answer(known.answer):
            return known.answer
        if not self._asking.acquire(timeout=max(0.0, deadline - self._clock())):
            raise TryAgain("instance metadata does not answer: others wait for it too")
        try:
            known = self._known.get(question)
            if known and (known.number > reads or (known.at > since and is_answer(known.answer))):
                return known.answer  # somebody else has read it since we asked
            self._reads += 1
            number, at = self._reads, self._clock()
            service = self._connect(deadline)
            try:
                found = read(service)
            finally:
                service.close()
            self._known[question] = _Read(found, at, number)
            return found
        finally:
            self._asking.release()

    def keep_only(self, macs: tuple[str, ...]) -> None:
        """Forget the ENIs that are not plugged in any more."""
        for question in list(self._known):
            if isinstance(question, tuple) and question[1] not in macs:
                self._known.pop(question, None)


class View:
    """Instance metadata for one call: ``world.Metadata``."""

    def __init__(self, remembered: Remembered, deadline: float) -> None:
        self._remembered = remembered
        self._deadline = deadline

    def node(self) -> Node:
        """Return this instance."""
        return self._remembered.ask("node", FOREVER, self._deadline, lambda service: service.node())

    def macs(self) -> tuple[str, ...]:
        """Return the MAC addresses of this instance's network interfaces as they are now."""
        return self._remembered.ask("macs", 0, self._deadline, self._read_macs)

    def knows(self, mac: str) -> bool:
        """Return whether ``mac`` is that of an interface of this instance; asked again before it is not."""
        found = self._remembered.ask(
            "macs", ENI_SECONDS, self._deadline, self._read_macs, lambda macs: mac in macs
        )
        return mac in found

    def primary_mac(self) -> str:
        """Return the MAC address of the primary network interface (device 0)."""
        return self._remembered.ask("primary", FOREVER, self._deadline, lambda service: service.primary_mac())

    def role(self) -> str:
        """Return the name of the instance profile's role, "" when there is none."""
        return self._remembered.ask("role", ENI_SECONDS, self._deadline, lambda service: service.role())

    def eni(self, mac: str) -> Eni:
        """Return the network interface with ``mac``, as it was at most a minute ago."""
        return self._remembered.ask(
            ("eni", mac), ENI_SECONDS, self._deadline, lambda service: service.eni(mac)
        )

    def close(self) -> None:
        """Nothing of one call's own is open."""

    def _read_macs(self, service: Metadata) -> tuple[str, ...]:
        macs = service.macs()
        self._remembered.keep_only(macs)
        return macs
