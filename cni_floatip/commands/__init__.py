"""The commands of ``floatipctl``, one module each, and their shared options.

A module has ``add``, which describes its command to argparse. It imports the command's libraries only when
the command runs, so that one command does not wait for the libraries of another.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ..model.errors import IoFailure

EPILOG = """\
exit status: 0 no error (warnings do not count), 1 an error, 2 an invalid command line
"""


def command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, *, brief: str, description: str
) -> argparse.ArgumentParser:
    """Describe one command and return its parser, which is to get its arguments and its ``command``."""
    return commands.add_parser(
        name,
        help=brief,
        description=description,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Add the option that names another data directory."""
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="the data directory; default: dataDir of the node configuration (FLOATIP_CONFIG)",
    )


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the option that names another node configuration."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="the node configuration; default: FLOATIP_CONFIG, or /etc/floatip/config.json",
    )


def add_bin_dir(parser: argparse.ArgumentParser) -> None:
    """Add the option that says where the runtime's plugins are."""
    parser.add_argument(
        "--bin-dir",
        type=plugin_directory,
        required=True,
        metavar="DIR",
        help="the runtime's plugin directory",
    )


def plugin_directory(text: str) -> Path:
    """Return the directory as the host names it: absolute, and no link followed. A type for argparse."""
    if not text:
        raise argparse.ArgumentTypeError("no directory is named")
    return Path(os.path.abspath(text))  # noqa: PTH100 (Path.resolve follows links)


def tell(sentence: str) -> None:
    """Write a line for the operator that does not stop the command."""
    sys.stderr.write(f"floatip: {sentence}\n")


def see_through(directory: str, *, named: bool = False) -> None:
    """Raise IoFailure for claims that only others may read: the directory would look empty.

    So would one that does not exist: before the first claim it need not, but one that is ``named`` must.
    """
    if named:
        must_exist(directory)
    claims = Path(directory, "claims")
    if claims.is_dir() and not os.access(claims, os.R_OK | os.X_OK):
        raise IoFailure(f"cannot read {claims}: Permission denied")


def must_exist(directory: str | Path) -> None:
    """Raise IoFailure unless there is such a directory: a mistyped one must not look as if it were empty."""
    if not Path(directory).is_dir():
        there = "not a directory" if Path(directory).exists() else "no such directory"
        raise IoFailure(f"{there}: {directory}")
