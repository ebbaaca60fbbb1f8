"""``floatipctl claims``: list what this node has claimed, from its data directory."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

from ..model.errors import printable
from . import add_data_dir, command, see_through, tell


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = command(
        commands,
        "claims",
        brief="list what this node has claimed",
        description="List the claims in this node's data directory, oldest first.",
    )
    add_data_dir(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(command=_claims)


def _claims(options: argparse.Namespace) -> int:
    from ..config import nodeconf
    from ..edges import spool
    from ..edges.store import Store
    from . import claims_table

    policy = None if options.data_dir else nodeconf.load_forgivingly(os.environ, tell)
    directory = policy.data_dir if policy else options.data_dir
    see_through(directory, named=bool(options.data_dir))
    claims, problems = Store(directory, sleep=time.sleep, clock=time.monotonic, reads_only=True).all()
    files = spool.waiting(policy.spool_dir) if policy else {}
    if options.json:
        sys.stdout.write(json.dumps(claims_table.document(claims, problems, files), indent=2) + "\n")
    else:
        sys.stdout.write(claims_table.table(claims) if claims else "no claims\n")
        sys.stdout.write("".join(f"{printable(claim)}\n" for claim in spool.reported(claims, files)))
        sys.stderr.write("".join(f"floatipctl: {problem}\n" for problem in problems))
    return 1 if problems else 0
