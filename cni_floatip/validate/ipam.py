"""Validates a plugin's ``ipam``: which addresses it gives, and what the IPAM plugin or the kernel refuses.

Tested with the reference plugins (``static``, ``host-local``); whereabouts follows its source. The addresses
of other IPAM plugins are unknown here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network
from itertools import pairwise
from typing import Any

from ..config.strict_json import Remark, Step, show
from ..model.values import Address, Interface, Network, host_route
from .go_json import as_read, is_address, is_cidr

Path = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class GivenRange:
    """Addresses from one place of the configuration: the first with its prefix, and how many there are.

    ``left_out``: those of them that no pod gets. ``gateway``: for routes that name none.
    """

    path: Path
    first: Interface
    count: int = 1
    left_out: tuple[Network, ...] = ()
    gateway: Address | None = None

    @property
    def last(self) -> Address:
        """The last of the addresses, if they lie side by side."""
        end = int(self.first.ip) + self.count - 1
        return type(self.first.ip)(min(end, int(self.first.network.broadcast_address)))


def given_ranges(plugin: Mapping[str, Any], path: Path) -> list[GivenRange]:
    """Return the addresses that the ``ipam`` of ``plugin`` gives, each with its path."""
    return [item for item in _read(plugin, path) if isinstance(item, GivenRange)]


def remarks(plugin: Mapping[str, Any], path: Path) -> Iterator[Remark]:
    """Yield the remarks about the ``ipam`` of ``plugin``: what each ADD refuses, and surprises."""
    results = list(_read(plugin, path))
    addresses = [item for item in results if isinstance(item, GivenRange)]
    yield from (item for item in results if isinstance(item, Remark))
    ipam = plugin.get("ipam")
    if not isinstance(ipam, dict):
        return
    for one in addresses:
        if one.gateway and one.gateway.version == 6 and ipam["type"] != "host-local":
            text = f"with the gateway {one.gateway} the plugin waits for duplicate address detection itself"
            yield Remark(one.path, f"{text}, up to 10 s; leave the gateway out", warning=True)
            break
    if isinstance(ipam.get("routes"), list):
        yield from _routes(ipam["routes"], plugin, addresses, path)


def brings_addresses(plugin: Mapping[str, Any]) -> bool:
    """Return whether a pod may bring its own addresses (capability ``ips``)."""
    capabilities = plugin.get("capabilities")
    return bool(isinstance(capabilities, dict) and capabilities.get("ips") is True)


def families(plugin: Mapping[str, Any], ranges: Sequence[GivenRange]) -> frozenset[int] | None:
    """Return the families of the addresses; None when a pod may bring others."""
    if not ranges or brings_addresses(plugin):
        return None
    return frozenset(one.first.version for one in ranges)


def _read(plugin: Mapping[str, Any], path: Path) -> Iterator[GivenRange | Remark]:
    ipam = plugin.get("ipam")
    read = READERS.get(str(ipam.get("type"))) if isinstance(ipam, dict) else None
    if read:
        yield from read(plugin, (*path, "ipam"))


def _objects(value: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the objects in a list; the plugin complains of other values (``go_json``)."""
    yield from (
        (at, item)
        for at, item in enumerate(value if isinstance(value, list) else ())
        if isinstance(item, dict)
    )


def _address(text: Any) -> Address | None:
    return ip_address(as_read(text)) if text and is_address(text) else None


# -- static


def _static(plugin: Mapping[str, Any], path: Path) -> Iterator[GivenRange | Remark]:
    addresses = plugin["ipam"].get("addresses")
    known: set[Interface | Address] = set()
    for index, item in _objects(addresses):
        text, where = item.get("address"), (*path, "addresses", index, "address")
        if text is None:
            yield Remark(where, "missing; static refuses that")
        elif isinstance(text, str) and not is_cidr(text):
            alone = _address(text)
            hint = host_route(alone) if alone else "it as 192.168.0.2/32"
            yield Remark(where, f"{show(text)} has no prefix length; static refuses it; write {hint}")
        if not is_cidr(text):
            continue
        one = ip_interface(as_read(text))
        if one.version == 4 and ":" in text:
            yield Remark(where, f"static makes {one} of {text}; write {one}", warning=True)
        same = one if one.version == 4 else one.ip  # in IPv6 whatever its prefix
        if same in known:
            yield Remark(where, f"{same} is there twice; the kernel refuses the second")
        known.add(same)
        yield GivenRange(where, one, gateway=_address(item.get("gateway")))
    args = plugin.get("args")
    cni = args.get("cni") if isinstance(args, dict) else None
    if not addresses and not brings_addresses(plugin) and not (isinstance(cni, dict) and cni.get("ips")):
        text = "only a pod whose annotation has an address in cni-args starts; write addresses, or"
        yield Remark((*path, "addresses"), f'missing: {text} "capabilities": {{"ips": true}}', warning=True)


