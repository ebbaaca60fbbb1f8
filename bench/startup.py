"""What one call in direct mode costs, beside a bare interpreter. It has no aim: nothing waits for it.

All figures are ratios within one run, so that they mean the same on another machine. The ADD and DEL are
real ones: console script, kernel namespace, HTTP to the simulated EC2. Rounds are interleaved, so that what
else the machine does falls on all alike; the median of each is taken.

    python bench/startup.py [--rounds N] [--json] [--save]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cni_floatip
from bench import document
from bench.figure import Figure, Grid, Plot
from lab.node import Node
from lab.pod import Pod
from lab.world import Lab

BARE = [sys.executable, "-I", "-S", "-c", "pass"]
FLOATIP = str(Path(sys.executable).with_name("floatip"))
FIRST_ROW = 50
ABOUT = """\
In direct mode the plugin does everything in its own process; it is for development and tests.
Calls are interleaved in one run, and medians are compared.
"Bare" is a Python interpreter that starts, without the site module, and ends."""


def main() -> int:
    """Measure, print the table, and return 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="how often each is run (default 15)")
    document.add_options(parser)
    options = parser.parse_args()
    begun = document.begin("startup", "Direct mode", about=ABOUT)
    package = str(Path(cni_floatip.__file__).parent)  # compiled files present, as they are in use
    subprocess.run([sys.executable, "-m", "compileall", "-q", package], check=True)
    with Lab(azs=1, nodes_per_az=1) as lab:
        results = measure(lab, options.rounds)
    return document.publish(begun, [figure(results, options.rounds)], options)


def measure(lab: Lab, rounds: int) -> dict[str, dict[str, float]]:
    """Return the median wall and CPU seconds of each kind of call."""
    node = lab.nodes["a1"]
    pod = node.pod("bench", serve=False)
    conflist = lab.conflist(["192.168.0.2/32"], version="1.1.0")
    node.add(pod, conflist)
    kinds: dict[str, Callable[[], tuple[float, float]]] = {
        "bare": lambda: run(node, BARE, {}),
        "VERSION": lambda: run(node, [FLOATIP], {"CNI_COMMAND": "VERSION"}),
        "DEL, nothing to do": lambda: run(
            node, [FLOATIP], variables("DEL", pod, "never-added"), config(conflist, {})
        ),
        "ADD": lambda: run(
            node,
            [FLOATIP],
            variables("ADD", pod, pod.container_id),
            config(conflist, node.runtime.result(pod, conflist, "net1")),
        ),
    }
    for work in kinds.values():
        work()
    samples: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, work in kinds.items():
            samples[kind].append(work())
    return {
        kind: {
            "wall": round(statistics.median(wall for wall, _ in runs), 4),
            "cpu": round(statistics.median(cpu for _, cpu in runs), 4),
        }
        for kind, runs in samples.items()
    }


def variables(verb: str, pod: Pod, container: str) -> dict[str, str]:
    """Return the environment of a call."""
    return {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": container,
        "CNI_NETNS": pod.netns,
        "CNI_IFNAME": "net1",
        "CNI_PATH": os.path.dirname(FLOATIP),  # noqa: PTH120
    }


def config(conflist: Mapping[str, Any], previous: Mapping[str, Any]) -> str:
    """Return the configuration of the chain's last plugin."""
    entry = conflist["plugins"][-1]
    return json.dumps(
        {**entry, "cniVersion": conflist["cniVersion"], "name": conflist["name"], "prevResult": previous}
    )


def run(node: Node, argv: list[str], env: Mapping[str, str], stdin: str = "") -> tuple[float, float]:
    """Run once on the node; return wall and CPU seconds. A call that fails is no measurement."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = node.run(argv, input=stdin, env=env)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{argv[0]} {env.get('CNI_COMMAND', '')} failed: {done.stdout}{done.stderr}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def figure(results: Mapping[str, Mapping[str, float]], rounds: int) -> Figure:
    """Return the row. The ADD includes every round trip to the simulated EC2."""
    ratios = {
        name: {what: round(cost[what] / results["bare"][what], 2) for what in ("wall", "cpu")}
        for name, cost in results.items()
    }
    rows = [
        (
            name,
            round(cost["wall"] * 1000, 1),
            round(cost["cpu"] * 1000, 1),
            ratios[name]["wall"],
            ratios[name]["cpu"],
        )
        for name, cost in results.items()
    ]
    columns = ("call", "wall ms", "CPU ms", "wall / bare", "CPU / bare")
    shown = f"{ratios['ADD']['wall']:g} wall, {ratios['ADD']['cpu']:g} CPU"
    plot = Plot(
        "bars",
        "Calls in direct mode",
        "times a bare interpreter",
        {
            what: [(name, ratio[key]) for name, ratio in ratios.items() if name != "bare"]
            for what, key in (("wall time", "wall"), ("CPU time", "cpu"))
        },
    )
    return Figure(
        FIRST_ROW,
        "ADD in direct mode / bare interpreter",
        shown,
        "",
        None,
        {"rounds": rounds},
        grid=Grid(columns, rows),
        plots=[plot],
    )


if __name__ == "__main__":
    sys.exit(main())
