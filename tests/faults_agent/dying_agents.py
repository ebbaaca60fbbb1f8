"""A node whose calls go to its agent, and an agent that dies when a test says so.

The client is the installed one, in a process of its own for each call; the agent is ``floatipctl agent``,
forked in the node's namespace (``killed_agent``).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.edges.store import Store
from cni_floatip.model.claim import Claim
from lab import netns
from lab.forkserver import Forked, ForkServer
from lab.stopping import stop_process
from tests.support.two_nodes import Answer, Attachment, Calling, Moment, Place, Scene, connected_in, ours_in
from tests.support.waiting import until

LAB = pytest.mark.lab(
    nodes_per_az=3,
    policy={"releaseGraceSeconds": 1, "reconcileSeconds": 1, "metricsAddress": None},
    packets=False,
)
KILLED_AGENT = "tests.faults_agent.killed_agent"
KILLED = -signal.SIGKILL
BYSTANDER = "192.168.0.200/32"
Doom = Sequence[Any] | None


@dataclass
class Served(Place):
    """A node as its configuration has it: its own directories, and the client as its plugin."""

    def __post_init__(self) -> None:
        self.data, self.spool = self.node.data_dir, self.node.agent.spool
        self.config = Path(self.node.env["FLOATIP_CONFIG"])
        self.store = Store(str(self.data), sleep=time.sleep, clock=time.monotonic)
        self.plugin = self.node.bin_dir / "floatip"

    def set(self, **constants: object) -> None:
        """Change constants of the installed client, which then runs from its source."""
        self._edit({name: f"{name} = {value!r}" for name, value in constants.items()})

    def speak(self, version: int, oldest: int) -> None:
        """Let the client speak another version of the protocol."""
        self._edit({"VERSION": f"VERSION, OLDEST = {version}, {oldest}"})

    def _edit(self, lines: Mapping[str, str]) -> None:
        assert self.plugin
        text, compiled = re.subn(r"(sys\.hexversion ==) \w+", r"\1 0", self.plugin.read_text(), count=1)
        assert compiled, "it would run on as it was compiled"
        for name, line in lines.items():
            text, result = re.subn(rf"(?m)^{name}(, OLDEST| = OLDEST)? = .*$", line, text, count=1)
            assert result, name
        self.plugin.write_text(text)


@cache
def fork_server() -> ForkServer:
    """Return the one server that forks agents, of every node."""
    return ForkServer([KILLED_AGENT])


class Lives:
    """The agents of one node, one after the other."""

    def __init__(self, place: Served, constants: Mapping[str, object] | None = None) -> None:
        node = place.node
        self._agent = node.agent
        self._doom = node.state / "doom"
        self._process: Forked | None = None
        self.deaths = 0
        """How many died of their doom since a test said so."""
        self.log = node.agent.log_file
        self._node = node
        self._constants = json.dumps(constants or {})

    def close(self) -> None:
        """End the agent."""
        self.kill()

    def start(self, doom: Doom = None, *, wait: bool = True) -> None:
        """Start the next agent. ``doom`` holds from its birth on."""
        with self.log.open("ab") as log:
            self._process = netns.inside(
                self._node.ns,
                Forked,
                fork_server(),
                f"{KILLED_AGENT}:main",
                ["agent", json.dumps(doom), self._constants],
                env={**self._node.env, "PATH": os.environ["PATH"], "FLOATIP_DOOM": str(self._doom)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if wait:
            self.wait()

    def wait(self) -> bool:
        """Wait until it accepts calls; false: it has died."""
        until(lambda: self._agent.accepts() or not self.alive, self)
        return self.alive

    def arm(self, doom: Doom) -> None:
        """Tell the agent what is to happen from now on."""
        self._doom.write_text(json.dumps(doom))
        self.signal(signal.SIGUSR1)
        until(lambda: not self._doom.exists(), self)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def dies(self, seconds: float) -> bool:
        """Whether it has died, or does within so long."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        return not self.alive

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self.buried()

    def signal(self, number: int) -> None:
        assert self._process
        self._process.send_signal(number)

    def stop(self) -> None:
        """Have it stand still, until it gets SIGCONT or SIGKILL."""
        assert self._process
        stop_process(self._process.pid)

    def buried(self) -> int:
        """Wait for its end; return what it died of."""
        assert self._process
        status = self._process.wait(30)
        self._process = None
        return status

    def __str__(self) -> str:
        return "\n".join(self.log.read_text().splitlines()[-25:])


@dataclass
class Picture:
    """What must come out the same, whatever happened on the way."""

    routes: Mapping[str, str]
    bystander: Mapping[str, str]
    pod: Sequence[str]
    connected: bool
    claims: Sequence[Any]
    spooled: int
    answer: int = 0

    def __str__(self) -> str:
        return f"{self.routes} {self.pod} {self.claims} spooled {self.spooled} answer {self.answer}"


