"""``floatipctl sweep``: remove the blackhole routes that dead nodes left inside a range."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import TYPE_CHECKING

from . import add_config, command, see_through

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..model.values import Network
    from ..operations.sweep import Outcome, SweepResult, SweepVpc


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = command(
        commands,
        "sweep",
        brief="remove blackhole routes that dead nodes left inside a range",
        description=(
            "Read the route tables of this node's VPC that the node configuration allows, and remove the"
            " routes inside RANGE that terminated nodes left: blackholes whose network interface is gone"
            " or not attached. sweep reads each route again right before it deletes it. It keeps routes"
            " that work, routes to anything but a network interface, and routes that this node claims. It"
            " is safe to run this again, and beside agents."
        ),
    )
    parser.add_argument(
        "--range",
        action="append",
        required=True,
        metavar="CIDR",
        help="the range to sweep (repeatable); must be inside allowedDestinations of the node configuration",
    )
    parser.add_argument(
        "--stopped",
        action="store_true",
        help="also remove routes to interfaces of stopped instances, although these routes would work"
        " again when the instances start",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, and do nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON document at the end")
    add_config(parser)
    parser.set_defaults(command=_sweep, parser=parser)


def _sweep(options: argparse.Namespace) -> int:
    from .. import direct
    from ..agent.claim_cache import AsOnDisk
    from ..config import nodeconf
    from ..config.nodeconf import NodeConf
    from ..edges.store import Store
    from ..model import cidr
    from ..operations.sweep import Outcome, sweep

    try:
        ranges = [cidr.parse(text) for text in options.range]
    except ValueError as e:
        options.parser.error(f"--range: {e}")
    policy = NodeConf.load(options.config or nodeconf.path(os.environ))
    see_through(policy.data_dir)
    store = Store(policy.data_dir, sleep=time.sleep, clock=time.monotonic, reads_only=True)
    claims = AsOnDisk(store, time.time)
    results: list[SweepResult] = []

    def tell(swept: SweepResult) -> None:
        results.append(swept)
        if not options.json:
            sys.stdout.write(f"{swept}\n")
            sys.stdout.flush()

    interrupted = False
    try:
        sweep(
            direct.assemble(policy, os.environ, claims).world,
            _ec2(policy.roles),
            ranges,
            stopped=options.stopped,
            dry_run=options.dry_run,
            tell=tell,
        )
    except KeyboardInterrupt:
        interrupted = True
    write = _write_json if options.json else _write_sum
    write(ranges, results, interrupted=interrupted)
    return 1 if interrupted or any(swept.outcome is Outcome.FAILED for swept in results) else 0


def _ec2(roles: Mapping[str, str]) -> Callable[[str], SweepVpc]:
    from ..edges.ec2 import client

    clients: dict[str, SweepVpc] = {}

    def ec2(region: str) -> SweepVpc:
        where = os.environ.get("AWS_REGION") or region
        return clients.setdefault(where, client.Vpc(where, roles))

    return ec2


def _counts(results: Sequence[SweepResult]) -> dict[Outcome, int]:
    from ..operations.sweep import Outcome

    return {outcome: sum(swept.outcome is outcome for swept in results) for outcome in Outcome}


def _write_sum(ranges: Sequence[Network], results: Sequence[SweepResult], *, interrupted: bool) -> None:
    if interrupted:
        sys.stdout.write("interrupted: run it again for what is left\n")
    elif not results:
        sys.stdout.write(f"no blackhole inside {', '.join(map(str, ranges))}\n")
    if results:
        counts = (f"{number} {outcome.value}" for outcome, number in _counts(results).items() if number)
        sys.stdout.write(", ".join(counts) + "\n")


def _write_json(ranges: Sequence[Network], results: Sequence[SweepResult], *, interrupted: bool) -> None:
    document = {
        "ranges": [str(network) for network in ranges],
        "interrupted": interrupted,
        "routes": [
            {
                "table": swept.blackhole.key.table,
                "destination": str(swept.blackhole.key.destination),
                "target": swept.blackhole.target.id,
                "account": swept.blackhole.account,
                "outcome": swept.outcome.value,
                "why": swept.why,
            }
            for swept in results
        ],
        "counts": {outcome.value: number for outcome, number in _counts(results).items()},
    }
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
