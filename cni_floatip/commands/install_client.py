"""``floatipctl install-client``: put the client into the runtime's plugin directory."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from . import add_bin_dir, add_config, command


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = command(
        commands,
        "install-client",
        brief="install the node agent's client into the runtime's plugin directory",
        description=(
            "Write DIR/floatip, the program that the container runtime executes on a node with an agent."
            " From a node bundle, also write the interpreter that runs it, below DIR/.floatip. DIR must"
            " have the same path here and on the host. The node configuration names the paths of socket"
            " and spool. An existing client is replaced atomically, after the new one has passed a smoke"
            " test. If nothing would change, nothing is written. It is safe to run this again, and beside"
            " other installers."
        ),
    )
    add_bin_dir(parser)
    add_config(parser)
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--bundle",
        metavar="DIR",
        help="the node bundle: an interpreter that needs nothing of the host; default: the image's",
    )
    source.add_argument(
        "--interpreter",
        default="",
        metavar="PATH",
        help="the path of a Python on this host that runs the client; default without a bundle: this one",
    )
    parser.set_defaults(command=_install_client)


def _install_client(options: argparse.Namespace) -> int:
    from .. import installer
    from ..config import nodeconf
    from ..config.nodeconf import NodeConf

    policy = NodeConf.load(options.config or nodeconf.path(os.environ))
    bundle = Path(options.bundle) if options.bundle else None
    if not options.interpreter:
        bundle = bundle or installer.default_bundle()
    path = installer.install_client(options.bin_dir, policy, options.interpreter, bundle=bundle)
    sys.stdout.write(f"{path}\n")
    return 0
