"""Removes blackhole routes that dead nodes left inside a declared range, one by one.

A claim is on its node's disk, and a terminated node takes it along. Its routes stay as blackholes that no
keeper repairs and that count against the table's quota. So an administrator names the range, and the sweep
removes each blackhole in it whose network interface is gone, or attached to nothing. An interface that is
still attached belongs to a stopped instance, and its route works again when the instance starts.

EC2 has no conditional delete. The sweep reads the route right before the delete, at most five seconds
earlier. An ADD of another node in that moment may still lose its new route; its keeper creates it again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Protocol

from ..config.nodeconf import NodeConf, needs_exact_entry
from ..model import cidr
from ..model.errors import Ec2Error, Ec2Fault, PolicyRefused
from ..model.values import Network, RouteKey, RouteTable, RouteTarget
from .reads import owner_account, read
from .world import Vpc, World
from .write_routes import FRESH_SECONDS, Backoff, table_now

READ_SECONDS = 60.0
"""How long looking for blackholes may take."""
ROUTE_SECONDS = 60.0
"""How long one route is tried; a transient error that lasts longer ends the sweep, which can be run again."""
PAUSE_SECONDS = 0.4
"""Between two deletes: half of what EC2 gives the whole account (5 a second) is left to others."""


class SweepVpc(Vpc, Protocol):
    """EC2 that also says where network interfaces are. Raises Ec2Error."""

    def attachments(self, enis: Sequence[str], account: str = "") -> dict[str, str]: ...


class Outcome(Enum):
    """The outcome for one blackhole."""

    REMOVED = "removed"
    TO_REMOVE = "to be removed"
    KEPT = "kept"
    GONE = "gone already"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Blackhole:
    """A route without a working target, as the sweep found it. ``account`` owns the table ("": we do)."""

    key: RouteKey
    target: RouteTarget
    region: str
    account: str

    def __str__(self) -> str:
        return f"{self.key} -> {self.target}"


@dataclass(frozen=True, slots=True)
class SweepResult:
    """One blackhole, and what was done about it."""

    blackhole: Blackhole
    outcome: Outcome
    why: str = ""

    def __str__(self) -> str:
        return f"{self.blackhole}: {self.outcome.value}" + (f": {self.why}" if self.why else "")


@dataclass(frozen=True, slots=True)
class _OwnVpc:
    """One VPC in which this node has network interfaces."""

    vpc: str
    region: str
    account: str
    cidrs: tuple[Network, ...]


def sweep(
    world: World,
    ec2: Callable[[str], SweepVpc],
    ranges: Sequence[Network],
    *,
    stopped: bool = False,
    dry_run: bool = False,
    tell: Callable[[SweepResult], None] = lambda _: None,
) -> list[SweepResult]:
    """Remove blackholes of dead nodes inside ``ranges`` in the VPCs of this node; ``tell`` of each at once.

    ``stopped``: also routes to interfaces that are still attached. Raises CniError when nothing could be
    read; failures of single routes are in the results.
    """
    refuse_ranges(ranges, world.policy)
    done: list[SweepResult] = []

    def note(swept: SweepResult) -> None:
        done.append(swept)
        tell(swept)

    around, own = _here(world, ec2)
    todo: list[tuple[_Evaluation, Blackhole]] = []
    for vpc in around:
        judge = _Evaluation(world, ec2(vpc.region), vpc, ranges, own, stopped=stopped)
        for blackhole, reason in judge.find_blackholes():
            if reason:
                note(SweepResult(blackhole, Outcome.KEPT, reason))
            elif dry_run:
                note(SweepResult(blackhole, Outcome.TO_REMOVE))
            else:
                todo.append((judge, blackhole))
    _remove_all(world, todo, note)
    return done


def refuse_ranges(ranges: Sequence[Network], policy: NodeConf) -> None:
    """Raise PolicyRefused for every range that can hold no floating IP, or that policy does not allow."""
    given = ", ".join(str(entry.cidr) for entry in policy.allowed_destinations) or "nothing"
    complaints = []
    for network in ranges:
        if reason := cidr.never(network):
            complaints.append(f"--range {network}: {reason}: never a destination")
        elif not any(cidr.within(network, entry.cidr) for entry in policy.allowed_destinations):
            complaints.append(
                f"--range {network} is not inside allowedDestinations of the node configuration ({given})"
            )
    if complaints:
        raise PolicyRefused(" | ".join(complaints))


def _here(world: World, ec2: Callable[[str], SweepVpc]) -> tuple[list[_OwnVpc], frozenset[str]]:
    """Return the VPCs of this node's interfaces, with the owners of their tables, and the interfaces."""
    deadline = world.clock() + READ_SECONDS
    metadata = world.metadata(deadline)
    try:
        region = metadata.node().region
        enis = [metadata.eni(mac) for mac in metadata.macs()]
    finally:
        metadata.close()
    vpcs = {}
    for eni in enis:
        if eni.vpc in vpcs:
            continue
        find_owner = partial(owner_account, ec2(region), world.policy.roles, eni.subnet)
        account = read(world, deadline, f"subnet of {eni.id}", find_owner)
        vpcs[eni.vpc] = _OwnVpc(eni.vpc, region, account, eni.vpc_cidrs)
    return list(vpcs.values()), frozenset(eni.id for eni in enis)


