"""Reads the routing tables and rules of one namespace, and adds and removes ours beside the others.

The functions work over a conversation with the kernel and raise its ``Refused``. ``index`` is the interface
that a route of ours must lead through; an ``unreachable`` route and a ``throw`` lead through none.
"""

from __future__ import annotations

import errno
from typing import Any

from ...model.errors import PodNetworkFailure
from ...model.values import ROUTE_PROTO, PodRoute, PodRule
from . import routes
from .rtnetlink import Message, Refused, Rtnetlink

NO_LINK = 0
BEFORE_MAIN = 32765
"""The priority right before the rule that every namespace begins with: ``32766: from all lookup main``."""
_NO_SUCH_LIST = frozenset({errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP})


def read_routes(
    kernel: Rtnetlink, *, table: int | None = None, family: int | None = None, proto: int = 0
) -> list[Message]:
    """Return the routes of one table (default: all), one family (default: both), one ``proto`` (0: all)."""
    attrs = [("RTA_TABLE", table)] if table else []
    return [
        message
        for version in ((family,) if family else routes.FAMILIES.values())
        for message in _read(kernel, "route", attrs, family=version, proto=proto)
        if routes.is_route(message)
        and message["family"] == version
        and (not proto or message["proto"] == proto)
        and (not table or routes.table_of(message, "RTA_TABLE") == table)
    ]


def read_rules(kernel: Rtnetlink, family: int | None = None) -> list[Message]:
    """Return the rules of one family (default: both)."""
    return [
        message
        for version in ((family,) if family else routes.FAMILIES.values())
        for message in _read(kernel, "rule", family=version)
        if message["family"] == version
    ]


def add_route(kernel: Rtnetlink, route: PodRoute, index: int, *, empty: bool = False) -> list[Message]:
    """Add a route unless it is there already; return the conflicting route, if any, and then change nothing.

    Every route to the same destination in the same table conflicts, whatever its metric: with a lower metric
    it would win, with a higher one ours would displace it silently. ``empty``: nobody uses the table, so it
    is read only after the kernel has said that something is there.
    """
    fields, attrs = routes.route_message(route, index)
    if empty and _create(kernel, fields, attrs):
        return []
    for _ in range(2):
        table = read_routes(kernel, table=route.table, family=fields["family"])
        same = [message for message in table if routes.destination_of(message) == route.destination]
        if any(routes.is_ours(message, index) and routes.pod_route(message) == route for message in same):
            return []
        if same:
            return same
        if _create(kernel, fields, attrs):
            return []
        # Somebody was faster: read that route.
    raise Refused(errno.EEXIST, "another route comes and goes there")


def _create(kernel: Rtnetlink, fields: dict[str, int], attrs: list[tuple[str, Any]]) -> bool:
    """Create a route; false when the kernel has one with the same key."""
    try:
        kernel.create("route", attrs, **fields)
    except Refused as refused:
        if refused.errno != errno.EEXIST:
            raise
        return False
    return True


def add_rule(kernel: Rtnetlink, rule: PodRule, known: list[Message] | None = None) -> None:
    """Add a rule unless it is there; ``PodNetworkFailure`` shows somebody else's for the same packets.

    The kernel puts it before all others but the one for the local table, and ours belong there. The rule that
    bars metadata for bound sockets stays the first of its table, so a rule that is put back goes behind it.
    ``known``: the rules as they were a moment ago.
    """
    fields, attrs = routes.rule_message(rule)
    messages = [message for message in known or () if message["family"] == fields["family"]]
    if not any(
        map(_priority_of, messages)
    ):  # also where somebody has flushed them: ours before it then counts
        messages = read_rules(kernel, fields["family"])
    same = [
        message
        for message in messages
        if routes.is_plain_rule(message) and routes.pod_rule(message).selector == rule.selector
    ]
    if any(routes.is_our_rule(message) and routes.pod_rule(message) == rule for message in same):
        return
    theirs = [message for message in same if not routes.is_our_rule(message)]
    if theirs:
        shown = "; ".join(
            f"{routes.pod_rule(message)} proto {message.get_attr('FRA_PROTOCOL')}" for message in theirs
        )
        raise PodNetworkFailure(f"cannot add rule {rule}: another rule is there: {shown}")
    if priority := _priority(rule, messages):
        attrs.append(("FRA_PRIORITY", priority))
    try:
        kernel.create("rule", attrs, **fields)
    except Refused as refused:
        if refused.errno != errno.EEXIST or known is None:
            raise
        add_rule(kernel, rule)


def _priority(rule: PodRule, messages: list[Message]) -> int:
    """Return the rule's priority among those of ``messages``; 0 leaves the choice to the kernel.

    The kernel evaluates a newer rule of equal priority later. If somebody has flushed all rules, the kernel
    would choose priority 0, which no ``ip rule flush`` removes.
    """
    if not any(map(_priority_of, messages)):
        return BEFORE_MAIN
    bars = [
        _priority_of(message)
        for message in messages
        if message["dst_len"] and routes.is_our_rule(message) and routes.pod_rule(message).table == rule.table
    ]
    return 0 if rule.unreachable_to else max(bars, default=0)


def _priority_of(rule: Message) -> int:
    return int(rule.get_attr("FRA_PRIORITY") or 0)


def remove_route(kernel: Rtnetlink, route: PodRoute, index: int) -> None:
    """Remove a route that carries our mark, whatever its mtu is now."""
    fields, attrs = routes.route_message(route, index)
    delete_route(kernel, fields, [attr for attr in attrs if attr[0] != "RTA_METRICS"])


def delete_route(kernel: Rtnetlink, fields: dict[str, int], attrs: list[tuple[str, Any]]) -> None:
    """Delete a route; a missing one (ESRCH) is no error."""
    try:
        kernel.delete("route", attrs, **fields)
    except Refused as refused:
        if refused.errno != errno.ESRCH:
            raise


def remove_rules(kernel: Rtnetlink, table: int, rule: PodRule | None = None) -> None:
    """Remove our rules that name ``table`` (one, or all), each by its priority, so that ours goes."""
    for message in read_rules(kernel):
        pod_rule = routes.pod_rule(message)
        if not routes.is_our_rule(message) or pod_rule.table != table or rule not in (None, pod_rule):
            continue
        fields, attrs = routes.rule_message(pod_rule)
        attrs.append(("FRA_PRIORITY", _priority_of(message)))
        try:
            kernel.delete("rule", attrs, **fields)
        except Refused as refused:
            if refused.errno != errno.ENOENT:
                raise


def clear(kernel: Rtnetlink, table: int | None, index: int) -> None:
    """Remove our routes through link ``index``, our rules for ``table``, and our linkless routes in it."""
    if table:
        remove_rules(kernel, table)
    for message in read_routes(kernel, proto=ROUTE_PROTO):
        route = routes.pod_route(message)
        through = message.get_attr("RTA_OIF") == index and route.kind == "unicast"
        if through or (route.kind != "unicast" and route.table == table):
            remove_route(kernel, route, index)


def _read(kernel: Rtnetlink, subject: Any, attrs: Any = (), **fields: int) -> list[Message]:
    """Read a list; a table that does not exist yet, and IPv6 where it is off, are empty lists."""
    try:
        return kernel.dump(subject, attrs, **fields)
    except Refused as refused:
        if refused.errno in _NO_SUCH_LIST:
            return []
        raise
