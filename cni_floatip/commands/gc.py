"""``floatipctl gc``: release routes of pods that are gone."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace

from ..model.errors import TryAgain
from . import add_data_dir, command, see_through

WAIT_SECONDS = 10.0
"""How long to wait for a call in direct mode to leave the data directory."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = command(
        commands,
        "gc",
        brief="release routes that no pod on this node uses any more",
        description=(
            "End the claims of pods that are gone without a DEL, and finish what earlier calls could not:"
            " read every VPC route that awaits its release, and delete it if it still leads to this node."
            " gc forgets a claim 20 minutes after its last write, because no late write can land after"
            " that."
        ),
    )
    add_data_dir(parser)
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, and do nothing")
    parser.set_defaults(command=_gc)


def _gc(options: argparse.Namespace) -> int:
    from .. import direct, operations
    from ..agent import recovery
    from ..config import nodeconf
    from ..config.nodeconf import NodeConf
    from ..edges import spool
    from ..edges.store import Store
    from . import claims_table

    policy = NodeConf.load(nodeconf.path(os.environ))
    policy = replace(policy, data_dir=options.data_dir or policy.data_dir)
    see_through(policy.data_dir, named=bool(options.data_dir))
    if not Store(policy.data_dir, sleep=time.sleep, clock=time.monotonic).exists():
        sys.stdout.write("no claims\n")
        return 0
    try:  # what is logged comes back, too
        with direct.locked(policy, os.environ, WAIT_SECONDS, log=lambda *_, **__: None) as core:
            before, _ = core.world.claims.all()
            if not options.dry_run:
                recovery.end_unanswered(core.world)
            sentences = operations.collect(core.world, dry_run=options.dry_run)
            after, _ = core.world.claims.all()
    except direct.AgentIsHere as e:
        raise TryAgain(f"a node agent uses {policy.data_dir} and does this itself") from e
    waiting = spool.reported(after, spool.waiting(policy.spool_dir))
    lines = [
        *sentences,
        *waiting,
        *(claims_table.pending(before) if options.dry_run else claims_table.changes(before, after)),
    ]
    sys.stdout.write("".join(f"{line}\n" for line in lines) or "nothing to do\n")
    return 1 if not options.dry_run and any(claims_table.is_left(claim) for claim in after) else 0
