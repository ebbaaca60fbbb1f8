"""Runs all checks at the same time within one deadline, so that a hanging check hides no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..model.errors import CniError, Ec2Error
from .checks import Check
from .finding import Finding, Severity, not_checked
from .probe import Probe

SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """What every check found, in the order of the checks."""

    results: Sequence[tuple[Check, Sequence[Finding]]]

    def count(self, severity: Severity) -> int:
        """Return how many findings are of this severity."""
        return sum(finding.severity is severity for _, findings in self.results for finding in findings)


def examine(
    probe: Probe,
    checks: Sequence[Check],
    *,
    seconds: float = SECONDS,
    progress: Callable[[int], object] = lambda _: None,
) -> DoctorReport:
    """Run the checks and return what they found. ``progress`` hears how many are done.

    Threads of unfinished checks are left behind; they are daemons, and change nothing.
    """
    done: dict[str, Sequence[Finding]] = {}
    changed = threading.Condition()

    def run(check: Check) -> None:
        findings = _findings(check, probe)
        with changed:
            done[check.id] = findings
            changed.notify()

    for check in checks:
        threading.Thread(target=run, args=(check,), daemon=True, name=f"check {check.id}").start()
    until = time.monotonic() + seconds
    with changed:
        while len(done) < len(checks) and (left := until - time.monotonic()) > 0:
            progress(len(done))
            changed.wait(min(left, 0.5))
        # Each check that asks EC2 waits for an unresolvable name; any other reason is named too.
        late = [not_checked("", f"took longer than {seconds:g} s", because=("endpoint",))]
        return DoctorReport([(check, done.get(check.id, late)) for check in checks])


def _findings(check: Check, probe: Probe) -> Sequence[Finding]:
    try:
        return list(check.look(probe))
    except (CniError, Ec2Error) as e:
        return [not_checked("", str(e), because=probe.explained_by(e))]
    except Exception as e:  # noqa: BLE001 (a mistake in one check is told, and hides no other)
        return [not_checked("", f"this check has a bug: {type(e).__name__}: {e}")]
