"""Reads ``prevResult`` for the addresses of our interface, and adds our routes to the result.

SPEC.md section 5 ("Result Types"). The document is kept as it came, so that unknown keys survive.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Any

from ..model.errors import InvalidConfig, short
from ..model.values import MAIN_TABLE, Interface, PodRoute
from ..model.versions import at_least


@dataclass(frozen=True, slots=True)
class PrevResult:
    """``prevResult`` of a request: the raw document and the addresses of one interface."""

    document: Mapping[str, Any]
    addresses: tuple[Interface, ...]

    @classmethod
    def parse(cls, config: Mapping[str, Any], ifname: str) -> PrevResult:
        """Read the addresses of ``ifname``. Raises InvalidConfig when there is no result or no address."""
        document = config.get("prevResult")
        if not document:
            raise InvalidConfig(
                "$.prevResult: missing: must be called as a chained plugin, after ipvlan or host-device"
            )
        if not isinstance(document, dict):
            raise InvalidConfig(f"$.prevResult: expected an object, found {type(document).__name__}")
        addresses = tuple(dict.fromkeys(_ours(document, ifname)))
        if not addresses:
            raise InvalidConfig(
                f"$.prevResult.ips: no address of {ifname}: give the plugin before floatip an ipam section"
            )
        return cls(document, addresses)

    def mac(self, ifname: str) -> str:
        """Return the MAC address that the document gives ``ifname`` in the pod, "" when it gives none."""
        for interface in self.document.get("interfaces") or []:
            if isinstance(interface, dict) and interface.get("name") == ifname and interface.get("sandbox"):
                return str(interface.get("mac", "")).lower()
        return ""

    def with_routes(self, version: str, routes: Iterable[PodRoute]) -> dict[str, Any]:
        """Return the result document in ``version`` with the routes that it can express.

        Only 1.1.0 and later can name a route of another table than main. Earlier versions leave it out,
        because a reader would take it for a route of the main table (Multus even copies default gateways).
        """
        named = [
            _route(route, version)
            for route in routes
            if route.kind == "unicast"
            and route.gateway is not None
            and (route.table == MAIN_TABLE or at_least(version, "1.1.0"))
        ]
        document = {"cniVersion": version} | dict(self.document) | {"cniVersion": version}
        if named:
            present = document.get("routes") or []
            document["routes"] = [*present, *(route for route in named if route not in present)]
        return document


def _ours(document: Mapping[str, Any], ifname: str) -> Iterable[Interface]:
    interfaces = document.get("interfaces") or []
    # The text of 0.3.0 says "ip", every implementation writes "ips" (corrected in 0.3.1).
    entries = document.get("ips") or document.get("ip") or []
    for key in ("ips", "ip", "interfaces", "routes"):
        if not isinstance(document.get(key) or [], list):
            raise InvalidConfig(f"$.prevResult.{key}: expected a list, found {short(repr(document[key]))}")
    for place, entry in enumerate(entries):
        path = f"$.prevResult.ips[{place}]"
        try:
            index = entry.get("interface")
            if index is not None and index >= len(interfaces):
                raise InvalidConfig(
                    f"{path}.interface: {short(index)}: there are {len(interfaces)} interfaces"
                )
            if index is not None and index >= 0:
                owner = interfaces[index]
                if owner.get("name") != ifname or not owner.get("sandbox"):
                    continue
            text = entry["address"]
            if not isinstance(text, str) or "%" in text:
                raise ValueError(f"{short(repr(text))} is not an address with a prefix")
            yield ip_interface(text)
        except (AttributeError, KeyError, TypeError, ValueError) as e:
            raise InvalidConfig(f"{path}: {short(repr(entry))} has no usable address: {short(e)}") from e


def _route(route: PodRoute, version: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"dst": str(route.destination), "gw": str(route.gateway)}
    if at_least(version, "1.1.0"):
        if route.mtu:
            entry["mtu"] = route.mtu
        if route.table != MAIN_TABLE:
            entry["table"] = route.table
    return entry
