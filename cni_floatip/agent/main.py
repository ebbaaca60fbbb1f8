"""``floatipctl agent``: one process per node, warm, that alone owns the node's claims.

Assembles the agent's parts; no other module does. ``report`` tells what they know. The start has an order:
the data directory (alone), the claims that an earlier agent left, the DELs in the spool, then the socket, so
that every answer comes from an agent that knows them all. SIGTERM ends the agent. It releases as much as the
time allows, because a drained node is gone soon.
"""

from __future__ import annotations

import functools
import os
import random
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__, installer
from ..config import election
from ..config.nodeconf import NodeConf
from ..edges import host, imds, podnet
from ..edges.store import Store
from ..model.claim import Claim
from ..model.errors import ForeignProc, TryAgain
from ..model.values import Attachment
from ..operations.election import Election, NoElections
from ..operations.world import World
from ..protocol.request import Request
from . import process
from .claim_cache import ClaimCache
from .client_files import ClientFiles
from .ec2 import shared
from .ec2.newest_add import NewestAdd
from .ec2.ratelimit import Priority
from .guard import Guard
from .keeper.loop import Keeper
from .metadata import MetadataCache
from .observe import health, logs
from .observe.http_server import Pages
from .observe.metrics import Metrics
from .preparation import Preparation
from .recovery import monotonic_wall_clock, recover
from .report import Report
from .server.handler import AgentServices, CallHandler
from .server.server import Server
from .spool import Spool
from .supervisor import Supervisor
from .watch.history import AddressHistory
from .watch.watched_pods import WatchedPods
from .watch.watcher import Hooks, Watcher
from .worker_pool import WorkerPool

if TYPE_CHECKING:
    from .election.elections import AgentElections, Cluster
    from .election.view import ElectionView

OWN_SECONDS = 10.0
"""How long to wait until an ending agent, or a call in direct mode, leaves the data directory."""
CALLS_SECONDS = 16.0
"""How long calls may go on once the agent is to end; then they are told to stop writing."""
STOPPED_SECONDS = 3.0
DRAIN_SECONDS = 24.0
"""Until when a release may begin, counted from the wish to end. Kubernetes grants 30 s."""
LAST_SECONDS = 1.5
METADATA_SECONDS = 3.0
WATCH_SECONDS = 300.0
"""When a silent watch counts as dead; it comes round twice a second, and waits for disks only."""


def run(path: str, bin_dir: Path | None = None, bundle: Path | None = None) -> int:
    """Run the agent with the node configuration at ``path``; return the exit status. Raises CniError.

    With ``bin_dir`` it keeps the client there in repair, with the interpreter of ``bundle``.
    """
    policy = NodeConf.load(path)
    election.refuse_policy(policy.elections, path)
    log = logs.configure(policy.log_level, policy.log_format)
    store = Store(policy.data_dir, sleep=time.sleep, clock=host.clock)
    if not host.sees_itself():  # no call's descriptor could be opened
        raise ForeignProc
    with store.lock(OWN_SECONDS, as_agent=True) as alone:
        if not alone:
            raise TryAgain(
                f"the data directory {store} is in use by another node agent or a call in direct mode"
            )
        store.close_to_others()
        logs.take_over(log)
        process.tune()
        agent = Agent(policy, log, store)
        if bin_dir:
            agent.keep_client(bin_dir, bundle)
        status = agent.run()
        log.flush()
        if not agent.is_quiet:  # no thread may write once another process owns the directory
            os._exit(status)
        return status


