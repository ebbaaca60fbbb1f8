"""The watch: reads kernel events of each pod's namespace, follows addresses, and has lost routes restored.

It follows the addresses of pods that move them by themselves; losses are repaired in every live pod
(``watched_pods``). There is one socket per namespace, and one thread for all sockets. A few more threads look
up what an event means and act on it, so that no pod waits for another's EC2 calls. A socket keeps its
namespace alive, and the address in it. So it is closed within a second after the path is unlinked, and when
the claim or the interface ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue

from ...config.netconf import conf_of
from ...edges.podnet.events import AddressEvent, Event, Events, LinkGone, Overrun, open_events
from ...model.claim import Claim
from ...model.claim_state import State
from ...model.errors import CniError
from ...model.values import Attachment
from ...operations.sync_addresses import SyncResult, WatchRequest, sync_addresses
from ...operations.world import Vpc, World
from ..observe.recorder import Recorder
from . import watched_pods
from .history import AddressHistory, Dates
from .interface import OVERRUN_SECONDS, Allowance, WatchedInterface
from .namespaces import Namespace, NamespaceEvents
from .watch_log import WatchLog
from .watched_pods import WatchedPod, WatchedPods

AT_ONCE = 8
"""How many interfaces are checked, and their addresses claimed, concurrently."""
PATHS_SECONDS = 0.5
"""How often each namespace's path is checked."""
UNSEEN_SECONDS = 30.0
"""When to try again to watch a namespace that could not be seen or entered."""
FAILED_SECONDS = 1.0
"""How long the loop rests after a failed round."""

Listen = Callable[[Callable[[Attachment, Claim | None], None]], None]

InTheNameOf = Callable[[str, str, Callable[[], str | None]], Vpc]
"""Returns EC2 in a region, for a pod with a name, until the callable says why the pod needs it no more."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the rest of the agent gives to the watch.

    ``vpc`` returns EC2 for a pod, so that the pod keeps its place in the queue from one attempt to the next
    (default: the world's). ``beat`` is called each time the loop comes round, twice a second. ``failed`` gets
    every unexpected error.
    """

    vpc: InTheNameOf | None = None
    beat: Callable[[], None] = lambda: None
    listen_in: Callable[[str, int], Events] = open_events
    failed: Callable[[str, Exception], object] | None = None