@dataclass
class Stage:
    """One node with an agent, an attachment on it, and another node that has the same address."""

    scene: Scene
    place: Served
    lives: Lives
    other: str
    address: str
    attachment: Attachment = field(init=False)

    def __post_init__(self) -> None:
        self.destination = self.address.split("/")[0] + "/32"
        self.me = f"{self.place.node.name} eth1"
        self.attachment = self.scene.attach(self.place, self.address)

    def __str__(self) -> str:
        return self.place.node.name

    def reset(self, **keys: Any) -> Attachment:
        """Start over: table "a" has no route, "client" the other node's; disk, pod and agent are new.

        ``keys``: what the network configuration says besides.
        """
        node = self.place.node
        self.lives.kill()
        self.lives.deaths = 0
        for directory in (self.place.data, node.agent.spool):
            shutil.rmtree(directory, ignore_errors=True)
        node.agent.socket.unlink(missing_ok=True)
        self.scene.clear(self.destination)
        self.scene.point(self.destination, self.other, ["client"])
        self.scene.source_check(self.attachment.eni)
        node.remove_pod(self.attachment.pod)
        subprocess.run(
            ["ip", "netns", "exec", node.ns, "tc", "qdisc", "del", "dev", "eth1", "clsact"],
            capture_output=True,
        )  # the guard
        self.attachment = self.scene.attach(self.place, self.address, keys=keys)
        self.lives.start()
        return self.attachment

    def routes(self) -> dict[str, str]:
        return self.scene.routes(self.destination)

    def foreign(self) -> dict[str, str]:
        """What must still be there when we are gone."""
        return {table: owner for table, owner in self.routes().items() if owner != self.me}

    def picture(self, answer: int = 0) -> Picture:
        """Return how things are, in words that are the same on every node."""

        def output(text: str) -> str:
            for here, anywhere in self._names:
                text = text.replace(here, anywhere)
            return text

        claims = sorted(
            (output(str(route.key.destination)), self._tables[route.key.table], route.state.value)
            for claim in self.place.claims()
            for route in claim.routes
        )
        return Picture(
            {table: output(owner) for table, owner in self.routes().items()},
            self.scene.routes(BYSTANDER),
            sorted(output(line) for line in ours_in(self.attachment.pod)),
            bool(connected_in(self.attachment.pod)),
            claims,
            len(self.place.spooled()),
            answer,
        )

    @property
    def _names(self) -> list[tuple[str, str]]:
        eni = self.place.node.eni("eth1")
        return [
            (self.address.split("/")[0], "ADDRESS"),
            (str(ip_network(self.address, strict=False).network_address), "NETWORK"),
            (str(eni.subnet.gateway), "GATEWAY"),
            (self.me, "me"),
            (self.other, "the other"),
        ]

    @property
    def _tables(self) -> dict[str, str]:
        return {table: name for name, table in self.scene.lab.tables.items()}

    def settled(self, so: Callable[[Picture], bool], seconds: float = 12) -> Picture:
        """Return the picture once it is ``so``; the last one if it never is. The dead are replaced."""
        end = time.monotonic() + seconds
        while True:
            good = so(picture := self.picture())
            # With the last event of all an agent may die when everything is done.
            if not self.lives.alive or (good and not self.lives.deaths and self.lives.dies(0.2)):
                self.revive()
            elif good or time.monotonic() > end:
                return picture
            time.sleep(0.1)

    def revive(self) -> None:
        """Bury the agent, which died of its doom, and start the next."""
        assert self.lives.buried() == KILLED, self.lives
        self.lives.deaths += 1
        self.lives.start()

    def through(self, verb: str) -> tuple[Answer, bool]:
        """Make a call beside which the agent may die; return its answer, and whether one died."""
        calling, died = Calling(self.attachment, verb), False
        end = time.monotonic() + 30
        while calling.is_alive() and time.monotonic() < end:
            if not died and not self.lives.alive:
                died = True
                self.revive()
            calling.join(0.02)
        if not died and not self.lives.alive:  # with its last breath
            died = True
            self.revive()
        return calling.answer(), died

    def claim(self) -> Claim | None:
        return self.attachment.claim()


def representatives(moments: Sequence[Moment]) -> list[Moment]:
    """Of what the keeper does look after look: the first and the last of each kind."""
    last: dict[str, int] = {}
    for moment in moments:
        last[moment.kind] = moment.number
    return [moment for moment in moments if moment.number in (1, last[moment.kind])]


def telling(moments: Sequence[Moment]) -> list[Moment]:
    """Leave out what is told by another: after one event is before the next, so "before" is for EC2 only."""
    return [moment for moment in moments if moment.when == "after" or moment.kind.startswith("ec2.")]


def recording(stage: Stage) -> Path:
    """Return a new file for moments."""
    file = stage.place.node.state / "moments"
    file.unlink(missing_ok=True)
    file.touch()
    return file


@contextlib.contextmanager
def lives_of(
    places: Sequence[Served], constants: Mapping[str, object] | None = None
) -> Iterator[list[Lives]]:
    """Have agents on each node for the length of a ``with`` block."""
    with contextlib.ExitStack() as stack:
        lives = []
        for place in places:
            lives.append(Lives(place, constants))
            stack.callback(lives[-1].close)
        yield lives
