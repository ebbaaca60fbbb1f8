"""The named settings. A name is its faults (``term+iso``), with ``/3`` for three nodes, or a title.

``BOUNDED`` is what ``make test`` explores, ``PAIRS`` every pair of faults of two nodes, ``THREE`` the listed
ones of three, ``SPECIAL`` what takes more than faults, ``WALKS`` what is walked at random.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations_with_replacement
from typing import Any

from cni_floatip.election.member import GroupRules
from tests.election.explore.setting import LONG, SHRUNK, Setting

KINDS = (
    *("death", "crash", "stop", "iso", "api", "stall", "late", "lost", "stale", "unready", "term", "newpod"),
    *("miss", "wipe", "force", "ec2", "readonly", "cordon", "boot", "foreign", "unlease", "slow"),
)
"""The faults that are paired."""

POLLED = replace(SHRUNK, poll=2.0)
"""Where watches stall, all is read again beside them."""


def of_faults(*faults: str, nodes: int = 2, **more: Any) -> Setting:
    """Return the setting of some faults, each as often as it is named."""
    budget: dict[str, int] = {}
    for fault in faults:
        budget[fault] = budget.get(fault, 0) + 1
    timing = POLLED if "stall" in budget else SHRUNK
    # Who was cut off, or has a watch that stalls, during a soft offer waits for ``soft_memory``.
    soft = not budget.keys() & {"stall", "iso", "api"}
    return replace(Setting(nodes, faults=budget, timing=timing, soft=soft), **more)


def _named(*settings: tuple[str, ...], nodes: int = 2, **more: Any) -> dict[str, Setting]:
    suffix = "" if nodes == 2 else f"/{nodes}"
    names = ("+".join(faults) or "none" for faults in settings)
    made = (of_faults(*faults, nodes=nodes, **more) for faults in settings)
    return {name + suffix: setting for name, setting in zip(names, made, strict=True)}


SINGLE = {
    "fresh": of_faults(settled=False),
    **_named((), *((kind,) for kind in KINDS)),
}

PAIRS: Mapping[str, Setting] = _named(*combinations_with_replacement(KINDS, 2))

THREE: Mapping[str, Setting] = _named(
    *((kind,) for kind in KINDS),
    *(("death", "late"), ("death", "iso"), ("term", "death"), ("iso", "late"), ("crash", "term")),
    *(("crash", "crash"), ("unready", "iso"), ("term", "unready"), ("api", "death"), ("stall", "death")),
    *(("stall", "term"), ("stall", "lost"), ("stop", "death"), ("cordon", "death"), ("ec2", "ec2", "death")),
    nodes=3,
)

FIREWALL = {
    f"firewall {name}": replace(setting, probe=False)
    for name, setting in _named(
        *(("api",), ("iso",), ("crash",), ("stop",), ("miss",), ("unready", "death"), ("death", "miss")),
        ("iso", "crash"),
        ("death", "late", "iso"),
        ("api", "stall", "term"),
        ("stop", "death", "lost"),
        ("stop", "death", "term"),
    ).items()
}

BLIND: Mapping[str, Setting] = {
    "reconnects slowly": of_faults("api", probe=False, reconnect=5),
    "short Lease": of_faults("miss", probe=False, timing=replace(SHRUNK, lease=2.0)),
}
"""Settings against the advice of ``Timing``: here a violation must show."""

GRACEFUL = {
    f"graceful {name}": replace(setting, graceful=True)
    for name, setting in _named(
        ("term", "newpod", "late"),
        ("cordon", "cordon", "term", "newpod"),
        ("unready", "foreign", "term", "newpod"),
        ("term", "lost", "stale"),
        ("term", "slow"),
        ("term", "cordon"),
    ).items()
}

BOTH = frozenset(((0, 0), (1, 0)))
ZONES: Any = {"zones": ("b", "a"), "rules": GroupRules(zones=("a",), failback=2.0, unready=0.0)}

SPECIAL: Mapping[str, Setting] = {
    **FIREWALL,
    "slow writes": of_faults("slow", "slow", "term", "newpod"),
    "slow writes, cut off": of_faults("slow", "iso", "unready"),
    **GRACEFUL,
    "refused one": of_faults("unready", "term", "newpod", refused=frozenset({(0, 0)})),
    "refused one, granted": of_faults("grant", "death", refused=frozenset({(0, 0)})),
    "refused all": of_faults("unready", "term", refused=BOTH),
    "full table": of_faults("unready", "death", tables=2, full=frozenset({1})),
    "two tables": of_faults("late", "stale", "term", tables=2),
    "another writer": of_faults(rivals=True),
    "another writer, unready": of_faults("unready", rivals=True),
    "another writer, term": of_faults("term", "newpod", rivals=True),
    "read-only for both": of_faults("readonly", "readonly", "unready"),
    "read-only for both, wiped": of_faults("readonly", "readonly", "wipe"),
    "cordon twice, uncordon": of_faults("cordon", "cordon", "uncordon"),
    "ec2 away for both": of_faults("ec2", "ec2", "term"),
    "deleted while down": of_faults("boot", "force"),
    "empty disk": of_faults("replace", "newpod"),
    "empty disk, new pod elsewhere": of_faults("replace", "term", "newpod"),
    "node Lease deleted": of_faults("unrenewed", "crash"),
    "group Lease deleted": of_faults("unlease", "unlease", "term"),
    "group Lease deleted, cut off": of_faults("unlease", "iso"),
    "zones, failback": of_faults("unready", "term", "newpod", **ZONES),
    "zones, failback, cordon": of_faults("cordon", "uncordon", "unready", **ZONES),
    "zones, no failback": of_faults(
        "term", "newpod", zones=("b", "a"), rules=GroupRules(zones=("a",), unready=0.0)
    ),
    "damping": of_faults(*["unready"] * 4, timing=replace(SHRUNK, damping=1, damping_refill=3.0)),
    "damping, death": of_faults(
        *["unready"] * 3, "death", timing=replace(SHRUNK, damping=1, damping_refill=3.0)
    ),
    "unequal destinations": of_faults("term", "newpod", narrow=frozenset({0})),
    "unequal destinations, death": of_faults("death", "unready", narrow=frozenset({0})),
    "unequal destinations, narrow alone": of_faults("term", "unready", narrow=frozenset({1})),
    "two groups": of_faults("death", groups=2),
    "two groups, one destination": of_faults("unready", groups=2, shared=True),
    "two groups, one destination, Lease deleted": of_faults("unlease", groups=2, shared=True),
    "two groups, one destination, end": of_faults("term", groups=2, shared=True),
    "kept routes": of_faults("term", "force", "newpod", keep=True),
    "operator's move": of_faults("move", "term"),
    "probe lost": of_faults("probeloss", "probeloss", "crash"),
    "unready for a while": of_faults("unready", "unready", rules=GroupRules(unready=2.0)),
    "rank delay": of_faults(
        "death", "cordon", nodes=3, timing=replace(SHRUNK, rank_delay=1.0, soft_offer=5.0)
    ),
}

BOUNDED: Mapping[str, Setting] = SINGLE

_MIXED = {
    "death": 1,
    "crash": 1,
    "iso": 1,
    "api": 1,
    "late": 2,
    "lost": 2,
    "stale": 2,
    "unready": 3,
    "term": 3,
}
_MORE = {
    "newpod": 4,
    "miss": 2,
    "wipe": 1,
    "force": 1,
    "ec2": 1,
    "readonly": 1,
    "cordon": 2,
    "uncordon": 2,
    "boot": 1,
}
_WALKED = Setting(
    3, 2, {**_MIXED, **_MORE, "stop": 1, "stall": 1, "unlease": 1, "foreign": 1}, POLLED, soft=False
)
WALKS: Mapping[str, Setting] = {
    "walk": _WALKED,
    "walk, one destination": replace(_WALKED, shared=True),
    "walk, zones": replace(
        _WALKED, zones=("a", "b", "b"), rules=GroupRules(zones=("b",), failback=2.0, unready=1.0)
    ),
    "walk, unequal": replace(_WALKED, narrow=frozenset({2})),
    "walk, firewall": replace(_WALKED, probe=False),
    "walk, two tables": replace(_WALKED, tables=2, timing=replace(POLLED, soft_memory=LONG)),
}

ALL: Mapping[str, Setting] = {**SINGLE, **PAIRS, **THREE, **SPECIAL, **BLIND}
