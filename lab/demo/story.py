"""What the demo plays, and what must be observed for a step to count: by packets, by what EC2 holds."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import TYPE_CHECKING, Any, Protocol

from cni_floatip.model.values import Address, Network, host_route
from lab.chain import PluginError
from lab.client import Report
from lab.demo.watch import Watch, Watched
from lab.errors import LabError
from lab.node import Node
from lab.pod import Pod

if TYPE_CHECKING:
    from lab.world import Lab

UNTIL_RESCHEDULED = 1.0
"""How long the demo's Kubernetes takes to notice and to start the pod elsewhere. A real one takes minutes."""

SETTLE = 0.5
"""How long nothing must change before "nothing changed" counts as observed."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One of the two ways to choose a floating address."""

    number: int
    what: str
    addresses: tuple[str, ...]
    destinations: tuple[Network, ...]

    @property
    def targets(self) -> tuple[Address, ...]:
        """The addresses that clients talk to."""
        return tuple(ip_interface(a).ip for a in self.addresses)


def patterns(lab: Lab) -> tuple[Pattern, ...]:
    """Return both patterns, each with IPv4 and IPv6."""
    one = (lab.floating[2], lab.floating6[2])
    subnet = lab.dummy_subnets[0]
    return (
        Pattern(
            1,
            "addresses outside the VPC, a host route each",
            tuple(str(host_route(a)) for a in one),
            tuple(host_route(a) for a in one),
        ),
        Pattern(
            2,
            "addresses in a VPC subnet without network interfaces, a route for the subnet",
            (f"{subnet.cidr[5]}/{subnet.cidr.prefixlen}", f"{subnet.cidr6[5]}/{subnet.cidr6.prefixlen}"),
            (subnet.cidr, subnet.cidr6),
        ),
    )


@dataclass(frozen=True, slots=True)
class Observation:
    """One thing that must be so, and whether it was."""

    what: str
    held: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Spent:
    """Where the time of one ADD went, in seconds. ``ec2`` is when at least one call was being answered;
    ``agent`` is the agent's part of ``floatip``, None in direct mode."""

    predecessor: str
    before: float
    floatip: float
    agent: float | None
    ec2: float
    calls: Mapping[str, int]
    rest: str


@dataclass
class Outcome:
    """What one pattern's play came to."""

    pattern: Pattern
    observations: list[Observation] = field(default_factory=list)
    tables: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    failover: dict[Watched, Report] = field(default_factory=dict)
    calm: dict[Watched, Report] = field(default_factory=dict)
    spent: dict[str, Spent] = field(default_factory=dict)
    add_began: float = 0.0
    first_answer: dict[Watched, float] = field(default_factory=dict)

    @property
    def held(self) -> bool:
        return bool(self.observations) and all(o.held for o in self.observations)


class Stage(Protocol):
    """Whatever shows the play."""

    def scene(self, pattern: Pattern) -> None: ...
    def step(self, text: str) -> None: ...
    def observed(self, observation: Observation) -> None: ...
    def tables(self, caption: str, tables: Mapping[str, Mapping[str, str]]) -> None: ...
    def live(self, watch: Watch) -> contextlib.AbstractContextManager[None]: ...
    def outcome(self, outcome: Outcome) -> None: ...


