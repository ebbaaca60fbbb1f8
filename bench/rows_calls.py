"""Rows 1 to 3, 6 and 7: one call at a time, alone on the node."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

from bench import running
from bench.figure import Figure, Plot, say
from bench.running import Ran, interleaved, median_ms
from bench.scene import BARE, Scene

REFILL = 5.0
"""Writes per second that EC2 grants: measured calls are this far apart, so that none waits for its turn."""
LATENCY = 0.05


def version(scene: Scene, rounds: int) -> Figure:
    """Row 1: what a call costs that needs no agent."""
    say(f"1: VERSION, {rounds} rounds")
    kinds = {
        "bare": lambda: running.run(BARE),
        "VERSION": lambda: running.run(scene.version()).good("VERSION"),
    }
    rans = interleaved(kinds, rounds)
    ratio = median_ms(rans["VERSION"]) / median_ms(rans["bare"])
    return Figure(
        1,
        "client VERSION / bare interpreter",
        f"{ratio:.2f}",
        "<= 1.3",
        ratio <= 1.3,
        {"wall ms": _walls(rans), "cpu ms": _cpus(rans), "rounds": rounds},
        limit="The client starts as a bare interpreter does, and reads one compiled module.",
    )


def add_and_delete(scene: Scene, rounds: int) -> tuple[Figure, Figure, Figure]:
    """Rows 2, 3 and 6: a floating IP moves here, and its pod ends; EC2 answers at once."""
    pod = scene.make_pods(1)[0]
    say(f"2, 3, 6: ADD and DEL, {scene.tables} tables, EC2 in 0 ms, {rounds} rounds")
    writes: list[int] = []
    last = ""

    def add() -> Ran:
        nonlocal last
        _breathe(scene)
        scene.routes_elsewhere([pod])
        scene.order(log=True)
        last = scene.container()
        done = scene.add(pod, last)
        raw = scene.order(log=True)
        writes.append(sum(action in ("CreateRoute", "ReplaceRoute", "DeleteRoute") for action, *_ in raw))
        return done

    kinds = {"bare": lambda: running.run(BARE), "ADD": add, "DEL": lambda: scene.delete(pod, last)}
    before = scene.agent_cpu()
    rans = interleaved(kinds, rounds)
    agent = (scene.agent_cpu() - before) / (rounds + 1)
    walls, cpus = _walls(rans), _cpus(rans)
    shared: dict[str, Any] = {
        "wall ms": walls,
        "clients' cpu ms": cpus,
        "agent's cpu ms for ADD, DEL and a look of the keeper": round(agent * 1000, 1),
        "rounds": rounds,
    }
    to_add, to_del = walls["ADD"] / walls["bare"], walls["DEL"] / walls["bare"]
    exact = set(writes) == {scene.tables}
    per_table = statistics.mean(writes) / scene.tables
    bars = {"wall time": list(walls.items()), "the client's CPU": list(cpus.items())}
    return (
        Figure(
            2,
            "ADD through the agent, EC2 in 0 ms / bare",
            f"{to_add:.2f}",
            "<= 2.5",
            to_add <= 2.5,
            {**shared, "route tables": scene.tables},
            limit=(
                "After the client's start the agent reads the tables, sets the pod up by netlink, writes its"
                " record twice with fsync, and writes the routes."
            ),
            plots=[Plot("bars", "Calls through the agent, beside a bare interpreter", "ms (median)", bars)],
        ),
        Figure(
            3,
            "DEL through the agent / bare",
            f"{to_del:.2f}",
            "<= 2",
            to_del <= 2,
            shared,
            limit="After the client's start the agent clears the pod by netlink and writes its record.",
        ),
        Figure(
            6,
            "mutating EC2 calls per failover / tables",
            f"{per_table:g}",
            "exactly 1",
            exact,
            {"failovers": len(writes), "writes in each": sorted(set(writes))},
            limit="A second write in a table means that the first met another route than the read had shown.",
        ),
    )


def round_trips(scene: Scene, rounds: int) -> Figure:
    """Row 7: how often an ADD waits for EC2 one request after the other."""
    rounds = min(rounds, 10)
    pod = scene.make_pods(1)[0]
    say(f"7: ADD with EC2 in {LATENCY * 1000:g} ms, {rounds} rounds")
    depths: list[int] = []
    walls: list[float] = []
    actions: Sequence[str] = ()
    scene.order(latency=LATENCY)
    try:
        for _ in range(rounds):
            _breathe(scene)
            scene.routes_elsewhere([pod])
            scene.order(log=True)
            container = scene.container()
            done = scene.add(pod, container)
            raw = [item for item in scene.order(log=True) if item[2] < done.ended]
            scene.delete(pod, container)
            actions = [action for action, *_ in raw]
            depths.append(in_sequence([(came, answered) for *_, came, answered in raw]))
            walls.append(done.wall)
    finally:
        scene.order(latency=0.0)
    depth, wall = statistics.median(depths), statistics.median(walls)
    return Figure(
        7,
        "EC2 round trips in sequence in ADD (replace only)",
        f"{depth:g}",
        "<= 2",
        depth <= 2,
        {
            "in each round": depths,
            "ADD's wall / EC2's latency": round(wall / LATENCY, 2),
            "ADD's wall ms": round(wall * 1000, 1),
            "requests of the last": " ".join(actions),
        },
        limit="Writes wait for the read, which says which tables there are and which routes are in them.",
    )


def in_sequence(intervals: Sequence[tuple[float, float]]) -> int:
    """Return how many of the intervals follow one another, none overlapping the next, at most."""
    count, end = 0, float("-inf")
    for came, answered in sorted(intervals, key=lambda item: item[1]):
        if came >= end:
            count, end = count + 1, answered
    return count


def _breathe(scene: Scene) -> None:
    time.sleep(scene.tables / REFILL + 0.02)


def _walls(rans: dict[str, list[Ran]]) -> dict[str, float]:
    return {kind: round(median_ms(runs), 2) for kind, runs in rans.items()}


def _cpus(rans: dict[str, list[Ran]]) -> dict[str, float]:
    return {kind: round(median_ms(runs, "cpu"), 2) for kind, runs in rans.items()}
