"""The report as a person reads it, and as a program does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from .. import __version__
from .checks import Check
from .finding import Finding, Severity
from .side_by_side import Report

VERSION = 1
"""The format of the JSON document. What is there keeps its meaning; keys may be added."""

_WIDTH = 11


def text(report: Report) -> str:
    """Return the report in groups: a line for what is fine, three for what is not, and a count."""
    lines: list[str] = []
    for group, found in groupby(report.found, key=lambda each: each[0].group):
        lines += [group, *(line for check, findings in found for line in _lines(check, findings)), ""]
    return "".join(f"{line}\n" for line in [*lines, summary(report)])


def _lines(check: Check, findings: Sequence[Finding]) -> Iterator[str]:
    for finding in findings:
        yield f"  {finding.severity:<{_WIDTH}}  {check.title}: {_printable(str(finding))}"
        if finding.severity not in (Severity.OK, Severity.UNCHECKED):
            yield f"  {'':<{_WIDTH}}  why: {finding.why} [{finding.id}]"
        if finding.remedy:
            yield f"  {'':<{_WIDTH}}  mend: {_printable(finding.remedy)}"


def summary(report: Report) -> str:
    """Return the counts in one line."""
    counts = [
        (report.count(Severity.ERROR), "error", "errors"),
        (report.count(Severity.WARNING), "warning", "warnings"),
        (report.count(Severity.UNCHECKED), "not checked", "not checked"),
    ]
    said = ", ".join(f"{count} {one if count == 1 else many}" for count, one, many in counts)
    return f"{len(report.found)} checks: {said}"


def document(report: Report) -> dict[str, Any]:
    """Return the JSON document.

    ``{"version": 1, "release": "0.3.0", "errors": 0, "warnings": 1, "notChecked": 0, "findings": [...]}``;
    a finding is ``{"check": "links", "group": "Network interfaces", "id": "mtu-small", "severity":
    "warning", "subject": "eth1 (eni-...)", "what": "...", "why": "...", "remedy": "..."}``. Every check has
    at least one. ``severity`` is "ok", "warning", "error" or "not checked"; ``id`` is "ok", "not-checked" or
    one of ``docs/doctor.md``; ``why`` and ``remedy`` may be empty.
    """
    return {
        "version": VERSION,
        "release": __version__,
        "errors": report.count(Severity.ERROR),
        "warnings": report.count(Severity.WARNING),
        "notChecked": report.count(Severity.UNCHECKED),
        "findings": [
            {
                "check": check.id,
                "group": check.group,
                "id": finding.id,
                "severity": finding.severity.value,
                "subject": finding.subject,
                "what": finding.what,
                "why": finding.why,
                "remedy": finding.remedy,
            }
            for check, findings in report.found
            for finding in findings
        ],
    }


def _printable(said: str) -> str:
    """Return ``said`` without what a terminal would obey: names come from pods, texts from AWS."""
    return "".join(char if char.isprintable() else "?" for char in said)
