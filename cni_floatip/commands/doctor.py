"""``floatipctl doctor``: check node, VPC and cluster."""

from __future__ import annotations

import argparse
import json
import os
import sys

from . import EPILOG, add_config, command

MORE = """\

docs/doctor.md lists every finding. --json prints one document:
  {"version": 1, "release": "...", "errors": n, "warnings": n, "notChecked": n, "findings": [
    {"check": "...", "group": "...", "id": "...", "severity": "ok" | "warning" | "error" | "not checked",
     "subject": "...", "what": "...", "why": "...", "remedy": "..."}]}
"""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = command(
        commands,
        "doctor",
        brief="check node, VPC and cluster",
        description=(
            "Check this node, its agent, EC2 and the cluster. Print what is wrong, why it matters and how"
            " to fix it. Run it on a node as root, or in the agent's pod. It changes nothing: it sends EC2"
            " only Describe calls and dry runs. It also names the checks that it could not make."
        ),
    )
    parser.epilog = EPILOG + MORE
    parser.add_argument("--json", action="store_true", help="print one JSON document, with every finding")
    parser.add_argument(
        "--all", action="store_true", help="also show what is fine, and what could not be checked and why"
    )
    parser.add_argument(
        "--interface",
        action="append",
        default=[],
        metavar="NAME",
        help=(
            "check this ENI, and no other ENI that has no live claims: the name of its link (or an"
            " altname), or its id; repeatable. Default: all but the primary ENI, VPC CNI's own and"
            " EFA-only ones"
        ),
    )
    add_config(parser)
    parser.add_argument(
        "--bin-dir",
        metavar="DIR",
        default="",
        help="the runtime's plugin directory; default: FLOATIP_BIN_DIR (the chart sets it), or /opt/cni/bin",
    )
    parser.set_defaults(command=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from ..doctor import report as view
    from ..doctor.checks import CHECKS
    from ..doctor.finding import Severity
    from ..doctor.probe import Probe
    from ..doctor.runner import examine

    shown = sys.stderr.isatty()

    def progress(done: int) -> None:
        if shown:
            sys.stderr.write(f"\r{done} of {len(CHECKS)} checks done ")
            sys.stderr.flush()

    probe = Probe(os.environ, config=options.config or "", bin_dir=options.bin_dir, only=options.interface)
    report = examine(probe, CHECKS, progress=progress)
    if shown:
        sys.stderr.write("\r\x1b[K")
    if options.json:
        sys.stdout.write(json.dumps(view.document(report), indent=2) + "\n")
    else:
        sys.stdout.write(view.text(report, everything=options.all))
    return 1 if report.count(Severity.ERROR) else 0
