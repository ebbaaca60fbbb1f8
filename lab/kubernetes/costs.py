"""What a cluster of two nodes costs here, in memory, processor time and seconds, as a Markdown table.

    python -m lab.kubernetes.costs

Memory is a process's proportional share (PSS), because most of these programs are one file. Seconds depend on
what else the machine does; processor time does much less.
"""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError
from lab.kubernetes.cluster import MACHINES, Cluster, materials
from lab.world import Lab

TICKS = os.sysconf("SC_CLK_TCK")
MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Cost:
    """What processes of one name cost: how many there are, bytes, processor seconds."""

    processes: int = 0
    memory: int = 0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.processes + other.processes, self.memory + other.memory, self.seconds + other.seconds
        )


def measure(cluster: Cluster) -> Mapping[str, Cost]:
    """Return what the cluster's processes cost until now, by program."""
    total: dict[str, Cost] = defaultdict(Cost)
    for proc in _processes(cluster):
        try:
            name, cost = _cost(proc)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended since
        total[name] += cost
    return total


def _processes(cluster: Cluster) -> Iterator[Path]:
    yield from (Path(f"/proc/{process.pid}") for process in cluster.control.processes.values())
    for worker in cluster.workers.values():
        yield Path(f"/proc/{worker.links.process.pid}")
        yield from (worker.proc(pid) for pid in worker.pids())


def _cost(proc: Path) -> tuple[str, Cost]:
    argv = (proc / "cmdline").read_bytes().split(b"\0")
    name = Path(argv[0].decode()).name
    if name.startswith("python"):
        name = "agent (of the chart)" if b"agent" in argv else "proxies of a node"
    share = re.search(r"^Pss: +(\d+) kB", (proc / "smaps_rollup").read_text(), re.MULTILINE)
    fields = (proc / "stat").read_text().rpartition(")")[2].split()
    seconds = sum(int(fields[number]) for number in (11, 12)) / TICKS
    return name, Cost(1, int(share[1]) * 1024 if share else 0, seconds)


def table(cluster: Cluster) -> str:
    """Return the costs as a Markdown table, the largest first, and when each step was done."""
    costs = measure(cluster)
    rows = sorted(costs.items(), key=lambda item: -item[1].memory)
    whole = sum(costs.values(), Cost())
    lines = ["| program | processes | MiB | CPU s |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {cost.processes} | {cost.memory / MEBIBYTE:.0f} | {cost.seconds:.1f} |"
        for name, cost in [*rows, ("all", whole)]
    ]
    steps = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in cluster.spent.items())
    return "\n".join([*lines, "", f"Done after: {steps}."])


def main() -> int:
    """Start a cluster, print what it costs, end it."""
    try:
        parts = materials()
        with Lab(2, 1, machines=MACHINES) as lab, Cluster(lab, parts) as cluster:
            print(table(cluster))
    except LabError as e:
        print(f"lab: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
