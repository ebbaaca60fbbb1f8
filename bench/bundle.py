"""What the client costs with the node bundle's interpreter: start-up, memory, size.

As in ``bench/agent.py`` ratios are measured within one run, interleaved, against a bare interpreter: the
bundle's own, and this machine's. The bundle is the one that is named, or is built here from Debian's packages
(python3, libpython3-dev, gcc). Needs root; half a minute.

    python bench/bundle.py [--bundle DIR] [--rounds N] [--json] [--save]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench import document, rows_cgroup, running
from bench.figure import Figure, say
from bench.running import Command, Failed, Ran, interleaved, interrupt_at_sigterm, median_ms
from bench.scene import BARE, Scene, compile_package
from lab.errors import LabError

BUILD = Path(__file__).parents[1] / "install" / "bundle" / "build.sh"
FIRST_ROW = 11
LARGEST = 12e6
BLOCKED = 5
ABOUT = """\
The node bundle is one static CPython, which runs the client where a node has no Python.
Each ratio is measured within one run, and what it compares is interleaved."""


def main() -> int:
    """Measure, print the table, and return 0: an aim that is missed is a figure, not a failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="a built bundle; default: build one")
    parser.add_argument("--rounds", type=int, default=40, help="how often a start is repeated (default 40)")
    document.add_options(parser)
    options = parser.parse_args()
    interrupt_at_sigterm()
    compile_package()
    begun = document.begin("bundle", "The client with the node bundle's interpreter", about=ABOUT)
    try:
        with _bundle(options.bundle) as bundle, Scene(bundle=bundle) as scene:
            figures = list(measure(scene, bundle, max(1, options.rounds)))
    except (Failed, LabError) as e:
        say(f"cannot measure the bundle: {e}")
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 130
    return document.publish(begun, figures, options)


def measure(scene: Scene, bundle: Path, rounds: int) -> Iterator[Figure]:
    """One figure after the other, on one node."""
    yield size(scene)
    yield start(scene, bundle, rounds)
    yield blocked(scene)
    crowded = rows_cgroup.crowded(scene)
    yield Figure(
        FIRST_ROW + 3,
        f"{crowded.name} (bundle)",
        crowded.shown,
        crowded.aim,
        crowded.met,
        crowded.detail,
        crowded.limit,
    )


def size(scene: Scene) -> Figure:
    """What the installer puts on a node."""
    where = Path(scene.client).parent
    files = {str(path.relative_to(where)): path.stat().st_size for path in where.rglob("*") if path.is_file()}
    whole = sum(files.values())
    return Figure(
        FIRST_ROW,
        "client and interpreter on a node, MB",
        f"{whole / 1e6:.1f}",
        "<= 12",
        whole <= LARGEST,
        files,
        limit="The bundle is one interpreter, with the modules that the client imports.",
    )


def start(scene: Scene, bundle: Path, rounds: int) -> Figure:
    """VERSION, the call that does nothing else than to start."""
    say(f"VERSION through the bundle, {rounds} rounds")
    with tempfile.NamedTemporaryFile("w", suffix=".py") as nothing:
        nothing.write("import posix\nposix._exit(0)\n")
        nothing.flush()
        kinds: Mapping[str, Command] = {
            "bundle's interpreter": Command([str(bundle / "python"), "-IS", nothing.name], {}),
            "bundle's interpreter, all of it": Command([str(bundle / "python"), "-IS", "-c", "pass"], {}),
            "machine's interpreter": BARE,
            "VERSION": scene.version(),
        }
        rans = interleaved({kind: _runs(command, kind) for kind, command in kinds.items()}, rounds)
    wall = {kind: round(median_ms(runs), 2) for kind, runs in rans.items()}
    cpu = {kind: round(median_ms(runs, "cpu"), 2) for kind, runs in rans.items()}
    ratios = [wall["VERSION"] / wall[kind] for kind in ("bundle's interpreter", "machine's interpreter")]
    return Figure(
        FIRST_ROW + 1,
        "VERSION by the bundle / its bare interpreter, / the machine's",
        " / ".join(f"{ratio:.2f}" for ratio in ratios),
        "<= 1.3 each",
        max(ratios) <= 1.3,
        {"wall ms": wall, "cpu ms": cpu, "rounds": rounds},
        limit="The client starts as a bare interpreter does, and reads one compiled module.",
    )


def blocked(scene: Scene) -> Figure:
    """What a client that waits for EC2 has for itself."""
    pods = scene.make_pods(BLOCKED)
    scene.routes_elsewhere(pods)
    scene.order(held=True)
    try:
        clients = [running.start(scene.command("ADD", pod, scene.container())) for pod in pods]
        until = time.monotonic() + 20
        while scene.working() < BLOCKED and time.monotonic() < until:
            time.sleep(0.05)
        private = statistics.median(_private(client.pid) for client in clients) / 1024
    finally:
        scene.order(held=False)
    done = running.finish(clients)
    if any(ran.status for ran in done):
        raise Failed("an ADD that had waited failed")
    return Figure(
        FIRST_ROW + 2,
        "private memory of a blocked client, MiB",
        f"{private:.2f}",
        "<= 1.5",
        private <= 1.5,
        limit="An interpreter writes into most of the memory that it starts with.",
    )


def _runs(command: Command, what: str) -> Callable[[], Ran]:
    return lambda: running.run(command).good(what)


def _private(pid: int) -> int:
    """Return it in KiB."""
    return int(Path(f"/proc/{pid}/smaps_rollup").read_text().split("Private_Dirty:")[1].split()[0])


@contextlib.contextmanager
def _bundle(given: Path | None) -> Iterator[Path]:
    """Yield the directory of a bundle. Raises Failed where there is none and none can be built."""
    if given:
        if not os.access(given / "python", os.X_OK):
            raise Failed(f"{given} holds no bundle: no program python")
        yield given.resolve()
        return
    missing = [tool for tool in ("gcc", "/usr/bin/python3") if not shutil.which(tool)]
    if missing or not list(Path("/usr/lib").glob("python3*/config-3*/libpython3*.a")):
        raise Failed("nothing to build it from: apt-get install gcc libc6-dev python3 libpython3-dev")
    with tempfile.TemporaryDirectory(prefix="floatip-bundle-") as directory:
        say("building the bundle")
        done = subprocess.run([str(BUILD), directory], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"{BUILD.name}: {done.stderr[-2000:]}")
        yield Path(directory)


if __name__ == "__main__":
    sys.exit(main())
