"""``floatipctl agent``: run the node agent."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from . import add_config, command, plugin_directory


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = command(
        commands,
        "agent",
        brief="run the node agent",
        description=(
            "Answer the CNI calls of this node and look after what they claimed, until SIGTERM. One per "
            "node; the node configuration says everything else."
        ),
    )
    add_config(parser)
    parser.add_argument(
        "--bin-dir",
        type=plugin_directory,
        metavar="DIR",
        help="the runtime's plugin directory: keep the client there in repair, as install-client leaves it",
    )
    parser.add_argument(
        "--bundle", metavar="DIR", help="the node bundle of that client, as for install-client"
    )
    parser.set_defaults(command=_agent)


def _agent(options: argparse.Namespace) -> int:
    from ..agent import main as agent
    from ..config import nodeconf

    return agent.run(
        options.config or nodeconf.path(os.environ),
        options.bin_dir,
        Path(options.bundle) if options.bundle else None,
    )
