"""When a pod counts as gone without a DEL, for the keeper and ``floatipctl gc``: on evidence only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cni_floatip.model.claim import Claim
from cni_floatip.model.claim_state import ClaimedRoute, State
from cni_floatip.model.values import Attachment, PodIdentity, RouteKey
from cni_floatip.operations.evidence import evidence_among, none_visible
from tests.support.watched_pods import DUMMY

HELD = ClaimedRoute(RouteKey("rtb-a", DUMMY.cidrs[0]), State.HELD)


def claim(netns: str, inode: int = 7, boot: str = "now") -> Claim:
    who = Attachment("red", netns, "net1")
    return Claim(who, "eni-1", "eu", netns, inode, boot, PodIdentity(), "release", routes=(HELD,))


def world(paths: dict[str, int], *, hidden: str = "", beside: str = "") -> Any:
    """Return a node where ``paths`` lead to namespaces; ``beside`` is a directory that has one of another."""
    namespaces = SimpleNamespace(
        is_hidden=lambda path: path == hidden, holds_namespace=lambda path: path == beside
    )
    return SimpleNamespace(boot=lambda: "now", inode=lambda path: paths.get(path, 0), namespaces=namespaces)


@pytest.mark.parametrize(
    ("one", "node", "gone"),
    [
        (claim("/n/a"), world({"/n/a": 7}, beside="/n"), False),
        (claim("/n/a"), world({}), False),
        (claim("/n/a"), world({}, beside="/n"), True),
        (claim("/n/a"), world({"/n/b": 9}), True),
        (claim("/n/a"), world({"/m/b": 9}), False),
        (claim("/n/a"), world({"/n/a": 8}, beside="/n"), True),
        (claim("/n/a"), world({"/n/a": 1}, hidden="/n/a", beside="/n"), False),
        (claim("/n/a", boot="before"), world({"/n/a": 7}), True),
        (claim("/proc/9/ns/net"), world({"/proc/9/ns/net": 1}, beside="/proc/9/ns"), False),
        (claim("/proc/9/ns/net"), world({"/proc/9/ns/net": 1, "/proc/8/ns/net": 9}), True),
    ],
    ids=[
        "is here",
        "nothing is to be seen",
        "another's namespace beside it",
        "another claim's namespace beside it",
        "another directory",
        "the path leads to another namespace",
        "a mount hides it",
        "before the boot",
        "another process has its PID, maybe in another PID namespace",
        "another process has its PID, and another claim's process is here",
    ],
)
def test_evidence(one: Claim, node: Any, gone: bool) -> None:
    witnesses = [claim("/n/b", 9), claim("/m/b", 9), claim("/proc/8/ns/net", 9)]
    assert bool(evidence_among([one, *witnesses], node)(one)) is gone


def test_none_is_visible_where_nothing_shows_that_the_view_is_good() -> None:
    claims = [claim("/n/a"), claim("/m/b")]
    assert none_visible(claims, world({}))
    assert not none_visible(claims, world({"/m/b": 7}))
    assert not none_visible(claims, world({}, beside="/n"))
    assert not none_visible([], world({}))
