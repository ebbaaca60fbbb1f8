"""EC2's request rate limits: a token bucket per action, account and Region.

Numbers from "Request throttling for the Amazon EC2 API", Amazon EC2 Developer Guide, "Request token bucket
sizes and refill rates": those of the actions that matter here, and the class limits for all others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Rate:
    """How many calls at once, and how many more per second."""

    burst: int
    refill: float


NON_MUTATING = Rate(100, 20)
UNFILTERED = Rate(50, 10)
MUTATING = Rate(50, 5)
UNCATEGORIZED = {
    "ModifyNetworkInterfaceAttribute": Rate(100, 5),
    "AssignPrivateIpAddresses": Rate(100, 5),
    "UnassignPrivateIpAddresses": Rate(100, 5),
}
EXPENSIVE_WHEN_UNFILTERED = ("DescribeInstances", "DescribeNetworkInterfaces")


def rate(action: str, params: Mapping[str, Any]) -> Rate:
    """Return the limit of one call."""
    if action in UNCATEGORIZED:
        return UNCATEGORIZED[action]
    if not action.startswith(("Describe", "Get", "List", "Search")):
        return MUTATING
    narrowed = any(params.get(key) for key in ("Filters", "MaxResults", "NextToken", "NetworkInterfaceIds"))
    return UNFILTERED if action in EXPENSIVE_WHEN_UNFILTERED and not narrowed else NON_MUTATING


class Buckets:
    """The buckets of all accounts, full at the start."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: dict[tuple[str, str], tuple[float, float]] = {}

    def take(self, account: str, action: str, params: Mapping[str, Any]) -> bool:
        """Take one token; false when there is none."""
        limit = rate(action, params)
        with self._lock:
            now = self._clock()
            left, since = self._tokens.get((account, action), (float(limit.burst), now))
            left = min(limit.burst, left + (now - since) * limit.refill)
            granted = left >= 1
            self._tokens[account, action] = (left - 1 if granted else left, now)
            return granted