# -- host-local


def _host_local(plugin: Mapping[str, Any], path: Path) -> Iterator[GivenRange | Remark]:
    ipam, sets = plugin["ipam"], []
    if ipam.get("subnet"):
        sets.append([((*path, "subnet"), ipam)])
    ranges = ipam.get("ranges")
    for index, items in enumerate(ranges if isinstance(ranges, list) else ()):
        where = (*path, "ranges", index)
        sets.append([((*where, inner, "subnet"), item) for inner, item in _objects(items)])
        if items == []:
            yield Remark(where, "empty; host-local refuses that")
    capabilities = plugin.get("capabilities")
    if not sets and not (isinstance(capabilities, dict) and capabilities.get("ipRanges") is True):
        yield Remark(path, "no subnet and no ranges; host-local refuses that")
    every: list[tuple[Path, int, int, int]] = []
    for items in sets:
        read = [entry for where, item in items for entry in _local_range(item, where)]
        yield from read
        results = [item for item in read if isinstance(item, GivenRange)]
        for one in results[1:]:
            if one.first.version != results[0].first.version:
                yield Remark(one.path, "another IP version than the range before it; host-local refuses that")
        every += [(one.path, one.first.version, int(one.first.ip), int(one.last)) for one in results]
    for (_, version, _, last), (where, other, first, _) in pairwise(sorted(every, key=lambda one: one[1:])):
        if version == other and first <= last:
            yield Remark(where, "these addresses are in another range, too; host-local refuses that")


def _local_range(item: Mapping[str, Any], path: Path) -> Iterator[GivenRange | Remark]:
    """One range: from the second address of the subnet on; its gateway (by default that one) is nobody's."""
    text, ends = item.get("subnet"), (item.get("rangeStart"), item.get("rangeEnd"))
    if text is None:
        yield Remark(path, "missing; host-local refuses that")
    if not is_cidr(text) or not all(end is None or is_address(end) for end in ends):
        return
    subnet = ip_network(text, strict=False)
    if as_read(text) != text:
        yield Remark(path, f"{text} is IPv4 in IPv6, which host-local refuses; write {as_read(text)}")
        return
    if str(ip_interface(text).ip) != str(subnet.network_address):
        yield Remark(path, f"{text} has host bits set; host-local refuses it; write {subnet}")
        return
    if subnet.prefixlen > subnet.max_prefixlen - 2:
        why = f"{subnet} is too small; host-local refuses less than four addresses"
        yield Remark(path, f"{why}; write static with {host_route(subnet[0])}")
        return
    low, high = (_address(end) for end in ends)
    low = low or subnet[1]
    high = high or (subnet[-2] if subnet.version == 4 else subnet[-1])
    if low not in subnet or high not in subnet or int(high) < int(low):
        yield Remark(path, f"{low} to {high} is no range of {subnet}; host-local refuses it")
        return
    gateway = _address(item.get("gateway")) or subnet[1]
    count = int(high) - int(low) + 1
    if count == 1 and gateway == low:
        why = f"{low} is the gateway (by default the first address), which host-local gives to no pod"
        yield Remark(path, f"{why}: no address is left")
        return
    left_out = (host_route(gateway),) if gateway in subnet and int(low) <= int(gateway) <= int(high) else ()
    yield GivenRange(path, ip_interface(f"{low}/{subnet.prefixlen}"), count, left_out, gateway)


# -- whereabouts


def _whereabouts(plugin: Mapping[str, Any], path: Path) -> Iterator[GivenRange | Remark]:
    ipam = plugin["ipam"]
    gateway = _address(ipam.get("gateway"))
    if ipam.get("range"):
        yield from _pool(ipam, (*path, "range"), gateway)
    for index, item in _objects(ipam.get("ipRanges")):
        yield from _pool(item, (*path, "ipRanges", index, "range"), gateway)


