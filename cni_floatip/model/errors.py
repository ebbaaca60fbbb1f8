"""The errors of the plugin, one class per CNI error code.

``msg`` is what the pod's event line shows: what failed, for which address, what to do. ``details`` is for
the operator. Codes 0 to 99 are the CNI specification's (SPEC.md, section "Error"), 100 and up are ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, ClassVar

LONGEST = 8192
"""Characters of a message: kubelet keeps an event of 1024, and a log line of ours has as many."""
SHORT = 120
"""The most characters that a message quotes of foreign text."""
MOST_TABLES = 20
"""How many route tables one sentence lists: with as many it fits into kubelet's event."""
_TABLE = re.compile(r"((?:[a-z]{1,20} ){0,5})(rtb-[0-9A-Za-z-]{1,64})([ :].*)", re.DOTALL)
"""A message about one route table, or about one route in it (``cannot release`` and a ``RouteKey``)."""


class CniError(Exception):
    """An error as the runtime gets it. Subclasses fix the code."""

    code: ClassVar[int] = 999

    def __init__(self, msg: str, details: str = "") -> None:
        super().__init__(msg)
        self.msg = _truncate(msg)
        self.details = _truncate(details)

    def __str__(self) -> str:
        return f"{self.msg} ({self.details})" if self.details else self.msg

    def document(self, version: str) -> dict[str, Any]:
        """Return the error as the specification prints it: ``{cniVersion, code, msg, details?}``."""
        document: dict[str, Any] = {"cniVersion": version, "code": self.code, "msg": self.msg}
        return document | {"details": self.details} if self.details else document


class IncompatibleVersion(CniError):
    """The configuration's ``cniVersion`` is not one of ours, or too old for the verb."""

    code = 1


class UnsupportedField(CniError):
    """A key that we do not know; the message holds key and value."""

    code = 2


class InvalidEnvironment(CniError):
    """A ``CNI_*`` variable is missing or malformed; the message names every one."""

    code = 4


class IoFailure(CniError):
    """Standard input or the data directory cannot be read or written."""

    code = 5


class DecodeFailure(CniError):
    """A text is not valid JSON, or not a version number."""

    code = 6


class InvalidConfig(CniError):
    """The configuration is valid JSON, but what it says is wrong."""

    code = 7


class InvalidNetns(CniError):
    """``CNI_NETNS`` is not a network namespace, or is the host's own."""

    code = 8


class TryAgain(CniError):
    """A passing condition (throttling, metadata or EC2 out of reach): the runtime may call again."""

    code = 11


class NotAvailable(CniError):
    """STATUS: an ADD would fail now."""

    code = 50


class LimitedConnectivity(CniError):
    """STATUS: an ADD would fail now, and the traffic of a running pod does not arrive either."""

    code = 51


class AwsRefused(CniError):
    """EC2 said no for good: permission, quota, a resource that does not exist."""

    code = 100


class RouteConflict(CniError):
    """A route that is not ours to replace is in the way (gateway, NAT, transit gateway, propagated ...)."""

    code = 101


class PolicyRefused(CniError):
    """The node configuration does not allow what the network configuration asks for."""

    code = 102


class PodNetworkFailure(CniError):
    """The pod's interface, routes or rules cannot be brought into the wanted state."""

    code = 103


class ForeignProc(PodNetworkFailure):
    """``/proc`` belongs to a PID namespace that this process is not in, so it cannot open its descriptors."""

    def __init__(self) -> None:
        super().__init__(
            "this process does not see itself in /proc, because /proc belongs to another PID namespace:"
            " start it in that namespace (nsenter --pid beside --mount), or with a /proc of its own"
        )


class NotAsClaimed(CniError):
    """CHECK: the pod or the VPC differs from the claim."""

    code = 104


def no_namespace(netns: str) -> str:
    """Return what it means that nothing is at the path ``netns`` of a pod's namespace."""
    why = "the pod is gone"
    if netns.startswith("/proc/"):
        why += ", or this is not the runtime's /proc (Multus and the agent need hostPID for such paths)"
    return f"CNI_NETNS {netns} does not exist: {why}"


