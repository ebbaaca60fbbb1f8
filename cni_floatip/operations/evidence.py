"""Decides on evidence whether a pod is gone without a DEL, for the keeper and for ``floatipctl gc``.

An absent path proves nothing by itself. Our own view of the directory may be empty (a mount that did not
propagate, a runtime that keeps its namespaces elsewhere), and then every pod of the node would look gone at
once. So another namespace in the same directory must show that the view is good.

Of ``/proc/PID/ns/net`` only another claim's namespace shows that. Whatever is below our own ``/proc`` may
belong to another PID namespace, where the same PID is another process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..model.claim import Claim
from .world import World

_PROC = "/proc"


def is_here(claim: Claim, world: World) -> bool:
    """Whether the claim's path still leads to its namespace, because a path may come to lead to another."""
    return claim.boot == world.boot() and world.inode(claim.netns) == claim.netns_inode != 0


def evidence_among(claims: Sequence[Claim], world: World) -> Callable[[Claim], str | None]:
    """Return a function that says why the pod of a claim that has not ended is gone (else None).

    ``claims``: all claims of the node; their namespaces are the evidence.
    """
    known = frozenset(_directory(claim) for claim in claims if is_here(claim, world))

    def evidence(claim: Claim) -> str | None:
        if not claim.has_pod:
            return None
        if claim.boot != world.boot():
            return "the node was rebooted since"
        if is_here(claim, world) or world.namespaces.is_hidden(claim.netns):
            return None
        if not _beside(claim, known, world):
            return None
        return f"its namespace {claim.netns} is gone"

    return evidence


def none_visible(claims: Sequence[Claim], world: World) -> bool:
    """Whether there are claims but none of their namespaces is visible, so that there is no evidence."""
    return bool(claims) and not any(
        is_here(claim, world) or _beside(claim, frozenset(), world) for claim in claims
    )


def _directory(claim: Claim) -> str:
    """Return the directory whose view is good or not as a whole. ``/proc`` itself holds no namespace."""
    return _PROC if claim.netns.startswith(f"{_PROC}/") else str(Path(claim.netns).parent)


def _beside(claim: Claim, known: frozenset[str], world: World) -> bool:
    """Whether a live namespace is visible under the mount of the claim's namespace."""
    return _directory(claim) in known or world.namespaces.holds_namespace(_directory(claim))
