"""Rows 15 to 21: what the size of the VPC costs, and how many claims and networks there are.

Scenes of different size live side by side and take turns. The keeper looks once after an ADD, when the ADD's
own work is done and counted, so that the two are measured apart.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench import running
from bench.figure import Figure, Grid, Plot, say
from bench.pods import Pod
from bench.running import Failed
from bench.scene import Scene

SMALL, MIDDLE, LARGE = (3, 10), (10, 500), (20, 1000)
"""Route tables, and routes in each."""
MORE_TABLES = (10, 10)
"""Tells what more tables cost from what more routes cost: an ADD writes to each table."""
LOOK_AFTER = "2.0"
RESTING: Mapping[str, Any] = {"reconcileSeconds": 3600}
"""No look comes but after an ADD."""
ATTEMPTS = 8
CLAIMS, CLAIMED_TABLES = 100, 10
NETWORKS = 5
HOUR_OF_LOOKS = 60
LARGEST_MIB, GROWTH_MIB = 115, 1.0
HOUR_SECONDS = 600.0


@dataclass
class Place:
    """A scene, the ADD that repeats in it, and what was measured: CPU seconds of the agent."""

    scene: Scene
    pod: Pod
    container: str
    adds: list[float] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, scene: Scene, pods: int = 1) -> Place:
        """Return a scene with as many claims, which are held."""
        made = scene.make_pods(pods)
        containers = [scene.container() for _ in made]
        scene.routes_elsewhere(made)
        for pod, container in zip(made, containers, strict=True):
            scene.add(pod, container)
        _await_looks(scene)
        return cls(scene, made[0], containers[0])

    def measure(self) -> None:
        """Let the address move here once more, and the keeper look at it. Raises Failed."""
        scene = self.scene
        for _ in range(ATTEMPTS):
            scene.routes_elsewhere([self.pod])
            scene.rest()
            scene.order(log=True)
            before = scene.agent_cpu()
            scene.add(self.pod, self.container)
            between = scene.agent_cpu()
            if scene.looks_in_log() <= 1:  # the ADD's own read
                scene.await_look()
                self.adds.append(between - before)
                self.looks.append(scene.agent_cpu() - between)
                return
            _await_looks(scene)  # on a busy machine the look came before the ADD's end
        raise Failed("the machine is too busy to tell an ADD from a look of the keeper")


def _await_looks(scene: Scene) -> None:
    """Wait until no look is under way or due. Raises Failed."""
    for _ in range(ATTEMPTS):
        if not scene.looks_in_log():
            scene.rest()
            return
        time.sleep(float(LOOK_AFTER) + 2)
    raise Failed("the keeper looks again and again")


def by_size(rounds: int) -> Iterator[Figure]:
    """Rows 15 to 17: an ADD and a look in VPCs of several sizes, with one claim."""
    rounds = max(3, min(rounds // 3, 9))
    with contextlib.ExitStack() as scenes:
        sizes = (SMALL, MORE_TABLES, MIDDLE, LARGE)
        places = {size: Place.of(_scene(scenes, *size)) for size in sizes}
        say(f"15, 16, 17: an ADD and a look in VPCs of {len(sizes)} sizes, {rounds} rounds")
        for _ in range(rounds):
            for place in places.values():
                place.measure()
    add = {size: _ms(place.adds) for size, place in places.items()}
    look = {size: _ms(place.looks) for size, place in places.items()}
    rows = [(_name(size), add[size], _ms_least(places[size].adds), look[size]) for size in places]
    grid = Grid(("tables x routes", "ADD, agent's CPU ms", "the least", "look, agent's CPU ms"), rows)
    points = {size: tables * routes for size in (SMALL, MIDDLE, LARGE) for tables, routes in [size]}
    plot = Plot(
        "lines",
        "What the size of the VPC costs",
        "agent's CPU, ms",
        {
            "ADD": [(points[size], add[size]) for size in points],
            "a look of the keeper": [(points[size], look[size]) for size in points],
        },
        across="routes in the VPC's tables",
        scale="log",
    )
    detail = {"rounds": rounds, "claims": 1, "EC2": "answers at once"}
    yield _sized(15, "ADD's agent CPU", add, MIDDLE, 2, detail, grid, [plot])
    yield _sized(16, "ADD's agent CPU", add, LARGE, 4, detail)
    yield _sized(17, "CPU of a look of the keeper, one claim", look, MIDDLE, 3, detail)


def _sized(
    row: int,
    what: str,
    cost: Mapping[tuple[int, int], float],
    size: tuple[int, int],
    aim: float,
    detail: Mapping[str, Any],
    *drawn: Any,
) -> Figure:
    ratio = cost[size] / cost[SMALL]
    grid, plots = drawn or (None, ())
    return Figure(
        row,
        f"{what}: {_name(size)} routes / {_name(SMALL)}",
        f"{ratio:.2f}",
        f"<= {aim}",
        ratio <= aim,
        {"CPU ms": {_name(item): cost[item] for item in (SMALL, MORE_TABLES, size)}, **detail},
        limit=(
            f"An ADD writes to each table: compare {_name(MORE_TABLES)}, which has few routes.\n"
            "EC2 answers with all routes of every table, and what of them is parsed costs CPU."
        ),
        grid=grid,
        plots=plots,
    )


def networks_at_once(rounds: int) -> Figure:
    """Row 18: networks that select tables by different tags, so that their reads are different ones."""
    rounds = max(1, min(rounds // 8, 3))
    tags = {f"network-{number}": "floating" for number in range(NETWORKS)}
    selections = [{"tags": {key: value}} for key, value in tags.items()]
    tables, routes = LARGE
    single: list[float] = []
    spans: list[float] = []
    with Scene(tables=tables, routes=routes, unlimited=True, tags=tags) as scene:
        pods = scene.make_pods(NETWORKS)
        idle = scene.memory()
        say(f"18: {NETWORKS} networks at once in {_name(LARGE)} routes, {rounds} rounds")
        for _ in range(rounds):
            scene.routes_elsewhere(pods)
            single.append(scene.add(pods[0], routeTables=selections[0]).wall)
            scene.routes_elsewhere(pods)
            scene.rest()
            done = running.run_all(
                scene.command("ADD", pod, scene.container(), routeTables=selection)
                for pod, selection in zip(pods, selections, strict=True)
            )
            for ran in done:
                ran.good("ADD")
            spans.append(max(ran.ended for ran in done) - min(ran.began for ran in done))
        memory = scene.memory()
    ratio = statistics.median(spans) / statistics.median(single)
    return Figure(
        18,
        f"{NETWORKS} networks' ADDs at once in {_name(LARGE)} routes: wall / one ADD's; agent's peak memory",
        f"{ratio:.1f}; {memory['peak_rss']:g} MiB",
        f"<= {LARGEST_MIB} MiB",
        memory["peak_rss"] <= LARGEST_MIB,
        {
            "one ADD, wall ms": round(1000 * statistics.median(single)),
            "all of them, wall ms": round(1000 * statistics.median(spans)),
            "agent's memory idle, MiB": idle,
            "agent's memory afterwards, MiB": memory,
            "rounds": rounds,
        },
        limit="Every answer of EC2 that is read at the same time is in memory as a whole.",
        plots=[
            Plot(
                "bars",
                f"The agent's memory with {NETWORKS} networks' ADDs at once, {_name(LARGE)} routes",
                "MiB (RSS)",
                {"agent": [("idle", idle["rss"]), ("peak", memory["peak_rss"]), ("after", memory["rss"])]},
            )
        ],
    )


def claims(rounds: int) -> Figure:
    """Row 19: a look at many claims in many tables, against one at a single claim."""
    rounds = max(3, min(rounds // 3, 9))
    with contextlib.ExitStack() as scenes:
        one = Place.of(_scene(scenes, *SMALL))
        say(f"19: {CLAIMS} claims in {CLAIMED_TABLES} tables")
        many = Place.of(_scene(scenes, CLAIMED_TABLES, 0), CLAIMS)
        say(f"19: looks at them, {rounds} rounds")
        for _ in range(rounds):
            one.measure()
            many.measure()
    cost = {f"1 claim, {_name(SMALL)} routes": _ms(one.looks)}
    cost[f"{CLAIMS} claims, {CLAIMED_TABLES} tables"] = _ms(many.looks)
    ratio = _ms(many.looks) / _ms(one.looks)
    return Figure(
        19,
        f"CPU of a look: {CLAIMS} claims in {CLAIMED_TABLES} tables / 1 claim in {_name(SMALL)} routes",
        f"{ratio:.1f}",
        "<= 6.2",
        ratio <= 6.2,
        {"CPU ms": cost, "routes that are claimed": CLAIMS * CLAIMED_TABLES, "rounds": rounds},
        limit="EC2 answers with each claimed route of each table, and a look compares them with the claims.",
    )


def hour_of_looks(rounds: int) -> Figure:
    """Row 21: as many ordinary looks as there are in an hour, with their chores, one a second.

    With less than 20 rounds there are fewer, because each costs a second where reading is slow.
    """
    looks = min(HOUR_OF_LOOKS, 3 * rounds)
    warm, window = looks // 3, max(1, looks // 4)
    tables, routes = LARGE
    policy = {"reconcileSeconds": 1}
    sizes: list[float] = []
    with Scene(tables=tables, routes=routes, unlimited=True, policy=policy) as scene:
        pods = scene.make_pods(1)
        scene.routes_elsewhere(pods)
        scene.add(pods[0])
        say(f"21: {warm + looks} looks at {_name(LARGE)} routes")
        until = time.monotonic() + HOUR_SECONDS
        scene.order(log=True)
        while len(sizes) < warm + looks:
            if time.monotonic() > until:
                raise Failed(f"21: {len(sizes)} looks in {HOUR_SECONDS:g} s")
            time.sleep(0.2)
            sizes += [scene.memory()["rss"]] * scene.looks_in_log()
        memory = scene.memory()
    begin, end = min(sizes[warm:][:window]), min(sizes[-window:])  # the least is between two looks
    growth = end - begin
    plot = Plot(
        "lines",
        f"The agent's memory while its keeper looks at {_name(LARGE)} routes",
        "MiB (RSS)",
        {"agent": list(enumerate(sizes, 1))},
        across="looks",
    )
    return Figure(
        21,
        f"growth of the agent's memory in {looks} looks at {_name(LARGE)} routes, MiB",
        f"{growth:.1f}",
        "<= 1",
        growth <= GROWTH_MIB,
        {
            "MiB (RSS) at the begin, at the end": [begin, end],
            "of": f"the least of {window} looks each",
            "looks": f"{warm} before the begin, then {looks}; an hour has {HOUR_OF_LOOKS}, one a minute",
            "how": "reconcileSeconds is 1, so a look comes each second",
            "agent's memory afterwards, MiB": memory,
        },
        limit="What an answer of EC2 takes goes back to the allocator, which keeps some of it for the next.",
        plots=[plot],
    )


def _scene(scenes: contextlib.ExitStack, tables: int, routes: int) -> Scene:
    return scenes.enter_context(
        Scene(tables=tables, routes=routes, unlimited=True, looks=LOOK_AFTER, policy=RESTING)
    )


def _name(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _ms(seconds: Sequence[float]) -> float:
    return round(1000 * statistics.median(seconds), 1)


def _ms_least(seconds: Sequence[float]) -> float:
    return round(1000 * min(seconds), 1)
