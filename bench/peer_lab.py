"""The world of the race: a lab with one VPC, an agent and pods on its node ``a1``, and a launcher there.

The simulated EC2 and instance metadata are those of the lab, the same for every mover. The race's route
tables carry a tag for each number of tables, so that a mover finds its tables as it does in a cluster.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from botocore.exceptions import ClientError

from bench.pods import Pod, veth_pods
from bench.running import Command, Failed, cpu_seconds
from bench.scene import INTERPRETER
from lab import netns
from lab.ec2.journal import Call
from lab.node import PATH
from lab.vpc import TAG
from lab.world import Lab

TABLES = (1, 3, 10)
LAUNCHER = Path(__file__).with_name("launcher.py")
ROUTES = 1000
"""Routes that a table takes here: the lab's quota of 50 does not hold 50 addresses and the local routes."""


@dataclass(frozen=True, slots=True)
class Process:
    """What one started program did, as the launcher tells. ``status`` None: it did not end in time."""

    began: float
    ended: float
    cpu: float
    rss: int
    status: int | None
    output: str


@dataclass(frozen=True, slots=True)
class Move:
    """One address, to be led to this node's ENI in every table that has the tag."""

    address: str
    tag: str
    tables: tuple[str, ...]
    pod: Pod
    container: str


class PeerLab:
    """``with PeerLab(addresses=50) as world:``; ``moves`` lays the routes, ``run`` starts programs."""

    def __init__(self, addresses: int, tables: Sequence[int] = TABLES, *, agents: bool = True) -> None:
        self._shape = (addresses, tuple(tables))
        self._agents = agents
        self._containers = itertools.count()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as ends:
            options: dict[str, Any] = {"azs": 2, "nodes_per_az": 1, "agents": self._agents, "packets": False}
            self.lab = ends.enter_context(Lab(**options))
            self.node = self.lab.nodes["a1"]
            self.eni, self._elsewhere = (self.lab.nodes[name].eni("eth1") for name in ("a1", "b1"))
            self._ec2 = self.lab.ec2.client()
            self.lab.ec2.faults.route_quota(ROUTES)
            addresses, sizes = self._shape
            self._tables = self._make_tables(sizes)
            self.pods = self._make_pods(addresses)
            self._direct = self._write_direct_config()
            self._launcher = self._start_launcher()
            ends.callback(self._end_launcher)
            self._ends = ends.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    # -- making it ----------------------------------------------------------------------------------------

    def _make_tables(self, sizes: Sequence[int]) -> tuple[str, ...]:
        made = []
        for number in range(max(sizes)):
            tags = {**TAG, **{_tag(size): "yes" for size in sizes if number < size}}
            listed = [{"Key": key, "Value": value} for key, value in tags.items()]
            specification = [{"ResourceType": "route-table", "Tags": listed}]
            answer = self._ec2.create_route_table(VpcId=self.lab.vpc.id, TagSpecifications=specification)
            made.append(str(answer["RouteTable"]["RouteTableId"]))
        return tuple(made)

    def _make_pods(self, count: int) -> list[Pod]:
        floating = [f"192.168.0.{number + 10}" for number in range(count)]
        names = {f"{self.node.ns}-race-{number}": address for number, address in enumerate(floating)}
        links = {name: (number, address) for number, (name, address) in enumerate(names.items())}
        veth_pods(self.node.ns, self.eni.mac, links)
        return [Pod(str(netns.path(name)), address) for name, address in names.items()]

    def _write_direct_config(self) -> Path:
        """Write direct mode's configuration: the agent has the node's data directory."""
        data = self.node.state / "direct"
        own = {"dataDir": data, "spoolDir": data / "spool", "socketPath": data / "agent.sock"}
        config = {**self.lab.node_config(), **{name: str(path) for name, path in own.items()}}
        path = self.node.state / "direct.json"
        path.write_text(json.dumps(config))
        return path

    def _start_launcher(self) -> subprocess.Popen[str]:
        return netns.inside(
            self.node.ns,
            subprocess.Popen,
            [INTERPRETER, "-I", "-S", str(LAUNCHER)],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _end_launcher(self) -> None:
        self._launcher.terminate()
        for stream in (self._launcher.stdin, self._launcher.stdout):
            assert stream is not None
            stream.close()
        self._launcher.wait()

    # -- using it -----------------------------------------------------------------------------------------

    def environment(self, **more: str) -> dict[str, str]:
        """Return what is in the environment of every program on this node."""
        return {"PATH": PATH, "HOME": str(self.node.state), "LANG": "C.UTF-8", **self.node.env, **more}

    @property
    def direct_config(self) -> Path:
        return self._direct

    def moves(self, addresses: int, tables: int) -> list[Move]:
        """Lead addresses to the other node in the tables; return the moves that lead them here."""
        tag, wanted = _tag(tables), self._tables[:tables]
        for pod in self.pods[:addresses]:
            for table in wanted:
                self._lay(table, f"{pod.address}/32")
        return [
            Move(pod.address, tag, wanted, pod, f"{next(self._containers):064x}")
            for pod in self.pods[:addresses]
        ]

    def _lay(self, table: str, destination: str) -> None:
        where = {"RouteTableId": table, "DestinationCidrBlock": destination}
        try:
            self._ec2.replace_route(**where, NetworkInterfaceId=self._elsewhere.id)
        except ClientError:
            self._ec2.create_route(**where, NetworkInterfaceId=self._elsewhere.id)

    def unmoved(self, moves: Sequence[Move]) -> int:
        """Return how many routes do not lead to this node."""
        truth = {table: self.lab.ec2.truth(table) for move in moves for table in move.tables}
        routes = [truth[table].get(f"{move.address}/32") for move in moves for table in move.tables]
        return sum(route is None or route.target != self.eni.id for route in routes)

    def run(self, commands: Sequence[Command], at_once: int, seconds: float) -> list[Process]:
        """Run programs on the node; after so many seconds those that still run are killed."""
        batch = {
            "commands": [
                {"argv": command.argv, "env": dict(command.env), "stdin": command.stdin.decode()}
                for command in commands
            ],
            "at_once": at_once,
            "seconds": seconds,
        }
        assert self._launcher.stdin is not None
        assert self._launcher.stdout is not None
        self._launcher.stdin.write(json.dumps(batch) + "\n")
        self._launcher.stdin.flush()
        line = self._launcher.stdout.readline()
        if not line:
            raise Failed("what starts the movers has ended")
        return [Process(**result) for result in json.loads(line)]

    @contextlib.contextmanager
    def latency(self, seconds: float) -> Iterator[None]:
        """Let EC2 answer this node only after so many seconds more."""
        self.lab.ec2.faults.latency(seconds, caller=self.node.name)
        try:
            yield
        finally:
            self.lab.ec2.faults.latency(0, caller=self.node.name)

    def calls(self) -> list[Call]:
        """Return this node's calls of EC2 since the last ``forget_calls``, but the keeper's looks."""
        return [call for call in self.lab.ec2.journal.of(caller=self.node.name) if not is_look(call)]

    def forget_calls(self) -> None:
        """Empty EC2's journal."""
        self.lab.ec2.journal.clear()

    # -- the agent ----------------------------------------------------------------------------------------

    def agent_cpu(self) -> float:
        """Return the CPU seconds that the agent has had."""
        return cpu_seconds(self.node.agent.pid)

    def forget_peak(self) -> None:
        """Begin the agent's highest resident set anew (proc(5), clear_refs)."""
        Path(f"/proc/{self.node.agent.pid}/clear_refs").write_text("5")

    def agent_peak(self) -> int:
        """Return the agent's highest resident set since then, in KiB."""
        status = Path(f"/proc/{self.node.agent.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0])


def is_look(call: Call) -> bool:
    """Say whether a call is the keeper's look: it reads the whole VPC, a mover the tables with a tag."""
    filters: Sequence[Mapping[str, Any]] = call.params.get("Filters", ())
    return call.action == "DescribeRouteTables" and [item["Name"] for item in filters] == ["vpc-id"]


def _tag(tables: int) -> str:
    return f"race-{tables}"


def cli_config(directory: Path, region: str) -> Path:
    """Write an AWS CLI configuration with the profile that resource agents name; return its path."""
    path = directory / "aws-config"
    path.write_text(f"[default]\nregion = {region}\n")
    return path
