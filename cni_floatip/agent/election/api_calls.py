"""Makes the calls to Kubernetes that members want, and says what their answers mean to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ...edges.kubernetes.resources import LEASES, PODS, Document, Resource
from ...election.events import (
    DeleteGroup,
    GroupRead,
    GroupSwapped,
    GroupUnreadable,
    PodRead,
    ReadGroup,
    ReadNodeLease,
    ReadPod,
    Swap,
    SwapGroup,
)
from ...election.lease import GroupLease, LeaseError, NodeLease
from ...election.node import ApiAnswered, ApiFailed, NodeLeaseRead
from ...model.errors import ApiError, ApiFault
from .driver import CallAnswer
from .objects import pod_of


class Api(Protocol):
    """The door to the Kubernetes API; see ``edges.kubernetes.client``. Every method raises ApiError."""

    def get(self, resource: Resource, name: str, namespace: str = "") -> Document: ...
    def create(self, resource: Resource, document: Mapping[str, Any]) -> Document: ...
    def replace(self, resource: Resource, document: Mapping[str, Any]) -> Document: ...
    def delete(self, resource: Resource, document: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class ApiCalls:
    """Calls for members. For many threads. ``namespace`` has the Leases; ``rest`` follows a failed call.

    ``on_error`` and ``on_answer`` (verb, resource) learn how the API answers.
    """

    api: Api
    namespace: str
    clock: Callable[[], float]
    rest: float
    on_error: Callable[[ApiError], object]
    on_answer: Callable[[str, Resource], object]

    def read_group(self, wish: ReadGroup) -> CallAnswer:
        """GET a group Lease."""
        began = self.clock()  # before it is sent: a proof is as old as its question
        try:
            document = self.api.get(LEASES, GroupLease(wish.group).name, self.namespace)
        except ApiError as e:
            if e.fault is ApiFault.NOT_FOUND:
                return self._answer("GET", LEASES, GroupRead(self.clock(), began, None))
            return self._failure(e)
        try:
            lease = GroupLease.parse(document)
        except LeaseError as e:
            return self._answer("GET", LEASES, GroupUnreadable(self.clock(), str(e)))
        return self._answer("GET", LEASES, GroupRead(self.clock(), began, lease))

    def read_node_lease(self, wish: ReadNodeLease) -> CallAnswer:
        """GET a node Lease. One that cannot be read is as silent as none."""
        began = self.clock()
        lease: NodeLease | None = None
        try:
            lease = NodeLease.parse(self.api.get(LEASES, NodeLease(wish.node).name, self.namespace))
        except LeaseError:
            pass
        except ApiError as e:
            if e.fault is not ApiFault.NOT_FOUND:
                return self._failure(e)
        self.on_answer("GET", LEASES)
        return CallAnswer(node=NodeLeaseRead(self.clock(), began, wish.node, lease))

    def read_pod(self, wish: ReadPod, namespace: str) -> CallAnswer:
        """GET a pod."""
        began = self.clock()
        pod = None
        try:
            pod = pod_of(self.api.get(PODS, wish.pod, namespace))
        except ApiError as e:
            if e.fault is not ApiFault.NOT_FOUND:
                return self._failure(e)
        status = pod.status if pod and pod.uid == wish.uid else None
        return self._answer("GET", PODS, PodRead(self.clock(), began, wish.uid, status))

    def swap(self, wish: SwapGroup) -> CallAnswer:
        """PUT a group Lease with uid and resourceVersion, or POST the first."""
        began = self.clock()
        document = wish.lease.document(self.namespace)
        verb, write = ("PUT", self.api.replace) if wish.lease.uid else ("POST", self.api.create)
        try:
            lease = GroupLease.parse(write(LEASES, document))
        except LeaseError:  # the API changed what we wrote: a GET tells
            return self._answer(verb, LEASES, GroupSwapped(self.clock(), began, Swap.UNKNOWN))
        except ApiError as e:
            return self._swap_failure(verb, e, began)
        return self._answer(verb, LEASES, GroupSwapped(self.clock(), began, Swap.DONE, lease))

    def delete(self, wish: DeleteGroup) -> CallAnswer:
        """DELETE a group Lease that is as it was read."""
        began = self.clock()
        lease = GroupLease(wish.group, wish.uid, wish.version)
        try:
            self.api.delete(LEASES, lease.document(self.namespace))
        except ApiError as e:
            return self._swap_failure("DELETE", e, began)
        return self._answer("DELETE", LEASES, GroupSwapped(self.clock(), began, Swap.DONE))

    def _swap_failure(self, verb: str, e: ApiError, began: float) -> CallAnswer:
        at = self.clock()
        outcome = swap_outcome(e.fault)
        event = GroupSwapped(at, began, outcome)
        if outcome is Swap.CONFLICT:
            return self._answer(verb, LEASES, event)
        self.on_error(e)
        return CallAnswer(event, heard(e, at), self.rest)

    def _answer(self, verb: str, resource: Resource, event: Any) -> CallAnswer:
        self.on_answer(verb, resource)
        return CallAnswer(event, ApiAnswered(event.at))

    def _failure(self, e: ApiError) -> CallAnswer:
        self.on_error(e)
        return CallAnswer(node=heard(e, self.clock()), rest=self.rest)


def heard(e: ApiError, at: float) -> ApiAnswered | ApiFailed:
    """Return what an error says of the API: whether it answered at all. One that is busy did not."""
    return ApiFailed(at) if e.fault.is_transient else ApiAnswered(at)


def swap_outcome(fault: ApiFault) -> Swap:
    """Return what an error means for a PUT, POST or DELETE: whether it was applied."""
    if fault.is_unknown:
        return Swap.UNKNOWN
    return Swap.CONFLICT if fault.is_current else Swap.REFUSED
