"""Nodes of a cluster in simulated time, with their real keepers, over one EC2 in memory.

Nothing sleeps: ``SimulatedCluster.pass_time`` moves the clock from one due round to the next.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path

from cni_floatip.agent.claim_cache import ClaimCache
from cni_floatip.agent.keeper.loop import Keeper
from cni_floatip.agent.observe.recorder import NullRecorder
from cni_floatip.config.netconf import NetConf
from cni_floatip.config.nodeconf import NO_MANAGE, NodeConf
from cni_floatip.edges import host
from cni_floatip.edges.store import Store
from cni_floatip.model.claim import Claim
from cni_floatip.model.claim_state import ClaimedRoute, State
from cni_floatip.model.errors import CniError, Ec2Error, Ec2Fault, TryAgain
from cni_floatip.model.recorded_config import RecordedConfig
from cni_floatip.model.values import (
    Attachment,
    Network,
    NetworkInterface,
    PodIdentity,
    RouteKey,
    RouteTable,
    RouteTarget,
    Subnet,
)
from cni_floatip.operations.delete import end_claim
from cni_floatip.operations.release import attachment_lock, release
from cni_floatip.operations.world import Kernel, Metadata, World, start_thread
from cni_floatip.operations.write_routes import Attempt, RouteRead, place_lock, write_until_done
from tests.fakes.election import FakeElection

VPC, REGION = "vpc-1", "eu-central-1"
FLOATING = ip_network("192.168.0.2/32")
EPOCH = 1_800_000_000.0
POLICY = NodeConf.parse(
    {
        "allowedDestinations": [{"cidr": "192.168.0.0/16"}],
        "allowedRouteTables": {"tags": {"floatip": "yes"}},
    }
)
CONFIG = {
    "name": "net",
    "cniVersion": "1.1.0",
    "type": "floatip",
    "routeTables": {"tags": {"floatip": "yes"}},
}


@dataclass
class Ec2:
    """Route tables, and what every node saw of them: a read may be as old as ``stale`` seconds."""

    clock: Callable[[], float]
    tables: dict[str, dict[Network, RouteTarget]] = field(default_factory=dict)
    stale: float = 0.0
    down: bool = False
    faults: list[Ec2Fault] = field(default_factory=list)
    checks: dict[str, bool] = field(default_factory=dict)
    untagged: set[str] = field(default_factory=set)
    managed: set[str] = field(default_factory=set)
    alive: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)
    reads: int = 0
    writes: list[str] = field(default_factory=list)
    random: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311
    _past: list[tuple[float, dict[str, dict[Network, RouteTarget]]]] = field(default_factory=list)

    def view(self) -> Ec2:
        return self

    def now(self) -> dict[str, dict[Network, RouteTarget]]:
        """Return the routes as EC2 shows them: without its interface a route is a blackhole."""
        return {
            table: {
                network: replace(target, active=target.id in self.alive) if target.is_eni else target
                for network, target in routes.items()
            }
            for table, routes in self.tables.items()
        }

    def _remember(self) -> None:
        self._past.append((self.clock(), self.now()))
        del self._past[:-50]

    def _ask(self, action: str) -> None:
        if self.down:
            raise Ec2Error(Ec2Fault.NOT_SENT, action, "", "EC2 is away")
        if self.faults:
            raise Ec2Error(self.faults.pop(0), action, "Planted", "as the test says")

    def route_tables(self, filters: Mapping[str, Sequence[str]], account: str = "") -> tuple[RouteTable, ...]:
        self._ask("DescribeRouteTables")
        if account in self.denied:
            raise Ec2Error(Ec2Fault.DENIED, "DescribeRouteTables", "AccessDenied", account)
        self.reads += 1
        state = self.now()
        if self.stale:
            old = [past for at, past in self._past if self.clock() - at <= self.stale]
            state = self.random.choice([*old, state])
        wanted = filters.get("route-table-id", list(state))
        tagged = {"floatip": "yes"}
        return tuple(
            RouteTable(t, VPC, "", dict(state[t]), {} if t in self.untagged else tagged)
            for t in wanted
            if t in state
        )

    def subnets(self, filters: Mapping[str, Sequence[str]], account: str = "") -> tuple[Subnet, ...]:
        return ()

    def interfaces_in(self, subnets: Sequence[str], account: str = "") -> dict[str, str]:
        return {}

    def network_interface(self, eni: str) -> NetworkInterface:
        self._ask("DescribeNetworkInterfaces")
        return NetworkInterface(self.checks.get(eni, False), {} if eni in self.managed else NO_MANAGE)

    def disable_source_dest_check(self, eni: str) -> None:
        self._ask("ModifyNetworkInterfaceAttribute")
        self.checks[eni] = False

    def wait_turn(self, action: str, place: RouteKey, account: str, deadline: float) -> None:
        return

    def create(self, key: RouteKey, eni: str, account: str = "") -> None:
        self._write("create", key, eni)
        if key.destination in self._table(key):
            raise Ec2Error(Ec2Fault.ROUTE_EXISTS, "CreateRoute", "RouteAlreadyExists", str(key))
        self._remember()
        self.tables[key.table][key.destination] = RouteTarget(eni, is_eni=True)

    def replace(self, key: RouteKey, eni: str, account: str = "") -> None:
        self._write("replace", key, eni)
        if key.destination not in self._table(key):
            raise Ec2Error(Ec2Fault.NO_ROUTE, "ReplaceRoute", "InvalidParameterValue", str(key))
        self._remember()
        self.tables[key.table][key.destination] = RouteTarget(eni, is_eni=True)

    def delete(self, key: RouteKey, account: str = "") -> None:
        self._write("delete", key, "")
        if key.destination not in self._table(key):
            raise Ec2Error(Ec2Fault.NO_ROUTE, "DeleteRoute", "InvalidRoute.NotFound", str(key))
        self._remember()
        del self.tables[key.table][key.destination]

    def try_create(self, key: RouteKey, eni: str, account: str = "") -> None:
        self._try("create", key)

    def try_replace(self, key: RouteKey, eni: str, account: str = "") -> None:
        self._try("replace", key)

    def _try(self, what: str, key: RouteKey) -> None:
        self._ask(what)
        if what in self.refused:
            raise Ec2Error(Ec2Fault.DENIED, what, "UnauthorizedOperation", str(key))

    def _write(self, what: str, key: RouteKey, eni: str) -> None:
        self._ask(what)
        self.writes.append(f"{what} {key}" + (f" -> {eni}" if eni else ""))
        del self.writes[:-1000]
        if what in self.refused:
            raise Ec2Error(Ec2Fault.DENIED, what, "UnauthorizedOperation", str(key))
        if what in self.lost:
            raise Ec2Error(Ec2Fault.UNANSWERED, what, "", "no answer")

    def _table(self, key: RouteKey) -> dict[Network, RouteTarget]:
        if key.table not in self.tables:
            raise Ec2Error(Ec2Fault.NO_TABLE, "CreateRoute", "InvalidRouteTableID.NotFound", key.table)
        return self.tables[key.table]


class SimulatedNode:
    """One node: its claims on disk, its keeper, and what its ADD and DEL do to EC2."""

    def __init__(
        self, cluster: SimulatedCluster, name: str, directory: Path, policy: NodeConf = POLICY
    ) -> None:
        self.name = name
        self.cluster = cluster
        self.enis: tuple[str, ...] = (f"eni-{name}", f"eni-{name}2")
        self.said: list[str] = []
        self.events: list[tuple[str, str, str]] = []
        self.repaired: list[str] = []
        self.netns: dict[str, int] = {}
        self.interfaces_hidden = False
        self.superseded = 0
        self.election = FakeElection()
        self.boot_id = "boot"
        self._directory = directory
        self._policy = policy
        self._numbers = itertools.count(1)
        self.up = True
        cluster.ec2.alive.update(self.enis)
        self.start()

    def start(self) -> None:
        """Start the agent, as after a crash: what is in memory comes from the disk."""
        clock = self.cluster.clock
        self.claims = self._memory()
        node = self

        class Counts(NullRecorder):
            def repaired(self, what: str) -> None:
                node.repaired.append(what)
                del node.repaired[:-100]

            def superseded_live(self) -> None:
                node.superseded += 1

        self.world = World(
            policy=self._policy,
            on_delete="release",
            claims=self.claims,
            kernel=self.kernel,
            metadata=self.metadata,
            vpc=lambda _: self.ec2(),
            boot=lambda: self.boot_id,
            inode=lambda path: self.netns.get(path, 0),
            namespaces=host,
            clock=clock,
            now=self.cluster.now,
            sleep=self.sleep,
            jitter=self.cluster.random.random,
            log=self.log,
            cancelled=lambda: None,
            wake_keeper=lambda: None,
            election=self.election,
            run_in_thread=self.spawn,
        )
        self.keeper = Keeper(self.world, Counts(), present=self.interfaces)
        self.claims.listen(self.keeper.on_claim_change)
        self.due = clock()

    def _memory(self) -> ClaimCache:
        disk = Store(str(self._directory), sleep=lambda _: None, clock=self.cluster.clock)
        return ClaimCache(disk, self.cluster.now)

    def kernel(self) -> Kernel:
        raise AssertionError("not asked for in this test")

    def metadata(self, deadline: float) -> Metadata:
        raise AssertionError("not asked for in this test")

    def interfaces(self) -> tuple[str, ...]:
        """Return the ENIs that are on this node."""
        if self.interfaces_hidden:
            raise TryAgain("instance metadata does not answer")
        return self.enis

    def sleep(self, seconds: float) -> None:
        """Take no time."""

    def round(self) -> float:
        """Do one round of the keeper; return when the next is due."""
        return self.keeper.tick()

    def spawn(self, work: Callable[[], None]) -> None:
        start_thread(work)

    def log(self, sentence: str, level: str = "info", **fields: object) -> None:
        self.said.append(sentence)
        del self.said[:-200]
        if fields.get("event"):
            self.events.append((level, str(fields["event"]), str(fields.get("table", ""))))
            del self.events[:-200]

    def ec2(self) -> Ec2:
        if not self.up:
            raise Ec2Error(Ec2Fault.NOT_SENT, "any", "", f"{self.name} is cut off")
        return self.cluster.ec2

    def claim(self, attachment: Attachment) -> Claim:
        claim = self.claims.get(attachment)
        assert isinstance(claim, Claim)
        return claim

    def add(self, destination: Network = FLOATING, eni: int = 0, tables: Sequence[str] = ()) -> Attachment:
        """What an ADD does to claims and EC2."""
        number = next(self._numbers)
        attachment = Attachment("net", f"{self.name}-c{number}", "net1")
        netns = f"/run/netns/{self.name}/{number}"
        self.netns[netns] = number
        tables = tables or tuple(t for t in self.cluster.ec2.tables if t not in self.cluster.ec2.untagged)
        now = self.cluster.now()
        claim = Claim(
            attachment=attachment,
            eni=self.enis[eni],
            region=REGION,
            netns=netns,
            netns_inode=number,
            boot=self.boot_id,
            pod=PodIdentity("core", f"pod-{number}", f"uid-{number}"),
            on_delete="release",
            routes=tuple(ClaimedRoute(RouteKey(t, destination), State.CLAIMING) for t in tables),
            source_dest_check="disable",
            created_at=now,
            last_write_at=now + 90,
            vpc=VPC,
            mac=f"02:{self.name}",
            config=RecordedConfig(CONFIG),
        )
        with self.claims.lock(attachment_lock(attachment), 0):
            self.claims.put(claim)
            try:
                observed = self.ec2().route_tables({}, "")
                for route in claim.routes:
                    target = next(
                        (t.routes.get(destination) for t in observed if t.id == route.key.table), None
                    )
                    with self.claims.lock(place_lock(route.key), 0):
                        at = RouteRead(target, self.cluster.clock())
                        deadline = self.cluster.clock() + 60
                        attempt = Attempt(self.world, self.ec2(), NetConf.parse(CONFIG), claim, deadline)
                        write_until_done(attempt, route, at, lambda: None)
            except (CniError, Ec2Error) as e:
                ended = replace(claim.give_up(), last_write_at=self.cluster.now())
                self.claims.put(ended)
                try:
                    release(self.world, self.ec2(), ended, self.cluster.clock() + 5, self.interfaces())
                except (CniError, Ec2Error) as late:
                    self.log(str(late))
                raise TimeoutError(str(e)) from e
            self.claims.put(claim.hold([route.key for route in claim.routes], self.cluster.now()))
        return attachment

    def delete(self, attachment: Attachment, *, message: bool = True) -> None:
        """End a pod; ``message``: the runtime says so."""
        claim = self.claims.get(attachment)
        if isinstance(claim, Claim):
            self.netns.pop(claim.netns, None)
            if message:
                with self.claims.lock(attachment_lock(attachment), 0):
                    end_claim(self.world, claim, "")

    def state(self, attachment: Attachment) -> str:
        claim = self.claims.get(attachment)
        return claim.state.value if isinstance(claim, Claim) else "erased"


class SimulatedCluster:
    """Some nodes, one EC2, one clock."""

    def __init__(
        self,
        directory: Path,
        nodes: str = "ab",
        tables: Sequence[str] = ("rtb-1",),
        node: type[SimulatedNode] = SimulatedNode,
    ) -> None:
        self.at = 1000.0
        self.random = random.Random(7)  # noqa: S311 (a test that can be repeated)
        self.ec2 = Ec2(self.clock, {table: {} for table in tables})
        self.nodes = {name: node(self, name, directory / name) for name in nodes}

    def clock(self) -> float:
        return self.at

    def now(self) -> float:
        return EPOCH + self.at

    def pass_time(self, seconds: float) -> None:
        """Let every keeper do its rounds for so long."""
        end_at = self.at + seconds
        while True:
            due = min(self.nodes.values(), key=lambda node: node.due)
            # A call may have made something due since the node's last round.
            if due.due > end_at and not any(n.keeper._woken.is_set() for n in self.nodes.values()):
                break
            woken = [n for n in self.nodes.values() if n.keeper._woken.is_set()]
            node = woken[0] if woken and due.due > self.at else due
            self.at = max(self.at, min(node.due, end_at) if node is due else self.at)
            node.keeper._woken.clear()
            node.due = self.at + max(node.round(), 0.05)
        self.at = end_at

    def leads(self, table: str = "rtb-1", destination: Network = FLOATING) -> str:
        return str(self.ec2.now()[table].get(destination, ""))
