"""The demo's eyes: a continuous sender per client and IP family, from the first act to the last."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from cni_floatip.model.values import Address
from lab.client import Probe, Report
from lab.errors import LabError

if TYPE_CHECKING:
    from lab.world import Lab

INTERVAL = 0.005
SAMPLE = 0.1
WIDTH = 60


@dataclass(frozen=True, slots=True)
class Watched:
    """Who asks, and where."""

    client: str
    address: Address

    def __str__(self) -> str:
        return f"{self.client} client, IPv{self.address.version}"


Lines = Mapping[Watched, tuple[str | None, ...]]
"""Who answered each probe in its last samples, the newest last."""


class Watch:
    """All probes. ``reports`` are there when it ends.

    ``lines`` is never changed, only replaced: the display reads it while the sampler's thread goes on.
    """

    def __init__(self, lab: Lab, addresses: Sequence[Address]) -> None:
        watched = [Watched(c, a) for c in lab.clients for a in addresses]
        self.lines: Lines = dict.fromkeys(watched, ())
        self.probes = {w: lab.clients[w.client].probe(w.address, interval=INTERVAL) for w in watched}
        self.reports: dict[Watched, Report] = {}
        self._running = contextlib.ExitStack()

    def __enter__(self) -> Watch:
        with contextlib.ExitStack() as stack:
            for probe in self.probes.values():
                stack.enter_context(probe)
            self._running = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, where: TracebackType | None
    ) -> None:
        for probe in self.probes.values():
            probe.hush()
        self._running.close()
        self.reports = {watched: probe.report for watched, probe in self.probes.items()}

    def wait_answers(self, who: str, timeout: float) -> None:
        """Wait until every probe is answered by this pod."""
        for watched, probe in self.probes.items():
            try:
                probe.wait_answer(who, timeout)
            except LabError as e:
                raise LabError(f"{watched}: {e}") from e

    def wait_silence(self, seconds: float, timeout: float) -> None:
        """Wait until no probe has been answered for so long."""
        now = time.monotonic()
        for watched, probe in self.probes.items():
            try:
                probe.wait_silence(seconds, timeout, since=now)
            except LabError as e:
                raise LabError(f"{watched}: {e}") from e

    def expect_no_other(self, who: str, since: float) -> None:
        """Fail if anybody else has answered since."""
        for watched, probe in self.probes.items():
            for name, (_, last) in probe.look()["by"].items():
                if name != who and last > since:
                    raise LabError(f"{watched}: {name} has answered")

    def first_answers(self, who: str) -> dict[Watched, float]:
        """Return when each probe was first answered by this pod."""
        return {watched: probe.look()["by"][who][0] for watched, probe in self.probes.items()}

    @contextlib.contextmanager
    def sampling(self) -> Iterator[None]:
        """Keep ``lines`` up to date meanwhile."""
        over = threading.Event()
        thread = threading.Thread(target=self._sample, args=(over,), daemon=True, name="watch")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _sample(self, over: threading.Event) -> None:
        with contextlib.suppress(LabError):  # a probe has ended: the play meets that too, and says it
            while not over.wait(SAMPLE):
                self.lines = {w: (*self.lines[w], _heard(p))[-WIDTH:] for w, p in self.probes.items()}


def _heard(probe: Probe) -> str | None:
    """Return who has answered a probe within the last sample."""
    last = probe.look()["last"]
    return str(last[1]) if last and last[0] > time.monotonic() - SAMPLE else None
