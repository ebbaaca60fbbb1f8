"""What one exploration is about: how many nodes and groups, what they claim, and which faults may happen.

Time is counted in ticks of one renewal, and the rules' durations are shrunk to a few of them (``SHRUNK``).
What is to happen never, or is another setting's subject, takes ``LONG``: it is beyond the horizon.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network
from typing import Any

from cni_floatip.election.member import GroupRules
from cni_floatip.election.timing import Timing
from cni_floatip.model.values import RouteKey

FAULTS = (
    "death",  # a node dies for good
    "crash",  # an agent is killed; it starts again at any time
    "stop",  # an agent ends and says so; it starts again at any time
    "iso",  # an agent is cut from the API, perhaps for good
    "api",  # the API is away for all
    "stall",  # a node's watches deliver nothing any more; its GETs are answered
    "late",  # an EC2 write is not answered, and lands later or never
    "slow",  # an EC2 write is answered later, when it lands
    "lost",  # a swap is applied, its answer is lost
    "stale",  # EC2 shows what was there before the last write
    "unready",  # a pod is not Ready; it may be again
    "term",  # a pod is deleted with a grace period
    "force",  # a pod is deleted without
    "newpod",  # a node where the pod has gone gets a new one
    "miss",  # a renewal is not answered and not applied
    "wipe",  # somebody deletes the routes
    "foreign",  # another writer, outside the cluster, takes the route once
    "ec2",  # a node's EC2 calls are not answered
    "readonly",  # a node's EC2 writes are not answered, its reads are
    "cordon",
    "uncordon",
    "grant",  # what was refused to a node is allowed: its marks end
    "boot",  # a node reboots; its pod keeps its uid, and an old Ready
    "replace",  # a node dies and another comes under its name, with an empty disk
    "unlease",  # somebody deletes a group Lease
    "unrenewed",  # somebody deletes a node Lease
    "move",  # an operator asks for a move to another node
    "probeloss",  # one probe of a living host is not answered
)
"""Each has a budget in ``World.left``, in this order."""

LONG = 1000.0
HORIZON = 64.0
AT_ONCE = GroupRules(unready=0.0)
"""An active that is not Ready offers in the same tick."""

DURATIONS: Mapping[str, Any] = dict(  # noqa: C408 - as Timing is written
    renew=1.0,
    lease=4.0,
    veto=6.0,
    reconcile=LONG,
    release_grace=2.0,
    proof=1.5,
    poll=LONG,
    api_gap=2.0,
    long_gap=3.0,
    long_gap_wait=5.0,
    suspicion=1.5,
    suspected_pod=1.0,
    probe_idle=LONG,
    probes=1,
    probe_veto=1.0,
    entry_check=LONG,
    entry_gap=0.0,
    empty_lease=LONG,
    looks=(1.0,),
    late_look=1.0,
    late_writes=LONG,
    standby_look=LONG,
    failed_look=1.0,
    look_patience=2.0,
    write_patience=1.0,
    offer_wait=1.0,
    quick_retry=1.0,
    retry=2.0,
    longest_retry=4.0,
    contested=2,
    contested_refill=LONG,
    dry_run=LONG,
    rank_delay=0.0,
    soft_offer=3.0,
    soft_memory=LONG,
    damping=4,
    damping_refill=2.0,
    unequal=LONG,
)
"""Every field of ``Timing``: a new one is thought about here first."""
SHRUNK = Timing(**DURATIONS)


@dataclass(frozen=True)
class Setting:
    """One system to explore. ``refused``: pairs of node and table that EC2 denies; ``full``: tables."""

    nodes: int = 2
    groups: int = 1
    faults: Mapping[str, int] = field(default_factory=dict)
    timing: Timing = SHRUNK
    tables: int = 1
    probe: bool = True
    refused: frozenset[tuple[int, int]] = frozenset()
    full: frozenset[int] = frozenset()
    shared: bool = False
    """Whether all groups claim one destination."""
    narrow: frozenset[int] = frozenset()
    """Nodes whose pods lack the second of two destinations."""
    zones: tuple[str, ...] = ()
    rules: GroupRules = AT_ONCE
    graceful: bool = False
    """Whether P4 is judged: only faults that leave the old pod time to serve on."""
    soft: bool = True
    """Whether P6 is judged."""
    grace: int = 2
    """Ticks that a pod which is deleted with a grace period serves on."""
    reconnect: int = 1
    """Ticks after an outage of the API until an agent's connection works again, at the most."""
    rivals: bool = False
    """Whether another writer takes the route again and again, not only once."""
    keep: bool = False
    settled: bool = True
    """Whether it begins with a pod of each group active and the others standby, or before any is Ready."""

    def destinations(self, group: int, node: int) -> tuple[IPv4Network, ...]:
        """Return what the pods of a group on a node claim."""
        own = [0 if self.shared else group]
        if self.narrow and node not in self.narrow:
            own.append(100 + own[0])
        return tuple(IPv4Network(f"192.168.0.{number + 1}/32") for number in own)

    def keys(self, group: int, node: int) -> tuple[RouteKey, ...]:
        """Return the routes that a pod of a group has when it is active on a node."""
        return tuple(
            RouteKey(f"rtb-{table}", destination)
            for destination in self.destinations(group, node)
            for table in range(self.tables)
        )

    def places(self) -> tuple[RouteKey, ...]:
        """Return every route of this system."""
        places = {
            key: None
            for group in range(self.groups)
            for node in range(self.nodes)
            for key in self.keys(group, node)
        }
        return tuple(places)

    def budget(self) -> tuple[int, ...]:
        """Return how often each fault may happen. Raises KeyError for one that is not known."""
        unknown = set(self.faults) - set(FAULTS)
        if unknown:
            raise KeyError(f"no such fault: {', '.join(sorted(unknown))}")
        return tuple(self.faults.get(fault, 0) for fault in FAULTS)

    def timed(self, **durations: object) -> Setting:
        """Return this setting with other durations."""
        return replace(self, timing=replace(self.timing, **durations))  # type: ignore[arg-type]
