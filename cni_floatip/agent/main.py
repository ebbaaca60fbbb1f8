"""``floatipctl agent``: one process per node, warm, that has the node's claims for itself.

Everything is put together here and nowhere else. In this order: the data directory (alone), what an earlier
agent left, the DELs that wait in the spool, then the socket: whoever is answered is answered by an agent that
knows it all. It ends on SIGTERM with as little left to do as the time allows: a drained node is gone soon.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import random
import resource
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..config.nodeconf import NodeConf
from ..edges import host, imds, podnet
from ..edges.store import Store
from ..model.claim import Claim
from ..model.errors import CniError, Ec2Error, TryAgain
from ..model.values import Attachment, Node
from ..operations.world import World
from ..protocol.request import Request
from .claim_cache import Memory
from .ec2 import shared
from .ec2.newest_add import Wishes
from .ec2.ratelimit import Priority
from .guard import Guard
from .keeper.loop import Keeper
from .metadata import Remembered
from .observe import health, logs, status
from .observe.http_server import Pages
from .observe.metrics import Metrics
from .observe.redaction import redact
from .recovery import end_abandoned, steady
from .server.handler import Calls, Ways
from .server.server import Server
from .spool import Spool
from .supervisor import Life
from .watch.history import Appearances
from .watch.pod_sides import PodSides
from .watch.watcher import Hooks, Watch
from .worker_pool import Crew

if TYPE_CHECKING:
    from .client_files import ClientFiles

OWN_SECONDS = 10.0
"""How long to wait for an agent that is ending, or a call in direct mode, to leave the data directory."""
CALLS_SECONDS = 16.0
"""How long calls may go on once the agent is to end; then they are told to write no more."""
STOPPED_SECONDS = 3.0
DRAIN_SECONDS = 24.0
"""When the last release begins no more, counted from the wish to end. Kubernetes grants 30 s."""
LAST_SECONDS = 1.5
CREDENTIALS_SECONDS = 5.0
WARM_SECONDS = 30.0
RES_OPTIONS = "timeout:1 attempts:2"
"""resolv.conf(5); the default is 5 s, twice, and Amazon Linux says 2 s, five times."""
METADATA_SECONDS = 3.0
WATCH_SECONDS = 300.0
"""After which a watch that does not come round is dead; it does twice a second, and waits for disks only."""
M_ARENA_MAX, ARENAS = -8, 2
"""Of mallopt(3). Python runs one thread at a time, so they are hardly ever in each other's way."""
SHOWN = 3
"""How many broken routes an answer to STATUS names."""


def run(path: str, bin_dir: Path | None = None, bundle: Path | None = None) -> int:
    """Run the agent with the node configuration at ``path``; return the exit status. Raises CniError.

    With ``bin_dir`` it keeps the client there in repair, with the interpreter of ``bundle``.
    """
    policy = NodeConf.load(path)
    log = logs.configure(policy.log_level, policy.log_format)
    store = Store(policy.data_dir, sleep=time.sleep, clock=host.clock)
    with store.own(alone=True, seconds=OWN_SECONDS) as alone:
        if not alone:
            raise TryAgain(
                f"the data directory {store} is in use by another node agent or a call in direct mode"
            )
        store.close_to_others()
        logs.take_over(log)
        _enough_descriptors()
        _few_arenas()
        _short_name_resolution()
        agent = Agent(policy, log, store)
        if bin_dir:
            agent.keep_client(bin_dir, bundle)
        status = agent.run()
        log.flush()
        if not agent.is_quiet:  # a thread that still writes must not do so once the directory is another's
            os._exit(status)
        return status


