"""Assembles the elections of one agent, and starts and ends them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...edges.kubernetes.account import SERVICE_ACCOUNT, ServiceAccount
from ...edges.kubernetes.client import CallTimes, KubernetesClient
from ...edges.kubernetes.follow import Follower
from ...edges.kubernetes.resources import LEASES, NODES, PODS, Document, Listing, Resource
from ...edges.kubernetes.servers import ApiServers
from ...election.node import Renewal, Surroundings
from ...election.timing import Timing
from ...model.errors import ApiError, ApiFault, InvalidConfig, IoFailure
from ...model.values import Attachment
from ...operations.world import World
from ..observe.recorder import Recorder
from . import probe
from .api_calls import ApiCalls, heard
from .driver import Driver, DriverHooks
from .ec2_calls import Ec2Calls, ElectedPod, ElectedVpc
from .followers import Following, Learners, OwnNode, leases_in, pods_of
from .hosts import Hosts
from .intake import Intake
from .lanes import Lanes
from .notices import Notices
from .observer import Observer
from .pods import ClaimJudge, PodBook
from .polls import Polls
from .renewal import NodeRenewal
from .view import ElectionView
from .wishes import WishCalls

if TYPE_CHECKING:
    from ...model.claim import Claim

PROBES_PART = 0.9
"""A probe takes at most this part of the pause between two, because they do not overlap."""
Body = Callable[[threading.Event], object]


@dataclass(frozen=True, slots=True)
class AgentParts:
    """What elections need of the agent, beside its World.

    ``caller`` returns EC2 for a pod, ranked with ADDs. ``look`` has the keeper read routes soon.
    ``is_cut_off``: whether this node lacks a claim's ENI. ``run_in_thread``: as ``World.run_in_thread``, of
    threads that ADDs do not use. ``failed`` gets unexpected errors. ``probe``: whether a host answers at a
    port within so many seconds (None: nothing is learnt).
    """

    caller: Callable[[ElectedPod], ElectedVpc]
    look: Callable[[], object]
    is_cut_off: Callable[[Attachment], bool]
    run_in_thread: Callable[[Callable[[], None]], None]
    failed: Callable[[str, Exception], object]
    probe: Callable[[str, int, float], bool | None] = probe.answers


@dataclass(frozen=True, slots=True)
class Cluster:
    """How this agent reaches Kubernetes. ``node``: the name of its node. ``servers``: their addresses."""

    node: str
    servers: ApiServers
    account: Path = SERVICE_ACCOUNT

    @classmethod
    def of_pod(cls, environ: Mapping[str, str]) -> Cluster:
        """Return what the environment of the agent's pod says. Raises InvalidConfig."""
        node = environ.get("NODE_NAME", "")
        if not node:
            raise InvalidConfig("elections need NODE_NAME in the agent's environment: the chart sets it")
        try:
            return cls(node, ApiServers.of_pod(environ))
        except ValueError as e:
            raise InvalidConfig(f"elections need Kubernetes: {e}") from e


