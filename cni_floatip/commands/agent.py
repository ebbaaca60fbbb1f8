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
            "Serve the CNI calls of this node and maintain the routes that they claimed, until SIGTERM."
            " Run one agent per node. Its settings are in the node configuration."
        ),
    )
    add_config(parser)
    parser.add_argument(
        "--bin-dir",
        type=plugin_directory,
        metavar="DIR",
        help="the runtime's plugin directory, in which the agent repairs what install-client wrote",
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
