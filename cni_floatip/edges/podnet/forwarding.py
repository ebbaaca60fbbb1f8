"""Stops the host from forwarding packets that arrive through an ENI with floating IPs, for pods only.

The host would send a packet for a pod that is gone out of its primary ENI and back into the VPC. A rule for
each family, ``iif ENI blackhole``, stops that. A setting would not do, because Linux has none for one link's
IPv6 (``conf/all/forwarding`` decides), and because a write to ``net.ipv4.ip_forward`` sets all links. The
table ``local`` comes first and has the host's own packets, and pods take theirs before the host routes them.
Rules name links by name.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from ...model.errors import PodNetworkFailure
from ...model.values import ROUTE_PROTO, Link
from . import namespace, routes, tables
from .links import reported
from .rtnetlink import Message, Refused, Rtnetlink

PREFERENCE: Final = 110
"""After the rule that looks up ``local`` (0; 100 where Cilium has moved it), before VPC CNI's (from 512)."""

FAMILIES: Mapping[int, str] = MappingProxyType({4: "IPv4", 6: "IPv6"})

_BLACKHOLE, _TO_TABLE, _INVERTED, _LOCAL_TABLE = 6, 1, 0x2, 255  # linux/fib_rules.h, linux/rtnetlink.h


def stop(link: Link) -> bool:
    """Stop the host from forwarding packets of this link; return whether that is new.

    ``PodNetworkFailure`` where a family's rules do not look up ``local`` before ours. Our rule would keep the
    host's own packets from it, so that family gets none. The other family has its rule.
    """
    changed, late = False, []
    with namespace.own() as kernel, reported(f"stop forwarding from {link.name}"):
        for version, there in _rules(kernel).items():
            ours = [rule for rule in there if _link_of(rule) == link.name]
            right = [rule for rule in ours if _preference(rule) == PREFERENCE]
            finds_local = any(_looks_up_local(rule) for rule in there)
            for rule in ours:
                if rule not in right[:1] or not finds_local:
                    _remove(kernel, rule)
                    changed = True
            if there and not finds_local:  # without any rule the kernel lacks the family
                late.append(FAMILIES[version])
            elif there and not right:
                _add(kernel, version, link.name)
                changed = True
    if late:
        raise PodNetworkFailure(
            f"the host may forward {' and '.join(late)} from {link.name}: it has no rule before"
            f" {PREFERENCE} that looks up the table local for every packet, so our rule would drop packets"
            f" to the host itself; move that rule to {PREFERENCE - 10} or lower (ip rule)"
        )
    return changed


def stopped(name: str) -> frozenset[int]:
    """Return the families (4, 6) in which our rules stop packets of the link with this name."""
    with namespace.own() as kernel, reported("read the rules"):
        return frozenset(v for v, there in _rules(kernel).items() if any(_link_of(r) == name for r in there))


def names() -> frozenset[str]:
    """Return the link names in our rules; such a link may be gone."""
    with namespace.own() as kernel, reported("read the rules"):
        return frozenset(_link_of(rule) for rule in _ours(_rules(kernel)))


def resume(which: Collection[str] | None = None, *, but: Collection[str] = ()) -> None:
    """Remove our rules for these names (None: for all) except ``but``."""
    with namespace.own() as kernel, reported("remove the rules that stop forwarding"):
        for rule in _ours(_rules(kernel)):
            if (which is None or _link_of(rule) in which) and _link_of(rule) not in but:
                _remove(kernel, rule)


def _rules(kernel: Rtnetlink) -> Mapping[int, list[Message]]:
    return {version: tables.read_rules(kernel, family) for version, family in routes.FAMILIES.items()}


def _ours(rules: Mapping[int, Iterable[Message]]) -> Iterator[Message]:
    return (rule for there in rules.values() for rule in there if _link_of(rule))


def _link_of(rule: Message) -> str:
    """Return the link that a rule of ours names; "" for another's."""
    ours = rule.get_attr("FRA_PROTOCOL") == ROUTE_PROTO and rule["action"] == _BLACKHOLE
    return (rule.get_attr("FRA_IIFNAME") or "") if ours else ""


def _preference(rule: Message) -> int:
    return rule.get_attr("FRA_PRIORITY") or 0  # the first one has none


def _looks_up_local(rule: Message) -> bool:
    """Whether the rule looks up ``local`` for every packet, and before ours."""
    every = not (rule["src_len"] or rule["dst_len"] or rule["flags"] & _INVERTED)
    every = every and routes.is_plain_rule(rule) and rule.get_attr("FRA_OIFNAME") is None
    to_local = rule["action"] == _TO_TABLE and routes.table_of(rule, "FRA_TABLE") == _LOCAL_TABLE
    return bool(every and to_local and _preference(rule) < PREFERENCE)


def _add(kernel: Rtnetlink, version: int, name: str) -> None:
    attrs = [("FRA_IIFNAME", name), ("FRA_PRIORITY", PREFERENCE), ("FRA_PROTOCOL", ROUTE_PROTO)]
    try:
        kernel.create("rule", attrs, family=routes.FAMILIES[version], action=_BLACKHOLE)
    except Refused as refused:
        if refused.errno != errno.EEXIST:
            raise


def _remove(kernel: Rtnetlink, rule: Message) -> None:
    kept = ("FRA_IIFNAME", "FRA_PRIORITY", "FRA_PROTOCOL")
    attrs = [(item, rule.get_attr(item)) for item in kept if rule.get_attr(item) is not None]
    try:
        kernel.delete("rule", attrs, family=rule["family"], action=_BLACKHOLE)
    except Refused as refused:
        if refused.errno != errno.ENOENT:
            raise