class Play:
    """One pattern, played once: a1 has the pod, loses it to b1, comes back late."""

    def __init__(self, lab: Lab, pattern: Pattern, stage: Stage) -> None:
        self.lab = lab
        self.stage = stage
        self.pattern = pattern
        self.outcome = Outcome(pattern)
        self.here, self.there = lab.azs["a"].nodes[0], lab.azs["b"].nodes[0]
        self.chain = lab.conflist(pattern.addresses, name=f"pattern-{pattern.number}", onDelete="release")
        self.watch = Watch(lab, pattern.targets)

    def run(self) -> Outcome:
        """Play it; what cannot be observed ends it."""
        self.stage.scene(self.pattern)
        try:
            with self.pods() as (old, new), self.watch, self.stage.live(self.watch):
                failed, answered, ended = self.acts(old, new)
            for watched, report in self.watch.reports.items():
                self.outcome.failover[watched] = report.between(failed - 0.2, answered + 0.2)
                self.outcome.calm[watched] = report.between(answered, ended)
            self.observe(
                f"no packet was lost from the first answers of {self.there} to its DEL", self.expect_calm
            )
        except NotObserved:
            pass  # noted where it happened; what was seen up to there is shown
        self.stage.outcome(self.outcome)
        return self.outcome

    def acts(self, old: Pod, new: Pod) -> tuple[float, float, float]:
        """Play the acts; return when the zone failed, when all were answered again, when the pod went."""
        here, there, stage = self.here, self.there, self.stage
        stage.step(f"The pod starts on node {here}: its runtime runs the chain {self.chain_text()}")
        self.add(here, old)
        self.expect_answers(old)
        self.expect_routes(here)
        self.show_tables("before")

        stage.step(f"Availability Zone {here.az} fails: nodes, links, and their way to EC2")
        failed = time.monotonic()
        self.lab.azs[here.az].fail()
        self.expect_silence()
        self.expect_routes(here, "blackhole")
        time.sleep(UNTIL_RESCHEDULED)

        stage.step(f"Kubernetes starts the pod on node {there}: ADD runs there")
        self.outcome.add_began = began = time.monotonic()
        self.add(there, new)
        self.expect_answers(new)
        answered = time.monotonic()
        self.outcome.first_answer = {w: at - began for w, at in self.watch.first_answers(new.name).items()}
        self.expect_routes(there)
        self.show_tables("after")

        stage.step(f"Availability Zone {here.az} is back; the old pod on {here} still holds the address")
        self.lab.azs[here.az].recover()
        self.expect_only(new)
        self.expect_routes(there)

        stage.step(f"The runtime of {here} gets to its DEL at last, with onDelete=release")
        self.observe(f"DEL on {here} succeeds", lambda: here.delete(old, self.chain))
        if self.lab.agents:
            self.expect_let_go(here)
        self.expect_only(new)
        self.expect_routes(there)

        stage.step(f"The pod on {there} is deleted")
        ended = time.monotonic()
        self.observe(f"DEL on {there} succeeds", lambda: there.delete(new, self.chain))
        if self.lab.agents:
            self.expect_routes(there, suffix=f" still, for a grace of {self.grace:g} s (60 s by default)")
        self.expect_silence()
        self.expect_routes(None, within=self.grace + 10 if self.lab.agents else 0)
        return failed, answered, ended

    @property
    def grace(self) -> float:
        return float(self.lab.node_config()["releaseGraceSeconds"])

    def expect_let_go(self, node: Node) -> None:
        """Wait for the agent to look, after the grace, at routes that are not its own any more."""

        def look() -> None:
            until = time.monotonic() + self.grace + 10
            while (states := claim_states(node)) - {"gone"}:
                if time.monotonic() > until:
                    raise LabError(f"still {', '.join(sorted(states))}\n{node.agent}")
                time.sleep(0.1)

        self.observe(f"the agent of {node} sees, {self.grace:g} s later, that no route is its own", look)

    @contextlib.contextmanager
    def pods(self) -> Iterator[tuple[Pod, Pod]]:
        made = [(node, node.pod(f"web-{node}")) for node in (self.here, self.there)]
        try:
            yield made[0][1], made[1][1]
        finally:
            for node, pod in made:
                node.remove_pod(pod)

    def chain_text(self) -> str:
        return " + ".join(p["type"] for p in self.chain["plugins"])

    # What is observed. -------------------------------------------------------------------------------------

    def observe(self, what: str, look: Callable[[], Any]) -> None:
        """Note whether ``look`` returns without an error; end the play if not."""
        try:
            detail = look()
        except (LabError, PluginError) as e:
            self.note(Observation(what, False, str(e)))
            raise NotObserved from e
        self.note(Observation(what, True, str(detail or "")))

    def note(self, observation: Observation) -> None:
        self.outcome.observations.append(observation)
        self.stage.observed(observation)

    def add(self, node: Node, pod: Pod) -> None:
        self.observe(f"ADD on {node} succeeds", lambda: node.add(pod, self.chain) and None)
        self.outcome.spent[node.name] = spent(self.lab, node)

    def expect_answers(self, pod: Pod) -> None:
        who = f"every client, in both families, is answered by {pod}"
        self.observe(who, lambda: self.watch.wait_answers(pod.name, 10))

    def expect_silence(self) -> None:
        self.observe("no client is answered", lambda: self.watch.wait_silence(SETTLE, 10))

    def expect_only(self, pod: Pod) -> None:
        def look() -> None:
            since = time.monotonic()
            time.sleep(SETTLE)
            self.watch.wait_answers(pod.name, 10)
            self.watch.expect_no_other(pod.name, since)

        self.observe(f"every client is still answered by {pod}, and by nobody else", look)

    def expect_calm(self) -> None:
        for watched, report in self.outcome.calm.items():
            if report.lost:
                raise LabError(f"{watched}: {report}")

    def expect_routes(
        self, node: Node | None, state: str = "active", *, within: float = 0.0, suffix: str = ""
    ) -> None:
        what = f"every route table: {self.place(node)}" + ("" if state == "active" else f", {state}")
        wanted = self.place(node) + ("" if state == "active" or node is None else f" ({state})")

        def others() -> list[str]:
            return [
                f"table {table}: {destination} -> {result}"
                for table, routes in self.tables().items()
                for destination, result in routes.items()
                if result != wanted
            ]

        def look() -> None:
            until = time.monotonic() + within
            while results := others():
                if time.monotonic() >= until:
                    raise LabError(results[0])
                time.sleep(0.05)

        self.observe(what + suffix, look)

    def place(self, node: Node | None) -> str:
        return f"{node} {self.chain['plugins'][0]['master']}" if node else "no route"

    def tables(self) -> dict[str, dict[str, str]]:
        """Return, for each route table and destination of ours, where EC2 really sends it."""
        names = {eni.id: f"{node} {eni.ifname}" for node in self.lab.nodes.values() for eni in node.enis}
        results: dict[str, dict[str, str]] = {}
        for name, table in self.lab.tables.items():
            truth = self.lab.ec2.truth(table)
            results[name] = {}
            for destination in map(str, self.pattern.destinations):
                route = truth.get(destination)
                where = names.get(route.target, route.target) if route else "no route"
                state = f" ({route.state})" if route and route.state != "active" else ""
                results[name][destination] = where + state
        return results

    def show_tables(self, caption: str) -> None:
        self.outcome.tables[caption] = self.tables()
        self.stage.tables(caption, self.outcome.tables[caption])