class _Evaluation:
    """Decides why a blackhole of one VPC stays. Every look reads anew."""

    def __init__(
        self,
        world: World,
        ec2: SweepVpc,
        around: _OwnVpc,
        ranges: Sequence[Network],
        own: Collection[str],
        *,
        stopped: bool,
    ) -> None:
        self.ec2 = ec2
        self._world, self._around, self._ranges = world, around, ranges
        self._own, self._stopped = own, stopped

    def find_blackholes(self) -> Iterator[tuple[Blackhole, str | None]]:
        """Yield the blackholes inside the ranges, each with the reason why it stays (None: it does not)."""
        deadline = self._world.clock() + READ_SECONDS
        of_vpc = {"vpc-id": [self._around.vpc]}

        def blackholes() -> list[tuple[RouteTable, Blackhole]]:
            tables = self.ec2.route_tables(of_vpc, self._around.account)
            return [(table, blackhole) for table in tables for blackhole in self._blackholes(table)]

        results = read(self._world, deadline, f"route tables of {self._around.vpc}", blackholes)
        enis = sorted({blackhole.target.id for _, blackhole in results if blackhole.target.is_eni})
        attached = read(
            self._world, deadline, "network interfaces", lambda: self._attachments(enis) if enis else {}
        )
        for table, blackhole in results:
            yield blackhole, self._of_table(table, blackhole) or self._of_target(blackhole, attached)

    def recheck(self, blackhole: Blackhole) -> tuple[Outcome, str] | None:
        """Read one blackhole anew: None if it is to go, else its outcome. Raises Ec2Error."""
        key = blackhole.key
        attached = self._attachments([blackhole.target.id])
        table = table_now(self.ec2, key.table, blackhole.account)  # last: the route's state is what matters
        target = table.routes.get(key.destination) if table else None
        if table is None or target is None:
            return Outcome.GONE, ""
        if target != blackhole.target:
            return Outcome.KEPT, f"it leads to {target} now" if target.active else f"it has changed: {target}"
        reason = self._of_table(table, blackhole) or self._of_target(blackhole, attached)
        return (Outcome.KEPT, reason) if reason else None

    def _blackholes(self, table: RouteTable) -> Iterator[Blackhole]:
        for network, target in table.routes.items():
            if not target.active and any(cidr.within(network, item) for item in self._ranges):
                yield Blackhole(
                    RouteKey(table.id, network), target, self._around.region, self._around.account
                )

    def _of_table(self, table: RouteTable, blackhole: Blackhole) -> str | None:
        policy, network = self._world.policy, blackhole.key.destination
        if not policy.allows_table(table):
            return "the table is not in allowedRouteTables of the node configuration"
        if table.is_gateway_table and table.id not in policy.allowed_route_tables.ids:
            return "a gateway's table, which allowedRouteTables does not name by its id"
        entries = [
            destination
            for destination in policy.allowed_destinations
            if cidr.within(network, destination.cidr)
        ]
        if needs_exact_entry(network, self._around.cidrs) and not any(e.exact(network) for e in entries):
            return "so wide that allowedDestinations must name exactly it"
        return None

    def _of_target(self, blackhole: Blackhole, attached: Mapping[str, str]) -> str | None:
        target, key = blackhole.target, blackhole.key
        if not target.is_eni:
            return "it does not lead to a network interface"
        if target.propagated:
            return "it is propagated"
        if target.id in self._own:
            return "an interface of this node: its agent maintains this route"
        for claim in self._world.claims.for_route(key):
            if claim.wants(key) and claim.eni in self._own:
                return f"claimed here by {claim.attachment}: the agent mends it"
            if claim.wants(key):
                todo = f"delete the pod, or attach {claim.eni} again"
                return f"claimed here by {claim.attachment}, which is cut off: {todo}"
            if claim.live and claim.elected:
                return f"{claim.attachment} here may be elected: then its agent writes this route"
        if attached.get(target.id) and not self._stopped:
            return f"attached to {attached[target.id]}: works again when that starts (--stopped removes it)"
        return None

    def _attachments(self, enis: Sequence[str]) -> dict[str, str]:
        """Ask as ourselves and as the owner, who sees every interface. Either answer "attached" counts."""
        results: dict[str, str] = {}
        for account in sorted({"", self._around.account}):
            for eni, to in self.ec2.attachments(enis, account).items():
                results[eni] = results.get(eni) or to
        return results


