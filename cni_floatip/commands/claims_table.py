"""Formats this node's claims: one line for each attachment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ..edges import spool
from ..edges.store import Problem
from ..model.claim import LATE_SECONDS, Claim
from ..model.claim_state import State
from ..model.errors import printable

HEAD = ("ATTACHMENT", "POD", "ENI", "DESTINATIONS", "TABLES", "STATE", "SINCE")


def table(claims: Sequence[Claim]) -> str:
    """Return the claims in columns, with a head."""
    rows = [HEAD, *(tuple(map(printable, _row(claim))) for claim in claims)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def document(
    claims: Sequence[Claim], problems: Sequence[Problem], files: Mapping[spool.Owner, list[str]]
) -> dict[str, Any]:
    """Return the claims as they are on disk, each with its state in one word and its DELs in ``files``."""
    return {
        "claims": [
            claim.document() | {"state": claim.state.value, "spooled": spool.files_of(claim, files)}
            for claim in claims
        ],
        "problems": [
            {"path": str(problem.path), "reason": problem.reason, "moved": problem.moved}
            for problem in problems
        ],
    }


def is_left(claim: Claim) -> bool:
    """Whether routes of ``claim`` are still to be released."""
    return claim.state is State.RELEASING


def pending(claims: Sequence[Claim]) -> list[str]:
    """Return the work that is left for claims that no pod wants."""
    return [f"{claim.attachment}: to release: {_places(claim)}" for claim in claims if is_left(claim)]


def changes(before: Sequence[Claim], after: Sequence[Claim]) -> list[str]:
    """Return the outcome of claims that no pod wants; the attempt has reported what is still left."""
    now = {claim.attachment: claim for claim in after}
    sentences = []
    for claim in before:
        result = now.get(claim.attachment)
        if result is None:
            sentences.append(f"{claim.attachment}: forgotten")
        elif result.state is State.GONE and claim.state is not State.GONE:
            kept = f"kept for {LATE_SECONDS / 60:.0f} minutes in case a late write lands"
            sentences.append(f"{claim.attachment}: released: {_places(result)}; {kept}")
        elif is_left(result):
            sentences.append(f"{claim.attachment}: left to release: {_places(result)}")
    return sentences


def _places(claim: Claim) -> str:
    if claim.lost_record is not None:
        return "routes unknown (its record was lost)"
    return ", ".join(f"{route.key.table} {route.key.destination}" for route in claim.routes) or "no routes"


def _row(claim: Claim) -> tuple[str, ...]:
    destinations = dict.fromkeys(str(route.key.destination) for route in claim.routes)
    tables = dict.fromkeys(route.key.table for route in claim.routes)
    return (
        str(claim.attachment),
        str(claim.pod),
        claim.eni or "-",
        ",".join(destinations) or "-",
        ",".join(tables) or "-",
        _state(claim),
        _since(claim.created_at),
    )


def _state(claim: Claim) -> str:
    """The claim's state, with how many routes differ from it: ``held (1 superseded)``."""
    others = [route.state.value for route in claim.routes if route.state != claim.state]
    counts = [f"{others.count(state)} {state}" for state in dict.fromkeys(others)]
    return claim.state.value + (f" ({', '.join(counts)})" if counts else "")


def _since(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else "-"
