"""``floatipctl``: the command line for configurations, this node's claims and its agent."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from . import __version__
from .commands import EPILOG, agent, claims, doctor, gc, install_client, status, sweep, uninstall, validate
from .commands.arguments import Parser
from .model.errors import CniError

COMMANDS = (validate, claims, gc, install_client, agent, status, doctor, sweep, uninstall)
"""In the order of ``--help``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the console script."""
    options = parser().parse_args(argv)
    try:
        done: int = options.command(options)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has closed the pipe; nobody reads Python's message at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except CniError as e:
        sys.stderr.write(f"floatipctl: {e}\n")
        return 1
    return done


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="floatipctl",
        description="Floating private IPs for pods on Amazon EKS. Start with: status, doctor, validate.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"floatipctl {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser
