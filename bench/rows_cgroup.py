"""Rows 4 and 5: the client where it really runs, in somebody else's cgroup."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from bench import running
from bench.cgroup import MIB, Cell, ballast, cell
from bench.figure import Figure, say
from bench.pods import Pod
from bench.running import Command, Ran, median_ms
from bench.scene import BARE, INTERPRETER, Scene

CLIENTS = 20
BATCH = 5
ROOMY = 400 * MIB


def in_cell(scene: Scene, rounds: int) -> Figure:
    """Row 4: one call after the other, as fast as the quota lets them.

    A call is stopped for the rest of each 100 ms in which it has had its 10, so one call's wall time says at
    which moment it began. A batch of one kind, and the mean, says what it costs.
    """
    rounds = max(3, rounds // 5)
    pod = scene.make_pods(1)[0]
    say(f"4: calls in a cgroup of 100m CPU and 50 MiB, {rounds} batches of {BATCH} each")
    added: list[str] = []

    def add() -> Ran:
        added.append(scene.container())
        return running.run(scene.command("ADD", pod, added[-1]), here.enter).good("ADD")

    def delete() -> Ran:
        return running.run(scene.command("DEL", pod, added.pop()), here.enter).good("DEL")

    kinds: Mapping[str, Callable[[], Ran]] = {
        "bare": lambda: running.run(BARE, here.enter),
        "VERSION": lambda: running.run(scene.version(), here.enter).good("VERSION"),
        "ADD": add,
        "DEL": delete,
    }
    runs: dict[str, list[Ran]] = {kind: [] for kind in kinds}
    with cell() as here:
        for kind in kinds:
            kinds[kind]()
        for _ in range(rounds):
            for kind, work in kinds.items():
                scene.routes_elsewhere([pod])
                runs[kind] += [work() for _ in range(BATCH)]
        killed = here.killed
    cpu = {kind: median_ms(rans, "cpu") for kind, rans in runs.items()}
    wall = {kind: 1000 * statistics.mean(ran.wall for ran in rans) for kind, rans in runs.items()}
    to_cpu, to_wall = cpu["ADD"] / cpu["bare"], wall["ADD"] / wall["bare"]
    return Figure(
        4,
        "client's ADD in 100m CPU, 50 MiB / bare there",
        f"{to_cpu:.2f} cpu, {to_wall:.2f} wall",
        "<= 1.5",
        max(to_cpu, to_wall) <= 1.5 and not killed,
        {
            "cpu / bare": {kind: round(item / cpu["bare"], 2) for kind, item in cpu.items()},
            "wall / bare": {kind: round(item / wall["bare"], 2) for kind, item in wall.items()},
            "median cpu ms": {kind: round(item, 1) for kind, item in cpu.items()},
            "mean wall ms": {kind: round(item) for kind, item in wall.items()},
            "calls of each": rounds * BATCH,
            "killed": killed,
        },
        limit=(
            "The client's own CPU is the bare interpreter's start and little more.\n"
            "Its wall time is also that of the agent, which lives outside of this cgroup, and of whatever"
            " else the machine does."
        ),
    )


def crowded(scene: Scene) -> Figure:
    """Row 5: many pods start at once while EC2 does not answer."""
    pods = scene.make_pods(CLIENTS)
    say(f"5: {CLIENTS} clients blocked in the cgroup beside 20 MiB")
    scene.routes_elsewhere(pods)
    item = _each(scene, pods)
    blocked = 0
    with cell() as here, ballast(here, 20 * MIB):
        before = here.used
        with _blocked(scene, pods, here) as clients:
            until = time.monotonic() + 30
            while blocked < CLIENTS and not here.killed and time.monotonic() < until:
                time.sleep(0.1)
                blocked = scene.working()
            blocked = scene.working()
        done = running.finish(clients)
        killed, peak = here.killed, here.peak
    room = 50 * MIB - before
    return Figure(
        5,
        f"{CLIENTS} clients blocked at once there beside 20 MiB",
        f"{killed} killed",
        "none killed",
        blocked == CLIENTS and not killed and not any(ran.status for ran in done),
        {
            "blocked at once (counted at the first kill)": blocked,
            "in use before, MiB": round(before / MIB, 1),
            "peak, MiB": round(peak / MIB, 1),
            "a blocked process with room to spare, MiB": {
                kind: round(size / MIB, 2) for kind, size in item.items()
            },
            "how many of them fit": {kind: int(room / size) for kind, size in item.items()},
        },
        limit=(
            f"A bare interpreter that does nothing takes {item['bare interpreter'] / MIB:.1f} MiB here, and a"
            f" client {item['client'] / MIB:.1f}.\n"
            f"So {int(room / item['client'])} clients fill what is left of the 50 MiB, whatever they do;"
            " the node bundle's client is a row of its own."
        ),
    )


def _each(scene: Scene, pods: Sequence[Pod]) -> dict[str, float]:
    """Return what a blocked client takes where there is room, and a bare interpreter that does nothing."""
    results: dict[str, float] = {}
    with cell(1.0, ROOMY) as here:
        idle = Command([INTERPRETER, "-I", "-S", "-c", "import time; time.sleep(3)"], {})
        before = here.used
        bare = [running.start(idle, here.enter) for _ in range(CLIENTS)]
        time.sleep(2)
        results["bare interpreter"] = (here.used - before) / CLIENTS
        running.finish(bare)
        before = here.used
        with _blocked(scene, pods, here) as clients:
            until = time.monotonic() + 20
            while scene.working() < CLIENTS and time.monotonic() < until:
                time.sleep(0.1)
            results["client"] = (here.used - before) / CLIENTS
        running.finish(clients)
    return results


@contextlib.contextmanager
def _blocked(scene: Scene, pods: Sequence[Pod], here: Cell) -> Iterator[list[running.Running]]:
    """Have an ADD for each pod in the cell; EC2 answers when the ``with`` block ends."""
    scene.order(held=True)
    try:
        yield [running.start(scene.command("ADD", pod, scene.container()), here.enter) for pod in pods]
    finally:
        scene.order(held=False)
