"""Which pods of which group this node has claims of: from the claims on disk, and from Kubernetes.

A group is formed when its pod is first seen to run, because by then its runtime has made all ADDs. Its name
is recorded in the claims, so after a restart of the agent it is there at once. Used by one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from ...config.election import ElectionConf, default_group
from ...config.netconf import conf_of
from ...config.nodeconf import NodeConf
from ...election.fitness import ElectedInterface, PodClaims
from ...model.claim import Claim
from ...model.claim_state import State
from ...model.errors import CniError
from ...model.values import Attachment, Network
from .objects import PodView
from .view import group_name

PodName = tuple[str, str]
"""Namespace and name of a pod."""


@dataclass(frozen=True, slots=True)
class ClaimJudge:
    """What decides about claims beside themselves.

    ``epoch``: the time since the epoch at moment 0 of the clock of events. ``is_cut_off``: whether this node
    lacks the claim's ENI.
    """

    policy: NodeConf
    epoch: float
    is_cut_off: Callable[[Attachment], bool]


@dataclass(slots=True)
class PodBook:
    """Elected claims by their pods, and the pods as Kubernetes has them."""

    judge: ClaimJudge
    _claims: dict[Attachment, Claim] = field(default_factory=dict)
    _by_group: dict[str, dict[Attachment, Claim]] = field(default_factory=dict)
    _pods: dict[str, PodView] = field(default_factory=dict)

    # -- what is learnt -------------------------------------------------------------------------------

    def see_claim(self, attachment: Attachment, claim: Claim | None) -> Collection[str]:
        """Take note of a claim (None: erased); return the groups that this may change."""
        before = self._claims.pop(attachment, None)
        former = group_name(before) if before else ""
        if former:
            there = self._by_group[former]
            del there[attachment]
            if not there:
                del self._by_group[former]
        group = ""
        if claim is not None and claim.elected:
            self._claims[attachment] = claim
            group = group_name(claim)
            if group:
                self._by_group.setdefault(group, {})[attachment] = claim
        return {name for name in (former, group) if name}

    def see_pod(self, pod: PodView) -> None:
        """Take note of a pod of this node."""
        self._pods[pod.uid] = pod

    def forget_pod(self, uid: str) -> None:
        """Take note that a pod is no more."""
        self._pods.pop(uid, None)

    def keep_pods(self, pods: Iterable[PodView]) -> Collection[str]:
        """Replace all pods by these; return the uids of those that are no more."""
        now = {pod.uid: pod for pod in pods}
        gone = self._pods.keys() - now.keys()
        self._pods = now
        return gone

    # -- what follows ---------------------------------------------------------------------------------

    def unnamed(self) -> Iterator[tuple[Attachment, str]]:
        """Yield the claims whose group can be named now, with that name (without its namespace)."""
        ready = [claim for claim in self._claims.values() if claim.group == "" and claim.live]
        for claim in ready:
            if claim.state is State.CLAIMING or not (pod := self.pod(claim)) or not pod.ran:
                continue
            together = [other for other in self._claims.values() if self.uid(other) == pod.uid]
            free = [other for other in together if _conf(other).group is None]
            addresses = [address.ip for other in free for address in other.addresses]
            if addresses:
                yield claim.attachment, default_group(addresses)

    def unformed(self) -> frozenset[PodName]:
        """Return the pods whose groups cannot be named yet, because nobody has seen them run."""
        return frozenset(
            (claim.pod.namespace, claim.pod.name)
            for claim in self._claims.values()
            if claim.group == "" and claim.live and claim.pod.name
        )

    def groups(self) -> Collection[str]:
        """Return the groups that this node has claims of."""
        return [group for group, claims in self._by_group.items() if any(map(_counts, claims.values()))]

    def groups_of(self, uid: str) -> Collection[str]:
        """Return the groups that a pod's claims are of."""
        return [
            group
            for group, claims in self._by_group.items()
            if any(self.uid(claim) == uid for claim in claims.values())
        ]

    def pods_of(self, group: str) -> tuple[PodClaims, ...]:
        """Return the pods of a group, in the order of their uids."""
        by_uid: dict[str, list[Claim]] = {}
        for claim in self._by_group.get(group, {}).values():
            if _counts(claim) and (uid := self.uid(claim)):
                by_uid.setdefault(uid, []).append(claim)
        return tuple(self._pod_claims(uid, by_uid[uid]) for uid in sorted(by_uid))

    def claims_of(self, group: str, uid: str) -> list[Claim]:
        """Return a pod's claims in a group, also of former sandboxes, oldest first."""
        claims = [it for it in self._by_group.get(group, {}).values() if self.uid(it) == uid]
        return sorted(claims, key=lambda claim: claim.created_at)

    def conf_of(self, group: str) -> ElectionConf:
        """Return how the newest claim of a group wants to be elected."""
        claims = filter(_counts, self._by_group.get(group, {}).values())
        newest = max(claims, key=lambda claim: claim.created_at, default=None)
        return _conf(newest) if newest else ElectionConf()

    def pod(self, claim: Claim) -> PodView | None:
        """Return the pod of a claim as Kubernetes has it."""
        if claim.pod.uid:
            return self._pods.get(claim.pod.uid)
        name = claim.pod.namespace, claim.pod.name  # an old runtime tells no uid
        return next((pod for pod in self._pods.values() if (pod.namespace, pod.name) == name), None)

    def pod_by_uid(self, uid: str) -> PodView | None:
        """Return a pod of this node."""
        return self._pods.get(uid)

    def name_of(self, uid: str) -> PodName | None:
        """Return the name of a pod that a claim is of."""
        for claim in self._claims.values():
            if self.uid(claim) == uid:
                return claim.pod.namespace, claim.pod.name
        return None

    def uid(self, claim: Claim) -> str:
        """Return the uid of a claim's pod, "" where it is not known yet."""
        pod = self.pod(claim)
        return claim.pod.uid or (pod.uid if pod else "")

    def _pod_claims(self, uid: str, claims: list[Claim]) -> PodClaims:
        """Return one pod's claims in a group; a former sandbox's count only while there is no other."""
        live = [claim for claim in claims if claim.live]
        newest = max(live or claims, key=lambda claim: claim.created_at)
        mine = [claim for claim in claims if claim.attachment.container == newest.attachment.container]
        routes = [route for claim in mine for route in claim.routes]
        policy, namespace = self.judge.policy, newest.pod.namespace
        allowed = all(
            policy.allows_destination(route.key.destination, namespace)
            for route in routes
            if route.state.live
        )
        ended = [claim.deleted_at or claim.last_write_at for claim in mine if not claim.live]
        return PodClaims(
            uid=uid,
            pod=newest.pod.name,
            added=int(min(claim.created_at for claim in mine)),
            interfaces=tuple(
                ElectedInterface(claim.eni, _destinations(claim))
                for claim in sorted(mine, key=lambda claim: claim.attachment.ifname)
            ),
            keys=tuple(sorted({route.key for route in routes}, key=str)),
            complete=all(self._is_complete(claim) for claim in mine),
            allowed=allowed,
            keep=newest.on_delete == "keep",
            active_on_disk=any(route.state is State.ACTIVE for route in routes),
            ended_at=None if live else max(ended) - self.judge.epoch,
        )

    def _is_complete(self, claim: Claim) -> bool:
        """Whether the interface is added, and its ENI here."""
        return (
            claim.live and claim.state is not State.CLAIMING and not self.judge.is_cut_off(claim.attachment)
        )


def _counts(claim: Claim) -> bool:
    """Whether a claim concerns its group: it lives, or what it had is not released yet."""
    return claim.live or any(route.state is State.RELEASING for route in claim.routes)


def _destinations(claim: Claim) -> tuple[Network, ...]:
    networks = {route.key.destination for route in claim.routes}
    return tuple(sorted(networks, key=lambda network: (network.version, network)))


def _conf(claim: Claim) -> ElectionConf:
    try:
        return conf_of(claim).election
    except CniError:  # of another release
        return ElectionConf()
