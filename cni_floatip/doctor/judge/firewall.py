"""Judges security groups and network ACLs against the floating ranges. Changes neither."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from ...model import cidr
from ...model.values import Network
from ..catalog import make_finding
from ..facts import Ec2Interface, NetworkAcl, Rules, SecurityGroup
from ..finding import Finding

LAST_RULE = 32767
"""The number of the rule that is shown as "*"; IPv6 has one of its own, the next."""


def security_groups(
    floating: Sequence[Ec2Interface], groups: Sequence[SecurityGroup], ranges: Sequence[Network]
) -> Iterator[Finding]:
    """Judge each ENI's groups together: a packet passes if any of them lets it.

    Which ports an application needs is its own business: a rule that names part of the range, or a prefix
    list (which is not read), is taken for one that was made for it.
    """
    known = {group.id: group for group in groups}
    behind: dict[tuple[str, ...], list[str]] = {}
    for eni in floating:
        if any(id_ in known for id_ in eni.groups):
            behind.setdefault(eni.groups, []).append(eni.id)
    for ids, enis in behind.items():
        for id_, rules in (
            ("security-group-inbound", [known[item].inbound for item in ids if item in known]),
            ("security-group-outbound", [known[item].outbound for item in ids if item in known]),
        ):
            missing = [range_ for range_ in ranges if not any(_names(rules, range_) for rules in rules)]
            if missing:
                what = f"no {id_.rpartition('-')[2]} rule for {_list_ranges(missing)} (of {', '.join(enis)})"
                yield make_finding(
                    id_, " and ".join(ids), what, group=ids[0], permissions=_permissions(missing)
                )


def references(referring: Sequence[SecurityGroup], ranges: Sequence[Network]) -> Iterator[Finding]:
    """Judge the groups that admit one of ours by reference: floating IPs do not match that."""
    for group in referring:
        missing = [range_ for range_ in ranges if not _names(group.inbound, range_)]
        if missing:
            what = f"admits our group, and no addresses of {_list_ranges(missing)}"
            names = {"group": group.id, "permissions": _permissions(missing)}
            yield make_finding("security-group-reference", group.id, what, **names)


def _names(rules: Rules, range_: Network) -> bool:
    near = (cidr.within(net, range_) or cidr.within(range_, net) for net in rules.networks)
    return bool(rules.prefix_lists) or any(near)


def _permissions(ranges: Sequence[Network]) -> str:
    """Return what ``authorize-security-group-ingress`` takes; every port, for the reader to narrow."""
    v4 = [{"CidrIp": str(range_)} for range_ in ranges if range_.version == 4]
    v6 = [{"CidrIpv6": str(range_)} for range_ in ranges if range_.version == 6]
    permission = {"IpProtocol": "-1"} | ({"IpRanges": v4} if v4 else {}) | ({"Ipv6Ranges": v6} if v6 else {})
    return json.dumps([permission], separators=(",", ":"))


def _list_ranges(ranges: Sequence[Network]) -> str:
    return ", ".join(map(str, ranges))


def network_acls(
    floating: Sequence[Ec2Interface], acls: Sequence[NetworkAcl], ranges: Sequence[Network]
) -> Iterator[Finding]:
    """Judge the ACL of each ENI's subnet, both ways: it keeps no state."""
    ours = {eni.subnet for eni in floating}
    for acl in acls:
        for outbound in (False, True):
            denied = {range_: _first_denied(acl, range_, outbound=outbound) for range_ in ranges}
            denied = {range_: rule for range_, rule in denied.items() if rule}
            if denied and ours & acl.subnets:
                yield _closed_finding(acl, sorted(ours & acl.subnets), denied, outbound=outbound)


def _first_denied(acl: NetworkAcl, range_: Network, *, outbound: bool) -> str:
    """Return the number of the rule that denies (part of) the range to all protocols; "": none does.

    Ports are not judged: a rule that allows some of them decides, like one that allows all.
    """
    left = [range_]  # what no rule has decided
    for entry in acl.entries:
        if entry.outbound != outbound or not any(_touch(entry.network, net) for net in left):
            continue
        if entry.allow:
            left = [rest for net in left for rest in _without(net, entry.network)]
        elif entry.all_protocols:
            return "*" if entry.number >= LAST_RULE else str(entry.number)
    return "*" if left else ""


def _touch(one: Network, other: Network) -> bool:
    return cidr.within(one, other) or cidr.within(other, one)


def _without(net: Network, taken: Network) -> list[Network]:
    """Return what is left of ``net``."""
    if cidr.within(net, taken):
        return []
    return list(net.address_exclude(taken)) if cidr.within(taken, net) else [net]  # type: ignore[arg-type]


def _closed_finding(
    acl: NetworkAcl, subnets: Sequence[str], denied: Mapping[Network, str], *, outbound: bool
) -> Finding:
    rules = ", ".join(f"{range_} by rule {rule}" for range_, rule in denied.items())
    first = next(iter(denied))
    names = {
        "acl": acl.id,
        "direction": "--egress" if outbound else "--ingress",
        "option": "--cidr-block" if first.version == 4 else "--ipv6-cidr-block",
        "range": first,
    }
    what = f"denies {rules}, {'outbound' if outbound else 'inbound'} ({', '.join(subnets)})"
    return make_finding("network-acl-denies", acl.id, what, **names)
