"""What the agent counts, in its own words: the interface between the parts that count and the metrics.

The agent's parts call these methods; metrics turn them into series, tests record or ignore them. No method
blocks or raises, and every one may be called from any thread.
"""

from __future__ import annotations

from typing import Protocol


class Recorder(Protocol):
    """Where the agent reports events and gauges."""

    def call(self, verb: str, outcome: str, seconds: float) -> None:
        """One CNI call has ended: ``outcome`` is "ok", the CNI error code, or "cancelled"."""

    def ec2(self, action: str, outcome: str, seconds: float) -> None:
        """One request to EC2 or STS has ended: ``outcome`` is "ok", AWS's error code or the fault's name."""

    def throttled(self, action: str) -> None:
        """AWS has refused ``action`` because the account's request rate is used up."""

    def repaired(self, what: str) -> None:
        """The keeper has put something right: "route" "pod-route" "source-dest-check" "guard" ..."""

    def client_repaired(self) -> None:
        """The client's files were removed or damaged, and are whole again."""

    def superseded_live(self) -> None:
        """Another writer has pointed the route of a pod that lives here elsewhere."""

    def absent_fresh(self) -> None:
        """A route written a moment ago was found absent: the read was stale, or another writer removes it."""

    def spooled(self, n: int) -> None:
        """``n`` DELs lie in the spool now."""

    def watch(self, what: str) -> None:
        """Something about watched addresses: "appeared" "vanished" "refused" "limited" "overrun"."""

    def moved(self, why: str) -> None:
        """A group's holder is a pod of this node from now on: "death", "free", or why it was offered."""

    def contested(self) -> None:
        """Another writer keeps putting its own route in place of an elected pod's."""

    def renewed(self, gap: float) -> None:
        """The node Lease was renewed, so many seconds after the renewal before."""


class NullRecorder:
    """Counts nothing: for tests, and for an agent without metrics."""

    def call(self, verb: str, outcome: str, seconds: float) -> None: ...
    def ec2(self, action: str, outcome: str, seconds: float) -> None: ...
    def throttled(self, action: str) -> None: ...
    def repaired(self, what: str) -> None: ...
    def client_repaired(self) -> None: ...
    def superseded_live(self) -> None: ...
    def absent_fresh(self) -> None: ...
    def spooled(self, n: int) -> None: ...
    def watch(self, what: str) -> None: ...
    def moved(self, why: str) -> None: ...
    def contested(self) -> None: ...
    def renewed(self, gap: float) -> None: ...
