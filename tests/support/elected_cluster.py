"""Simulated nodes with pods of one elected group. The test is its election, and says who holds it.

What a test has a node do goes on after its agent has died, as the election of the next agent would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cni_floatip.config.election import Elections
from cni_floatip.config.nodeconf import NodeConf
from cni_floatip.model.claim import Claim
from cni_floatip.model.errors import Ec2Error
from cni_floatip.model.route_write import WriteOutcome
from cni_floatip.model.values import Attachment
from cni_floatip.operations.take import Routes, record_role, release_for_good, write
from tests.fakes.election import FakeElection
from tests.support.cluster_with_pods import ClusterWithPods, Killed, NodeWithPods
from tests.support.simulated_cluster import FLOATING, POLICY, SimulatedCluster

PROOF = 1.5
TRIES = 12


class GroupElection(FakeElection):
    """The election of one node's agent, which knows the holder."""

    def __init__(self, cluster: ElectedCluster) -> None:
        super().__init__()
        self._cluster = cluster

    def holds(self, claim: Claim) -> bool:
        return claim.pod.uid == self._cluster.holder

    keeps = holds


class ElectedNode(NodeWithPods):
    """A node whose agent elects."""

    def __init__(
        self, cluster: SimulatedCluster, name: str, directory: Path, policy: NodeConf = POLICY
    ) -> None:
        super().__init__(cluster, name, directory, replace(policy, elections=Elections()))

    def start(self) -> None:
        assert isinstance(self.cluster, ElectedCluster)
        self.election = GroupElection(self.cluster)
        super().start()

    def add_elected(self, eni: int = 0, **keys: Any) -> Attachment:
        """Start a pod of the group."""
        attachment = self.add_pod(FLOATING, eni, activate="ready", **keys)
        assert attachment
        return attachment

    def uid(self, attachment: Attachment) -> str:
        return self.claim(attachment).pod.uid

    def routes(self, attachment: Attachment) -> Routes:
        claim = self.claims.get(attachment)
        keys = tuple(route.key for route in claim.routes) if isinstance(claim, Claim) else ()
        return Routes([attachment], keys, self.ec2())

    def take(self, attachment: Attachment) -> None:
        """Become active and write the routes."""

        def step() -> bool:
            if not record_role(self.world, [attachment], active=True):
                return False
            results = write(self.world, self.routes(attachment), self.cluster.clock() + PROOF)
            return all(result.outcome is WriteOutcome.WRITTEN for result in results)

        self.insist(step)

    def step_back(self, attachment: Attachment) -> None:
        self.insist(lambda: record_role(self.world, [attachment], active=False))

    def release(self, attachment: Attachment) -> None:
        """Delete the routes for good."""
        self.insist(
            lambda: release_for_good(self.world, self.routes(attachment), self.cluster.clock() + PROOF)
        )

    def insist(self, step: Callable[[], bool]) -> None:
        """Repeat a step until it is done, also after a death."""
        for _ in range(TRIES):
            try:
                if step():
                    return
            except Killed:
                self.rise()
            except Ec2Error:  # the node is cut off
                return
        raise AssertionError(f"{self.name}: not done after {TRIES} tries")


class ElectedCluster(ClusterWithPods):
    """A cluster of such nodes. ``holder``: the uid of the pod that holds the group."""

    nodes: dict[str, ElectedNode]  # type: ignore[assignment]
    node = ElectedNode

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.holder = ""
        super().__init__(*args, **kwargs)

    def elect(self, node: ElectedNode, attachment: Attachment) -> None:
        """Let a pod win the group: its node writes, and then the former's steps back."""
        self.holder = node.uid(attachment)
        node.take(attachment)
        for other in self.nodes.values():
            for claim in other.claims.all()[0]:
                if other.powered and claim.elected and claim.live and claim.pod.uid != self.holder:
                    other.step_back(claim.attachment)

    def empty(self, node: ElectedNode, attachment: Attachment) -> None:
        """Release the group of a pod that is gone and that nobody replaces."""
        node.release(attachment)
        self.holder = ""
