"""Compares the networks of one call: of two that ask for the same address or table, only one gets it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..config import netconf
from ..config.strict_json import Remark, Step
from ..model.values import Network
from . import chain, ipam, other_plugins

Path = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class NetworkRange:
    """A range that one network asks for, and its place in the file.

    ``first`` and ``last`` bound it in ``space``: ``IPv4``, ``IPv6`` (destinations), ``table`` (in the pod).
    ``elected``: whether its claims are.
    """

    file: str
    document: str
    path: Path
    space: str
    first: int
    last: int
    shown: str
    elected: bool = False

    def seen_from(self, other: NetworkRange) -> str:
        """Return the place of this range, for a reader of ``other``."""
        parts = ["" if self.file == other.file else self.file, self.document]
        return ": ".join(part for part in parts if part) or "another network of this file"


def network_ranges(
    file: str, label: str, document: Mapping[str, Any], path: Path, vpc_cidrs: Sequence[Network]
) -> Iterator[NetworkRange]:
    """Yield what a chain asks for: the addresses of its pods (in the VPC: their subnet), the pod's table."""
    plugins = document["plugins"]
    at = next(index for index, plugin in enumerate(plugins) if chain.is_floatip(plugin))
    conf, _ = netconf.examine(plugins[at])
    made_by = other_plugins.maker(plugins, at)
    for one in ipam.given_ranges(plugins[made_by], ("plugins", made_by)) if at > 0 else ():
        first, last, shown = int(one.first.ip), int(one.last), str(one.first.ip)
        network = one.first.network
        if chain.in_vpc(one.first.ip, conf, vpc_cidrs) and network.prefixlen < network.max_prefixlen:
            first, last = int(network.network_address), int(network.broadcast_address)
            shown = f"the subnet {network}"
        elif one.count > 1:
            shown = f"{one.first.ip} to {one.last}"
        where, space = (*path, *one.path), f"IPv{one.first.version}"
        yield NetworkRange(file, label, where, space, first, last, shown, conf.activate == "ready")
    routes = conf.pod_routes
    table = routes.table if routes and routes.source_routing is not False else None
    if table is not None:
        where = (*path, "plugins", at, "podRoutes", "sourceRouting")
        yield NetworkRange(file, label, where, "table", table, table, f"table {table}")


def compare(
    everything: Sequence[NetworkRange], groups: Mapping[tuple[str, str], tuple[str, str]]
) -> Iterator[tuple[NetworkRange, Remark]]:
    """Yield a warning for each thing that a network before it (in order of the files) asks for, too.

    ``groups``: namespace and name of the group of an elected network, by its file and document. Networks of
    one group share what they ask for.
    """
    order = {id(network_range): index for index, network_range in enumerate(everything)}
    for space in ("IPv4", "IPv6", "table"):
        reach: NetworkRange | None = None  # of those that begin no later, the one that ends last
        for one in sorted(
            (network_range for network_range in everything if network_range.space == space),
            key=lambda one: one.first,
        ):
            if reach and one.first <= reach.last and (one.file, one.document) != (reach.file, reach.document):
                later, earlier = (one, reach) if order[id(one)] > order[id(reach)] else (reach, one)
                if text := _text(later, earlier, groups):
                    yield later, Remark(later.path, text, warning=True)
            if reach is None or one.last > reach.last:
                reach = one


def _text(
    later: NetworkRange, earlier: NetworkRange, groups: Mapping[tuple[str, str], tuple[str, str]]
) -> str | None:
    where = earlier.seen_from(later)
    if later.space == "table":
        return f"{later.shown} is also in {where}: a pod with both networks is refused"
    also = "" if later.shown == earlier.shown else f" ({earlier.shown})"
    lead = f"{later.shown} is also in {where}{also}"
    if later.elected and earlier.elected:
        mine, theirs = (groups.get((one.file, one.document), ("", "")) for one in (later, earlier))
        if mine == theirs:
            return None
        return f"{lead}, of another group: the older group has the traffic, the pods of the other none"
    if later.elected or earlier.elected:
        return f"{lead}, and one of the two is elected: while it is, an ADD with the other is refused"
    return f"{lead}: of two pods, the one that is added last has the traffic"
