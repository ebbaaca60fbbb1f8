"""GC: end the claims of attachments that the runtime no longer knows; and ``floatipctl gc``, by evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..model.claim import Claim
from ..model.errors import CniError, InvalidConfig, raise_any, short
from ..protocol.request import Request
from .backlog import process_backlog
from .delete import end_claim
from .evidence import evidence_among
from .release import attachment_lock
from .world import World

GC_SECONDS = 60.0
KEYS = ("cni.dev/valid-attachments", "cni.dev/attachments")
"""The specification renamed the key; libcni sends both."""


def gc(request: Request, world: World) -> None:
    """End every claim of the network that is not in the list of valid attachments.

    Without a list nothing is done, because it says nothing about any attachment; ``null`` and ``[]`` say that
    no attachment is valid. Raises CniError at the end, when everything was tried.
    """
    present = [request.config[key] for key in KEYS if key in request.config]
    if not present:
        sentence = "GC without a list of valid attachments: it shows nothing as stale, so GC does nothing"
        world.log(sentence, "warning")
        return
    valid = {attachment for entries in present for attachment in _attachments(entries)}

    def stale(claim: Claim) -> str | None:
        if claim.attachment.network != request.attachment.network:
            return None
        known = (claim.attachment.container, claim.attachment.ifname) in valid
        return None if known else "not among the valid attachments"

    raise_any(_end_all(world, stale))


def _attachments(entries: object) -> Iterator[tuple[str, str]]:
    """Read valid attachments. Raises InvalidConfig, because an unreadable item must not end a live claim."""
    if entries is None:
        return
    if not isinstance(entries, list):
        raise InvalidConfig(
            f"$[{KEYS[0]!r}]: expected a list of attachments, found {short(repr(entries))}: nothing is done"
        )
    for entry in entries:
        results = [entry.get(key) for key in ("containerID", "ifname")] if isinstance(entry, dict) else []
        match results:
            case [str(container), str(ifname)]:
                yield container, ifname
            case _:
                raise InvalidConfig(
                    f"$[{KEYS[0]!r}]: {short(repr(entry))} is no attachment (containerID, ifname):"
                    " nothing is done"
                )


def collect(world: World, *, dry_run: bool = False) -> list[str]:
    """End the claims of pods that are gone without a DEL, on evidence, and work off the backlog.

    Returns one sentence for each thing done or left.
    """
    if not dry_run:
        world.claims.remove_partial_files()
    claims, _ = world.claims.all()
    evidence = evidence_among(claims, world)
    sentences: list[str] = []

    def stale(claim: Claim) -> str | None:
        why = evidence(claim)
        if why:
            sentences.append(f"{claim.attachment}: ended: {why}")
        return None if dry_run else why

    errors = _end_all(world, stale)
    sentences += [str(fault) for fault in (*errors, *world.claims.all()[1])]
    if dry_run:
        return sentences
    left = process_backlog(world, world.clock() + GC_SECONDS)
    return sentences + [f"{attachment}: {error}" for attachment, error in left.items()]


def _end_all(world: World, stale: Callable[[Claim], str | None]) -> list[CniError]:
    errors: list[CniError] = []
    claims, problems = world.claims.all()
    for problem in problems:
        world.log(str(problem), "warning")
    for claim in claims:
        why = stale(claim)
        if not why:
            continue
        world.log(f"{claim.attachment}: {why}", event="ended", **claim.subject())
        try:
            with world.claims.lock(attachment_lock(claim.attachment), 0) as free:
                now = world.claims.get(claim.attachment)
                if free and isinstance(now, Claim) and stale(now):  # else its own call is at work
                    end_claim(world, now, now.netns)
        except CniError as e:
            errors.append(e)
    return errors
