"""``floatipctl validate``: say everything that is wrong with a configuration."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import command

if TYPE_CHECKING:
    from .. import validate


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = command(
        commands,
        "validate",
        brief="say everything that is wrong with a configuration",
        description=(
            "Judge NetworkAttachmentDefinitions (with the configuration inside), plugin chains, "
            "single plugin entries and node configurations, in JSON or YAML. Other Kubernetes objects are "
            "passed over. Every complaint names its place; a warning is something that works otherwise "
            "than it looks."
        ),
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
    from .. import cidr, validate

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
