"""``floatipctl uninstall``: remove the client, and release this node's routes."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import add_bin_dir, add_config, command, must_exist, see_through

if TYPE_CHECKING:
    from ..agent.uninstall import Installation
    from ..config.nodeconf import NodeConf

WAIT_SECONDS = 10.0
"""How long to wait for a call in direct mode to leave the data directory."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = command(
        commands,
        "uninstall",
        brief="remove everything of cni-floatip from this node",
        description=(
            "Remove the client and its interpreters from DIR, the metadata guards from the node's"
            " interfaces, and socket, spool and data directory. First finish pending work (DELs in the"
            " spool, routes to release). Refuse while an agent runs here, and while a pod has an address"
            " that was claimed here, or may have one (an unreadable record), because the runtime needs the"
            " client to remove that pod. Run this on each node after you have deleted the DaemonSet. It is"
            " safe to run this again."
        ),
    )
    add_bin_dir(parser)
    add_config(parser)
    parser.add_argument(
        "--force",
        action="store_true",
        help="remove even while pods use it or routes are left; those routes will not be cleaned up."
        " Metadata guards stay",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, and do nothing")
    parser.set_defaults(command=_uninstall)


def _uninstall(options: argparse.Namespace) -> int:
    from .. import direct
    from ..agent import uninstall
    from ..config import nodeconf

    environ = dict(os.environ)
    if options.config:
        environ["FLOATIP_CONFIG"] = options.config
    named = environ.get("FLOATIP_CONFIG")  # with another configuration we might not see its pods
    policy = (
        nodeconf.NodeConf.load(named)
        if named and not options.force
        else nodeconf.load_forgivingly(environ, direct.tell)
    )
    see_through(policy.data_dir)
    if not options.force:
        must_exist(options.bin_dir)
    with _installation(policy, environ, options.bin_dir, dry_run=options.dry_run) as here:
        sentences = [] if options.dry_run else uninstall.finish(here)
        against = uninstall.obstacles(here, finished=not options.dry_run)
        if against:
            sys.stderr.write(
                "".join(f"floatipctl: {item}\n" for item in dict.fromkeys([*sentences, *against]))
            )
        if against and not options.force:
            sys.stderr.write("floatipctl: removed nothing (--force removes it anyway)\n")
            return 1
        first = uninstall.under_way(here) if options.dry_run else []
        removed = uninstall.remove(here, dry_run=options.dry_run, guards=not options.force)
        _tell(itertools.chain(first, removed))
    return 0


@contextlib.contextmanager
def _installation(
    policy: NodeConf, environ: Mapping[str, str], bin_dir: Path, *, dry_run: bool
) -> Iterator[Installation]:
    """Lock the data directory, where there is one that is to be removed. Raises TryAgain."""
    from .. import direct
    from ..agent.uninstall import Installation, agent_is_here
    from ..edges.store import Store

    # What is left is told later; and it is an agent's work that is done here, a DEL's default is an agent's.
    how: Mapping[str, Any] = {"log": lambda *_, **__: None, "on_delete": "release"}
    store = Store(policy.data_dir, sleep=time.sleep, clock=time.monotonic)
    try:
        with (
            contextlib.nullcontext(direct.read_only(policy, environ, **how))
            if dry_run or not Path(policy.data_dir).is_dir()
            else direct.locked(policy, environ, WAIT_SECONDS, **how)
        ) as core:
            # Not before: a call that was waited for may have been the first to claim.
            yield Installation(policy, core.world, core.spool, bin_dir, has_records=store.exists())
    except direct.AgentIsHere as e:
        raise agent_is_here(policy) from e


def _tell(lines: Iterator[str]) -> None:
    count = 0
    for line in lines:
        count += 1
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    if not count:
        sys.stdout.write("nothing of cni-floatip is here\n")
