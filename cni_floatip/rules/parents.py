"""Which parents cannot carry a floating IP: one table of refusals, for ADD and for ``floatipctl validate``.

ADD knows links and ENIs; a configuration names a plugin, its mode and a master. Both describe what they
know as a ``Backing``. The table says why a backing cannot carry a floating IP, and what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

BehindIt = Literal["", "an ENI", "its parent's ENI", "the primary ENI", "none"]
"""Whose MAC is an ENI's of this instance: the interface's own, its parent's, nobody's. "": not known yet."""


@dataclass(frozen=True, slots=True)
class Backing:
    """A pod's interface and what is behind it, as far as it is known. ``kind``: as the kernel names it."""

    kind: str = ""
    mode: str = ""
    eni: BehindIt = ""


@dataclass(frozen=True, slots=True)
class RefusedParent:
    """One reason why a backing cannot carry a floating IP; ``sentence`` has places for subject and mode."""

    name: str
    applies: Callable[[Backing], bool]
    sentence: str


REFUSED_PARENTS = (
    RefusedParent(
        "ipvlan mode",
        lambda it: it.kind == "ipvlan" and it.mode != "l2",
        "{subject} is ipvlan in mode {mode}, which cannot carry a floating IP:"
        ' use "mode": "l2" in the ipvlan configuration',
    ),
    RefusedParent(
        "macvlan",
        lambda it: it.kind == "macvlan" and it.eni == "its parent's ENI",
        "{subject} is macvlan with a MAC of its own: EC2 drops frames whose MAC is not the ENI's;"
        " use ipvlan in mode l2, or host-device",
    ),
    RefusedParent(
        "no ENI",
        lambda it: it.eni == "none",
        '{subject} has no ENI of this instance behind it: use ipvlan with an ENI as "master", or host-device',
    ),
    RefusedParent(
        "primary ENI",
        lambda it: it.eni == "the primary ENI",
        "{subject} is the primary ENI, which carries the node's own traffic:"
        ' use another ENI as "master" of ipvlan or "device" of host-device',
    ),
)
"""A new row needs a case for ADD and one for ``validate`` (``tests/rules/test_refused_parents.py``)."""


def refusal(subject: str, backing: Backing) -> str | None:
    """Return why ``subject`` with this ``backing`` is refused; None: it may carry a floating IP."""
    for row in REFUSED_PARENTS:
        if row.applies(backing):
            return row.sentence.format(subject=subject, mode=backing.mode or "unknown")
    return None
