"""``floatipctl``: look at configurations before they are used, and at what this node has claimed."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__
from .errors import CniError, IoFailure

if TYPE_CHECKING:
    from . import validate
    from .nodeconf import NodeConf

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


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="the data directory; default: dataDir of the node configuration (FLOATIP_CONFIG)",
    )


def _data_dir(options: argparse.Namespace) -> str:
    """Return the data directory; raises IoFailure when its claims cannot be listed."""
    directory: str = options.data_dir or node_configuration().data_dir
    claims = Path(directory, "claims")
    if claims.is_dir() and not os.access(claims, os.R_OK | os.X_OK):  # else it would look empty
        raise IoFailure(f"cannot read {claims}: Permission denied")
    return directory


def node_configuration() -> NodeConf:
    """Return the node configuration that ``FLOATIP_CONFIG`` (or nothing) names."""
    from .nodeconf import DEFAULT_PATH, NodeConf

    return NodeConf.load(os.environ.get("FLOATIP_CONFIG") or DEFAULT_PATH)


def _claims(options: argparse.Namespace) -> int:
    from . import listing
    from .store import Store

    claims, problems = Store(_data_dir(options), sleep=time.sleep, clock=time.monotonic).all()
    if options.json:
        sys.stdout.write(json.dumps(listing.document(claims, problems), indent=2) + "\n")
    else:
        sys.stdout.write(listing.table(claims) if claims else "no claims\n")
        sys.stderr.write("".join(f"floatipctl: {problem}\n" for problem in problems))
    return 1 if problems else 0