class AgentElections:
    """The elections of one agent. ``view`` is what its operations ask."""

    def __init__(
        self, world: World, view: ElectionView, cluster: Cluster, parts: AgentParts, recorder: Recorder
    ) -> None:
        """``world`` has ``elections`` in its policy."""
        policy = world.policy.elections
        if policy is None:
            raise ValueError("the policy has no elections")
        self._world = world
        self._view = view
        self._parts = parts
        self._node, self._leases = cluster.node, leases_in(policy.namespace)
        timing = Timing.of(policy, world.policy.reconcile_seconds, world.policy.release_grace_seconds)
        times = CallTimes(hedge=timing.renew / 2)
        account = ServiceAccount(cluster.account)
        self._client, own = (KubernetesClient(account, cluster.servers, times) for _ in range(2))
        self._clients = (self._client, own)
        renewal = Renewal(cluster.node, "", "", timing)
        self.renewal = NodeRenewal(
            own, renewal, world.boot(), policy.namespace, world.clock, recorder.renewed
        )
        self.observer = Observer(view, recorder, world.log)
        epoch = world.now() - world.clock()
        self._book = PodBook(ClaimJudge(world.policy, epoch, parts.is_cut_off))
        surroundings = Surroundings(cluster.node, epoch=int(epoch), timing=timing)
        self._calls = self._wish_calls(timing, policy.namespace)
        hooks = DriverHooks(
            call=self._calls.call,
            look=parts.look,
            failed_call=self._calls.failed_call,
            changed=self.observer.changed,
            renew=self.renewal.renew,
            failed=parts.failed,
        )
        self.driver = Driver(surroundings, Lanes(parts.run_in_thread), world.clock, hooks)
        self.intake = Intake(
            self.driver, self._book, view, world.clock, self._name_group, on_cordon=policy.on_cordon
        )
        self._polls = Polls(self._read_all, world.clock)
        self._pods = Following(
            lambda: Follower(self._client, pods_of(self._node)),
            self._learners(PODS, self.intake.on_pods, self.intake.on_pod),
        )
        self._groups = Following(
            lambda: Follower(self._client, self._leases),
            self._learners(LEASES, self.intake.on_leases, self.intake.on_lease),
        )
        self._own = Following(
            lambda: OwnNode(self._client, self._node),
            self._learners(NODES, self.intake.on_nodes, self.intake.on_node),
        )

    def _wish_calls(self, timing: Timing, namespace: str) -> WishCalls:
        """Return what does what members want."""
        world, client, parts = self._world, self._client, self._parts
        probe_seconds = PROBES_PART * timing.lease / 2 / timing.probes
        api = ApiCalls(client, namespace, world.clock, timing.renew, self._api_failed, self._view.answered)
        hosts = Hosts(client, world.clock, probe_seconds, timing.renew, self._api_failed, parts.probe)
        notices = Notices(client, self._node, world.clock, world.now, self._api_failed)
        ec2 = Ec2Calls(world, parts.caller, lambda: self.intake.withheld)
        return WishCalls(api, ec2, hosts, notices, self._book, world.clock, timing.renew)

    # -- starting and ending --------------------------------------------------------------------------

    def bodies(self) -> Iterator[tuple[str, Body]]:
        """Yield the threads: their names and bodies. They run until the agent's very end."""
        yield "renewal", self.renewal.run
        yield "elections", self._run
        yield "polls", self._polls.run
        yield "pods", self._pods.run
        yield "leases", self._groups.run
        yield "node", self._own.run

    def attend(self, listen: Callable[[Callable[[Attachment, Claim | None], None]], None]) -> None:
        """Learn of the claims that there are, and of each change from now on; form the groups on disk."""
        listen(self.intake.on_claim)
        self._view.listen(self.intake.on_look)
        self.driver.post(self.intake.meet)

    def begin_ending(self) -> None:
        """The agent ends: each renewal from now on announces its absence."""
        self.renewal.announce_absence()

    def status(self) -> list[dict[str, Any]]:
        """Return the groups with pods here, for ``floatipctl status``. For any thread."""
        return self.observer.document(self._world.clock(), self._world.now())

    def summary(self) -> tuple[Mapping[str, int], float]:
        """Return how many groups have each role, and how old the oldest proof of an active is (seconds)."""
        return self.observer.summary(self._world.clock())

    def close(self) -> None:
        """End connections and watches, once the threads are to end."""
        for following in (self._pods, self._groups, self._own):
            following.end()
        for client in self._clients:
            client.close()

    def _run(self, stop: threading.Event) -> None:
        for client in self._clients:
            client.keep_servers_current()
        self._pods.want(True)
        self._own.want(True)
        self.driver.run(stop, self._beat)

    def _beat(self) -> None:
        """Follow the Leases only while this node has a member: each renewal of each node is an event."""
        busy = bool(self.driver.members)
        self._groups.want(busy)
        self._polls.be_busy(busy or bool(self.intake.unformed))

    # -- for its parts --------------------------------------------------------------------------------

    def _name_group(self, attachment: Attachment, name: str) -> None:
        """Record the name of a group, in another thread; the claim listener learns of it."""

        def record() -> None:
            try:
                self._world.claims.update(attachment, lambda claim: replace(claim, group=claim.group or name))
            except IoFailure as e:
                self._world.log(f"{attachment}: the name of its group is not on disk: {e}", "warning")

        self._parts.run_in_thread(record)

    def _read_all(self) -> bool:
        """Read all Leases, this node, and pods whose groups are to be formed; false: one was not answered."""
        began = self._world.clock()
        try:
            self.intake.on_leases(self._client.list(self._leases), began)
            self._view.answered("LIST", LEASES)
            self.intake.on_node(self._client.get(NODES, self._node), False)
            self._view.answered("GET", NODES)
            for namespace, name in self.intake.unformed:
                self._read_pod(namespace, name)
        except ApiError as e:
            self._failed_and_heard(e)
            return False
        return True

    def _read_pod(self, namespace: str, name: str) -> None:
        """Read a pod whose group is to be formed: the watch may have missed that it runs. Raises ApiError."""
        try:
            self.intake.on_pod(self._client.get(PODS, name, namespace), False)
        except ApiError as e:
            if e.fault is not ApiFault.NOT_FOUND:
                raise

    def _api_failed(self, error: ApiError) -> None:
        """Take note of a call that failed: in the log once in a while, not for each group."""
        self._view.failed(error)
        self._world.log(f"the Kubernetes API: {error.fault.value}", "warning", error=str(error))

    def _learners(
        self,
        resource: Resource,
        listed: Callable[[Listing], object],
        changed: Callable[[Document, bool], object],
    ) -> Learners:
        """Return who learns what a watch shows; what one missed is read anew."""

        def list_is_here(listing: Listing) -> None:
            self._view.answered("LIST", resource)
            listed(listing)

        def change_is_here(document: Document, is_gone: bool) -> None:
            self._view.answered("WATCH", resource)
            changed(document, is_gone)

        return Learners(list_is_here, change_is_here, self._failed_and_heard)

    def _failed_and_heard(self, error: ApiError) -> None:
        self._api_failed(error)
        self.driver.post(partial(self.driver.tell_all, heard(error, self._world.clock())))
