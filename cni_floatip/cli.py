"""``floatipctl``: look at configurations before they are used, and at what this node has claimed."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__
from .errors import CniError, IoFailure, TryAgain

if TYPE_CHECKING:
    from . import validate

EPILOG = """\
exit status: 0 nothing wrong (warnings do not count), 1 something is, 2 the command line is not understood
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the console script."""
    options = _parser().parse_args(argv)
    try:
        status: int = options.command(options)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough; nobody reads what Python would say at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except CniError as e:
        sys.stderr.write(f"floatipctl: {e}\n")
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="floatipctl",
        description="Floating private IPs for pods on Amazon EKS: check configurations, look at claims.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"floatipctl {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_validate(commands)
    _add_claims(commands)
    _add_gc(commands)
    _add_install_client(commands)
    _add_agent(commands)
    _add_status(commands)
    return parser


def _add_validate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "validate",
        help="say everything that is wrong with a configuration",
        description=(
            "Judge NetworkAttachmentDefinitions (with the configuration inside), plugin chains, "
            "single plugin entries and node configurations, in JSON or YAML. Other Kubernetes objects are "
            "passed over. Every complaint names its place; a warning is something that works otherwise "
            "than it looks."
        ),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="file to judge; - is standard input")
    parser.add_argument(
        "--kind",
        choices=("nad", "conflist", "plugin", "node"),
        help="what the files are, where their keys do not tell",
    )
    parser.add_argument(
        "--vpc-cidr",
        action="append",
        default=[],
        metavar="CIDR",
        help="a CIDR of the VPC (once for each): tells addresses of the VPC from others",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(command=_validate, parser=parser)


def _validate(options: argparse.Namespace) -> int:
    from . import cidr, validate

    try:
        vpc_cidrs = [cidr.read(text) for text in options.vpc_cidr]
    except ValueError as e:
        options.parser.error(f"--vpc-cidr: {e}")
    reports = []
    for name in options.files:
        file = "standard input" if name == "-" else name
        try:
            text = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        except OSError as e:
            reports.append(validate.Report(file))
            reports[-1].refuse("", f"cannot be read: {e.strerror}")
        else:
            reports.append(validate.examine(file, text, options.kind, vpc_cidrs))
    sys.stdout.write(_as_json(reports) if options.json else "".join(_as_text(report) for report in reports))
    return 1 if any(report.errors for report in reports) else 0


def _as_text(report: validate.Report) -> str:
    lines = [str(finding) for finding in report.findings]
    faulty = {finding.document for finding in report.findings}
    sound = [document for document in report.judged if document not in faulty]
    lines += [": ".join(part for part in (report.file, document, "ok") if part) for document in sound]
    if not report.judged:
        lines.append(f"{report.file}: nothing of floatip in it ({', '.join(report.ignored)})")
    return "".join(f"{line}\n" for line in lines)


def _as_json(reports: Sequence[validate.Report]) -> str:
    document = {
        "files": [
            {
                "file": report.file,
                "documents": report.judged,
                "ignored": report.ignored,
                "findings": [
                    {
                        "document": finding.document,
                        "path": finding.path,
                        "severity": "warning" if finding.warning else "error",
                        "message": finding.text,
                    }
                    for finding in report.findings
                ],
            }
            for report in reports
        ],
        "errors": sum(report.errors for report in reports),
    }
    return json.dumps(document, indent=2) + "\n"


def _add_claims(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "claims",
        help="list what this node has claimed",
        description="List the claims in this node's data directory, oldest first.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_data_dir(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(command=_claims)


def _add_gc(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "gc",
        help="take back what nobody on this node wants any more",
        description=(
            "End the claims of pods that are gone without a DEL, and do what earlier calls could not: look "
            "at every VPC route that is to be released and delete it where it still points to this node. A "
            "claim is forgotten 20 minutes after its last write, when no late one can land any more."
        ),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_data_dir(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.set_defaults(command=_gc)


def _add_agent(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "agent",
        help="run the node agent",
        description=(
            "Answer the CNI calls of this node and look after what they claimed, until SIGTERM. One per "
            "node; the node configuration says everything else."
        ),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        metavar="PATH",
        help="the node configuration; default: FLOATIP_CONFIG, or /etc/floatip/config.json",
    )
    parser.set_defaults(command=_agent)


def _agent(options: argparse.Namespace) -> int:
    from . import direct
    from .agent import main as agent

    return agent.run(options.config or direct.policy_path(os.environ))


def _add_status(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "status",
        help="show where this node's claims lead now",
        description=(
            "Ask this node's agent what it claims, where each route leads now and since when, and what went "
            "wrong last."
        ),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
    from . import asking, direct, statusview

    path = options.socket or direct.forgiving_policy(os.environ).socket_path
    return statusview.write_status(lambda: asking.status(path), options.watch, as_json=options.json)


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="the data directory; default: dataDir of the node configuration (FLOATIP_CONFIG)",
    )


def _see_through(directory: str) -> None:
    """Raise IoFailure for claims that only others may read: the directory would look empty."""
    claims = Path(directory, "claims")
    if claims.is_dir() and not os.access(claims, os.R_OK | os.X_OK):
        raise IoFailure(f"cannot read {claims}: Permission denied")


def _claims(options: argparse.Namespace) -> int:
    from . import direct, listing
    from .store import Store

    directory = options.data_dir or direct.forgiving_policy(os.environ).data_dir
    _see_through(directory)
    claims, problems = Store(directory, sleep=time.sleep, clock=time.monotonic).all()
    if options.json:
        sys.stdout.write(json.dumps(listing.document(claims, problems), indent=2) + "\n")
    else:
        sys.stdout.write(listing.table(claims) if claims else "no claims\n")
        sys.stderr.write("".join(f"floatipctl: {problem}\n" for problem in problems))
    return 1 if problems else 0


def _gc(options: argparse.Namespace) -> int:
    from . import direct, listing, operations
    from .nodeconf import NodeConf

    policy = NodeConf.load(direct.policy_path(os.environ))
    policy = replace(policy, data_dir=options.data_dir or policy.data_dir)
    _see_through(policy.data_dir)
    world = replace(direct.world(policy, os.environ), log=lambda _: None)  # what it says comes back, too
    if not world.claims.exists():
        sys.stdout.write("no claims\n")
        return 0
    with world.claims.own(alone=False) as shared:
        if not shared:
            raise TryAgain(f"a node agent has {policy.data_dir} and does this by itself")
        before, _ = world.claims.all()
        told = operations.collect(world, dry_run=options.dry_run)
        after, _ = world.claims.all()
    lines = [*told, *(listing.pending(before) if options.dry_run else listing.changes(before, after))]
    sys.stdout.write("".join(f"{line}\n" for line in lines) or "nothing to do\n")
    return 1 if not options.dry_run and any(listing.is_left(claim) for claim in after) else 0


def _add_install_client(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "install-client",
        help="put the client of the node agent into the runtime's plugin directory",
        description=(
            "Write DIR/floatip: what the container runtime executes on a node that runs the agent. The "
            "paths of socket and spool are those of the node configuration. A client that is there is "
            "replaced at one blow, after the new one has been tried out."
        ),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bin-dir", required=True, metavar="DIR", help="the runtime's plugin directory")
    parser.add_argument(
        "--config", metavar="FILE", help="the node configuration; default: FLOATIP_CONFIG, or its usual place"
    )
    parser.add_argument(
        "--interpreter", default="", metavar="PATH", help="the Python that runs the client; default: this one"
    )
    parser.set_defaults(command=_install_client)


def _install_client(options: argparse.Namespace) -> int:
    from . import direct, installer
    from .nodeconf import NodeConf

    policy = NodeConf.load(options.config or direct.policy_path(os.environ))
    path = installer.install_client(Path(options.bin_dir), policy, options.interpreter)
    sys.stdout.write(f"{path}\n")
    return 0
