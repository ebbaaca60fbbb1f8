"""Formats the report, as text for a person and as JSON for a program."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .. import __version__
from ..model.errors import printable
from .checks import CHECKS, Check
from .finding import Finding, Severity, list_names
from .runner import DoctorReport

VERSION = 1
"""The format of the JSON document. Keys keep their meaning; keys may be added."""

CAUSES = ("policy", "metadata", "endpoint", "identity", "agent", "addresses")
"""Checks whose errors explain those of others; the one that explains most comes first."""

_WIDTH = 11
_TITLES: Mapping[str, str] = {check.id: check.title for check in CHECKS}

Found = tuple[Check, Finding]


def text(report: DoctorReport, *, everything: bool = False) -> str:
    """Return the problems, one cause once: errors before warnings; then what waits for them, and a count.

    ``everything``: what could not be checked and what is fine, too.
    """
    results = [(check, finding) for check, findings in report.results for finding in findings]
    at_fault = _at_fault(results)
    errors = _fold(_own(results, Severity.ERROR, at_fault))
    warnings = _fold(_own(results, Severity.WARNING, at_fault))
    unchecked, well = _of(results, Severity.UNCHECKED), _of(results, Severity.OK)
    lines = [line for check, finding in (*errors, *warnings) for line in (*_problem(check, finding), "")]
    if waiting := list(_waiting(results, at_fault)):
        lines += [*waiting, ""]
    if everything:
        shown = [line for check, finding in (*unchecked, *well) for line in _line(check, finding)]
        lines += [*shown, ""] if shown else []
    counts = [
        (len(errors), "error" if len(errors) == 1 else "errors"),
        (len(warnings), "warning" if len(warnings) == 1 else "warnings"),
    ]
    texts = [f"{count} {word}" for count, word in counts if count] + [f"{len(well)} fine"]
    if unchecked:
        texts.append(f"{len(unchecked)} not checked")
    end = ", ".join(texts) + ("" if everything else " (--all)")
    return "".join(f"{line}\n" for line in [*lines, end])


def _of(results: Iterable[Found], severity: Severity) -> list[Found]:
    return [(check, finding) for check, finding in results if finding.severity is severity]


def _at_fault(results: Sequence[Found]) -> frozenset[str]:
    """Return the checks that have an error of their own, which nothing else explains."""
    at_fault: set[str] = set()
    for cause in CAUSES:
        errors = (f for check, f in results if check.id == cause and f.severity is Severity.ERROR)
        if any(at_fault.isdisjoint(finding.because) for finding in errors):
            at_fault.add(cause)
    return frozenset(at_fault)


def _own(results: Sequence[Found], severity: Severity, at_fault: frozenset[str]) -> list[Found]:
    """Return the findings of a severity that no check at fault explains; causes come first."""
    own = [(check, f) for check, f in _of(results, severity) if at_fault.isdisjoint(f.because)]
    order = {id_: number for number, id_ in enumerate(CAUSES)}
    return sorted(own, key=lambda item: order.get(item[0].id, len(CAUSES)))


def _fold(results: Sequence[Found]) -> list[Found]:
    """Return the findings; those that differ only by their place are merged."""
    alike: dict[tuple[str, ...], list[Found]] = {}
    for check, finding in results:
        place = finding.place or finding.subject or "\0"
        texts = (text.replace(place, "\0") for text in (finding.subject, finding.what, finding.remedy))
        alike.setdefault((check.id, finding.id, *texts), []).append((check, finding))
    return [(same[0][0], _one_of(same)) for same in alike.values()]


def _one_of(same: Sequence[Found]) -> Finding:
    """Return one finding for several that say the same of different places."""
    _, first = same[0]
    places = list_names(list(dict.fromkeys(finding.place or finding.subject for _, finding in same)))
    place = first.place or first.subject
    if len(same) == 1 or not place:
        return first
    others = "; likewise for each" if place in first.remedy else ""
    subject, what = (text.replace(place, places) for text in (first.subject, first.what))
    return Finding(
        first.id, first.severity, subject, what, first.why, first.remedy + others, first.because, first.place
    )


def _waiting(results: Sequence[Found], at_fault: frozenset[str]) -> Iterator[str]:
    """Say for each check at fault how many others could not look, and which findings come from the same."""
    for cause in (item for item in CAUSES if item in at_fault):
        explained = [(check, f) for check, f in results if cause in f.because]
        checks = {check.id for check, f in explained if f.severity is Severity.UNCHECKED}
        others = [check.title for check, f in explained if f.severity in (Severity.ERROR, Severity.WARNING)]
        texts = []
        if count := len(checks):
            texts.append(f"{count} {'checks wait' if count > 1 else 'check waits'} for")
        if count := len(others):
            what = "findings of {} come" if count > 1 else "finding of {} comes"
            texts.append(f"{count} {what.format(list_names(list(dict.fromkeys(others))))} from")
        if texts:
            yield f"{' and '.join(texts)} {_TITLES[cause]} above"


def _sentence(check: Check, finding: Finding) -> str:
    """Return title and finding; a subject that is the title is not said again."""
    answer = finding.what if finding.subject == check.title else str(finding)
    return f"{check.title}: {printable(answer)}"


def _problem(check: Check, finding: Finding) -> Iterator[str]:
    yield f"{finding.severity:<{_WIDTH}}  {_sentence(check, finding)}"
    yield f"{'':<{_WIDTH}}  why: {finding.why} [{finding.id}]"
    yield f"{'':<{_WIDTH}}  mend: {printable(finding.remedy)}"


def _line(check: Check, finding: Finding) -> Iterator[str]:
    yield f"{finding.severity:<{_WIDTH}}  {_sentence(check, finding)}"
    if finding.remedy:
        yield f"{'':<{_WIDTH}}  mend: {printable(finding.remedy)}"


def document(report: DoctorReport) -> dict[str, Any]:
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
            for check, findings in report.results
            for finding in findings
        ],
    }
