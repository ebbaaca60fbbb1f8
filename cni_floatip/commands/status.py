"""``floatipctl status``: show where this node's claims lead now."""

from __future__ import annotations

import argparse
import contextlib
import os
from typing import Any

from . import command, tell


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = command(
        commands,
        "status",
        brief="show this node's claims and where their routes lead now",
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
        help="repeat every SECONDS (2), until Ctrl-C",
    )
    parser.set_defaults(command=_status)


def _interval(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0.1 <= (seconds := float(text)) <= 86400:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 on")


def _status(options: argparse.Namespace) -> int:
    from ..config import nodeconf
    from ..edges import agent_socket, spool
    from ..model.errors import IoFailure, TryAgain
    from . import status_view

    policy = None if options.socket else nodeconf.load_forgivingly(os.environ, tell)
    path = policy.socket_path if policy else options.socket

    def ask() -> dict[str, Any]:
        try:
            return agent_socket.status(path)
        except TryAgain as e:  # no agent: its DELs wait, and nobody else says so
            files: list[str] = []
            with contextlib.suppress(IoFailure):
                results = spool.waiting(policy.spool_dir) if policy else {}
                files = [file for own in results.values() for file in own]
            raise TryAgain(f"{e}; {spool.sentence(files)}" if files else str(e)) from e

    return status_view.write_status(ask, options.watch, as_json=options.json)