class Watcher:
    """Follows interfaces of claims with ``watchAddresses``, keeps ``pods``. ``run`` is a thread's body."""

    def __init__(
        self,
        world: World,
        recorder: Recorder,
        appearances: AddressHistory,
        pods: WatchedPods,
        hooks: Hooks | None = None,
    ) -> None:
        hooks = hooks or Hooks()
        self._world = world
        self._log = WatchLog(world, recorder)
        self._history = appearances
        self._pods = pods
        self._vpc = hooks.vpc or (lambda region, _who, _stop: world.vpc(region))
        self._beat = hooks.beat
        self._failed = hooks.failed or (lambda sentence, e: world.log(f"{sentence}: {e!r}", "error"))
        self._broken: str | None = None
        self._news: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._watched: dict[Attachment, WatchedInterface] = {}
        self._namespaces = NamespaceEvents(hooks.listen_in)
        self._unseen: dict[Attachment, tuple[Claim, bool, float]] = {}
        self._paths_at = 0.0

    # -- for the rest of the agent --------------------------------------------------------------------

    def subscribe(self, listen: Listen) -> None:
        """Learn of the claims that an earlier agent left, and from now on of each change."""
        earlier = True

        def learn(attachment: Attachment, claim: Claim | None) -> None:
            was = earlier
            self._news.put(lambda: self._on_claim_change(attachment, claim, earlier=was))
            if not self._can_wait(attachment, claim):
                self._namespaces.wake()

        listen(learn)
        earlier = False

    def watching(self) -> dict[Attachment, str]:
        """Return the attachments that are followed, with their namespaces."""
        return {interface.attachment: interface.netns for interface in list(self._watched.values())}

    def look_at_pods(self) -> None:
        """Have every live pod checked, without waiting for it: a chore of the keeper."""
        self._enqueue(self._look_at_pods)

    def run(self, stop: threading.Event) -> None:
        """Follow until told to stop; a stop is noticed within half a second."""
        outer = self._world.cancelled
        world = replace(
            self._world, cancelled=lambda: "the node agent is shutting down" if stop.is_set() else outer()
        )
        with (
            ThreadPoolExecutor(AT_ONCE, "watch") as pool,
            ThreadPoolExecutor(watched_pods.AT_ONCE, "pods") as into_pods,
        ):
            try:
                while not stop.is_set():
                    self._broken = self._round(pool, into_pods, world)
                    self._beat()
                    if self._broken:
                        stop.wait(FAILED_SECONDS)
            finally:
                into_pods.shutdown(wait=True, cancel_futures=True)
                pool.shutdown(wait=True, cancel_futures=True)
                for attachment in list(self._watched):
                    self._drop(attachment)
                for side in self._pods.all():
                    self._keep_no_longer(side)
                self._namespaces.close()

    def problem(self) -> str | None:
        """Return the unexpected error of the last round, None for none."""
        return self._broken

    # -- the loop -------------------------------------------------------------------------------------

    def _round(self, pool: ThreadPoolExecutor, into_pods: ThreadPoolExecutor, world: World) -> str | None:
        """Do what is due; return an unexpected error. The rest is done in the next round."""
        try:
            self._turn(pool, world)
            self._pods.begin_due(into_pods, world, self._enqueue)
        except Exception as e:  # noqa: BLE001 (the cause may be on disk: the next agent would meet it too)
            self._failed("a round of the watcher failed unexpectedly", e)
            return f"the watch's last round failed: {e!r}"
        return None

    def _turn(self, pool: ThreadPoolExecutor, world: World) -> None:
        for namespace in self._namespaces.wait(self._pause()):
            now = self._world.clock()
            for event in self._namespaces.read(namespace, now):
                self._on_event(namespace, event, now)
        with suppress(Empty):
            while True:
                self._news.get_nowait()()
        now = self._world.clock()
        if now >= self._paths_at:
            self._paths_at = now + PATHS_SECONDS
            self._look_at_paths(now)
        self._namespaces.resume(now)
        for interface in self._watched.values():
            if interface.due is not None and interface.due <= now and not interface.running:
                pool.submit(self._look, interface, interface.begin(self._room(interface), now), world)

    def _room(self, watched: WatchedInterface) -> Callable[[int], int]:
        return lambda wanted: watched.allowance.take(wanted, self._world.clock())

    def _pause(self) -> float:
        due = [
            interface.due
            for interface in self._watched.values()
            if interface.due is not None and not interface.running
        ]
        due += [*self._namespaces.due(), *self._pods.due()]
        return max(0.0, min([self._paths_at, *due]) - self._world.clock())

    def _can_wait(self, attachment: Attachment, claim: Claim | None) -> bool:
        """Whether the loop's next round, half a second later at most, is soon enough to learn of a claim.

        It is for a new pod, unless its own addresses are watched: its ADD is about to answer, and is delayed
        by what else the agent does now. The first look into the pod finds what it loses until then.
        """
        new = claim is not None and claim.has_pod and self._pods.get(attachment) is None
        return new and not (claim and claim.watches)

    def _enqueue(self, news: Callable[[], None]) -> None:
        """Have the loop's thread call ``news``."""
        self._news.put(news)
        self._namespaces.wake()

    # -- what to watch --------------------------------------------------------------------------------

    def _on_claim_change(self, attachment: Attachment, claim: Claim | None, *, earlier: bool) -> None:
        self._keep(attachment, claim, earlier=earlier)
        known = self._watched.get(attachment)
        if claim is None or not claim.watches:
            self._drop(attachment, ended=True)
            return
        if known and (known.netns, known.inode) != (claim.netns, claim.netns_inode):
            self._drop(attachment)
            known = None
        if known is None:
            if claim.state is not State.CLAIMING:  # else its ADD is running, and we hear of its end
                self._begin(claim, earlier=earlier)
        elif known.claimed_at != claim.created_at:
            known.claimed_at = claim.created_at
            known.look_at(self._world.clock())

    def _begin(self, claim: Claim, *, earlier: bool) -> None:
        attachment, now = claim.attachment, self._world.clock()
        self._unseen[attachment] = (claim, earlier, now + UNSEEN_SECONDS)
        if self._world.inode(claim.netns) != claim.netns_inode:
            self._log.not_followed(attachment, f"its namespace {claim.netns} cannot be seen here")
            return
        try:
            self._open(claim, now, earlier=earlier)
        except CniError as e:
            self._log.not_followed(attachment, str(e))
            return
        except Exception as e:  # noqa: BLE001 (one odd pod must not end the watch of all)
            self._failed(f"{attachment}: its addresses cannot be followed", e)
            return
        del self._unseen[attachment]
        self._log.forget(attachment)

    def _open(self, claim: Claim, now: float, *, earlier: bool) -> None:
        attachment, inode = claim.attachment, claim.netns_inode
        conf = conf_of(claim)
        namespace = self._namespaces.open(claim.netns, inode)
        try:
            with self._world.kernel().open_pod(claim.netns, attachment.ifname) as pod:
                index = pod.link.index
        except CniError:
            self._namespaces.close_if_idle(inode)
            raise
        watched = WatchedInterface(
            attachment,
            claim.created_at,
            claim.netns,
            inode,
            index,
            frozenset(interface.ip for interface in claim.addresses),
            conf.watch_addresses,
            self._history.get(attachment) if earlier else {},
            Allowance(self._world.policy.watch_limits, now),
            who=claim.pod.uid or claim.pod.name or attachment.container,
            detects=conf.duplicate_address_detection,
        )
        watched.look_at(now)
        namespace.watched.append(watched)
        self._watched[attachment] = watched

    def _keep(self, attachment: Attachment, claim: Claim | None, *, earlier: bool) -> None:
        """Watch the pod of a live claim, and of no other."""
        known = self._pods.get(attachment)
        if claim is not None and not claim.has_pod:
            claim = None
        if known and (claim is None or (known.netns, known.inode) != (claim.netns, claim.netns_inode)):
            self._keep_no_longer(known)
            known = None
        if claim and known is None and claim.state is not State.CLAIMING:
            self._listen_for(self._pods.add(claim, earlier=earlier))

    def _keep_no_longer(self, side: WatchedPod) -> None:
        self._pods.drop(side)
        self._be_deaf_to(side)

    def _listen_for(self, side: WatchedPod) -> None:
        """Read the pod's events. Where that fails, the keeper's looks find losses, and try again."""
        if side.listening or self._world.inode(side.netns) != side.inode:
            return
        why_not = ""
        try:
            self._namespaces.open(side.netns, side.inode).sides.append(side)
        except CniError as e:
            why_not = str(e)
        self._pods.heard_by(side, why_not)

    def _be_deaf_to(self, side: WatchedPod) -> None:
        if side.listening:
            side.listening = False
            self._namespaces[side.inode].sides.remove(side)
            self._namespaces.close_if_idle(side.inode)

    def _look_at_pods(self) -> None:
        for side in self._pods.all():
            self._listen_for(side)
        self._pods.look_at_all()

    def _drop(self, attachment: Attachment, *, ended: bool = False) -> None:
        """Stop watching; with the last interface of a namespace its socket is closed."""
        watched = self._watched.pop(attachment, None)
        self._unseen.pop(attachment, None)
        self._log.forget(attachment)
        if watched:
            self._namespaces[watched.inode].watched.remove(watched)
            self._namespaces.close_if_idle(watched.inode)
        if ended:
            self._record_dates(attachment, None)

    def _look_at_paths(self, now: float) -> None:
        for side in self._pods.all():
            if side.listening and self._world.inode(side.netns) != side.inode:
                self._be_deaf_to(side)
        for interface in list(self._watched.values()):
            if self._world.inode(interface.netns) != interface.inode:
                self._log.path_is_gone(interface)
                self._drop(interface.attachment)
                claim = self._world.claims.get(interface.attachment)
                if isinstance(claim, Claim) and claim.watches:  # the path may be back before a DEL comes
                    self._unseen[interface.attachment] = (claim, True, now + UNSEEN_SECONDS)
        for claim, earlier, again in list(self._unseen.values()):
            if now >= again:
                self._begin(claim, earlier=earlier)

    # -- events ---------------------------------------------------------------------------------------

    def _on_event(self, namespace: Namespace, event: Event, now: float) -> None:
        for side in namespace.sides:
            if side.concerns(event):
                side.on_event(now)
        if isinstance(event, AddressEvent):
            self._handle_event(namespace, event, now)
        elif isinstance(event, LinkGone):
            for interface in namespace.watched:
                if interface.index == event.index:
                    interface.unplugged = True
                    interface.look_at(now)
        elif isinstance(event, Overrun) and namespace.watched:
            self._log.overrun()
            for interface in namespace.watched:
                interface.look_at(now + OVERRUN_SECONDS)

    def _handle_event(self, namespace: Namespace, event: AddressEvent, now: float) -> None:
        ip = event.interface.ip
        for interface in namespace.watched:
            if interface.index != event.index or not interface.concerns(ip):
                continue
            if not event.present:
                interface.on_vanished(ip, now)
            elif not (event.tentative and interface.detects):  # else another event says that it can be used
                interface.on_appeared(ip, now)
                self._log.hold_back(interface, now)

    # -- looks ----------------------------------------------------------------------------------------

    def _look(self, watched: WatchedInterface, request: WatchRequest, world: World) -> None:
        """Look at one interface and act on the result; in a thread of the pool."""
        result: SyncResult | None = None
        world = replace(world, vpc=lambda region: self._vpc(region, watched.who, world.cancelled))
        try:
            result = sync_addresses(request, world)
            if not result.busy and not result.claim_ended:
                self._record_dates(watched.attachment, result.dates)
        except CniError as e:
            error = str(e)
            self._enqueue(lambda: self._log.failure(watched, error))
        except Exception as e:  # noqa: BLE001 (one odd pod must not end the watch of all)
            error = f"{type(e).__name__}: {e}"
            self._enqueue(lambda: self._log.failure(watched, error))
        self._enqueue(lambda: self._finish(watched, request, result))

    def _finish(self, watched: WatchedInterface, request: WatchRequest, result: SyncResult | None) -> None:
        now = self._world.clock()
        watched.end(result, now)
        attachment = watched.attachment
        if self._watched.get(attachment) is not watched:  # dropped meanwhile
            if attachment not in self._watched:
                self._record_dates(attachment, None)
        elif result and not result.busy and (result.claim_ended or request.unplugged):
            self._drop(attachment)
        if result:
            self._log.result(watched, result, now)

    def _record_dates(self, attachment: Attachment, dates: Dates | None) -> None:
        try:
            self._history.record(attachment, dates)
        except OSError as e:
            self._world.log(f"cannot record the addresses of {attachment}: {e.strerror}", "warning")
