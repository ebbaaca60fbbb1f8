"""``floatipctl gc``: release routes of pods that are gone."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ..model.errors import TryAgain
from . import add_data_dir, command, see_through, tell

if TYPE_CHECKING:
    from ..config.nodeconf import NodeConf

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
    from .. import direct
    from ..config import nodeconf
    from ..config.nodeconf import NodeConf
    from ..edges.store import Store

    configured = NodeConf.load(nodeconf.path(os.environ))
    policy = replace(configured, data_dir=options.data_dir or configured.data_dir)
    see_through(policy.data_dir, named=bool(options.data_dir))
    if not Store(policy.data_dir, sleep=time.sleep, clock=time.monotonic).exists():
        sys.stdout.write("no claims\n")
        return 0
    try:
        if options.dry_run:
            lines, is_left = _preview(policy), False
        else:  # in another directory the DELs of the spool would find no claim, and be lost
            lines, is_left = _collect(policy, with_spool=policy.data_dir == configured.data_dir)
    except direct.AgentIsHere as e:
        raise TryAgain(f"a node agent uses {policy.data_dir} and does this itself") from e
    sys.stdout.write("".join(f"{line}\n" for line in lines) or "nothing to do\n")
    return 1 if is_left else 0


def _preview(policy: NodeConf) -> list[str]:
    """Return what gc would do, a sentence each. Raises AgentIsHere."""
    from .. import direct, operations
    from ..edges import spool
    from . import claims_table

    world = direct.read_only(policy, os.environ, on_delete="release", log=_log).world
    claims, _ = world.claims.all()
    return [
        *operations.collect(world, dry_run=True),
        *spool.reported(claims, spool.waiting(policy.spool_dir)),
        *claims_table.pending(claims),
    ]


def _collect(policy: NodeConf, *, with_spool: bool) -> tuple[list[str], bool]:
    """Do it; return what was done, a sentence each, and whether routes are left. Raises AgentIsHere."""
    from .. import direct, operations
    from ..agent import recovery
    from ..edges import spool
    from . import claims_table

    # onDelete is as under an agent: DELs wait in the spool of a node whose agent is away.
    with direct.locked(policy, os.environ, WAIT_SECONDS, on_delete="release", log=_log) as core:
        before, _ = core.world.claims.all()
        recovery.end_unanswered(core.world)
        if with_spool:
            core.spool.process_all()
        sentences = operations.collect(core.world)
        after, _ = core.world.claims.all()
    lines = [
        *sentences,
        *spool.reported(after, spool.waiting(policy.spool_dir)),
        *claims_table.changes(before, after),
    ]
    return lines, any(claims_table.is_left(claim) for claim in after)


def _log(sentence: str, level: str = "info", **_: object) -> None:
    """Tell of a DEL that was set aside; what else is logged comes back."""
    if level == "error":
        tell(sentence)
