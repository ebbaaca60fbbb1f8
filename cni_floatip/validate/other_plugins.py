"""Validates the other plugins of a chain: what each refuses at every ADD, and how it affects floatip.

An error here fails every ADD, or is an address that never works. Tested with the reference plugins; a plugin
without rules here is reported as not judged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..config.strict_json import Remark, Step, show
from ..model.errors import short
from ..rules import parents
from ..rules.parents import Backing
from . import go_json, ipam

Path = tuple[Step, ...]
Plugin = Mapping[str, Any]

CARRIERS = ("ipvlan", "macvlan", "host-device")
"""Plugins whose interface may have an ENI behind it."""
NO_ENI = ("bridge", "ptp", "loopback", "dummy", "tap", "vlan", "aws-cni")
"""Plugins whose interface has no ENI behind it (on EC2, VLAN tags do not leave the instance)."""
MAKERS = (*CARRIERS, *NO_ENI)
CHAINED = ("tuning", "sbr", "vrf", "route-override", "portmap", "bandwidth", "firewall")
"""Plugins that change what one before them has made."""
PRIMARY = ("eth0", "ens5")
"""What Amazon Linux and Bottlerocket call a node's primary interface."""
LARGEST_MTU = 9001
"""Of an ENI (EC2 user guide, "Network MTU")."""
SMALLEST_MTU = 68
"""The kernel makes no link with less (``ETH_MIN_MTU``; RFC 791)."""
SMALLEST_MTU_IPV6 = 1280
"""With less the kernel has no IPv6 on a link (``IPV6_MIN_MTU``; RFC 8200, section 5)."""
SETS_MTU = ("ipvlan", "macvlan", "tuning")
IPAMS = (*ipam.READERS, "dhcp")

OURS = re.compile(r"(?:cni)?float(?:ing)?ip")
"""What people write for ``floatip``, in small letters and without signs between."""


def maker(plugins: Sequence[Plugin], at: int) -> int:
    """Return the plugin before ``at`` that makes the interface: a known one, or the first."""
    return next((index for index, item in enumerate(plugins[:at]) if item.get("type") in MAKERS), 0)


def remarks(plugins: Sequence[Plugin], at: int) -> Iterator[Remark]:
    """Yield all remarks about the plugins around the floatip entry ``at``."""
    made_by = maker(plugins, at)
    for index, plugin in enumerate(plugins):
        path, kind = ("plugins", index), plugin.get("type")
        if kind == "floatip":
            continue
        yield from go_json.find_mistyped(plugin, path)
        yield from name(plugin, path)
        if kind in MAKERS and index != made_by:
            yield Remark(path, f"{kind} makes the interface a second time, which is refused")
        if index == 0 and kind in CHAINED:
            text = f"{kind} refuses to be the first: put the plugin that makes the interface before it"
            yield Remark(path, text)
        elif index > at:
            text = f"{kind} comes after floatip and may undo its routes; put floatip last"
            yield Remark(path, text, warning=True)
        elif index != made_by and isinstance(kind, str):
            yield from BETWEEN.get(kind, _nothing)(plugin, path)
    if at > 0:
        plugin, path = plugins[made_by], ("plugins", made_by)
        if plugin.get("type") in MAKERS:
            yield from _refusals(plugin, path)
        yield from MADE_BY.get(str(plugin.get("type")), _nothing)(plugin, path)
        yield from _addresses(plugin, path)
        for index, other in enumerate(plugins[:at]):
            if other.get("type") in SETS_MTU:
                yield from _mtu(other, plugin, ("plugins", index))


def misspelt(plugin: Plugin) -> bool:
    """Return whether ``plugin`` was meant to be floatip, by its name or its keys."""
    kind = plugin.get("type")
    if kind == "floatip":
        return False
    name = re.sub(r"[-_. ]", "", kind[:40].casefold()) if isinstance(kind, str) else ""
    return "routeTables" in plugin or bool(OURS.fullmatch(name))


