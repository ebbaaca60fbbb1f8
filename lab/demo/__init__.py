"""``python -m lab demo``: a floating IP moves between Availability Zones, with real packets and plugin."""

from __future__ import annotations

import argparse
import signal
import sys
from types import FrameType

from lab import needs

DESCRIPTION = """\
For both address patterns and both IP families: a pod on node a1 answers; Availability Zone a fails; the pod's
ADD runs on node b1 and clients are answered from there; node a1 comes back, and its late DEL harms nothing.
Every step is observed, by packets and by what EC2 holds. Exit status 0 only if all of them held.

Each node runs the agent, and its runtime the client. DEL leaves the routes for a grace (releaseGraceSeconds:
3 s here, 60 s by default), in which the next owner replaces them; then the agent takes back what is left.
"""

GRACE = 3.0
"""Long enough to be seen, short enough to be waited for."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``demo`` to the lab's command line."""
    parser = commands.add_parser(
        "demo",
        help="watch a floating IP move between two Availability Zones",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document, and nothing else")
    parser.add_argument("--plain", action="store_true", help="plain lines, also on a terminal")
    parser.add_argument(
        "--pattern",
        type=int,
        choices=(1, 2),
        help="1: an address outside the VPC; 2: in a subnet (default: both)",
    )
    parser.add_argument(
        "--direct", action="store_true", help="without agents: each plugin call does everything itself"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Play the demo; return 0 if everything that it shows was observed."""
    needs.require(plugins=("floatip", "static"))
    # Here, because moto takes two seconds to import and --help need not wait for it.
    from lab.demo import show, story
    from lab.world import Lab

    signal.signal(signal.SIGTERM, _interrupt)
    stage = show.choose(json=args.json, plain=args.plain or not sys.stdout.isatty())
    stage.title()
    policy = {} if args.direct else {"releaseGraceSeconds": GRACE}
    with Lab(agents=not args.direct, policy=policy) as lab:
        stage.world(list(show.world_lines(lab)))
        patterns = [p for p in story.patterns(lab) if args.pattern in (None, p.number)]
        outcomes = [story.play(lab, pattern, stage) for pattern in patterns]
    stage.end(outcomes)
    return 0 if all(outcome.held for outcome in outcomes) else 1


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
