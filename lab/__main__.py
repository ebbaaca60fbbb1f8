"""``python -m lab``: watch a failover, or have a VPC on this machine to play with."""

from __future__ import annotations

import argparse
import sys

import lab.ec2.cli
from lab import cmdline, demo, imds, up
from lab.errors import LabError

DESCRIPTION = """\
A VPC on one machine: worker nodes in two Availability Zones, clients, a router that follows the route tables,
EC2 and instance metadata. Everything lives in network namespaces that the lab makes and removes.
"""

EPILOG = """\
`demo` plays a failover and ends. `up` starts a lab that stays and prints what to type in it; `ask`, `routes`,
`fail` and `recover` are for that lab, and `down` ends it. `ec2` and `imds` serve one part of it alone.
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(
        prog=cmdline.PROGRAM,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    demo.add_parser(commands)
    up.add_parsers(commands)
    lab.ec2.cli.add_parser(commands)
    imds.add_parser(commands)
    args = parser.parse_args(argv)
    try:
        return int(args.run(args))
    except LabError as e:
        print(f"lab: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
