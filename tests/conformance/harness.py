"""The executable under test as a container runtime meets it: environment and standard input, one answer.

Nothing here knows what the executable is made of: the fixture ``plugin`` puts direct mode's script in its
place or, with ``agents``, the client of a node that runs the agent.
Every call, whatever it is about, is held to what is true of all (``Answer``).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from lab import direct, netns
from lab.errors import LabError
from lab.forkserver import Forked
from lab.node import PATH, Node
from lab.pod import Pod
from lab.vpc import TAG
from lab.world import Lab
from tests.conformance.through import Agents
from tests.support.waiting import until

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
NEWEST = VERSIONS[-1]
NETWORK = "floating"
SCRIPT = (str(direct.SCRIPT),)
AHEAD = 8
"""Pods are made so many at a time."""
WRITES = ("CreateRoute", "ReplaceRoute", "DeleteRoute", "ModifyNetworkInterfaceAttribute")
PROTO = "241"
"""What our routes and rules in a pod are marked with."""

Config = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a call came to. P08, P10, P12 hold for every one: a result or an error or nothing, never two."""

    verb: str
    status: int
    stdout: bytes
    stderr: str
    seconds: float
    forked: bool = False
    """Whether a warm process forked to run the program, or the file itself was executed (``Bench.start``)."""

    def __post_init__(self) -> None:
        document = self.document
        if self.status:
            assert document, f"{self.verb}: exit status {self.status} and no error document\n{self.stderr}"
            assert isinstance(document["code"], int), self
            assert document["code"] > 0, self
            assert document["msg"], self
            assert document["cniVersion"] in VERSIONS, self
            assert set(document) <= {"cniVersion", "code", "msg", "details"}, self
        elif self.verb in ("ADD", "VERSION"):
            assert document, f"{self.verb}: success without a result\n{self.stderr}"
            assert "code" not in document, self
        else:
            assert self.stdout == b"", self

    @property
    def document(self) -> Config:
        """The one JSON document on standard output; json.loads takes no second one."""
        return dict(json.loads(self.stdout)) if self.stdout else {}

    @property
    def code(self) -> int:
        return int(self.document.get("code", 0))

    @property
    def said(self) -> str:
        """Message and details, as a runtime shows them."""
        return f"{self.document.get('msg', '')} ({self.document.get('details', '')})"

    def ok(self) -> Config:
        """Return the result of a call that succeeded."""
        assert self.status == 0, f"{self.verb}: {self.code}: {self.said}\n{self.stderr}"
        return self.document

    def refused(self, code: int, *words: str) -> str:
        """Return what was said by a call that failed with ``code``, and has said all of ``words``."""
        assert self.code == code, f"{self.verb}: {self.code}: {self.said}\n{self.stderr}"
        for word in words:
            assert word in self.said
        return self.said