class Agent:
    """Holds the agent's parts, and starts and ends them.

    ``cluster``: how elections reach Kubernetes; None: as the environment says, or InvalidConfig is raised.
    """

    def __init__(self, policy: NodeConf, log: logs.Log, store: Store, cluster: Cluster | None = None) -> None:
        self.policy = policy
        self.log = log
        self.supervisor = Supervisor(log)
        self.is_quiet = True
        self._seldom = logs.DedupLog(log)
        self._client: ClientFiles | None = None
        self.metrics = Metrics(__version__)
        now = monotonic_wall_clock(time.time, host.clock)
        self.claims = ClaimCache(store, now)
        self.ec2 = shared.SharedEc2(policy, self.metrics, host.clock, region=os.environ.get("AWS_REGION", ""))
        self.metadata = MetadataCache(_connect, host.clock)
        self.preparation = Preparation(self.ec2, self.metadata, self._seldom)
        self.report = Report(self)
        self._view: ElectionView | None = _election_view() if policy.elections else None
        self.world = self._world(now, self._view or NoElections())
        self.since = self.world.now()
        self.guard = Guard(self.world, self.metrics)
        self.newest_add = NewestAdd()
        rounds = health.Heartbeat("the keeper", max(900, 20 * policy.reconcile_seconds))
        self.pods = WatchedPods(self.world, self.metrics, self._seldom.failure)
        known = AddressHistory(policy.data_dir, self.world.boot())
        followed = health.Heartbeat("the watch", WATCH_SECONDS)
        self.watch = Watcher(
            replace(self.world, log=log),
            self.metrics,
            known,
            self.pods,
            Hooks(vpc=self._ec2_for_pod, beat=followed.beat, failed=self._seldom.failure),
        )
        self.keeper = Keeper(
            self.world,
            self.metrics,
            present=self._present,
            urgent=self.ec2.for_call,
            chores=(self.guard.check_all, self.watch.look_at_pods, rounds.beat),
            failed=self._seldom.failure,
        )
        self.elections = self._elections(self._view, cluster) if self._view else None
        ways = AgentServices(
            self._call_ec2,
            self.metadata,
            self.report.not_ready,
            self.report.broken,
            self.report.status,
            self._work_off_spool,
        )
        self.calls = CallHandler(self.world, ways, self.metrics, log)
        self.spool = Spool(policy.spool_dir, self.calls.spooled, self.metrics, log, log.failure)
        self.accepting = health.Milestone("the socket does not accept calls yet")
        self.health = health.Health(
            [rounds, followed],
            [
                self.accepting,
                self.preparation.credentials,
                self.keeper.ready_problem,
                self.watch.problem,
                self.supervisor.problem,
            ],
        )

    def keep_client(self, bin_dir: Path, bundle: Path | None) -> None:
        """Keep the client in ``bin_dir`` in repair, once the agent runs."""
        bundle = bundle or installer.default_bundle()
        install = functools.partial(installer.install_client, bin_dir, self.policy, bundle=bundle)
        self._client = ClientFiles(bin_dir, install, self.metrics, self.log)
        self.health.alive.append(self._client.fatal_problem)
        self.health.ready.append(self._client.problem)

    def run(self) -> int:
        """Run from the first claim read to the last released; return the exit status."""
        began = time.monotonic()
        self.supervisor.install_signal_handlers()
        pages = Pages(health.pages(self.policy, self.health, self.metrics.page), log=self.log)
        self.metrics.before_page(self.report.show)
        ended = recover(self.world)
        self.attend()
        for record in self.claims.all()[1]:
            self.log(f"ignored an unreadable claim file: {record}", "warning")
        self.spool.prepare()
        self.spool.process_all()
        server = Server(self.policy.socket_path, self.calls, self.log, woken=self.ec2.wake)
        self.supervisor.start("socket", server.run, last=True, again=False)
        self.supervisor.start("pages", pages.run, last=True, again=False)
        self.supervisor.start("spool", self.spool.run)
        self.supervisor.start("keeper", self.keeper.run)
        self.supervisor.start("watch", self.watch.run, again=False)
        self.supervisor.start("credentials", self.preparation.run)
        if self._client:
            self.supervisor.start("client", self._client.run)
        for name, body in self.elections.bodies() if self.elections else ():
            self.supervisor.start(name, body, last=True)
        process.spare_what_stays()
        self.accepting.reach()
        self.log(
            "ready",
            release=__version__,
            socket=self.policy.socket_path,
            claims=len(self.claims.all()[0]),
            ended=ended,
            seconds=time.monotonic() - began,
        )
        self.supervisor.wait()
        self._end(server)
        return int(self.supervisor.failed)

    def attend(self) -> None:
        """Subscribe every part to the claims: those that there are, and each change from now on."""
        self.guard.subscribe(self.claims.listen)
        self.claims.listen(self.newest_add.on_claim)
        self.claims.listen(self.keeper.on_claim_change)
        self.claims.listen(self._wake_waiting)
        self.watch.subscribe(self.claims.listen)
        if self.elections:
            self.elections.attend(self.claims.listen)

    def _end(self, server: Server) -> None:
        """Finish running calls, then release what can be released. A second signal cuts both short."""
        began = time.monotonic()
        self.log("ending: no new calls")
        server.close()
        if self.elections:
            self.elections.begin_ending()
        self.keeper.wake()  # so that it ends without sleeping first
        patience = 0.0 if self.supervisor.failed else CALLS_SECONDS
        while (
            server.wait(0.1)
            and time.monotonic() < began + patience
            and not self.supervisor.force_exit.is_set()
        ):
            pass
        working: list[str] = []
        if server.wait(0):
            server.stop_calls("the node agent is shutting down")
            working = server.wait(STOPPED_SECONDS)
        for name in working:
            self.log(f"{name} is still running: the next agent finishes it", "warning")
        drained = True
        left = began + DRAIN_SECONDS - time.monotonic()
        if not self.supervisor.failed and not self.supervisor.force_exit.is_set() and left > 0:
            self.log("releasing the routes of ended claims now, without waiting for their grace to end")
            drained = self.supervisor.in_time(lambda: self.keeper.drain(host.clock() + left), left, "drain")
        self.supervisor.final_stop.set()
        if self.elections:
            self.elections.close()
        self.is_quiet = self.supervisor.join(LAST_SECONDS) and drained and not working
        self.log("ended", seconds=time.monotonic() - began)

    def _world(self, now: Callable[[], float], election: Election) -> World:
        boot, kernel = host.boot(), podnet.RememberingKernel()
        return World(
            policy=self.policy,
            on_delete="release",
            claims=self.claims,
            kernel=lambda: kernel,
            metadata=self.metadata,
            vpc=lambda region: self.ec2.for_call(region, shared.Caller(Priority.KEEPER)),
            boot=lambda: boot,
            inode=host.inode,
            namespaces=host,
            clock=host.clock,
            now=now,
            sleep=time.sleep,
            jitter=random.random,
            log=self._seldom,  # repeated looks would repeat the same sentences
            cancelled=lambda: None,
            wake_keeper=self._wake_keeper,
            election=election,
            run_in_thread=WorkerPool(),
        )

    def _elections(self, view: ElectionView, cluster: Cluster | None) -> AgentElections:
        """Return the elections. Their modules are loaded only where they are on. Raises CniError."""
        from .election.ec2_calls import ElectedPod
        from .election.elections import AgentElections, AgentParts, Cluster

        def caller(pod: ElectedPod) -> shared.CallEc2:
            caller = shared.Caller(Priority.ADD, who=pod.uid, group=pod.namespace)
            return self.ec2.for_call(pod.region, caller)

        parts = AgentParts(
            caller=caller,
            look=self.keeper.look_soon,
            is_cut_off=self.keeper.is_cut_off,
            run_in_thread=WorkerPool(),
            failed=self._seldom.failure,
        )
        return AgentElections(
            replace(self.world, log=self._seldom),
            view,
            cluster or Cluster.of_pod(os.environ),
            parts,
            self.metrics,
        )

    def _wake_keeper(self) -> None:
        self.keeper.wake()

    def _wake_waiting(self, _: Attachment, claim: Claim | None) -> None:
        """Wake the waiting ADDs, so that one that was deleted sees it."""
        if claim and claim.deleted_at and not claim.state.live:
            self.ec2.wake()

    # -- what calls ask for ---------------------------------------------------------------------------------

    def _call_ec2(
        self, region: str, request: Request, stop: Callable[[], str | None], until: float
    ) -> shared.CallEc2:
        urgent = Priority.ADD if request.verb in ("ADD", "CHECK") else Priority.KEEPER
        caller = shared.Caller(
            urgent,
            stop,
            who=request.pod.uid or request.pod.name or request.attachment.container,
            group=request.pod.namespace,
            fresh=request.verb == "CHECK",
            until=until,
            superseded_by=lambda key: self.newest_add.superseded_by(request.attachment, key),
        )
        return self.ec2.for_call(region, caller)

    def _ec2_for_pod(self, region: str, who: str, stop: Callable[[], str | None]) -> shared.CallEc2:
        return self.ec2.for_call(region, shared.Caller(Priority.WATCH, stop, who=who))

    def _work_off_spool(self, attachment: Attachment) -> bool:
        return self.spool.process_owner(attachment.container, attachment.ifname)

    def _present(self) -> Collection[str]:
        """Return the ENIs that this node has. Raises CniError."""
        metadata = self.metadata(host.clock() + METADATA_SECONDS)
        return frozenset(metadata.interface_id(mac) for mac in metadata.macs())


def _election_view() -> ElectionView:
    from .election.view import ElectionView

    return ElectionView()


def _connect(deadline: float) -> imds.Metadata:
    endpoint = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "")
    return imds.Metadata(deadline, endpoint=endpoint, clock=host.clock)
