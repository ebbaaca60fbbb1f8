"""The outcome of one route write for an elected pod, as its election judges it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .errors import Ec2Fault
from .values import RouteKey


class WriteOutcome(Enum):
    """What became of the write of one route. Only an ``UNANSWERED`` one may be applied later."""

    WRITTEN = "written"
    NOT_ENI = "a route that is not an ENI's is in its place (101)"
    FULL = "the table, or a quota, is full, or the table is gone"
    DENIED = "access denied, or EC2 refuses it for good"
    POLICY = "the node's policy does not give it (102)"
    THROTTLED = "throttled, no turn came, or another writer was quicker: no refusal"
    UNANSWERED = "no answer, a server error, or no credentials"
    NOT_SENT = "not sent: its proof had become too old, or the pod ended"

    @classmethod
    def of(cls, fault: Ec2Fault) -> WriteOutcome:
        """Return what an EC2 error means to the election."""
        return _OUTCOMES[fault]


_OUTCOMES = {
    Ec2Fault.ROUTE_EXISTS: WriteOutcome.THROTTLED,
    Ec2Fault.NO_ROUTE: WriteOutcome.THROTTLED,
    Ec2Fault.NO_TABLE: WriteOutcome.FULL,
    Ec2Fault.NO_ENI: WriteOutcome.DENIED,
    Ec2Fault.THROTTLED: WriteOutcome.THROTTLED,
    Ec2Fault.UNANSWERED: WriteOutcome.UNANSWERED,
    Ec2Fault.NOT_SENT: WriteOutcome.UNANSWERED,
    Ec2Fault.BUSY: WriteOutcome.THROTTLED,
    Ec2Fault.DENIED: WriteOutcome.DENIED,
    Ec2Fault.QUOTA: WriteOutcome.FULL,
    Ec2Fault.REFUSED: WriteOutcome.DENIED,
}


@dataclass(frozen=True, slots=True)
class RouteWrite:
    """One try at pointing ``key`` at an active's ENI. ``why``: the error in words, "" if it was applied."""

    key: RouteKey
    outcome: WriteOutcome
    why: str = ""