@dataclass(frozen=True)
class Sandbox:
    """A pod with an interface that the plugin before us made: macvlan passthru on an ENI (one at a time), or
    a veth that has the ENI's MAC (any number: the address is found, packets are not carried)."""

    pod: Pod
    node: Node
    eth: str
    addresses: tuple[str, ...]
    ifname: str = "net1"

    @property
    def container(self) -> str:
        return self.pod.container_id

    @property
    def netns(self) -> str:
        return self.pod.netns

    @property
    def eni(self) -> str:
        return self.node.eni(self.eth).id

    def prev(self, version: str = NEWEST, **more: Any) -> Config:
        """Return the result of the plugin before us, in the words of ``version``."""
        return {
            "cniVersion": version,
            "interfaces": [{"name": self.ifname, "mac": self.node.eni(self.eth).mac, "sandbox": self.netns}],
            "ips": [address(item, version, interface=0) for item in self.addresses],
            "dns": {},
            **more,
        }

    def ip(self, *lines: str) -> None:
        netns.ip(self.pod.ns, lines)

    def network(self) -> list[str]:
        """Return what we put into the pod, one line each."""
        request = f"route show table all proto {PROTO}", "rule show"
        results = [
            _line(family, item)
            for family, (routes, rules) in self._both(*request)
            for item in [*routes, *(rule for rule in rules if str(rule.get("protocol")) == PROTO)]
        ]
        return sorted(results)

    def main_routes(self) -> list[str]:
        """Return the destinations that the main table sends through the interface."""
        results = [route for _, (routes,) in self._both("route show") for route in routes]
        return sorted(
            item["dst"]
            for item in results
            if item.get("dev") == self.ifname and not item["dst"].startswith(("fe80", "ff"))
        )

    def _both(self, *lines: str) -> Iterator[tuple[str, list[list[Config]]]]:
        """Ask ``ip`` about both families, each by one process; numbers instead of names."""
        for family in ("-4", "-6"):
            argv = ["ip", "-n", self.pod.ns, "-N", "-j", "-d", family, "-batch", "-"]
            done = subprocess.run(argv, input="\n".join(lines), capture_output=True, text=True, check=True)
            answers = list(_documents(done.stdout))
            assert len(answers) == len(lines), done
            yield family, answers


def _documents(text: str) -> Iterator[list[Config]]:
    """Yield the JSON documents of ``ip -batch``, one after the other."""
    decoder, text = json.JSONDecoder(), text.lstrip()
    while text:
        document, end = decoder.raw_decode(text)
        yield document
        text = text[end:].lstrip()


def _line(family: str, raw: Config) -> str:
    if "src" in raw:
        to = f" to {raw['dst']}/{raw['dstlen']}" if "dst" in raw else ""
        oif = f" oif {raw['oif']}" if "oif" in raw else ""
        barred = raw.get("action") in ("unreachable", "7")
        text = "unreachable" if barred else f"lookup {raw['table']}"
        return f"from {raw['src']}{to}{oif} {text}" + (" (IPv6)" if oif and family == "-6" else "")
    anywhere = {"-4": "0.0.0.0/0", "-6": "::/0"}[family]
    destination = anywhere if raw["dst"] == "default" else raw["dst"]
    if raw.get("type") in ("unreachable", "7"):
        return f"unreachable {destination} table {raw['table']}"
    mtu = "".join(f" mtu {metric['mtu']}" for metric in raw.get("metrics", []) if "mtu" in metric)
    via = f" via {raw['gateway']}" if "gateway" in raw else ""
    return f"{destination}{via} dev {raw['dev']} table {raw.get('table', '254')}{mtu}"


def address(text: str, version: str = NEWEST, **more: Any) -> Config:
    """Return one entry of ``ips``; before 1.0.0 it says which IP version it is."""
    family = {"version": str(ip_interface(text).version)} if version < "1.0.0" else {}
    return {**family, "address": text, **more}


