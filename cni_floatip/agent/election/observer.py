"""What people see of elections: log lines by event, metrics, and the part of ``floatipctl status``.

A member is compared with what it was, so each change is told once, whoever made it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ...election.member import Member
from ...election.timing import PAST
from ...operations.world import Log
from ..observe.recorder import Recorder
from .view import ElectionView


@dataclass(frozen=True, slots=True)
class GroupReport:
    """One group on this node. ``since``: since when its holder holds, as far as is known here (clock).

    ``role``: "active", "offered" (active, but another may take), "standby", "contested", or "unknown" until
    the group's Lease was read. ``proof``: when the newest GET began that showed the pod as holder (clock).
    """

    group: str
    role: str
    holder: str
    since: float
    offer: str
    proof: float
    members: int
    contested_by: str


class Observer:
    """Used by the driver's thread; ``reports`` by any."""

    def __init__(self, view: ElectionView, recorder: Recorder, log: Log) -> None:
        self._view = view
        self._recorder = recorder
        self._log = log
        self._reports: dict[str, GroupReport] = {}

    def reports(self) -> Mapping[str, GroupReport]:
        """Return the groups of this node."""
        return self._reports.copy()

    def summary(self, clock: float) -> tuple[Mapping[str, int], float]:
        """Return how many groups have each role, and how old the oldest proof of an active is (seconds)."""
        reports = self.reports().values()
        ages = [clock - it.proof for it in reports if it.role == "active" and it.proof > PAST]
        return Counter(report.role for report in reports), max(ages, default=0.0)

    def document(self, clock: float, now: float) -> list[dict[str, Any]]:
        """Return the groups for ``floatipctl status``; times are dates."""
        return [
            {
                "group": it.group,
                "role": it.role,
                "holder": it.holder or None,
                "since": _date(it.since - clock + now),
                "offered": it.offer or None,
                "members": it.members,
                "contestedBy": it.contested_by or None,
                "proofAge": round(clock - it.proof, 3) if it.proof > PAST else None,
            }
            for _, it in sorted(self.reports().items())
        ]

    def changed(self, before: Member | None, after: Member | None) -> None:
        """Take note of a member before and after something: None where there was, or is, none."""
        if after is None:
            if before:
                self._view.forget(before.group)
                self._reports.pop(before.group, None)
            return
        self._view.show(after)
        self._reports[after.group] = report_of(after)
        if before is None:
            return
        self._tell_holder(before, after)
        self._tell_offer(before, after)
        if after.contested and not before.contested:
            self._recorder.contested()
            text = f"{after.group}: another writer keeps putting its own route in place of ours"
            self._log(text, "warning", event="contested", **_subject(after))
        if after.contested_by and after.contested_by != before.contested_by:
            text = f"{after.group}: {after.contested_by} is older and elects who has the same destination"
            self._log(text, "warning", event="contested", **_subject(after))

    def _tell_holder(self, before: Member, after: Member) -> None:
        was, now = (it.lease.holder if it.lease else None for it in (before, after))
        if was == now or not before.known:
            return
        fields = _subject(after) | {"former": str(was or "")}
        if now and now.node == after.node:
            why = _why(before)
            self._recorder.moved(why)
            self._log(f"{after.group}: {now.pod} is active on this node ({why})", event="elected", **fields)
        elif was and was.node == after.node:
            to = f"{now.pod} on {now.node} is active" if now else "nobody is active"
            self._log(
                f"{after.group}: {to}, and not {was.pod} on this node any more", event="deposed", **fields
            )

    def _tell_offer(self, before: Member, after: Member) -> None:
        was, now = (it.lease.offer if it.lease else None for it in (before, after))
        if was == now or not after.active or not before.active:
            return
        if now:
            self._log(f"{after.group}: offered to others: {now}", event="offered", **_subject(after))
        else:
            self._log(f"{after.group}: the offer is withdrawn", event="withdrawn", **_subject(after))


def report_of(member: Member) -> GroupReport:
    """Return what people see of a member."""
    lease, held = member.lease, member.holding
    role = "standby"
    if not member.known:
        role = "unknown"
    elif member.active:
        role = "offered" if lease and lease.offer else "active"
    elif member.rival:
        role = "contested"
    return GroupReport(
        member.group,
        role,
        str(lease.holder or "") if lease else "",
        member.learned_at,
        str(lease.offer or "") if lease else "",
        max(held.proved, held.swapped) if held else PAST,
        len(lease.members) if lease else 0,
        member.rival or ("another writer" if member.contested else ""),
    )


def _subject(member: Member) -> dict[str, Any]:
    """Return the log fields that identify a group and its holder."""
    namespace, _, group = member.group.partition("/")
    lease = member.lease
    holder = lease.holder if lease else None
    return {
        "namespace": namespace,
        "group": group,
        "holder": str(holder or ""),
        "transitions": lease.transitions if lease else 0,
    }


def _why(before: Member) -> str:
    """Return why a group moved, in a word: the offer that was taken, "free" or "death"."""
    lease = before.lease
    if lease is None or lease.holder is None:
        return "free"
    if lease.offer:
        return str(lease.offer.reason)
    return "replaced" if lease.holder.node == before.node else "death"


def _date(seconds: float) -> str | None:
    if seconds <= 0:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