def _pool(item: Mapping[str, Any], path: Path, gateway: Address | None) -> Iterator[GivenRange | Remark]:
    """``192.168.2.0/24``, or ``192.168.2.5-192.168.2.9/24`` with the first address before the dash."""
    text = item.get("range")
    if not isinstance(text, str):
        return
    first, dash, rest = text.partition("-")
    net = rest if dash else first
    start = first if dash else item.get("range_start")
    end = rest.partition("/")[0] if dash else item.get("range_end")
    if not is_cidr(net) or not all(item is None or is_address(item) for item in (start, end)):
        yield Remark(path, f"{show(text)} is not a range like 192.168.0.0/28; whereabouts refuses it")
        return
    network = ip_network(net, strict=False)
    if network.prefixlen > network.max_prefixlen - 2:
        why = f"{network} is too small; whereabouts refuses less than four addresses"
        yield Remark(path, f"{why}; write static with {host_route(ip_interface(net).ip)}")
    single = network.prefixlen == network.max_prefixlen
    low = _address(start) or network[0 if single else 1]
    high = _address(end) or network[-1 if single else -2]
    if low not in network or high not in network or int(high) < int(low):
        yield Remark(path, f"{low} to {high} is no range of {network}; whereabouts gives no address of it")
        return
    exclude = item.get("exclude")
    listed = [item for item in exclude if is_cidr(item)] if isinstance(exclude, list) else []
    left_out = tuple(ip_network(item, strict=False) for item in listed)
    whole = ip_interface(f"{low}/{network.prefixlen}")
    yield GivenRange(path, whole, int(high) - int(low) + 1, left_out, gateway)


READERS = {"static": _static, "host-local": _host_local, "whereabouts": _whereabouts}


# -- routes

INSTEAD = "write podRoutes.to in the floatip entry instead"


def _routes(
    routes: Sequence[Any], plugin: Mapping[str, Any], ranges: Sequence[GivenRange], path: Path
) -> Iterator[Remark]:
    """Routes of ``ipam`` go to the pod's main table, each through a gateway that must be on-link.

    A VPC has no gateway for a floating address: the router of a subnet answers only in that subnet. In IPv6
    the kernel ignores host bits, and an earlier route without a gateway makes a gateway on-link.
    """
    known = bool(ranges) and not brings_addresses(plugin)
    links: dict[tuple[int, int], set[int]] = {}
    for given_range in ranges:
        length, spare = (
            given_range.first.network.prefixlen,
            given_range.first.max_prefixlen - given_range.first.network.prefixlen,
        )
        links.setdefault((given_range.first.version, length), set()).add(int(given_range.first.ip) >> spare)
    gateways = {
        given_range.gateway.version: given_range.gateway
        for given_range in reversed(ranges)
        if given_range.gateway
    }
    scoped = any(isinstance(route, dict) and route.get("scope") for route in routes)  # a way to the gateway
    for index, route in _objects(routes):
        where = (*path, "ipam", "routes", index)
        if not is_cidr(route.get("dst")):
            if route.get("dst") is None:
                yield Remark(where, f"no dst; {plugin['ipam'].get('type')} refuses that")
            continue
        dst = as_read(route["dst"])
        to = ip_network(dst, strict=False)
        if to.version == 4 and str(ip_interface(dst).ip) != str(to.network_address):
            yield Remark(where, f"{dst} has host bits set, which the kernel refuses; write {to}")
            continue
        gateway = _address(route.get("gw")) or gateways.get(to.version)
        if gateway is None:
            text = f"the route to {to} leads onto the link, where the VPC answers for nobody"
            yield Remark(where, f"{text}; {INSTEAD}", warning=True)
            if to.version == 6:
                bits = int(to.network_address) >> to.max_prefixlen - to.prefixlen
                links.setdefault((6, to.prefixlen), set()).add(bits)
        elif gateway.version != to.version:
            yield Remark(where, f"{gateway} is no gateway to {to}: the kernel refuses it")
        elif known and not scoped and not _on_link(gateway, links):
            text = f"the route to {to} through {gateway} fails (network is unreachable)"
            yield Remark(where, f"{text}: no address has {gateway} in its prefix; {INSTEAD}")
        else:
            text = f"the route to {to} through {gateway} is put into the pod's main table"
            nowhere = "" if gateway.is_link_local else ", and leads nowhere: no VPC subnet has that gateway"
            yield Remark(where, f"{text}{nowhere}; {INSTEAD}", warning=True)


def _on_link(gateway: Address, links: Mapping[tuple[int, int], Collection[int]]) -> bool:
    """``links``: by IP version and prefix length, the leading bits of those networks."""
    return (gateway.version == 6 and gateway.is_link_local) or any(
        int(gateway) >> gateway.max_prefixlen - length in bits
        for (version, length), bits in links.items()
        if version == gateway.version
    )