def _remove_all(
    world: World, todo: Sequence[tuple[_Evaluation, Blackhole]], note: Callable[[SweepResult], None]
) -> None:
    """Remove one after another. Skips a table that we may not write; stops if EC2 is out of reach."""
    refused: set[str] = set()
    away = ""
    for number, (judge, blackhole) in enumerate(todo):
        table = blackhole.key.table
        if away or table in refused:
            note(SweepResult(blackhole, Outcome.FAILED, away or f"not tried: {table} could not be written"))
            continue
        if number:
            world.sleep(PAUSE_SECONDS)
        try:
            outcome, why = _remove(world, judge, blackhole)
        except Ec2Error as e:
            outcome, why = Outcome.FAILED, str(e)
            if e.fault is Ec2Fault.DENIED:
                refused.add(table)
            elif e.fault.is_transient:
                away = "not tried: EC2 does not answer, or the account's request rate limit is exhausted"
        note(SweepResult(blackhole, outcome, why))


def _remove(world: World, judge: _Evaluation, blackhole: Blackhole) -> tuple[Outcome, str]:
    """Read, decide, delete; each attempt anew. Raises Ec2Error when that did not succeed in time."""
    patience = Backoff(world, world.clock() + ROUTE_SECONDS)
    sent = False
    while True:
        try:
            began = world.clock()
            verdict = judge.recheck(blackhole)
            if verdict is not None:
                return (Outcome.REMOVED, "") if sent and verdict[0] is Outcome.GONE else verdict
            if world.clock() - began > FRESH_SECONDS:
                raise Ec2Error(Ec2Fault.UNANSWERED, "DescribeRouteTables", "", "too slow to act on")
            judge.ec2.wait_turn("DeleteRoute", blackhole.key, blackhole.account, world.clock())
            sent = True
            judge.ec2.delete(blackhole.key, blackhole.account)
            return Outcome.REMOVED, ""
        except Ec2Error as e:
            if e.fault in (Ec2Fault.NO_ROUTE, Ec2Fault.NO_TABLE):
                return Outcome.GONE, ""
            if not e.fault.is_transient or not patience.wait():
                raise
