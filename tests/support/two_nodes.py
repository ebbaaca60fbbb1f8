"""Two nodes, each with a disk of its own, and attachments on them: what the fault tests play with.

An attachment's interface is a veth pair whose inner end carries the ENI's MAC address, as ipvlan's would: so
several pods share one ENI also where the kernel has no ipvlan. No packet is sent here.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.edges.store import Store
from cni_floatip.model.claim import Claim
from cni_floatip.model.values import ROUTE_PROTO
from cni_floatip.model.values import Attachment as Named
from lab import direct, netns
from lab.node import Node
from lab.pod import Pod
from lab.world import Lab
from tests.support.waiting import until

ADDRESS, ANOTHER = "192.168.0.2/32", "192.168.0.3/32"
KILLED_CALL = "tests.faults.killed_call:main"
TABLES = ("a", "client")
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Moment:
    """Right before or right after the n-th event of a kind."""

    when: str
    kind: str
    number: int

    def __str__(self) -> str:
        return f"{self.when} {self.kind} {self.number}"

    @property
    def doom(self) -> tuple[str, str, int]:
        return self.when, self.kind, self.number


def read_moments(file: Path) -> list[Moment]:
    """Return both sides of every event that was recorded, in the order in which they came."""
    events = [line.rsplit(" ", 1) for line in file.read_text().splitlines()]
    return [Moment(when, kind, int(number)) for kind, number in events for when in ("before", "after")]


@dataclass(frozen=True)
class Answer:
    """What a call came to. ``code`` is 0 for success, the CNI error's code, or -9 when it was killed."""

    code: int
    document: dict[str, Any]
    stderr: str
    seconds: float

    @property
    def msg(self) -> str:
        return str(self.document.get("msg", ""))

    def __str__(self) -> str:
        return f"code {self.code} after {self.seconds:.1f} s: {self.msg or self.document} {self.stderr}"


