"""Validates a plugin chain as a whole: our entry, and the addresses that the other plugins give.

An error here fails every ADD, or is an address that never works; a warning is a chain that works otherwise
than it looks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ..config import election, netconf
from ..config.election import Elections
from ..config.netconf import NetConf
from ..config.strict_json import Complaint, Remark, Step, show
from ..model import cidr
from ..model.values import Address, Network
from ..model.versions import SUPPORTED, at_least
from . import ipam, other_plugins

ACCEPT_RA = re.compile(r"net[./]ipv6[./]conf[./].+[./]accept_ra")


def is_floatip(plugin: Any) -> bool:
    """Return whether ``plugin`` is an entry of ours."""
    return isinstance(plugin, dict) and plugin.get("type") == "floatip"


def remarks(document: Mapping[str, Any], name: str, vpc_cidrs: Sequence[Network] = ()) -> Iterator[Remark]:
    """Yield all remarks about a conflist; ``name`` is its name where it has none of its own."""
    plugins = document["plugins"]
    ours = [index for index, plugin in enumerate(plugins) if is_floatip(plugin)]
    yield from version(document)
    for index in ours[1:]:
        yield Remark(("plugins", index), "floatip is there twice")
    at = ours[0]
    inherited = {"name": document.get("name", name), "cniVersion": document.get("cniVersion", "")}
    raw = plugins[at] | {key: value for key, value in inherited.items() if value != ""}
    conf, complaints = netconf.examine(raw)
    yield from (Remark(_place(complaint, at), complaint.text) for complaint in complaints)
    if at == 0:
        text = "floatip needs a plugin before it that makes the interface: ipvlan or host-device"
        yield Remark(("plugins", at), text)
    yield from other_plugins.remarks(plugins, at)
    if at > 0:
        yield from _addresses(plugins, at, conf, vpc_cidrs)
        yield from _group(plugins, at, conf)
    yield from entry(plugins[at], ("plugins", at))


def entry(plugin: Mapping[str, Any], path: tuple[Step, ...] = ()) -> Iterator[Remark]:
    """Yield the remarks about one floatip entry, wherever it stands."""
    if plugin.get("ipam"):
        yield Remark((*path, "ipam"), "not read: addresses come from the plugin before floatip", warning=True)
    selector = plugin.get("routeTables")
    tags = selector.get("tags") if isinstance(selector, dict) else None
    for key, value in tags.items() if isinstance(tags, dict) else ():
        if isinstance(value, str) and value != "*" and "*" in value:
            text = f"{show(value)} is taken literally; only * alone stands for any value"
            yield Remark((*path, "routeTables", "tags", key), text, warning=True)
    yield from _elected(plugin, path)


def _elected(plugin: Mapping[str, Any], path: tuple[Step, ...]) -> Iterator[Remark]:
    conf, _ = netconf.examine(plugin)
    if conf.activate == "ready" and (why := election.objection(Elections())):  # as if the nodes had them
        yield Remark((*path, "activate"), why)
    if conf.election.failback_seconds and not conf.election.zones:
        text = "has no effect without zones: no zone is better than another"
        yield Remark((*path, "election", "failbackSeconds"), text, warning=True)


def _group(plugins: Sequence[Any], at: int, conf: NetConf) -> Iterator[Remark]:
    """Yield the remark about a group of workloads that bring addresses of their own, of which one is "
    "active."""
    if conf.election.group and ipam.brings_addresses(plugins[other_plugins.maker(plugins, at)]):
        text = (
            "pods that bring their addresses (capability ips) are all of this group, and one of them is "
            "active: leave group out, so that each workload is a group of its own"
        )
        yield Remark(("plugins", at, "election", "group"), text, warning=True)


def version(document: Mapping[str, Any]) -> Iterator[Remark]:
    """Yield the remarks about ``cniVersion``."""
    raw = document.get("cniVersion") or "0.1.0"
    if raw not in SUPPORTED:
        result = show(document["cniVersion"]) if "cniVersion" in document else "missing, which means 0.1.0"
        yield Remark(("cniVersion",), f"{result}; floatip supports {', '.join(SUPPORTED)}")
    elif not at_least(raw, "0.4.0"):
        text = f"with {raw} a DEL gets no result of the ADD, and there is no CHECK; write 1.0.0"
        yield Remark(("cniVersion",), text, warning=True)


def _place(complaint: Complaint, at: int) -> tuple[Step, ...]:
    """Return the path of a key: the name is at the chain, all else at our entry."""
    return complaint.path if complaint.path[:1] == ("name",) else ("plugins", at, *complaint.path)


def _addresses(
    plugins: Sequence[Any], at: int, conf: NetConf, vpc_cidrs: Sequence[Network]
) -> Iterator[Remark]:
    made_by = other_plugins.maker(plugins, at)
    given = ipam.given_ranges(plugins[made_by], ("plugins", made_by))
    pods_choose = ipam.brings_addresses(plugins[made_by])
    for one in given:
        if never := _never(one):
            lead = "for a pod that names no address: " if pods_choose else ""
            yield replace(never, text=lead + never.text, warning=never.warning or pods_choose)
        if never and not never.warning:
            continue
        yield from _prefix(one, conf, vpc_cidrs)
        yield from _destination(one, at, conf, vpc_cidrs)
        yield from _allocated(one, plugins[made_by]["ipam"]["type"])
    families = ipam.families(plugins[made_by], given)
    if families:
        yield from _families(plugins, at, conf, families)
    for index, network in networks(plugins[at], "destination"):
        path = ("plugins", at, "destination", index)
        if cidr.never(network):
            continue  # refused already
        if plugins[made_by].get("type") == "ipvlan":
            text = (
                f"behind ipvlan no pool: of {network} only addresses arrive that are on the interface itself"
            )
            yield Remark(path, f"{text}; use host-device", warning=True)
        if families and network.version not in families:
            text = f"the interface has no IPv{network.version} address, so what comes from {network} leaves"
            yield Remark(path, f"{text} through the cluster's network", warning=True)


