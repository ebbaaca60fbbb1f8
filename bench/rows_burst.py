"""Rows 8 to 10, and 22: many pods on one node."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

from bench import running
from bench.figure import Figure, Plot, say
from bench.pods import Pod
from bench.running import Failed, Ran
from bench.scene import Scene

CLAIMS, SIDE_BY_SIDE = 1000, 4
PARALLEL, ALONE = 200, 10
MOVES, BURST, REFILL = 500, 50, 5
BARS = ("a single ADD ms", "median ms", "slowest ms", "all of them ms")
SETTLED_SECONDS = 4.0
"""After this the threads of calls have ended and the keeper has looked."""


def memory(scene: Scene) -> Figure:
    """Row 8: what a thousand claims take, on as few pods as there are: a claim is an attachment."""
    say("8: memory, idle")
    time.sleep(SETTLED_SECONDS)
    idle = {**scene.memory(), "threads": scene.threads()}
    pods = scene.make_pods(PARALLEL)
    per_pod = CLAIMS // len(pods)
    say(f"8: memory, {CLAIMS} ADDs")
    scene.routes_elsewhere(pods)
    for _ in range(per_pod):
        for begin in range(0, len(pods), SIDE_BY_SIDE):
            _add_all(scene, pods[begin : begin + SIDE_BY_SIDE])
    time.sleep(SETTLED_SECONDS)
    full = {**scene.memory(), "threads": scene.threads()}
    return Figure(
        8,
        f"agent's memory (RSS) idle; with {CLAIMS} claims",
        f"{idle['rss']} MiB; {full['rss']} MiB",
        "<= 60; <= 90 MiB",
        idle["rss"] <= 60 and full["rss"] <= 90,
        {
            "idle, MiB": idle,
            f"{CLAIMS} claims, MiB": full,
            "KiB per claim": round((full["rss"] - idle["rss"]) * 1024 / CLAIMS, 1),
            "route tables": scene.tables,
        },
        limit=(
            "botocore and its models are most of what is held idle.\n"
            "Claims, and what the keeper has seen of their routes, grow with their number."
        ),
    )


def parallel(scene: Scene, rounds: int) -> Figure:
    """Row 10: all pods of a node that has just come up are added at once."""
    rounds = max(1, min(3, rounds // 5))
    pods = scene.make_pods(PARALLEL)
    detail: dict[str, Any] = {}
    ratios: dict[str, float] = {}
    for latency in (0.05, 0.0):
        name = f"EC2 in {latency * 1000:g} ms"
        say(f"10: {PARALLEL} ADDs at once, {name}, {rounds} rounds")
        scene.order(latency=latency)
        alone: list[float] = []
        crowd: list[Ran] = []
        spans: list[float] = []
        cpu: list[float] = []
        for _ in range(rounds):
            scene.routes_elsewhere(pods)
            alone += [_once(scene, pods[number]) for number in range(ALONE)]
            scene.routes_elsewhere(pods)
            before = scene.agent_cpu()
            done = _add_all(scene, pods)
            cpu.append((scene.agent_cpu() - before) / len(done))
            spans.append(max(ran.ended for ran in done) - min(ran.began for ran in done))
            crowd += done
            time.sleep(1)
        walls = sorted(ran.wall for ran in crowd)
        median, single = statistics.median(walls), statistics.median(alone)
        ratios[name] = median / single
        detail[name] = {
            "a single ADD ms": round(single * 1000),
            "median ms": round(median * 1000),
            "slowest ms": round(walls[-1] * 1000),
            "all of them ms": round(statistics.median(spans) * 1000),
            "agent's cpu ms each": round(1000 * statistics.median(cpu), 1),
            "clients' cpu ms each": round(1000 * statistics.median(ran.cpu for ran in crowd), 1),
        }
    scene.order(latency=0.0)
    return Figure(
        10,
        f"{PARALLEL} ADDs at once: median wall / a single ADD's",
        ", ".join(f"{ratio:.1f} ({name})" for name, ratio in ratios.items()),
        "<= 20 (EC2 in 50 ms)",
        ratios["EC2 in 50 ms"] <= 20,
        {**detail, "route tables": scene.tables, "EC2's request rates": "lifted: they would decide alone"},
        limit=(
            "The agent is one process with one interpreter's lock.\n"
            "So its CPU for each ADD says how many end in a second."
        ),
        plots=[
            Plot(
                "bars",
                f"{PARALLEL} ADDs at once on one node",
                "wall ms",
                {name: [(kind[:-3], item[kind]) for kind in BARS] for name, item in detail.items()},
            )
        ],
    )


def parallel_cpu(scene: Scene, rounds: int) -> Figure:
    """Row 22: what the agent spends on each of many ADDs at once. Its keeper does not look meanwhile."""
    rounds = max(1, min(5, rounds // 5))
    pods = scene.make_pods(PARALLEL)
    cost: dict[str, dict[str, float]] = {}
    for latency in (0.05, 0.0):
        name = f"EC2 in {latency * 1000:g} ms"
        say(f"22: CPU of {PARALLEL} ADDs at once, {name}, {rounds} rounds")
        scene.order(latency=latency)
        samples: dict[str, list[float]] = {"one at a time": [], "at once": []}
        for _ in range(rounds):
            scene.order(clear=True)
            scene.routes_elsewhere(pods[:ALONE])
            samples["one at a time"].append(_cpu_each(scene, [[pod] for pod in pods[:ALONE]]))
            scene.routes_elsewhere(pods)
            samples["at once"].append(_cpu_each(scene, [pods]))
        cost[name] = {kind: round(1000 * statistics.median(values), 1) for kind, values in samples.items()}
    scene.order(latency=0.0)
    ratios = {name: item["at once"] / item["one at a time"] for name, item in cost.items()}
    return Figure(
        22,
        f"{PARALLEL} ADDs at once: agent's CPU each / that of one ADD at a time",
        ", ".join(f"{ratio:.2f} ({name})" for name, ratio in ratios.items()),
        "<= 1.1",
        max(ratios.values()) <= 1.1,
        {
            "agent's CPU ms each": cost,
            "rounds": rounds,
            "route tables": scene.tables,
            "EC2's request rates": "lifted",
            "routes in each table": {"one at a time": ALONE, "at once": PARALLEL},
            "the keeper": "does not look",
        },
        limit=(
            "The calls' threads take the interpreter's lock from one another.\n"
            "The tables hold the routes of all pods, and each read of them is parsed for whoever shares it."
        ),
    )


def _cpu_each(scene: Scene, batches: Sequence[Sequence[Pod]]) -> float:
    """Return the agent's CPU seconds for each ADD of one batch after the other."""
    scene.rest()
    before = scene.agent_cpu()
    count = sum(len(_add_all(scene, batch)) for batch in batches)
    scene.rest()
    return (scene.agent_cpu() - before) / count


