"""What a bench leaves: one JSON document, printed, or kept in ``bench/results/`` for docs/performance.md.

    {
      "bench": "agent",                  name of the file without .json
      "title": "The node agent ...",     heading on the page
      "about": "Ratios of ...",          how it was measured; one sentence a line
      "command": "python bench/agent.py --rounds 25",
      "date": "2026-11-29",              UTC
      "machine": {"cores": 2, "cpu": "...", "kernel": "6.1.0", "python": "3.11.7",
                  "load": {"before": 0.1, "after": 1.9}},
      "simulated": "EC2 and ...",        what was not real; one sentence a line
      "rows": [...]                      ``Figure.document``: row, figure, value, aim, met, limit, detail,
    }                                    grid and plots

Rows have numbers of their own across all benches: agent 1 to 10 and 15 to 29, bundle 11 to 14, peers from 30,
failover 40 to 49, startup 50.

A bench calls ``add_options`` for its parser, ``begin`` before it measures, and ``publish`` with its figures;
one that can measure some of its rows calls ``check_save`` first.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.figure import Figure, say, table

RESULTS = Path(__file__).with_name("results")
CPUINFO = Path("/proc/cpuinfo")
LAB_EC2 = "EC2 and instance metadata are simulated; kernel, processes and namespaces are real."
"""For ``simulated``, where nothing more is to be said."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A bench that has begun. ``load``: the load average of one minute before it."""

    bench: str
    title: str
    about: str
    simulated: str
    command: str
    date: str
    load: float


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the document goes; without one a table is printed."""
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--save", action="store_true", help="keep the document in bench/results/, for docs/performance.md"
    )


def check_save(
    parser: argparse.ArgumentParser, options: argparse.Namespace, bench: str, rows: Collection[int]
) -> None:
    """End with exit status 2 if ``--save`` would drop rows that are kept and that this run does not measure.

    A document has one date, machine and command, so rows of two runs cannot share it.
    """
    path = RESULTS / f"{bench}.json"
    if not options.save or not path.exists():
        return
    kept = {row["row"] for row in json.loads(path.read_text())["rows"]}
    if dropped := sorted(kept - set(rows)):
        names = ", ".join(map(str, dropped))
        parser.error(
            f"--save would drop rows of bench/results/{path.name}: measure {names} too, or remove it"
        )


def begin(bench: str, title: str, *, about: str, simulated: str = LAB_EC2) -> Begun:
    """Return what must be known before anything is measured."""
    today = datetime.now(UTC).date().isoformat()
    return Begun(bench, title, about, simulated, _command(), today, os.getloadavg()[0])


def publish(
    begun: Begun, figures: Sequence[Figure], options: argparse.Namespace, wanted: Collection[int] = ()
) -> int:
    """Print the figures, as a table or as JSON, and keep them if ``--save`` is given. Return the exit status.

    ``wanted``: the rows that were to be measured. If one of them failed, the status is 1 and nothing is kept.
    """
    result = document(begun, figures)
    missing = sorted(set(wanted) - {figure.row for figure in figures})
    if missing:
        say(f"not measured: {', '.join(map(str, missing))}{'; nothing is kept' if options.save else ''}")
    elif options.save:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{begun.bench}.json"
        path.write_text(_json(result))
        say(f"kept in bench/results/{path.name}: make docs")
    if options.json:
        print(_json(result), end="")
    else:
        load = result["machine"]["load"]
        print(table(figures))
        print(f"\n{os.cpu_count()} cores, load {load['before']} before and {load['after']} after")
    return 1 if missing else 0


def document(begun: Begun, figures: Sequence[Figure]) -> dict[str, Any]:
    """Return the whole document."""
    return {
        "bench": begun.bench,
        "title": begun.title,
        "about": begun.about,
        "command": begun.command,
        "date": begun.date,
        "machine": {
            "cores": os.cpu_count(),
            "cpu": _cpu(CPUINFO.read_text()),
            "kernel": platform.release(),
            "python": platform.python_version(),
            "load": {"before": round(begun.load, 1), "after": round(os.getloadavg()[0], 1)},
        },
        "simulated": begun.simulated,
        "rows": [figure.document() for figure in figures],
    }


def _json(result: dict[str, Any]) -> str:
    return json.dumps(result, indent=2) + "\n"


def _command() -> str:
    """Return the command as a reader would repeat it; where the document goes does not matter."""
    script = Path(sys.argv[0])
    options = [option for option in sys.argv[1:] if option not in ("--json", "--save")]
    return shlex.join(["python", f"bench/{script.name}", *options])


def _cpu(cpuinfo: str) -> str:
    """Return the model of the first core; the architecture, where Linux names none (arm64)."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
