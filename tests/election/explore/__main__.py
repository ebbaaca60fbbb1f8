"""Explore the shipped core of elected claims: ``make explore``.

Searches the named configurations whole, or walks them at random, and prints what it finds, with the
shortest trace of each violation. Exit status: 0 all is clean and complete, 1 a violation, 2 usage,
3 nothing is wrong, but a search was cut by its bounds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from fnmatch import fnmatchcase

from tests.election.explore import configurations
from tests.election.explore.exploration import Exploration
from tests.election.explore.schedules import Plan, Walk
from tests.election.explore.search import Bounds
from tests.election.explore.setting import Setting

CLEAN, VIOLATED, USAGE, CUT = 0, 1, 2, 3
GROUPS: Mapping[str, Mapping[str, Setting]] = {
    "single": configurations.SINGLE,
    "pairs": configurations.PAIRS,
    "three": configurations.THREE,
    "special": configurations.SPECIAL,
    "walks": configurations.WALKS,
}
BATCH = 250
PLAN = Plan()


def searched(name: str, setting: Setting, bounds: Bounds) -> tuple[int, str]:
    """Search one configuration; return an exit status, and the report."""

    def progress(line: str) -> None:
        print(f"{name}: {line}", file=sys.stderr, flush=True)  # noqa: T201

    outcome = Exploration(setting).search(bounds, progress)
    lines = [f"{name}: {outcome}"]
    lines += [f"  VIOLATION {violation}" for violation in outcome.violations]
    status = VIOLATED if outcome.violations else CLEAN if outcome.complete else CUT
    return status, "\n".join(lines)


def walked(name: str, setting: Setting, seeds: range) -> tuple[int, str]:
    """Walk one configuration once for each seed; return an exit status, and what went wrong."""
    exploration = Exploration(setting)
    lines = []
    for seed in seeds:
        wrong = Walk(exploration, seed, PLAN).run()
        if wrong is not None:
            lines.append(f"  VIOLATION {wrong.what}: {name}, seed {wrong.seed}, {len(wrong.trace)} steps")
            lines.append(f"  {' '.join(wrong.trace)}\n  {exploration.show(wrong.state)}")
            break
    return (VIOLATED if lines else CLEAN), "\n".join(lines)


def chosen(names: Iterable[str], choices: Mapping[str, Setting]) -> dict[str, Setting]:
    """Return what names, patterns and groups mean. Raises KeyError for one that means nothing."""
    settings: dict[str, Setting] = {}
    for name in names:
        group = GROUPS.get(name, {})
        matching = group or {key: setting for key, setting in choices.items() if fnmatchcase(key, name)}
        if not matching:
            raise KeyError(name)
        settings.update(matching)
    return settings


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    described = argparse.ArgumentParser(prog="python -m tests.election.explore", description=__doc__)
    described.formatter_class = argparse.RawDescriptionHelpFormatter
    groups = ", ".join(GROUPS)
    described.add_argument(
        "names", nargs="*", help=f"configurations, patterns, or groups ({groups}); all but walks"
    )
    described.add_argument("--list", action="store_true", help="print the names and end")
    described.add_argument(
        "--seconds", type=float, default=150.0, help="CPU seconds of one search (%(default)s)"
    )
    described.add_argument("--states", type=int, default=2_000_000, help="states of one search (%(default)s)")
    described.add_argument("--jobs", type=int, default=2, help="processes (%(default)s)")
    described.add_argument(
        "--random", type=int, default=0, metavar="N", help="walk N random schedules instead"
    )
    described.add_argument("--seed", type=int, default=0, help="the first schedule's seed (%(default)s)")
    return described


def main(arguments: list[str]) -> int:
    """Run; return the exit status."""
    described = parser()
    options = described.parse_args(arguments)
    choices = {**configurations.ALL, **configurations.WALKS}
    if options.list:
        for group, settings in GROUPS.items():
            print(f"{group}:", *settings, sep="\n  ")  # noqa: T201
        return CLEAN
    try:
        names = options.names or (["walks"] if options.random else ["single", "pairs", "three", "special"])
        settings = chosen(names, choices)
    except KeyError as unknown:
        described.error(f"no configuration {unknown}; --list prints them")
    return _run(options, settings)


def _run(options: argparse.Namespace, settings: Mapping[str, Setting]) -> int:
    statuses, begun = [], time.monotonic()
    with ProcessPoolExecutor(options.jobs) as pool:
        if options.random:
            share = -(-options.random // len(settings))
            last = options.seed + share
            work = [
                pool.submit(walked, name, setting, range(first, min(first + BATCH, last)))
                for name, setting in settings.items()
                for first in range(options.seed, last, BATCH)
            ]
        else:
            bounds = Bounds(options.states, options.seconds)
            work = [pool.submit(searched, name, setting, bounds) for name, setting in settings.items()]
        for number, done in enumerate(as_completed(work), 1):
            status, report = done.result()
            statuses.append(status)
            if report or number % 10 == 0:
                print(f"[{number}/{len(work)}, {time.monotonic() - begun:.0f} s] {report}", flush=True)  # noqa: T201
    counts = {
        name: statuses.count(value)
        for name, value in (("clean", CLEAN), ("violated", VIOLATED), ("cut", CUT))
    }
    print(", ".join(f"{count} {name}" for name, count in counts.items()))  # noqa: T201
    return VIOLATED if VIOLATED in statuses else CUT if CUT in statuses else CLEAN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