def networks(plugin: Mapping[str, Any], key: str) -> Iterator[tuple[int, Network]]:
    """Yield the networks that are listed under ``key`` of a floatip entry, each with its index."""
    raw = plugin.get(key)
    for index, text in enumerate(raw if isinstance(raw, list) else ()):
        with suppress(ValueError):
            if isinstance(text, str):
                yield index, cidr.parse(text)


def _never(one: ipam.GivenRange) -> Remark | None:
    """Return the remark if no policy can allow some of the addresses, else None."""
    first, last = int(one.first.ip), int(one.last)
    for what, network in cidr.NEVER:
        low, high = int(network.network_address), int(network.broadcast_address)
        if network.version != one.first.version or last < low or high < first:
            continue
        if one.count == 1:
            return Remark(one.path, f"{one.first.ip} is {what}: never a floating address")
        text = f"of {one.count} addresses some are {what} ({network}): never floating addresses"
        return Remark(one.path, text, warning=not (low <= first and last <= high))
    return None


def in_vpc(address: Address, conf: NetConf, vpc_cidrs: Sequence[Network]) -> bool | None:
    """Whether it is pattern 2; None where neither the reader nor the configuration says."""
    if vpc_cidrs:
        return any(address in vpc for vpc in vpc_cidrs)
    return {"address": False, "subnet": True}.get(conf.destination)


def _prefix(one: ipam.GivenRange, conf: NetConf, vpc_cidrs: Sequence[Network]) -> Iterator[Remark]:
    length, longest = one.first.network.prefixlen, one.first.max_prefixlen
    inside = in_vpc(one.first.ip, conf, vpc_cidrs)
    if length == longest or inside:
        return
    condition = "if this is outside every VPC CIDR, " if inside is None else ""
    hint = " (--vpc-cidr tells)" if inside is None else ""
    text = (
        f"{one.first}: {condition}write /{longest}{hint}; the VPC knows no /{length} around the address, "
        "and ADD removes its connected route"
    )
    yield Remark(one.path, text, warning=True)


def _destination(
    one: ipam.GivenRange, at: int, conf: NetConf, vpc_cidrs: Sequence[Network]
) -> Iterator[Remark]:
    inside, path = in_vpc(one.first.ip, conf, vpc_cidrs), ("plugins", at, "destination")
    if conf.destination == "address" and inside:
        text = f"{one.first.ip} is inside the VPC: whole subnets only; use auto"
        yield Remark(path, text)
    if conf.destination == "subnet" and inside is False:
        yield Remark(path, f"{one.first.ip} is in no subnet of the VPC; use auto")


def _allocated(one: ipam.GivenRange, kind: str) -> Iterator[Remark]:
    if kind == "host-local" and one.count > 1:
        text = f"counts on each node by itself: of {one.count} addresses two nodes give away the same one"
        yield Remark(one.path, f"host-local {text}", warning=True)
    elif kind == "host-local":
        text = "a crashed node keeps its reservation, and no pod there gets the address"
        yield Remark(one.path, f"host-local with one address: {text}; write static", warning=True)
    elif kind == "whereabouts":
        many = f"one of {one.count} addresses: " if one.count > 1 else ""
        text = "whereabouts keeps the address for a dead node until it is cleaned up"
        then = "and a pod that moves gets another one" if many else "and the pod that takes over gets none"
        yield Remark(one.path, f"{many}{text}, {then}; static needs no allocation", warning=True)


def _families(plugins: Sequence[Any], at: int, conf: NetConf, families: frozenset[int]) -> Iterator[Remark]:
    if 6 in families and not any(_refuses_advertisements(plugin) for plugin in plugins[:at]):
        text = (
            "IPv6 without tuning net.ipv6.conf.IFNAME.accept_ra=0 before floatip: "
            "router advertisements may give the pod a second default route"
        )
        yield Remark(("plugins", at), text, warning=True)
    routes = conf.pod_routes
    written = plugins[at].get("podRoutes")
    if routes is None or not isinstance(written, dict):
        return
    for index, network in enumerate(routes.to if "to" in written else ()):
        if network.version not in families:
            text = f"{network} is passed over: the interface has no IPv{network.version} address"
            yield Remark(("plugins", at, "podRoutes", "to", index), text, warning=True)
    for gateway in routes.gateways:
        if gateway.version not in families:
            text = f"{gateway} is not used: the interface has no IPv{gateway.version} address"
            yield Remark(("plugins", at, "podRoutes", "gateway"), text, warning=True)


def _refuses_advertisements(plugin: Any) -> bool:
    sysctl = plugin.get("sysctl") if isinstance(plugin, dict) and plugin.get("type") == "tuning" else None
    return isinstance(sysctl, dict) and any(
        ACCEPT_RA.fullmatch(key) and str(value) == "0" for key, value in sysctl.items()
    )