@dataclass
class Place:
    """A node and one claims directory on it."""

    lab: Lab
    node: Node
    name: str
    data: Path = field(init=False)
    spool: Path = field(init=False)
    plugin: Path | None = field(init=False, default=None)
    """What is executed; ``None``: direct mode, by a fork (``lab.direct``)."""

    def __post_init__(self) -> None:
        self.data = self.node.state / f"claims-of-{self.name}"
        self.config = self.node.state / f"{self.name}.json"
        self.spool = self.data / "spool"
        own = {"dataDir": str(self.data), "spoolDir": str(self.spool)}
        self.config.write_text(json.dumps({**self.lab.node_config(), **own}))
        self.store = Store(str(self.data), sleep=time.sleep, clock=time.monotonic)

    def run(self, *doom: object, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        """Run the plugin, doomed where ``doom`` says so (see ``killed_call.py``)."""
        start = subprocess.Popen if self.plugin and not doom else direct.start
        argv = [str(item) for item in (self.plugin or direct.SCRIPT, *doom)]
        if doom:
            start = partial(direct.start, entry=KILLED_CALL)
        return self.node.run(argv, input=stdin, env={"FLOATIP_CONFIG": str(self.config), **env}, start=start)

    def policy(self, **keys: Any) -> None:
        """Add to the node configuration."""
        self.config.write_text(json.dumps(json.loads(self.config.read_text()) | keys))

    def claims(self) -> list[Claim]:
        return self.store.all()[0]

    def spooled(self) -> list[str]:
        """Return the names of the DELs that wait."""
        return sorted(path.name for path in self.spool.glob("*.del"))

    def alive(self) -> list[str]:
        """Say which claims still want a route or are still to be worked off."""
        return [f"{c.attachment.container} {c.state}" for c in self.claims() if c.state != "gone"]

    def collect(self) -> list[str]:
        """Do what ``floatipctl gc`` does."""
        done = self.run("collect")
        assert done.returncode == 0, done.stderr
        sentences: list[str] = json.loads(done.stdout)
        return sentences

    def forget(self) -> None:
        """Make the disk new."""
        for path in (*(self.data / "claims").glob("*"), *self.spool.glob("*.*")):
            path.unlink()


@dataclass
class Attachment:
    """A pod's interface as the plugin before us left it, and the calls that its runtime makes."""

    place: Place
    pod: Pod
    eth: str
    address: str
    tables: tuple[str, ...] = TABLES
    on_delete: str = "release"
    timeout: int = 10
    container: str = ""
    ifname: str = "net1"
    keys: dict[str, Any] = field(default_factory=dict)
    """What else the network configuration says."""

    def __post_init__(self) -> None:
        self.container = self.container or f"c{next(_numbers)}"

    @property
    def eni(self) -> str:
        return self.place.node.eni(self.eth).id

    def again(self) -> Attachment:
        """Return another attachment that looks the same: the same interface in a container of a new name."""
        return Attachment(
            self.place, self.pod, self.eth, self.address, self.tables, self.on_delete, self.timeout
        )

    def config(self, *, prev: bool = True) -> dict[str, Any]:
        output: dict[str, Any] = {
            "cniVersion": "1.0.0",
            "name": "floating",
            "type": "floatip",
            "routeTables": {"ids": [self.place.lab.tables[name] for name in self.tables]},
            "onDelete": self.on_delete,
            "timeoutSeconds": self.timeout,
            **self.keys,
        }
        mac = self.place.node.eni(self.eth).mac
        interface = {"name": self.ifname, "mac": mac, "sandbox": self.pod.netns}
        ips = [{"address": self.address, "interface": 0}]
        return output | ({"prevResult": {"interfaces": [interface], "ips": ips}} if prev else {})

    def call(self, verb: str, *doom: object, prev: bool = True, netns: str | None = None) -> Answer:
        """Run one call, doomed where ``doom`` says so (see ``killed_call.py``)."""
        began = time.monotonic()
        done = self.place.run(
            *doom,
            stdin=json.dumps(self.config(prev=prev)),
            CNI_COMMAND=verb,
            CNI_CONTAINERID=self.container,
            CNI_NETNS=self.pod.netns if netns is None else netns,
            CNI_IFNAME=self.ifname,
            CNI_PATH="/nowhere",
        )
        took = time.monotonic() - began
        document = json.loads(done.stdout) if done.stdout.strip() else {}
        code = document.get("code", done.returncode) if done.returncode else 0
        return Answer(code, document, done.stderr, took)

    def add(self, *doom: object) -> Answer:
        return self.call("ADD", *doom)

    def delete(self, *doom: object, prev: bool = True, netns: str | None = None) -> Answer:
        return self.call("DEL", *doom, prev=prev, netns=netns)

    def check(self) -> Answer:
        return self.call("CHECK")

    def claim(self) -> Claim | None:
        mine = Named("floating", self.container, self.ifname)
        return next((claim for claim in self.place.claims() if claim.attachment == mine), None)


class Scene:
    """The VPC around the attachments: what its route tables say, and how to set them up."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.ec2 = lab.ec2.client()
        self.names = {eni.id: f"{node.name} {eni.ifname}" for node in lab.nodes.values() for eni in node.enis}

    def place(self, node: str, name: str) -> Place:
        return Place(self.lab, self.lab.nodes[node], name)

    def attach(self, key: Place, address: str, eth: str = "eth1", **more: Any) -> Attachment:
        """Make a pod with an interface on an ENI of the node."""
        pod = key.node.pod(f"p{next(_numbers)}", serve=False)
        return self.plug(Attachment(key, pod, eth, address, **more))

    def plug(self, attachment: Attachment) -> Attachment:
        """Give the pod the interface of an attachment, as the plugin before us does."""
        key, ns, name, number = attachment.place, attachment.pod.ns, attachment.ifname, next(_numbers)
        mac = key.node.eni(attachment.eth).mac
        netns.ip(
            key.node.ns,
            [
                f"link add fl{number} type veth peer name {name} address {mac} netns {ns}",
                f"link set fl{number} up",
            ],
        )
        netns.ip(ns, [f"addr add {attachment.address} dev {name}", f"link set {name} up"])
        return attachment

    def point(self, address: str, to: str, tables: Iterable[str] = TABLES) -> None:
        """Let tables lead to an ENI ("b1 ens7"), as another node's ADD would."""
        node, eth = to.split()
        eni = self.lab.nodes[node].eni(eth).id
        for table in tables:
            cell = {"RouteTableId": self.lab.tables[table], "DestinationCidrBlock": address}
            there = address in self.lab.ec2.truth(self.lab.tables[table])
            (self.ec2.replace_route if there else self.ec2.create_route)(**cell, NetworkInterfaceId=eni)

    def clear(self, address: str, tables: Iterable[str] = TABLES) -> None:
        """Take an address out of the tables."""
        for table in tables:
            if address in self.lab.ec2.truth(self.lab.tables[table]):
                self.ec2.delete_route(RouteTableId=self.lab.tables[table], DestinationCidrBlock=address)

    def routes(self, address: str, tables: Iterable[str] = TABLES) -> dict[str, str]:
        """Return where the tables lead: table name -> "node eth"."""
        results = {}
        for table in tables:
            if view := self.lab.ec2.truth(self.lab.tables[table]).get(address):
                results[table] = self.names.get(view.target, view.target)
        return results

    def checks_source(self, eni: str) -> bool:
        """Say whether EC2 drops what the ENI sends for an address that is not its own."""
        result = self.ec2.describe_network_interfaces(NetworkInterfaceIds=[eni])["NetworkInterfaces"]
        return bool(result[0]["SourceDestCheck"])

    def source_check(self, eni: str, on: bool = True) -> None:
        self.ec2.modify_network_interface_attribute(NetworkInterfaceId=eni, SourceDestCheck={"Value": on})


def ours_in(pod: Pod) -> list[str]:
    """Return the routes and rules in a pod that carry our mark."""
    results = []
    for family in ("-4", "-6"):
        results += _lines(pod, family, f"route show table all proto {ROUTE_PROTO}", "rule")
    return [line for line in results if not re.match(r"\d+:\s", line) or f"proto {ROUTE_PROTO}" in line]


def connected_in(pod: Pod) -> str:
    """Return the kernel's own routes through the interface, which ADD removes and DEL restores."""
    return "\n".join(_lines(pod, "-4", "route show dev net1 proto kernel"))


def _lines(pod: Pod, family: str, *commands: str) -> list[str]:
    """Return what ``ip`` prints in a pod, all by one process."""
    argv = ["ip", family, "-n", pod.ns, "-force", "-batch", "-"]
    done = subprocess.run(argv, input="\n".join(commands) + "\n", capture_output=True, text=True)
    return [line.strip() for line in done.stdout.splitlines()]


def in_parts(test: str, rest: int, stands_for_it: str = "") -> pytest.MarkDecorator:
    """Give a test that plays many moments a ``part``: the sample of ``make test``, or one of the ``rest``.

    Where another test ``stands_for_it``, the sample is thorough, too.
    """
    thorough = pytest.mark.thorough(sample=f"{stands_for_it or test}[sample]")
    sample = pytest.param(None, id="sample", marks=thorough if stands_for_it else ())
    numbers = [pytest.param((n, rest), marks=thorough, id=f"part {n + 1} of {rest}") for n in range(rest)]
    return pytest.mark.parametrize("part", [sample, *numbers])


def first(moment: Moment) -> bool:
    """Say whether this belongs to the sample: after the first of each kind (before what comes next)."""
    return moment.number == 1 and moment.when == "after"


def part_of(
    moments: Sequence[Moment], part: tuple[int, int] | None, sample: Callable[[Moment], bool] = first
) -> list[Moment]:
    """Return the sample, or a part of the others."""
    if part is None:
        return [moment for moment in moments if sample(moment)]
    number, parts = part
    return [moment for moment in moments if not sample(moment)][number::parts]


def everywhere(stages: list[Any], cases: Iterable[Any], play: Callable[[Any, Any], None]) -> None:
    """Play all cases, on the stages side by side; fail with what went wrong, and in which case."""
    left = iter(list(cases))
    wrong: list[str] = []
    taking = threading.Lock()

    def work(stage: Any) -> None:
        while True:
            with taking:
                case = next(left, None)
            if case is None:
                return
            try:
                play(stage, case)
            except Exception as e:  # noqa: BLE001 (told below, with the case)
                wrong.append(f"{stage}: {case}: {type(e).__name__}: {e}")

    threads = [threading.Thread(target=work, args=(stage,)) for stage in stages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, "\n".join(wrong)


class Calling(threading.Thread):
    """A call that runs beside the test."""

    def __init__(self, attachment: Attachment, verb: str = "ADD", doom: Sequence[object] = ()) -> None:
        super().__init__(daemon=True)
        self._attachment = attachment
        self._verb = verb
        self._doom = doom
        self._answers: list[Answer] = []
        self.start()

    def run(self) -> None:
        self._answers.append(self._attachment.call(self._verb, *self._doom))

    def answer(self) -> Answer:
        self.join(60)
        return self._answers[0]

    def until(self, action: str) -> None:
        """Wait until EC2 has answered an ``action`` of the node since the journal was cleared."""
        key = self._attachment.place
        until(lambda: key.lab.ec2.journal.of(action=action, caller=key.node.name))

    def until_begun(self) -> None:
        until(self._attachment.place.store.is_locked)
