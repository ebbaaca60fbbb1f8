"""Decides when the agent checks which pod's network, repairs it as ADD made it, and records losses.

A pod is checked at each ordinary look of the keeper, and when an event of its kernel says that something of
ours may be lost. A few threads do the checks and nothing else. So a pod that hangs delays neither the keeper
nor the watch, and holds a thread for no longer than one answer of the kernel may take. Checks caused by
events are limited for each pod: a pod that keeps flushing is checked once in five seconds, and a pod whose
routes take long to read rests for twenty times as long.

Only the watch's thread may call this module, except for ``lost``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from ...config.nodeconf import WatchLimits
from ...edges.podnet.events import AddressEvent, Event, LinkChanged, LinkGone
from ...model.claim import Claim
from ...model.errors import CniError
from ...model.values import Attachment
from ...operations.pod_repair import RepairResult, repair_pod
from ...operations.world import World
from ..observe.recorder import Recorder
from .interface import Allowance

AT_ONCE = 4
"""How many pods are checked concurrently."""
FIRST_SECONDS = 1.0
"""When a pod is first checked after its ADD, because until then nobody listened in it."""
SETTLE_SECONDS = 0.2
"""How long after an event a pod is checked, because flushing a table makes many events."""
APART_SECONDS = 0.02
"""The pause between the checks of two pods, so that an ADD finds a processor."""
BUSY_SECONDS = 0.2
"""When to look again while the attachment's own call, or the watch, is at work."""
EVENT_LOOKS = WatchLimits(burst=6, seconds_per_change=5.0)
"""How many checks of a pod its events may cause: a burst, then one in so many seconds."""
SHOWN, SHOWN_CHARACTERS = 8, 400
"""How many losses of a pod are named, and how long each may be: a pod's administrator can make many."""
REST, LONGEST_REST = 20.0, 60.0
"""After a look a pod rests for this many times the look's duration, before an event causes the next."""


@dataclass(frozen=True, slots=True)
class Lost:
    """What a live pod lacks of the network that ADD made, ``since`` when (seconds since the epoch)."""

    what: tuple[str, ...]
    since: float


class WatchedPod:
    """One attachment whose pod is checked.

    ``listening``: its kernel's events are read; ``deaf_because`` says why not, if that was tried.
    """

    def __init__(self, claim: Claim, now: float) -> None:
        self.attachment = claim.attachment
        self.who = f"{claim.attachment}" + (f" of {claim.pod}" if claim.pod.name else "")
        self.subject = claim.subject()
        self.netns, self.inode = claim.netns, claim.netns_inode
        self.listening = False
        self.deaf_because = ""
        self.index = 0
        self.due: float | None = None
        self.running = False
        self.lost: Lost | None = None
        self._allowance = Allowance(EVENT_LOOKS, now)
        self._not_before = -math.inf
        self._again = False

    def look_at(self, when: float) -> None:
        """Look at ``when`` at the latest."""
        if not self.running and (self.due is None or when < self.due):
            self.due = when

    def on_event(self, now: float) -> None:
        """Note that something may be lost."""
        if self.running:
            self._again = True
        else:
            room = self._allowance.due(now) + 0.001  # so that rounding does not make it too early
            self.look_at(max(now + SETTLE_SECONDS, room, self._not_before))

    def begin(self, now: float) -> None:
        """Begin a look: only later events cause another."""
        self._allowance.take(1, now)
        self.running, self._again, self.due = True, False, None

    def end(self, kept: RepairResult | None, took: float, now: float) -> None:
        """End a look with the result ``kept``, None after an unexpected error."""
        self.running = False
        self._not_before = now + min(REST * took, LONGEST_REST)
        if kept and kept.index:
            self.index = kept.index
        if kept and kept.busy:
            self.look_at(now + BUSY_SECONDS)
        elif self._again:
            self.on_event(now)

    def concerns(self, event: Event) -> bool:
        """Whether ``event`` may mean that something of this attachment is lost."""
        if isinstance(event, (AddressEvent, LinkChanged, LinkGone)):
            return self.index in (0, event.index)
        return True


