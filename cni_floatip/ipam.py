"""Which addresses a plugin's ``ipam`` will give, as far as the configuration tells.

What cannot be read here is the IPAM plugin's to complain about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from .documents import Step
from .model import Interface, Network


@dataclass(frozen=True, slots=True)
class Given:
    """Addresses from one place of the configuration: the first with its prefix, and how many there are.

    ``left_out``: those of them that no pod gets.
    """

    path: tuple[Step, ...]
    first: Interface
    count: int = 1
    left_out: tuple[Network, ...] = ()


def given(plugin: Mapping[str, Any], path: tuple[Step, ...]) -> list[Given]:
    """Return what the ``ipam`` of ``plugin`` gives; each path leads to where it is written."""
    ipam = plugin.get("ipam")
    if not isinstance(ipam, dict):
        return []
    read = READERS.get(str(ipam.get("type")))
    if read is None:
        return []
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        return list(read(ipam, (*path, "ipam")))
    return []


def families(plugin: Mapping[str, Any], found: list[Given]) -> frozenset[int] | None:
    """Return the families of the addresses; None when a pod may bring others (capability ``ips``)."""
    capabilities = plugin.get("capabilities")
    if not found or (isinstance(capabilities, dict) and capabilities.get("ips")):
        return None
    return frozenset(one.first.version for one in found)


def _static(ipam: Mapping[str, Any], path: tuple[Step, ...]) -> Iterator[Given]:
    for index, item in enumerate(ipam["addresses"]):
        yield Given((*path, "addresses", index, "address"), ip_interface(item["address"]))


def _host_local(ipam: Mapping[str, Any], path: tuple[Step, ...]) -> Iterator[Given]:
    if "subnet" in ipam:
        yield _range(ipam["subnet"], ipam.get("rangeStart"), ipam.get("rangeEnd"), (*path, "subnet"))
    for index, ranges in enumerate(ipam.get("ranges", [])):
        for inner, item in enumerate(ranges):
            where = (*path, "ranges", index, inner, "subnet")
            yield _range(item["subnet"], item.get("rangeStart"), item.get("rangeEnd"), where)


def _whereabouts(ipam: Mapping[str, Any], path: tuple[Step, ...]) -> Iterator[Given]:
    if "range" in ipam:
        yield _whereabouts_range(ipam, (*path, "range"))
    for index, item in enumerate(ipam.get("ipRanges", [])):
        yield _whereabouts_range(item, (*path, "ipRanges", index, "range"))


def _whereabouts_range(item: Mapping[str, Any], path: tuple[Step, ...]) -> Given:
    """``192.168.2.0/24``, or ``192.168.2.5-192.168.2.9/24`` with the first address before the dash."""
    first, dash, rest = item["range"].partition("-")
    if dash:
        found = _range(rest, first, rest.partition("/")[0], path)
    else:
        found = _range(first, item.get("range_start"), item.get("range_end"), path)
    left_out = tuple(ip_network(text, strict=False) for text in item.get("exclude") or ())
    return replace(found, left_out=left_out)


def _range(subnet: str, start: str | None, end: str | None, path: tuple[Step, ...]) -> Given:
    network = ip_network(subnet, strict=False)
    single = network.prefixlen == network.max_prefixlen
    low = int(ip_address(start)) if start else int(network.network_address) + (not single)
    high = int(ip_address(end)) if end else int(network.broadcast_address) - (not single)
    first = ip_address(start) if start else network[0 if single else 1]
    return Given(path, ip_interface(f"{first}/{network.prefixlen}"), max(high - low + 1, 1))


READERS = {"static": _static, "host-local": _host_local, "whereabouts": _whereabouts}
