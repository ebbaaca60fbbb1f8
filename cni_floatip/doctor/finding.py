"""A finding: one thing that the doctor says about one subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ..model.errors import Ec2Error, Ec2Fault
from .causes import explained_by


class Severity(StrEnum):
    """How bad. A warning works otherwise than it looks, or will not work one day."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    UNCHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found. ``why`` says why it matters, ``remedy`` is the command or setting that fixes it.

    ``id`` is the check's own for ``ok``, else that of an entry of the catalog, or ``not-checked``.
    ``because``: an error of one of these checks explains it. ``place``: the table or other resource by which
    alone it differs from others of its kind, where that is not the subject.
    """

    id: str
    severity: Severity
    subject: str
    what: str
    why: str = ""
    remedy: str = ""
    because: tuple[str, ...] = ()
    place: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.subject, self.what) if part)


def fine(subject: str, what: str) -> Finding:
    """Return the finding of a check that found nothing wrong."""
    return Finding("ok", Severity.OK, subject, what)


def not_checked(subject: str, what: str, remedy: str = "", *, because: tuple[str, ...] = ()) -> Finding:
    """Return the finding of a check that could not read. ``remedy``: how a person finds the answer."""
    return Finding("not-checked", Severity.UNCHECKED, subject, what, "", remedy, because)


def not_read(subject: str, error: Ec2Error, action: str = "") -> Finding:
    """Return the finding of a check without an answer; ``action`` is the remedy where AWS denied the read."""
    denied = action and error.fault is Ec2Fault.DENIED
    remedy = f"allow {action} (install/iam: the doctor's policy)" if denied else ""
    return not_checked(subject, str(error), remedy, because=explained_by(error))


def list_names(names: Sequence[str], most: int = 10) -> str:
    """Return names as far as a line has room, because a VPC may have hundreds of tables."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
