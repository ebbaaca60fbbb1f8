"""``floatipctl validate``: validate configuration files."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..model.errors import printable
from . import command

if TYPE_CHECKING:
    from ..validate import report as validate


NEXT_STEP = (
    'for floating addresses make "plugins" of ipvlan with static addresses and, after it,'
    ' {"type": "floatip", "routeTables": {...}}: docs/migration.md, netconf-examples/pattern-1.yaml'
)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = command(
        commands,
        "validate",
        brief="validate configuration files",
        description=(
            "Check NetworkAttachmentDefinitions (with the configuration inside), plugin chains, single"
            " plugin entries and node configurations, in JSON or YAML. It also checks Deployments and"
            " StatefulSets that name an elected network of the same call. validate skips other Kubernetes"
            " objects. It checks a network with all its plugins and their IPAM, and against the other"
            " networks on the command line, and it names what it does not check. Every complaint names its"
            " place. An error means that every ADD would fail or that an address would never work. A"
            " warning means that something works differently than it looks.\n\nWith --node-config,"
            " validate also checks networks against the policy of the nodes: an error is what an agent is"
            " sure to refuse, a warning is what it may refuse. The agent and doctor check what only EC2"
            " knows: which subnets exist and what is in them, tags of route tables, their owner (roles)"
            " and source/dest checks."
        ),
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="file to check; - is standard input")
    parser.add_argument(
        "--kind",
        choices=("nad", "conflist", "plugin", "node"),
        help="the kind of the files, if their keys do not show it",
    )
    parser.add_argument(
        "--vpc-cidr",
        action="append",
        default=[],
        metavar="CIDR",
        help="a CIDR of the VPC (repeatable), to tell addresses of the VPC from others",
    )
    parser.add_argument(
        "--node-config",
        metavar="FILE",
        help="check networks against this node configuration: plain, or a ConfigMap among other objects",
    )
    parser.add_argument(
        "--namespace",
        metavar="NAME",
        help="the pods' namespace; default: that of their NetworkAttachmentDefinition",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(command=_validate, parser=parser)


def _validate(options: argparse.Namespace) -> int:
    from ..model import cidr
    from ..validate import report as validate

    try:
        vpc_cidrs = [cidr.parse(text) for text in options.vpc_cidr]
    except ValueError as e:
        options.parser.error(f"--vpc-cidr: {e}")
    if options.namespace is not None and options.node_config is None:
        options.parser.error("--namespace: has an effect only with --node-config")
    reports: list[validate.FileReport] = []
    policy = None
    for file, text in _texts([options.node_config] if options.node_config is not None else [], reports):
        report, policy = validate.node_conf(file, text)
        reports.append(report)
    for file, text in _texts(options.files, reports):
        report = validate.examine(file, text, options.kind, vpc_cidrs, policy, options.namespace)
        reports.append(report)
    validate.compare(reports)
    sys.stdout.write(_as_json(reports) if options.json else "".join(map(_as_text, reports)))
    return 1 if any(report.errors for report in reports) else 0


def _texts(names: Sequence[str], reports: list[validate.FileReport]) -> Iterator[tuple[str, bytes]]:
    """Yield each file with its text; an unreadable file gets its report."""
    from ..validate import report as validate

    for name in names:
        file = "standard input" if name == "-" else name
        try:
            text = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        except OSError as e:
            reports.append(validate.FileReport(file))
            reports[-1].refuse("", f"cannot be read: {e.strerror}")
        else:
            yield file, text


def _as_text(report: validate.FileReport) -> str:
    lines = [str(finding) for finding in report.findings]
    faulty = {finding.document for finding in report.findings}
    sound = [document for document in report.judged if document not in faulty]
    lines += [": ".join(part for part in (report.file, document, "ok") if part) for document in sound]
    for document, unknown in report.not_judged.items():
        sentence = f"not judged: {', '.join(dict.fromkeys(unknown))}"
        lines.append(": ".join(part for part in (report.file, document, sentence) if part))
    if not report.judged:
        lines.append(f"{report.file}: nothing of floatip in it ({', '.join(report.ignored)})")
    if not report.judged and report.without_floatip:
        lines.append(f"{report.file}: {NEXT_STEP}")
    return "".join(f"{printable(line)}\n" for line in lines)


def _as_json(reports: Sequence[validate.FileReport]) -> str:
    document = {
        "files": [
            {
                "file": report.file,
                "documents": report.judged,
                "ignored": report.ignored,
                "notJudged": report.not_judged,
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
