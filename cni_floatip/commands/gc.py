"""``floatipctl gc``: release routes of pods that are gone."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace

from ..model.errors import TryAgain
from . import add_data_dir, command, see_through, tell

WAIT_SECONDS = 10.0
"""How long to wait for a call in direct mode to leave the data directory."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = command(
        commands,
        "gc",
        brief="release routes that no pod on this node uses any more",
        description=(
            "End the claims of pods that are gone without a DEL, and finish what earlier calls could not:"
            " do the DELs in the spool, read every VPC route that awaits its release, and delete it if it"
            " still leads to this node."
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

    configured = NodeConf.load(nodeconf.path(os.environ))
    policy = replace(configured, data_dir=options.data_dir or configured.data_dir)
    see_through(policy.data_dir, named=bool(options.data_dir))
    if not Store(policy.data_dir, sleep=time.sleep, clock=time.monotonic).exists():
        sys.stdout.write("no claims\n")
        return 0
    try:  # onDelete is as under an agent: DELs wait in the spool of a node whose agent is away
        with direct.locked(policy, os.environ, WAIT_SECONDS, on_delete="release", log=_log) as core:
            before, _ = core.world.claims.all()
            if not options.dry_run:
                recovery.end_unanswered(core.world)
            if not options.dry_run and policy.data_dir == configured.data_dir:
                core.spool.process_all()  # in another directory these DELs would find no claim, and be lost
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


def _log(sentence: str, level: str = "info", **_: object) -> None:
    """Tell of a DEL that was set aside; what else is logged comes back."""
    if level == "error":
        tell(sentence)