class Ec2Fault(Enum):
    """What an EC2 error means to us; ``edges.ec2.faults`` sorts AWS's codes into these."""

    ROUTE_EXISTS = "the route exists already"
    NO_ROUTE = "there is no such route"
    NO_TABLE = "there is no such route table"
    NO_ENI = "there is no such network interface"
    THROTTLED = "the account's request rate limit is exhausted"
    UNANSWERED = "no answer came: it may have been applied"
    NOT_SENT = "EC2 could not be reached: it was not applied"
    BUSY = "a resource is in transition"
    DENIED = "permission or credentials are missing"
    QUOTA = "a quota is reached"
    REFUSED = "EC2 refuses the request"

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self in (Ec2Fault.THROTTLED, Ec2Fault.UNANSWERED, Ec2Fault.NOT_SENT, Ec2Fault.BUSY)


class Ec2Error(Exception):
    """One EC2 (or STS) call that did not succeed, in our words; ``str`` shows AWS's."""

    def __init__(self, fault: Ec2Fault, action: str, code: str, message: str) -> None:
        super().__init__(f"{action}: {code}: {message}" if code else f"{action}: {message}")
        self.fault = fault
        self.action = action
        self.code = code
        self.message = message

    def to_cni_error(self, what: str) -> CniError:
        """Return the CNI error for the runtime; ``what`` names the work that failed."""
        return (TryAgain if self.fault.is_transient else AwsRefused)(f"{what}: {self}")


_LONGEST_WORDS = 1024
"""Characters of the Kubernetes API's own words that are kept: a refusal has some 200."""


class ApiFault(Enum):
    """What an error of the Kubernetes API means to us; ``edges.kubernetes.answers`` has the statuses."""

    UNANSWERED = "no answer came: a write may have been applied"
    SERVER = "the API server or its storage failed, or its answer is none: a write may have been applied"
    THROTTLED = "the API server is busy or ends"
    REFUSED = "the credentials are not accepted, or a right is missing"
    NOT_FOUND = "there is no such object"
    CONFLICT = "the object is there already, or another one, or was changed meanwhile"
    EXPIRED = "the version is too old: list anew"
    INVALID = "the API refuses the request as it is"

    @property
    def is_unknown(self) -> bool:
        """Whether a write may have been applied, now or later: the caller reads to know."""
        return self in (ApiFault.UNANSWERED, ApiFault.SERVER)

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self in (ApiFault.UNANSWERED, ApiFault.SERVER, ApiFault.THROTTLED)

    @property
    def is_current(self) -> bool:
        """Whether the API's storage answered: what it says of the object is as new as an object would be."""
        return self in (ApiFault.NOT_FOUND, ApiFault.CONFLICT)


class ApiError(Exception):
    """One call of the Kubernetes API that did not succeed, in our words; ``str`` shows the API's."""

    def __init__(
        self, fault: ApiFault, action: str, message: str, status: int = 0, retry_after: float | None = None
    ) -> None:
        """``status``: of HTTP, 0 without an answer. ``retry_after``: seconds that the API asks to wait."""
        message = printable(message[:_LONGEST_WORDS])
        super().__init__(f"{action}: {status} {message}" if status else f"{action}: {message}")
        self.fault = fault
        self.action = action
        self.message = message
        self.status = status
        self.retry_after = retry_after


def short(value: object) -> str:
    """Return the text of ``value``, truncated if it is long.

    Every message that quotes foreign text uses this, because a text of megabytes explains nothing and is
    costly to read and to search.
    """
    text = str(value)
    return text if len(text) <= SHORT else f"{text[: SHORT - 3]}..."


def printable(text: str) -> str:
    """Return ``text`` on one line, without control characters, because names come from pods."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _truncate(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text)} characters)"


def raise_any(results: Iterable[object]) -> None:
    """Raise one error that joins all errors among ``results``, with the most lasting code.

    Equal messages about several route tables become one, which lists the tables.
    """
    errors = [result for result in results if isinstance(result, CniError)]
    if not errors:
        return
    worst = max(errors, key=lambda error: error.code)
    messages = " | ".join(_fold_tables(error.msg for error in errors))
    raise type(worst)(messages, "; ".join(dict.fromkeys(e.details for e in errors if e.details))) from worst


def _fold_tables(messages: Iterable[str]) -> list[str]:
    """Return the messages without repetition, those that differ only in the table as one."""
    tables: dict[tuple[str, str], set[str]] = {}
    for message in messages:
        match = _TABLE.fullmatch(message)
        before, table, after = match.groups() if match else (message, "", "")
        tables.setdefault((before, after), set()).add(table)
    return [before + _listed(sorted(names)) + after for (before, after), names in tables.items()]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_TABLES
    return ", ".join(names[:MOST_TABLES]) + (f" and {more} more" if more > 0 else "")