class Agent:
    """The parts of the agent and how they hold together."""

    def __init__(self, policy: NodeConf, log: logs.Log, store: Store) -> None:
        self.policy = policy
        self.log = log
        self.life = Life(log)
        self.is_quiet = True
        self._seldom = logs.Seldom(log)
        self._node: Node | None = None
        self._client: ClientFiles | None = None
        self.metrics = Metrics(__version__)
        self.claims = Memory(store)
        self.aws = shared.Warm(policy, self.metrics, host.clock, region=os.environ.get("AWS_REGION", ""))
        self.metadata = Remembered(_connect, host.clock)
        self.world = self._world()
        self.since = self.world.now()
        self.guard = Guard(self.world, self.metrics)
        self.wishes = Wishes()
        rounds = health.Heartbeat("the keeper", max(900, 20 * policy.reconcile_seconds))
        self.pods = PodSides(self.world, self.metrics, self._seldom.failure)
        known = Appearances(policy.data_dir, self.world.boot())
        followed = health.Heartbeat("the watch", WATCH_SECONDS)
        self.watch = Watch(
            replace(self.world, log=log),
            self.metrics,
            known,
            self.pods,
            Hooks(vpc=self._watched, beat=followed.beat, failed=self._seldom.failure),
        )
        self.keeper = Keeper(
            self.world,
            self.metrics,
            present=self._present,
            urgent=self.aws.view,
            chores=(self.guard.look, self.watch.look_at_pods, rounds.beat),
            failed=self._seldom.failure,
        )
        ways = Ways(
            self._view, self.metadata, self._not_ready, self._broken, self._status, self._work_off_spool
        )
        self.calls = Calls(self.world, ways, self.metrics, log)
        self.spool = Spool(policy.spool_dir, self.calls.spooled, self.metrics, log)
        self.accepting = health.Once("the socket does not accept calls yet")
        self.credentials = health.Once("no AWS credentials have been seen yet")
        self.health = health.Health(
            [rounds, followed],
            [
                self.accepting,
                self.credentials,
                self.keeper.ready_problem,
                self.watch.problem,
                self.life.problem,
            ],
        )

    def keep_client(self, bin_dir: Path, bundle: Path | None) -> None:
        """Keep the client in ``bin_dir`` in repair, once the agent runs."""
        from .. import installer  # not every agent needs it
        from .client_files import ClientFiles

        bundle = bundle or installer.default_bundle()
        install = functools.partial(installer.install_client, bin_dir, self.policy, bundle=bundle)
        self._client = ClientFiles(bin_dir, install, self.metrics, self.log)
        self.health.alive.append(self._client.deadly)
        self.health.ready.append(self._client.problem)

    def run(self) -> int:
        """Live from the first claim read to the last released; return the exit status."""
        began = time.monotonic()
        self.life.obey_signals()
        pages = Pages(health.pages(self.policy, self.health, self.metrics.page), log=self.log)
        self.metrics.before_page(self._gauge)
        ended = end_abandoned(self.world)
        self.attend()
        for record in self.claims.all()[1]:
            self.log(f"a claim file that nothing is done about: {record}", "warning")
        self.spool.prepare()
        self.spool.work_off()
        server = Server(self.policy.socket_path, self.calls, self.log, woken=self.aws.wake)
        self.life.start("socket", server.run, last=True, again=False)
        self.life.start("pages", pages.run, last=True, again=False)
        self.life.start("spool", self.spool.run)
        self.life.start("keeper", self.keeper.run)
        self.life.start("watch", self.watch.run, again=False)
        self.life.start("credentials", self._see_credentials)
        if self._client:
            self.life.start("client", self._client.run)
        self.accepting.happened()
        self.log(
            "ready",
            release=__version__,
            socket=self.policy.socket_path,
            claims=len(self.claims.all()[0]),
            ended=ended,
            seconds=time.monotonic() - began,
        )
        self.life.wait()
        self._end(server)
        return int(self.life.failed)

    def attend(self) -> None:
        """Let every part learn of the claims that there are, and from now on of each change."""
        self.guard.attend(self.claims.listen)
        self.claims.listen(self.wishes.learn)
        self.claims.listen(self.keeper.changed)
        self.claims.listen(self._wake_waiting)
        self.watch.attend(self.claims.listen)

    def _end(self, server: Server) -> None:
        """Finish what is under way, then release what can be released. A hurry ends either."""
        began = time.monotonic()
        self.log("ending: no new calls")
        server.close()
        self.keeper.wake()  # it ends, too, and need not sleep first
        patience = 0.0 if self.life.failed else CALLS_SECONDS
        while server.wait(0.1) and time.monotonic() < began + patience and not self.life.hurried.is_set():
            pass
        working: list[str] = []
        if server.wait(0):
            server.stop_calls("the node agent is ending")
            working = server.wait(STOPPED_SECONDS)
        for name in working:
            self.log(f"{name}: still at work: the next agent ends it", "warning")
        drained = True
        left = began + DRAIN_SECONDS - time.monotonic()
        if not self.life.failed and not self.life.hurried.is_set() and left > 0:
            self.log("releasing what has ended, with no more grace")
            drained = self.life.in_time(lambda: self.keeper.drain(host.clock() + left), left, "drain")
        self.life.over.set()
        self.is_quiet = self.life.join(LAST_SECONDS) and drained and not working
        self.log("ended", seconds=time.monotonic() - began)

    def _world(self) -> World:
        boot = host.boot()
        return World(
            policy=self.policy,
            on_delete="release",
            claims=self.claims,
            kernel=lambda: podnet,
            metadata=self.metadata,
            vpc=lambda region: self.aws.view(region, shared.Caller(Priority.KEEPER)),
            boot=lambda: boot,
            inode=host.inode,
            namespaces=host,
            clock=host.clock,
            now=steady(time.time, host.clock),
            sleep=time.sleep,
            jitter=random.random,
            log=self._seldom,  # whoever looks again and again says the same again
            stop=lambda: None,
            later=self._wake_keeper,
            spawn=Crew(),
        )

    def _wake_keeper(self) -> None:
        self.keeper.wake()

    def _wake_waiting(self, _: Attachment, claim: Claim | None) -> None:
        """Let an ADD that waits for its turn see that it was deleted."""
        if claim and claim.deleted and not claim.state.live:
            self.aws.wake()

    # -- threads ------------------------------------------------------------------------------------------

    def _see_credentials(self, stop: threading.Event) -> None:
        """See once that there are credentials; then have EC2 ready before the first ADD wants it."""
        while problem := self.aws.credentials_problem():
            self._seldom(problem, "warning")
            self.credentials.because(redact(problem))
            if stop.wait(CREDENTIALS_SECONDS):
                return
        self.credentials.happened()
        while not self._prepared():
            if stop.wait(CREDENTIALS_SECONDS):
                return
        stop.wait()

    def _prepared(self) -> bool:
        """See which node this is, and have EC2 ready: it is only sooner ready for the first ADD."""
        try:
            self._node = self.metadata(host.clock() + WARM_SECONDS).node()
            self.aws.warm(self._node.region)
        except (CniError, Ec2Error) as e:
            self._seldom(f"EC2 does not answer yet: {e}", "warning")
        except Exception as e:  # noqa: BLE001
            self._seldom.failure("EC2 could not be prepared", e)
        else:
            return True
        return False

    # -- what calls ask for ---------------------------------------------------------------------------------

    def _view(self, region: str, asked: Request, stop: Callable[[], str | None], until: float) -> shared.View:
        urgent = Priority.ADD if asked.verb in ("ADD", "CHECK") else Priority.KEEPER
        caller = shared.Caller(
            urgent,
            stop,
            who=asked.pod.uid or asked.pod.name or asked.attachment.container,
            group=asked.pod.namespace,
            fresh=asked.verb == "CHECK",
            until=until,
            dropped=lambda place: self.wishes.dropped(asked.attachment, place),
        )
        return self.aws.view(region, caller)

    def _watched(self, region: str, who: str, stop: Callable[[], str | None]) -> shared.View:
        return self.aws.view(region, shared.Caller(Priority.WATCH, stop, who=who))

    def _work_off_spool(self, attachment: Attachment) -> bool:
        return self.spool.work_off_for(attachment.container, attachment.ifname)

    def _not_ready(self) -> str | None:
        return " | ".join(self.health.problems()) or None

    def _broken(self) -> str | None:
        """Say which routes of pods that are here lead elsewhere, or nowhere, as looks have shown."""
        seen = self.keeper.sightings()
        found = [
            f"{route.place} leads to {seen[route.place].target or 'nothing'}"
            for claim in self.claims.all()[0]
            for route in claim.routes
            if route.place in seen and self.keeper.outage(claim, route)
        ]
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        return ", ".join(found[:SHOWN]) + more or None

    def _present(self) -> Collection[str]:
        """Return the ENIs that this node has. Raises CniError."""
        metadata = self.metadata(host.clock() + METADATA_SECONDS)
        return frozenset(metadata.interface_id(mac) for mac in metadata.macs())

    def _gauge(self) -> None:
        show(self.metrics, self.keeper, self.claims.all()[0])
        self.metrics.ready(not self.health.problems())
        self.metrics.unguarded(len(self.guard.problems))
        self.metrics.incomplete_pods(len(self.pods.lost()))

    def _status(self) -> Mapping[str, Any]:
        claims, records = self.claims.all()
        facts = status.Facts(
            release=__version__,
            pid=os.getpid(),
            since=self.since,
            node=self._node,
            name=os.environ.get("NODE_NAME", ""),
            problems=self.health.problems(),
            warnings=[
                *(f"ENI {mac}: {problem}" for mac, problem in self.guard.problems.items()),
                *(f"ENI {mac}: {use}" for mac, use in self.guard.uses.items()),
                *status.beyond_limits(claims, self.policy.limits),
            ],
            spooled=self.spool.length(),
            waiting=self.spool.waiting(),
        )
        looks = status.Looks(self.keeper.sightings(), self.keeper.outage, self.pods.lost())
        return status.document(facts, claims, records, looks, now=self.world.now())


def show(metrics: Metrics, keeper: Keeper, claims: Sequence[Claim]) -> None:
    """Let the gauges show what is known of ``claims``."""
    metrics.claims(status.by_state(claims))
    metrics.routes(status.routes_by_state(claims, keeper.outage))
    metrics.addresses(status.served(claims, keeper.outage))
    metrics.looked(keeper.last_look())


def _connect(deadline: float) -> imds.Metadata:
    endpoint = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "")
    return imds.Metadata(deadline, endpoint=endpoint, clock=host.clock)


def _few_arenas() -> None:
    """Let all threads share memory: glibc gives each an arena, which keeps what a burst of calls needed."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)


def _short_name_resolution() -> None:
    """Give up a name sooner than after 10 s, before the first is asked for: no time-out of ours covers it."""
    os.environ.setdefault("RES_OPTIONS", RES_OPTIONS)


def _enough_descriptors() -> None:
    """Let 512 calls and the sockets in all pods' namespaces have theirs."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536) if hard > 0 else 65536, hard))
