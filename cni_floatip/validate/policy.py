"""Compares networks with a node configuration: what an agent with it would refuse, or never watch.

Uses the agent's own rules (``rules.destinations``), as far as files can tell. Only EC2 knows the VPC's
subnets and what is in them, the tags and owners (``roles``) of route tables, and source/dest checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import collapse_addresses, ip_interface, summarize_address_range
from itertools import pairwise
from typing import Any

from ..config import netconf
from ..config.netconf import NetConf, RouteTableSelector
from ..config.nodeconf import NodeConf
from ..config.strict_json import Remark, Step
from ..model import cidr
from ..model.errors import PolicyRefused
from ..model.values import Address, Interface, Network, RouteTable, Subnet, host_route
from ..rules import destinations
from ..rules.destinations import WantedDestination
from . import chain, ipam, other_plugins

Path = tuple[Step, ...]

SMALLEST_SUBNET = {4: 28, 6: 64}
"""AWS makes none with a longer prefix (VPC user guide, "Subnet sizing")."""

NEVER = tuple(range_ for _, range_ in cidr.NEVER)


@dataclass(frozen=True, slots=True)
class PolicyContext:
    """The policy to compare networks with. ``namespace``: the pods'; None if unknown."""

    conf: NodeConf
    namespace: str | None = None
    vpc_cidrs: tuple[Network, ...] = ()


def of_chain(document: Mapping[str, Any], policy: PolicyContext) -> Iterator[Remark]:
    """Yield the remarks of ``policy`` on a conflist."""
    plugins = document["plugins"]
    at = next(index for index, plugin in enumerate(plugins) if chain.is_floatip(plugin))
    conf, _ = netconf.examine(plugins[at])
    made_by = other_plugins.maker(plugins, at)
    plugin, path = plugins[made_by], ("plugins", made_by)
    if at > 0 and plugin.get("type") == "host-device" and not policy.conf.allow_host_device:
        text = 'refused at ADD: the node configuration has no "allowHostDevice": true'
        yield Remark((*path, "type"), text)
    for one in ipam.given_ranges(plugin, path) if at > 0 else ():
        if one.count == 1 and cidr.never_address(one.first.ip):
            continue  # said without a policy
        for remark in _judge_given(one, conf, policy):
            yield _of_the_pod_without(remark) if ipam.brings_addresses(plugin) else remark
    yield from of_entry(plugins[at], policy, ("plugins", at))


def of_entry(plugin: Mapping[str, Any], policy: PolicyContext, path: Path = ()) -> Iterator[Remark]:
    """Yield the remarks of ``policy`` on one floatip entry, wherever it stands."""
    conf, _ = netconf.examine(plugin)  # its complaints are told by others
    listed, most = len(conf.extra_destinations), policy.conf.limits.destinations
    if listed >= most:
        text = (
            f"{listed} CIDRs and the pod's address: the node configuration allows {most} destinations"
            " for one interface (limits.destinations)"
        )
        yield Remark((*path, "destination"), text)
    for index, network in chain.networks(plugin, "destination"):
        if no := _refusal_of(_as_wanted(network, policy), policy):
            yield Remark((*path, "destination", index), no.text, warning=not no.certain)
    for index, network in chain.networks(plugin, "watchAddresses"):
        yield from _judge_watched((*path, "watchAddresses", index), network, conf, policy)
    yield from _tables((*path, "routeTables"), plugin, conf.route_tables, policy.conf)
    if conf.activate == "ready" and policy.conf.elections is None:
        yield Remark((*path, "activate"), "refused at ADD: the node configuration has no elections")


# -- one destination ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Refusal:
    """An objection to a destination. ``certain``: it holds for all pods, as far as they are known."""

    text: str
    certain: bool = True


def _refusal_of(want: WantedDestination, policy: PolicyContext) -> _Refusal | None:
    """Return the objection to ``want``; without a known namespace, for pods in some namespace."""
    conf, vpc_cidrs = policy.conf, policy.vpc_cidrs
    if policy.namespace is not None:
        text = destinations.objection(want, vpc_cidrs, conf, policy.namespace, {})
        return _Refusal(text) if text else None
    given = conf.allowed_destinations
    open_to_all = replace(
        conf, allowed_destinations=tuple(replace(destination, namespaces=()) for destination in given)
    )
    if text := destinations.objection(want, vpc_cidrs, open_to_all, "", {}, "any namespace"):
        return _Refusal(text)
    if destinations.objection(want, vpc_cidrs, conf, "", {}):
        around = [destination for destination in given if cidr.within(want.destination, destination.cidr)]
        globs = sorted({glob for destination in around for glob in destination.namespaces})
        whose = f"is for pods of namespace {', '.join(globs)} alone"
        text = f"{want.destination} {whose}: say whose these are (--namespace)"
        return _Refusal(text, certain=False)
    return None


def _as_wanted(network: Network, policy: PolicyContext) -> WantedDestination:
    """A wanted range of the VPC may be an empty subnet, but nothing smaller than AWS makes subnets."""
    may_be_one = network.prefixlen <= SMALLEST_SUBNET[network.version]
    inside = destinations.inside(network, policy.vpc_cidrs)
    return WantedDestination(network, "", Subnet("", "", "", (network,)) if inside and may_be_one else None)


