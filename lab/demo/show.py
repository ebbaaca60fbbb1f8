"""Three ways to show the demo: a live display on a terminal, plain lines, or one JSON document."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from lab.demo.story import Observation, Outcome, Pattern, Spent
from lab.demo.watch import SAMPLE, WIDTH, Lines, Watch

if TYPE_CHECKING:
    from lab.world import Lab

TITLE = "A floating IP moves between two Availability Zones"
COLOURS = {"web-a1": "cyan", "web-b1": "green"}
FULL, EMPTY = "━", "·"


def choose(*, json: bool, plain: bool) -> Terminal | Plain | Document:
    """Return the way that was asked for."""
    return Document() if json else Plain() if plain else Terminal()


def seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def spending(node: str, spent: Spent) -> str:
    """Say in one line where the time of an ADD went."""
    calls = ", ".join(f"{n} {action}" for action, n in spent.calls.items())
    floatip = seconds(spent.floatip)
    if spent.agent is not None:
        floatip += f" (client {seconds(max(0.0, spent.floatip - spent.agent))}, agent {seconds(spent.agent)})"
    return (
        f"ADD on {node}: {spent.predecessor} {seconds(spent.before)}, floatip {floatip},"
        f" of which EC2 {seconds(spent.ec2)} ({calls}); the rest is {spent.rest}"
    )


def results(outcome: Outcome) -> Iterator[tuple[str, ...]]:
    """Yield one row per client and family: what the failover cost it."""
    yield "", "packets lost", "longest gap", "until ADD", "ADD to first answer", "lost afterwards"
    for watched, report in outcome.failover.items():
        calm = outcome.calm[watched]
        until = outcome.add_began - report.longest_silence[0]
        times = (seconds(report.max_gap), seconds(until), seconds(outcome.first_answer[watched]))
        yield str(watched), f"{report.lost} of {report.sent}", *times, f"{calm.lost} of {calm.sent}"


def verdict(outcomes: Sequence[Outcome]) -> str:
    observed = [o for outcome in outcomes for o in outcome.observations]
    held = sum(o.held for o in observed)
    if all(outcome.held for outcome in outcomes):
        return f"All {held} observations are as they should be."
    return f"{len(observed) - held} of {len(observed)} observations are not as they should be."


class Plain:
    """Lines with the time in front, for a log."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def _say(self, text: str = "") -> None:
        print(f"{time.monotonic() - self._began:7.2f}  {text}".rstrip(), flush=True)

    def title(self) -> None:
        self._say(TITLE)

    def world(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._say(line)

    def scene(self, pattern: Pattern) -> None:
        self._say()
        self._say(f"== Pattern {pattern.number}: {pattern.what}: {', '.join(pattern.addresses)}")

    def step(self, text: str) -> None:
        self._say()
        self._say(text)

    def observed(self, observation: Observation) -> None:
        detail = f": {observation.detail}" if observation.detail else ""
        self._say(f"  {'ok  ' if observation.held else 'FAIL'} {observation.what}{detail}")

    def tables(self, caption: str, tables: Mapping[str, Mapping[str, str]]) -> None:
        self._say(f"  route tables {caption}:")
        for name, routes in tables.items():
            self._say(f"    {name:7} " + "   ".join(f"{d} -> {where}" for d, where in routes.items()))

    @contextlib.contextmanager
    def live(self, _watch: Watch) -> Iterator[None]:
        yield

    def outcome(self, outcome: Outcome) -> None:
        self._say()
        self._say("What the failover cost:")
        for row in results(outcome):
            self._say(f"  {row[0]:18}" + "".join(f"{cell:>21}" for cell in row[1:]))
        for node, spent in outcome.spent.items():
            self._say("  " + spending(node, spent))

    def end(self, outcomes: Sequence[Outcome]) -> None:
        self._say()
        self._say(verdict(outcomes))


class Terminal:
    """A live display: who answers each client now and in the last seconds, below what has happened so far."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._now = ""

    def title(self) -> None:
        self._console.print(Panel(Text(TITLE, "bold", justify="center"), border_style="blue"))
        self._console.print("building a VPC out of network namespaces ...", style="dim")

    def world(self, lines: Sequence[str]) -> None:
        for line in lines:
            self._console.print(line, style="dim")

    def scene(self, pattern: Pattern) -> None:
        self._console.print()
        self._console.print(Rule(f"[bold]Pattern {pattern.number}[/]: {pattern.what}", style="blue"))
        self._console.print(f"floating: [bold]{', '.join(pattern.addresses)}[/]")

    def step(self, text: str) -> None:
        self._now = text
        self._console.print()
        self._console.print(f"[bold]{text}[/]")

    def observed(self, observation: Observation) -> None:
        mark = "[green]✔[/]" if observation.held else "[bold red]✘[/]"
        detail = Text(f": {observation.detail}", "red") if observation.detail else Text()
        self._console.print(Text.assemble("  ", Text.from_markup(mark), " ", observation.what, detail))

    def tables(self, caption: str, tables: Mapping[str, Mapping[str, str]]) -> None:
        destinations = list(next(iter(tables.values())))
        shown = Table(
            "route table", *destinations, title=f"EC2's route tables {caption}", title_justify="left"
        )
        for name, routes in tables.items():
            shown.add_row(name, *(Text(routes[d], _colour(routes[d])) for d in destinations))
        self._console.print(shown)

    @contextlib.contextmanager
    def live(self, watch: Watch) -> Iterator[None]:
        with (
            watch.sampling(),
            Live(
                get_renderable=lambda: timeline(watch.lines, self._now),
                console=self._console,
                refresh_per_second=10,
                transient=True,
            ),
        ):
            yield

    def outcome(self, outcome: Outcome) -> None:
        head, *rows = results(outcome)
        shown = Table(*head, title="What the failover cost", title_justify="left")
        for row in rows:
            shown.add_row(*row)
        self._console.print()
        self._console.print(shown)
        for node, spent in outcome.spent.items():
            self._console.print(spending(node, spent))

    def end(self, outcomes: Sequence[Outcome]) -> None:
        good = all(outcome.held for outcome in outcomes)
        self._console.print()
        self._console.print(Panel(verdict(outcomes), border_style="green" if good else "red"))


def _colour(where: str) -> str:
    if "blackhole" in where:
        return "red"
    return COLOURS.get(f"web-{where.partition(' ')[0]}", "dim")


def timeline(lines: Lines, now: str) -> RenderableType:
    """Draw who answered each client, one mark per sample, the newest at the right."""
    grid = Table.grid(padding=(0, 1))
    for watched, line in lines.items():
        marks = [Text(FULL, COLOURS.get(who, "white")) if who else Text(EMPTY, "red") for who in line]
        bar = Text.assemble(" " * (WIDTH - len(marks)), *marks)
        who = line[-1] if line else None
        answering = Text(who, COLOURS.get(who, "white")) if who else Text("no answer", "bold red")
        grid.add_row(str(watched), bar, answering)
    caption = f"who answers, each {SAMPLE:g} s of the last {WIDTH * SAMPLE:g} s"
    return Panel(Group(Text(now, "italic"), grid), title=caption, title_align="left", border_style="dim")


class Document:
    """Nothing until the end, then one JSON document."""

    def __init__(self) -> None:
        self._steps: list[dict[str, Any]] = []
        self._patterns: list[dict[str, Any]] = []

    def title(self) -> None:
        pass

    def world(self, lines: Sequence[str]) -> None:
        pass

    def scene(self, _pattern: Pattern) -> None:
        self._steps = []

    def step(self, text: str) -> None:
        self._steps.append({"step": text, "observed": []})

    def observed(self, observation: Observation) -> None:
        self._steps[-1]["observed"].append(dataclasses.asdict(observation))

    def tables(self, caption: str, tables: Mapping[str, Mapping[str, str]]) -> None:
        pass

    @contextlib.contextmanager
    def live(self, _watch: Watch) -> Iterator[None]:
        yield

    def outcome(self, outcome: Outcome) -> None:
        clients = [
            {
                "client": watched.client,
                "address": str(watched.address),
                "sent": report.sent,
                "lost": report.lost,
                "longestGapSeconds": round(report.max_gap, 4),
                "secondsFromAddToFirstAnswer": round(outcome.first_answer[watched], 4),
                "lostAfterwards": outcome.calm[watched].lost,
                "medianRttSeconds": round(report.rtt, 6),
                "answeredBy": dict(report.by),
            }
            for watched, report in outcome.failover.items()
        ]
        self._patterns.append(
            {
                "pattern": outcome.pattern.number,
                "addresses": list(outcome.pattern.addresses),
                "destinations": [str(d) for d in outcome.pattern.destinations],
                "held": outcome.held,
                "steps": self._steps,
                "routeTables": outcome.tables,
                "failover": clients,
                "add": {node: dataclasses.asdict(spent) for node, spent in outcome.spent.items()},
            }
        )

    def end(self, outcomes: Sequence[Outcome]) -> None:
        held = all(outcome.held for outcome in outcomes)
        json.dump({"held": held, "patterns": self._patterns}, sys.stdout, indent=2)
        print()


def world_lines(lab: Lab) -> Iterator[str]:
    """Describe what has been built."""
    yield f"VPC {lab.vpc_cidr} and {lab.vpc_cidr6}; its router follows EC2's route tables"
    if lab.router.source_mac_filter != "on":
        yield f"  kinder than EC2: frames with a foreign source MAC pass ({lab.router.source_mac_filter})"
    if lab.agents:
        memory = max(node.agent.rss for node in lab.nodes.values()) / 2**20
        yield f"  each node runs the agent (up to {memory:.0f} MiB); its runtime runs the client"
    for az in lab.azs.values():
        nodes = ", ".join(f"{n} (eth1 {n.eni('eth1').id} {n.eni('eth1').addresses[0]})" for n in az.nodes)
        yield f"  Availability Zone {az.name}: nodes {nodes}"
    where = {"vpc": "in the same VPC", "tgw": "behind a transit gateway"}
    for name, client in lab.clients.items():
        yield f"  client {name}: {client.addresses[0]}, {where.get(name, '')}, sends every 5 ms and counts"