class WatchedPods:
    """The pods of all live claims. ``failed`` gets every unexpected error."""

    def __init__(
        self, world: World, recorder: Recorder, failed: Callable[[str, Exception], object] | None = None
    ) -> None:
        self._world = world
        self._counts = recorder
        self._failed = failed or (lambda sentence, e: world.log(f"{sentence}: {e!r}", "warning"))
        self._sides: dict[Attachment, WatchedPod] = {}

    def get(self, attachment: Attachment) -> WatchedPod | None:
        """Return the attachment's pod, None if it is not watched."""
        return self._sides.get(attachment)

    def all(self) -> list[WatchedPod]:
        """Return every watched pod, oldest first."""
        return list(self._sides.values())

    def add(self, claim: Claim, *, earlier: bool) -> WatchedPod:
        """Watch the pod of ``claim`` from now on; a pod of an ``earlier`` agent is checked soon."""
        now = self._world.clock()
        side = self._sides[claim.attachment] = WatchedPod(claim, now)
        side.look_at(now + (len(self._sides) * APART_SECONDS if earlier else FIRST_SECONDS))
        return side

    def heard_by(self, side: WatchedPod, why_not: str) -> None:
        """Note whether the pod's events are read, and log ``why_not`` once."""
        side.listening = not why_not
        if why_not and why_not != side.deaf_because:
            sentence = f"{side.who}: the agent notices losses inside the pod late: {why_not}"
            self._world.log(sentence, "warning", **side.subject)
        side.deaf_because = why_not

    def drop(self, side: WatchedPod) -> None:
        """Watch it no longer."""
        if self._sides.get(side.attachment) is side:
            del self._sides[side.attachment]

    def look_at_all(self) -> None:
        """Check every pod soon."""
        now = self._world.clock()
        for position, side in enumerate(self._sides.values(), 1):
            side.look_at(now + position * APART_SECONDS)

    def lost(self) -> Mapping[Attachment, Lost]:
        """Return what live pods lack, as the last look into each found it."""
        return {side.attachment: side.lost for side in self.all() if side.lost}

    def due(self) -> Iterator[float]:
        """Yield when the next look into each pod is due."""
        return (side.due for side in self._sides.values() if side.due is not None)

    def begin_due(
        self, pool: ThreadPoolExecutor, world: World, tell: Callable[[Callable[[], None]], None]
    ) -> None:
        """Begin the looks that are due in ``pool``; each passes its result on through ``tell``."""
        now = self._world.clock()
        for side in self._sides.values():
            if side.due is not None and side.due <= now:
                side.begin(now)
                pool.submit(self._look, side, world, tell)

    def _look(self, side: WatchedPod, world: World, tell: Callable[[Callable[[], None]], None]) -> None:
        kept: RepairResult | None = None
        began = world.clock()
        try:
            if not world.cancelled():
                kept = repair_pod(side.attachment, replace(world, log=self._world.log))
        except CniError as e:
            self._world.log(f"{side.who}: cannot look into the pod: {e}", "warning", **side.subject)
        except Exception as e:  # noqa: BLE001 (one odd pod must not end the care for all)
            self._failed(f"{side.who}: cannot look into the pod", e)
        took = world.clock() - began
        tell(lambda: self._finish(side, kept, took))

    def _finish(self, side: WatchedPod, kept: RepairResult | None, took: float) -> None:
        side.end(kept, took, self._world.clock())
        if kept is None or kept.busy:
            return
        before = side.lost
        if not kept.lost or self._sides.get(side.attachment) is not side:
            side.lost = None
        else:
            side.lost = Lost(_first_texts(kept.lost), kept.lost_since)
        self._report(side, kept, before)

    def _report(self, side: WatchedPod, kept: RepairResult, before: Lost | None) -> None:
        def log(sentence: str, level: str = "info", *, event: str) -> None:
            self._world.log(f"{side.who}: {sentence}", level, event=event, **side.subject)

        if kept.raised:
            self._counts.repaired("link")
            message = f"{kept.raised}, the ENI's link below its interface, was down: brought up"
            log(message, event="link raised")
        if kept.repaired:
            self._counts.repaired("pod-route")
            log(f"put back into the pod: {'; '.join(_first_texts(kept.repaired))}", event="pod repaired")
        if side.lost and (before is None or before.what != side.lost.what):
            log(f"the pod is not as ADD left it: {'; '.join(side.lost.what)}", "warning", event="pod lost")
        elif before and not kept.lost and not kept.claim_ended:
            log("the pod is again as ADD left it", event="pod whole")


def _first_texts(what: tuple[str, ...]) -> tuple[str, ...]:
    more = (f"and {len(what) - SHOWN} more",) if len(what) > SHOWN else ()
    return (*(item[:SHOWN_CHARACTERS] for item in what[:SHOWN]), *more)