class NotObserved(Exception):
    """A step of the play did not hold; it has been noted."""


def play(lab: Lab, pattern: Pattern, stage: Stage) -> Outcome:
    """Play one pattern on a stage."""
    return Play(lab, pattern, stage).run()


def claim_states(node: Node) -> set[str]:
    """Return the states of the routes that a node's claims speak of, as they are on its disk."""
    claims = [json.loads(path.read_text()) for path in (node.data_dir / "claims").glob("*.json")]
    return {route["state"] for claim in claims for route in claim["routes"]}


def spent(lab: Lab, node: Node) -> Spent:
    """Return where the time of the node's last ADD went; EC2's part is from its journal."""
    before, last = node.runtime.runs[-2:]
    calls = [
        call
        for call in lab.ec2.journal.of(caller=node.name)
        if last.began <= call.at <= last.began + last.seconds
    ]
    busy, until = 0.0, 0.0
    for begin, end in sorted((call.at, call.at + call.seconds) for call in calls):
        busy += max(0.0, end - max(begin, until))
        until = max(until, end)
    actions = {call.action: 0 for call in calls}
    for call in calls:
        actions[call.action] += 1
    agent = _agent_seconds(node) if lab.agents else None
    rest = "the agent's own work" if lab.agents else "the start of its process"
    return Spent(before.plugin, before.seconds, last.seconds, agent, busy, actions, rest)


def _agent_seconds(node: Node) -> float | None:
    """Return how long the agent worked on the last ADD, by its own log."""
    results = [
        line["seconds"] for line in node.agent.said() if line.get("verb") == "ADD" and "seconds" in line
    ]
    return float(results[-1]) if results else None