def _address(ip: Address, written: int, conf: NetConf, policy: PolicyContext) -> _Refusal | None:
    """Return the objection to claiming ``ip``: in the VPC, to the smallest subnet around it.

    The prefix length that was ``written`` is most likely that subnet's.
    """
    alone, smallest = host_route(ip), SMALLEST_SUBNET[ip.version]
    if not chain.in_vpc(ip, conf, policy.vpc_cidrs):
        return _refusal_of(WantedDestination(alone, ""), policy)
    no = _refusal_of(_as_wanted(alone.supernet(new_prefix=smallest), policy), policy)
    if no is None:
        return None
    wider = _refusal_of(_as_wanted(alone.supernet(new_prefix=min(written, smallest)), policy), policy) or no
    return replace(no, text=f"{ip} is the VPC's, so the whole subnet is claimed: {wider.text}")


# -- addresses ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Span:
    """A stretch of addresses that are all allowed, or all refused; ``no`` says why."""

    first: Address
    last: Address
    no: _Refusal | None

    @property
    def count(self) -> int:
        return int(self.last) - int(self.first) + 1

    def networks(self) -> Iterator[Network]:
        """Yield the fewest networks that are these addresses."""
        return summarize_address_range(self.first, self.last)


def _spans(
    first: Interface, last: Address, left_out: Iterable[Network], conf: NetConf, policy: PolicyContext
) -> list[_Span]:
    """Judge all addresses from ``first`` to ``last`` except those left out, by one of each stretch."""
    of, written = type(last), first.network.prefixlen
    entries = (entry.cidr for entry in policy.conf.allowed_destinations)
    left_out = [network for network in left_out if network.version == first.version]
    edges = {int(last) + 1}
    for network in (*entries, *NEVER, *policy.vpc_cidrs, *left_out):
        if network.version == first.version:
            edges |= {int(network.network_address), int(network.broadcast_address) + 1}
    inner = sorted(edge for edge in edges if int(first) < edge <= int(last) + 1)
    spans = []
    for low, high in pairwise([int(first), *inner]):
        begin, end = of(low), of(high - 1)
        if not any(begin in network for network in left_out):
            spans.append(_Span(begin, end, _address(begin, written, conf, policy)))
    return spans


def _judge_given(one: ipam.GivenRange, conf: NetConf, policy: PolicyContext) -> Iterator[Remark]:
    """Judge what IPAM may give a pod."""
    last = min(int(one.first) + one.count - 1, int(one.first.network.broadcast_address))
    spans = _spans(one.first, type(one.first.ip)(last), one.left_out, conf, policy)
    total = sum(span.count for span in spans)
    refused = [(span.no, span.count) for span in spans if span.no]
    for_sure = [(no, count) for no, count in refused if no.certain]
    if not refused:
        yield from _judge_subnet(one, conf, policy)
        return
    no, count = (for_sure or refused)[0][0], sum(count for _, count in for_sure or refused)
    certain = len(for_sure) == len(spans)
    how_many = f"none of {total} addresses may" if certain else f"{count} of {total} addresses may not"
    lead = "" if total == 1 else f"{how_many} be claimed: "
    yield Remark(one.path, lead + no.text, warning=not certain)


def _judge_subnet(one: ipam.GivenRange, conf: NetConf, policy: PolicyContext) -> Iterator[Remark]:
    """A whole subnet is claimed in the VPC, and the prefix that was written is most likely that subnet's."""
    network = one.first.network
    shorter = network.prefixlen < SMALLEST_SUBNET[network.version]
    if shorter and chain.in_vpc(one.first.ip, conf, policy.vpc_cidrs):
        no = _refusal_of(_as_wanted(network, policy), policy)
        if no:
            yield Remark(one.path, f"if {network} is its subnet: {no.text}", warning=True)


def _of_the_pod_without(remark: Remark) -> Remark:
    return replace(remark, text=f"for a pod that names no address: {remark.text}", warning=True)


def _judge_watched(path: Path, network: Network, conf: NetConf, policy: PolicyContext) -> Iterator[Remark]:
    """Policy may narrow a wide range to watch; yield a remark that says so."""
    spans = _spans(ip_interface(host_route(network[0])), network[-1], NEVER, conf, policy)
    refused = [span.no for span in spans if span.no]
    followed = [span for span in spans if span.no is None or not span.no.certain]
    if not refused:
        return
    if not followed:
        no = (
            None if cidr.never(network) else _refusal_of(WantedDestination(network, ""), policy)
        ) or refused[0]
        yield Remark(path, f"nothing in it is followed: {no.text}")
    elif len(followed) < len(spans):
        parts: list[Any] = [network for span in followed for network in span.networks()]
        shown = [str(part) for part in collapse_addresses(parts)]
        shown[4:] = ["..."] if shown[4:] else []
        why = "allowedDestinations of the node configuration gives no more"
        yield Remark(path, f"followed only in {', '.join(shown)}: {why}", warning=True)
    else:
        yield Remark(path, refused[0].text, warning=True)


# -- route tables -------------------------------------------------------------------------------------------


def _tables(
    path: Path, plugin: Mapping[str, Any], selector: RouteTableSelector, conf: NodeConf
) -> Iterator[Remark]:
    """Judge the tables that are selected, as if each had the tags that policy asks for, if it can."""
    allowed = conf.allowed_route_tables
    for id_ in selector.ids:
        index = plugin["routeTables"]["ids"].index(id_)
        yield from _table((*path, "ids", index), RouteTable(id_, "", "", {}, allowed.tags), conf)
    if allowed.ids or selector.ids or selector == RouteTableSelector():
        return  # any table may be one of those listed
    literal = {key: value for key, value in selector.tags.items() if value != "*"}
    best = RouteTable(str(selector), "", "", {}, {**allowed.tags, **literal})
    yield from _table((*path, *(["tags"] if selector.tags else [])), best, conf)


def _table(path: Path, table: RouteTable, conf: NodeConf) -> Iterator[Remark]:
    try:
        destinations.refuse_tables([table], (), conf)
    except PolicyRefused as e:
        yield Remark(path, e.msg)