def not_judged(version: Any, plugins: Sequence[Plugin], at: int) -> Iterator[str]:
    """Yield the plugins that have no rules here."""
    if version == "1.1.0":
        yield "whether the other plugins on the nodes are new enough for cniVersion 1.1.0"
    for plugin in plugins:
        kind = plugin.get("type")
        if isinstance(kind, str) and kind not in ("floatip", *MAKERS, *go_json.PLUGINS):
            yield f"the plugin {short(kind)}"
    if at == 0:
        return
    index = maker(plugins, at)
    made_by = plugins[index]
    result = made_by.get("ipam")
    kind = result.get("type") if isinstance(result, dict) else None
    if index > 0 and made_by.get("type") == "ipvlan" and not (kind and made_by.get("master")):
        yield "what ipvlan takes from the plugin before it"
    if isinstance(kind, str) and kind and kind not in IPAMS:
        yield f"the IPAM {short(kind)}"
    if ipam.brings_addresses(made_by):
        yield "the addresses that pods bring (capability ips)"


def _nothing(_plugin: Plugin, _path: Path) -> Iterator[Remark]:
    return iter(())


def name(plugin: Plugin, path: Path) -> Iterator[Remark]:
    """Yield what is wrong with the name of a plugin."""
    kind, path = plugin.get("type"), (*path, "type")
    if misspelt(plugin):
        yield Remark(path, f"{show(kind)} is not what cni-floatip installs; write floatip")
    elif not kind:
        yield Remark(path, "missing: no plugin is run without one")
    elif isinstance(kind, str) and "/" in kind:
        yield Remark(path, f"{show(kind)} is not the name of a plugin; write it without a path")


# -- the plugin that makes the interface


def _backing(plugin: Plugin) -> Backing:
    """Return what is known of the interface that the plugin makes: as the kernel will have it."""
    kind, mode = str(plugin.get("type")), plugin.get("mode")
    if kind in NO_ENI:
        return Backing(kind, eni="none")
    if kind == "macvlan":
        return Backing(kind, eni="an ENI" if mode == "passthru" else "its parent's ENI")
    return Backing(kind, mode if mode in ("l3", "l3s") else "l2", "an ENI")


def _refusals(plugin: Plugin, path: Path) -> Iterator[Remark]:
    """Yield the reasons why every ADD refuses the interface, whatever its parent on a node."""
    backing = _backing(plugin)
    if why := parents.refusal(f"what {plugin['type']} makes", backing):
        yield Remark((*path, "mode") if backing.mode not in ("", "l2") else path, why)


def _ipvlan(plugin: Plugin, path: Path) -> Iterator[Remark]:
    mode, master = plugin.get("mode"), plugin.get("master")
    if isinstance(mode, str) and mode not in ("", "l2", "l3", "l3s"):
        yield Remark((*path, "mode"), f"{show(mode)} is no mode of ipvlan, which refuses it; write l2")
    if master in (None, "") and not _is_chained(path):
        yield from _is_primary("what ipvlan takes without master", path)
    yield from _primary(plugin, "master", path)


def _is_chained(path: Path) -> bool:
    """Return whether a plugin comes before: ipvlan takes from its result what is not written."""
    return path[-1] != 0


def _macvlan(plugin: Plugin, path: Path) -> Iterator[Remark]:
    """In mode passthru the pod has the ENI's MAC; use it only where there is no ipvlan."""
    mode = plugin.get("mode")
    if isinstance(mode, str) and mode not in ("", "bridge", "private", "vepa", "passthru"):
        yield Remark((*path, "mode"), f"{show(mode)} is no mode of macvlan, which refuses it")
    if mode == "passthru":
        text = "macvlan in mode passthru takes the ENI for one pod, as a stand-in for ipvlan in a test"
        yield Remark(path, f"{text}: use ipvlan in mode l2, or host-device", warning=True)


def _host_device(plugin: Plugin, path: Path) -> Iterator[Remark]:
    capabilities = plugin.get("capabilities")
    by_pod = isinstance(capabilities, dict) and capabilities.get("deviceID")
    named = any(plugin.get(key) for key in ("device", "hwaddr", "kernelpath", "pciBusID", "deviceID"))
    if not named and not by_pod:
        text = "host-device refuses to run without device, hwaddr, kernelpath or pciBusID"
        yield Remark(path, f'{text}; a device plugin needs "capabilities": {{"deviceID": true}}')
    yield from _primary(plugin, "device", path)


def _primary(plugin: Plugin, key: str, path: Path) -> Iterator[Remark]:
    if plugin.get(key) in PRIMARY:
        yield from _is_primary(f"{plugin[key]}, on most nodes,", (*path, key), warning=True)


def _is_primary(subject: str, path: Path, *, warning: bool = False) -> Iterator[Remark]:
    if why := parents.refusal(subject, Backing(eni="the primary ENI")):
        yield Remark(path, why, warning=warning)


