"""``floatipctl status``: show where this node's claims lead now."""

from __future__ import annotations

import argparse
import contextlib
import os

from . import command


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = command(
        commands,
        "status",
        brief="show where this node's claims lead now",
        description=(
            "Ask this node's agent what it claims, where each route leads now and since when, and what went "
            "wrong last."
        ),
    )
    parser.add_argument(
        "--socket",
        metavar="PATH",
        help="the agent's socket; default: socketPath of the node configuration (FLOATIP_CONFIG)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--watch",
        nargs="?",
        type=_interval,
        const=2.0,
        metavar="SECONDS",
        help="show it again every SECONDS (2), until Ctrl-C",
    )
    parser.set_defaults(command=_status)


def _interval(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0.1 <= (seconds := float(text)) <= 86400:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 on")


def _status(options: argparse.Namespace) -> int:
    from .. import asking, direct, statusview

    path = options.socket or direct.forgiving_policy(os.environ).socket_path
    return statusview.write_status(lambda: asking.status(path), options.watch, as_json=options.json)
