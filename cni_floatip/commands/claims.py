"""``floatipctl claims``: list what this node has claimed, from its data directory."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

from . import add_data_dir, command, see_through


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
    from .. import direct, listing
    from ..store import Store

    directory = options.data_dir or direct.forgiving_policy(os.environ).data_dir
    see_through(directory)
    claims, problems = Store(directory, sleep=time.sleep, clock=time.monotonic).all()
    if options.json:
        sys.stdout.write(json.dumps(listing.document(claims, problems), indent=2) + "\n")
    else:
        sys.stdout.write(listing.table(claims) if claims else "no claims\n")
        sys.stderr.write("".join(f"floatipctl: {problem}\n" for problem in problems))
    return 1 if problems else 0