def moves(scene: Scene, count: int = MOVES) -> Figure:
    """Row 9: a whole zone's addresses move at once, and EC2 grants 50 writes and then 5 in a second."""
    say(f"9: {count} pods")
    pods = scene.make_pods(count)
    bound = (count * scene.tables - BURST) / REFILL
    say(f"9: {count} ADDs at once against token buckets: {bound:.0f} s at best")
    scene.routes_elsewhere(pods)
    rate = (BURST, REFILL)
    scene.order(buckets={"CreateRoute": rate, "ReplaceRoute": rate, "DeleteRoute": rate}, log=True)
    began = time.monotonic()
    done = running.run_all(scene.command("ADD", pod, scene.container(), timeoutSeconds=110) for pod in pods)
    took = max(ran.ended for ran in done) - began
    failed = [ran for ran in done if ran.status]
    raw = scene.order(log=True, buckets={})
    count_of: dict[str, int] = {}
    for action, outcome, *_ in raw:
        count_of[f"{action} {outcome}"] = count_of.get(f"{action} {outcome}", 0) + 1
    ratio = took / bound
    return Figure(
        9,
        f"{count} destinations moved at once, buckets of {BURST} and {REFILL}/s: time / bound",
        f"{ratio:.2f}" + (f", {len(failed)} failed" if failed else ""),
        "<= 1.1",
        ratio <= 1.1 and not failed,
        {
            "seconds": round(took, 1),
            "bound": bound,
            "failed": len(failed),
            "the first failure": failed[0].stdout.decode(errors="replace") if failed else "",
            "route tables": scene.tables,
            "requests": count_of,
            "agent, MiB": {**scene.memory(), "threads": scene.threads()},
        },
        limit="EC2's token bucket is the bound; beside it is what the last ADD does besides its write.",
    )


def _once(scene: Scene, pod: Pod) -> float:
    return scene.add(pod).wall


def _add_all(scene: Scene, pods: Sequence[Pod]) -> list[Ran]:
    done = running.run_all(scene.command("ADD", pod, scene.container()) for pod in pods)
    failed = [ran for ran in done if ran.status]
    if failed:
        raise Failed(f"{len(failed)} of {len(done)} ADDs failed: {failed[0].stdout.decode(errors='replace')}")
    return done
