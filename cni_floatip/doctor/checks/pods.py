"""Checks pods with live claims: compares each with its record on disk, as CHECK does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...edges.host import inode
from ...edges.podnet import open_pod
from ...model.claim import Claim
from ...model.errors import CniError, short
from ...operations.pod_repair import differences
from ..catalog import make_finding
from ..finding import Finding, fine, list_names, not_checked
from ..probe import Probe


def pods(probe: Probe) -> Iterable[Finding]:
    claims = list(_claims(Path(probe.policy.data_dir)))
    fit = fine("", f"{len(claims)} with live claims: as ADD left them" if claims else "none has a live claim")
    return [finding for claim in claims for finding in _judge(claim)] or [fit]


def _claims(directory: Path) -> Iterator[Claim]:
    """Read the records, without unreadable ones, because the check of the agent reports them."""
    for path in sorted((directory / "claims").glob("*.json")):
        try:
            claim = Claim.parse(json.loads(path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        if claim.has_pod:
            yield claim


def _judge(claim: Claim) -> Iterator[Finding]:
    ifname = claim.attachment.ifname
    who = str(claim.pod) if claim.pod.name else short(claim.attachment)
    if inode(claim.netns) != claim.netns_inode:
        yield not_checked(who, f"its namespace {claim.netns} cannot be seen here")
        return
    try:
        with open_pod(claim.netns, ifname) as pod:
            lost = [str(difference) for difference in differences(pod, claim)]
    except CniError as e:
        lost = [e.msg]
    if lost:
        yield make_finding("pod-lost", who, f"{ifname}: {list_names(lost)}", ifname=ifname, netns=claim.netns)