@dataclass
class Bench:
    """The lab, and the executable on it. One test at a time: ``lab`` is shared, what a test makes is not."""

    lab: Lab
    argv: tuple[str, ...]
    agents: Agents | None = None
    executed: bool = False
    """Whether every call executes the program's file."""
    sandboxes: list[Sandbox] = field(default_factory=list)
    after: list[Callable[[], object]] = field(default_factory=list)

    # -- calls ----------------------------------------------------------------------------------------

    def environment(
        self, verb: str, sandbox: Sandbox | None = None, node: Node | None = None, **changes: str | None
    ) -> dict[str, str]:
        """Return what libcni sets (all six, empty where a verb has no use for one); None takes one away."""
        node = node or (sandbox.node if sandbox else self.lab.nodes["a1"])
        results: dict[str, str | None] = {
            "PATH": PATH,
            "HOME": str(node.state),
            "LANG": "C.UTF-8",
            **node.env,
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": sandbox.container if sandbox else "",
            "CNI_NETNS": sandbox.netns if sandbox else "",
            "CNI_IFNAME": sandbox.ifname if sandbox else "",
            "CNI_ARGS": arguments(sandbox.pod) if sandbox else "",
            "CNI_PATH": "/opt/cni/bin",
            **changes,
        }
        return {name: value for name, value in results.items() if value is not None}

    def start(
        self, environ: Mapping[str, str], *, node: Node | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start the executable on a node with pipes; whoever starts it also ends it.

        Nine tenths of a call are the start of the interpreter. So a warm process forks to run the program
        (``lab.forkserver``), except where the file itself is to be executed: see ``forks``.
        """
        node = node or self.lab.nodes["a1"]
        argv = self.argv
        if self.agents:
            self.agents.prepare(node, environ)
            argv = (str(self.agents.client(node)),)
        given: dict[str, Any] = {"env": dict(environ), "cwd": "/"}
        given |= dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        if self.forks(environ, options):
            return netns.inside(node.ns, node.starter(argv[0]), argv, **given)
        prefix = options.pop("prefix", ())
        return netns.inside(node.ns, subprocess.Popen, [*prefix, *argv], **given | options)

    def forks(self, environ: Mapping[str, str], options: Mapping[str, Any]) -> bool:
        """Say whether a fork does as well: for what has nothing to do with how the process began."""
        odd = any(name.startswith(("PYTHON", "LD_")) for name in environ)
        return not (self.executed or self.argv != SCRIPT or options or odd)

    def run(
        self,
        environ: Mapping[str, str],
        stdin: bytes = b"",
        *,
        node: Node | None = None,
        timeout: float = 60,
        settle: bool = True,
        **options: Any,
    ) -> Answer:
        """Run the executable with exactly this environment and input; then ``settle``."""
        process = self.start(environ, node=node, **options)
        began = time.monotonic()
        try:
            stdout, stderr = process.communicate(stdin, timeout)
        finally:
            process.kill()
        took = time.monotonic() - began
        verb = environ.get("CNI_COMMAND", "")
        if settle and (verb in ("DEL", "GC") or (verb == "ADD" and process.returncode)):
            self.settle(node)
        text = stderr.decode(errors="replace")
        return Answer(verb, process.returncode, stdout, text, took, isinstance(process, Forked))

    def settle(self, node: Node | None = None) -> None:
        """Let what a call leaves to the agent be done; in direct mode a call does it before it answers."""
        if self.agents:
            self.agents.settle(node or self.lab.nodes["a1"])

    @contextlib.contextmanager
    def offline(self, on: str = "a1") -> Iterator[None]:
        """The node's disk while nobody works with it."""
        with self.agents.offline(self.lab.nodes[on]) if self.agents else contextlib.nullcontext():
            yield

    def told(self, answer: Answer, on: str = "a1") -> str:
        """Return what the operator can read of a call: on standard error, or in the agent's log."""
        return answer.stderr + (self.agents.told(self.lab.nodes[on]) if self.agents else "")

    def call(
        self,
        verb: str,
        config: Config,
        sandbox: Sandbox | None = None,
        *,
        node: Node | None = None,
        **changes: str | None,
    ) -> Answer:
        """Make one call of a runtime; ``changes`` are of the environment."""
        node = node or (sandbox.node if sandbox else None)
        environ = self.environment(verb, sandbox, node, **changes)
        return self.run(environ, json.dumps(config).encode(), node=node)

    def status(self, request: list[str] | None = None, **changes: str | None) -> Answer:
        """Ask for STATUS as kubelet does, who asks again: on a busy machine metadata, which is this process,
        misses now and then the 150 ms that it has. ``request`` is cleared before each time.
        """
        for _ in range(5):
            if request:
                request.clear()
            answer = self.call("STATUS", self.config(), **changes)
            if "does not answer" not in answer.said:
                break
        return answer

    def config(self, version: str = NEWEST, **keys: Any) -> Config:
        """Return our entry of a chain as the runtime hands it over. ``...`` leaves a key out."""
        output = {
            "cniVersion": version,
            "name": NETWORK,
            "type": "floatip",
            "routeTables": {"tags": dict(TAG)},
            **keys,
        }
        return {key: value for key, value in output.items() if value is not ...}

    def add(self, sandbox: Sandbox, version: str = NEWEST, **keys: Any) -> Answer:
        """ADD after the plugin that made the interface."""
        return self.call("ADD", self.config(version, **{"prevResult": sandbox.prev(version)} | keys), sandbox)

    def delete(self, sandbox: Sandbox, version: str = NEWEST, **keys: Any) -> Answer:
        """DEL without ``prevResult``, as a runtime that has lost its cache makes it."""
        return self.call("DEL", self.config(version, **keys), sandbox)

    def check(self, sandbox: Sandbox, version: str = NEWEST, **keys: Any) -> Answer:
        """CHECK with the result of the plugin before us (ours adds only routes to it)."""
        config = self.config(version, **{"prevResult": sandbox.prev(version)} | keys)
        return self.call("CHECK", config, sandbox)

    # -- the world ------------------------------------------------------------------------------------

    def sandbox(
        self,
        *addresses: str,
        on: str = "a1",
        eth: str = "eth1",
        kind: str = "macvlan",
        name: str = "web",
        namespace: str = "default",
    ) -> Sandbox:
        """Make a pod whose net1 has the addresses, as a plugin before us leaves it."""
        node = self.lab.nodes[on]
        node.pods_ahead(AHEAD)
        pod = node.pod(name, namespace=namespace, serve=False)
        made = Sandbox(pod, node, eth, addresses)
        self.sandboxes.append(made)
        mac, host = node.eni(eth).mac, f"v{pod.host_link}"
        how = {
            "macvlan": f"link add link {eth} name net1 netns {pod.ns} type macvlan mode passthru",
            "veth": f"link add {host} type veth peer name net1 address {mac} netns {pod.ns}",
        }
        _plug(node, [how[kind], *([f"link set {host} up"] if kind == "veth" else [])])
        made.ip(*(f"addr add {item} dev net1" for item in addresses), "link set net1 up")
        return made

    def remove(self, sandboxes: Sequence[Sandbox]) -> None:
        """End pods without a word to any plugin. Their interfaces go first, so that the ENIs are free."""
        for sandbox in sandboxes:
            self.sandboxes.remove(sandbox)
            if Path(sandbox.netns).exists():
                subprocess.run(
                    ["ip", "-n", sandbox.pod.ns, "link", "del", "net1"], capture_output=True, check=False
                )
        for node in {sandbox.node for sandbox in sandboxes}:
            node.remove_pod(*(sandbox.pod for sandbox in sandboxes if sandbox.node is node))

    def vpc(self, destination: str, *, state: bool = False) -> dict[str, str]:
        """Return where each of the lab's tables really sends a destination now; no entry is no route."""
        results = {}
        for name, table in self.lab.tables.items():
            if route := self.lab.ec2.truth(table).get(destination):
                results[name] = str(route) if state else route.target
        return results

    def everywhere(self, target: str) -> dict[str, str]:
        """What ``vpc`` says when every table sends to ``target``."""
        return dict.fromkeys(self.lab.tables, target)

    def point(self, destination: str, tables: list[str] | None = None, **target: str) -> None:
        """Create a route by hand, as an administrator or another node would."""
        for name in tables or self.lab.tables:
            self.lab.ec2.client().create_route(
                RouteTableId=self.lab.tables[name], **_cell(destination), **target
            )

    def unpoint(self, destination: str, *tables: str) -> None:
        """Delete a route by hand."""
        for name in tables or self.lab.tables:
            self.lab.ec2.client().delete_route(RouteTableId=self.lab.tables[name], **_cell(destination))

    def written(self, *actions: str, outcome: str | None = None) -> list[str]:
        """Return the writes that reached EC2 since the test began: ``CreateRoute ok``."""
        return [
            f"{call.action} {call.outcome}"
            for call in self.lab.ec2.journal
            if call.action in (actions or WRITES) and outcome in (None, call.outcome)
        ]

    def asked(self) -> list[str]:
        """Return what reached EC2 since the test began: of an agent, which looks by itself, the writes."""
        return self.written() if self.agents else [str(call) for call in self.lab.ec2.journal]

    def claims(self, on: str = "a1") -> list[Config]:
        """Return the claims on a node's disk, oldest first."""
        results = [json.loads(path.read_text()) for path in self.claim_files(on)]
        return sorted(results, key=lambda claim: claim["created"])

    def claim_files(self, on: str = "a1") -> list[Path]:
        return sorted((self.lab.nodes[on].data_dir / "claims").glob("*.json"))

    def states(self, on: str = "a1") -> list[set[str]]:
        """Return the states of the routes of each claim."""
        return [{route["state"] for route in claim["routes"]} for claim in self.claims(on)]

    def age_claims(self, seconds: float = 3600, on: str = "a1") -> None:
        """Let the claims be this much older: what was just written is looked at with more patience."""
        with self.offline(on):
            for path in self.claim_files(on):
                claim = json.loads(path.read_text())
                for part, key in [
                    (claim, "created"),
                    (claim, "written"),
                    *((r, "since") for r in claim["routes"]),
                ]:
                    part[key] -= seconds
                path.write_text(json.dumps(claim))
        if self.agents:
            node = self.lab.nodes[on]
            self.agents.rest(node, self.environment("CHECK", node=node))

    def policy(self, on: str = "a1", **keys: Any) -> None:
        """Change the node configuration for the length of the test."""
        self.lab.nodes[on].write_config({**self.lab.node_config(), **keys})

    # -- the end of a test ----------------------------------------------------------------------------

    def clean(self, routes: Mapping[str, set[str]]) -> None:
        """Leave the lab as the next test expects it: ``routes`` are the destinations of each table."""
        for undo in reversed(self.after):
            undo()
        self.lab.ec2.faults.clear()
        for node in self.lab.nodes.values():
            if self.agents:
                self.agents.forget(node)  # first: the keeper would mend what is taken away below
        self.remove(list(self.sandboxes))
        for name, table in self.lab.tables.items():
            for destination in set(self.lab.ec2.truth(table)) - routes[name]:
                self.unpoint(destination, name)
        for node in self.lab.nodes.values():
            node.write_config(self.lab.node_config())
            if not self.agents:
                shutil.rmtree(node.data_dir, ignore_errors=True)
                node.data_dir.mkdir()
        self.lab.ec2.journal.clear()


def _plug(node: Node, lines: list[str]) -> None:
    """Make an interface. The kernel takes its time to free an ENI whose pod's namespace has been removed."""

    def made() -> bool:
        try:
            netns.ip(node.ns, lines)
        except LabError as e:
            if "Invalid argument" not in str(e):
                raise
            return False
        return True

    until(made, lines)


def arguments(pod: Pod, **more: str) -> str:
    """Return ``CNI_ARGS`` as Multus and containerd write them."""
    output = {
        "IgnoreUnknown": "1",
        "K8S_POD_NAMESPACE": pod.namespace,
        "K8S_POD_NAME": pod.name,
        "K8S_POD_INFRA_CONTAINER_ID": pod.container_id,
        **more,
    }
    return ";".join(f"{key}={value}" for key, value in output.items())


def _cell(destination: str) -> dict[str, str]:
    return {"DestinationIpv6CidrBlock" if ":" in destination else "DestinationCidrBlock": destination}


def missing(path: str | Path) -> bool:
    return not os.path.lexists(path)
