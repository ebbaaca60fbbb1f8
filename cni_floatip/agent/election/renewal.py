"""The thread that renews this node's Lease: by it other nodes know that the agent lives.

It has a client of its own and shares no lock with calls of the runtime, not even the log's. What it is to do
is one attribute, set by the driver. It reads by itself which Node this is, because the Lease names the uid
of the Node and this boot: a node that comes back under its name is another holder.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ...edges.kubernetes.resources import LEASES, NODES
from ...election.lease import LeaseError, NodeLease
from ...election.node import (
    Holds,
    OwnNodeLeaseRead,
    ReadOwnNodeLease,
    Renewal,
    RenewalFailed,
    Renewed,
    RenewNodeLease,
)
from ...election.timing import PAST
from ...model.errors import ApiError, ApiFault
from .api_calls import Api
from .objects import node_of

LONGEST_WAIT = 0.5
"""Seconds: within this time a stop is noticed."""


@dataclass(frozen=True, slots=True)
class RenewalReport:
    """How renewals go, for people: ``at`` is of the newest (clock); ``error``: why the newest try failed."""

    at: float = PAST
    error: str = ""


class NodeRenewal:
    """Renews while ``renew`` says so. ``run`` is the thread's body; other methods are for other threads."""

    def __init__(
        self,
        api: Api,
        renewal: Renewal,
        boot: str,
        namespace: str,
        clock: Callable[[], float],
        on_gap: Callable[[float], object],
    ) -> None:
        """``renewal`` names its node and has no identity yet; ``boot`` is a part of that.

        ``on_gap`` learns how many seconds lay between two renewals, in this thread.
        """
        self.report = RenewalReport()
        self._on_gap = on_gap
        self._api = api
        self._boot = boot
        self._namespace = namespace
        self._clock = clock
        self._renewal = renewal
        self._wanted = (False, False)
        self._woken = threading.Event()
        self._renew_time = 0

    # -- for other threads ----------------------------------------------------------------------------

    def renew(self, holds: bool) -> None:
        """Renew from now on, at once for the first time, or do not."""
        self._want(holds, self._wanted[1])

    def announce_absence(self) -> None:
        """From now on each renewal says that the agent ends, and comes back."""
        self._want(self._wanted[0], True)

    def _want(self, holds: bool, ending: bool) -> None:
        if self._wanted != (holds, ending):
            self._wanted = (holds, ending)
            self._woken.set()

    # -- the thread -----------------------------------------------------------------------------------

    def run(self, stop: threading.Event) -> None:
        """Renew until told to stop. The last renewal of an agent that ends announces its absence."""
        while not stop.is_set():
            self._woken.wait(self.turn())
            self._woken.clear()

    def turn(self) -> float:
        """Do what is due; return for how many seconds nothing is."""
        holds, ending = self._wanted
        renewal = self._renewal
        if (renewal.holds, renewal.ending) != (holds, ending):
            if not holds:
                self.report = RenewalReport()
            self._renewal = renewal = renewal.on(Holds(self._clock(), holds, ending))
        if renewal.wants(self._clock()) and (renewal.identity or self._learn_identity()):
            for wish in self._renewal.wants(self._clock()):
                match wish:
                    case ReadOwnNodeLease():
                        self._read()
                    case RenewNodeLease():
                        self._put(wish.lease)
        return max(0.0, min(self._renewal.next_at(self._clock()) - self._clock(), LONGEST_WAIT))

    def _learn_identity(self) -> bool:
        """Read the Node: its Lease names it, and is collected with it."""
        name = self._renewal.node
        try:
            node = node_of(self._api.get(NODES, name))
        except ApiError as e:
            return self._failed(str(e))
        if node is None:
            return self._failed(f"the API's answer for the node {name} is no node")
        self._renewal = replace(self._renewal, identity=f"{node.uid}/{self._boot}", owner=node.uid)
        return True

    def _read(self) -> None:
        renewal = self._renewal
        lease: NodeLease | None = None
        try:
            lease = NodeLease.parse(self._api.get(LEASES, NodeLease(renewal.node).name, self._namespace))
        except LeaseError as e:
            self._failed(str(e))
            return
        except ApiError as e:
            if e.fault is not ApiFault.NOT_FOUND:
                self._failed(str(e))
                return
        self._renewal = renewal.on(OwnNodeLeaseRead(self._clock(), lease))

    def _put(self, lease: NodeLease) -> None:
        began = self._clock()
        document = lease.document(self._namespace, self._next_time())
        try:
            write = self._api.replace if lease.uid else self._api.create
            renewed = Renewed(self._clock(), began, NodeLease.parse(write(LEASES, document)))
        except LeaseError as e:
            self._failed(str(e))
            return
        except ApiError as e:
            if not e.fault.is_current:
                self._failed(str(e))
                return
            # Perhaps the Node was made anew, and its Lease collected with the former one.
            self._renewal = replace(self._renewal.on(Renewed(self._clock(), began, None)), identity="")
            return
        self._renewal = self._renewal.on(renewed)
        if self.report.at > PAST:
            self._on_gap(began - self.report.at)
        self.report = RenewalReport(began)

    def _failed(self, error: str) -> bool:
        self._renewal = self._renewal.on(RenewalFailed(self._clock()))
        self.report = replace(self.report, error=error)
        return False

    def _next_time(self) -> str:
        """Return this moment, later than the one before: what changes nothing would look like silence."""
        self._renew_time = max(self._renew_time + 1, int(time.time() * 1_000_000))
        moment = datetime.fromtimestamp(self._renew_time / 1_000_000, UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
