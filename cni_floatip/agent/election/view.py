"""What operations learn of the elections, from memory. The driver's thread replaces what is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...edges.kubernetes.resources import LEASES, NODES, PODS, Resource
from ...election.lease import GroupLease
from ...election.member import Member
from ...model.claim import Claim
from ...model.errors import ApiError, ApiFault, CniError, TryAgain
from ...model.values import Network
from ...operations.election import ElectedLook

NEEDED = tuple(resource.plural for resource in (LEASES, PODS, NODES))
"""What an agent must be allowed to read: without it nothing would ever be elected."""


class ElectionView:
    """``operations.election.Election`` of an agent with elections. For many threads; nothing here waits."""

    def __init__(self) -> None:
        self._groups: Mapping[Network, str] = {}
        self._keeps: dict[str, frozenset[str] | None] = {}
        self._holders: dict[str, str] = {}
        self._refusals: dict[tuple[str, str], str] = {}
        self._on_look: Callable[[ElectedLook], object] = lambda _: None

    # -- for operations -------------------------------------------------------------------------------

    def refusal(self) -> CniError | None:
        """Return the error of an ADD that asks for an election: while Kubernetes refuses the agent (11)."""
        reason = next(iter(self._refusals.copy().values()), None)
        return TryAgain(f"Kubernetes refuses this node's agent: {reason}") if reason else None

    def group_of(self, destination: Network) -> str | None:
        """Return the group that elects who has ``destination``, as far as the newest list shows one."""
        return self._groups.get(destination)

    def holds(self, claim: Claim) -> bool:
        """Return whether the claim's pod holds its group, as far as is known."""
        return bool(claim.pod.uid) and self._holders.get(group_name(claim)) == claim.pod.uid

    def keeps(self, claim: Claim) -> bool:
        """Return whether the election may still release routes of a claim that has ended."""
        kept = self._keeps.get(group_name(claim))
        return kept is None or not claim.pod.uid or claim.pod.uid in kept

    def on_look(self, look: ElectedLook) -> None:
        """Hand a look to the members that it concerns."""
        self._on_look(look)

    # -- for the rest of the elections ----------------------------------------------------------------

    def listen(self, on_look: Callable[[ElectedLook], object]) -> None:
        """Call ``on_look`` with every look from now on."""
        self._on_look = on_look

    def failed(self, error: ApiError) -> None:
        """Take note of a call that failed. Its action reads "GET leases/NAMESPACE/NAME"."""
        verb, _, what = error.action.partition(" ")
        plural = what.partition("/")[0]
        if error.fault is ApiFault.REFUSED and plural in NEEDED:
            self._refusals[verb, plural] = str(error)

    def answered(self, verb: str, resource: Resource) -> None:
        """Take note that Kubernetes does what it is asked for."""
        if self._refusals:
            self._refusals.pop((verb, resource.plural), None)

    def list_groups(self, leases: Mapping[str, GroupLease]) -> None:
        """Replace the list of groups."""
        self._groups = {
            network: lease.group
            for lease in leases.values()
            if lease.holder or lease.members
            for network in lease.destinations
        }

    def show(self, member: Member) -> None:
        """Take note of a member as it is now."""
        group = member.group
        holding, leftover = member.holding, member.leftover
        if holding and member.held_pod:
            self._holders[group] = holding.uid
        else:
            self._holders.pop(group, None)
        uids = {holding.uid if holding else "", leftover.uid if leftover else ""}
        self._keeps[group] = frozenset(uids) if member.known else None

    def forget(self, group: str) -> None:
        """Take note that there is no such member any more."""
        self._holders.pop(group, None)
        self._keeps.pop(group, None)


def group_name(claim: Claim) -> str:
    """Return NAMESPACE/GROUP, "" for a group that is not named yet."""
    return f"{claim.pod.namespace}/{claim.group}" if claim.group and claim.pod.namespace else ""
