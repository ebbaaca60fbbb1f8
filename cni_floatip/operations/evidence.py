"""Whether a pod is gone although no DEL came: on evidence only, for the keeper and ``floatipctl gc`` alike.

A path that is absent proves nothing by itself: our own view of the directory may be empty (a mount that did
not propagate, a runtime that keeps its namespaces elsewhere), and then every pod of the node would look gone
at once. So something must show that the view is good: another namespace in the same directory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..model.claim import Claim
from .world import World


def is_here(claim: Claim, world: World) -> bool:
    """Whether the claim's namespace is still what its path leads to: a path may come to lead to another."""
    return claim.boot == world.boot() and world.inode(claim.netns) == claim.netns_inode != 0


def evidence_among(claims: Sequence[Claim], world: World) -> Callable[[Claim], str | None]:
    """Return what says why the pod of a claim that has not ended must be gone; None where nothing shows it.

    ``claims``: all of the node, whose namespaces are the witnesses.
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
    """Whether there are claims, and no namespace of any of them can be seen: then nothing can be said."""
    return bool(claims) and not any(
        is_here(claim, world) or _beside(claim, frozenset(), world) for claim in claims
    )


def _directory(claim: Claim) -> str:
    return str(Path(claim.netns).parent)


def _beside(claim: Claim, known: frozenset[str], world: World) -> bool:
    """Whether a live namespace is visible under the mount that the claim's is, or was, under."""
    return _directory(claim) in known or world.namespaces.holds_namespace(_directory(claim))
