"""A plugin chain as a whole: what floatip needs of its neighbours, and what will surprise whoever wrote it.

An error here is what every ADD would answer; a warning is a chain that works otherwise than it looks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import ipam, netconf
from .documents import Complaint, Step, show
from .model import Address, Network
from .netconf import NetConf
from .versions import SUPPORTED, at_least

NO_ENI = ("bridge", "ptp", "loopback", "dummy", "tap", "vlan", "aws-cni")
"""Plugins whose interface has no ENI behind it (on EC2, VLAN tags do not leave the instance)."""

ACCEPT_RA = re.compile(r"net[./]ipv6[./]conf[./].+[./]accept_ra")


@dataclass(frozen=True, slots=True)
class Remark:
    """What is to be said about one place of a document."""

    path: tuple[Step, ...]
    text: str
    warning: bool = False


def is_floatip(plugin: Any) -> bool:
    """Return whether ``plugin`` is an entry of ours."""
    return isinstance(plugin, dict) and plugin.get("type") == "floatip"


def of(document: Mapping[str, Any], name: str, vpc_cidrs: Sequence[Network] = ()) -> Iterator[Remark]:
    """Yield all remarks about a conflist; ``name`` is its name where it has none of its own."""
    plugins = document["plugins"]
    ours = [index for index, plugin in enumerate(plugins) if is_floatip(plugin)]
    yield from version(document)
    for index in ours[1:]:
        yield Remark(("plugins", index), "floatip is there twice")
    at = ours[0]
    inherited = {"name": document.get("name", name), "cniVersion": document.get("cniVersion", "")}
    said = plugins[at] | {key: value for key, value in inherited.items() if value != ""}
    conf, complaints = netconf.examine(said)
    yield from (Remark(_place(complaint, at), complaint.text) for complaint in complaints)
    yield from _neighbours(plugins, at)
    if at > 0 and isinstance(plugins[0], dict):
        yield from _predecessor(plugins[0])
        yield from _addresses(plugins, at, conf, vpc_cidrs)
    yield from entry(plugins[at], ("plugins", at))


def entry(plugin: Mapping[str, Any], path: tuple[Step, ...] = ()) -> Iterator[Remark]:
    """Yield what will surprise about one floatip entry, wherever it stands."""
    if plugin.get("ipam"):
        yield Remark((*path, "ipam"), "not read: addresses come from the plugin before floatip", warning=True)
    selector = plugin.get("routeTables")
    tags = selector.get("tags") if isinstance(selector, dict) else None
    for key, value in tags.items() if isinstance(tags, dict) else ():
        if isinstance(value, str) and value != "*" and "*" in value:
            text = f"{show(value)} is taken literally; only * alone stands for any value"
            yield Remark((*path, "routeTables", "tags", key), text, warning=True)


def version(document: Mapping[str, Any]) -> Iterator[Remark]:
    """Yield what is to be said about ``cniVersion``."""
    said = document.get("cniVersion") or "0.1.0"
    if said not in SUPPORTED:
        found = show(document["cniVersion"]) if "cniVersion" in document else "missing, which means 0.1.0"
        yield Remark(("cniVersion",), f"{found}; floatip supports {', '.join(SUPPORTED)}")
    elif not at_least(said, "0.4.0"):
        text = f"with {said} a DEL gets no result of the ADD, and there is no CHECK; write 1.0.0"
        yield Remark(("cniVersion",), text, warning=True)


def _place(complaint: Complaint, at: int) -> tuple[Step, ...]:
    """The name is written at the chain, all else at our entry."""
    return complaint.path if complaint.path[:1] == ("name",) else ("plugins", at, *complaint.path)


def _neighbours(plugins: Sequence[Any], at: int) -> Iterator[Remark]:
    if at == 0:
        yield Remark(
            ("plugins", at),
            "floatip needs a plugin before it that makes the interface: ipvlan or host-device",
        )
    for index, plugin in enumerate(plugins[at + 1 :], at + 1):
        if isinstance(plugin, dict) and not is_floatip(plugin):
            text = f"{plugin.get('type')} comes after floatip and may undo its routes; put floatip last"
            yield Remark(("plugins", index), text, warning=True)


def _predecessor(plugin: Mapping[str, Any]) -> Iterator[Remark]:
    kind, mode = plugin.get("type"), plugin.get("mode")
    at: tuple[Step, ...] = ("plugins", 0)
    if kind == "ipvlan" and mode in ("l3", "l3s"):
        yield Remark((*at, "mode"), f"ipvlan mode {mode} cannot carry a floating IP; use l2")
    if kind == "ipvlan" and not plugin.get("master"):
        text = "without master ipvlan takes the node's primary interface, which floatip refuses"
        yield Remark(at, text, warning=True)
    if kind == "macvlan":
        text = "macvlan does not work on EC2 (frames with a MAC other than the ENI's are dropped)"
        yield Remark(at, f"{text}; use ipvlan mode l2 or host-device", warning=True)
    if kind in NO_ENI:
        text = f"{kind} makes an interface with no ENI behind it, which floatip refuses"
        yield Remark(at, f"{text}; use ipvlan or host-device", warning=True)
    found = plugin.get("ipam")
    if kind in ("ipvlan", "macvlan", "host-device") and not (isinstance(found, dict) and found.get("type")):
        yield Remark((*at, "ipam"), "missing: the interface gets no address that could float")


def _addresses(
    plugins: Sequence[Any], at: int, conf: NetConf, vpc_cidrs: Sequence[Network]
) -> Iterator[Remark]:
    given = ipam.given(plugins[0], ("plugins", 0))
    for one in given:
        yield from _prefix(one, conf, vpc_cidrs)
        yield from _destination(one, at, conf, vpc_cidrs)
        if one.count > 1:
            yield Remark(one.path, _range(plugins[0]["ipam"]["type"], one.count), warning=True)
    families = ipam.families(plugins[0], given)
    if families:
        yield from _families(plugins, at, conf, families)


def in_vpc(address: Address, conf: NetConf, vpc_cidrs: Sequence[Network]) -> bool | None:
    """Whether it is pattern 2; None where neither the reader nor the configuration says."""
    if vpc_cidrs:
        return any(address in vpc for vpc in vpc_cidrs)
    return {"address": False, "subnet": True}.get(conf.destination)


def _prefix(one: ipam.Given, conf: NetConf, vpc_cidrs: Sequence[Network]) -> Iterator[Remark]:
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


def _destination(one: ipam.Given, at: int, conf: NetConf, vpc_cidrs: Sequence[Network]) -> Iterator[Remark]:
    inside, path = in_vpc(one.first.ip, conf, vpc_cidrs), ("plugins", at, "destination")
    if conf.destination == "address" and inside:
        text = f"{one.first.ip} is inside the VPC: whole subnets only; use auto"
        yield Remark(path, text)
    if conf.destination == "subnet" and inside is False:
        yield Remark(path, f"{one.first.ip} is in no subnet of the VPC; use auto")


def _range(kind: str, count: int) -> str:
    if kind == "host-local":
        return (
            f"host-local counts on each node by itself: of {count} addresses two nodes give away the same one"
        )
    return f"one of {count} addresses: a dead node keeps its own, and a pod that moves gets another one"


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