def _mtu(plugin: Plugin, made_by: Plugin, path: Path) -> Iterator[Remark]:
    """Yield what is wrong with the MTU that ``plugin`` sets on the interface of ``made_by``; 0 sets none."""
    mtu, path = plugin.get("mtu"), (*path, "mtu")
    if not isinstance(mtu, int) or not go_json.WHOLE.fits(mtu) or mtu == 0:
        return
    if mtu > LARGEST_MTU and plugin is made_by:
        yield Remark(path, f"{show(mtu)} is refused: an ENI has at most {LARGEST_MTU}")
    elif mtu < SMALLEST_MTU:
        yield Remark(path, f"{show(mtu)} is refused: a link has at least {SMALLEST_MTU}")
    elif mtu < SMALLEST_MTU_IPV6:
        versions = ipam.families(made_by, ipam.given_ranges(made_by, ()))
        why = f"below {SMALLEST_MTU_IPV6} the kernel has no IPv6 on a link"
        if versions and 6 in versions:
            yield Remark(path, f"{mtu} is refused, because an address is IPv6: {why}")
        elif ipam.brings_addresses(made_by):
            yield Remark(
                path, f"with {mtu} a pod that brings an IPv6 address is refused: {why}", warning=True
            )


MADE_BY: Mapping[str, Callable[[Plugin, Path], Iterator[Remark]]] = {
    "ipvlan": _ipvlan,
    "macvlan": _macvlan,
    "host-device": _host_device,
}


def _addresses(plugin: Plugin, path: Path) -> Iterator[Remark]:
    result = plugin.get("ipam")
    kind = result.get("type") if isinstance(result, dict) else None
    chained = plugin.get("type") == "ipvlan" and _is_chained(path)
    if (
        not kind
        and not chained
        and plugin.get("type") in CARRIERS
        and (result is None or isinstance(result, dict))
    ):
        yield Remark((*path, "ipam"), "missing: the interface gets no address that could float")
    if kind == "dhcp":
        text = "the VPC's DHCP gives the ENI's own address, which lies in a subnet with interfaces"
        yield Remark((*path, "ipam", "type"), f"{text} and never floats; use static")
    yield from ipam.remarks(plugin, path)


# -- plugins between it and floatip


def _sbr(_plugin: Plugin, path: Path) -> Iterator[Remark]:
    text = "sbr makes the rule for the address that floatip makes, so every ADD fails (103)"
    yield Remark(path, f"{text}: take it out; podRoutes.sourceRouting is the default")


def _vrf(plugin: Plugin, path: Path) -> Iterator[Remark]:
    if not plugin.get("vrfname"):
        yield Remark((*path, "vrfname"), "missing; vrf refuses that")
    text = "vrf takes the interface's routes into a table of its own, beside floatip's rules"
    yield Remark(path, f"{text}: take it out; podRoutes.sourceRouting is the default", warning=True)


def _route_override(plugin: Plugin, path: Path) -> Iterator[Remark]:
    for key in ("addroutes", "flushroutes", "delroutes"):
        if plugin.get(key):
            text = "changes the pod's main table, which floatip leaves to the cluster's network"
            yield Remark((*path, key), f"{text}; {ipam.INSTEAD}", warning=True)


def _bandwidth(plugin: Plugin, path: Path) -> Iterator[Remark]:
    for key in ("ingressRate", "ingressBurst", "egressRate", "egressBurst"):
        if plugin.get(key):
            yield Remark((*path, key), "bandwidth refuses an interface that is no veth: take it out")
            return


def _tuning(plugin: Plugin, path: Path) -> Iterator[Remark]:
    raw = plugin.get("sysctl")
    for key in raw if isinstance(raw, dict) else ():
        if not re.match(r"net[./]", key) or ".." in key:
            yield Remark((*path, "sysctl", key), "tuning refuses what is not below net.")
    if plugin.get("mac"):
        text = "EC2 drops frames whose MAC is not the ENI's"
        yield Remark((*path, "mac"), f"{text}: take it out", warning=True)


BETWEEN: Mapping[str, Callable[[Plugin, Path], Iterator[Remark]]] = {
    "sbr": _sbr,
    "vrf": _vrf,
    "route-override": _route_override,
    "bandwidth": _bandwidth,
    "tuning": _tuning,
}
